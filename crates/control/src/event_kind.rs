//! Kinds of events: one closed list, with the name of each kind in streams and in the journal, and
//! the group by which it is wanted and counted.

use martlet_broker::{DropReason, Event, EventGroup};

/// Declares the closed list of kinds.
macro_rules! kinds {
    ($( $variant:ident = $name:literal, $journal_name:expr, $group:expr, $what:literal; )*) => {
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

            /// Group in which shards report it; none: no shard does.
            pub(crate) fn group(self) -> Option<EventGroup> {
                match self { $( Self::$variant => $group, )* }
            }

            /// Returns the meaning.
            pub fn meaning(self) -> &'static str {
                match self { $( Self::$variant => $what, )* }
            }
        }
    };
}

kinds! {
    Connected = "connected", Some("connected"), Some(EventGroup::Connection), "A CONNECT was accepted.";
    Authenticated = "authenticated", None, Some(EventGroup::Connection), "A client is authenticated. Whether it is accepted is decided next.";
    Refused = "refused", Some("connect refused"), Some(EventGroup::Connection), "A CONNECT was refused.";
    ReauthenticationRefused = "reauthentication_refused", Some("re-authentication refused"), Some(EventGroup::Connection), "A client failed to authenticate again.";
    ProvisioningRefused = "provisioning_refused", Some("provisioning refused"), None, "A device was not added by the provisioning key that it has shown.";
    RequestRefused = "request_refused", Some("request refused"), None, "An HTTP request was refused: of a device, or for its API key.";
    TakenOver = "taken_over", None, Some(EventGroup::Connection), "A connection ends because its client has connected again.";
    Disconnected = "disconnected", Some("disconnected"), Some(EventGroup::Connection), "A connection ended.";
    SessionEnded = "session_ended", None, Some(EventGroup::Connection), "A session ended.";
    Subscribed = "subscribed", None, Some(EventGroup::Subscription), "A subscription was granted.";
    Unsubscribed = "unsubscribed", None, Some(EventGroup::Subscription), "A subscription was ended.";
    SubscribeRefused = "subscribe_refused", Some("subscribe refused"), Some(EventGroup::Connection), "A subscription was refused.";
    Published = "published", None, Some(EventGroup::Published), "A message was accepted.";
    PublishRefused = "publish_refused", Some("publish refused"), Some(EventGroup::Connection), "A message was refused.";
    Delivered = "delivered", None, Some(EventGroup::Delivered), "A message was delivered.";
    Dropped = "dropped", Some("message dropped"), Some(EventGroup::Dropped), "A message was dropped for a receiver; of a session that has ended, all together.";
    DroppedMessage = "dropped_message", None, Some(EventGroup::Dropped), "One of the messages that `dropped` counts together.";
    RateExceeded = "rate_exceeded", Some("messages dropped"), Some(EventGroup::Connection), "Messages were dropped: their client is too fast.";
    PublishesDelayed = "publishes_delayed", Some("publishes delayed"), Some(EventGroup::Connection), "Messages wait: their client publishes too fast.";
    QueueFull = "queue_full", Some("queue full"), Some(EventGroup::Connection), "A queue is full.";
    OutputFull = "output_full", Some("output full"), Some(EventGroup::Connection), "A client reads too slowly: QoS 0 messages for it are dropped.";
    MessagesLost = "messages_lost", Some("messages lost"), Some(EventGroup::Connection), "How many messages were dropped for a client or a share group, and why.";
    Packet = "packet", None, Some(EventGroup::Packet), "A packet was received or sent.";
    DeviceInactive = "device_inactive", None, None, "A device has sent nothing for longer than its type permits.";
    DeviceActive = "device_active", None, None, "A device that was inactive has sent something.";
    AlarmRaised = "alarm_raised", None, None, "An alarm was raised.";
    AlarmChanged = "alarm_changed", None, None, "An alarm was acknowledged, shelved or cleared.";
    TwinChanged = "twin_changed", None, None, "Desired or reported values of a device have changed.";
    Gone = "gone", None, None, "Events were lost. This event is always sent.";
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

    /// Kind of an event of a shard.
    pub(crate) fn of(event: &Event) -> Self {
        match event {
            Event::Authenticated { .. } => Self::Authenticated,
            Event::Connected(_) => Self::Connected,
            Event::Refused { .. } => Self::Refused,
            Event::ReauthenticationRefused { .. } => Self::ReauthenticationRefused,
            Event::TakenOver { .. } => Self::TakenOver,
            Event::Disconnected { .. } => Self::Disconnected,
            Event::SessionEnded { .. } => Self::SessionEnded,
            Event::Subscribed { .. } => Self::Subscribed,
            Event::Unsubscribed { .. } => Self::Unsubscribed,
            Event::SubscribeRefused { .. } => Self::SubscribeRefused,
            Event::Published(_) => Self::Published,
            Event::PublishRefused { .. } => Self::PublishRefused,
            Event::Delivered(_) => Self::Delivered,
            Event::Dropped { .. } => Self::Dropped,
            Event::RateExceeded { .. } => Self::RateExceeded,
            Event::PublishesDelayed { .. } => Self::PublishesDelayed,
            Event::QueueFull { .. } => Self::QueueFull,
            Event::MessagesLost {
                reason: DropReason::OutputFull,
                ..
            } => Self::OutputFull,
            Event::MessagesLost { .. } => Self::MessagesLost,
            Event::Packet { .. } => Self::Packet,
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
