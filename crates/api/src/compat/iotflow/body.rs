//! Bodies of this system's requests: JSON with any Content-Type, with comments, and with unknown
//! members.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::compat::body::CompatBody;
use crate::problem::{Problem, ProblemKind};

/// A body of JSON; what is wrong with it has the headings of the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read = CompatBody::from_request(request, state).await;
        match read {
            Ok(CompatBody(body)) => Ok(Self(body)),
            Err(problem) => Err(with_heading(problem)),
        }
    }
}

/// Adds the heading of the system to an error about JSON.
pub(super) fn with_heading(problem: Problem) -> Problem {
    match problem.kind() {
        ProblemKind::BadRequest => problem.with_heading("Invalid JSON"),
        _ => problem,
    }
}

/// Refuses a body that lacks members: each is named, and whether it is there.
pub(super) fn expect_members(members: &[(&str, bool)]) -> Result<(), Problem> {
    let missing = members.iter().filter(|(_, is_there)| !is_there);
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let detail = format!("Required fields: {}", missing.join(", "));
            Err(Problem::bad_request(detail).with_heading("Missing required fields"))
        }
    }
}

/// A member that is missing has the whole message as its heading, as programs look for it.
pub(super) fn missing_field(heading: &'static str) -> Problem {
    let detail = "the body lacks a member that is needed";
    Problem::bad_request(detail).with_heading(heading)
}
