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
mod time;

use axum::http::{HeaderValue, StatusCode};
use axum::routing::{MethodRouter, get};
use utoipa::openapi::Response;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::tag::{Tag, TagBuilder};

use self::paths::owner;
use self::routes::CompatRoutes;
use self::system::CompatApi;
use crate::access::Access;
use crate::api::Api;
use crate::docs;
use crate::openapi;
use crate::problem::{CONTENT_TYPE, Problem};
use crate::route_list::Routes;

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

    /// Adds its routes.
    fn add_to(self, routes: CompatRoutes) -> CompatRoutes {
        match self {
            Self::Microservice => microservice::add_to(routes),
            Self::PanelBroker => panel_broker::add_to(routes),
            Self::IotFlow => iotflow::add_to(routes),
            Self::DeviceService => device_service::add_to(routes),
        }
    }

    /// Whether it has `/`.
    fn has_root(self) -> bool {
        matches!(self, Self::PanelBroker | Self::IotFlow)
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

    /// Description of the form; none: problem details.
    fn response(self) -> Option<Response> {
        let (members, content_types): (&[&str], &[&str]) = match self {
            Self::Problem => return None,
            // What needs a key is refused as plain text.
            Self::Microservice => (&["status", "message"], &["application/json", "text/plain"]),
            Self::PanelBroker => (&["message"], &["application/json"]),
            Self::IotFlow => (
                &["error", "message", "timestamp", "path", "request_id"],
                &["application/json"],
            ),
            Self::DeviceService => (&[], &["text/plain"]),
        };
        Some(openapi::error_of(members, content_types))
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

    /// Content-Type and body, with the number and the path of the request, and the options by which
    /// commands find the node, where the form has them.
    pub(crate) fn error_answer(
        self,
        problem: &Problem,
        request_id: &str,
        path: &str,
        node: &str,
    ) -> (HeaderValue, String) {
        match self {
            Self::Problem => (CONTENT_TYPE, problem.body(Some(request_id), node)),
            Self::Microservice => microservice::error_answer(problem),
            Self::PanelBroker => panel_broker::error_answer(problem),
            Self::IotFlow => iotflow::error_answer(problem, request_id, path),
            Self::DeviceService => device_service::error_answer(problem),
        }
    }
}

/// Adds the routes that are served of other systems.
pub(crate) fn add_to(routes: Routes) -> Routes {
    let compat = routes.api().routes.compat.clone();
    let Some(&first) = compat.first() else {
        return routes;
    };
    let mut routes = CompatRoutes::beside(routes, first, declare);
    for system in compat {
        routes = system.add_to(routes.of(system));
    }
    routes.into_routes()
}

/// Describes a path in the document: its access rule, and the errors of the system that has it.
fn declare(compat: &[CompatApi], path: &str, item: &mut PathItem, access: Access) {
    let form = ErrorForm::of(compat, path);
    openapi::declare_of_system(path, item, access, form.response());
    if form == ErrorForm::IotFlow && access != Access::OfDevice {
        openapi::accept(item, openapi::ADMIN_SCHEME);
    }
}

/// Whether a system that is served has `/`.
pub(crate) fn has_root(api: &Api) -> bool {
    api.routes.compat.iter().any(|system| system.has_root())
}

/// Tags of the systems that are served.
pub(crate) fn tags(api: &Api) -> Vec<Tag> {
    let systems = api.routes.compat.iter();
    let tags = systems.map(|system| {
        let description = format!("{}, as its clients know it", system.what());
        TagBuilder::new()
            .name(system.tag())
            .description(Some(description))
            .build()
    });
    tags.collect()
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
