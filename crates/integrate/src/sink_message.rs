//! A message as a sink gets it.

use std::collections::HashMap;
use std::slice::Chunks;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::{Delivery, MemoryGauge, Message, MessageId, Publication, TenantId};
use martlet_codec::QoS;

use crate::bridge::PUBLISHER;
use crate::publisher::Publisher;

/// A message for a sink. Clones share the text.
#[derive(Clone, Debug)]
pub struct SinkMessage {
    message: Message,
    publisher: NamesFrom,
    retained: bool,
    pub(crate) repeated: bool,
    team: Option<Arc<str>>,
    is_of_all_tenants: bool,
    /// When it expires; none is never.
    expires_at: Option<Instant>,
}

/// Where the publisher's names are.
#[derive(Clone, Debug)]
enum NamesFrom {
    Message,
    DeadLetter(Arc<Publisher>),
}

impl SinkMessage {
    /// The message of a delivery.
    pub(crate) fn delivered(delivery: Delivery) -> Self {
        Self {
            publisher: NamesFrom::Message,
            expires_at: expires_at(&delivery),
            message: delivery.message,
            retained: delivery.retained,
            repeated: delivery.dup,
            team: None,
            is_of_all_tenants: false,
        }
    }

    /// A message of this publisher that is sent again.
    pub(crate) fn sent_again(
        publication: &Publication<'_>,
        publisher: Publisher,
        retained: bool,
    ) -> Self {
        Self {
            retained,
            repeated: true,
            ..Self::made(publication, NamesFrom::DeadLetter(Arc::new(publisher)))
        }
    }

    /// A message of this topic and payload, for tests of sinks.
    pub fn example(topic: &str, payload: &[u8]) -> Self {
        Self::made(&publication(topic, payload), NamesFrom::Message)
    }

    /// A message that no part was handed. The runner holds one batch of them at a time, so their
    /// bytes are not counted.
    fn made(publication: &Publication<'_>, publisher: NamesFrom) -> Self {
        let gauge = Arc::<MemoryGauge>::default();
        Self {
            message: Message::new(publication, None, &mut Vec::new(), &gauge),
            publisher,
            retained: false,
            repeated: false,
            team: None,
            is_of_all_tenants: false,
            expires_at: None,
        }
    }

    /// The same with the team that owns its tenant; none is the common tenant.
    pub(crate) fn with_team(mut self, team: Option<Arc<str>>, is_of_all_tenants: bool) -> Self {
        self.team = team;
        self.is_of_all_tenants = is_of_all_tenants;
        self
    }

    /// The same published by this client, for tests of sinks.
    #[must_use]
    pub fn published_by(mut self, publisher: Publisher) -> Self {
        self.publisher = NamesFrom::DeadLetter(Arc::new(publisher));
        self
    }

    /// Number of the message in this node. It is never used again.
    pub fn id(&self) -> u64 {
        self.message.id().0
    }

    /// A text that no other message has, of other nodes neither, and that is the same when the
    /// message is delivered again: for systems that drop what they have already.
    pub fn unique_id(&self) -> String {
        format!("{}_{}", self.id(), self.received_ms())
    }

    /// Tenant that the topic belongs to.
    pub fn tenant(&self) -> TenantId {
        self.message.tenant()
    }

    /// The team that owns the tenant; none for the common tenant.
    pub fn team(&self) -> Option<&str> {
        self.team.as_deref()
    }

    /// Whether its sink takes the messages of all tenants.
    pub(crate) fn is_of_all_tenants(&self) -> bool {
        self.is_of_all_tenants
    }

    /// Topic Name.
    pub fn topic(&self) -> &str {
        self.message.topic()
    }

    /// Payload.
    pub fn payload(&self) -> &[u8] {
        self.message.payload()
    }

    /// Properties of MQTT 5 that are passed on, encoded as in a packet;
    /// `martlet_codec::PublishProperties::from_forwarded` decodes them.
    pub fn properties(&self) -> &[u8] {
        self.message.forwarded()
    }

    /// QoS of its PUBLISH.
    pub fn qos(&self) -> QoS {
        self.message.qos()
    }

    /// Whether it was published with RETAIN.
    pub fn retain(&self) -> bool {
        self.message.retain()
    }

    /// Whether it was a retained message that the sink's subscription found.
    pub fn retained(&self) -> bool {
        self.retained
    }

    /// Time of receipt, milliseconds since the Unix epoch.
    pub fn received_ms(&self) -> u64 {
        self.message.received_wall_ms()
    }

    /// Seconds until it expires, rounded up: 0 if it has; none if it never does.
    pub fn expires_in_secs(&self) -> Option<u32> {
        let left = self.expires_at?.saturating_duration_since(Instant::now());
        let secs = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(u32::try_from(secs).unwrap_or(u32::MAX))
    }

    /// How often parts of the node have passed it on, each as the consequence of another message.
    pub fn hops(&self) -> u8 {
        self.message.hops()
    }

    /// Name of the bridge or named connection over which it came; none if it came over none.
    pub fn bridge(&self) -> Option<&str> {
        // No client has such a Client Identifier.
        self.client_id()?.strip_prefix(PUBLISHER)
    }

    /// Client Identifier of the publisher; none if unknown, and for messages of the node itself.
    pub fn client_id(&self) -> Option<&str> {
        match &self.publisher {
            NamesFrom::Message => self.message.client().map(|client| &*client.client_id),
            NamesFrom::DeadLetter(publisher) => publisher.client_id.as_deref(),
        }
    }

    /// User name of the publisher; none if it had none or is unknown.
    pub fn user(&self) -> Option<&str> {
        match &self.publisher {
            NamesFrom::Message => self.message.client()?.user_name.as_deref(),
            NamesFrom::DeadLetter(publisher) => publisher.user.as_deref(),
        }
    }

    /// Device of the registry that published it; none if the publisher is no device or is unknown.
    pub fn device(&self) -> Option<&str> {
        match &self.publisher {
            NamesFrom::Message => self.message.client()?.device(),
            NamesFrom::DeadLetter(publisher) => publisher.device.as_deref(),
        }
    }

    /// Whether the other system may have this message already: it was handed to the sink before,
    /// or before a restart, or it is a dead letter that is sent again.
    pub fn repeated(&self) -> bool {
        self.repeated
    }

    /// Names of the publisher, to be kept.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher {
            client_id: self.client_id().map(str::to_owned),
            user: self.user().map(str::to_owned),
            device: self.device().map(str::to_owned),
        }
    }

    /// Bytes of topic, properties and payload with what the node adds.
    pub(crate) fn bytes(&self) -> usize {
        self.message.bytes()
    }
}

/// What of a batch may be sent at once by a sink that waits for the answers afterwards: all, or one
/// message after the other if nothing may be sent behind one that is refused.
pub(crate) fn sent_at_once(
    batch: &[SinkMessage],
    stops_at_refusal: bool,
) -> Chunks<'_, SinkMessage> {
    let length = if stops_at_refusal { 1 } else { batch.len() };
    batch.chunks(length.max(1))
}

/// Places of the messages of each publisher, in their order: for sinks that deliver the messages of
/// several publishers at once.
pub fn by_publisher(batch: &[SinkMessage]) -> Vec<Vec<usize>> {
    let mut lane_of: HashMap<Option<&str>, usize> = HashMap::new();
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    for (at, message) in batch.iter().enumerate() {
        let lane = *lane_of.entry(message.client_id()).or_insert(lanes.len());
        match lanes.get_mut(lane) {
            Some(lane) => lane.push(at),
            None => lanes.push(vec![at]),
        }
    }
    lanes
}

/// When the message of a delivery expires; none is never.
fn expires_at(delivery: &Delivery) -> Option<Instant> {
    let expires_at_ms = delivery.message.expires_at_ms();
    if expires_at_ms == u64::MAX {
        return None;
    }
    // The time that it had when it came in.
    let lifetime_ms = delivery.message.age_ms(expires_at_ms);
    let left_ms = lifetime_ms.saturating_sub(delivery.age_ms);
    Instant::now().checked_add(Duration::from_millis(left_ms))
}

/// A publication of this topic and payload.
pub(crate) fn publication<'a>(topic: &'a str, payload: &'a [u8]) -> Publication<'a> {
    Publication {
        id: MessageId(1),
        tenant: TenantId::default(),
        publisher: None,
        topic,
        forwarded: &[],
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        received_wall_ms: 0,
        expires_at_ms: u64::MAX,
        received_mono_ms: 0,
        hops: 0,
    }
}
