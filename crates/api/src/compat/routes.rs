//! The routes of other systems while they are added.

use std::collections::HashMap;

use axum::routing::MethodRouter;
use utoipa::openapi::path::PathItem;
use utoipa_axum::router::UtoipaMethodRouter;

use super::system::CompatApi;
use crate::access::{Access, Audited};
use crate::api::Api;
use crate::guard::guarded;
use crate::openapi;
use crate::route_list::Routes;

/// Routes of other systems. A path is the system's that has added it first.
pub(crate) struct CompatRoutes {
    routes: Routes,
    /// The system whose routes are added now.
    system: CompatApi,
    owners: HashMap<String, CompatApi>,
    declare: Declare,
}

/// Describes a path, in the document, of one of the systems that are served.
type Declare = fn(&[CompatApi], &str, &mut PathItem, Access);

impl CompatRoutes {
    /// Routes of other systems beside these, which `declare` describes in the document.
    pub(super) fn beside(routes: Routes, first: CompatApi, declare: Declare) -> Self {
        Self {
            routes,
            system: first,
            owners: HashMap::new(),
            declare,
        }
    }

    /// The routes that are added from now on are of this system.
    pub(super) fn of(self, system: CompatApi) -> Self {
        Self { system, ..self }
    }

    /// All routes.
    pub(super) fn into_routes(self) -> Routes {
        self.routes
    }

    /// Adds a route, unless a system that was before has the path.
    pub(crate) fn add(
        self,
        access: Access,
        audited: Audited,
        route: UtoipaMethodRouter<Api>,
    ) -> Self {
        self.add_behind(access, route, |api, methods| {
            guarded(api, access, audited, methods)
        })
    }

    /// Adds a route likewise, where `behind` puts the handlers behind their access rule; the
    /// document has it as `access`.
    pub(crate) fn add_behind(
        mut self,
        access: Access,
        route: UtoipaMethodRouter<Api>,
        behind: impl FnOnce(&Api, MethodRouter<Api>) -> MethodRouter<Api>,
    ) -> Self {
        let system = self.system;
        let mut paths = route.1.paths.keys();
        let is_free = paths.all(|path| {
            let owner = self.owners.entry(path.clone()).or_insert(system);
            *owner == system
        });
        if is_free {
            let compat = self.routes.api().routes.compat.clone();
            let declare = self.declare;
            self.routes = self.routes.add_behind(route, behind, |path, item| {
                declare(&compat, path, item, access);
                openapi::tag(item, system.tag());
            });
        }
        self
    }
}
