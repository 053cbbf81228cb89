//! The list of routes while it is made: each is added together with its access rule.

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::MethodRouter;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::access::{Access, Audited};
use crate::api::Api;
use crate::guard::guarded;
use crate::openapi;
use crate::tenant;

/// Routes are added together with their access rule, or not at all.
pub(crate) struct Routes {
    api: Api,
    form: Form,
}

/// Results of adding routes: of each its handlers or its description, never all of both.
pub(crate) enum Form {
    Router(Router<Api>),
    Document(Box<OpenApi>),
}

impl Routes {
    pub(crate) fn new(api: &Api, form: Form) -> Self {
        Self {
            api: api.clone(),
            form,
        }
    }

    /// The node and the listener whose routes these are.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) fn router(self) -> Router<Api> {
        match self.form {
            Form::Router(router) => router,
            Form::Document(_) => Router::new(),
        }
    }

    pub(crate) fn document(self) -> OpenApi {
        match self.form {
            Form::Router(_) => openapi::Base::openapi(),
            Form::Document(document) => *document,
        }
    }

    pub(crate) fn add(self, access: Access, route: UtoipaMethodRouter<Api>) -> Self {
        self.add_audited(access, Audited::Here, route)
    }

    /// Adds a route for frequent requests: the answer does not wait until the audit log is written.
    pub(crate) fn add_busy(self, access: Access, route: UtoipaMethodRouter<Api>) -> Self {
        self.add_audited(access, Audited::Soon, route)
    }

    /// Adds a route for what devices send again and again: it has no entry in the audit log.
    pub(crate) fn add_unaudited(self, access: Access, route: UtoipaMethodRouter<Api>) -> Self {
        self.add_audited(access, Audited::Nowhere, route)
    }

    /// Adds a route where the tables write down what is changed in them.
    pub(crate) fn add_of_tables(self, access: Access, route: UtoipaMethodRouter<Api>) -> Self {
        self.add_audited(access, Audited::InTables, route)
    }

    fn add_audited(self, access: Access, audited: Audited, route: UtoipaMethodRouter<Api>) -> Self {
        let takes_team = route.1.paths.values().any(declares_team);
        let behind = |api: &Api, methods: MethodRouter<Api>| {
            let methods = match takes_team {
                true => methods,
                false => methods.route_layer(from_fn(tenant::takes_no_team)),
            };
            guarded(api, access, audited, methods)
        };
        self.add_behind(route, behind, |path, item| {
            openapi::declare(path, item, access);
        })
    }

    /// Adds a route: `behind` puts its handlers behind their access rule, `describe` completes the
    /// description of each path.
    pub(crate) fn add_behind(
        mut self,
        route: UtoipaMethodRouter<Api>,
        behind: impl FnOnce(&Api, MethodRouter<Api>) -> MethodRouter<Api>,
        describe: impl Fn(&str, &mut PathItem),
    ) -> Self {
        let (schemas, mut paths, methods) = route;
        self.form = match self.form {
            Form::Router(mut router) => {
                let methods = behind(&self.api, methods);
                for path in paths.paths.keys() {
                    router = router.route(path, methods.clone());
                }
                Form::Router(router)
            }
            Form::Document(document) => {
                for (path, item) in &mut paths.paths {
                    describe(path, item);
                }
                let all = OpenApiRouter::<Api>::with_openapi(*document);
                let all = all.routes((schemas, paths, MethodRouter::new()));
                Form::Document(Box::new(all.into_openapi()))
            }
        };
        self
    }
}

/// Whether an operation of a path takes a team in its query.
fn declares_team(item: &PathItem) -> bool {
    let operations = [
        &item.get,
        &item.head,
        &item.put,
        &item.post,
        &item.patch,
        &item.delete,
    ];
    let parameters = |operation: &'_ Operation| {
        let mut all = operation.parameters.iter().flatten();
        all.any(|one| matches!(one, RefOr::T(one) if one.name == tenant::TEAM_PARAMETER))
    };
    { operations }
        .into_iter()
        .any(|operation| operation.as_ref().is_some_and(parameters))
}
