//! What a new device logs in with.

use crate::secret::Secret;

/// What a new device logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSecret {
    /// It is made up, and shown once.
    MadeUp,
    /// As [`DeviceSecret::MadeUp`], with this many letters and digits, at least 16.
    OfLength(usize),
    /// It has it from elsewhere, and no other device has it: by HTTP a device is found by it.
    Given(Secret),
    /// It has it from elsewhere, and others may have it too, as in systems where it is only the
    /// password of a user name.
    Shared(Secret),
    /// Nothing yet.
    None,
}
