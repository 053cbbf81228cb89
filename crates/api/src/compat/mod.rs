//! Routes of systems that Martlet replaces, with the paths, bodies and answers that their clients
//! know. What they do is what routes of `/api/v1` do, by the same calls and with the same scopes.
//!
//! `http.compat` says which are served. A route whose part of Martlet is not there yet answers 501.

mod body;
mod microservice;
mod panel_broker;

use axum::Router;
use axum::http::response::Parts;
use axum::response::Response;

use crate::api::{Api, Settings};
use crate::problem::Problem;

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

    /// An error in the form of another system; `parts` are the answer's so far.
    ///
    /// # Errors
    /// It is told as a problem: the parts, unchanged.
    pub(crate) fn tell(self, problem: &Problem, parts: Parts) -> Result<Response, Parts> {
        match self {
            Self::Problem => Err(parts),
            Self::Microservice => Ok(microservice::error(problem, parts)),
        }
    }
}

/// The router with the routes that are served of other systems.
pub(crate) fn add_to(router: Router<Api>, api: &Api) -> Router<Api> {
    let all = api.settings.compat.iter();
    all.fold(router, |router, one| match one {
        CompatApi::Microservice => microservice::add_to(router, api),
        CompatApi::PanelBroker => panel_broker::add_to(router, api),
    })
}

/// Another system has `/`.
pub(crate) fn has_root(api: &Api) -> bool {
    api.settings.compat.contains(&CompatApi::PanelBroker)
}
