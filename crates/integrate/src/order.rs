//! Which messages a sink keeps in order.

use std::borrow::Cow;

/// Which messages a sink delivers in the order in which they were published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Messages of one publisher, that is of one session. Each shard of the node has a queue of its
    /// own for the sink.
    #[default]
    Publisher,
    /// Messages of one user or device, over all of its sessions. The node has one queue for the
    /// sink.
    User,
    /// Messages of one topic, by any publisher. The node has one queue for the sink.
    Topic,
}

impl Order {
    /// The word of the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::User => "user",
            Self::Topic => "topic",
        }
    }

    /// Whether the node has one queue for the sink, which has the messages of all shards.
    pub fn needs_one_queue(self) -> bool {
        self != Self::Publisher
    }
}

/// Messages with the same key are delivered in order: none before an earlier one is delivered or
/// rejected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OrderKey<'a> {
    /// Client Identifier; empty if unknown. Also of a client without a checked user name.
    Publisher(Cow<'a, str>),
    /// User name, which is the name of the device if it is one.
    User(Cow<'a, str>),
    /// Topic Name.
    Topic(Cow<'a, str>),
}

impl OrderKey<'_> {
    pub(crate) fn into_owned(self) -> OrderKey<'static> {
        match self {
            Self::Publisher(name) => OrderKey::Publisher(name.into_owned().into()),
            Self::User(name) => OrderKey::User(name.into_owned().into()),
            Self::Topic(name) => OrderKey::Topic(name.into_owned().into()),
        }
    }
}
