//! Commands that are to be added, and what they may be.

use crate::{Refused, RegistryError, secret};

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
    /// Id of the command; none: one is made up.
    pub id: Option<String>,
    /// The last level of its topic: `config`, `control`, `firmware` or another word.
    pub kind: String,
    /// Name of what is to be done.
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
/// Random bytes are not available.
pub fn new_command_id() -> Result<String, RegistryError> {
    secret::new_id()
}

/// Refuses what cannot be a command.
pub(super) fn check(new: &NewCommand) -> Result<(), RegistryError> {
    let refused = |why: Refused| Err(RegistryError::from(why));
    let is_name = |text: &str| {
        !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
    };
    let is_level =
        |text: &str| is_name(text) && text.len() <= 64 && !text.contains(['/', '+', '#', '%']);
    let id = new.id.as_deref();
    if id.is_some_and(|id| !is_name(id) || id.contains('/')) {
        return refused(Refused::CommandId(NAME_BYTES_MAX));
    }
    if !is_level(&new.kind) {
        return refused(Refused::CommandKind);
    }
    if !is_name(&new.name) {
        return refused(Refused::CommandName(NAME_BYTES_MAX));
    }
    if new.parameters.len() > COMMAND_BYTES_MAX {
        let bytes = new.parameters.len();
        return refused(Refused::CommandParameters(COMMAND_BYTES_MAX, bytes));
    }
    if new.time_ms < 1_000 || new.time_ms > TIME_MAX_MS {
        return refused(Refused::CommandTime);
    }
    match new.qos.is_some_and(|qos| qos > 2) {
        true => refused(Refused::CommandQos),
        false => Ok(()),
    }
}
