//! Devices: an id, which is Client Identifier and user name, a description, and a team. A deleted
//! device is hidden until it is restored. Its id stays in use until it is removed for good.
//!
//! * `fields`: the fields of a device, each declared once
//! * `find`: reading devices
//! * `add`, `change`, `delete`: what operators do with them
//! * `reported`: versions of firmware that devices report
//! * `checks`: which values a device may have
//! * `status`, `secret`: the status of a device, and the credential of a new one

mod add;
mod change;
mod checks;
mod delete;
mod fields;
mod find;
mod reported;
mod secret;
mod status;

use std::fmt;

pub(crate) use add::{insert_one, write_places};
pub(crate) use checks::expect_type;
pub use checks::is_device_id;
#[cfg(test)]
pub(crate) use fields::names as column_names;
pub(crate) use fields::status_of;
pub use fields::{Device, DeviceChange, ExportedValue, NewDevice};
pub(crate) use find::{fill, find_device};
pub(crate) use reported::note_version;
pub use reported::{FIRMWARE_VERSION, ReportedVersion, reported_version};
pub use secret::DeviceSecret;
pub use status::Status;

use crate::presence::Presence;
use crate::secret::Secret;
use crate::{Conflict, Exists, Refused, RegistryError};

impl Device {
    /// Whether the presence of the client with its id is of this device, and not of an earlier one.
    fn is_own(&self, presence: &Presence) -> bool {
        self.is_seen_by(presence.online, presence.last_seen_ms)
    }

    /// Whether a presence is of this device, by whether the client is connected and when it was
    /// last active, in milliseconds since the Unix epoch.
    pub fn is_seen_by(&self, online: bool, last_seen_ms: i64) -> bool {
        online || last_seen_ms >= self.created_ms
    }
}

/// The name of a device: its id, within the team that is asked for or else the common tenant, or
/// its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRef<'a> {
    /// Id of the device.
    Id(&'a str),
    /// Number of the device.
    Number(i64),
}

impl<'a> From<&'a str> for DeviceRef<'a> {
    fn from(id: &'a str) -> Self {
        Self::Id(id)
    }
}

impl From<i64> for DeviceRef<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for DeviceRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Number(number) => write!(f, "number {number}"),
        }
    }
}

impl NewDevice {
    /// One of this id, of which nothing else is known.
    pub fn new(id: &str) -> Self {
        Self {
            id: Some(id.to_owned()),
            ..Self::unnamed()
        }
    }

    /// The secret that it is given.
    fn own_secret(&self) -> DeviceSecret {
        match (&self.secret, self.with_secret) {
            (DeviceSecret::MadeUp, Some(false)) => DeviceSecret::None,
            (secret, _) => secret.clone(),
        }
    }
}

/// Handling of the others when one of many devices cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    /// None is added.
    AllOrNone,
    /// Devices that can be added are added.
    EachByItself,
}

/// A device that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedDevice {
    /// Number of the device.
    pub number: i64,
    /// Tenant of the device.
    pub tenant: u32,
    /// Id of the device.
    pub id: String,
    /// See [`Device::user_name`].
    pub user_name: String,
    /// Secret that was made up for it, if any was: shown this once.
    pub secret: Option<Secret>,
}

/// Result for one of many devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// The device is there.
    Added(AddedDevice),
    /// One of that id was there.
    Exists(Exists),
    /// Something about it cannot be.
    Refused(Refused),
    /// The device's owner, or the provisioning key, has too many.
    Conflict(Conflict),
    /// Nothing is wrong with it, but with others.
    NotDone,
}

impl RowOutcome {
    /// The device, or why it is none.
    pub(crate) fn added(self) -> Result<AddedDevice, RegistryError> {
        match self {
            Self::Added(added) => Ok(added),
            Self::Exists(why) => Err(why.into()),
            Self::Refused(why) => Err(why.into()),
            Self::Conflict(why) => Err(why.into()),
            Self::NotDone => Err(Refused::NotAdded.into()),
        }
    }
}
