//! A set of rules, and the tree that finds the first matching rule.
//!
//! The sources of rules and the effects of refusals are elsewhere.

use std::fmt;

use martlet_codec::TopicFilter;
use smallvec::SmallVec;

use crate::Actions;
use crate::names::{Names, is_template};

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The actions that the rule applies to.
    pub actions: Actions,
    /// Whether the rule permits the actions; otherwise it forbids them.
    pub allows: bool,
    /// A Topic Filter. In its levels, `%c` is the Client Identifier and `%u` is the user name.
    pub filter: Box<str>,
    /// Origin of the rule as text: `acl.conf line 12`.
    pub source: Box<str>,
}

/// A decision, and the rule that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleDecision {
    /// Whether the action is allowed.
    pub allowed: bool,
    /// Number of the rule that decided; `None` if the default decided.
    pub rule: Option<u32>,
}

/// An invalid rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesError {
    /// Index of the rule, from 0.
    pub rule: usize,
    /// The error.
    pub why: &'static str,
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl std::error::Error for RulesError {}

/// Compiled rules.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Box<[Rule]>,
    /// Actions that are allowed if no rule matches.
    default: Actions,
    /// Whether all actions are permitted except those that are forbidden to every client, so that
    /// no check is needed.
    open: bool,
    /// Rules from this number on do not match clients whose names are not single levels.
    patterns_from: u32,
    /// Nodes of the tree; the first is the root.
    nodes: Vec<Node>,
}

/// A node of the tree: one level.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Literal levels, sorted.
    literals: Vec<(Box<str>, u32)>,
    /// Levels that contain `%c` or `%u`.
    templates: Vec<(Box<str>, u32)>,
    /// Index of the node for level `+`; 0 means none.
    any: u32,
    /// Rules whose filter ends at this node, in order.
    here: SmallVec<[u32; 2]>,
    /// Rules whose filter ends with `#` below this node.
    below: SmallVec<[u32; 2]>,
}

/// Most levels of a rule's filter: the default of `limits.topic_levels`, and more than occur in
/// practice.
const LEVELS_MAX: usize = 128;

impl Rules {
    /// Rules that permit all actions except those that are forbidden to every client.
    pub fn open() -> Self {
        Self {
            rules: Box::default(),
            default: Actions::ALL,
            open: true,
            patterns_from: u32::MAX,
            nodes: vec![Node::default()],
        }
    }

    /// Compiles rules. The first matching rule decides; if none matches, the actions of `default`
    /// are allowed.
    ///
    /// # Errors
    /// A filter is invalid. No set is returned, so a partial set never permits anything.
    pub fn compile(rules: Vec<Rule>, default: Actions) -> Result<Self, RulesError> {
        let mut nodes = vec![Node::default()];
        for (number, rule) in rules.iter().enumerate() {
            let error = |why| RulesError { rule: number, why };
            TopicFilter::new(&rule.filter).map_err(|_| error("not a valid Topic Filter"))?;
            if rule.filter.split('/').count() > LEVELS_MAX {
                return Err(error("more than 128 levels"));
            }
            enter(&mut nodes, &rule.filter, number as u32);
        }
        Ok(Self {
            rules: rules.into(),
            default,
            open: false,
            patterns_from: u32::MAX,
            nodes,
        })
    }

    /// Makes the rules from this one on match no client whose Client Identifier or user name
    /// contains `+`, `#` or `/`, even if the rules contain neither `%c` nor `%u`.
    pub fn with_patterns_from(mut self, rule: usize) -> Self {
        self.patterns_from = u32::try_from(rule).unwrap_or(u32::MAX);
        self
    }

    /// Approximate memory use in bytes.
    pub fn memory_bytes(&self) -> usize {
        // The text of a level is stored in its node, with the index of the child.
        let node = size_of::<Node>() + size_of::<(Box<str>, u32)>();
        let filters: usize = self.rules.iter().map(|rule| rule.filter.len() * 2).sum();
        self.nodes.len() * node + self.rules.len() * size_of::<Rule>() + filters
    }

    /// Rules that permit nothing.
    pub fn closed() -> Self {
        Self {
            default: Actions::NONE,
            open: false,
            ..Self::open()
        }
    }

    /// Whether no check is needed.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The rules, by number.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Checks whether a client with these names may publish to, or receive from, this Topic Name. A
    /// wildcard in the first level does not match `$…` [MQTT-4.7.2-1].
    pub fn topic(&self, action: Actions, topic: &str, names: Names<'_>) -> RuleDecision {
        self.decide(action, topic, names, false)
    }

    /// Checks whether a client may subscribe to this Topic Filter. The first rule that covers the
    /// whole filter decides. A rule that covers a part of it has no effect here, but on each
    /// message.
    pub fn filter(&self, filter: &str, names: Names<'_>) -> RuleDecision {
        self.decide(Actions::SUBSCRIBE, filter, names, true)
    }

    fn decide(
        &self,
        action: Actions,
        text: &str,
        names: Names<'_>,
        is_filter: bool,
    ) -> RuleDecision {
        let mut search = Search {
            rules: self,
            action,
            names,
            is_filter,
            best: u32::MAX,
        };
        search.walk(0, Some(text), text.starts_with('$'));
        if search.best >= self.patterns_from && !names.are_levels() {
            search.best = u32::MAX;
        }
        match self.rules.get(search.best as usize) {
            Some(rule) => RuleDecision {
                allowed: rule.allows,
                rule: Some(search.best),
            },
            None => RuleDecision {
                allowed: self.default.has(action),
                rule: None,
            },
        }
    }
}

fn enter(nodes: &mut Vec<Node>, filter: &str, rule: u32) {
    let mut at = 0;
    for level in filter.split('/') {
        if level == "#" {
            nodes[at].below.push(rule);
            return;
        }
        at = child(nodes, at, level) as usize;
    }
    nodes[at].here.push(rule);
}

fn child(nodes: &mut Vec<Node>, at: usize, level: &str) -> u32 {
    let next = nodes.len() as u32;
    let node = &mut nodes[at];
    let found = if level == "+" {
        match node.any {
            0 => {
                node.any = next;
                None
            }
            any => Some(any),
        }
    } else if is_template(level) {
        let known = node.templates.iter().find(|(known, _)| **known == *level);
        let known = known.map(|(_, place)| *place);
        if known.is_none() {
            node.templates.push((level.into(), next));
        }
        known
    } else {
        match node
            .literals
            .binary_search_by(|(known, _)| (**known).cmp(level))
        {
            Ok(place) => Some(node.literals[place].1),
            Err(place) => {
                node.literals.insert(place, (level.into(), next));
                None
            }
        }
    };
    found.unwrap_or_else(|| {
        nodes.push(Node::default());
        next
    })
}

/// Searches the first rule that matches a Topic Name, or that covers a Topic Filter.
struct Search<'a> {
    rules: &'a Rules,
    action: Actions,
    names: Names<'a>,
    is_filter: bool,
    /// The lowest matching rule number so far.
    best: u32,
}

impl Search<'_> {
    /// `rest` is the remaining part of the topic. `hidden` is true at the first level if it begins
    /// with `$`.
    fn walk(&mut self, at: u32, rest: Option<&str>, hidden: bool) {
        let rules = self.rules;
        let node = &rules.nodes[at as usize];
        if !hidden {
            // `a/#` also matches `a` [MQTT-4.7.1-2].
            self.consider(&node.below);
        }
        let Some(rest) = rest else {
            return self.consider(&node.here);
        };
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        if self.is_filter && level == "#" {
            return;
        }
        if node.any != 0 && !hidden {
            self.walk(node.any, rest, false);
        }
        if self.is_filter && level == "+" {
            return;
        }
        let literals = &node.literals;
        if let Ok(place) = literals.binary_search_by(|(known, _)| (**known).cmp(level)) {
            self.walk(literals[place].1, rest, false);
        }
        for (template, place) in &node.templates {
            if self.names.fill(template, level) {
                self.walk(*place, rest, false);
            }
        }
    }

    fn consider(&mut self, numbers: &[u32]) {
        for &number in numbers {
            if number >= self.best {
                return;
            }
            let rule = &self.rules.rules[number as usize];
            if rule.actions.has(self.action) {
                self.best = number;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use martlet_codec::TopicName;
    use proptest::prelude::*;

    use super::*;

    const NAMES: Names<'_> = Names {
        client_id: "c1",
        user_name: "u1",
    };

    fn rule(allows: bool, actions: Actions, filter: &str) -> Rule {
        Rule {
            actions,
            allows,
            filter: filter.into(),
            source: "test".into(),
        }
    }

    fn may(rules: &Rules, action: Actions, topic: &str) -> bool {
        rules.topic(action, topic, NAMES).allowed
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_is_named() {
        let rules = vec![
            rule(false, Actions::ALL, "a/secret/#"),
            rule(true, Actions::READ, "a/#"),
            rule(true, Actions::PUBLISH, "a/%c/up"),
        ];
        let rules = Rules::compile(rules, Actions::NONE).unwrap();
        let decision = rules.topic(Actions::RECEIVE, "a/secret", NAMES);
        assert_eq!((decision.allowed, decision.rule), (false, Some(0)));
        assert!(may(&rules, Actions::RECEIVE, "a/b"));
        assert!(may(&rules, Actions::PUBLISH, "a/c1/up"));
        assert!(!may(&rules, Actions::PUBLISH, "a/c2/up"));
        assert_eq!(rules.topic(Actions::PUBLISH, "b", NAMES).rule, None);
    }

    #[test]
    fn a_subscription_is_permitted_by_a_rule_that_covers_all_of_it() {
        let rules = vec![
            rule(false, Actions::READ, "a/secret/#"),
            rule(true, Actions::READ, "a/#"),
            rule(true, Actions::READ, "b/+/c"),
        ];
        let rules = Rules::compile(rules, Actions::NONE).unwrap();
        let may = |filter| rules.filter(filter, NAMES).allowed;
        assert!(may("a/#") && may("a/+/x") && may("a") && may("b/+/c") && may("b/x/c"));
        assert!(!may("#") && !may("+") && !may("b/#") && !may("b/+/+") && !may("a/secret/x"));
    }

    #[test]
    fn names_that_reach_beyond_a_level_match_nothing() {
        let rules = vec![
            rule(true, Actions::ALL, "d/%c/#"),
            rule(true, Actions::ALL, "u/x-%u-y"),
        ];
        let rules = Rules::compile(rules, Actions::NONE).unwrap();
        let may = |client_id, user_name, topic| {
            let names = Names {
                client_id,
                user_name,
            };
            rules.topic(Actions::PUBLISH, topic, names).allowed
        };
        assert!(may("c", "u", "d/c/x") && may("c", "u", "u/x-u-y"));
        assert!(!may("+", "", "d/+/x") && !may("a/b", "", "d/a/b") && !may("#", "", "d/#"));
        assert!(!may("", "", "d//x") && !may("c", "", "u/x--y"));
    }

    #[test]
    fn wildcards_at_the_beginning_do_not_mean_the_nodes_own_topics() {
        let rules = vec![
            rule(true, Actions::ALL, "#"),
            rule(true, Actions::READ, "$SYS/#"),
        ];
        let rules = Rules::compile(rules, Actions::NONE).unwrap();
        assert!(may(&rules, Actions::RECEIVE, "$SYS/broker/uptime"));
        assert!(!may(&rules, Actions::PUBLISH, "$SYS/broker/uptime"));
        assert!(rules.filter("$SYS/#", NAMES).allowed && rules.filter("#", NAMES).allowed);
        assert!(!rules.filter("$other/#", NAMES).allowed);
    }

    fn level() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "c1", "u1", "", "$SYS", "x%"]).prop_map(String::from)
    }

    fn filter_level() -> impl Strategy<Value = String> {
        let all = vec![
            "a", "b", "c1", "", "$SYS", "+", "+", "%c", "%u", "x%", "a%c",
        ];
        prop::sample::select(all).prop_map(String::from)
    }

    fn filters() -> impl Strategy<Value = String> {
        (prop::collection::vec(filter_level(), 1..4), any::<bool>()).prop_map(
            |(mut levels, all)| {
                if all {
                    levels.pop();
                    levels.push("#".into());
                }
                levels.join("/")
            },
        )
    }

    fn filled(filter: &str) -> String {
        filter
            .replace("%c", NAMES.client_id)
            .replace("%u", NAMES.user_name)
    }

    /// Whether `outer` matches every topic that `inner` matches.
    fn covers(outer: &str, inner: &str) -> bool {
        if outer.starts_with(['+', '#']) && inner.starts_with('$') {
            return false;
        }
        let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
        loop {
            match (outer.next(), inner.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(level)) if level != "#" => {}
                (Some(level), Some(other)) if level == other => {}
                _ => return false,
            }
        }
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_looking_at_each_rule(
            rules in prop::collection::vec((any::<bool>(), 1_u8..8, filters()), 0..12),
            default in 0_u8..8,
            topic in prop::collection::vec(level(), 1..4),
            subscribed in filters(),
            action in prop::sample::select(vec![Actions::PUBLISH, Actions::RECEIVE]),
        ) {
            let topic = topic.join("/");
            let list: Vec<Rule> = rules
                .iter()
                .map(|(allows, actions, filter)| rule(*allows, Actions(*actions), filter))
                .collect();
            let Ok(compiled) = Rules::compile(list.clone(), Actions(default)) else {
                return Ok(());
            };
            let expected = |action: Actions, matches: &dyn Fn(&str) -> bool| {
                let found = list
                    .iter()
                    .position(|rule| rule.actions.has(action) && matches(&filled(&rule.filter)));
                RuleDecision {
                    allowed: found.map_or(Actions(default).has(action), |at| list[at].allows),
                    rule: found.map(|at| at as u32),
                }
            };
            if let Ok(name) = TopicName::new(&topic) {
                let matches = |filter: &str| {
                    TopicFilter::new(filter).is_ok_and(|filter| filter.matches(name))
                };
                let decision = compiled.topic(action, &topic, NAMES);
                prop_assert_eq!(decision, expected(action, &matches));
            }
            let subscribed = filled(&subscribed);
            let covered = |filter: &str| covers(filter, &subscribed);
            let decision = compiled.filter(&subscribed, NAMES);
            prop_assert_eq!(decision, expected(Actions::SUBSCRIBE, &covered));
        }
    }
}
