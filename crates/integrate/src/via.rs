//! Which nodes a message has passed on its way through other systems: so no message goes round.

/// User Property that a node adds to each message which crosses a bridge of it, or comes from NATS:
/// the name of a node that the message has passed, among all nodes. There may be several. By them a
/// node recognises messages that have been here already, whatever brokers are between: others pass
/// them on.
pub(crate) const PROPERTY: &str = "martlet-via";

/// The nodes in the header of a message in NATS.
pub(crate) fn nodes(passed: &str) -> impl Iterator<Item = &str> {
    let all = passed.split(',').map(str::trim);
    all.filter(|one| !one.is_empty())
}

/// The header of a message that has passed these nodes, and this one.
pub(crate) fn header<'a>(passed: impl Iterator<Item = &'a str>, node: &'a str) -> String {
    let mut all: Vec<&str> = Vec::new();
    for one in passed.chain([node]) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_knows_which_nodes_it_has_passed() {
        let passed = header(["a", "b"].into_iter(), "b");
        assert_eq!(passed, "a,b");
        assert_eq!(header(nodes(&passed), "c"), "a,b,c");
        assert_eq!(nodes(", a,,b ").collect::<Vec<_>>(), ["a", "b"]);
    }
}
