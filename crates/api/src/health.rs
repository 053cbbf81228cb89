//! Probes and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use martlet_control::{HealthAudience, HealthReport, MetricsFormat};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::compat::microservice::metrics as compat_metrics;
use crate::problem::Problem;
use crate::registry::shares_in;

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
    responses((status = 200, description = "The process answers", body = Alive)))]
pub(crate) async fn live() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

/// Alive, by another name
#[utoipa::path(get, path = "/livez", tag = "health",
    responses((status = 200, description = "The process answers", body = Alive)))]
pub(crate) async fn livez() -> Json<Alive> {
    live().await
}

/// Alive, by another name and in other words
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "The process answers", body = Alive)))]
pub(crate) async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Ready
///
/// 200 when clients may be sent here, else 503, with the reason.
#[utoipa::path(get, path = "/health/ready", tag = "health",
    responses(
        (status = 200, description = "Ready", body = HealthReport),
        (status = 503, description = "Not ready", body = HealthReport)))]
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    readiness(report(&api, HealthAudience::Anybody).await)
}

async fn report(api: &Api, reader: HealthAudience) -> HealthReport {
    api.settle_unclaimed().await;
    let integrations = api.integrations();
    api.control.health_report(integrations, reader).await
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
        (status = 200, description = "Ready", body = HealthReport),
        (status = 503, description = "Not ready", body = HealthReport)))]
pub(crate) async fn readyz(api: State<Api>) -> Response {
    ready(api).await
}

/// How the node is
///
/// The same as the probe, in the API: whether the node accepts clients, and warnings; with the
/// addresses and names that are locked out.
#[utoipa::path(get, path = "/api/v1/health", tag = "health",
    responses(
        (status = 200, description = "Ready", body = HealthReport),
        (status = 503, description = "Not ready", body = HealthReport)))]
pub(crate) async fn health(State(api): State<Api>) -> Response {
    readiness(report(&api, HealthAudience::Operator).await)
}

/// Started
///
/// 200 when the start is over, also while the node stops; 503 before.
#[utoipa::path(get, path = "/health/startup", tag = "health",
    responses(
        (status = 200, description = "Started", body = HealthReport),
        (status = 503, description = "Under way", body = HealthReport)))]
pub(crate) async fn startup(State(api): State<Api>) -> Response {
    let report = report(&api, HealthAudience::Anybody).await;
    let status = match report.status {
        "starting" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (status, Json(report)).into_response()
}

/// Metrics
///
/// Prometheus' page: OpenMetrics text if the request prefers it to plain text or accepts both
/// alike, else the text format of Prometheus, version 0.0.4. Where the microservice's routes are
/// served, a request that accepts JSON gets the page of the microservice.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "The page",
        content((String = "text/plain"), (String = "application/openmetrics-text")))))]
pub(crate) async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if compat_metrics::are_requested(&api, &headers) {
        return compat_metrics::metrics(&api).await;
    }
    let format = accepted(&headers);
    let integrations = match api.integrations() {
        Some(all) => Some(all.metrics().await),
        None => None,
    };
    let shares = match shares_in(&api) {
        Ok(shares) => shares.metrics().await,
        Err(_) => None,
    };
    let page = api.control.metrics(format, |page| {
        if let Some(integrations) = integrations {
            page.register_collector(Box::new(integrations));
        }
        api.counts.register(page);
        if let Some(topics) = &api.settings.topic_memory {
            page.register_collector(Box::new(topics.metrics()));
        }
        if let Some(rollouts) = api.rollouts() {
            page.register_collector(Box::new(rollouts.counts()));
        }
        if let Some(telemetry) = api.telemetry() {
            page.register_collector(Box::new(telemetry.metrics()));
        }
        if let Some(rules) = api.rules() {
            page.register_collector(Box::new(rules.metrics()));
        }
        if let Some(shares) = shares {
            page.register_collector(Box::new(shares));
        }
        if let Some(alarms) = api.alarms() {
            page.register_collector(Box::new(alarms.metrics()));
        }
    });
    let page = page.await?;
    let content_type = match format {
        MetricsFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
        MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::VARY, "Accept"),
    ];
    Ok((headers, page).into_response())
}

/// The requested form (RFC 9110, section 12.5.1). A request that accepts neither gets plain text.
fn accepted(headers: &HeaderMap) -> MetricsFormat {
    let (mut open, mut plain) = (0.0, [0.0; 3]);
    let values = headers.get_all(header::ACCEPT).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
        let quality: f64 = quality.unwrap_or(1.0);
        match &*kind {
            "application/openmetrics-text" => open = quality.max(open),
            "text/plain" => plain[0] = quality,
            "text/*" => plain[1] = quality,
            "*/*" => plain[2] = quality,
            _ => {}
        }
    }
    // The most specific range decides.
    let plain = plain.into_iter().find(|quality| *quality > 0.0);
    match open > 0.0 && open >= plain.unwrap_or(0.0) {
        true => MetricsFormat::OpenMetrics,
        false => MetricsFormat::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_is_accepted_most_gladly() {
        let form = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, text.parse().unwrap());
            accepted(&headers)
        };
        let (plain, open) = (MetricsFormat::Text, MetricsFormat::OpenMetrics);
        // As Prometheus 2 and 3 send it.
        let prometheus = "application/openmetrics-text;version=1.0.0,\
                          application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (text, expected) in [
            (prometheus, open),
            ("application/openmetrics-text", open),
            ("application/openmetrics-text, */*;q=0.1", open),
            ("text/plain;version=0.0.4", plain),
            ("text/plain, application/openmetrics-text;q=0.5", plain),
            ("application/openmetrics-text;q=0, */*", plain),
            ("*/*", plain),
            ("text/html", plain),
            ("", plain),
        ] {
            assert_eq!(form(text), expected, "{text}");
        }
        assert_eq!(accepted(&HeaderMap::new()), plain);
    }
}
