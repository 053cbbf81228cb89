//! The routes of other systems while they are added.

use std::collections::HashMap;

use axum::Router;
use axum::routing::MethodRouter;

use super::system::CompatApi;
use crate::api::Api;

/// Routes of other systems. A path is the system's that has added it first.
pub(crate) struct CompatRoutes {
    router: Router<Api>,
    /// The system whose routes are added now.
    system: CompatApi,
    owners: HashMap<String, CompatApi>,
}

impl CompatRoutes {
    /// Routes of other systems beside these.
    pub(super) fn beside(router: Router<Api>, first: CompatApi) -> Self {
        Self {
            router,
            system: first,
            owners: HashMap::new(),
        }
    }

    /// The routes that are added from now on are of this system.
    pub(super) fn of(self, system: CompatApi) -> Self {
        Self { system, ..self }
    }

    /// All routes.
    pub(super) fn into_router(self) -> Router<Api> {
        self.router
    }

    /// Adds a route, unless a system that was before has the path.
    pub(crate) fn route(mut self, path: &str, methods: MethodRouter<Api>) -> Self {
        let system = self.system;
        let owner = self.owners.entry(path.to_owned()).or_insert(system);
        if *owner == system {
            self.router = self.router.route(path, methods);
        }
        self
    }
}
