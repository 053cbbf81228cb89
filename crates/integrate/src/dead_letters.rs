//! Dead letters: messages that a sink has refused. One store has those of all sinks. It is
//! bounded: when it is full, the oldest are dropped and counted.

use martlet_broker::{MessageId, Publication, TenantId};
use martlet_codec::QoS;

use crate::host_future::HostFuture;
use crate::sink_message::{Publisher, SinkMessage, publication};

/// A dead letter without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterHead {
    /// Number in the store, in the order of refusal; 0 before it is stored.
    pub id: u64,
    /// Kind of the integration, such as `file`.
    pub kind: String,
    /// Name of the integration.
    pub name: String,
    /// Tenant of the message.
    pub tenant: u32,
    /// Number of the message in its node.
    pub message_id: u64,
    /// Topic Name.
    pub topic: String,
    /// Length of the payload, bytes.
    pub payload_bytes: u64,
    /// QoS of its PUBLISH.
    pub qos: QoS,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// Whether it was a retained message that matched the sink's new subscription.
    pub retained: bool,
    /// Time of receipt, milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// Time of the last refusal, milliseconds since the Unix epoch.
    pub refused_ms: u64,
    /// Reason of the last refusal.
    pub reason: String,
    /// Number of refusals.
    pub refusals: u32,
}

/// A message that a sink has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// All fields except the texts below.
    pub head: DeadLetterHead,
    /// The client that published it.
    pub publisher: Publisher,
    /// MQTT 5 properties that are forwarded, encoded as in a packet.
    pub properties: Vec<u8>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl DeadLetter {
    /// The message, for sending it again.
    pub(crate) fn message(&self) -> SinkMessage {
        let head = &self.head;
        let publication = Publication {
            id: MessageId(head.message_id),
            tenant: TenantId(head.tenant),
            forwarded: &self.properties,
            qos: head.qos,
            retain: head.retain,
            received_wall_ms: head.received_ms,
            ..publication(&head.topic, &self.payload)
        };
        SinkMessage::sent_again(&publication, self.publisher.clone(), head.retained)
    }

    /// A message that was just refused; not stored yet.
    pub(crate) fn new(
        kind: &str,
        name: &str,
        message: &SinkMessage,
        reason: &str,
        refused_ms: u64,
    ) -> Self {
        Self {
            head: DeadLetterHead {
                id: 0,
                kind: kind.to_owned(),
                name: name.to_owned(),
                tenant: message.tenant().0,
                message_id: message.id(),
                topic: message.topic().to_owned(),
                payload_bytes: message.payload().len() as u64,
                qos: message.qos(),
                retain: message.retain(),
                retained: message.retained(),
                received_ms: message.received_ms(),
                refused_ms,
                reason: reason.to_owned(),
                refusals: 1,
            },
            publisher: message.publisher(),
            properties: message.properties().to_owned(),
            payload: message.payload().to_owned(),
        }
    }
}

/// A dead letter as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredLetter {
    /// The letter, with its payload.
    Whole(Box<DeadLetter>),
    /// A damaged letter, which is not sent: what is wrong with it, in words.
    Damaged(String),
}

/// The store of the dead letters of all sinks.
pub trait DeadLetterStore: Send + Sync {
    /// Stores letters durably. An existing letter of the same integration and message is updated,
    /// so that a message refused again after a crash is stored once. Returns how many of the
    /// oldest letters were dropped because the store was full.
    fn put(&self, letters: Vec<DeadLetter>) -> HostFuture<'_, Result<u64, String>>;

    /// The letter of this number; `None` if it does not exist.
    fn get(&self, id: u64) -> HostFuture<'_, Result<Option<StoredLetter>, String>>;

    /// Notes that a letter is damaged: it is not to be sent again, and has this reason.
    fn note_damaged(&self, id: u64, why: String) -> HostFuture<'_, Result<(), String>>;

    /// Removes letters. Returns how many existed.
    fn remove(&self, ids: Vec<u64>) -> HostFuture<'_, Result<u64, String>>;
}
