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
use martlet_control::principal::Scope;
use serde_json::{Map, Value};
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use super::panel_broker::for_programs;
use super::routes::CompatRoutes;
use crate::access::Access::{OfDevice, Open, Scoped, ScopedOrOfDevice};
use crate::access::{Access, Audited};
use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::guard::guarded;
use crate::problem::{Problem, ProblemKind};
use limits::Limit;

pub(super) fn add_to(routes: CompatRoutes) -> CompatRoutes {
    let routes = add_admin(add_mqtt(add_devices(routes)));
    let read = Scoped(Scope::NodeRead);
    add_telemetry(routes)
        // Its state is for callers with a scope: `brief_to_others`.
        .add_behind(Open, routes!(system::health), system::brief_to_others)
        .add(read, Audited::Here, routes!(system::status))
        .add_behind(Open, routes!(system::root), |_, methods| {
            for_programs(methods)
        })
}

/// Adds a route with a limit of its own.
fn add_limited(
    routes: CompatRoutes,
    limit: Limit,
    access: Access,
    audited: Audited,
    route: UtoipaMethodRouter<Api>,
) -> CompatRoutes {
    routes.add_behind(access, route, |api, methods| {
        guarded(api, access, audited, limits::limited(api, limit, methods))
    })
}

fn add_telemetry(routes: CompatRoutes) -> CompatRoutes {
    use Audited::{Here, Nowhere};
    let read = ScopedOrOfDevice(Scope::TelemetryRead);
    let write = ScopedOrOfDevice(Scope::TelemetryWrite);
    let limit = Limit::Telemetry;
    let send = routes!(telemetry::send_own);
    let routes = add_limited(routes, limit, OfDevice, Nowhere, send);
    let send = routes!(telemetry::send);
    let routes = add_limited(routes, limit, OfDevice, Nowhere, send);
    let of_devices = [
        (OfDevice, Here, routes!(telemetry::own)),
        (write, Nowhere, routes!(telemetry::publish)),
        (read, Here, routes!(telemetry::status)),
        (read, Here, routes!(telemetry::of_user)),
        (read, Here, routes!(telemetry::page_of_device)),
        (read, Here, routes!(telemetry::aggregated_of_device)),
        (read, Here, routes!(telemetry::of_device)),
        (write, Here, routes!(telemetry::delete)),
        (read, Here, routes!(telemetry::latest)),
        (read, Here, routes!(telemetry::aggregated)),
    ];
    add_of_devices(routes, of_devices)
}

/// Adds routes for devices, which have the limit of all requests of a device.
fn add_of_devices(
    routes: CompatRoutes,
    of_devices: impl IntoIterator<Item = (Access, Audited, UtoipaMethodRouter<Api>)>,
) -> CompatRoutes {
    let mut routes = routes;
    for (access, audited, route) in of_devices {
        routes = add_limited(routes, Limit::Requests, access, audited, route);
    }
    routes
}

fn add_devices(routes: CompatRoutes) -> CompatRoutes {
    use Audited::{Here, InTables};
    let read = Scope::DevicesRead;
    let control = Scoped(Scope::MessagesWrite);
    let answer = ScopedOrOfDevice(Scope::DevicesWrite);
    let (limit, access) = (Limit::Registrations, Scoped(Scope::DevicesWrite));
    let register = routes!(devices::register);
    let routes = add_limited(routes, limit, access, InTables, register);
    let heartbeat = routes!(devices::heartbeat);
    let routes = add_limited(routes, Limit::Heartbeats, OfDevice, InTables, heartbeat);
    let own = routes!(configuration::show, devices::change, configuration::set);
    let of_devices = [
        (OfDevice, InTables, routes!(devices::own_status)),
        (OfDevice, InTables, own),
        (OfDevice, InTables, routes!(devices::own_topics)),
        (OfDevice, InTables, routes!(devices::mqtt_credentials)),
        (ScopedOrOfDevice(read), InTables, routes!(devices::status)),
        (ScopedOrOfDevice(read), InTables, routes!(devices::summary)),
        (ScopedOrOfDevice(read), InTables, routes!(commands::pending)),
        (answer, Here, routes!(commands::answer)),
    ];
    add_of_devices(routes, of_devices)
        .add(Scoped(read), InTables, routes!(devices::statuses))
        .add(control, InTables, routes!(commands::control))
}

fn add_mqtt(routes: CompatRoutes) -> CompatRoutes {
    use Audited::{Here, InTables, Soon};
    let read = Scoped(Scope::NodeRead);
    let write = Scoped(Scope::MessagesWrite);
    routes
        .add(read, Here, routes!(mqtt::status))
        .add(write, Soon, routes!(mqtt::publish))
        .add(Scoped(Scope::ClientsWrite), Here, routes!(mqtt::subscribe))
        .add(read, Here, routes!(mqtt::metrics))
        .add(read, Here, routes!(topics::structure))
        .add(read, Here, routes!(topics::validate))
        .add(read, Here, routes!(topics::of_device))
        .add(write, InTables, routes!(commands::send))
        .add(write, InTables, routes!(commands::send_to_fleet))
}

fn add_admin(routes: CompatRoutes) -> CompatRoutes {
    use Audited::InTables;
    let read = Scoped(Scope::DevicesRead);
    let write = Scoped(Scope::DevicesWrite);
    routes
        .add(read, InTables, routes!(admin::list))
        .add(read, InTables, routes!(admin::show))
        .add(write, InTables, routes!(admin::change, admin::delete))
        .add(write, InTables, routes!(admin::set_status))
        .add(read, InTables, routes!(admin::statistics))
        .add(read, InTables, routes!(admin::dashboard))
        .add(
            Scoped(Scope::TelemetryRead),
            InTables,
            routes!(telemetry::of_all),
        )
        .add(read, InTables, routes!(admin::cache))
        .add(write, InTables, routes!(admin::clear_cache))
        .add(write, InTables, routes!(admin::clear_cache_of_device))
        .add(read, InTables, routes!(admin::synchronization))
        .add(write, InTables, routes!(admin::no_synchronization))
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
    let timestamp = MomentUs::now().to_string();
    body.insert("timestamp".to_owned(), timestamp.into());
    body.insert("path".to_owned(), path.into());
    body.insert("request_id".to_owned(), request_id.into());
    let content_type = HeaderValue::from_static("application/json");
    (content_type, Value::Object(body).to_string())
}

/// Heading of an error, in the words of the system, where there is nothing more exact.
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
