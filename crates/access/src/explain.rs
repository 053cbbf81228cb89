//! Why something is permitted or not.

use std::fmt;

use martlet_broker::{Actions, Names, Verdict};

use crate::AclFile;

/// What decides about one action of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// It is permitted.
    pub allowed: bool,
    /// Where the deciding rule stands: `acl line 3`; none: no rule is about it.
    pub place: Option<String>,
    /// The rule as it stands there.
    pub rule: Option<String>,
    /// In a sentence.
    pub why: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allowed {
            "permitted: "
        } else {
            "refused: "
        })?;
        f.write_str(&self.why)
    }
}

impl AclFile {
    /// What decides whether a client may do that. The text is a Topic Filter where it subscribes,
    /// else a Topic Name.
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
        let rules = self.rules_for(user);
        let Verdict { allowed, rule } = match action {
            Actions::SUBSCRIBE => rules.filter(topic, names),
            _ => rules.topic(action, topic, names),
        };
        let rule = rule.and_then(|number| rules.rules().get(number as usize));
        let place = rule.map(|rule| rule.source.to_string());
        let written = rule.and_then(|rule| {
            let line = |line: &&crate::acl_file::Line| {
                *rule.source == *format!("{} line {}", self.name, line.number)
            };
            self.lines
                .iter()
                .find(line)
                .map(crate::acl_file::Line::text)
        });
        let why = match (&place, &written) {
            (Some(place), Some(written)) => format!("{place}: {written}"),
            _ if action == Actions::SUBSCRIBE => {
                "subscribing always is; each message is looked at when it is delivered".to_owned()
            }
            _ => self.why_nothing(user, client_id),
        };
        Explanation {
            allowed,
            place,
            rule: written,
            why,
        }
    }

    fn why_nothing(&self, user: Option<&str>, client_id: &str) -> String {
        let whose = match user {
            Some(user) => format!("user {user}"),
            None => "anonymous clients".to_owned(),
        };
        let is_level = |name: &str| !name.contains(['+', '#', '/']);
        if !is_level(user.unwrap_or_default()) || !is_level(client_id) {
            return format!(
                "no line of {whose} in {} permits it, and patterns are nobody's whose name or \
                 Client Identifier has +, # or / in it",
                self.name
            );
        }
        format!(
            "no line of {whose} and no pattern in {} permits it",
            self.name
        )
    }
}
