//! Metrics of the topic memory.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{DroppedTopics, TopicMemory};

/// The topic memory at one moment.
#[derive(Debug)]
pub struct TopicMemoryPage {
    topics: usize,
    dropped: DroppedTopics,
}

impl TopicMemory {
    /// Metrics of the topic memory, as they are now.
    pub fn metrics(&self) -> TopicMemoryPage {
        let memory = self.memory();
        TopicMemoryPage {
            topics: memory.topics(),
            dropped: memory.dropped(),
        }
    }
}

impl Collector for TopicMemoryPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let topics = ConstGauge::new(self.topics as u64);
        let name = "topic_memory_topics";
        let help = "Topics in the topic memory";
        topics.encode(encoder.encode_descriptor(name, help, None, topics.metric_type())?)?;
        let help = "Topics that the topic memory has dropped";
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor("topic_memory_dropped", help, None, kind)?;
        for (reason, count) in [
            ("too_many", self.dropped.too_many),
            ("memory_full", self.dropped.memory_full),
            ("too_old", self.dropped.too_old),
        ] {
            let label = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}
