//! Bodies of requests: read once the caller is known, each into one buffer, and all of them within
//! a budget and the node's memory.

pub(crate) mod large;
pub(crate) mod room;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use http_body_util::{LengthLimitError, Limited};

use crate::api::Api;
use crate::problem::{Problem, ProblemKind};
use crate::publish;
use room::{BodyError, BudgetShare, OPEN_BYTES_MAX, collect};

/// The time in which a body must be complete; a shorter one for a caller without credentials.
const TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUT_OPEN: Duration = Duration::from_secs(10);

/// Reads the body of a request whose caller may send one; `is_open` where they have shown no
/// credentials. It counts until what comes beside it is dropped.
///
/// # Errors
/// The body is too long, does not come in time, or finds no room.
pub(crate) async fn read(
    api: &Api,
    request: Request,
    is_open: bool,
) -> Result<(Request, BudgetShare), Problem> {
    let path = request.uri().path();
    let own = api.settings.body_bytes;
    let (max, timeout, option) = match (publish::body_bytes_max(api, path), is_open) {
        (Some(max), _) => (max, publish::BODY_TIMEOUT, "by limits.packet_bytes"),
        (None, true) if own > OPEN_BYTES_MAX => {
            (OPEN_BYTES_MAX, TIMEOUT_OPEN, "without credentials")
        }
        (None, true) => (own, TIMEOUT_OPEN, "by http.body_bytes"),
        (None, false) => (own, TIMEOUT, "by http.body_bytes"),
    };
    let too_large = || {
        let detail = format!("a body has {max} bytes at most here, {option}");
        Problem::new(ProblemKind::TooLarge, detail)
    };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let (parts, body) = request.into_parts();
    let memory = Some(Arc::clone(&api.control));
    let mut held = BudgetShare::new(&api.bodies, memory, is_open, max);
    let reading = collect(Limited::new(body, max), &mut held);
    let body = match tokio::time::timeout(timeout, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(BodyError::Error(error))) if error.is::<LengthLimitError>() => {
            return Err(too_large());
        }
        Ok(Err(BodyError::Error(_))) => {
            return Err(Problem::bad_request("the body cannot be read"));
        }
        Ok(Err(BodyError::NoRoom)) => {
            let detail = "the node has no memory for more bodies of requests; try again later";
            return Err(Problem::unavailable(detail.to_owned()));
        }
        Err(_) => {
            let secs = timeout.as_secs();
            let detail = format!("the body was not received within {secs} s");
            return Err(Problem::new(ProblemKind::Timeout, detail));
        }
    };
    Ok((Request::from_parts(parts, Body::from(body)), held))
}
