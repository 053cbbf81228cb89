//! Changes of the tables that lead to messages, and the messages.

use std::fmt;

/// A device that has become inactive, or is active again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentDevice {
    /// Tenant of the device.
    pub tenant: u32,
    /// Id of the device.
    pub id: String,
    /// When it sent its last message before that, milliseconds since the Unix epoch.
    pub last_message_ms: i64,
    /// After how many seconds without a message devices of its type are inactive.
    pub after_secs: u32,
}

/// A message that is to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxRow {
    /// Name of the node that publishes it.
    pub node: String,
    /// Number of the message in that node. Messages are published in this order.
    pub number: i64,
    /// Number of the tenant.
    pub tenant: u32,
    /// Subject of the change, such as the name of an alarm.
    pub subject: String,
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: String,
    /// Hops of the message.
    pub hops: u8,
}

/// A change of the tables that may lead to a message.
#[derive(Clone, Copy, Debug)]
pub enum TableChange<'a> {
    /// Values of a device were changed.
    Twin {
        /// Number of the tenant.
        tenant: u32,
        /// Id of the device.
        device: &'a str,
        /// `desired` or `reported`.
        side: &'static str,
        /// The version that they have now.
        version: i64,
        /// Hops of the message that led to it.
        hops: u8,
    },
    /// A device has become inactive.
    Inactive(&'a SilentDevice),
    /// A device is active again.
    Active(&'a SilentDevice),
}

/// Makes the messages that follow from changes of the tables.
pub trait MessagesOfChanges: fmt::Debug + Send + Sync {
    /// The message about a change; none: nobody wants it. It is called in the transaction of the
    /// change.
    fn message(&self, change: TableChange<'_>) -> Option<OutboxRow>;
}
