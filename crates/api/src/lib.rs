//! HTTP. A handler is: parse, one call into `control`, answer.
//!
//! Two kinds of listener serve the same routes: listeners on TCP, where a caller presents a key or
//! a session, and `admin.sock`, which its file mode (0600) protects. The crate knows no SQL and
//! nothing of the broker's inside, and opens no socket: the server that does gives each request its
//! [`HttpConnection`].
//!
//! # The way of a request
//!
//! `frame` (its number, bounds, the Host) → `guard` of its route (`caller`: authentication;
//! `origin`; the scope; `rate`; `idempotency`) → the handler → `guard` (audit) → `frame` (problems,
//! headers, the log).
//!
//! Beside the handlers: `extract`, [`page`], [`etag`] and [`time`] are for what handlers take and
//! give; `extensions` for facts of a request that the layers around them share. What is kept
//! between requests is in `api`, which imports no route.
#![forbid(unsafe_code)]
#![allow(
    unused_qualifications,
    reason = "what utoipa's attribute makes of `params(…)` is qualified"
)]

mod access;
mod added;
mod admin;
mod alarms;
mod api;
mod backup;
mod body;
mod bridges;
mod caller;
mod client_ids;
mod clients;
mod compat;
mod compressed;
mod connection;
mod counts;
mod docs;
mod document_page;
pub mod etag;
mod event_archive;
mod events;
mod explain;
mod extensions;
pub mod extract;
mod firmware;
mod forwarded;
mod frame;
mod guard;
mod health;
mod history;
mod idempotency;
mod integrations;
mod keys;
mod lockouts;
mod logs;
mod mqtt_session;
mod name_list;
mod node_setup;
mod openapi;
mod origin;
mod output;
pub mod page;
mod payload;
pub mod problem;
mod publish;
mod range;
mod rate;
mod rate_limit;
mod refused_requests;
mod registry;
mod request;
mod retained;
mod route_list;
mod routes;
mod rules;
mod secret;
mod secrets;
mod session;
mod settings;
mod setup;
mod shown_once;
mod streamed;
mod subscriptions;
mod telemetry;
mod tenant;
pub mod time;
mod topics;
mod traces;
mod unrouted;
mod webhooks;
mod why;
mod wording;
mod words;

pub use admin::{Status, UseView};
pub use api::{Api, NodeParts};
pub use clients::{
    ClientDetailView, ClientView, ConnectionView, DropView, InFlightView, QueuedView, WillView,
};
pub use compat::microservice::webhooks::{MicroserviceIntegration, microservice_webhook};
pub use compat::system::CompatApi;
pub use connection::{HttpConnection, ListenerKind};
pub use frame::{is_probe, no_slot};
pub use history::{HistoryView, SeriesView};
pub use integrations::{
    DeadLetterView, DroppedLetters, FailureView, IntegrationTested, IntegrationView, LastErrorView,
    SendingAgain, WholeDeadLetterView,
};
pub use keys::ApiKey;
pub use lockouts::LockoutView;
pub use page::Items;
pub use publish::UserProperty;
pub use registry::ShareView;
pub use retained::{Deleted, RetainedView};
pub use routes::router;
pub use settings::{RouteSettings, Settings};
pub use setup::token::UNCLAIMED;
pub use subscriptions::SubscriptionView;
pub use topics::{RememberedView, TopicView};
pub use traces::{TraceView, TracesView};
pub use why::odd_name;
