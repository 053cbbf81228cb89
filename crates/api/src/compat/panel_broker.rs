//! The routes of the MQTT panel and its broker: the statistics at `GET /`, with the names of its
//! library, Mochi, and `POST /api/mqtt/auth`, where a broker checks the credentials of a client.

mod authentication;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use martlet_control::principal::Scope;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub(super) use authentication::error_answer;

use super::routes::CompatRoutes;
use crate::access::Access::{Scoped, ScopedOrLocal};
use crate::access::Audited;
use crate::api::Api;
use crate::compat::time::Moment;
use crate::docs;
use crate::guard::guarded;
use crate::problem::Problem;

pub(super) fn add_to(routes: CompatRoutes) -> CompatRoutes {
    let check = ScopedOrLocal(Scope::AuthCheck);
    let read = Scoped(Scope::NodeRead);
    routes
        .add(
            check,
            Audited::Nowhere,
            routes!(authentication::authenticate),
        )
        .add_behind(read, routes!(statistics), |api, methods| {
            for_programs(guarded(api, read, Audited::Here, methods))
        })
}

/// An answer for programs: browsers are led to the pages.
pub(super) fn for_programs(methods: MethodRouter<Api>) -> MethodRouter<Api> {
    methods.layer(from_fn(lead_browsers))
}

/// Browsers are led to the pages.
async fn lead_browsers(request: Request, next: Next) -> Response {
    let mut answer = match accepts_html(request.headers()) {
        true => docs::root().await.into_response(),
        false => next.run(request).await,
    };
    let vary = HeaderValue::from_static("Accept");
    answer.headers_mut().append(header::VARY, vary);
    answer
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter();
    values.any(|value| {
        let kinds = value.to_str().unwrap_or_default().split(',');
        { kinds }.any(|kind| kind.split(';').next().map(str::trim) == Some("text/html"))
    })
}

/// System information, as Mochi calls it. Times are in seconds since the Unix epoch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = panel::Statistics)]
struct Statistics {
    /// Version of the node.
    version: &'static str,
    /// When the node was started.
    started: u64,
    /// The time now.
    time: u64,
    /// Seconds.
    uptime: u64,
    /// Bytes that clients have sent.
    bytes_received: u64,
    /// Bytes that were sent to clients.
    bytes_sent: u64,
    /// Clients that are connected.
    clients_connected: u64,
    /// Sessions of clients that are not connected.
    clients_disconnected: u64,
    /// Most clients that were connected at once.
    clients_maximum: u64,
    /// Sessions.
    clients_total: u64,
    /// PUBLISH packets that clients have sent.
    messages_received: u64,
    /// PUBLISH packets that were sent to clients.
    messages_sent: u64,
    /// Messages that were dropped.
    messages_dropped: u64,
    /// Retained messages.
    retained: u64,
    /// Messages that are held for clients: queued or in flight.
    inflight: u64,
    /// How many of those have expired.
    inflight_dropped: u64,
    /// Subscriptions.
    subscriptions: u64,
    /// Packets that clients have sent.
    packets_received: u64,
    /// Packets that were sent to clients.
    packets_sent: u64,
    /// Bytes that count against `limits.memory_bytes`.
    memory_alloc: u64,
    /// Processors that the node may use.
    threads: u64,
}

/// Statistics of the broker
///
/// With the names of Mochi.
#[utoipa::path(get, path = "/",
    responses(
        (status = 200, description = "The statistics", body = Statistics),
        (status = 307, description = "A browser is led to the pages")))]
async fn statistics(State(api): State<Api>) -> Result<Json<Statistics>, Problem> {
    let control = &api.control;
    let counters = control.snapshot().await?;
    let time = Moment::now().as_ms() / 1000;
    let time = u64::try_from(time).unwrap_or(0);
    let uptime = control.uptime().as_secs();
    let threads = std::thread::available_parallelism();
    Ok(Json(Statistics {
        version: control.info.version,
        started: time.saturating_sub(uptime),
        time,
        uptime,
        bytes_received: counters.bytes_received,
        bytes_sent: counters.bytes_sent,
        clients_connected: counters.connections,
        clients_disconnected: counters.sessions.saturating_sub(counters.connections),
        clients_maximum: control.clients_maximum(),
        clients_total: counters.sessions,
        messages_received: counters.publishes_received,
        messages_sent: counters.publishes_sent,
        messages_dropped: counters.lost_total(),
        retained: counters.retained_messages,
        inflight: counters.held,
        inflight_dropped: counters.expired,
        subscriptions: counters.subscriptions,
        packets_received: counters.packets_received,
        packets_sent: counters.packets_sent,
        memory_alloc: control.memory_report(&counters).used,
        threads: threads.map_or(1, |threads| threads.get() as u64),
    }))
}
