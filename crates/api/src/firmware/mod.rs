//! Firmware for devices, and rollouts of it.
//!
//! * `artefacts`: versions of firmware: added, listed, deleted
//! * `file`: the file of a version, in ranges
//! * `of_node`: the firmware and the rollouts of the node
//! * `rollouts`: rollouts and their devices

mod artefacts;
mod file;
mod of_node;
mod rollouts;

use martlet_control::firmware::FirmwareError;
use martlet_control::principal::Scope::{DevicesRead, DevicesWrite};
use utoipa_axum::routes;

use crate::access::Access::{Scoped, ScopedOrOfDevice};
use crate::problem::{Problem, ProblemKind};
use crate::route_list::Routes;

/// Adds these routes to the others.
pub(crate) fn add_to(routes: Routes) -> Routes {
    routes
        .add_of_tables(Scoped(DevicesRead), routes!(artefacts::list))
        .add_of_tables(Scoped(DevicesWrite), routes!(artefacts::add))
        .add_of_tables(Scoped(DevicesRead), routes!(artefacts::show))
        .add_of_tables(Scoped(DevicesWrite), routes!(artefacts::remove))
        .add(ScopedOrOfDevice(DevicesRead), routes!(file::file))
        .add_of_tables(Scoped(DevicesRead), routes!(rollouts::list))
        .add_of_tables(Scoped(DevicesWrite), routes!(rollouts::start))
        .add_of_tables(Scoped(DevicesRead), routes!(rollouts::show))
        .add_of_tables(Scoped(DevicesRead), routes!(rollouts::devices))
        .add_of_tables(Scoped(DevicesWrite), routes!(rollouts::pause))
        .add_of_tables(Scoped(DevicesWrite), routes!(rollouts::resume))
        .add_of_tables(Scoped(DevicesWrite), routes!(rollouts::abort))
        .add_of_tables(Scoped(DevicesWrite), routes!(rollouts::retry))
}

impl From<FirmwareError> for Problem {
    fn from(error: FirmwareError) -> Self {
        let kind = match error {
            FirmwareError::SharedRegistry(error) => return error.into(),
            FirmwareError::Invalid(_) => ProblemKind::Invalid,
            FirmwareError::TooLarge(_) => ProblemKind::TooLarge,
            FirmwareError::NoRoom(_) => ProblemKind::Conflict,
            FirmwareError::Busy(_) => ProblemKind::Unavailable,
            FirmwareError::NoFile(_) => ProblemKind::NotFound,
            FirmwareError::File { .. } => {
                tracing::error!(%error, "a file of firmware cannot be used");
                ProblemKind::Unavailable
            }
        };
        Self::new(kind, error.to_string())
    }
}
