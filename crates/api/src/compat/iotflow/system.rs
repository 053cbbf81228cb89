//! How the node is: whether it is healthy, and numbers about the machine and the devices.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use martlet_control::HealthAudience;
use martlet_control::callers::Caller;
use martlet_control::principal::Scope;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::records;
use super::view::numbers;
use crate::access::Access::Scoped;
use crate::access::Audited;
use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::guard::guarded;
use crate::problem::Problem;
use crate::registry::CalledBy;

/// The version of the interface, which its clients know.
const VERSION: &str = "1.0.0";

/// Time between two looks at the processors.
const CPU_SAMPLE: Duration = Duration::from_millis(100);

/// `GET /health`: every caller gets that the node is alive; callers with the right get its whole
/// state.
pub(super) fn brief_to_others(api: &Api, methods: MethodRouter<Api>) -> MethodRouter<Api> {
    let access = Scoped(Scope::NodeRead);
    let detailed = guarded(api, access, Audited::Here, methods);
    detailed.route_layer(from_fn(brief_if_not_detailed))
}

/// How much of the state.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it stands in the document, and is read before the caller is known"
)]
pub(super) struct HealthParams {
    /// `true`: the whole state.
    detailed: Option<bool>,
}

/// Whether the node is alive
///
/// With `detailed=true` its whole state, to callers with the scope `node:read`.
#[utoipa::path(get, path = "/health",
    params(HealthParams),
    responses((status = 200, description = "The state", body = Value)))]
pub(super) async fn health(api: State<Api>, caller: CalledBy) -> Result<Json<Value>, Problem> {
    status(api, caller).await
}

async fn brief_if_not_detailed(request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let is_detailed =
        pairs.any(|(name, value)| name == "detailed" && value.eq_ignore_ascii_case("true"));
    match is_detailed {
        true => next.run(request).await,
        false => brief().into_response(),
    }
}

fn brief() -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "message": "IoT Connectivity Layer is running",
        "version": VERSION,
    }))
}

/// Where the routes are
#[utoipa::path(get, path = "/",
    responses(
        (status = 200, description = "Paths by name", body = Value),
        (status = 307, description = "A browser is led to the pages")))]
pub(super) async fn root() -> Json<Value> {
    Json(json!({
        "name": "IoT Device Connectivity Layer",
        "version": VERSION,
        "description": "REST API for IoT device connectivity and telemetry data management",
        "endpoints": {
            "health": "/health",
            "devices": "/api/v1/devices",
            "admin": "/api/v1/admin",
            "mqtt": "/api/v1/mqtt",
        },
        "documentation": "/docs/",
    }))
}

/// The whole state of the node
#[utoipa::path(get, path = "/status",
    responses((status = 200, description = "The state", body = Value)))]
pub(super) async fn status(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
) -> Result<Json<Value>, Problem> {
    let database = database(&api).await;
    let report = api
        .control
        .health_report(api.integrations(), HealthAudience::Anybody);
    let is_ready = report.await.status == "ready";
    let is_reachable = database["healthy"] == true;
    let status = match (is_ready, is_reachable) {
        (true, true) => "healthy",
        (true, false) => "degraded",
        (false, _) => "unhealthy",
    };
    let devices = match is_reachable {
        true => devices(&api, caller).await?,
        false => json!({}),
    };
    let data_dir = api.control.info.data_dir.clone();
    let system = tokio::task::spawn_blocking(move || system(&data_dir)).await;
    let not_used = json!({ "healthy": true, "response_time_ms": 0.0, "status": "not_used" });
    Ok(Json(json!({
        "status": status,
        "timestamp": MomentUs::now(),
        "checks": {
            "database": database,
            "mqtt": { "healthy": is_ready, "status": if is_ready { "connected" } else { "disconnected" } },
            "redis": not_used,
            "iotdb": not_used,
        },
        "metrics": {
            "system": system.unwrap_or_default(),
            "application": {
                "version": api.control.info.version,
                "uptime_seconds": api.control.uptime().as_secs(),
            },
            "devices": devices,
        },
    })))
}

/// Whether the tables can be read.
async fn database(api: &Api) -> Value {
    let begun = Instant::now();
    let answered = match api.tables() {
        Ok(tables) => tables.are_in_use().await.is_ok(),
        Err(_) => false,
    };
    json!({
        "healthy": answered,
        "response_time_ms": rounded(begun.elapsed().as_secs_f64() * 1000.0),
        "status": if answered { "connected" } else { "disconnected" },
    })
}

async fn devices(api: &Api, caller: Caller) -> Result<Value, Problem> {
    let statistics = numbers(api, &caller).await?;
    let (last_hour, last_day) = records::recent_counts(api, &caller).await?;
    let active = statistics.counts.active;
    Ok(json!({
        "total_devices": statistics.counts.total,
        "active_devices": active,
        "online_devices": statistics.online,
        "offline_devices": active.saturating_sub(statistics.online),
        "telemetry_last_hour": last_hour,
        "telemetry_last_day": last_day,
    }))
}

/// Numbers about the machine, as far as the system has them.
fn system(data_dir: &str) -> Value {
    let before = cpu_times();
    std::thread::sleep(CPU_SAMPLE);
    let (total, available) = memory_kib().unzip();
    let used = total
        .zip(available)
        .map(|(total, available)| rounded(100.0 * (total - available) / total));
    json!({
        "cpu_percent": before.zip(cpu_times()).map(cpu_percent),
        "memory_percent": used,
        "memory_available_mb": available.map(|kib| rounded(kib / 1024.0)),
        "disk_usage_percent": disk_percent(data_dir),
        "load_average": load_average(),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Time of all processors since the start, and of that idle: `/proc/stat`.
fn cpu_times() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<f64> = { line.split_whitespace() }
        .filter_map(|time| time.parse().ok())
        .collect();
    let idle = times.get(3)? + times.get(4)?;
    Some((times.iter().take(8).sum(), idle))
}

fn cpu_percent(((total, idle), (total_then, idle_then)): ((f64, f64), (f64, f64))) -> f64 {
    let passed = total_then - total;
    match passed > 0.0 {
        true => rounded(100.0 * (1.0 - (idle_then - idle) / passed)),
        false => 0.0,
    }
}

/// Memory of the machine, and of that available.
fn memory_kib() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let of = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((of("MemTotal:")?, of("MemAvailable:")?)).filter(|(total, _)| *total > 0.0)
}

fn load_average() -> Option<Vec<f64>> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let loads = text.split_whitespace().take(3);
    loads.map(|load| load.parse().ok()).collect()
}

/// How full the disk is that has the node's data.
fn disk_percent(data_dir: &str) -> Option<f64> {
    let found = rustix::fs::statvfs(data_dir).ok()?;
    let (blocks, free) = (found.f_blocks as f64, found.f_bavail as f64);
    Some(rounded(100.0 * (1.0 - free / blocks))).filter(|_| blocks > 0.0)
}
