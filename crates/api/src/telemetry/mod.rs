//! Telemetry by HTTP: values are stored, read, followed and deleted.
//!
//! * `ingest`: devices and others send values
//! * `device`: values of one device
//! * `query`: values of many devices
//! * `aggregate`: what is calculated of them in buckets
//! * `export`: rows as CSV, lines of JSON and line protocol, as they are read
//! * `of_node`: the telemetry of the node, and the device that a request is about
//! * `tail`: values as they are stored
//! * `rejected`: payloads that were not stored
//! * `times`: times and spans in queries
//! * `view`: values as they are answered

mod aggregate;
mod device;
mod export;
mod ingest;
mod of_node;
mod query;
mod rejected;
mod tail;
pub(crate) mod times;
mod view;

use martlet_control::principal::Scope::{TelemetryRead, TelemetryWrite};
use martlet_control::telemetry::{StorageError, StoreError};
use utoipa_axum::routes;

use crate::access::Access::{Scoped, ScopedOrOfDevice};
use crate::problem::{Problem, ProblemKind};
use crate::route_list::Routes;

pub(crate) use aggregate::bucket_of;
pub(crate) use ingest::{is_lines, read_payload};
pub(crate) use of_node::telemetry_of;
pub(crate) use times::{time_of, with_plus};
pub(crate) use view::json_of;

/// Adds these routes to the others.
pub(crate) fn add_to(routes: Routes) -> Routes {
    routes
        .add_unaudited(ScopedOrOfDevice(TelemetryWrite), routes!(ingest::store))
        .add(ScopedOrOfDevice(TelemetryRead), routes!(device::range))
        .add(Scoped(TelemetryWrite), routes!(device::delete))
        .add(ScopedOrOfDevice(TelemetryRead), routes!(device::latest))
        .add(ScopedOrOfDevice(TelemetryRead), routes!(device::keys))
        .add(Scoped(TelemetryRead), routes!(query::query))
        .add(Scoped(TelemetryRead), routes!(tail::tail))
        .add(Scoped(TelemetryRead), routes!(rejected::list))
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Rejected(rejection) => {
                let detail = format!("nothing of the body is stored: {rejection}");
                let problem = Self::new(ProblemKind::Invalid, detail);
                match rejection.pointer() {
                    Some(pointer) => problem.of_field(&pointer, rejection.to_string()),
                    None => problem,
                }
            }
            StoreError::Refused { ref place, .. } => {
                let detail = format!("nothing of the body is stored: {error}");
                let problem = Self::new(ProblemKind::Invalid, detail);
                match place {
                    Some(place) => problem.of_field(place.pointer(), error.to_string()),
                    None => problem,
                }
            }
            StoreError::Storage(error) => error.into(),
            StoreError::SharedRegistry(error) => error.into(),
            StoreError::Rules(_) => Self::unavailable(error.to_string()),
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Query(why) => Self::bad_request(why),
            StorageError::Memory => Self::unavailable(error.to_string()),
            // The error of the database may have its address in it, so it is only logged.
            error => {
                tracing::warn!(%error, "telemetry cannot be stored or read");
                let detail = "telemetry cannot be stored or read now: martlet health and the \
                              node's log show why";
                Self::unavailable(detail.to_owned())
            }
        }
    }
}
