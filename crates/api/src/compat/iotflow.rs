//! The routes of IoTFlow: devices register and report their state by HTTP, administrators see and
//! change them, programs publish to topics below `iotflow/`.
//!
//! Its answers are `{"status": "success", …}`, its errors `{"error": …, "message": …}`. A device
//! shows its secret in `X-API-Key`; an administrator shows `Authorization: admin TOKEN`, where the
//! token is any API key, such as that of `IOTFLOW_ADMIN_TOKEN`.
//!
//! * `devices`, `configuration`: what a device asks for itself, and states of devices
//! * `commands`: commands to devices and groups
//! * `admin`: what administrators do with devices
//! * `mqtt`, `topics`: the broker, messages and the catalogue of topics
//! * `system`: how the node is
//! * `sent`, `telemetry`, `records`: telemetry, sent and read
//! * `body`, `view`, `limits`: bodies, how a device is shown, limits of single routes

mod admin;
mod body;
mod commands;
mod configuration;
mod devices;
mod limits;
mod mqtt;
pub(crate) mod rates;
mod records;
mod sent;
mod system;
mod telemetry;
mod topics;
mod view;

use axum::http::{HeaderValue, StatusCode};
use axum::routing::{MethodRouter, delete, get, post, put};
use martlet_control::principal::Scope;
use serde_json::{Map, Value};

pub(super) use system::root;

use super::routes::CompatRoutes;
use crate::access::Access::{OfDevice, Scoped, ScopedOrOfDevice};
use crate::access::{Access, Audited};
use crate::api::Api;
use crate::guard::guarded;
use crate::problem::{Problem, ProblemKind};
use crate::time::Moment;
use limits::Limit;

pub(super) fn add_to(routes: CompatRoutes, api: &Api) -> CompatRoutes {
    let routes = add_devices(routes, api);
    let routes = add_mqtt(routes, api);
    let routes = add_admin(routes, api);
    let routes = add_telemetry(routes, api);
    routes
        .route("/health", system::health(api))
        .route("/status", status(api))
}

fn add_telemetry(routes: CompatRoutes, api: &Api) -> CompatRoutes {
    let read = |methods| {
        let access = ScopedOrOfDevice(Scope::TelemetryRead);
        guarded(api, access, Audited::Here, methods)
    };
    let send = || {
        let send = limits::limited(api, Limit::Telemetry, post(telemetry::send));
        guarded(api, OfDevice, Audited::Nowhere, send)
    };
    let delete = guarded(
        api,
        ScopedOrOfDevice(Scope::TelemetryWrite),
        Audited::Here,
        delete(telemetry::delete),
    );
    let publish = guarded(
        api,
        ScopedOrOfDevice(Scope::TelemetryWrite),
        Audited::Nowhere,
        post(telemetry::publish),
    );
    let own = guarded(api, OfDevice, Audited::Here, get(telemetry::own));
    let routes = routes
        .route("/api/v1/devices/telemetry", own)
        .route("/api/v1/devices/telemetry", send())
        .route("/api/v1/mqtt/telemetry/{id}", publish)
        .route("/api/v1/telemetry", send())
        .route("/api/v1/telemetry/status", read(get(telemetry::status)));
    routes
        .route(
            "/api/v1/telemetry/user/{user}",
            read(get(telemetry::of_user)),
        )
        .route(
            "/api/v1/telemetry/device/{id}",
            read(get(telemetry::page_of_device)),
        )
        .route(
            "/api/v1/telemetry/device/{id}/aggregated",
            read(get(telemetry::aggregated_of_device)),
        )
        .route("/api/v1/telemetry/{id}", read(get(telemetry::of_device)))
        .route("/api/v1/telemetry/{id}", delete)
        .route(
            "/api/v1/telemetry/{id}/latest",
            read(get(telemetry::latest)),
        )
        .route(
            "/api/v1/telemetry/{id}/aggregated",
            read(get(telemetry::aggregated)),
        )
}

/// The state of the node.
fn status(api: &Api) -> MethodRouter<Api> {
    let access = Scoped(Scope::NodeRead);
    guarded(api, access, Audited::Here, get(system::status))
}

fn add_devices(routes: CompatRoutes, api: &Api) -> CompatRoutes {
    let in_tables = |access: Access, methods| guarded(api, access, Audited::InTables, methods);
    let own = |methods| in_tables(OfDevice, methods);
    let read = Scope::DevicesRead;
    let register = post(devices::register);
    let register = limits::limited(api, Limit::Registrations, register);
    let heartbeat = limits::limited(api, Limit::Heartbeats, post(devices::heartbeat));
    let configuration = get(configuration::show)
        .put(devices::change)
        .post(configuration::set);
    let routes = routes
        .route(
            "/api/v1/devices/register",
            in_tables(Scoped(Scope::DevicesWrite), register),
        )
        .route("/api/v1/devices/status", own(get(devices::own_status)))
        .route("/api/v1/devices/heartbeat", own(heartbeat))
        .route("/api/v1/devices/config", own(configuration))
        .route("/api/v1/devices/credentials", own(get(devices::own_topics)))
        .route(
            "/api/v1/devices/mqtt-credentials",
            own(get(devices::mqtt_credentials)),
        );
    routes
        .route(
            "/api/v1/devices/statuses",
            in_tables(Scoped(read), get(devices::statuses)),
        )
        .route(
            "/api/v1/devices/{id}/status",
            in_tables(ScopedOrOfDevice(read), get(devices::status)),
        )
        .route(
            "/api/v1/devices/{id}/summary",
            in_tables(ScopedOrOfDevice(read), get(devices::summary)),
        )
        .route(
            "/api/v1/devices/{id}/control",
            in_tables(Scoped(Scope::MessagesWrite), post(commands::control)),
        )
        .route(
            "/api/v1/devices/{id}/control/pending",
            in_tables(ScopedOrOfDevice(read), get(commands::pending)),
        )
        .route(
            "/api/v1/devices/{id}/control/{command}/status",
            guarded(
                api,
                ScopedOrOfDevice(Scope::DevicesWrite),
                Audited::Here,
                post(commands::answer),
            ),
        )
}

fn add_mqtt(routes: CompatRoutes, api: &Api) -> CompatRoutes {
    let with = |scope, methods| guarded(api, Scoped(scope), Audited::Here, methods);
    let (read, write) = (Scope::NodeRead, Scope::MessagesWrite);
    let in_tables = |methods| guarded(api, Scoped(write), Audited::InTables, methods);
    let publish = guarded(api, Scoped(write), Audited::Soon, post(mqtt::publish));
    let routes = routes
        .route("/api/v1/mqtt/status", with(read, get(mqtt::status)))
        .route("/api/v1/mqtt/publish", publish)
        .route(
            "/api/v1/mqtt/subscribe",
            with(Scope::ClientsWrite, post(mqtt::subscribe)),
        )
        .route(
            "/api/v1/mqtt/monitoring/metrics",
            with(read, get(mqtt::metrics)),
        )
        .route(
            "/api/v1/mqtt/topics/structure",
            with(read, get(topics::structure)),
        )
        .route(
            "/api/v1/mqtt/topics/validate",
            with(read, post(topics::validate)),
        )
        .route(
            "/api/v1/mqtt/topics/device/{id}",
            with(read, get(topics::of_device)),
        );
    routes
        .route(
            "/api/v1/mqtt/device/{id}/command",
            in_tables(post(commands::send)),
        )
        .route(
            "/api/v1/mqtt/fleet/{group}/command",
            in_tables(post(commands::send_to_fleet)),
        )
}

fn add_admin(routes: CompatRoutes, api: &Api) -> CompatRoutes {
    let with = |scope, methods| guarded(api, Scoped(scope), Audited::InTables, methods);
    let (read, write) = (Scope::DevicesRead, Scope::DevicesWrite);
    let routes = routes
        .route("/api/v1/admin/devices", with(read, get(admin::list)))
        .route("/api/v1/admin/devices/{id}", with(read, get(admin::show)))
        .route(
            "/api/v1/admin/devices/{id}",
            with(write, put(admin::change).delete(admin::delete)),
        )
        .route(
            "/api/v1/admin/devices/{id}/status",
            with(write, put(admin::set_status)),
        )
        .route("/api/v1/admin/stats", with(read, get(admin::statistics)))
        .route("/api/v1/admin/dashboard", with(read, get(admin::dashboard)))
        .route(
            "/api/v1/admin/telemetry",
            with(Scope::TelemetryRead, get(telemetry::of_all)),
        );
    routes
        .route(
            "/api/v1/admin/cache/device-status",
            with(read, get(admin::cache)),
        )
        .route(
            "/api/v1/admin/cache/device-status",
            with(write, delete(admin::clear_cache)),
        )
        .route(
            "/api/v1/admin/cache/devices/{id}",
            with(write, delete(admin::clear_cache_of_device)),
        )
        .route(
            "/api/v1/admin/redis-db-sync/status",
            with(read, get(admin::synchronization)),
        )
        .route(
            "/api/v1/admin/redis-db-sync/{*rest}",
            with(write, post(admin::no_synchronization)),
        )
}

/// Status of an error: what is wrong with a body is 400 there.
pub(super) fn status_of(kind: ProblemKind) -> StatusCode {
    match kind {
        ProblemKind::Invalid => StatusCode::BAD_REQUEST,
        kind => kind.status(),
    }
}

/// An error in the form of IoTFlow, with its Content-Type.
pub(super) fn error_answer(
    problem: &Problem,
    request_id: &str,
    path: &str,
) -> (HeaderValue, String) {
    let extra = problem.extra();
    let heading = extra.heading.unwrap_or_else(|| heading(problem, path));
    let mut body = Map::new();
    body.insert("error".to_owned(), heading.into());
    body.insert("message".to_owned(), problem.detail().into());
    for (name, value) in &extra.members {
        body.insert((*name).to_owned(), value.clone());
    }
    let timestamp = Moment::now().to_string();
    body.insert("timestamp".to_owned(), timestamp.into());
    body.insert("path".to_owned(), path.into());
    body.insert("request_id".to_owned(), request_id.into());
    let content_type = HeaderValue::from_static("application/json");
    (content_type, Value::Object(body).to_string())
}

/// What is wrong, in the words of the system, where there is nothing more exact.
fn heading(problem: &Problem, path: &str) -> &'static str {
    match problem.kind() {
        ProblemKind::BadRequest => "Bad Request",
        ProblemKind::Invalid => "Validation Error",
        ProblemKind::Unauthenticated if path.starts_with("/api/v1/admin") => "Admin token required",
        ProblemKind::Unauthenticated => "Authentication Error",
        ProblemKind::Forbidden => "Authorization Error",
        ProblemKind::NotFound | ProblemKind::NoSubscriber => "Not Found",
        ProblemKind::MethodNotAllowed => "Method Not Allowed",
        ProblemKind::Timeout => "Request Timeout",
        ProblemKind::Conflict => "Conflict",
        ProblemKind::PreconditionFailed => "Precondition Failed",
        ProblemKind::RangeNotSatisfiable => "Range Not Satisfiable",
        ProblemKind::TooLarge => "Payload Too Large",
        ProblemKind::UriTooLong => "URI Too Long",
        ProblemKind::UnsupportedMediaType => "Unsupported Media Type",
        ProblemKind::Misdirected => "Misdirected Request",
        ProblemKind::PreconditionRequired => "Precondition Required",
        ProblemKind::RateLimited => "Rate limit exceeded",
        ProblemKind::HeadersTooLarge => "Request Header Fields Too Large",
        ProblemKind::Internal => "Internal Server Error",
        ProblemKind::Unavailable => "Service Unavailable",
        ProblemKind::NoAnswer | ProblemKind::NoResponse => "Gateway Timeout",
    }
}
