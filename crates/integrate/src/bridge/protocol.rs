//! The MQTT version of a bridge, and how it recognises another node.
//!
//! Before MQTT 5.0 a message has no data about its path, so two nodes with bridges to each other
//! would loop a message for ever. Such a loop needs a bridge at each of the two nodes. So each
//! bridge publishes a topic at its own node, which shows bridges that connect there that the node
//! has bridges. A bridge that finds such a topic at the other broker uses MQTT 5.0 from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use martlet_broker::{IS_NODE, NODES_WITH_BRIDGES};
use martlet_client::ConnAckInfo;
use martlet_codec::{ProtocolVersion, TopicFilter, TopicName};
use tracing::{info, warn};

use super::status::Status;

/// The version is the configured one. The other broker may be a node.
const CONFIGURED: u8 = 0;
/// The other broker is a node with bridges: the version is 5.0.
const OF_NODES: u8 = 1;
/// The other broker looked like a node, but rejects 5.0.
const CONFIGURED_FOR_GOOD: u8 = 2;

/// MQTT version of a bridge. All clones share it.
#[derive(Clone, Debug)]
pub struct Protocol {
    configured: ProtocolVersion,
    state: Arc<AtomicU8>,
}

impl Protocol {
    /// The configured version.
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

    /// Switches to 5.0: the other broker is a node with bridges.
    pub(super) fn speak_v5(&self) {
        self.change(CONFIGURED, OF_NODES);
    }

    /// Handles a rejected version. Returns whether another one is tried next.
    pub(super) fn fall_back(&self) -> bool {
        self.change(OF_NODES, CONFIGURED_FOR_GOOD) && !self.configured.is_v5()
    }

    fn change(&self, from: u8, to: u8) -> bool {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let changed = self.state.compare_exchange(from, to, success, failure);
        changed.is_ok()
    }
}

/// Whether the other broker is a node. Only CONNACK of MQTT 5.0 proves it: at other brokers any
/// client may publish the topic of a node.
#[derive(Debug, Default)]
pub(super) struct OtherNode {
    /// CONNACK has confirmed that it is a node.
    is_certain: bool,
    /// Name of that node among all nodes, from the topic, before CONNACK confirms it.
    name: Option<String>,
}

impl OtherNode {
    /// Handles an accepted connection.
    pub(super) fn connected(
        &mut self,
        info: &ConnAckInfo,
        bridge: &str,
        protocol: &Protocol,
        status: &Status,
    ) {
        let mut properties = info.user_properties.iter();
        self.is_certain = properties.any(|(name, _)| name == IS_NODE);
        let name = self.name.take().filter(|_| self.is_certain);
        if name.is_some() || !self.is_certain {
            status.set_remote(name.as_deref());
        }
        if protocol.is_v5() && !self.is_certain && protocol.fall_back() {
            warn!(
                bridge,
                "the other broker is not a node, although a client has published there that it is \
                 one: MQTT 3.1.1 is spoken"
            );
        }
    }

    /// Handles a topic of a node, with this name.
    pub(super) fn told(&mut self, name: &[u8], bridge: &str, protocol: &Protocol, status: &Status) {
        let Ok(name) = std::str::from_utf8(name) else {
            return;
        };
        if self.is_certain {
            return status.set_remote(Some(name));
        }
        if protocol.is_v5() {
            return;
        }
        protocol.speak_v5();
        if protocol.is_v5() {
            self.name = Some(name.to_owned());
            info!(
                bridge,
                other = name,
                "the other broker is a node with bridges: MQTT 5.0 is spoken"
            );
        }
    }
}

/// Topic by which a bridge announces at its own node that the node has bridges. The payload is the
/// name of the node.
pub(super) fn topic_of_node(bridge: &str) -> Box<str> {
    NODES_WITH_BRIDGES.replacen('+', bridge, 1).into()
}

/// Whether a topic is such an announcement.
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
    fn a_node_is_believed_by_its_connack_alone() {
        let mut of_node = ConnAckInfo::default();
        of_node.user_properties.push(IS_NODE, "");
        let (status, new) = (Status::default(), Protocol::new(ProtocolVersion::V5));
        let mut other = OtherNode::default();
        other.connected(&ConnAckInfo::default(), "up", &new, &status);
        other.told(b"b", "up", &new, &status);
        assert_eq!(status.remote(), None);
        other.connected(&of_node, "up", &new, &status);
        other.told(b"b", "up", &new, &status);
        assert_eq!(status.remote().as_deref(), Some("b"));
        // Another broker has the address now.
        other.connected(&ConnAckInfo::default(), "up", &new, &status);
        assert_eq!(status.remote(), None);

        let old = Protocol::new(ProtocolVersion::V311);
        other.told(b"c", "up", &old, &status);
        assert!(old.is_v5() && status.remote().is_none());
        other.connected(&of_node, "up", &old, &status);
        assert!(old.is_v5() && status.remote().as_deref() == Some("c"));

        let old = Protocol::new(ProtocolVersion::V311);
        other.connected(&ConnAckInfo::default(), "up", &old, &status);
        other.told(b"d", "up", &old, &status);
        other.connected(&ConnAckInfo::default(), "up", &old, &status);
        assert!(!old.is_v5() && status.remote().is_none());
    }

    #[test]
    fn the_topic_of_a_node_is_recognised() {
        assert!(is_topic_of_node(&topic_of_node("to-b.1")));
        for other in ["$SYS/broker/connection/a/state", "a/node", "+", ""] {
            assert!(!is_topic_of_node(other), "{other}");
        }
    }
}
