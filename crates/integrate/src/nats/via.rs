//! Which nodes a message has passed on its way through NATS. A sink adds its node, a source takes
//! nothing that has passed its own: so no message goes round.

/// Header of a message in NATS.
pub(super) const HEADER: &str = "Mqtt-Via";
/// User Property of the message that a source makes of it.
pub(super) const PROPERTY: &str = "martlet-via";

/// Whether a node is among those that were passed.
pub(super) fn has(passed: &str, node: &str) -> bool {
    nodes(passed).any(|one| one == node)
}

/// Number of nodes.
pub(super) fn count(passed: &str) -> u8 {
    u8::try_from(nodes(passed).count()).unwrap_or(u8::MAX)
}

/// Those that were passed, and one more.
pub(super) fn with(passed: Option<&str>, node: &str) -> String {
    let all = nodes(passed.unwrap_or_default()).chain([node]);
    all.collect::<Vec<_>>().join(",")
}

fn nodes(passed: &str) -> impl Iterator<Item = &str> {
    let all = passed.split(',').map(str::trim);
    all.filter(|one| !one.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_knows_which_nodes_it_has_passed() {
        let passed = with(Some(&with(None, "a")), "b");
        assert_eq!((&*passed, count(&passed)), ("a,b", 2));
        assert!(has(&passed, "a") && !has(&passed, "c") && !has("", ""));
    }
}
