//! A command as the tables have it, and what each step changes in it.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::state::CommandState;
use crate::RegistryError;
use crate::sql::{Fault, clean};

/// Bytes of what a device answers that are kept, at most.
const RESULT_BYTES_MAX: usize = 4_096;

/// The columns of [`read_command`], of `commands` as `c` and `devices` as `d`.
pub(super) const COLUMNS: &str = "c.number, c.id, d.id AS device_id, d.tenant, d.type, c.fleet, \
    c.fleet_group, c.kind, c.name, c.parameters, c.qos, c.asked_by, c.state, c.due, c.message, \
    c.reached, c.attempts, c.progress, c.result, c.created_ms, c.expires_ms, c.sent_ms, \
    c.delivered_ms, c.acknowledged_ms, c.finished_ms, c.hops";
/// The tables of these columns, and how a condition begins.
pub(super) const FROM: &str = " FROM commands c JOIN devices d ON d.number = c.device WHERE ";

/// A command to a device. Times are milliseconds since the Unix epoch; 0: never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Names it in the tables.
    pub number: i64,
    /// Unique among the commands of its device.
    pub id: String,
    /// The id of its device.
    pub device: String,
    /// The tenant of its device.
    pub tenant: u32,
    /// The type of its device.
    pub device_type: String,
    /// The id of the command to several devices that it is of; empty: none.
    pub fleet: String,
    /// The id of the group that this command was sent to; empty: none.
    pub fleet_group: String,
    /// The last level of its topic, such as `control`.
    pub kind: String,
    /// Name of what is to be done.
    pub name: String,
    /// JSON.
    pub parameters: String,
    /// QoS of its message.
    pub qos: u8,
    /// The caller that sent it, as in the audit log.
    pub asked_by: String,
    /// How far it has come.
    pub state: CommandState,
    /// How often it was published with a receiver.
    pub attempts: i64,
    /// Percent, as the device last answered.
    pub progress: Option<u8>,
    /// Last answer of the device, or why the command ended.
    pub result: String,
    /// When it was added.
    pub created_ms: i64,
    /// Until when the device must have acknowledged it.
    pub expires_ms: i64,
    /// When it was last published with a receiver.
    pub sent_ms: i64,
    /// When the device acknowledged the message.
    pub delivered_ms: i64,
    /// When the device first answered.
    pub acknowledged_ms: i64,
    /// When it reached a final state.
    pub finished_ms: i64,
    /// Hops of its message: more than 0 if a rule has sent it.
    pub hops: u8,
    pub(super) is_due: bool,
    /// The name of its last message, as the tables have it; 0: none.
    pub(super) message: i64,
    pub(super) is_reached: bool,
}

/// Step of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandStep {
    /// The command was published with this message, which has receivers.
    Sent {
        /// Name of the message.
        message: u64,
    },
    /// The command was published, and the device did not receive it. `again`: the device has
    /// subscribed meanwhile.
    NoReceiver {
        /// Whether it is to be published at once.
        again: bool,
    },
    /// The command was sent with QoS 0: whether it arrives is not known.
    SentAtQos0,
    /// The device has acknowledged the message.
    Delivered,
    /// The message was dropped before the device had it.
    Dropped,
    /// The device has refused the message, for this reason.
    Refused(String),
    /// The message has expired.
    Expired,
    /// The device has answered.
    Answered(CommandAnswer),
    /// The device has answered, and not as expected, for this reason.
    NotUnderstood(&'static str),
}

/// Answer of a device to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandAnswer {
    /// How far it is.
    pub outcome: CommandOutcome,
    /// Percent, 0 to 100, if reported.
    pub progress: Option<u8>,
    /// The result that it reported, as text; empty: none.
    pub result: String,
}

/// The progress of a command, as reported by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The device carries the command out.
    Acknowledged,
    /// The device has done it.
    Succeeded,
    /// The device cannot do it.
    Failed,
}

impl Command {
    /// Applies a step. Returns whether that changed anything: steps that come too late do not.
    pub(super) fn apply(&mut self, step: &CommandStep, at_ms: i64) -> bool {
        match step {
            CommandStep::Sent { message } => {
                if self.state != CommandState::Pending {
                    return false;
                }
                self.state = CommandState::Sent;
                self.message = message.cast_signed();
                (self.is_due, self.is_reached) = (false, false);
                self.sent_ms = at_ms;
                self.attempts += 1;
            }
            CommandStep::NoReceiver { again } => {
                if !matches!(self.state, CommandState::Pending | CommandState::Sent) {
                    return false;
                }
                if self.state == CommandState::Sent {
                    self.attempts -= 1;
                }
                self.state = CommandState::Pending;
                self.is_due = *again;
                (self.message, self.sent_ms) = (0, 0);
            }
            CommandStep::SentAtQos0 => {
                let is_news = self.state == CommandState::Sent && !self.is_reached;
                self.is_reached |= is_news;
                return is_news;
            }
            CommandStep::Delivered => {
                if !self.enter(CommandState::Delivered, at_ms) {
                    return false;
                }
                self.delivered_ms = at_ms;
            }
            CommandStep::Dropped => {
                if self.state != CommandState::Sent {
                    return false;
                }
                self.state = CommandState::Pending;
                (self.message, self.is_reached) = (0, false);
            }
            CommandStep::Refused(why) => {
                if !self.enter(CommandState::Failed, at_ms) {
                    return false;
                }
                self.result = cut(why);
            }
            CommandStep::Expired => return self.enter(CommandState::Expired, at_ms),
            CommandStep::Answered(answer) => return self.answer(answer, at_ms),
            CommandStep::NotUnderstood(why) => {
                if self.state.is_final() {
                    return false;
                }
                self.result = format!("an answer of the device is not understood: {why}");
            }
        }
        true
    }

    fn answer(&mut self, answer: &CommandAnswer, at_ms: i64) -> bool {
        let next = match answer.outcome {
            CommandOutcome::Acknowledged => CommandState::Acknowledged,
            CommandOutcome::Succeeded => CommandState::Succeeded,
            CommandOutcome::Failed => CommandState::Failed,
        };
        // Progress is reported repeatedly, an end once.
        let is_repeated = self.state == next;
        if is_repeated && next.is_final() || !is_repeated && !self.enter(next, at_ms) {
            return false;
        }
        if self.acknowledged_ms == 0 {
            self.acknowledged_ms = at_ms;
        }
        if answer.progress.is_some() {
            self.progress = answer.progress;
        }
        if !answer.result.is_empty() {
            self.result = cut(&answer.result);
        }
        true
    }

    /// Gets into a later state, if it may.
    pub(super) fn enter(&mut self, next: CommandState, at_ms: i64) -> bool {
        if !self.state.may_become(next) {
            return false;
        }
        self.state = next;
        self.is_due = false;
        if next.is_final() {
            self.finished_ms = at_ms;
        }
        true
    }

    /// Has it published once more. What is left of its time, or all of it again if it is over.
    pub(super) fn retry(&mut self, now_ms: i64) {
        let time_ms = self.expires_ms - self.created_ms;
        if self.expires_ms <= now_ms {
            self.expires_ms = now_ms.saturating_add(time_ms);
        }
        self.state = CommandState::Pending;
        (self.is_due, self.is_reached) = (true, false);
        (self.message, self.sent_ms, self.delivered_ms) = (0, 0, 0);
        (self.acknowledged_ms, self.finished_ms) = (0, 0);
        self.progress = None;
        self.result.clear();
    }
}

fn cut(text: &str) -> String {
    let mut text = clean(text);
    text.truncate(text.floor_char_boundary(RESULT_BYTES_MAX));
    text
}

pub(super) fn read_command(row: &AnyRow, place: &str) -> Result<Command, Fault> {
    let number = |column: &str| -> Result<i64, sqlx::Error> { row.try_get(column) };
    let state: String = row.try_get("state")?;
    let state = CommandState::from_word(&state).ok_or_else(|| RegistryError::Damaged {
        place: place.to_owned(),
        what: format!("a command has the unknown state {state:?}"),
    })?;
    Ok(Command {
        number: number("number")?,
        id: row.try_get("id")?,
        device: row.try_get("device_id")?,
        tenant: u32::try_from(number("tenant")?).unwrap_or(u32::MAX),
        device_type: row.try_get("type")?,
        fleet: row.try_get("fleet")?,
        fleet_group: row.try_get("fleet_group")?,
        kind: row.try_get("kind")?,
        name: row.try_get("name")?,
        parameters: row.try_get("parameters")?,
        qos: u8::try_from(number("qos")?).unwrap_or(0),
        asked_by: row.try_get("asked_by")?,
        state,
        attempts: number("attempts")?,
        progress: u8::try_from(number("progress")?).ok(),
        result: row.try_get("result")?,
        created_ms: number("created_ms")?,
        expires_ms: number("expires_ms")?,
        sent_ms: number("sent_ms")?,
        delivered_ms: number("delivered_ms")?,
        acknowledged_ms: number("acknowledged_ms")?,
        finished_ms: number("finished_ms")?,
        hops: u8::try_from(number("hops")?).unwrap_or(u8::MAX),
        is_due: number("due")? != 0,
        message: number("message")?,
        is_reached: number("reached")? != 0,
    })
}
