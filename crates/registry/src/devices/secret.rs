//! Secret that a new device logs in with.

use crate::secret::Secret;

/// Secret that a new device logs in with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceSecret {
    /// A secret that is made up, and shown once.
    #[default]
    MadeUp,
    /// As [`DeviceSecret::MadeUp`], with this many letters and digits, at least 16.
    OfLength(usize),
    /// A secret from elsewhere that no other device has: by HTTP a device is found by it.
    Given(Secret),
    /// A secret from elsewhere that others may have too, as in systems where it is only the
    /// password of a user name.
    Shared(Secret),
    /// Nothing yet.
    None,
}

impl<'de> serde::Deserialize<'de> for DeviceSecret {
    /// Reads a secret from elsewhere, which is checked when the device is added; null: one is made
    /// up.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map_or(Self::MadeUp, |text| Self::Given(Secret::unchecked(text))))
    }
}
