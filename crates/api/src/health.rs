//! Probes and metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use martlet_control::Control;

use crate::problem::Problem;

/// 200 as long as the process answers.
pub(crate) async fn live() -> Response {
    Json(serde_json::json!({ "status": "alive" })).into_response()
}

/// 200 when clients may be sent here, else 503, with the reason.
pub(crate) async fn ready(State(control): State<Arc<Control>>) -> Response {
    let report = control.health_report().await;
    let status = match report.status {
        "ready" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report)).into_response()
}

/// Prometheus' page.
pub(crate) async fn metrics(State(control): State<Arc<Control>>) -> Result<Response, Problem> {
    let page = control.metrics().await?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], page).into_response())
}
