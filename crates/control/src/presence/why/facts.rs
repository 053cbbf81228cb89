//! Facts about clients that are silent or away.

use martlet_broker::WillNotice;

use crate::remedy::Command;

/// Facts about the silence of a client, and of those that the topic names.
#[derive(Clone, Debug, Default)]
pub(crate) struct SilenceFacts {
    /// When the device sent its last message, as far as the tables have it: some seconds late.
    /// Milliseconds since the Unix epoch.
    pub(crate) last_message_ms: Option<u64>,
    /// Other clients that the topic names.
    pub(crate) named: Vec<NamedInTopic>,
    /// A Will has nearly the topic of a retained message.
    pub(crate) will_beside: Option<WillBeside>,
}

/// A Will whose topic differs from that of a retained message in upper and lower case alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WillBeside {
    /// Client of the Will.
    pub(crate) client_id: String,
    /// Topic of the Will.
    pub(crate) will: String,
    /// Topic of the retained message, which was published at that time.
    pub(crate) retained: String,
    pub(crate) at_ms: u64,
    /// The Will was published, and its client has not connected since.
    pub(crate) is_published: bool,
    /// The command that deletes a retained message of the topic of the Will.
    pub(crate) remove: Option<Command>,
}

/// A client whose Client Identifier is a level of the topic that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedInTopic {
    pub(crate) client_id: String,
    pub(crate) is_device: bool,
    /// How it is.
    pub(crate) standing: NamedStanding,
    /// Whether it is a client that the question is about.
    pub(crate) is_own: bool,
    /// When the device sent its last message, as for the client that was asked about.
    pub(crate) last_message_ms: Option<u64>,
    /// The command that asks why it does not work.
    pub(crate) command: Option<Command>,
    /// The client has left, and has, or had, a Will for the topic; and when it left.
    pub(crate) will: Option<(AbsentWill, u64)>,
}

/// How a client is that a topic names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedStanding {
    /// The client has never connected.
    NeverConnected,
    /// The client is not connected since then, as far as known.
    Away(Option<u64>),
    /// The client is connected.
    Connected {
        /// Since when.
        since_ms: u64,
        /// The device has published since; none: that is not known.
        has_published: Option<bool>,
    },
}

impl NamedInTopic {
    /// Words for it.
    pub(super) fn in_words(&self) -> String {
        let what = match self.is_device {
            true => "device",
            false => "client",
        };
        format!("the {what} {}", self.client_id)
    }
}

/// The Will of a client that has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AbsentWill {
    /// The Will waits for its Will Delay Interval.
    Delayed {
        topic: String,
        /// When it is published, if that is known.
        due_ms: Option<u64>,
    },
    /// The Will was published or discarded when the client went.
    Gone(WillNotice),
}

impl AbsentWill {
    /// The topic of the Will.
    pub(super) fn topic(&self) -> &str {
        match self {
            Self::Delayed { topic, .. } => topic,
            Self::Gone(will) => &will.topic,
        }
    }
}
