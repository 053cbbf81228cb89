//! Action that a client lacks the right to, and the rule that would permit it.

use martlet_broker::{Actions, is_shortened, shared_filter};
use martlet_registry::{Owner, RuleLine};

/// Action that a client lacks the right to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lacking<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user: Option<&'a str>,
    /// `publish`, `subscribe` or `receive`.
    pub(crate) action: &'a str,
    /// Topic Name, or Topic Filter.
    pub(crate) topic: &'a str,
}

impl Lacking<'_> {
    /// Actions that it is about, as rules have it.
    pub(super) fn actions(&self) -> Actions {
        match self.action {
            "publish" => Actions::PUBLISH,
            "subscribe" => Actions::SUBSCRIBE,
            _ => Actions::RECEIVE,
        }
    }

    /// The topic, without the ShareName of a share group.
    pub(super) fn filter(&self) -> &str {
        shared_filter(self.topic).unwrap_or(self.topic)
    }

    /// The rule that permits it, as it is written.
    pub(super) fn rule(&self, owner: Owner) -> Option<String> {
        self.line(owner).map(|rule| rule.to_string())
    }

    /// The rule that permits it: levels with the client's own name become the placeholder for the
    /// name. None: no line permits it.
    pub(super) fn line(&self, owner: Owner) -> Option<RuleLine> {
        let own = match owner {
            Owner::Role => [("%u", self.user), ("%u", None)],
            // Of a device, %c is its id, whatever Client Identifier its type permits.
            Owner::DeviceType | Owner::Group => [
                ("%c", self.user.or(Some(self.client_id))),
                ("%u", self.user),
            ],
        };
        let is_placeholder = |level: &str| level.contains("%c") || level.contains("%u");
        let filter = self.filter();
        if is_placeholder(filter) || is_shortened(filter) {
            return None;
        }
        let levels = filter.split('/').map(|level| {
            // A name with a wildcard in it is no placeholder's.
            if level.contains(['+', '#']) {
                return level;
            }
            let mut own = own.iter().filter(|(_, name)| *name == Some(level));
            own.next().map_or(level, |(placeholder, _)| placeholder)
        });
        let rule = RuleLine {
            allows: true,
            actions: match self.action {
                "publish" => Actions::PUBLISH,
                _ => Actions::READ,
            },
            filter: levels.collect::<Vec<_>>().join("/").into(),
        };
        let line = rule.to_string();
        (RuleLine::parse(&line).ok().as_ref() == Some(&rule)).then_some(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_permits_is_of_all_who_have_it() {
        let rule = |owner, action, topic| {
            let lacking = Lacking {
                client_id: "c1",
                user: Some(match owner {
                    Owner::Role => "ann",
                    _ => "c1",
                }),
                action,
                topic,
            };
            lacking.rule(owner).unwrap_or_default()
        };
        let (role, device) = (Owner::Role, Owner::DeviceType);
        for (owner, action, topic, expected) in [
            (role, "publish", "a/b", "topic write a/b"),
            (role, "receive", "a/b", "topic read a/b"),
            (role, "subscribe", "a/+/#", "topic read a/+/#"),
            (role, "subscribe", "$share/g/a/#", "topic read a/#"),
            (role, "publish", "u/ann/c1", "pattern write u/%u/c1"),
            (device, "publish", "d/c1/x", "pattern write d/%c/x"),
            (device, "publish", "d/c1x", "topic write d/c1x"),
            (
                device,
                "publish",
                "it's a/$HOME",
                "topic write it's a/$HOME",
            ),
            (role, "publish", "a/%c", ""),
            (role, "publish", "a/ ", ""),
        ] {
            assert_eq!(rule(owner, action, topic), expected, "{action} {topic}");
        }
    }
}
