//! Names of a device.

use martlet_registry::DeviceRef;

/// Name of a device: its id or its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// Id of the device, within the team that is asked for or else the common tenant.
    Id(String),
    /// Number of the device.
    Number(i64),
}

impl DeviceName {
    pub(crate) fn of(&self) -> DeviceRef<'_> {
        match self {
            Self::Id(id) => DeviceRef::Id(id),
            Self::Number(number) => DeviceRef::Number(*number),
        }
    }
}

impl From<String> for DeviceName {
    fn from(id: String) -> Self {
        Self::Id(id)
    }
}
