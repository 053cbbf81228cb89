//! Routes of systems that Martlet replaces, with the paths, bodies and answers that their clients
//! know. What they do is what routes of `/api/v1` do, by the same calls and with the same scopes.
//!
//! `http.compat` says which are served. A route whose part of Martlet is not there yet answers 501.

mod body;
mod microservice;

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
}

impl CompatApi {
    /// By its number in `http.compat`.
    pub fn of_number(number: &str) -> Option<Self> {
        match number {
            "1" => Some(Self::Microservice),
            _ => None,
        }
    }

    fn has(self, path: &str) -> bool {
        match self {
            Self::Microservice => microservice::has(path),
        }
    }
}

/// In which form an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// Problem details (RFC 9457).
    Problem,
    /// That of the system whose route it is.
    Of(CompatApi),
}

impl ErrorForm {
    /// The form for requests with this path, whatever becomes of them.
    pub(crate) fn of(settings: &Settings, path: &str) -> Self {
        let mut all = settings.compat.iter().copied();
        all.find(|api| api.has(path))
            .map_or(Self::Problem, Self::Of)
    }
}

/// An error in the form of another system; `parts` are the answer's so far.
pub(crate) fn error(api: CompatApi, problem: &Problem, parts: Parts) -> Response {
    match api {
        CompatApi::Microservice => microservice::error(problem, parts),
    }
}

/// The router with the routes that are served of other systems.
pub(crate) fn add_to(router: Router<Api>, api: &Api) -> Router<Api> {
    let all = api.settings.compat.iter();
    all.fold(router, |router, one| match one {
        CompatApi::Microservice => microservice::add_to(router, api),
    })
}
