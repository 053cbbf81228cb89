//! Requests whose bodies are taken piece by piece by their handler, which bounds them.

use axum::extract::Request;
use axum::http::{Method, header};

/// Where firmware is added: a file of it is never in memory as a whole.
const FIRMWARE: &str = "/api/v1/firmware";
const JSON: &str = "application/json";

/// Whether the body of a request is taken piece by piece.
pub(crate) fn is_streamed(request: &Request) -> bool {
    request.method() == Method::POST && request.uri().path() == FIRMWARE && !is_json(request)
}

/// Whether the Content-Type of a request is JSON.
pub(crate) fn is_json(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| {
        let essence = text.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(JSON)
    })
}
