//! Probes and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use martlet_control::{HealthReport, Reader};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::problem::Problem;

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alive {
    /// `alive`; `ok` where the probe has that of its own.
    status: &'static str,
}

/// Alive
///
/// 200 as long as the process answers.
#[utoipa::path(get, path = "/health/live", tag = "health",
    responses((status = 200, description = "It answers", body = Alive)))]
pub(crate) async fn live() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

/// Alive, by another name
#[utoipa::path(get, path = "/livez", tag = "health",
    responses((status = 200, description = "It answers", body = Alive)))]
pub(crate) async fn livez() -> Json<Alive> {
    live().await
}

/// Alive, by another name and in other words
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "It answers", body = Alive)))]
pub(crate) async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Ready
///
/// 200 when clients may be sent here, else 503, with the reason.
#[utoipa::path(get, path = "/health/ready", tag = "health",
    responses(
        (status = 200, description = "It is", body = HealthReport),
        (status = 503, description = "It is not", body = HealthReport)))]
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    readiness(report(&api, Reader::Anybody).await)
}

async fn report(api: &Api, reader: Reader) -> HealthReport {
    api.settle_unclaimed().await;
    api.control.health_report(reader).await
}

fn readiness(report: HealthReport) -> Response {
    let status = match report.status {
        "ready" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report)).into_response()
}

/// Ready, by another name
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "It is", body = HealthReport),
        (status = 503, description = "It is not", body = HealthReport)))]
pub(crate) async fn readyz(api: State<Api>) -> Response {
    ready(api).await
}

/// How the node is
///
/// As the probe says it, among the rest of the API: whether clients may be sent here, and what is
/// to be known; here with the addresses and names that are locked out.
#[utoipa::path(get, path = "/api/v1/health", tag = "health",
    responses(
        (status = 200, description = "It is ready", body = HealthReport),
        (status = 503, description = "It is not", body = HealthReport)))]
pub(crate) async fn health(State(api): State<Api>) -> Response {
    readiness(report(&api, Reader::Operator).await)
}

/// Started
///
/// 200 when the start is over, also while the node stops; 503 before.
#[utoipa::path(get, path = "/health/startup", tag = "health",
    responses(
        (status = 200, description = "It is over", body = HealthReport),
        (status = 503, description = "It is under way", body = HealthReport)))]
pub(crate) async fn startup(State(api): State<Api>) -> Response {
    let report = report(&api, Reader::Anybody).await;
    let status = match report.status {
        "starting" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (status, Json(report)).into_response()
}

/// Metrics
///
/// Prometheus' page, as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "The page", body = String,
        content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let page = api.control.metrics(|page| api.counts.register(page));
    let page = page.await?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], page).into_response())
}
