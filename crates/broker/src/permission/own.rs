//! What no client may do, whatever its rules: the node's own topic spaces are closed.

/// First levels of topics that are the node's own. Others that begin with `$` are left to clients,
/// as other brokers do: firmware written for cloud services publishes to `$aws/…` and the like.
const OWN: [&str; 3] = ["$SYS", "$share", "$CONTROL"];

/// Whether any client may publish to this Topic Name (MQTT 5 section 4.7.2).
pub fn may_publish(topic: &str) -> bool {
    if !topic.starts_with('$') {
        return true;
    }
    let first = topic.split('/').next().unwrap_or_default();
    !OWN.contains(&first)
}
