//! What a client may do. Rules come with identities; until then only the node's own topic space is
//! closed to clients.

/// Topics beginning with `$` are the server's (MQTT 5 section 4.7.2): clients do not publish there.
pub(crate) fn may_publish(topic: &str) -> bool {
    !topic.starts_with('$')
}
