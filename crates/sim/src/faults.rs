//! The broker's deliberate faults, as the simulator switches them: nothing without the feature.

use martlet_broker::fault::Fault;

/// Whether a fault is in force on this thread.
#[cfg(feature = "faults")]
pub fn is(fault: Fault) -> bool {
    martlet_broker::fault::is(fault)
}

/// Puts a fault in force on this thread, or none.
#[cfg(feature = "faults")]
pub fn set(fault: Option<Fault>) {
    martlet_broker::fault::set(fault);
}

/// Whether a fault is in force on this thread.
#[cfg(not(feature = "faults"))]
pub const fn is(_fault: Fault) -> bool {
    false
}
