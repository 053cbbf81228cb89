//! The fields of devices. Each is declared once, in the list of this file.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::checks::{
    check_description, check_kind, check_location, check_name, check_owner, check_version,
};
use super::secret::DeviceSecret;
use super::status::Status;
use crate::object::{self, Field, Object as _, Use, object, unchecked, word_type};
use crate::presence::Presence;
use crate::sql::{Fault, Sql};
use crate::{DEVICE_TYPE, ObjectName, RegistryError};

object! {
    /// A device.
    Device in "devices";
    /// A device to be added.
    #[derive(Default)]
    new NewDevice {
        /// Client Identifier and user name; 16 characters of base32 are generated if none is given.
        /// Digits alone must be the number that the device gets.
        #[schema(example = "pump-7", max_length = 128)]
        id: Option<String>;
        /// A number that it had elsewhere, higher than all that were taken here; none: the next
        /// one.
        #[serde(skip)]
        number: Option<i64>;
        /// A secret that it has already, of 16 random characters or more. Without one it is
        /// generated.
        #[serde(default)]
        #[schema(value_type = Option<String>, format = Password, max_length = 512)]
        secret: DeviceSecret;
        /// `false`: it is given no secret, as where it comes with a certificate.
        with_secret: Option<bool>;
    }
    kept {
        /// Client Identifier of the device, unique in its tenant.
        @[schema(example = "pump-7")]
        id ("id"): String, [Exported, Searched];
        /// Unique among all devices that there ever were.
        number ("number"): i64, [];
        /// Tenant of the device; 0 is shared by all teams that own none.
        @[serde(skip)]
        tenant ("tenant"): u32, [Changed];
        /// Raised with every change; the `ETag` is made of it.
        revision ("revision"): i64, [Changed];
    }
    times {
        /// When it was added.
        created_ms as "created_at", [];
        /// When it was last changed.
        updated_ms as "updated_at", [Changed];
        /// When it was last connected or active; for a connected device, now. Null: never.
        last_seen_ms as "last_seen_at", [];
        /// When it last sent a message, to half a minute or so; null: never.
        last_message_ms as "last_message_at", [];
        /// When it last sent a heartbeat; null: never.
        last_heartbeat_ms as "last_heartbeat_at", [];
        /// When it last sent telemetry; null: never.
        last_telemetry_ms as "last_telemetry_at", [];
        /// When it, or its Will, last said that it is offline; null: never.
        said_offline_ms as "said_offline_at", [];
        /// Since when it is inactive: it has sent nothing for longer than its type permits. Null:
        /// it is not.
        inactive_since_ms as "inactive_since", [];
        /// When it was deleted; null: it is not deleted.
        deleted_ms as "deleted_at", [];
    }
    derived {
        /// The User Name that it connects with: its id, and where its team owns a tenant `ID@TEAM`.
        @[schema(example = "pump-7")]
        user_name: String = "COALESCE((SELECT devices.id || '@' || teams.name FROM teams WHERE \
                             teams.id = devices.team AND teams.tenant > 0), devices.id)";
    }
    filled {
        /// Number of its credentials that are valid now.
        credentials: usize;
        /// Whether it is connected, as far as that is written; none: it never was.
        @[serde(skip)]
        presence: Option<Presence>;
    }
    /// Changes of a device; fields that are not named stay.
    change DeviceChange set {
        /// Name of the device, for people. A new device without a name has its id as its name.
        name ("name"): String, new Option<String>,
            check check_name, [Audited, Searched];
        /// Type of the device, which decides which topics it may use. Default: `device`.
        @[serde(rename = "type")]
        device_type ("type"): String, new #[serde(default = "device_type")] String,
            check unchecked, [Audited];
        /// Kind of the device, in the words of its owner: up to 256 bytes.
        @[schema(example = "temperature sensor", max_length = 256)]
        kind ("kind"): String, new #[serde(default)] String,
            check check_kind, [Audited];
        /// `active` (the default), `inactive` or `maintenance`. Only active devices are accepted;
        /// the connection of another one ends.
        status ("status"): Status, new #[serde(default)] Status,
            check unchecked, [];
        /// Description, for people.
        description ("description"): String, new #[serde(default)] String,
            check check_description, [Searched];
        /// Location of the device.
        location ("location"): String, new #[serde(default)] String,
            check check_location, [Searched];
        /// Version of its firmware.
        firmware_version ("firmware_version"): String, new #[serde(default)] String,
            check check_version, [];
        /// Version of its hardware.
        hardware_version ("hardware_version"): String, new #[serde(default)] String,
            check check_version, [];
        /// User who owns the device; "" is no user.
        owner ("owner"): String, new #[serde(default)] String,
            check check_owner, [Audited];
        /// Id of its team; empty: no team. A request may name the team by its id or name. A device
        /// that changes its team leaves the groups of the old one. If one of the two has a tenant
        /// of its own, the connection and session of the device end, and its User Name changes; its
        /// credentials and configuration stay.
        team ("team"): String, new Option<String>,
            check unchecked, [];
    } lists {
        /// All of its tags, in their order.
        tags: Vec<String>;
        /// Ids of all of its groups, by the groups' names. A request may name a group by its id or
        /// name.
        groups: Vec<String>;
    }
}

word_type!(
    Status as "DeviceStatus",
    "`active` devices are accepted, `inactive` ones and those in `maintenance` are refused. \
     Default: `active`.",
    unknown | row: &AnyRow,
    word: &str | status_of(&row.try_get::<String, _>("id")?, word)
);

fn device_type() -> String {
    DEVICE_TYPE.to_owned()
}

/// The status that the table has of a device.
pub(crate) fn status_of(id: &str, word: &str) -> Result<Status, Fault> {
    Status::from_word(word).ok_or_else(|| {
        Fault::Told(RegistryError::Damaged {
            place: "the devices".to_owned(),
            what: format!("device {id}: {word:?} is not a valid status"),
        })
    })
}

/// The user name of a device: in the tenant of a team, its id with the team's name.
pub(super) fn user_name(id: &str, owning_team: Option<&str>) -> String {
    owning_team.map_or_else(|| id.to_owned(), |team| format!("{id}@{team}"))
}

impl NewDevice {
    /// A device with a generated id, and defaults for all else.
    pub fn unnamed() -> Self {
        Self {
            device_type: device_type(),
            ..Self::default()
        }
    }

    /// The device that this becomes. Its team and its groups are as they were given.
    pub(super) fn device(self, id: String, now_ms: i64) -> Device {
        let is_named = self.name.is_some();
        let mut device = Device::begun(self);
        if !is_named {
            device.name.clone_from(&id);
        }
        device.id = id;
        device.revision = 1;
        (device.created_ms, device.updated_ms) = (now_ms, now_ms);
        device
    }
}

/// `INSERT INTO devices … VALUES`, before the rows of [`push_row`].
pub(super) fn insert(sql: &mut Sql) {
    object::push_insert::<Device>(sql, ["search"]);
}

/// The values of a new device: `(…)`.
pub(super) fn push_row(sql: &mut Sql, device: &Device) {
    object::push_row(sql, device, [search_text(device)]);
}

/// `UPDATE devices SET …`, with all that a change writes.
pub(super) fn update(sql: &mut Sql, device: &Device) {
    object::push_update(sql, device);
    sql.push(", search = ").bind(search_text(device));
    sql.push(" WHERE number = ").bind(device.number);
}

/// The text in which a search looks.
fn search_text(device: &Device) -> String {
    let searched = Device::FIELDS
        .iter()
        .filter(|field| field.is(Use::Searched));
    let texts: Vec<_> = searched.map(|field| field.text(device)).collect();
    texts.join("\n").to_lowercase()
}

/// The details of a new device in the audit log.
pub(super) fn details_of_new(device: &Device) -> Map<String, Value> {
    let mut details = object::details_of_new(device);
    if device.name == device.id {
        // No name was given.
        details.remove("name");
    }
    details
}

/// The details of a change in the audit log: for each field `[before, after]`.
pub(super) fn details_of_change(old: &Device, new: &Device) -> Map<String, Value> {
    let mut changed = object::details_of_change(old, new);
    for (name, before, after) in [
        ("tags", &old.tags, &new.tags),
        ("groups", &old.groups, &new.groups),
    ] {
        if before != after {
            changed.insert(name.to_owned(), json!([before, after]));
        }
    }
    changed
}

/// A value of a device in an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportedValue<'d> {
    /// A text.
    Text(Cow<'d, str>),
    /// Several texts.
    List(&'d [String]),
}

fn exported() -> impl Iterator<Item = &'static Field<Device>> {
    Device::FIELDS
        .iter()
        .filter(|field| field.is(Use::Exported))
}

impl Device {
    /// The device as remedies name it.
    pub fn object_name(&self) -> ObjectName {
        let of_team = self.user_name.strip_prefix(&*self.id);
        ObjectName {
            name: self.id.clone(),
            team: of_team
                .and_then(|rest| rest.strip_prefix('@'))
                .map(str::to_owned),
        }
    }

    /// Names of the columns of exports and imports, in the order of [`Device::exported_values`].
    pub fn exported_columns() -> Vec<&'static str> {
        let names = exported().map(|field| field.column);
        names.chain(["tags", "groups"]).collect()
    }

    /// The value of an export.
    pub fn exported_values(&self) -> Vec<ExportedValue<'_>> {
        let texts = exported().map(|field| ExportedValue::Text(field.text(self)));
        let lists = [&self.tags, &self.groups].map(|list| ExportedValue::List(list));
        texts.chain(lists).collect()
    }
}

/// Names of all columns.
#[cfg(test)]
pub(crate) fn names() -> Vec<&'static str> {
    Device::FIELDS.iter().map(|field| field.column).collect()
}
