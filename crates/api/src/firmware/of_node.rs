//! The firmware and the rollouts of the node.

use std::sync::Arc;

use martlet_control::firmware::FirmwareStore;
use martlet_control::rollouts::Rollouts;

use crate::api::Api;
use crate::problem::Problem;

/// The firmware of the node.
///
/// # Errors
/// The node keeps none.
pub(super) fn firmware_of(api: &Api) -> Result<&Arc<FirmwareStore>, Problem> {
    let firmware = api.firmware();
    firmware.ok_or_else(|| Problem::unavailable("this node keeps no firmware".to_owned()))
}

/// The rollouts of the node.
///
/// # Errors
/// The node keeps none.
pub(super) fn rollouts_of(api: &Api) -> Result<&Arc<Rollouts>, Problem> {
    let rollouts = api.rollouts();
    rollouts.ok_or_else(|| Problem::unavailable("this node keeps no rollouts".to_owned()))
}
