//! Which version of MQTT a bridge speaks, and how it recognises another node.
//!
//! Before MQTT 5.0 nothing in a message says where it was, so two nodes with a bridge to each other
//! would send a message round for ever. A loop over two nodes needs a bridge at each of them. So
//! each bridge publishes a topic at its own node, which tells those who connect there that the node
//! has bridges. A bridge that finds such a topic at the other broker speaks MQTT 5.0 from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use martlet_broker::NODES_WITH_BRIDGES;
use martlet_codec::{ProtocolVersion, TopicFilter, TopicName};

/// The version is the configured one. The other broker may be a node.
const CONFIGURED: u8 = 0;
/// The other broker is a node with bridges: the version is 5.0.
const OF_NODES: u8 = 1;
/// The other broker looked like a node, and rejects 5.0.
const CONFIGURED_FOR_GOOD: u8 = 2;

/// Version of MQTT of a bridge. All clones have the same.
#[derive(Clone, Debug)]
pub struct Protocol {
    configured: ProtocolVersion,
    state: Arc<AtomicU8>,
}

impl Protocol {
    /// The version that is configured.
    pub(super) fn new(configured: ProtocolVersion) -> Self {
        let state = Arc::default();
        Self { configured, state }
    }

    /// The version of the next connection.
    pub(super) fn version(&self) -> ProtocolVersion {
        match self.state.load(Ordering::Relaxed) {
            OF_NODES => ProtocolVersion::V5,
            _ => self.configured,
        }
    }

    /// Whether it is 5.0.
    pub(super) fn is_v5(&self) -> bool {
        self.version().is_v5()
    }

    /// The other broker is a node with bridges.
    pub(super) fn speak_v5(&self) {
        self.change(CONFIGURED, OF_NODES);
    }

    /// The other broker rejects the version. Returns whether another one is tried next.
    pub(super) fn fall_back(&self) -> bool {
        self.change(OF_NODES, CONFIGURED_FOR_GOOD) && !self.configured.is_v5()
    }

    fn change(&self, from: u8, to: u8) -> bool {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let changed = self.state.compare_exchange(from, to, success, failure);
        changed.is_ok()
    }
}

/// Topic at its own node by which a bridge says that the node has it. The payload is the name of
/// the node.
pub(super) fn topic_of_node(bridge: &str) -> Box<str> {
    NODES_WITH_BRIDGES.replacen('+', bridge, 1).into()
}

/// Whether a topic is such a one.
pub(super) fn is_topic_of_node(topic: &str) -> bool {
    let matches = |name| TopicFilter::new(NODES_WITH_BRIDGES).is_ok_and(|one| one.matches(name));
    topic.starts_with('$') && TopicName::new(topic).is_ok_and(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_another_node_the_version_is_5_unless_that_rejects_it() {
        let (old, new) = (ProtocolVersion::V311, ProtocolVersion::V5);
        let one = Protocol::new(old);
        let clone = one.clone();
        assert!(!one.fall_back() && one.version() == old);
        clone.speak_v5();
        assert_eq!(one.version(), new);
        assert!(one.fall_back() && !clone.is_v5());
        clone.speak_v5();
        assert_eq!(one.version(), old);
        let one = Protocol::new(new);
        one.speak_v5();
        assert!(!one.fall_back() && one.is_v5());
    }

    #[test]
    fn the_topic_of_a_node_is_recognised() {
        assert!(is_topic_of_node(&topic_of_node("to-b.1")));
        for other in ["$SYS/broker/connection/a/state", "a/node", "+", ""] {
            assert!(!is_topic_of_node(other), "{other}");
        }
    }
}
