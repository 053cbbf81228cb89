//! Explains why an action is permitted or forbidden.

use std::fmt;

use martlet_permission::{Actions, Names, RefusalCause, RuleDecision, Rules, may_publish, why_own};

use crate::AclFile;
use crate::acl_line::AclLine;

/// The decision about one action of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the action is permitted.
    pub allowed: bool,
    /// Place of the deciding rule: `acl line 3`; `None` if no rule matches.
    pub place: Option<String>,
    /// The text of the rule.
    pub rule: Option<String>,
    /// The reason as a sentence.
    pub why: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.allowed { "permitted" } else { "refused" };
        write!(f, "{word}: {}", self.why)
    }
}

/// Decides as a shard does whether a client with these rules may perform the action. `topic` is a
/// Topic Filter for subscribing, otherwise a Topic Name.
pub fn explain(rules: &Rules, names: Names<'_>, action: Actions, topic: &str) -> Explanation {
    if action == Actions::PUBLISH && !may_publish(topic) {
        return Explanation {
            allowed: false,
            place: None,
            rule: None,
            why: match why_own(topic) {
                cause @ RefusalCause::SharedFilter => cause.text().to_owned(),
                cause => format!("{}, to which no client publishes", cause.text()),
            },
        };
    }
    let RuleDecision { allowed, rule } = match action {
        Actions::SUBSCRIBE => rules.filter(topic, names),
        _ => rules.topic(action, topic, names),
    };
    let rule = rule.and_then(|number| rules.rules().get(number as usize));
    Explanation {
        allowed,
        place: rule.map(|rule| rule.source.to_string()),
        rule: rule.map(|rule| rule.filter.to_string()),
        why: match (rule, allowed) {
            (Some(rule), _) => format!("{}: {}", rule.source, rule.filter),
            (None, true) => "no rule is about it, and then it is permitted".to_owned(),
            (None, false) => "no rule permits it".to_owned(),
        },
    }
}

impl AclFile {
    /// Like [`explain`], with the text of the file's line.
    pub fn explain(
        &self,
        user: Option<&str>,
        client_id: &str,
        action: Actions,
        topic: &str,
    ) -> Explanation {
        let names = Names {
            client_id,
            user_name: user.unwrap_or_default(),
        };
        let mut found = explain(&self.rules_for(user), names, action, topic);
        let line = found.place.as_deref().and_then(|place| self.line_at(place));
        if let (Some(place), Some(line)) = (&found.place, line) {
            found.why = format!("{place}: {}", line.text());
            found.rule = Some(line.text());
        } else if found.allowed {
            "subscribing always is; each message is checked when it is delivered"
                .clone_into(&mut found.why);
        } else if action != Actions::PUBLISH || may_publish(topic) {
            found.why = self.why_nothing(user, client_id);
        }
        found
    }

    pub(crate) fn line_at(&self, place: &str) -> Option<&AclLine> {
        let number = place.strip_prefix(&*self.name)?.strip_prefix(" line ")?;
        let number: usize = number.parse().ok()?;
        self.lines.iter().find(|line| line.number == number)
    }

    fn why_nothing(&self, user: Option<&str>, client_id: &str) -> String {
        let whose = match user {
            Some(user) => format!("user {user}"),
            None => "anonymous clients".to_owned(),
        };
        let is_level = |name: &str| !name.contains(['+', '#', '/']);
        if !is_level(user.unwrap_or_default()) || !is_level(client_id) {
            return format!(
                "no line of {whose} in {} permits it, and patterns do not apply to names or Client \
                 Identifiers that contain +, # or /",
                self.name
            );
        }
        format!(
            "no line of {whose} and no pattern in {} permits it",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subscribing;

    #[test]
    fn the_line_that_decides_is_named() {
        let file = "user a\ntopic deny x/secret\ntopic read x/#\npattern write d/%c\n";
        let file = AclFile::parse("acl", file, Subscribing::AtDelivery).unwrap();
        let told =
            |user, client, action, topic| file.explain(user, client, action, topic).to_string();
        let (publish, receive) = (Actions::PUBLISH, Actions::RECEIVE);
        assert_eq!(
            told(Some("a"), "c", receive, "x/secret"),
            "refused: acl line 2: topic deny x/secret"
        );
        assert_eq!(
            told(Some("a"), "c", receive, "x/y"),
            "permitted: acl line 3: topic read x/#"
        );
        assert_eq!(
            told(None, "c", publish, "d/c"),
            "permitted: acl line 4: pattern write d/%c"
        );
        assert_eq!(
            told(Some("b"), "c", publish, "x/y"),
            "refused: no line of user b and no pattern in acl permits it"
        );
        assert!(told(None, "c", Actions::SUBSCRIBE, "#").starts_with("permitted: subscribing"));
        assert!(told(Some("a"), "c", publish, "$SYS/x").contains("server's own"));
        assert!(
            told(Some("a"), "c", publish, "$share/g/x").ends_with("a share group, not a topic")
        );
    }
}
