//! Filters of events.

use std::net::IpAddr;
use std::ops::Range;

use martlet_broker::{DropReason, Event, EventInterest, TenantId, is_asked_for};
use martlet_codec::{TopicFilter, TopicName};

use crate::feed::{Entry, Happened, Part};
use crate::journal;

/// Declares the closed list of kinds.
macro_rules! kinds {
    ($( $name:ident $text:literal $what:literal; )*) => {
        /// What kind of event it is, as readers name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $( #[doc = $what] $name, )*
        }

        impl Kind {
            /// All there are.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }
        }
    };
}

kinds! {
    Connected "connected" "A CONNECT was accepted.";
    Authenticated "authenticated" "A client has proved who it is; what becomes of it is told next.";
    Refused "refused" "A CONNECT was refused.";
    ReauthenticationRefused "reauthentication_refused" "A client did not prove anew who it is.";
    TakenOver "taken_over" "A connection ends because its client has come again.";
    Disconnected "disconnected" "A connection ended.";
    SessionEnded "session_ended" "A session ended.";
    Subscribed "subscribed" "A subscription was granted.";
    Unsubscribed "unsubscribed" "A subscription was ended.";
    SubscribeRefused "subscribe_refused" "A subscription was refused.";
    Published "published" "A message was accepted.";
    PublishRefused "publish_refused" "A message was refused.";
    Delivered "delivered" "A message was delivered.";
    Dropped "dropped" "A message was dropped for a receiver; of a session that has ended, all together.";
    DroppedMessage "dropped_message" "One of the messages that `dropped` counts together.";
    RateExceeded "rate_exceeded" "Messages were dropped: their client is too fast.";
    PublishesDelayed "publishes_delayed" "Messages wait: their client publishes too fast.";
    QueueFull "queue_full" "A queue is full.";
    OutputFull "output_full" "A client reads too slowly: QoS 0 messages for it are dropped.";
    MessagesLost "messages_lost" "How many messages were dropped for a client or a share group, and why.";
    Packet "packet" "A packet came or was written.";
    Gone "gone" "Events were lost; nobody can leave that out.";
}

impl Kind {
    pub(super) fn of(event: &Event) -> Self {
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

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u32);

/// A name that no kind has.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no kind of event; there are {names}", names = names())]
pub struct NoKind(String);

fn names() -> String {
    let names = Kind::ALL.iter().map(|kind| kind.name());
    names.chain(["all"]).collect::<Vec<_>>().join(", ")
}

impl Kinds {
    /// Everything but packets, and messages one by one that are counted together.
    pub fn usual() -> Self {
        Self(!Kind::Packet.bit() & !Kind::DroppedMessage.bit())
    }

    /// Everything.
    pub fn all() -> Self {
        Self(!0)
    }

    /// These alone.
    pub fn of(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | kind.bit()))
    }

    /// From names with commas between them; `all` is all.
    ///
    /// # Errors
    /// A name that is none.
    pub fn parse(text: &str) -> Result<Self, NoKind> {
        let mut set = 0;
        for name in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            set |= match name {
                "all" => !0,
                name => {
                    let kind = Kind::from_name(name);
                    kind.ok_or_else(|| NoKind(name.to_owned()))?.bit()
                }
            };
        }
        Ok(Self(set))
    }

    /// It is one of them.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    fn any(self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.has(*kind))
    }
}

/// Sampling of a kind of events: one in this number is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    kind: Kind,
    one_in: u32,
    seen: u32,
}

impl Sample {
    /// From `kind:N` with commas between them.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let parts = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let all = parts.map(|part| {
            let found = part.split_once(':').and_then(|(kind, one_in)| {
                let one_in = one_in.parse().ok().filter(|one_in| *one_in > 0)?;
                let kind = Kind::from_name(kind)?;
                let seen = 0;
                Some(Self { kind, one_in, seen })
            });
            found.ok_or_else(|| format!("{part:?}: expected KIND:N, such as packet:100"))
        });
        all.collect()
    }
}

/// Filter of a reader; an event has to match all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// In this tenant; none: in all.
    pub tenant: Option<TenantId>,
    /// Of these kinds.
    pub kinds: Kinds,
    /// Of this client.
    pub client: Option<String>,
    /// Of clients whose identifier begins so.
    pub client_prefix: Option<String>,
    /// Of this user.
    pub user: Option<String>,
    /// With a topic that this Topic Filter matches.
    pub topic: Option<String>,
    /// Of a connection from this address.
    pub address: Option<IpAddr>,
    /// Only what was refused or lost.
    pub trouble: bool,
    /// Sampling, for each kind.
    pub samples: Vec<Sample>,
    /// Bytes of each payload that are shown.
    pub payload_bytes: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            tenant: None,
            kinds: Kinds::usual(),
            client: None,
            client_prefix: None,
            user: None,
            topic: None,
            address: None,
            trouble: false,
            samples: Vec::new(),
            payload_bytes: 0,
        }
    }
}

const CONNECTIONS: &[Kind] = &[
    Kind::Connected,
    Kind::Authenticated,
    Kind::Refused,
    Kind::ReauthenticationRefused,
    Kind::TakenOver,
    Kind::Disconnected,
    Kind::SessionEnded,
    Kind::SubscribeRefused,
    Kind::PublishRefused,
    Kind::QueueFull,
    Kind::OutputFull,
    Kind::MessagesLost,
];

impl Filter {
    /// This can stand in `topic`.
    pub fn is_topic(text: &str) -> bool {
        TopicFilter::new(text).is_ok()
    }

    /// What the shards have to tell for it.
    pub fn interest(&self) -> EventInterest {
        let mut interest = EventInterest {
            payload_bytes_max: match self.kinds.has(Kind::Published) && !self.trouble {
                true => self.payload_bytes,
                false => 0,
            },
            ..EventInterest::default()
        };
        if let Some(client) = &self.client {
            interest.traced.clients = vec![(TenantId(0), client.as_str().into())];
            return interest;
        }
        if let Some(address) = self.address {
            interest.traced.addresses = vec![address];
            return interest;
        }
        let drops = [Kind::Dropped, Kind::DroppedMessage, Kind::RateExceeded];
        interest.connections = self.kinds.any(CONNECTIONS);
        if let Some(topic) = &self.topic {
            if self
                .kinds
                .any(&[Kind::Published, Kind::Delivered, Kind::Dropped])
            {
                interest.traced.topics = vec![topic.as_str().into()];
            }
        } else {
            interest.drops = self.kinds.any(&drops);
            interest.published = self.kinds.has(Kind::Published) && !self.trouble;
            interest.delivered = self.kinds.has(Kind::Delivered) && !self.trouble;
            interest.packets = self.kinds.has(Kind::Packet) && !self.trouble;
        }
        let subscriptions = [Kind::Subscribed, Kind::Unsubscribed];
        interest.subscriptions = self.kinds.any(&subscriptions) && !self.trouble;
        interest
    }

    /// Messages are wanted one by one that were dropped together: by their topics they are.
    pub(super) fn wants_each(&self) -> bool {
        let by_topic = self.topic.is_some() && self.kinds.has(Kind::Dropped);
        self.kinds.has(Kind::DroppedMessage) || by_topic
    }

    /// Packets come whole, for each client that comes at all.
    pub(super) fn has_all_packets(&self) -> bool {
        self.kinds.has(Kind::Packet)
            && self.topic.is_none()
            && !self.trouble
            && self.samples.is_empty()
    }

    /// Leaves of a part what is wanted.
    pub(super) fn pass(&mut self, part: &mut Part) {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for at in part.runs.iter().cloned().flatten() {
            let entry = part.block.entry(at);
            if !entry.is_some_and(|entry| self.passes(&entry)) {
                continue;
            }
            match runs.last_mut().filter(|run| run.end == at) {
                Some(run) => run.end = at + 1,
                None => runs.push(at..at + 1),
            }
        }
        part.runs = runs;
    }

    /// It is wanted.
    fn passes(&mut self, entry: &Entry<'_>) -> bool {
        let (client_id, event) = match entry.what() {
            Happened::Connected(client) => (&*client.client_id, None),
            Happened::Event(event) => (event.client_id(), Some(event)),
            Happened::Lost(_) => return true,
        };
        let is_of_kind = match (entry.kind, &self.topic) {
            (Kind::DroppedMessage, Some(_)) => self.wants_each(),
            (Kind::Dropped, Some(_)) if entry.together().is_some() => false,
            (kind, _) => self.kinds.has(kind),
        };
        let passes = self.tenant.is_none_or(|tenant| tenant == entry.tenant)
            && is_of_kind
            && self.is_of_client(client_id)
            && self.user.as_deref().is_none_or(|user| {
                entry
                    .user()
                    .is_some_and(|found| is_asked_for(found.name, user))
            })
            && self
                .address
                .is_none_or(|address| entry.ip() == Some(address))
            && self
                .topic
                .as_deref()
                .is_none_or(|topic| event.is_some_and(|event| has_topic(event, topic)))
            && (!self.trouble || event.is_some_and(|event| is_trouble(entry.kind, event)));
        passes && self.is_sampled(entry.kind)
    }

    fn is_of_client(&self, client_id: &str) -> bool {
        self.client
            .as_deref()
            .is_none_or(|client| is_asked_for(client_id, client))
            && self
                .client_prefix
                .as_deref()
                .is_none_or(|prefix| client_id.starts_with(prefix))
    }

    fn is_sampled(&mut self, kind: Kind) -> bool {
        let mut samples = self.samples.iter_mut();
        let Some(sample) = samples.find(|sample| sample.kind == kind) else {
            return true;
        };
        sample.seen += 1;
        if sample.seen >= sample.one_in {
            sample.seen = 0;
        }
        sample.seen == 1 % sample.one_in
    }
}

fn is_trouble(kind: Kind, event: &Event) -> bool {
    match kind {
        Kind::Authenticated | Kind::Packet | Kind::Published | Kind::Delivered => false,
        Kind::TakenOver | Kind::SessionEnded | Kind::Subscribed | Kind::Unsubscribed => false,
        _ => journal::is_trouble(event),
    }
}

/// It is about this topic, or one that this Topic Filter matches.
pub(crate) fn has_topic(event: &Event, filter: &str) -> bool {
    let Some(topic) = event.topic() else {
        return false;
    };
    is_asked_for(topic, filter)
        || match (TopicFilter::new(filter), TopicName::new(topic)) {
            (Ok(filter), Ok(topic)) => filter.matches(topic),
            _ => false,
        }
}
