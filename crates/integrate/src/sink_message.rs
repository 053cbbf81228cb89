//! A message in the form for sinks.

use std::collections::HashMap;
use std::slice::Chunks;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::{Delivery, MemoryGauge, Message, MessageId, Publication, TenantId};
use martlet_codec::QoS;

use crate::bridge::PUBLISHER;
use crate::order::{Order, OrderKey};

/// A message for a sink. Clones share its contents.
#[derive(Clone, Debug)]
pub struct SinkMessage {
    message: Message,
    publisher: NamesFrom,
    retained: bool,
    pub(crate) repeated: bool,
    /// Which messages of its sink are delivered in order.
    order: Order,
    team: Option<Arc<str>>,
    is_of_all_tenants: bool,
    /// Expiry time; `None` is never.
    expires_at: Option<Instant>,
}

/// Where the names of the publisher are stored.
#[derive(Clone, Debug)]
enum NamesFrom {
    Message,
    DeadLetter(Arc<Publisher>),
}

impl SinkMessage {
    /// The message of a delivery for a sink that keeps this order.
    pub(crate) fn delivered(delivery: Delivery, order: Order) -> Self {
        Self {
            order,
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

    /// A message with this topic and payload, for tests of sinks.
    pub fn example(topic: &str, payload: &[u8]) -> Self {
        Self::made(&publication(topic, payload), NamesFrom::Message)
    }

    /// A message that was not delivered to a part. The runner has one batch of them at a time, so
    /// their bytes are not counted.
    fn made(publication: &Publication<'_>, publisher: NamesFrom) -> Self {
        let gauge = Arc::<MemoryGauge>::default();
        Self {
            message: Message::new(publication, None, &mut Vec::new(), &gauge),
            publisher,
            retained: false,
            repeated: false,
            order: Order::default(),
            team: None,
            is_of_all_tenants: false,
            expires_at: None,
        }
    }

    /// Adds the team that owns its tenant; `None` is the common tenant.
    pub(crate) fn with_team(mut self, team: Option<Arc<str>>, is_of_all_tenants: bool) -> Self {
        self.team = team;
        self.is_of_all_tenants = is_of_all_tenants;
        self
    }

    /// Sets its publisher, for tests of sinks.
    #[must_use]
    pub fn published_by(mut self, publisher: Publisher) -> Self {
        self.publisher = NamesFrom::DeadLetter(Arc::new(publisher));
        self
    }

    /// Messages with this key are delivered in order.
    pub(crate) fn order_key(&self) -> OrderKey<'_> {
        match (self.order, self.user()) {
            (Order::Topic, _) => OrderKey::Topic(self.topic().into()),
            (Order::User, Some(user)) => OrderKey::User(user.into()),
            (Order::User | Order::Publisher, _) => {
                OrderKey::Publisher(self.client_id().unwrap_or_default().into())
            }
        }
    }

    /// Number of the message in this node. Never reused.
    pub fn id(&self) -> u64 {
        self.message.id().0
    }

    /// An id that is unique among all nodes and that stays the same when the message is delivered
    /// again: for systems that drop duplicates.
    pub fn unique_id(&self) -> String {
        format!("{}_{}", self.id(), self.received_ms())
    }

    /// Tenant of the topic.
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

    /// MQTT 5 properties that are forwarded, encoded as in a packet;
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

    /// Whether it was a retained message that matched the sink's new subscription.
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

    /// Number of hops: how often parts of the node have published it as a consequence of another
    /// message.
    pub fn hops(&self) -> u8 {
        self.message.hops()
    }

    /// Name of the bridge or named connection through which it came; `None` if through none.
    pub fn bridge(&self) -> Option<&str> {
        // No client can have such a Client Identifier.
        self.client_id()?.strip_prefix(PUBLISHER)
    }

    /// Client Identifier of the publisher; `None` if unknown, or if the node itself published it.
    pub fn client_id(&self) -> Option<&str> {
        match &self.publisher {
            NamesFrom::Message => self.message.client().map(|client| &*client.client_id),
            NamesFrom::DeadLetter(publisher) => publisher.client_id.as_deref(),
        }
    }

    /// User name of the publisher; `None` if it had none or is unknown, or if its name was not
    /// checked: other systems take the name for the one that published.
    pub fn user(&self) -> Option<&str> {
        match &self.publisher {
            NamesFrom::Message => {
                let client = self.message.client()?;
                let is_proved = client.flags.user_is_proved();
                client.user_name.as_deref().filter(|_| is_proved)
            }
            NamesFrom::DeadLetter(publisher) => publisher.user.as_deref(),
        }
    }

    /// Device of the registry that published it; `None` if the publisher is not a device or is
    /// unknown.
    pub fn device(&self) -> Option<&str> {
        match &self.publisher {
            NamesFrom::Message => self.message.client()?.device(),
            NamesFrom::DeadLetter(publisher) => publisher.device.as_deref(),
        }
    }

    /// Whether the other system may have this message already: it was handed to the sink before,
    /// perhaps before a restart, or it is a dead letter that is sent again.
    pub fn repeated(&self) -> bool {
        self.repeated
    }

    /// An owned copy of the publisher's names.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher {
            client_id: self.client_id().map(str::to_owned),
            user: self.user().map(str::to_owned),
            device: self.device().map(str::to_owned),
        }
    }

    /// Bytes of topic, properties and payload, with the overhead of the node.
    pub(crate) fn bytes(&self) -> usize {
        self.message.bytes()
    }
}

/// Groups of a batch that may be sent at once by a sink that awaits the answers afterwards: all
/// messages, or single ones if nothing may be sent after a refused message.
pub(crate) fn sent_at_once(
    batch: &[SinkMessage],
    stops_at_refusal: bool,
) -> Chunks<'_, SinkMessage> {
    let length = if stops_at_refusal { 1 } else { batch.len() };
    batch.chunks(length.max(1))
}

/// Positions of the messages that are delivered in order, by publisher or whatever the order of the
/// sink says: for sinks that deliver messages of several publishers in parallel.
pub fn by_publisher(batch: &[SinkMessage]) -> Vec<Vec<usize>> {
    let mut lane_of: HashMap<OrderKey<'_>, usize> = HashMap::new();
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    for (at, message) in batch.iter().enumerate() {
        let lane = *lane_of.entry(message.order_key()).or_insert(lanes.len());
        match lanes.get_mut(lane) {
            Some(lane) => lane.push(at),
            None => lanes.push(vec![at]),
        }
    }
    lanes
}

/// Expiry time of the message of a delivery; `None` is never.
fn expires_at(delivery: &Delivery) -> Option<Instant> {
    let expires_at_ms = delivery.message.expires_at_ms();
    if expires_at_ms == u64::MAX {
        return None;
    }
    // The remaining lifetime when it was received.
    let lifetime_ms = delivery.message.age_ms(expires_at_ms);
    let left_ms = lifetime_ms.saturating_sub(delivery.age_ms);
    Instant::now().checked_add(Duration::from_millis(left_ms))
}

/// A publication with this topic and payload.
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
        is_will: false,
    }
}

/// The client that published a message. A field is `None` if the node does not know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publisher {
    /// Client Identifier.
    pub client_id: Option<String>,
    /// User name that was checked.
    pub user: Option<String>,
    /// Device of the registry.
    pub device: Option<String>,
}
