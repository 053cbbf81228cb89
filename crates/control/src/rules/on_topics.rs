//! Results of a rule for the last message of each topic: of the latest topics, as `martlet why RULE
//! TOPIC` reports it.

use std::hash::{BuildHasher, RandomState};

use crate::wall_clock::now_ms;

/// Topics that are remembered for each rule.
const TOPICS_MAX: usize = 32;
/// Bytes of a topic that is remembered.
const TOPIC_BYTES_MAX: usize = 256;
/// Bytes of a payload that is remembered.
const PAYLOAD_BYTES_MAX: usize = 256;

/// Result of a rule for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicResult {
    /// The condition is true.
    Matched,
    /// The condition is false.
    Unmatched,
    /// The message lacks this member, which an expression of the rule names.
    Missing(String),
    /// The message is of no device that the rule looks at.
    OtherDevice,
    /// The rule has failed, or has found a loop.
    Failed,
}

/// The last message of a topic, as a rule has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOnTopic {
    /// Result of the rule for the message.
    pub result: TopicResult,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Payload of the message; empty if that is long.
    pub payload: Vec<u8>,
}

/// The latest topics of one rule.
#[derive(Clone, Debug, Default)]
pub(super) struct OnTopics {
    hasher: RandomState,
    /// Hashes of the topics: a message costs one look along these.
    hashes: Vec<u64>,
    topics: Vec<(String, LastOnTopic)>,
    /// The place that the next new topic gets.
    next: usize,
}

impl OnTopics {
    /// Remembers what the rule has made of a message.
    pub(super) fn note(&mut self, topic: &str, payload: &[u8], result: TopicResult) {
        if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX {
            return;
        }
        let place = self.place_for(topic);
        let (_, last) = &mut self.topics[place];
        last.at_ms = now_ms();
        last.payload.clear();
        if result != TopicResult::Matched && payload.len() <= PAYLOAD_BYTES_MAX {
            last.payload.extend_from_slice(payload);
        }
        last.result = result;
    }

    fn place_for(&mut self, topic: &str) -> usize {
        let hash = self.hasher.hash_one(topic);
        if let Some(place) = self.find(topic, hash) {
            return place;
        }
        let empty = LastOnTopic {
            result: TopicResult::Matched,
            at_ms: 0,
            payload: Vec::new(),
        };
        if self.topics.len() < TOPICS_MAX {
            self.hashes.push(hash);
            self.topics.push((topic.to_owned(), empty));
            return self.topics.len() - 1;
        }
        let place = self.next;
        self.next = (place + 1) % TOPICS_MAX;
        self.hashes[place] = hash;
        self.topics[place] = (topic.to_owned(), empty);
        place
    }

    fn find(&self, topic: &str, hash: u64) -> Option<usize> {
        let mut same = self.hashes.iter().enumerate();
        same.find(|(place, other)| **other == hash && self.topics[*place].0 == topic)
            .map(|(place, _)| place)
    }

    /// Result of the rule for the last message of this topic; none: that is not remembered.
    pub(super) fn of(&self, topic: &str) -> Option<&LastOnTopic> {
        let place = self.find(topic, self.hasher.hash_one(topic))?;
        self.topics.get(place).map(|(_, last)| last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_topics_are_remembered() {
        let mut all = OnTopics::default();
        for number in 0..TOPICS_MAX + 3 {
            all.note(&format!("t/{number}"), b"1", TopicResult::Unmatched);
        }
        assert!(all.of("t/2").is_none());
        let last = |all: &OnTopics| all.of("t/3").map(|last| last.result.clone());
        assert_eq!(last(&all), Some(TopicResult::Unmatched));
        all.note("t/3", b"2", TopicResult::Matched);
        assert_eq!(last(&all), Some(TopicResult::Matched));
        all.note(&"x".repeat(300), b"1", TopicResult::Unmatched);
        assert_eq!(all.topics.len(), TOPICS_MAX);
    }
}
