//! Telemetry by HTTP: values are stored, read, followed and deleted.
//!
//! * `ingest`: devices and others send values
//! * `device`: values of one device
//! * `query`: values of many devices
//! * `aggregate`: what is calculated of them in buckets
//! * `export`: rows as CSV, lines of JSON and line protocol, as they are read
//! * `tail`: values as they are stored
//! * `rejected`: payloads that were not stored
//! * `times`: times and spans in queries
//! * `view`: values as they are answered

mod aggregate;
mod device;
mod export;
mod ingest;
mod query;
mod rejected;
mod tail;
mod times;
mod view;

use std::sync::Arc;

use martlet_control::devices::DeviceName;
use martlet_control::principal::Scope::{TelemetryRead, TelemetryWrite};
use martlet_control::telemetry::{StorageError, StoreError, Telemetry};
use martlet_registry::Device;
use utoipa_axum::routes;

use crate::access::Access::{Scoped, ScopedOrOfDevice};
use crate::api::Api;
use crate::extensions::OwnDevice;
use crate::problem::{Problem, ProblemKind};
use crate::registry::Asking;
use crate::route_list::Routes;

pub(crate) use aggregate::bucket_of;
use times::Span;
pub(crate) use times::time_of;
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

/// The telemetry of the node.
///
/// # Errors
/// It is off.
pub(crate) fn telemetry_of(api: &Api) -> Result<&Arc<Telemetry>, Problem> {
    api.control.telemetry().ok_or_else(|| {
        Problem::conflict(
            "the node stores no telemetry: set telemetry.enabled = true and start it again"
                .to_owned(),
        )
    })
}

/// The device of this id that the caller sees; a device sees itself alone.
///
/// # Errors
/// There is none, or it is another one.
async fn device_of(
    api: &Api,
    asking: &Asking,
    own: Option<&OwnDevice>,
    id: &str,
) -> Result<Device, Problem> {
    match own {
        Some(OwnDevice(device)) if device.id == id => Ok((**device).clone()),
        Some(_) => {
            let detail = "a device sends and reads its own telemetry alone";
            Err(Problem::new(ProblemKind::Forbidden, detail))
        }
        None => {
            let (devices, name) = (api.devices()?, DeviceName::Id(id.to_owned()));
            Ok(devices.read(asking.scope(), name).await?)
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Rejected(rejection) => {
                let detail = format!("nothing of the body is stored: {rejection}");
                Self::new(ProblemKind::Invalid, detail)
            }
            StoreError::Refused { .. } => {
                let detail = format!("not all values of the body are stored: {error}");
                Self::new(ProblemKind::Invalid, detail)
            }
            StoreError::Storage(error) => error.into(),
            StoreError::Tables(error) => error.into(),
            StoreError::Rules(_) => Self::unavailable(error.to_string()),
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Query(why) => Self::bad_request(why),
            // What the database says may have its address in it: the log has that.
            error => {
                tracing::warn!(%error, "telemetry cannot be stored or read");
                let detail = "telemetry cannot be stored or read now: GET /api/v1/health (martlet \
                              health) and the node's log say why";
                Self::unavailable(detail.to_owned())
            }
        }
    }
}
