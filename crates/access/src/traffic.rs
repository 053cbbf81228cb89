//! Compares rules with the topics that clients use, and reports rules that permit more.

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_permission::{Actions, Names, Rules};

use crate::acl_line::{Access, AclLine, LineSubject};
use crate::coverage::{covers, is_all};
use crate::lint::Lint;
use crate::{AclFile, RuleLine};

/// A use of a topic by a client.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// User name; `None` for an anonymous client.
    pub user_name: Option<&'a str>,
    /// Client Identifier.
    pub client_id: &'a str,
    /// Topic Name.
    pub topic: &'a str,
    /// Whether the client publishes to the topic; otherwise it receives from it.
    pub publishes: bool,
}

/// The uses of each rule, by the rule's place.
#[derive(Debug, Default)]
pub struct Needs(BTreeMap<String, Need>);

/// Rules, compared with the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleReview {
    /// Rules that are wider than the topics used.
    pub wider: Vec<Lint>,
    /// Rules that were used too rarely to be judged.
    pub seldom: Vec<String>,
    /// Rules that permit something and were not used.
    pub unused: Vec<String>,
}

/// Fewest uses of a rule for a judgement.
pub const USES_MIN: usize = 3;

impl Needs {
    /// Finds the rule that permits each use, among the rules of its user. `None`: the user is
    /// skipped.
    pub fn of(uses: &[Use<'_>], rules_of: impl Fn(&Use<'_>) -> Option<Arc<Rules>>) -> Self {
        let mut needs: BTreeMap<String, Need> = BTreeMap::new();
        for found in uses {
            let Some(rules) = rules_of(found) else {
                continue;
            };
            let action = match found.publishes {
                true => Actions::PUBLISH,
                false => Actions::RECEIVE,
            };
            let names = Names {
                client_id: found.client_id,
                user_name: found.user_name.unwrap_or_default(),
            };
            let verdict = rules.topic(action, found.topic, names);
            let rule = verdict.rule.filter(|_| verdict.allowed);
            let Some(rule) = rule.and_then(|number| rules.rules().get(number as usize)) else {
                continue;
            };
            let need = needs.entry(rule.source.to_string()).or_default();
            need.add(&rule.filter, found);
        }
        Self(needs)
    }

    fn judge(
        &self,
        judged: &mut RuleReview,
        source: &str,
        place: String,
        line: usize,
        rule: &impl Stated,
    ) {
        let Some(need) = self.0.get(source) else {
            if rule.permits() {
                judged.unused.push(place);
            }
            return;
        };
        if need.uses < USES_MIN {
            return judged.seldom.push(place);
        }
        if let Some(why) = need.narrower_than(rule) {
            judged.wider.push(Lint { place, line, why });
        }
    }
}

impl AclFile {
    /// Compares the lines of the file with the traffic.
    pub fn judge_by(&self, needs: &Needs) -> RuleReview {
        let mut judged = RuleReview::default();
        for line in &self.lines {
            let source = format!("{} line {}", self.name, line.number);
            needs.judge(&mut judged, &source, line.place(), line.number, line);
        }
        judged
    }
}

/// Compares the rules of a role or device type with the traffic. `place` returns the place of a
/// rule by its number, from 1, in the form used in decisions.
pub fn judge_rules_by(
    needs: &Needs,
    rules: &[RuleLine],
    place: impl Fn(usize) -> String,
) -> RuleReview {
    let mut judged = RuleReview::default();
    for (at, rule) in rules.iter().enumerate() {
        let place = place(at + 1);
        needs.judge(&mut judged, &place.clone(), place, at + 1, rule);
    }
    judged
}

/// A rule in its written form.
trait Stated {
    fn filter(&self) -> &str;
    /// Whether the rule permits; otherwise it forbids.
    fn permits(&self) -> bool;
    /// Whether the rule applies to both directions.
    fn is_two_way(&self) -> bool;
    /// Whether `%c` and `%u` are replaced by names.
    fn takes_names(&self) -> bool;
    fn text(&self) -> String;
    /// The rule with another filter, and optionally for one direction only: publishing or
    /// receiving.
    fn narrower(&self, filter: &str, publishes: Option<bool>) -> String;
}

impl Stated for AclLine {
    fn filter(&self) -> &str {
        &self.filter
    }

    fn permits(&self) -> bool {
        self.access != Access::Deny
    }

    fn is_two_way(&self) -> bool {
        self.access == Access::ReadWrite
    }

    fn takes_names(&self) -> bool {
        self.of == LineSubject::Everybody
    }

    fn text(&self) -> String {
        Self::text(self)
    }

    fn narrower(&self, filter: &str, publishes: Option<bool>) -> String {
        let narrower = Self {
            access: match publishes {
                Some(true) => Access::Write,
                Some(false) => Access::Read,
                None => self.access,
            },
            filter: filter.into(),
            ..self.clone()
        };
        narrower.text()
    }
}

impl Stated for RuleLine {
    fn filter(&self) -> &str {
        &self.filter
    }

    fn permits(&self) -> bool {
        self.allows
    }

    fn is_two_way(&self) -> bool {
        self.actions == Actions::ALL
    }

    fn takes_names(&self) -> bool {
        true
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn narrower(&self, filter: &str, publishes: Option<bool>) -> String {
        let narrower = Self {
            actions: match publishes {
                Some(true) => Actions::PUBLISH,
                Some(false) => Actions::READ,
                None => self.actions,
            },
            filter: filter.into(),
            ..self.clone()
        };
        narrower.to_string()
    }
}

/// The topics for which a rule was used.
#[derive(Debug, Default)]
struct Need {
    /// The common leading levels of all its topics.
    levels: Vec<Level>,
    /// Whether some topics have further levels.
    is_open: bool,
    /// Number of uses.
    uses: usize,
    publishes: bool,
    receives: bool,
}

/// One level of the topics.
#[derive(Debug)]
struct Level {
    /// Text, if it is the same in all topics.
    text: Option<String>,
    /// The rule's text at this level, unless it is a wildcard.
    stated: Option<String>,
    /// Whether it is the client's own Client Identifier in all topics.
    is_client_id: bool,
    /// Whether it is the client's own user name in all topics.
    is_user_name: bool,
}

impl Need {
    fn add(&mut self, filter: &str, found: &Use<'_>) {
        let mut stated = filter.split('/').take_while(|level| *level != "#");
        let levels: Vec<&str> = found.topic.split('/').collect();
        if self.uses == 0 {
            self.levels = levels
                .iter()
                .map(|level| Level {
                    text: Some((*level).to_owned()),
                    stated: stated
                        .next()
                        .filter(|level| *level != "+")
                        .map(str::to_owned),
                    is_client_id: true,
                    is_user_name: true,
                })
                .collect();
        }
        self.is_open |= self.levels.len() != levels.len();
        self.levels.truncate(levels.len());
        for (level, text) in self.levels.iter_mut().zip(levels) {
            level.text = level.text.take().filter(|before| before == text);
            level.is_client_id &= text == found.client_id;
            level.is_user_name &= Some(text) == found.user_name;
        }
        self.uses += 1;
        self.publishes |= found.publishes;
        self.receives |= !found.publishes;
    }

    /// The narrowest filter that matches all topics. With `with_names`, levels that contain each
    /// client's own name become placeholders.
    fn filter(&self, with_names: bool) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level {
                stated: Some(stated),
                ..
            } => stated,
            level if with_names && level.is_client_id => "%c",
            level if with_names && level.is_user_name => "%u",
            Level {
                text: Some(text), ..
            } => text,
            _ => "+",
        });
        let open = self.is_open.then_some("#");
        levels.chain(open).collect::<Vec<&str>>().join("/")
    }

    fn narrower_than(&self, rule: &impl Stated) -> Option<String> {
        let filter = self.filter(rule.takes_names());
        let is_narrower =
            covers(rule.filter(), &filter) && !covers(&filter, rule.filter()) && !is_all(&filter);
        let is_one_way = self.publishes != self.receives && rule.is_two_way();
        if !is_narrower && !is_one_way {
            return None;
        }
        let filter = match is_narrower {
            true => &filter,
            false => rule.filter(),
        };
        Some(format!(
            "`{}` is wider than the traffic seen: `{}` would do for its {} uses",
            rule.text(),
            rule.narrower(filter, is_one_way.then_some(self.publishes)),
            self.uses
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subscribing;

    fn uses(
        user: &'static str,
        client_id: &'static str,
        publishes: bool,
        topics: &[&'static str],
    ) -> Vec<Use<'static>> {
        let all = topics.iter().map(|topic| Use {
            user_name: Some(user),
            client_id,
            topic,
            publishes,
        });
        all.collect()
    }

    fn judged(file: &AclFile, uses: &[Use<'_>]) -> RuleReview {
        file.judge_by(&Needs::of(uses, |found| {
            Some(file.rules_for(found.user_name))
        }))
    }

    #[test]
    fn what_is_wider_than_its_traffic_is_found() {
        let file =
            "user a\ntopic home/#\ntopic read news/+\npattern readwrite d/%c/#\nuser b\ntopic #\n";
        let file = AclFile::parse("acl", file, Subscribing::AtDelivery).unwrap();
        let mut all = uses(
            "a",
            "c",
            true,
            &["home/1/temp", "home/2/temp", "home/3/temp"],
        );
        all.extend(uses("a", "c", false, &["news/1", "news/2", "news/3"]));
        all.extend(uses("b", "c1", true, &["x", "y/z", "home/1"]));
        all.extend(uses("x", "c1", true, &["d/c1/up", "d/c1/down"]));
        all.extend(uses("x", "c2", true, &["d/c2/up"]));
        let found = judged(&file, &all).wider;
        let said: Vec<(usize, &str)> = found.iter().map(|lint| (lint.line, &*lint.why)).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(
            said[0].0 == 2 && said[0].1.contains("`topic write home/+/temp` would do"),
            "{said:?}"
        );
        assert!(
            said[1].0 == 4 && said[1].1.contains("`pattern write d/%c/+` would do"),
            "{said:?}"
        );
        assert!(
            said[2].0 == 6 && said[2].1.contains("`topic write #` would do"),
            "{said:?}"
        );
        // Too few uses for a judgement.
        assert!(judged(&file, &all[..2]).wider.is_empty());
    }

    #[test]
    fn levels_that_are_each_clients_own_are_said_by_name() {
        let file = "pattern readwrite d/+/#\npattern write x/dev-%c/#\npattern read c1/#\n";
        let file = AclFile::parse("acl", file, Subscribing::AtDelivery).unwrap();
        let mut all = uses("u1", "c1", true, &["d/c1/up", "x/dev-c1/a", "x/dev-c1/b"]);
        all.extend(uses(
            "u2",
            "c2",
            true,
            &["d/c2/up", "d/c2/up", "x/dev-c2/a"],
        ));
        all.extend(uses("u1", "c1", false, &["c1/a", "c1/a", "c1/b"]));
        let said: Vec<String> = judged(&file, &all)
            .wider
            .iter()
            .map(Lint::to_string)
            .collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(
            said[0].contains("`pattern write d/%c/up` would do"),
            "{said:?}"
        );
        assert!(
            said[1].contains("`pattern write x/dev-%c/+` would do"),
            "{said:?}"
        );
        assert!(said[2].contains("`pattern read c1/+` would do"), "{said:?}");
    }

    #[test]
    fn rules_of_a_role_are_looked_at_as_lines_are() {
        let parse = |line: &&str| RuleLine::parse(line).unwrap();
        let lines = [
            "topic deny d/secret",
            "topic readwrite d/#",
            "topic read news",
            "topic read x",
        ];
        let rules: Vec<RuleLine> = lines.iter().map(parse).collect();
        let place = |number: usize| format!("role r rule {number}");
        let compiled = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| martlet_permission::Rule {
                actions: rule.actions,
                allows: rule.allows,
                filter: rule.filter.clone(),
                source: place(at + 1).into(),
            });
        let compiled = Rules::compile(compiled.collect(), Actions::NONE).unwrap();
        let compiled = Arc::new(compiled);
        let mut all = uses("u1", "c1", true, &["d/u1/up", "d/u1/down", "d/secret"]);
        all.extend(uses("u2", "c2", true, &["d/u2/up"]));
        all.extend(uses("u2", "c2", false, &["news"]));
        let needs = Needs::of(&all, |_| Some(Arc::clone(&compiled)));
        let judged = judge_rules_by(&needs, &rules, place);
        let said: Vec<String> = judged.wider.iter().map(Lint::to_string).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("role r rule 2: `topic readwrite d/#` is wider"),
            "{said:?}"
        );
        assert!(
            said[0].contains("`pattern write d/%u/+` would do for its 3 uses"),
            "{said:?}"
        );
        assert_eq!(judged.seldom, ["role r rule 3"]);
        assert_eq!(judged.unused, ["role r rule 4"]);
    }
}
