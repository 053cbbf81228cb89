//! HTTP. A handler is: parse, one call into `control`, answer.
//!
//! Two doors: the TCP listener, open for whoever reaches it, with health and metrics only; and
//! `admin.sock`, whose file mode (0600) is its lock, with what operators need besides. The crate
//! knows no SQL and nothing of the broker's inside.
#![forbid(unsafe_code)]

mod admin;
mod backup;
mod events;
mod explain;
mod health;
mod problem;
mod why;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use martlet_control::Control;

pub use admin::{ClientList, ClientView, Status, UseView};

/// The routes of the TCP listener.
pub fn public_routes(control: Arc<Control>) -> Router {
    common_routes()
        .fallback(problem::not_found)
        .with_state(control)
}

/// The routes of `admin.sock`.
pub fn admin_routes(control: Arc<Control>) -> Router {
    common_routes()
        .route("/api/v1/status", get(admin::status))
        .route("/api/v1/clients", get(admin::clients))
        .route("/api/v1/traffic", get(admin::traffic))
        .route("/api/v1/acl/explain", get(explain::explain))
        .route("/api/v1/why", get(why::why))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/backup", get(backup::backup))
        .route("/api/v1/shutdown", post(admin::shutdown))
        .route("/api/v1/reload", post(admin::reload))
        .fallback(problem::not_found)
        .with_state(control)
}

fn common_routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
}
