//! What no client may do, whatever its rules: the node's own topic spaces are closed.

/// First levels of topics that are the node's own. Others that begin with `$` are left to clients,
/// as other brokers do: firmware written for cloud services publishes to `$aws/…` and the like.
const OWN: [&str; 4] = ["$SYS", "$share", "$CONTROL", "$events"];

/// End of the topics at which bridges publish whether they are connected, as those of Mosquitto do.
/// Rules decide who may.
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

/// Topics below this carry messages from the node to its bridges, one at a time. Only the node
/// itself publishes there: else every client could send messages to other brokers.
pub const TO_BRIDGES: &str = "$CONTROL/bridge/";

/// Topics below this carry events of clients. Only the node itself publishes there: else every
/// client could tell integrations of events that did not happen.
pub const EVENTS: &str = "$events/";

/// Topics by which the bridges of a node say which node they belong to. Only the node itself
/// publishes there: else a client could pass as another node.
pub const NODES_WITH_BRIDGES: &str = "$SYS/broker/connection/+/node";

/// User Property by which a bridge asks in CONNECT, and a node answers in CONNACK, whether it is a
/// node. Only the node itself can answer: what clients publish there proves nothing of it, and at
/// other brokers they may publish to [`NODES_WITH_BRIDGES`].
pub const IS_NODE: &str = "martlet-node";

/// Whether a part of the node may publish to this Topic Name.
#[inline]
pub fn part_may_publish(topic: &str) -> bool {
    may_publish(topic) || is_of_connection(topic, "/node")
}

/// Whether the node may publish to this Topic Name for those who operate it. What callers of the
/// API name themselves is checked by [`may_publish`] before.
pub fn node_may_publish(topic: &str) -> bool {
    part_may_publish(topic) || topic.starts_with(TO_BRIDGES) || topic.starts_with(EVENTS)
}

/// Whether a topic is `$SYS/broker/connection/NAME` with this at its end.
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
