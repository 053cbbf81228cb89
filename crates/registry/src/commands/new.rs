//! Commands that are to be added, and what they may be.

use crate::{RegistryError, secret};

/// Bytes of a command's parameters, at most.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// Commands of a device that have not ended, at most.
pub const COMMANDS_OPEN_MAX: i64 = 1_000;
/// The longest time that a command may have, milliseconds: a year.
const TIME_MAX_MS: i64 = 366 * 24 * 60 * 60 * 1000;
/// Bytes of names.
const NAME_BYTES_MAX: usize = 256;

/// A command to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCommand {
    /// Its id; none: one is made up.
    pub id: Option<String>,
    /// The last level of its topic: `config`, `control`, `firmware` or another word.
    pub kind: String,
    /// What is to be done.
    pub name: String,
    /// JSON.
    pub parameters: String,
    /// QoS of its message; none: 2 for devices of the type `iotflow`, else 1.
    pub qos: Option<u8>,
    /// How long the device has to acknowledge it, milliseconds.
    pub time_ms: i64,
    /// Hops of its message: more than 0 if a rule sends it.
    pub hops: u8,
}

/// Makes up the id of a command.
///
/// # Errors
/// There is no source of random bytes.
pub fn new_command_id() -> Result<String, RegistryError> {
    secret::new_id()
}

/// Refuses what cannot be a command.
pub(super) fn check(new: &NewCommand) -> Result<(), RegistryError> {
    let refused = |why: String| Err(RegistryError::Refused(why));
    let is_name = |text: &str| {
        !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
    };
    let is_level =
        |text: &str| is_name(text) && text.len() <= 64 && !text.contains(['/', '+', '#', '%']);
    let id = new.id.as_deref();
    if id.is_some_and(|id| !is_name(id) || id.contains('/')) {
        return refused(format!(
            "the id of a command has 1 to {NAME_BYTES_MAX} bytes, no / and no control characters"
        ));
    }
    if !is_level(&new.kind) {
        return refused(
            "the kind of a command is a level of its topic: 1 to 64 bytes without /, +, #, % and \
             control characters"
                .to_owned(),
        );
    }
    if !is_name(&new.name) {
        return refused(format!(
            "the name of a command has 1 to {NAME_BYTES_MAX} bytes and no control characters"
        ));
    }
    if new.parameters.len() > COMMAND_BYTES_MAX {
        return refused(format!(
            "the parameters of a command may have {COMMAND_BYTES_MAX} bytes of JSON, and these \
             have {}",
            new.parameters.len()
        ));
    }
    if new.time_ms < 1_000 || new.time_ms > TIME_MAX_MS {
        return refused("a command has 1 second to 366 days to be acknowledged in".to_owned());
    }
    match new.qos.is_some_and(|qos| qos > 2) {
        true => refused("QoS is 0, 1 or 2".to_owned()),
        false => Ok(()),
    }
}
