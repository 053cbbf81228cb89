//! What a new device logs in with.

use crate::secret::Secret;

/// What a new device logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSecret {
    /// It is made up, and shown once.
    MadeUp,
    /// As [`DeviceSecret::MadeUp`], with this many letters and digits, at least 16.
    OfLength(usize),
    /// It has it from elsewhere.
    Given(Secret),
    /// Nothing yet.
    None,
}
