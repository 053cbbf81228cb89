//! Routes of systems that Martlet replaces, with the paths, bodies and answers that their clients
//! know. What they do is what routes of `/api/v1` do, by the same calls and with the same scopes.
//!
//! `http.compat`, or `compat` of a listener, selects which are served. Where two systems have a
//! path, it is served as the one has it that is named first ([`CompatRoutes`]).

mod body;
mod device_service;
pub(crate) mod iotflow;
pub(crate) mod microservice;
mod panel_broker;
pub(crate) mod paths;
mod routes;
pub(crate) mod system;

use axum::Router;
use axum::http::{HeaderValue, StatusCode};
use axum::routing::{MethodRouter, get};

use self::paths::owner;
use self::routes::CompatRoutes;
use self::system::CompatApi;
use crate::api::Api;
use crate::docs;
use crate::problem::{CONTENT_TYPE, Problem};

impl CompatApi {
    /// The form of its errors.
    fn error_form(self) -> ErrorForm {
        match self {
            Self::Microservice => ErrorForm::Microservice,
            Self::PanelBroker => ErrorForm::PanelBroker,
            Self::IotFlow => ErrorForm::IotFlow,
            Self::DeviceService => ErrorForm::DeviceService,
        }
    }

    /// Adds its routes, but for `/`.
    fn add_to(self, routes: CompatRoutes, api: &Api) -> CompatRoutes {
        match self {
            Self::Microservice => microservice::add_to(routes, api),
            Self::PanelBroker => panel_broker::add_to(routes, api),
            Self::IotFlow => iotflow::add_to(routes, api),
            Self::DeviceService => device_service::add_to(routes, api),
        }
    }

    /// What it has at `/`.
    fn root(self, api: &Api) -> Option<MethodRouter<Api>> {
        match self {
            Self::Microservice | Self::DeviceService => None,
            Self::PanelBroker => Some(panel_broker::root(api)),
            Self::IotFlow => Some(panel_broker::for_programs(get(iotflow::root))),
        }
    }
}

/// The form of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// Problem details (RFC 9457).
    Problem,
    /// That of the microservice.
    Microservice,
    /// That of the panel.
    PanelBroker,
    /// That of IoTFlow.
    IotFlow,
    /// That of Service-MQTT.
    DeviceService,
}

impl ErrorForm {
    /// The form for requests with this path, whatever becomes of them.
    pub(crate) fn of(compat: &[CompatApi], path: &str) -> Self {
        owner(compat, path).map_or(Self::Problem, CompatApi::error_form)
    }

    /// Status of the answer, as far as it is known.
    pub(crate) fn status(self, problem: &Problem, so_far: StatusCode) -> StatusCode {
        match self {
            Self::Problem | Self::PanelBroker => so_far,
            Self::Microservice => microservice::status_of(problem.kind()),
            Self::IotFlow => iotflow::status_of(problem.kind()),
            Self::DeviceService => device_service::status_of(problem.kind()),
        }
    }

    /// Content-Type and body, with the number and the path of the request where the form has them.
    pub(crate) fn error_answer(
        self,
        problem: &Problem,
        (request_id, path): (&str, &str),
    ) -> (HeaderValue, String) {
        match self {
            Self::Problem => (CONTENT_TYPE, problem.body(Some(request_id))),
            Self::Microservice => microservice::error_answer(problem),
            Self::PanelBroker => panel_broker::error_answer(problem),
            Self::IotFlow => iotflow::error_answer(problem, request_id, path),
            Self::DeviceService => device_service::error_answer(problem),
        }
    }
}

/// The router with the routes that are served of other systems, but for `/`.
pub(crate) fn add_to(router: Router<Api>, api: &Api) -> Router<Api> {
    let Some(&first) = api.routes.compat.first() else {
        return router;
    };
    let mut routes = CompatRoutes::beside(router, first);
    for &system in &api.routes.compat {
        routes = system.add_to(routes.of(system), api);
    }
    routes.into_router()
}

/// What is at `/`.
pub(crate) fn root(api: &Api) -> MethodRouter<Api> {
    let mut systems = api.routes.compat.iter();
    let first = systems.find_map(|system| system.root(api));
    first.unwrap_or_else(|| get(docs::root))
}

/// The page `/docs/index.html` and its script: of Service-MQTT where its routes come first.
pub(crate) fn pages(api: &Api) -> (MethodRouter<Api>, MethodRouter<Api>) {
    match api.routes.compat.first() {
        Some(CompatApi::DeviceService) => {
            (get(device_service::page), get(device_service::page_script))
        }
        _ => (get(docs::index), get(docs::no_file)),
    }
}
