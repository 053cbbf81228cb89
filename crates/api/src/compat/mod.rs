//! Routes of systems that Martlet replaces, with the paths, bodies and answers that their clients
//! know. What they do is what routes of `/api/v1` do, by the same calls and with the same scopes.
//!
//! `http.compat` says which are served. A route whose part of Martlet is not there yet answers 501.

mod body;
mod iotflow;
mod microservice;
mod panel_broker;

pub(crate) use iotflow::RouteLimits;

use axum::Router;
use axum::http::{HeaderValue, StatusCode};
use axum::routing::{MethodRouter, get};

use crate::api::{Api, Settings};
use crate::docs;
use crate::problem::{CONTENT_TYPE, Problem};

/// A system whose routes are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompatApi {
    /// The MQTT microservice: `/publish`, `/broker/status` and others, without a prefix.
    Microservice,
    /// The broker of the MQTT panel: its statistics at `/`.
    PanelBroker,
    /// IoTFlow: devices register and tell how they are, administrators see and change them.
    IotFlow,
}

impl CompatApi {
    /// By its number in `http.compat`.
    pub fn of_number(number: &str) -> Option<Self> {
        match number {
            "1" => Some(Self::Microservice),
            "2" => Some(Self::PanelBroker),
            "3" => Some(Self::IotFlow),
            _ => None,
        }
    }

    /// Whether a path is one of its routes.
    fn has(self, path: &str) -> bool {
        match self {
            Self::Microservice => microservice::has(path),
            Self::PanelBroker => path == "/",
            Self::IotFlow => iotflow::has(path),
        }
    }
}

/// The first of the systems that are served which has this path.
fn owner(settings: &Settings, path: &str) -> Option<CompatApi> {
    let mut all = settings.compat.iter().copied();
    all.find(|one| one.has(path))
}

/// Whether requests with this path may show a key as `Authorization: admin KEY`.
pub(crate) fn takes_admin_scheme(settings: &Settings, path: &str) -> bool {
    owner(settings, path) == Some(CompatApi::IotFlow)
}

/// In which form an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// Problem details (RFC 9457).
    Problem,
    /// That of the microservice.
    Microservice,
    /// That of IoTFlow.
    IotFlow,
}

impl ErrorForm {
    /// The form for requests with this path, whatever becomes of them.
    pub(crate) fn of(settings: &Settings, path: &str) -> Self {
        match owner(settings, path) {
            Some(CompatApi::Microservice) => Self::Microservice,
            Some(CompatApi::IotFlow) => Self::IotFlow,
            Some(CompatApi::PanelBroker) | None => Self::Problem,
        }
    }

    /// Status of the answer, of which this one is known so far.
    pub(crate) fn status(self, problem: &Problem, so_far: StatusCode) -> StatusCode {
        match self {
            Self::Problem => so_far,
            Self::Microservice => microservice::status_of(problem.kind()),
            Self::IotFlow => iotflow::status_of(problem.kind()),
        }
    }

    /// Content-Type and body, with the number and the path of the request where the form has them.
    pub(crate) fn told(
        self,
        problem: &Problem,
        (request_id, path): (&str, &str),
    ) -> (HeaderValue, String) {
        match self {
            Self::Problem => (CONTENT_TYPE, problem.body(Some(request_id))),
            Self::Microservice => microservice::told(problem),
            Self::IotFlow => iotflow::told(problem, request_id, path),
        }
    }
}

/// The router with the routes that are served of other systems, but for `/`.
pub(crate) fn add_to(router: Router<Api>, api: &Api) -> Router<Api> {
    let all = api.settings.compat.iter();
    let router = all.fold(router, |router, one| match one {
        CompatApi::Microservice => microservice::add_to(router, api),
        CompatApi::PanelBroker => router,
        CompatApi::IotFlow => iotflow::add_to(router, api),
    });
    // Two systems have this one.
    match owner(&api.settings, STATUS) {
        Some(CompatApi::Microservice) => router.route(STATUS, microservice::status(api)),
        Some(CompatApi::IotFlow) => router.route(STATUS, iotflow::status(api)),
        Some(CompatApi::PanelBroker) | None => router,
    }
}

const STATUS: &str = "/status";

/// What is at `/`.
pub(crate) fn root(api: &Api) -> MethodRouter<Api> {
    let has_root = [CompatApi::PanelBroker, CompatApi::IotFlow];
    let mut all = api.settings.compat.iter();
    match all.find(|one| has_root.contains(one)) {
        Some(CompatApi::PanelBroker) => panel_broker::root(api),
        Some(CompatApi::IotFlow) => panel_broker::for_programs(get(iotflow::root)),
        Some(CompatApi::Microservice) | None => get(docs::root),
    }
}
