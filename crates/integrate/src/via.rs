//! The nodes that a message has passed on its way through other systems, to prevent loops.

/// User Property that a node adds to each message that crosses one of its bridges or comes from
/// NATS: the unique name of a node that the message has passed. There may be several. By them a
/// node recognises messages that it has seen before. Brokers in between forward them.
pub(crate) const PROPERTY: &str = "martlet-via";

/// The nodes listed in the NATS header of a message.
pub(crate) fn nodes(passed: &str) -> impl Iterator<Item = &str> {
    let all = passed.split(',').map(str::trim);
    all.filter(|one| !one.is_empty())
}

/// The header of a message that has passed these nodes and this one.
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
