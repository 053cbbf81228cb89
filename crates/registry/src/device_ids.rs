//! Ids of new devices. An id may be generated. Words of the HTTP API's paths are no ids: such a
//! device could not be read back. Digits alone are the number of the device, or no id.

use serde_json::Value;
use sqlx::Row as _;

use crate::secret::random;
use crate::sql::Fault;
use crate::{Refused, Registry, RegistryError};

/// All of them. Migration 12 renames devices that had one.
const RESERVED: [&str; 12] = [
    "register",
    "status",
    "statuses",
    "telemetry",
    "config",
    "heartbeat",
    "credentials",
    "mqtt-credentials",
    "summary",
    "export",
    "import",
    "bulk",
];

/// Highest number that a device may bring along.
const GIVEN_NUMBER_MAX: i64 = 1_000_000_000;

/// Digits of base32, as in RFC 4648.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Random bytes of a generated id.
const RANDOM_BYTES: usize = 10;

/// A device that was renamed and has not been connected since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenamedDevice {
    /// The id that it had.
    pub old_id: String,
    /// The id that it has.
    pub new_id: String,
}

/// Whether no new device may have this id.
pub fn is_reserved_id(id: &str) -> bool {
    RESERVED.contains(&id)
}

/// Rejects a reserved word as the id of a new device.
pub(crate) fn expect_not_reserved(id: &str) -> Result<(), RegistryError> {
    match is_reserved_id(id) {
        true => Err(Refused::ReservedId(id.to_owned()).into()),
        false => Ok(()),
    }
}

/// A new id: 16 characters of base32.
pub(crate) fn generated_id() -> Result<String, RegistryError> {
    let id = base32(&random::<RANDOM_BYTES>()?);
    match is_digits(&id) {
        true => generated_id(),
        false => Ok(id),
    }
}

fn base32(bytes: &[u8; RANDOM_BYTES]) -> String {
    let number = bytes.iter();
    let number = number.fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    let digits = (0..RANDOM_BYTES * 8 / 5).rev();
    let digits = digits.map(|at| BASE32[(number >> (5 * at)) as usize & 31]);
    digits.map(char::from).collect()
}

/// The id consists of digits alone, as a number does.
pub(crate) fn is_digits(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())
}

/// Rejects digits alone as an id, unless they are the number that the device gets.
pub(crate) fn expect_own_number(id: &str, number: i64) -> Result<(), Refused> {
    match is_digits(id) && id != number.to_string() {
        true => Err(Refused::IdOfDigits(id.to_owned(), number)),
        false => Ok(()),
    }
}

/// Rejects a number that a device has or had, and one that would leave few for others.
pub(crate) fn expect_free_number(number: i64, next: i64) -> Result<(), Refused> {
    if (next..=GIVEN_NUMBER_MAX).contains(&number) {
        return Ok(());
    }
    Err(match number < next {
        true => Refused::NumberGiven(number, next),
        false => Refused::NumberTooLarge(number, GIVEN_NUMBER_MAX),
    })
}

impl Registry {
    /// Devices that a migration renamed because their id is reserved, as long as they have not been
    /// connected by their new id. By the new id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn renamed_devices(&mut self) -> Result<Vec<RenamedDevice>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT audit.changed, devices.id FROM audit JOIN devices ON \
                       devices.id = audit.object_id AND devices.team = audit.team \
                       WHERE audit.object_kind = 'device' AND audit.action = 'device.rename' \
                       AND deleted_ms = 0 AND last_seen_ms < at_ms ORDER BY devices.id";
            let rows = sqlx::query(sql).fetch_all(on).await?;
            rows.iter()
                .map(|row| {
                    let changed: String = row.try_get("changed")?;
                    let changed: Value = serde_json::from_str(&changed).unwrap_or_default();
                    Ok(RenamedDevice {
                        old_id: changed["id"][0].as_str().unwrap_or_default().to_owned(),
                        new_id: row.try_get("id")?,
                    })
                })
                .collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_rfc_4648() {
        assert_eq!(base32(b"foobarfoob"), "MZXW6YTBOJTG633C");
        assert_eq!(base32(&[0; 10]), "A".repeat(16));
        assert_eq!(base32(&[0xff; 10]), "7".repeat(16));
    }
}
