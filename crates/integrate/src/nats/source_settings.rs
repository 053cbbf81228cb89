//! Settings of a NATS source.

use std::time::Duration;

use martlet_codec::{QoS, TopicFilter, TopicName};

use super::server::ServerSettings;
use super::topic::TopicTemplate;

/// Settings of a NATS source.
#[derive(Clone, Debug)]
pub(super) struct NatsSourceSettings {
    pub(super) server: ServerSettings,
    pub(super) stream: Box<str>,
    pub(super) durable: Box<str>,
    pub(super) filter_subject: Option<Box<str>>,
    pub(super) only_new: bool,
    pub(super) topic: TopicTemplate,
    pub(super) allow: Vec<String>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) in_hand: usize,
    /// Time limit for an acknowledgement, after which JetStream redelivers a message.
    pub(super) ack_wait: Duration,
}

impl NatsSourceSettings {
    /// Whether it may publish to this topic.
    pub(super) fn may_publish(&self, topic: &str) -> bool {
        let Ok(topic) = TopicName::new(topic) else {
            return false;
        };
        let mut allow = self.allow.iter();
        let matches = |filter: &String| {
            let filter = TopicFilter::new(filter);
            filter.is_ok_and(|filter| filter.matches(topic))
        };
        self.allow.is_empty() || allow.any(matches)
    }
}

/// The QoS of this number.
pub(super) fn qos(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        2 => QoS::ExactlyOnce,
        _ => QoS::AtLeastOnce,
    }
}
