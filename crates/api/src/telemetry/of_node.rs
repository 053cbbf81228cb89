//! The telemetry of the node, and the device that a request is about.

use std::sync::Arc;
use std::time::Duration;

use martlet_control::callers::Caller;
use martlet_control::devices::DeviceName;
use martlet_control::shared_slots::SharedSlot;
use martlet_control::telemetry::{QueryMemory, Telemetry};
use martlet_control::use_cases::FindDevice;
use martlet_registry::Device;

use crate::api::Api;
use crate::extensions::OwnDevice;
use crate::problem::{Problem, ProblemKind};

/// The telemetry of the node.
///
/// # Errors
/// It is off.
pub(crate) fn telemetry_of(api: &Api) -> Result<&Telemetry, Problem> {
    api.telemetry().ok_or_else(|| {
        Problem::conflict(
            "the node stores no telemetry: set telemetry.enabled = true and start it again"
                .to_owned(),
        )
    })
}

/// Longest time that a query waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(30);

/// Waits for the turn of a query. One team does not have all turns, so the queries of another one
/// do not wait for its own.
///
/// # Errors
/// Queries of the same caller's team take too long.
pub(crate) async fn turn(api: &Api, caller: &Caller) -> Result<SharedSlot, Problem> {
    let whose = caller.visibility();
    let turn = api.telemetry_queries.take(&whose, TURN_WITHIN);
    turn.await.ok_or_else(|| {
        let secs = TURN_WITHIN.as_secs();
        let detail = format!("other queries of telemetry took more than {secs} s: try again later");
        Problem::unavailable(detail)
    })
}

/// The device of this id that the caller sees; a device sees itself alone.
///
/// # Errors
/// There is none, or it is another one.
pub(super) async fn device_of(
    api: &Api,
    caller: &Caller,
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
            let device = DeviceName::Id(id.to_owned());
            api.run(caller.clone(), FindDevice { device }).await
        }
    }
}

/// The memory of what the queries of a caller find.
pub(crate) fn memory_of(api: &Api, caller: &Caller) -> Arc<dyn QueryMemory> {
    api.query_memory.of(caller.visibility())
}
