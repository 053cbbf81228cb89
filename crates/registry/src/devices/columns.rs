//! The columns of the table `devices`. Each is declared once, in the list at the end of this file.
//! From the list follow the fields of [`Device`], [`NewDevice`] and [`DeviceChange`], all
//! statements that read or write whole devices, the audit log of changes, and the columns of
//! exports and imports.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::checks::{
    check_description, check_kind, check_location, check_name, check_new_id, check_owner,
    check_version, unchecked,
};
use super::secret::DeviceSecret;
use super::status::Status;
use crate::presence::Presence;
use crate::sql::{Fault, Sql};
use crate::{DEVICE_TYPE, ObjectName, RegistryError};

/// A column of the table `devices`.
pub(crate) struct Column {
    /// Name of the column in the table, in the audit log and in exports.
    name: &'static str,
    /// Operators set it and may change it. Then the audit log has its changes, and exports and
    /// imports have it.
    is_set_by_operators: bool,
    /// Other uses of the column.
    uses: &'static [Use],
    /// The field of a device that it keeps.
    value: fn(&Device) -> &dyn ColumnValue,
}

/// Use of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The column is written with each change of the device. Always so if operators set it.
    Changed,
    /// Exports and imports have it. Always so if operators set it.
    Exported,
    /// The audit log has it, unless it is empty, when the device is added.
    ToldWhenAdded,
    /// A search for a text looks into it.
    Searched,
}

impl Column {
    fn is(&self, column_use: Use) -> bool {
        let implied = matches!(column_use, Use::Changed | Use::Exported);
        self.uses.contains(&column_use) || implied && self.is_set_by_operators
    }

    fn text<'d>(&self, device: &'d Device) -> Cow<'d, str> {
        (self.value)(device).text()
    }
}

/// A value that a column can have.
trait ColumnValue {
    /// Reads the column `name` of a device.
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault>
    where
        Self: Sized;

    /// Binds the value to a statement.
    fn bind(&self, sql: &mut Sql);

    /// The value as the audit log and exports write it.
    fn text(&self) -> Cow<'_, str>;
}

impl ColumnValue for String {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        Ok(row.try_get(name)?)
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(self.clone());
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl ColumnValue for i64 {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        Ok(row.try_get(name)?)
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(*self);
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}

impl ColumnValue for u32 {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        let number: i64 = row.try_get(name)?;
        Ok(Self::try_from(number).unwrap_or(Self::MAX))
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(i64::from(*self));
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}

impl ColumnValue for Status {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        let id: String = row.try_get("id")?;
        status_of(&id, row.try_get(name)?)
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(self.word());
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.word())
    }
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

/// A value of a new device. Missing optional values are empty.
trait Given<T> {
    fn given(self) -> T;
}

impl<T> Given<T> for T {
    fn given(self) -> T {
        self
    }
}

impl Given<String> for Option<String> {
    fn given(self) -> String {
        self.unwrap_or_default()
    }
}

/// The user name of a device: in the tenant of a team, its id with the team's name.
pub(super) fn user_name(id: &str, owning_team: Option<&str>) -> String {
    owning_team.map_or_else(|| id.to_owned(), |team| format!("{id}@{team}"))
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
}

/// Makes the list of columns into the types and functions that follow from it.
macro_rules! columns {
    (
        set by the node {
            $(
                $(#[$node_doc:meta])*
                $node_field:ident ($node_name:literal): $node_type:ty,
                    check $node_check:expr, uses $node_uses:expr;
            )*
        }
        set by operators {
            $(
                $(#[$doc:meta])*
                $field:ident ($name:literal): $type:ty, new $new:ty,
                    check $check:expr, uses $uses:expr;
            )*
        }
    ) => {
        /// A device.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Device {
            $($(#[$node_doc])* pub $node_field: $node_type,)*
            /// The user name that it connects with: its id, and in the tenant of a team `ID@TEAM`.
            pub user_name: String,
            $($(#[$doc])* pub $field: $type,)*
            /// Tags of the device, in their order.
            pub tags: Vec<String>,
            /// Ids of its groups, by the groups' names.
            pub groups: Vec<String>,
            /// Number of its credentials that are valid now.
            pub credentials: usize,
            /// Whether it is connected, as far as that is written; none: it never was.
            pub presence: Option<Presence>,
        }

        /// A device to be added.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct NewDevice {
            /// Client Identifier and user name; none: it is generated.
            pub id: Option<String>,
            /// A number that it had elsewhere, higher than all that were taken here; none: the next
            /// one.
            pub number: Option<i64>,
            $($(#[$doc])* pub $field: $new,)*
            /// Tags of the device.
            pub tags: Vec<String>,
            /// Groups of the device, by id or name.
            pub groups: Vec<String>,
            /// Secret that it logs in with.
            pub secret: DeviceSecret,
        }

        /// A change of a device; what is none stays as it is.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct DeviceChange {
            $($(#[$doc])* pub $field: Option<$type>,)*
            /// All of its tags.
            pub tags: Option<Vec<String>>,
            /// All of its groups, by id or name.
            pub groups: Option<Vec<String>>,
        }

        static COLUMNS: &[Column] = &[
            $(Column {
                name: $node_name,
                is_set_by_operators: false,
                uses: $node_uses,
                value: |device| &device.$node_field,
            },)*
            $(Column {
                name: $name,
                is_set_by_operators: true,
                uses: $uses,
                value: |device| &device.$field,
            },)*
        ];

        /// Expressions that [`read_device`] reads: the columns, and the team that owns the device's
        /// tenant.
        pub(crate) const READ: &str = concat!(
            $($node_name, ", ",)*
            $($name, ", ",)*
            "(SELECT teams.name FROM teams WHERE teams.id = devices.team AND teams.tenant > 0) \
             AS owning_team"
        );

        /// A device without tags, groups, credentials and presence.
        pub(crate) fn read_device(row: &AnyRow) -> Result<Device, Fault> {
            let mut device = Device {
                $($node_field: ColumnValue::read(row, $node_name)?,)*
                $($field: ColumnValue::read(row, $name)?,)*
                user_name: String::new(),
                tags: Vec::new(),
                groups: Vec::new(),
                credentials: 0,
                presence: None,
            };
            let owning_team: Option<String> = row.try_get("owning_team")?;
            device.user_name = user_name(&device.id, owning_team.as_deref());
            Ok(device)
        }

        impl NewDevice {
            /// A device with a generated id, and defaults for all else.
            pub fn unnamed() -> Self {
                let mut new = Self {
                    id: None,
                    number: None,
                    $($field: Default::default(),)*
                    tags: Vec::new(),
                    groups: Vec::new(),
                    secret: DeviceSecret::MadeUp,
                };
                new.device_type = DEVICE_TYPE.to_owned();
                new
            }

            /// The device that this becomes. Its team and its groups are as they were given.
            pub(super) fn device(self, id: String, now_ms: i64) -> Device {
                let is_named = self.name.is_some();
                let mut device = Device {
                    $($node_field: Default::default(),)*
                    $($field: Given::given(self.$field),)*
                    user_name: String::new(),
                    tags: self.tags,
                    groups: self.groups,
                    credentials: 0,
                    presence: None,
                };
                if !is_named {
                    device.name.clone_from(&id);
                }
                device.id = id;
                device.revision = 1;
                (device.created_ms, device.updated_ms) = (now_ms, now_ms);
                device
            }
        }

        impl Device {
            /// Checks the values of all columns, each by itself.
            pub(super) fn check_values(&self) -> Result<(), RegistryError> {
                $(($node_check)(&self.$node_field)?;)*
                $(($check)(&self.$field)?;)*
                Ok(())
            }

            /// Sets the columns that a change names. Values that differ are checked, each by
            /// itself.
            pub(super) fn set_values(&mut self, change: DeviceChange) -> Result<(), RegistryError> {
                $(if let Some(value) = change.$field.filter(|value| *value != self.$field) {
                    ($check)(&value)?;
                    self.$field = value;
                })*
                Ok(())
            }
        }
    };
}

/// `INSERT INTO devices … VALUES`, before the rows of [`push_row`].
pub(super) fn insert(sql: &mut Sql) {
    sql.push("INSERT INTO devices (");
    for column in COLUMNS {
        sql.push(column.name).push(", ");
    }
    sql.push("search) VALUES ");
}

/// The values of a new device: `(…)`.
pub(super) fn push_row(sql: &mut Sql, device: &Device) {
    sql.push("(");
    for column in COLUMNS {
        (column.value)(device).bind(sql);
        sql.push(", ");
    }
    sql.bind(search_text(device)).push(")");
}

/// `UPDATE devices SET …`, with all that a change writes.
pub(super) fn update(sql: &mut Sql, device: &Device) {
    sql.push("UPDATE devices SET search = ");
    sql.bind(search_text(device));
    for column in COLUMNS.iter().filter(|column| column.is(Use::Changed)) {
        sql.push(", ").push(column.name).push(" = ");
        (column.value)(device).bind(sql);
    }
    sql.push(" WHERE number = ").bind(device.number);
}

/// The text in which a search looks.
fn search_text(device: &Device) -> String {
    let searched = COLUMNS.iter().filter(|column| column.is(Use::Searched));
    let texts: Vec<_> = searched.map(|column| column.text(device)).collect();
    texts.join("\n").to_lowercase()
}

/// The details of a new device in the audit log.
pub(super) fn details_of_new(device: &Device) -> Map<String, Value> {
    let details = COLUMNS
        .iter()
        .filter(|column| column.is(Use::ToldWhenAdded));
    let details = details.map(|column| (column.name.to_owned(), column.text(device)));
    let details = details.filter(|(_, text)| !text.is_empty());
    let mut details: Map<_, _> = details.map(|(name, text)| (name, json!(text))).collect();
    if device.name == device.id {
        // No name was given.
        details.remove("name");
    }
    details
}

/// The details of a change in the audit log: for each column `[before, after]`.
pub(super) fn details_of_change(old: &Device, new: &Device) -> Map<String, Value> {
    let mut changed = Map::new();
    for column in COLUMNS.iter().filter(|column| column.is_set_by_operators) {
        let (before, after) = (column.text(old), column.text(new));
        if before != after {
            changed.insert(column.name.to_owned(), json!([before, after]));
        }
    }
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

fn exported() -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(|column| column.is(Use::Exported))
}

impl Device {
    /// Names of the columns of exports and imports, in the order of [`Device::exported_values`].
    pub fn exported_columns() -> Vec<&'static str> {
        let names = exported().map(|column| column.name);
        names.chain(["tags", "groups"]).collect()
    }

    /// The value of an export.
    pub fn exported_values(&self) -> Vec<ExportedValue<'_>> {
        let texts = exported().map(|column| ExportedValue::Text(column.text(self)));
        let lists = [&self.tags, &self.groups].map(|list| ExportedValue::List(list));
        texts.chain(lists).collect()
    }
}

/// Names of all columns.
#[cfg(test)]
pub(crate) fn names() -> Vec<&'static str> {
    COLUMNS.iter().map(|column| column.name).collect()
}

// An entry: the field, its column in the table, its type, its type in `NewDevice`, the check of a
// value by itself, and what the column is used for. Exports have the columns in this order.
// `martlet device ls` shows some of them: its list is in the crate martlet, cmd/device.rs.
columns! {
    set by the node {
        /// Unique among all devices that there ever were.
        number ("number"): i64, check unchecked, uses &[];
        /// Tenant of the device; 0 is shared by all teams that own none.
        tenant ("tenant"): u32, check unchecked, uses &[Use::Changed];
        /// Client Identifier of the device, unique in its tenant.
        id ("id"): String, check check_new_id, uses &[Use::Exported, Use::Searched];
        /// Raised with every change.
        revision ("revision"): i64, check unchecked, uses &[Use::Changed];
        /// When it was added, in milliseconds since the Unix epoch.
        created_ms ("created_ms"): i64, check unchecked, uses &[];
        /// When it was last changed.
        updated_ms ("updated_ms"): i64, check unchecked, uses &[Use::Changed];
        /// When it was last connected or active; 0: never.
        last_seen_ms ("last_seen_ms"): i64, check unchecked, uses &[];
        /// When it last sent a message, to half a minute or so; 0: never.
        last_message_ms ("last_message_ms"): i64, check unchecked, uses &[];
        /// When it last sent a heartbeat; 0: never.
        last_heartbeat_ms ("last_heartbeat_ms"): i64, check unchecked, uses &[];
        /// When it last sent telemetry; 0: never.
        last_telemetry_ms ("last_telemetry_ms"): i64, check unchecked, uses &[];
        /// When it, or its Will, last said that it is offline; 0: never.
        said_offline_ms ("said_offline_ms"): i64, check unchecked, uses &[];
        /// Since when it is inactive: it has sent nothing for longer than its type permits. 0: it
        /// is not.
        inactive_since_ms ("inactive_since_ms"): i64, check unchecked, uses &[];
        /// When it was deleted; 0: it is not deleted.
        deleted_ms ("deleted_ms"): i64, check unchecked, uses &[];
    }
    set by operators {
        /// Name of the device, for people. A new device without a name has its id as its name.
        name ("name"): String, new Option<String>,
            check check_name, uses &[Use::ToldWhenAdded, Use::Searched];
        /// Type of the device, which decides which topics it may use.
        device_type ("type"): String, new String,
            check unchecked, uses &[Use::ToldWhenAdded];
        /// Kind of the device, in the words of its owner: up to 256 bytes.
        kind ("kind"): String, new String,
            check check_kind, uses &[Use::ToldWhenAdded];
        /// Whether it is accepted.
        status ("status"): Status, new Status,
            check unchecked, uses &[];
        /// Description, for people: up to 4,096 bytes.
        description ("description"): String, new String,
            check check_description, uses &[Use::Searched];
        /// Where it is: up to 4,096 bytes.
        location ("location"): String, new String,
            check check_location, uses &[Use::Searched];
        /// Version of its firmware: up to 4,096 bytes.
        firmware_version ("firmware_version"): String, new String,
            check check_version, uses &[];
        /// Version of its hardware: up to 4,096 bytes.
        hardware_version ("hardware_version"): String, new String,
            check check_version, uses &[];
        /// The user that owns it; empty: no user.
        owner ("owner"): String, new String,
            check check_owner, uses &[Use::ToldWhenAdded];
        /// Team of the device; empty: no team. A device has its id. A new device and a change may
        /// have its name: a new device without one is in the team of the caller, and a device whose
        /// team changes leaves the groups of the old team, and its tenant if that is another.
        team ("team"): String, new Option<String>,
            check unchecked, uses &[];
    }
}
