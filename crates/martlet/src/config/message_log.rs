//! Settings of the message log.

use martlet_control::message_log::MessagesKept;

use super::error::ConfigError;
use super::key;
use super::load::Effective;
use super::topic_memory::filters;

const MS_OF_DAY: u64 = 86_400_000;

/// Settings of the message log.
#[derive(Clone, Debug)]
pub(crate) struct MessageLogConfig {
    /// Topic Filters of messages that are stored in addition to those of `POST /publish`.
    pub(crate) filters: Vec<String>,
    /// Limits of the stored messages.
    pub(crate) kept: MessagesKept,
}

pub(super) fn of(effective: &Effective) -> Result<MessageLogConfig, ConfigError> {
    let messages = &effective.settings().messages;
    Ok(MessageLogConfig {
        filters: filters(effective, key!(messages.keep), &messages.keep)?,
        kept: MessagesKept {
            messages: messages.kept,
            bytes: messages.kept_bytes,
            age_ms: match messages.kept_days {
                0 => u64::MAX,
                days => days * MS_OF_DAY,
            },
        },
    })
}
