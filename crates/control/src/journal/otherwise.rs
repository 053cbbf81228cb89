//! Why a rule that looks right does not permit what a client lacks, and which topic it may use in
//! place of the one that it is refused.

use martlet_access::{Explanation, explain};
use martlet_broker::{Names, Rules};

use super::lacking::Lacking;

/// Replaces a name that is not one level of a topic, to find the rule that would match otherwise.
const STAND_IN: &str = "one-level";

impl Lacking<'_> {
    /// Names of the client, as rules have them.
    pub(super) fn names(&self) -> Names<'_> {
        Names {
            client_id: self.client_id,
            user_name: self.user.unwrap_or_default(),
        }
    }

    /// Explanation by these rules.
    pub(super) fn explained(&self, rules: &Rules) -> Explanation {
        explain(rules, self.names(), self.actions(), self.filter())
    }

    /// A rule would permit it, and has a placeholder for a name of the client that is more than one
    /// level of a topic, or a wildcard: what is wrong with the name, in words.
    pub(super) fn unfit_name(&self, rules: &Rules) -> Option<String> {
        let user = self.user.unwrap_or_default();
        let all = [
            ("%c", "Client Identifier", self.client_id),
            ("%u", "User Name", user),
        ];
        all.into_iter().find_map(|(placeholder, what, name)| {
            let odd = name.chars().find(|letter| "/+#".contains(*letter))?;
            let names = match placeholder {
                "%c" => Names {
                    client_id: STAND_IN,
                    ..self.names()
                },
                _ => Names {
                    user_name: STAND_IN,
                    ..self.names()
                },
            };
            let topic = self.filter().replace(name, STAND_IN);
            let found = explain(rules, names, self.actions(), &topic);
            let (rule, place) = (found.rule?, found.place?);
            (found.allowed && rule.contains(placeholder)).then(|| {
                format!(
                    "the {what} {name} of the client has {odd} in it, so that rules with \
                     {placeholder}, such as {place}: {rule}, do not match: give the client a \
                     {what} without +, # and /"
                )
            })
        })
    }

    /// A topic that ends in the same way behind the client's own name, and that these rules permit,
    /// with the place of the rule.
    pub(super) fn own_topic(&self, rules: &Rules) -> Option<(String, String)> {
        let filter = self.filter();
        let levels: Vec<&str> = filter.split('/').collect();
        let is_own = |level: &str| level == self.client_id || Some(level) == self.user;
        let at = levels.iter().position(|level| is_own(level))?;
        let rest = levels[at + 1..].join("/");
        if rest.is_empty() {
            return None;
        }
        let names = self.names();
        let mut own = rules.rules().iter().filter(|rule| {
            let is_template = rule.filter.contains("%c") || rule.filter.contains("%u");
            rule.allows && rule.actions.has(self.actions()) && is_template
        });
        own.find_map(|rule| {
            let levels: Vec<&str> = rule.filter.split('/').collect();
            let is_own = |level: &&str| matches!(*level, "%c" | "%u");
            let own_at = levels.iter().position(is_own)?;
            let before = levels[..=own_at].join("/");
            let before = before
                .replace("%c", names.client_id)
                .replace("%u", names.user_name);
            let topic = format!("{before}/{rest}");
            let found = explain(rules, names, self.actions(), &topic);
            let place = found.place.filter(|_| found.allowed)?;
            (topic != filter && !before.contains(['+', '#'])).then_some((topic, place))
        })
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::{Actions, Rule};

    use super::*;

    fn rules(all: &[(Actions, &str)]) -> Rules {
        let rules = all.iter().map(|(actions, filter)| Rule {
            actions: *actions,
            allows: true,
            filter: (*filter).into(),
            source: "type t rule 1".into(),
        });
        Rules::compile(rules.collect(), Actions::NONE).expect("rules")
    }

    fn lacking<'a>(client_id: &'a str, action: &'a str, topic: &'a str) -> Lacking<'a> {
        Lacking {
            client_id,
            user: Some("u1"),
            action,
            topic,
        }
    }

    #[test]
    fn a_name_with_a_slash_keeps_a_rule_from_matching() {
        let rules = rules(&[(Actions::PUBLISH, "site/%c/#")]);
        let of = |client_id, topic| lacking(client_id, "publish", topic).unfit_name(&rules);
        let told = of("hall/3", "site/hall/3/t").expect("it is told");
        assert!(
            told.contains("Client Identifier hall/3 of the client has / in it"),
            "{told}"
        );
        assert!(told.contains("type t rule 1: site/%c/#"), "{told}");
        assert_eq!(of("hall/3", "other/hall/3/t"), None);
        assert_eq!(of("hall", "site/x/t"), None);
    }

    #[test]
    fn the_same_topic_is_found_below_another_prefix() {
        let rules = rules(&[
            (Actions::PUBLISH, "iotflow/devices/%c/telemetry"),
            (Actions::READ, "iotflow/devices/%c/commands/+"),
        ]);
        let of = |action, topic| {
            let found = lacking("d1", action, topic).own_topic(&rules);
            found.map(|(topic, _)| topic).unwrap_or_default()
        };
        let expected = "iotflow/devices/d1/commands/+";
        assert_eq!(of("subscribe", "d/d1/commands/+"), expected);
        assert_eq!(
            of("publish", "d/d1/telemetry"),
            "iotflow/devices/d1/telemetry"
        );
        assert_eq!(of("publish", "d/d1/commands/+"), "");
        assert_eq!(of("subscribe", "d/d1/#"), "");
        assert_eq!(of("subscribe", "d/d2/commands/+"), "");
    }
}
