//! Twins and their values, as they stand in the tables.

use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::merge::{self, Values, difference};
use crate::RegistryError;
use crate::sql::Fault;

/// Bytes of the desired or of the reported values, at most, as JSON without blanks.
pub const TWIN_BYTES_MAX: usize = 64 * 1024;
/// Levels of objects and arrays in them, at most.
pub const TWIN_DEPTH_MAX: usize = 16;
/// Rows of one statement.
pub(super) const ROWS: usize = 500;

/// Values of one side of a twin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwinValues {
    /// The values.
    pub values: Values,
    /// One larger with each change; 0: never set.
    pub version: i64,
    /// When they were last changed, milliseconds since the Unix epoch; 0: never.
    pub updated_ms: i64,
}

/// The twin of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Twin {
    /// Id of the device.
    pub device: String,
    /// Tenant of the device.
    pub tenant: u32,
    /// Type of the device.
    pub device_type: String,
    /// Values that the device is to have.
    pub desired: TwinValues,
    /// Values that the device has reported.
    pub reported: TwinValues,
    /// The desired values of its groups; its own desired values override them.
    pub of_groups: Values,
    /// Number of the device.
    pub(super) number: i64,
}

impl Twin {
    /// All that the device is to have: its own desired values over those of its groups.
    pub fn merged_desired(&self) -> Values {
        let mut merged_desired = self.of_groups.clone();
        merge::merge(&mut merged_desired, &self.desired.values);
        merged_desired
    }

    /// Returns the values that the device is to have and has not reported.
    pub fn difference(&self) -> Values {
        difference(&self.merged_desired(), &self.reported.values)
    }
}

/// A change of values.
#[derive(Clone, Debug, PartialEq)]
pub enum TwinChange {
    /// A merge patch (RFC 7396).
    Merge(Values),
    /// These in place of all. Members that are `null` are left out.
    Replace(Values),
}

impl TwinChange {
    pub(super) fn apply(&self, values: &mut Values) {
        match self {
            Self::Merge(patch) => merge::merge(values, patch),
            Self::Replace(all) => {
                values.clear();
                merge::merge(values, all);
            }
        }
    }

    pub(super) fn members(&self) -> Vec<&String> {
        let (Self::Merge(values) | Self::Replace(values)) = self;
        values.keys().take(100).collect()
    }
}

/// Values in three columns from `at` on; none if the device has no row.
pub(super) fn read_values(row: &AnyRow, at: usize, place: &str) -> Result<TwinValues, Fault> {
    let Some(text) = row.try_get::<Option<String>, _>(at)? else {
        return Ok(TwinValues::default());
    };
    let values = serde_json::from_str(&text).map_err(|error| RegistryError::Damaged {
        place: place.to_owned(),
        what: format!("the values of a twin are not a JSON object: {error}"),
    })?;
    Ok(TwinValues {
        values,
        version: row.try_get(at + 1)?,
        updated_ms: row.try_get(at + 2)?,
    })
}

/// As JSON, if it is not too much.
pub(super) fn written(what: &str, values: &Values) -> Result<String, String> {
    if merge::depth(values) > TWIN_DEPTH_MAX {
        return Err(format!(
            "the {what} values may have {TWIN_DEPTH_MAX} levels of objects and arrays"
        ));
    }
    let text = json!(values).to_string();
    match text.len() > TWIN_BYTES_MAX {
        false => Ok(text),
        true => Err(format!(
            "the {what} values may have {TWIN_BYTES_MAX} bytes as JSON, and these would have {}",
            text.len()
        )),
    }
}

/// A JSON object.
///
/// # Errors
/// What was expected.
pub fn values_of_json(payload: &[u8]) -> Result<Values, &'static str> {
    match serde_json::from_slice(payload) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err("expected a JSON object"),
        Err(_) => Err("it is not JSON"),
    }
}
