//! Topics reserved for the node, which no client may use, whatever its rules.

use crate::RefusalCause;

/// First levels of topics that are reserved for the node. Clients may use other topics that begin
/// with `$`, as with other brokers: firmware for cloud services publishes to `$aws/…` and the like.
const OWN: [&str; 4] = ["$SYS", "$share", "$CONTROL", "$events"];

/// End of the topics on which bridges publish whether they are connected, like Mosquitto's bridges.
/// Rules decide which clients may publish there.
const STATE: &str = "/state";

/// Whether any client may publish to this Topic Name (MQTT 5 section 4.7.2).
#[inline]
pub fn may_publish(topic: &str) -> bool {
    if !topic.starts_with('$') {
        return true;
    }
    let first = topic.split('/').next().unwrap_or_default();
    !OWN.contains(&first) || is_of_connection(topic, STATE)
}

/// Why no client may publish to a Topic Name that [`may_publish`] forbids.
pub fn why_own(topic: &str) -> RefusalCause {
    match shared_filter(topic) {
        Some(_) => RefusalCause::SharedFilter,
        None => RefusalCause::ServerTopic,
    }
}

/// The Topic Filter of a Shared Subscription, `$share/GROUP/FILTER`.
pub fn shared_filter(topic: &str) -> Option<&str> {
    let (_group, filter) = topic.strip_prefix("$share/")?.split_once('/')?;
    Some(filter)
}

/// Topics below this carry messages from the node to its bridges, one at a time. Only the node may
/// publish there; otherwise any client could send messages to other brokers.
pub const TO_BRIDGES: &str = "$CONTROL/bridge/";

/// Topics below this carry events of clients. Only the node may publish there; otherwise any client
/// could send false events to integrations.
pub const EVENTS: &str = "$events/";

/// Topics on which the bridges of a node publish the node that they belong to. Only the node may
/// publish there; otherwise a client could impersonate another node.
pub const NODES_WITH_BRIDGES: &str = "$SYS/broker/connection/+/node";

/// User Property by which a bridge asks in CONNECT whether the other side is a node; a node answers
/// in CONNACK. Only the node itself can send that answer. A message of a client does not prove it,
/// and other brokers may let clients publish to [`NODES_WITH_BRIDGES`].
pub const IS_NODE: &str = "martlet-node";

/// Whether a part of the node may publish to this Topic Name.
#[inline]
pub fn part_may_publish(topic: &str) -> bool {
    may_publish(topic) || is_of_connection(topic, "/node")
}

/// Whether the node may publish to this Topic Name for operators. Topics chosen by callers of the
/// API are first checked with [`may_publish`].
pub fn node_may_publish(topic: &str) -> bool {
    part_may_publish(topic) || topic.starts_with(TO_BRIDGES) || topic.starts_with(EVENTS)
}

/// Whether a topic is `$SYS/broker/connection/NAME` followed by `end`.
fn is_of_connection(topic: &str, end: &str) -> bool {
    let name = topic.strip_prefix("$SYS/broker/connection/");
    let name = name.and_then(|name| name.strip_suffix(end));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_own_topics_only_states_of_bridges_are_open() {
        for open in ["a", "$aws/a", "$SYS/broker/connection/a.b/state"] {
            assert!(may_publish(open), "{open}");
        }
        for closed in [
            "$SYS",
            "$SYS/broker/uptime",
            "$SYS/broker/connection//state",
            "$SYS/broker/connection/a/node",
            "$SYS/broker/connection/a/b/state",
            "$SYS/broker/connection/state",
            "$CONTROL/a",
            "$events/connected",
        ] {
            assert!(!may_publish(closed), "{closed}");
        }
    }

    #[test]
    fn only_the_node_publishes_to_its_bridges() {
        assert!(!may_publish("$CONTROL/bridge/up/m/a"));
        assert!(node_may_publish("$CONTROL/bridge/up/m/a"));
        assert!(node_may_publish("$events/connected"));
        let of_node = NODES_WITH_BRIDGES.replace('+', "a");
        assert!(part_may_publish(&of_node) && node_may_publish(&of_node));
        assert!(!part_may_publish("$SYS/broker/uptime"));
        assert!(!node_may_publish("$CONTROL/a"));
    }
}
