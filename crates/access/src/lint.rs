//! Warnings about an ACL file: lines without effect, and lines that permit too much.

use std::fmt;

use martlet_permission::Actions;

use crate::acl_line::{Access, AclLine, LineSubject};
use crate::by_owner::{LinesByOwner, Permitted};
use crate::coverage::{covers, is_all};
use crate::rule_line::without_group;
use crate::subscribing::Subscribing;
use crate::{AclFile, RuleLine};

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Place: `line 3`, `role reader rule 2`.
    pub place: String,
    /// Number of the line or rule, from 1.
    pub line: usize,
    /// The problem and the remedy.
    pub why: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

impl AclFile {
    /// Returns which users have any rights by the file.
    pub fn permitted(&self) -> Permitted<'_> {
        Permitted::new(&self.lines)
    }

    /// Warning about a file that gives no client any rights: the problem and the remedy.
    pub fn locks_out(&self) -> Option<String> {
        // No user has an empty name, so it represents users without own lines.
        let mut others = [None, Some("")].into_iter();
        let permitted = self.permitted();
        let someone = others.any(|user| permitted.permits(user))
            || self.users().any(|user| permitted.permits(Some(user)));
        let what = match self.lines.is_empty() {
            true => "has no rules",
            false => "has no rule that permits anything",
        };
        (!someone).then(|| {
            format!(
                "the ACL file {} {what}: no client may publish or receive anything; add lines such \
                 as `user NAME` and `topic readwrite TOPIC/#`, or remove auth.acl_file, which \
                 permits all topics but those that begin with $",
                self.name
            )
        })
    }

    /// All warnings, in the order of the lines.
    pub fn lint(&self) -> Vec<Lint> {
        let mut found = Vec::new();
        if let Some(why) = self.locks_out() {
            found.push(Lint {
                place: "line 1".to_owned(),
                line: 1,
                why,
            });
        }
        let by_owner = LinesByOwner::new(&self.lines);
        for line in &self.lines {
            let mut odd = |why: String| {
                found.push(Lint {
                    place: line.place(),
                    line: line.number,
                    why,
                });
            };
            if let Some(other) = decides_before(line, by_owner.of(&line.of)) {
                odd(format!(
                    "`{}` never decides: line {} (`{}`) covers all of it; remove one of them",
                    line.text(),
                    other.number,
                    other.text()
                ));
                continue;
            }
            if let Some(why) = star_warning(&line.filter) {
                odd(format!("`{}`: {why}", line.text()));
            }
            if let Some(why) = shared_warning(&line.filter) {
                odd(format!("`{}` never decides: {why}", line.text()));
            }
            if line.of == LineSubject::Everybody && !line.has_names() {
                odd(format!(
                    "`{}` applies to everybody, also to anonymous clients, because it has neither \
                     %c nor %u; write it under each `user` instead",
                    line.text()
                ));
            }
            if line.of != LineSubject::Everybody && line.has_names() {
                odd(format!(
                    "`{}`: %c and %u are replaced only in `pattern` lines; here they are literal \
                     characters",
                    line.text()
                ));
            }
            if line.access != Access::Deny && is_all(&line.filter) {
                let whose = match &line.of {
                    LineSubject::Anonymous => "anonymous clients",
                    LineSubject::Everybody => "everybody",
                    // Administrators have such lines.
                    LineSubject::User(_) => continue,
                };
                odd(format!(
                    "`{}` gives {whose} all topics; name those that they need",
                    line.text()
                ));
            }
        }
        found
    }
}

/// Warning about a filter with `*`, which stands for everything in the languages of others.
fn star_warning(filter: &str) -> Option<&'static str> {
    filter.contains('*').then_some(
        "* is an ordinary character in a Topic Filter; write + for one level, or # for all further \
         levels",
    )
}

/// Warning about a filter of a Shared Subscription: permissions do not have the share group.
fn shared_warning(filter: &str) -> Option<String> {
    let advice = without_group(filter)?;
    Some(format!(
        "permissions are checked without the share group; {advice}"
    ))
}

/// Warning about the first of these filters that has `*`.
pub fn star_warning_of<'a>(filters: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut filters = filters.into_iter();
    filters.find_map(|filter| Some(format!("`{filter}`: {}", star_warning(filter)?)))
}

/// A line that decides wherever this one would: it is checked earlier and covers all that this line
/// permits or forbids. `lines` are all lines of the same owner, in the order of the file.
fn decides_before<'a>(line: &AclLine, lines: &[&'a AclLine]) -> Option<&'a AclLine> {
    let actions = |line: &AclLine| line.access.actions(Subscribing::AtDelivery);
    let decides = |other: &&&AclLine| {
        let is_before = match (other.access == Access::Deny, line.access == Access::Deny) {
            (true, false) => true,
            (false, true) => false,
            _ => other.number < line.number,
        };
        // A line that permits less decides only a part of what this line decides.
        is_before && actions(other).has(actions(line)) && covers(&other.filter, &line.filter)
    };
    lines.iter().find(decides).copied()
}

/// Warning about rules of a role or device type that give its clients no rights.
pub fn locks_out(rules: &[RuleLine], place: impl Fn(usize) -> String) -> Option<Lint> {
    (!rules.iter().any(|rule| rule.allows)).then(|| Lint {
        place: place(1),
        line: 1,
        why: "no rule permits anything: clients with these rules may neither publish nor receive"
            .to_owned(),
    })
}

/// Warnings about single rules of a role, device type or group. The first matching rule decides;
/// of a group, where `denies_first`, each rule that forbids applies before those that permit.
/// `place` returns the place of a rule by its number, from 1.
pub fn lint_rules(
    rules: &[RuleLine],
    denies_first: bool,
    place: impl Fn(usize) -> String,
) -> Vec<Lint> {
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        if let Some(why) = star_warning(&rule.filter) {
            found.push(Lint {
                place: place(at + 1),
                line: at + 1,
                why: format!("`{rule}`: {why}"),
            });
        }
        if let Some(why) = shared_warning(&rule.filter) {
            found.push(Lint {
                place: place(at + 1),
                line: at + 1,
                why: format!("`{rule}` never decides: {why}"),
            });
        }
        let covers_it = |other: &&RuleLine| {
            let applies_before = !denies_first || !other.allows || rule.allows;
            applies_before && other.actions.has(rule.actions) && covers(&other.filter, &rule.filter)
        };
        let forbids_late = permitted_before(rule, &rules[..at]).filter(|_| !denies_first);
        if let Some(before) = forbids_late {
            found.push(Lint {
                place: place(at + 1),
                line: at + 1,
                why: format!(
                    "`{rule}` does not forbid what {} (`{}`) permits: the first rule that matches \
                     decides; put the one that forbids first",
                    place(before + 1),
                    rules[before]
                ),
            });
        } else if let Some(before) = rules[..at].iter().position(|other| covers_it(&other)) {
            found.push(Lint {
                place: place(at + 1),
                line: at + 1,
                why: format!(
                    "`{rule}` never decides: {} (`{}`) covers all of it; remove one of them",
                    place(before + 1),
                    rules[before]
                ),
            });
        }
    }
    found
}

/// Index of the rule that permits a part of what a later rule, which forbids, names.
fn permitted_before(rule: &RuleLine, before: &[RuleLine]) -> Option<usize> {
    let permits = |other: &RuleLine| {
        let mut actions = [Actions::PUBLISH, Actions::SUBSCRIBE, Actions::RECEIVE].into_iter();
        let is_of_both = actions.any(|one| other.actions.has(one) && rule.actions.has(one));
        other.allows && is_of_both && covers(&other.filter, &rule.filter)
    };
    before.iter().position(permits).filter(|_| !rule.allows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str) -> Vec<usize> {
        let found = AclFile::parse("acl", file, Subscribing::AtDelivery)
            .unwrap()
            .lint();
        found.iter().map(|lint| lint.line).collect()
    }

    #[test]
    fn what_never_decides_is_found() {
        assert_eq!(lines("user a\ntopic a/#\ntopic read a/b\n"), [3]);
        assert_eq!(lines("user a\ntopic read a/b\ntopic a/#\n"), [0; 0]);
        assert_eq!(lines("user a\ntopic a/b\ntopic deny a/#\ntopic c\n"), [2]);
        assert_eq!(lines("user a\ntopic a/b\nuser b\ntopic a/b\n"), [0; 0]);
        assert_eq!(
            lines("user a\ntopic read +/x\ntopic write +/x\ntopic a/+\n"),
            [0; 0]
        );
        assert_eq!(lines("user a\ntopic #\ntopic read $SYS/#\n"), [0; 0]);
    }

    #[test]
    fn what_is_wider_than_meant_is_found() {
        assert_eq!(lines("topic read #\n"), [1]);
        assert_eq!(lines("user admin\ntopic #\n"), [0; 0]);
        assert_eq!(lines("pattern read news\n"), [1]);
        assert_eq!(lines("user a\ntopic d/%c\n"), [2]);
        assert_eq!(lines("pattern readwrite #\n").len(), 2);
        assert_eq!(lines("user a\ntopic read a/*\ntopic read b/+\n"), [2]);
        assert_eq!(lines("user a\ntopic read $share/g/a\n"), [2]);
    }

    #[test]
    fn a_file_that_permits_nobody_anything_is_found() {
        let locks_out = |file: &str| {
            let file = AclFile::parse("acl", file, Subscribing::AtDelivery).unwrap();
            file.locks_out().is_some()
        };
        for file in [
            "",
            "# topic readwrite #\n",
            "user a\n",
            "topic deny a/#\n",
            "user a\ntopic deny #\ntopic read a/b\n",
            "pattern deny #\npattern readwrite d/%u\n",
        ] {
            assert!(locks_out(file), "{file:?}");
        }
        for file in [
            "topic read a\n",
            "user a\ntopic deny a/#\ntopic a/b\ntopic b\n",
            "user a\ntopic deny #\npattern readwrite d/%u\n",
            "pattern deny a\nuser a\ntopic a\n",
        ] {
            assert!(!locks_out(file), "{file:?}");
        }
    }

    #[test]
    fn a_rule_behind_one_that_covers_it_is_found() {
        let parse = |line: &&str| RuleLine::parse(line).unwrap();
        let role = [
            "topic read a/+/#",
            "topic deny a/%c/x",
            "pattern read a/%c/#",
            "topic write a/b",
            "topic deny a/b",
        ];
        let rules: Vec<RuleLine> = role.iter().map(parse).collect();
        let found = lint_rules(&rules, false, |number| format!("role r rule {number}"));
        let said: Vec<String> = found.iter().map(Lint::to_string).collect();
        let [first, second, third] = &*said else {
            panic!("{said:?}")
        };
        let words = "role r rule 2: `pattern deny a/%c/x` does not forbid what role r rule 1 (`";
        assert!(first.starts_with(words), "{first}");
        let words = "role r rule 3: `pattern read a/%c/#` never decides: role r rule 1";
        assert!(second.starts_with(words), "{second}");
        let words = "role r rule 5: `topic deny a/b` does not forbid what role r rule 1 (`";
        assert!(third.starts_with(words), "{third}");
        let both = ["topic readwrite a/#", "topic deny a/b"].map(|line| parse(&line));
        let late = lint_rules(&both, false, |number| number.to_string());
        let [late] = &*late else { panic!("{late:?}") };
        let advice = "put the one that forbids first";
        assert!(late.why.ends_with(advice), "{late}");
        // In a group and in an ACL file it narrows what is permitted.
        assert!(lint_rules(&both, true, |_| String::new()).is_empty());
        assert_eq!(
            lines("user a\ntopic readwrite a/#\ntopic deny a/b\n"),
            [0; 0]
        );
        let first_is_narrower = ["topic read a/b", "topic deny a/#"].map(|line| parse(&line));
        assert!(lint_rules(&first_is_narrower, false, |_| String::new()).is_empty());
    }
}
