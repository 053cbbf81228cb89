//! Kinds of entries.

use std::fmt;

use martlet_broker::{DropReason, Event};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::Object;

use crate::words::one_of;

macro_rules! kinds {
    ($($variant:ident = $name:literal, $what:literal;)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum EntryKind {
            $(#[doc = $what] #[serde(rename = $name)] $variant,)*
        }

        impl EntryKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    Connected = "connected", "A client connected.";
    ConnectRefused = "connect refused", "A connection was refused.";
    ReauthenticationRefused = "re-authentication refused", "A client failed to authenticate again.";
    Disconnected = "disconnected", "A connection ended.";
    PublishRefused = "publish refused", "A message was refused.";
    SubscribeRefused = "subscribe refused", "A subscription was refused.";
    MessageDropped = "message dropped", "A message was dropped for a receiver.";
    MessagesDropped = "messages dropped", "Messages of a publisher that is too fast were dropped.";
    MessagesLost = "messages lost", "Messages for a client or share group were dropped.";
    PublishesDelayed = "publishes delayed", "Messages of a publisher that is too fast wait.";
    QueueFull = "queue full", "A queue is full.";
    OutputFull = "output full", "Messages for a client that reads too slowly were dropped.";
}

impl EntryKind {
    /// The kind of an event; none: it is not kept.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Connected(_) => Self::Connected,
            Event::Refused { .. } => Self::ConnectRefused,
            Event::ReauthenticationRefused { .. } => Self::ReauthenticationRefused,
            Event::Disconnected { .. } => Self::Disconnected,
            Event::PublishRefused { .. } => Self::PublishRefused,
            Event::SubscribeRefused { .. } => Self::SubscribeRefused,
            Event::Dropped { .. } => Self::MessageDropped,
            Event::RateExceeded { .. } => Self::MessagesDropped,
            Event::PublishesDelayed { .. } => Self::PublishesDelayed,
            Event::QueueFull { .. } => Self::QueueFull,
            Event::MessagesLost {
                reason: DropReason::OutputFull,
                ..
            } => Self::OutputFull,
            Event::MessagesLost { .. } => Self::MessagesLost,
            Event::Authenticated { .. }
            | Event::TakenOver { .. }
            | Event::SessionEnded { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Published(_)
            | Event::Delivered(_)
            | Event::Packet { .. } => return None,
        })
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The schema of the API.
pub(super) fn schema() -> Object {
    let names = EntryKind::ALL.iter().map(|kind| kind.name());
    one_of("What happened.", names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_by_its_name() {
        for kind in EntryKind::ALL {
            let written = serde_json::to_string(kind).expect("it is text");
            assert_eq!(written, format!("\"{}\"", kind.name()));
        }
    }
}
