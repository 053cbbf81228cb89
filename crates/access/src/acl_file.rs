//! An ACL file in Mosquitto's format, and the rules that it contains for each user.
//!
//! Decides as Mosquitto 2.0 does. Of a user's own lines, those that deny come first. Patterns
//! follow; they do not match clients whose user name or Client Identifier contains `+` or `#`.
//! Unlike in Mosquitto, `/` is excluded too: such a name would reach into the topics of others.
//! Topics that no line permits are forbidden. Subscribing is permitted, and each message is checked
//! on delivery, unless it is configured that lines for reading also decide about subscribing
//! ([`Subscribing`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_permission::{Actions, Rule, Rules};
use martlet_text_file::text_without_bom;

use crate::acl_line::{Access, AclLine, LineSubject, Statement, fits_patterns, statement};
use crate::by_owner::LinesByOwner;
use crate::subscribing::Subscribing;
use crate::{FileProblem, RuleLine};

/// The rights of users.
#[derive(Clone, Debug)]
pub struct AclFile {
    pub(crate) name: String,
    /// All lines that permit or forbid, in the order of the file.
    pub(crate) lines: Vec<AclLine>,
    anonymous: Arc<Rules>,
    users: BTreeMap<Box<str>, Arc<Rules>>,
    /// Rules of a user without own lines.
    others: Arc<Rules>,
    /// Rules of such a user if its name does not match patterns.
    nobody: Arc<Rules>,
}

impl AclFile {
    /// Parses a file. `name` is its name in errors and rules.
    ///
    /// # Errors
    /// The first invalid line. No partial rules are used.
    pub fn parse(name: &str, text: &str, subscribing: Subscribing) -> Result<Self, FileProblem> {
        let mut lines = Vec::new();
        let mut whose = LineSubject::Anonymous;
        for (number, line) in text_without_bom(text).lines().enumerate() {
            let number = number + 1;
            let problem = |why| FileProblem {
                file: name.to_owned(),
                line: number,
                why,
            };
            match statement(line).map_err(problem)? {
                Statement::Nothing => {}
                Statement::User(user) => whose = LineSubject::User(user.into()),
                Statement::Rule {
                    is_pattern,
                    access,
                    filter,
                } => lines.push(AclLine {
                    number,
                    of: match is_pattern {
                        true => LineSubject::Everybody,
                        false => whose.clone(),
                    },
                    access,
                    filter: filter.into(),
                }),
            }
        }
        Self::compile(name, lines, subscribing)
    }

    fn compile(
        name: &str,
        lines: Vec<AclLine>,
        subscribing: Subscribing,
    ) -> Result<Self, FileProblem> {
        let by_owner = LinesByOwner::new(&lines);
        let rules = |whose: &LineSubject, with_patterns: bool| {
            let own = ordered(by_owner.of(whose));
            let everybody = match with_patterns {
                true => ordered(by_owner.of(&LineSubject::Everybody)),
                false => Vec::new(),
            };
            let patterns_from = own.len();
            let all: Vec<&AclLine> = own.into_iter().chain(everybody).collect();
            let rules = all.iter().map(|line| Rule {
                actions: line.access.actions(subscribing),
                allows: line.access != Access::Deny,
                filter: line.filter.clone(),
                source: format!("{name} line {}", line.number).into(),
            });
            let compiled = Rules::compile(rules.collect(), subscribing.default_actions());
            let compiled = compiled.map_err(|error| FileProblem {
                file: name.to_owned(),
                line: all.get(error.rule).map_or(0, |line| line.number),
                why: error.why.to_owned(),
            })?;
            Ok(Arc::new(compiled.with_patterns_from(patterns_from)))
        };
        let mut users = BTreeMap::new();
        for line in &lines {
            if let LineSubject::User(user) = &line.of
                && !users.contains_key(user)
            {
                users.insert(user.clone(), rules(&line.of, fits_patterns(user))?);
            }
        }
        // A user without own lines.
        let stranger = LineSubject::User(Box::default());
        let (others, nobody) = (rules(&stranger, true)?, rules(&stranger, false)?);
        let anonymous = rules(&LineSubject::Anonymous, true)?;
        Ok(Self {
            name: name.to_owned(),
            anonymous,
            users,
            others,
            nobody,
            lines,
        })
    }

    /// Returns the name in errors and rules.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rules of a user; `None` for an anonymous client.
    pub fn rules_for(&self, user: Option<&str>) -> Arc<Rules> {
        Arc::clone(match user {
            None => &self.anonymous,
            Some(name) => match self.users.get(name) {
                Some(rules) => rules,
                None if fits_patterns(name) => &self.others,
                None => &self.nobody,
            },
        })
    }

    /// The rules of a user in the form of a role: the first matching rule decides. Lines without an
    /// owner apply to anonymous clients only and are not included.
    ///
    /// # Errors
    /// A line cannot be a rule of a role: `%c` and `%u` are literal text in it.
    pub fn rule_lines_for(&self, user: &str) -> Result<Vec<RuleLine>, FileProblem> {
        let by_owner = LinesByOwner::new(&self.lines);
        let own = ordered(by_owner.of(&LineSubject::User(user.into())));
        let patterns = match fits_patterns(user) {
            true => ordered(by_owner.of(&LineSubject::Everybody)),
            false => Vec::new(),
        };
        let is_literal =
            |line: &&&AclLine| line.filter.contains("%c") || line.filter.contains("%u");
        if let Some(line) = own.iter().find(is_literal) {
            return Err(FileProblem {
                file: self.name.clone(),
                line: line.number,
                why: format!(
                    "%c and %u are not replaced in {:?}, but in a rule of a role they are: make it \
                     a pattern, or remove the line",
                    line.filter
                ),
            });
        }
        let lines = own.into_iter().chain(patterns);
        Ok(lines
            .map(|line| RuleLine {
                allows: line.access != Access::Deny,
                actions: match line.access {
                    Access::Read => Actions::READ,
                    Access::Write => Actions::PUBLISH,
                    Access::ReadWrite | Access::Deny => Actions::ALL,
                },
                filter: line.filter.clone(),
            })
            .collect())
    }

    /// The lines before the first `user`, which apply to anonymous clients only: number of the
    /// line, and its text.
    pub fn anonymous_lines(&self) -> impl Iterator<Item = (usize, String)> {
        let lines = self.lines.iter();
        let lines = lines.filter(|line| line.of == LineSubject::Anonymous);
        lines.map(|line| (line.number, line.text()))
    }

    /// Users with own lines.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(|name| &**name)
    }
}

/// The lines of an owner; those that deny come first.
fn ordered<'a>(lines: &[&'a AclLine]) -> Vec<&'a AclLine> {
    let denying = lines.iter().filter(|line| line.access == Access::Deny);
    let permitting = lines.iter().filter(|line| line.access != Access::Deny);
    denying.chain(permitting).copied().collect()
}

#[cfg(test)]
mod tests {
    use martlet_permission::Names;
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "\
topic read public/#
# a comment
user alice
topic deny a/secret
topic a/#
topic read b/with space
user bob
topic write c
pattern write d/%c/up
pattern read d/%u/down
";

    fn may(file: &str, user: Option<&str>, client_id: &str, action: Actions, topic: &str) -> bool {
        let file = AclFile::parse("acl", file, Subscribing::AtDelivery).unwrap();
        let user_name = user.unwrap_or_default();
        let names = Names {
            client_id,
            user_name,
        };
        file.rules_for(user).topic(action, topic, names).allowed
    }

    #[test]
    fn a_user_has_their_own_lines_and_the_patterns() {
        let may = |user, action, topic| may(FILE, user, "c1", action, topic);
        let (write, read) = (Actions::PUBLISH, Actions::RECEIVE);
        assert!(may(Some("alice"), write, "a/x") && may(Some("alice"), read, "a"));
        assert!(!may(Some("alice"), read, "a/secret") && !may(Some("alice"), read, "c"));
        assert!(may(Some("alice"), read, "b/with space"));
        assert!(!may(Some("alice"), write, "b/with space"));
        assert!(may(Some("bob"), write, "c") && !may(Some("bob"), read, "public/x"));
        assert!(may(None, read, "public/x") && !may(None, write, "public/x"));
        for user in [Some("alice"), Some("bob"), Some("carol"), None] {
            assert!(
                may(user, write, "d/c1/up") && !may(user, write, "d/c2/up"),
                "{user:?}"
            );
        }
        assert!(may(Some("carol"), read, "d/carol/down") && !may(None, read, "d//down"));
    }

    #[test]
    fn patterns_are_nobodys_whose_names_have_wildcards() {
        let file = "pattern readwrite p/%c\npattern readwrite q/%u\npattern readwrite r\n";
        for (user, client) in [("a/b", "c"), ("a", "c/d"), ("+", "c"), ("a", "#")] {
            for topic in [format!("p/{client}"), format!("q/{user}"), "r".to_owned()] {
                assert!(
                    !may(file, Some(user), client, Actions::PUBLISH, &topic),
                    "{user} {topic}"
                );
            }
        }
        assert!(may(file, Some("a"), "c", Actions::PUBLISH, "r"));
        // A user's own lines apply even so.
        let own = "user a/b\ntopic x\npattern y\n";
        assert!(may(own, Some("a/b"), "c", Actions::PUBLISH, "x"));
        assert!(!may(own, Some("a/b"), "c", Actions::PUBLISH, "y"));
        assert!(may(own, Some("a/b"), "c/d", Actions::PUBLISH, "x"));
    }

    #[test]
    fn who_may_not_read_may_not_subscribe_where_that_is_asked_for() {
        let names = Names {
            client_id: "c1",
            user_name: "alice",
        };
        let file =
            "user alice\ntopic deny a/secret\ntopic read a/#\ntopic write w\npattern read p/%c\n";
        let may = |how, filter| {
            let file = AclFile::parse("acl", file, how).unwrap();
            file.rules_for(Some("alice")).filter(filter, names).allowed
        };
        for (filter, permitted) in [
            ("a/b", true),
            ("a/#", true),
            ("a/+/c", true),
            ("p/c1", true),
            ("a/secret", false),
            ("p/c2", false),
            ("p/+", false),
            ("w", false),
            ("#", false),
        ] {
            assert_eq!(may(Subscribing::Refuse, filter), permitted, "{filter}");
            assert!(may(Subscribing::AtDelivery, filter), "{filter}");
        }
    }

    #[test]
    fn an_empty_file_permits_nothing() {
        assert!(!may("", Some("a"), "c", Actions::PUBLISH, "x"));
        assert!(!may("# all is comment\n", None, "c", Actions::RECEIVE, "x"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let bad = [
            "topics a",
            "topic",
            "topic a b",
            "topic read a#",
            "user",
            "x",
        ];
        for line in bad {
            let problem = AclFile::parse(
                "acl",
                &format!("topic a\n{line}\n"),
                Subscribing::AtDelivery,
            )
            .unwrap_err();
            assert_eq!(problem.line, 2, "{line}");
        }
        assert!(
            AclFile::parse("acl", "topic read\n", Subscribing::AtDelivery).is_ok(),
            "a topic of that name"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_file_or_an_error(text in "(user|topic|pattern|deny|read|[ #+/%cu\n\t\u{0}a]){0,40}") {
            let _ = AclFile::parse("acl", &text, Subscribing::AtDelivery);
        }
    }
}
