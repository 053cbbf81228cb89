//! Routes of systems that Martlet replaces, with the paths, bodies and answers that their clients
//! know. What they do is what routes of `/api/v1` do, by the same calls and with the same scopes.
//!
//! `http.compat` says which are served. A route whose part of Martlet is not there yet answers 501.

mod body;
mod microservice;
mod panel_broker;

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
}

impl CompatApi {
    /// By its number in `http.compat`.
    pub fn of_number(number: &str) -> Option<Self> {
        match number {
            "1" => Some(Self::Microservice),
            "2" => Some(Self::PanelBroker),
            _ => None,
        }
    }
}

/// In which form an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// Problem details (RFC 9457).
    Problem,
    /// That of the microservice.
    Microservice,
}

impl ErrorForm {
    /// The form for requests with this path, whatever becomes of them.
    pub(crate) fn of(settings: &Settings, path: &str) -> Self {
        let is_microservices =
            settings.compat.contains(&CompatApi::Microservice) && microservice::has(path);
        match is_microservices {
            true => Self::Microservice,
            false => Self::Problem,
        }
    }

    /// Status of the answer, of which this one is known so far.
    pub(crate) fn status(self, problem: &Problem, so_far: StatusCode) -> StatusCode {
        match self {
            Self::Problem => so_far,
            Self::Microservice => microservice::status_of(problem.kind()),
        }
    }

    /// Content-Type and body, with the number of the request where the form has it.
    pub(crate) fn told(self, problem: &Problem, request_id: &str) -> (HeaderValue, String) {
        match self {
            Self::Problem => (CONTENT_TYPE, problem.body(Some(request_id))),
            Self::Microservice => microservice::told(problem),
        }
    }
}

/// The router with the routes that are served of other systems, but for `/`.
pub(crate) fn add_to(router: Router<Api>, api: &Api) -> Router<Api> {
    let all = api.settings.compat.iter();
    all.fold(router, |router, one| match one {
        CompatApi::Microservice => microservice::add_to(router, api),
        CompatApi::PanelBroker => router,
    })
}

/// What is at `/`.
pub(crate) fn root(api: &Api) -> MethodRouter<Api> {
    match api.settings.compat.contains(&CompatApi::PanelBroker) {
        true => panel_broker::root(api),
        false => get(docs::root),
    }
}
