//! Types that a reader of the topic memory gets.

use std::sync::Arc;

use martlet_broker::{MessageId, TenantId};
use martlet_codec::{QoS, TopicFilter};

/// A filter of topics. All given conditions must be true.
#[derive(Clone, Copy, Debug)]
pub struct TopicQuery<'a> {
    /// The tenant of the topics.
    pub tenant: TenantId,
    /// They match this Topic Filter.
    pub filter: TopicFilter<'a>,
    /// Words with blanks between them that are all in the topic, in any order and in letters of any
    /// case; `*` in a word is any text, `?` any character.
    pub words: &'a str,
    /// Only those after this topic, in the order of their names.
    pub after: Option<&'a str>,
    /// How many, at most.
    pub limit: usize,
    /// Count all of them.
    pub count: bool,
}

/// A page of topics.
#[derive(Clone, Debug, Default)]
pub struct TopicPage {
    /// The topics, by their names.
    pub topics: Vec<RememberedTopic>,
    /// There are more.
    pub more: bool,
    /// How many there are on all pages, where the query counts them from the first page on.
    pub count: u64,
}

impl TopicPage {
    pub(crate) fn is_complete(&self, query: &TopicQuery<'_>) -> bool {
        self.more && !query.count
    }
}

/// A topic that is remembered.
#[derive(Clone, Debug)]
pub struct RememberedTopic {
    /// Topic Name.
    pub topic: Arc<str>,
    /// Messages since it is remembered.
    pub messages: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Messages per second, in about the last minute.
    pub rate: f64,
    /// Payloads that are kept.
    pub kept: usize,
    /// The last message.
    pub last: RememberedMessage,
}

/// A message that is remembered.
#[derive(Clone, Debug)]
pub struct RememberedMessage {
    /// Name of the message.
    pub id: MessageId,
    /// When it came in, milliseconds since the Unix epoch.
    pub received_wall_ms: u64,
    /// QoS it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN 1.
    pub retain: bool,
    /// The publisher; none where that is not known, or it was the node.
    pub publisher: Option<Arc<MessagePublisher>>,
    /// Payload of the message, or its beginning.
    pub payload: Arc<[u8]>,
    /// Length of the payload.
    pub payload_bytes: usize,
}

/// The publisher of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePublisher {
    /// Client Identifier.
    pub client_id: Box<str>,
    /// User name.
    pub user_name: Option<Box<str>>,
    /// The user is a device.
    pub is_device: bool,
}
