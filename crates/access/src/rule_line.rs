//! One rule of a role or device type, in the syntax of ACL files.
//!
//! Unlike in ACL files, only the order of the lines decides: the first matching rule applies.
//! Reading includes subscribing, so a filter that no rule covers cannot be subscribed to.

use std::borrow::Cow;
use std::fmt;

use martlet_codec::SubscriptionFilter;
use martlet_permission::Actions;

use crate::acl_line::{Access, Statement, statement};

/// A rule: `topic read a/#`, `topic deny a/secret`, `pattern write d/%c/#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLine {
    /// Whether the rule permits; otherwise it forbids.
    pub allows: bool,
    /// The actions that the rule applies to.
    pub actions: Actions,
    /// A Topic Filter with `%c` and `%u`.
    pub filter: Box<str>,
}

impl RuleLine {
    /// Parses a line.
    ///
    /// # Errors
    /// The expected syntax, or the line would never decide.
    pub fn parse(line: &str) -> Result<Self, String> {
        let rule = Self::parse_known(line)?;
        match without_group(&rule.filter) {
            None => Ok(rule),
            Some(advice) => Err(format!(
                "{line:?} would never decide, since permissions are checked without the share \
                 group: {advice}"
            )),
        }
    }

    /// Parses a line, also one that would never decide, as earlier versions stored them.
    ///
    /// # Errors
    /// The expected syntax.
    pub fn parse_known(line: &str) -> Result<Self, String> {
        match statement(line)? {
            Statement::Rule { access, filter, .. } => Ok(Self {
                allows: access != Access::Deny,
                actions: match access {
                    Access::Read => Actions::READ,
                    Access::Write => Actions::PUBLISH,
                    Access::ReadWrite | Access::Deny => Actions::ALL,
                },
                filter: filter.into(),
            }),
            Statement::Nothing | Statement::User(_) => Err(format!(
                "{line:?} is not a valid rule, expected: topic|pattern [read|write|readwrite|deny] \
                 FILTER"
            )),
        }
    }
}

/// The rule with `topic` before it, if it has neither that nor `pattern`: `read a/#`, `a/#`.
pub fn with_keyword(rule: &str) -> Cow<'_, str> {
    let text = rule.trim_start();
    let has_one = ["topic", "pattern"].iter().any(|keyword| {
        let rest = text.strip_prefix(keyword);
        rest.is_some_and(|rest| rest.starts_with([' ', '\t']))
    });
    match has_one {
        true => text.into(),
        false => format!("topic {text}").into(),
    }
}

/// Advice for a rule whose filter is one of Shared Subscriptions; none: it is another one.
pub(crate) fn without_group(filter: &str) -> Option<String> {
    SubscriptionFilter::is_shared(filter).then(|| match SubscriptionFilter::parse(filter) {
        Ok(shared) => format!("use the filter {}", shared.filter),
        Err(_) => "use the filter behind $share/NAME/".to_owned(),
    })
}

impl fmt::Display for RuleLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_pattern = self.filter.contains("%c") || self.filter.contains("%u");
        let keyword = if is_pattern { "pattern" } else { "topic" };
        let access = match (self.allows, self.actions) {
            (true, Actions::READ) => "read".to_owned(),
            (true, Actions::PUBLISH) => "write".to_owned(),
            (true, Actions::ALL) => "readwrite".to_owned(),
            (false, Actions::ALL) => "deny".to_owned(),
            (allows, actions) => {
                let word = if allows { "allow" } else { "deny" };
                let names: Vec<&str> = actions.names().collect();
                format!("{word} {}", names.join(","))
            }
        };
        write!(f, "{keyword} {access} {}", self.filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_as_it_was_read() {
        for line in [
            "topic read a/#",
            "topic deny a/secret",
            "pattern write d/%c/#",
            "topic readwrite with space/x",
        ] {
            let rule = RuleLine::parse(line).unwrap();
            assert_eq!(rule.to_string(), line);
        }
        assert_eq!(
            RuleLine::parse("topic a").unwrap().actions,
            Actions::ALL,
            "without a word it is both"
        );
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for line in [
            "",
            "# a",
            "user bob",
            "topic",
            "topic read a/#/b",
            "read a",
            "topic deny $share/g/a",
            "topic deny $share/#",
            "topic deny $share/+",
            "topic deny $share",
        ] {
            assert!(RuleLine::parse(line).is_err(), "{line:?}");
        }
    }
}
