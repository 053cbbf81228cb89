//! Kinds of events: one closed list, with the name of each kind in streams and in the journal, and
//! the group by which it is wanted and counted.

use crate::counters::DropReason;
use crate::event::Event;
use crate::event_interest::EventGroup;

/// Declares the closed list of kinds.
macro_rules! kinds {
    ($( $variant:ident = $name:literal, $journal_name:expr, $group:ident, $what:literal; )*) => {
        /// Kind of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $( #[doc = $what] $variant, )*
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// Name in streams of events and in their filters.
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// Name in the journal; none: the journal does not keep events of this kind.
            pub fn journal_name(self) -> Option<&'static str> {
                match self { $( Self::$variant => $journal_name, )* }
            }

            /// Group to which it belongs.
            pub fn group(self) -> EventGroup {
                match self { $( Self::$variant => EventGroup::$group, )* }
            }

            /// Returns the meaning.
            pub fn meaning(self) -> &'static str {
                match self { $( Self::$variant => $what, )* }
            }
        }
    };
}

kinds! {
    Connected = "connected", Some("connected"), Connection, "A CONNECT was accepted.";
    Authenticated = "authenticated", None, Connection, "A client is authenticated. Whether it is accepted is decided next.";
    Refused = "refused", Some("connect refused"), Connection, "A CONNECT was refused.";
    ReauthenticationRefused = "reauthentication_refused", Some("re-authentication refused"), Connection, "A client failed to authenticate again.";
    ProvisioningRefused = "provisioning_refused", Some("provisioning refused"), Connection, "A device was not added by the provisioning key that it has shown.";
    RequestRefused = "request_refused", Some("request refused"), Connection, "An HTTP request was refused: of a device, or for its API key.";
    TakenOver = "taken_over", None, Connection, "A connection ends because its client has connected again.";
    Disconnected = "disconnected", Some("disconnected"), Connection, "A connection ended.";
    SessionEnded = "session_ended", None, Connection, "A session ended.";
    Subscribed = "subscribed", None, Subscription, "A subscription was granted.";
    Unsubscribed = "unsubscribed", None, Subscription, "A subscription was ended.";
    SubscribeRefused = "subscribe_refused", Some("subscribe refused"), Connection, "A subscription was refused.";
    Published = "published", None, Published, "A message was accepted.";
    PublishRefused = "publish_refused", Some("publish refused"), Connection, "A message was refused.";
    Delivered = "delivered", None, Delivered, "A message was delivered.";
    Dropped = "dropped", Some("message dropped"), Dropped, "A message was dropped for a receiver; of a session that has ended, all together.";
    DroppedMessage = "dropped_message", None, Dropped, "One of the messages that `dropped` counts together.";
    RateExceeded = "rate_exceeded", Some("messages dropped"), Connection, "Messages were dropped: their client is too fast.";
    PublishesDelayed = "publishes_delayed", Some("publishes delayed"), Connection, "Messages wait: their client publishes too fast.";
    QueueFull = "queue_full", Some("queue full"), Connection, "A queue is full.";
    OutputFull = "output_full", Some("output full"), Connection, "A client reads too slowly: QoS 0 messages for it are dropped.";
    MessagesLost = "messages_lost", Some("messages lost"), Connection, "How many messages were dropped for a client or a share group, and why.";
    Packet = "packet", None, Packet, "A packet was received or sent.";
    DeviceInactive = "device_inactive", None, Connection, "A device has sent nothing for longer than its type permits.";
    DeviceActive = "device_active", None, Connection, "A device that was inactive has sent something.";
    AlarmRaised = "alarm_raised", None, Connection, "An alarm was raised.";
    AlarmChanged = "alarm_changed", None, Connection, "An alarm was acknowledged, shelved or cleared.";
    TwinChanged = "twin_changed", None, Connection, "Desired or reported values of a device have changed.";
    Gone = "gone", None, Gap, "Events were lost. This event is always sent.";
}

impl EventKind {
    /// The kind with this name in streams.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The kind with this name in the journal.
    pub fn from_journal_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|kind| kind.journal_name() == Some(name))
    }
}

impl Event {
    /// Returns the kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Authenticated { .. } => EventKind::Authenticated,
            Self::Connected(_) => EventKind::Connected,
            Self::Refused { .. } => EventKind::Refused,
            Self::ReauthenticationRefused { .. } => EventKind::ReauthenticationRefused,
            Self::ProvisioningRefused { .. } => EventKind::ProvisioningRefused,
            Self::RequestRefused { .. } => EventKind::RequestRefused,
            Self::TakenOver { .. } => EventKind::TakenOver,
            Self::Disconnected { .. } => EventKind::Disconnected,
            Self::SessionEnded { .. } => EventKind::SessionEnded,
            Self::Subscribed { .. } => EventKind::Subscribed,
            Self::Unsubscribed { .. } => EventKind::Unsubscribed,
            Self::SubscribeRefused { .. } => EventKind::SubscribeRefused,
            Self::Published(_) => EventKind::Published,
            Self::PublishRefused { .. } => EventKind::PublishRefused,
            Self::Delivered(_) => EventKind::Delivered,
            Self::Dropped { .. } => EventKind::Dropped,
            Self::RateExceeded { .. } => EventKind::RateExceeded,
            Self::PublishesDelayed { .. } => EventKind::PublishesDelayed,
            Self::QueueFull { .. } => EventKind::QueueFull,
            Self::MessagesLost {
                reason: DropReason::OutputFull,
                ..
            } => EventKind::OutputFull,
            Self::MessagesLost { .. } => EventKind::MessagesLost,
            Self::Packet { .. } => EventKind::Packet,
            Self::DeviceInactive { .. } => EventKind::DeviceInactive,
            Self::DeviceActive { .. } => EventKind::DeviceActive,
            Self::AlarmRaised(_) => EventKind::AlarmRaised,
            Self::AlarmChanged(_) => EventKind::AlarmChanged,
            Self::TwinChanged { .. } => EventKind::TwinChanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_each_of_its_names() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.name()), Some(*kind));
            if let Some(name) = kind.journal_name() {
                assert_eq!(EventKind::from_journal_name(name), Some(*kind));
            }
        }
        assert_eq!(EventKind::from_journal_name("packet"), None);
    }
}
