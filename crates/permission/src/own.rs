//! What no client may do, whatever its rules: the node's own topic spaces are closed.

/// First levels of topics that are the node's own. Others that begin with `$` are left to clients,
/// as other brokers do: firmware written for cloud services publishes to `$aws/…` and the like.
const OWN: [&str; 4] = ["$SYS", "$share", "$CONTROL", "$events"];

/// Whether any client may publish to this Topic Name (MQTT 5 section 4.7.2).
#[inline]
pub fn may_publish(topic: &str) -> bool {
    if !topic.starts_with('$') {
        return true;
    }
    let first = topic.split('/').next().unwrap_or_default();
    !OWN.contains(&first) || is_state_of_bridge(topic)
}

/// Topics below this carry messages from the node to its bridges, one at a time. Only the node
/// itself publishes there: else every client could send messages to other brokers.
pub const TO_BRIDGES: &str = "$CONTROL/bridge/";

/// Topics below this carry events of clients. Only the node itself publishes there: else every
/// client could tell integrations of events that did not happen.
pub const EVENTS: &str = "$events/";

/// Whether the node may publish to this Topic Name for those who operate it. What callers of the
/// API name themselves is checked by [`may_publish`] before.
pub fn node_may_publish(topic: &str) -> bool {
    may_publish(topic) || topic.starts_with(TO_BRIDGES) || topic.starts_with(EVENTS)
}

/// `$SYS/broker/connection/NAME/state`: there bridges publish whether they are connected, as those
/// of Mosquitto do. Rules decide who may.
fn is_state_of_bridge(topic: &str) -> bool {
    let name = topic.strip_prefix("$SYS/broker/connection/");
    let name = name.and_then(|name| name.strip_suffix("/state"));
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
        assert!(!node_may_publish("$CONTROL/a"));
    }
}
