//! The document that describes the routes, for readers.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::api::Api;
use crate::problem::Problem;

/// This document
///
/// OpenAPI 3.1, made from the routes that this node has.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "documentation",
    responses(
        (status = 200, description = "The document", body = serde_json::Value,
            headers(("ETag" = String, description = "Revision"))),
        (status = 304, description = "Not changed: If-None-Match has its revision")))]
pub(crate) async fn show(State(api): State<Api>, headers: HeaderMap) -> Response {
    if let (None, Some(make)) = (api.document.get(), api.make_document.get().copied()) {
        let of = api.clone();
        // It takes too long for a thread that serves others too.
        let page = tokio::task::spawn_blocking(move || {
            of.document.get_or_init(|| make(&of));
        });
        if let Err(error) = page.await {
            return Problem::unavailable(error.to_string()).into_response();
        }
    }
    let Some(document) = api.document.get() else {
        let detail = "the document is not made yet".to_owned();
        return Problem::unavailable(detail).into_response();
    };
    let json = HeaderValue::from_static("application/json");
    let cached = HeaderValue::from_static("no-cache");
    let text = document.text.clone();
    let answer = (
        [
            (header::CONTENT_TYPE, json),
            (header::CACHE_CONTROL, cached),
        ],
        text,
    );
    document.version.unless_unchanged(&headers, answer)
}
