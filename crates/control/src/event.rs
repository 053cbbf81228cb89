//! Events of a node: those of its shards, and those of the control plane itself.

use std::borrow::Cow;

use martlet_broker::{
    Event, EventHead, EventNotice, ReachedLimit, Refusal, RefusalCause, SharedClient, TenantId,
    shorten_why,
};
use martlet_codec::ReasonCode;

use crate::event_kind::EventKind;
use crate::http_cause::HttpCause;

/// An event of a node: the client or device that it is about, and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNotice {
    /// The client or device that it is about.
    pub head: EventHead,
    /// Event.
    pub event: NodeEvent,
}

/// Event of a node. The [`EventHead`] has the client or device that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A shard has reported it.
    Shard(Event),
    /// A device asked to be added by a provisioning key, by HTTP, and was not. The Client
    /// Identifier is the id that it asked for.
    ProvisioningRefused {
        /// Why.
        why: Refusal,
        /// The key that it has shown; none: it is no valid key.
        key: Option<Box<ShownKey>>,
    },
    /// A request by HTTP was refused: of a device, with an API key, or for its Host.
    RequestRefused {
        /// Why, with the method and path of the request.
        why: Refusal<HttpCause>,
        /// The API key that it was sent with; none: without one, or it is that of a device.
        key: Option<Box<RequestKey>>,
    },
    /// A client of another protocol came to a port of the HTTP server.
    ConnectionRefused {
        /// Why.
        why: Refusal<HttpCause>,
    },
    /// A device has sent nothing for longer than its type permits.
    DeviceInactive {
        /// When it sent its last message, milliseconds since the Unix epoch.
        last_message_ms: u64,
        /// After how many seconds without a message it is inactive.
        after_secs: u32,
    },
    /// A device that was inactive has sent something.
    DeviceActive {
        /// When it sent its last message before that, milliseconds since the Unix epoch.
        last_message_ms: u64,
    },
    /// An alarm was raised.
    AlarmRaised(Box<AlarmNotice>),
    /// An alarm was acknowledged, shelved or cleared.
    AlarmChanged(Box<AlarmNotice>),
    /// Values of the twin of a device have changed.
    TwinChanged {
        /// Which ones: `desired` or `reported`.
        side: &'static str,
        /// Their version.
        version: i64,
        /// Hops of the event, as messages have them.
        hops: u8,
    },
}

/// A provisioning key that a device has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownKey {
    /// Name of the key.
    pub name: Box<str>,
    /// The type of devices that it adds.
    pub device_type: Box<str>,
    /// The id of their team; empty: none.
    pub team: Box<str>,
    /// The pattern of their ids; empty: any.
    pub id_pattern: Box<str>,
}

/// The API key of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Id; of a key of the configuration its name.
    pub id: Box<str>,
    /// The scope that it lacks; none: it was refused for something else.
    pub lacking: Option<&'static str>,
}

/// See [`NodeEvent::AlarmRaised`]. The [`EventHead`] has what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmNotice {
    /// Number of the alarm.
    pub id: i64,
    /// Name of the alarm.
    pub name: Box<str>,
    /// How bad it is, as a word.
    pub severity: &'static str,
    /// State, as a word.
    pub state: &'static str,
    /// Text of the alarm.
    pub message: Box<str>,
    /// Hops of the event, as messages have them.
    pub hops: u8,
}

impl From<EventNotice> for NodeNotice {
    fn from(notice: EventNotice) -> Self {
        Self {
            head: notice.head,
            event: NodeEvent::Shard(notice.event),
        }
    }
}

impl From<Event> for NodeEvent {
    fn from(event: Event) -> Self {
        Self::Shard(event)
    }
}

impl NodeNotice {
    /// An event as it is reported. Names of a refused device or request are cut.
    pub fn new(head: EventHead, event: impl Into<NodeEvent>) -> Self {
        let mut event = match event.into() {
            NodeEvent::Shard(event) => return EventNotice::new(head, event).into(),
            event => event,
        };
        let head = match &mut event {
            NodeEvent::ProvisioningRefused { why, .. } => {
                shorten_why(why);
                head.shortened()
            }
            NodeEvent::RequestRefused { why, .. } => {
                shorten_why(why);
                head.shortened()
            }
            _ => head,
        };
        Self { head, event }
    }

    /// An event about a client that has connected.
    pub(crate) fn connected(tenant: TenantId, client: SharedClient) -> Self {
        EventNotice::connected(tenant, client).into()
    }

    /// The event with every name cut, for the log and the journal. Not for one that was cut
    /// before.
    pub(crate) fn shown(&self) -> Cow<'_, Self> {
        if let Some(event) = self.event.shard() {
            let shown = event.shown(&self.head);
            return shown.map_or(Cow::Borrowed(self), |shown| Cow::Owned(shown.into()));
        }
        let head = self.head.clone().shortened();
        match head == self.head {
            true => Cow::Borrowed(self),
            false => Cow::Owned(Self {
                head,
                event: self.event.clone(),
            }),
        }
    }

    /// Approximate number of bytes that it takes beside its own size: of its texts and its payload.
    pub(crate) fn text_bytes(&self) -> usize {
        self.head.text_bytes() + self.event.text_bytes()
    }
}

impl NodeEvent {
    /// The event, if a shard has reported it.
    pub fn shard(&self) -> Option<&Event> {
        match self {
            Self::Shard(event) => Some(event),
            _ => None,
        }
    }

    /// Returns the kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Shard(event) => EventKind::of(event),
            Self::ProvisioningRefused { .. } => EventKind::ProvisioningRefused,
            Self::RequestRefused { .. } => EventKind::RequestRefused,
            Self::ConnectionRefused { .. } => EventKind::Refused,
            Self::DeviceInactive { .. } => EventKind::DeviceInactive,
            Self::DeviceActive { .. } => EventKind::DeviceActive,
            Self::AlarmRaised(_) => EventKind::AlarmRaised,
            Self::AlarmChanged(_) => EventKind::AlarmChanged,
            Self::TwinChanged { .. } => EventKind::TwinChanged,
        }
    }

    /// How far it is from what a client has done, as messages count it: a rule may have led to it.
    pub(crate) fn hops(&self) -> u8 {
        match self {
            Self::AlarmRaised(alarm) | Self::AlarmChanged(alarm) => alarm.hops,
            Self::TwinChanged { hops, .. } => *hops,
            _ => 0,
        }
    }

    /// Why something was refused or ended, in words; none: it is about something else.
    pub(crate) fn refusal_text(&self) -> Option<&str> {
        match self {
            Self::Shard(event) => event.refusal().map(Refusal::detail),
            Self::ProvisioningRefused { why, .. } => Some(why.detail()),
            Self::RequestRefused { why, .. } | Self::ConnectionRefused { why } => {
                Some(why.detail())
            }
            _ => None,
        }
    }

    /// The cause of a refusal, an end, or a drop by a limit.
    pub(crate) fn cause(&self) -> Option<RefusalCause> {
        match self {
            Self::Shard(event) => event.cause(),
            Self::ProvisioningRefused { why, .. } => Some(why.cause),
            Self::RequestRefused { why, .. } => match why.cause {
                HttpCause::Client(cause) => Some(cause),
                _ => None,
            },
            _ => None,
        }
    }

    /// The limit that messages were dropped or delayed for, with its value.
    pub(crate) fn reached(&self) -> Option<ReachedLimit> {
        self.shard().and_then(Event::reached)
    }

    /// The name of its reason code, or of the reason of a drop.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Shard(event) => event.reason(),
            Self::ConnectionRefused { .. } => Some(ReasonCode::ProtocolError.name()),
            _ => None,
        }
    }

    /// How many messages it is about, where it counts them.
    pub(crate) fn count(&self) -> Option<u64> {
        self.shard().and_then(Event::count)
    }

    /// The Topic Name or Topic Filter, if it has one.
    pub fn topic(&self) -> Option<&str> {
        self.shard().and_then(Event::topic)
    }

    /// Bytes of its own texts and its payload.
    fn text_bytes(&self) -> usize {
        match self {
            Self::Shard(event) => event.text_bytes(),
            Self::ConnectionRefused { why } => why.text_bytes(),
            Self::RequestRefused { why, key } => {
                let key = key.as_ref();
                why.text_bytes() + key.map_or(0, |key| size_of::<RequestKey>() + key.id.len())
            }
            Self::ProvisioningRefused { why, key } => {
                let texts = |key: &ShownKey| {
                    let texts = [&key.name, &key.device_type, &key.team, &key.id_pattern];
                    texts.map(|text| text.len()).iter().sum::<usize>()
                };
                let key = key.as_ref();
                why.text_bytes() + key.map_or(0, |key| size_of::<ShownKey>() + texts(key))
            }
            Self::AlarmRaised(alarm) | Self::AlarmChanged(alarm) => {
                size_of::<AlarmNotice>() + alarm.name.len() + alarm.message.len()
            }
            Self::DeviceInactive { .. } | Self::DeviceActive { .. } | Self::TwinChanged { .. } => 0,
        }
    }
}
