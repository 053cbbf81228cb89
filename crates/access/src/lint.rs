//! What is odd in an ACL file: lines that decide nothing, and lines that permit too much.

use std::collections::BTreeMap;
use std::fmt;

use martlet_broker::Actions;

use crate::AclFile;
use crate::acl_file::{Access, Line, Whose};

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Line, from 1.
    pub line: usize,
    /// What, and what to do.
    pub why: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Line {
    /// As it could be written.
    pub(crate) fn text(&self) -> String {
        let keyword = match self.of {
            Whose::Everybody => "pattern",
            Whose::Anonymous | Whose::User(_) => "topic",
        };
        format!("{keyword} {} {}", self.access.word(), self.filter)
    }

    fn has_names(&self) -> bool {
        self.filter.contains("%c") || self.filter.contains("%u")
    }
}

impl AclFile {
    /// All that is odd, in the order of the lines.
    pub fn lint(&self) -> Vec<Lint> {
        let mut found = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            let mut odd = |why: String| {
                found.push(Lint {
                    line: line.number,
                    why,
                });
            };
            if let Some(other) = self.decides_before(at) {
                odd(format!(
                    "`{}` never decides: line {} (`{}`) covers all of it; remove one of them",
                    line.text(),
                    other.number,
                    other.text()
                ));
                continue;
            }
            if line.of == Whose::Everybody && !line.has_names() {
                odd(format!(
                    "`{}` holds for everybody, anonymous clients too, since it has neither %c nor \
                     %u; that is better said in so many words, under each `user`",
                    line.text()
                ));
            }
            if line.of != Whose::Everybody && line.has_names() {
                odd(format!(
                    "`{}`: %c and %u stand for names in `pattern` lines alone; here they are those \
                     two letters",
                    line.text()
                ));
            }
            if line.access != Access::Deny && is_all(&line.filter) {
                let whose = match &line.of {
                    Whose::Anonymous => "anonymous clients",
                    Whose::Everybody => "everybody",
                    // Administrators are like that.
                    Whose::User(_) => continue,
                };
                odd(format!(
                    "`{}` gives {whose} all topics; name those that they need",
                    line.text()
                ));
            }
        }
        found
    }

    /// A line that decides wherever this one would: it is looked at before, for all that this one
    /// permits or forbids.
    fn decides_before(&self, at: usize) -> Option<&Line> {
        let line = &self.lines[at];
        self.lines.iter().enumerate().find_map(|(other_at, other)| {
            let is_same = other.of == line.of;
            let is_before = match (other.access == Access::Deny, line.access == Access::Deny) {
                (true, false) => true,
                (false, true) => false,
                _ => other_at < at,
            };
            // What permits less than this one decides a part of it alone.
            let decides = other.access.actions().has(line.access.actions());
            (is_same && is_before && decides && covers(&other.filter, &line.filter))
                .then_some(other)
        })
    }
}

/// What a client does with a topic.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// User name; none is anonymous.
    pub user_name: Option<&'a str>,
    /// Client Identifier.
    pub client_id: &'a str,
    /// Topic Name.
    pub topic: &'a str,
    /// It publishes to it; else it receives its messages.
    pub publishes: bool,
}

/// What a line was needed for.
#[derive(Debug, Default)]
struct Need {
    /// A filter that matches all topics of it, as narrow as it can be said.
    filter: String,
    /// How many there were.
    uses: usize,
    publishes: bool,
    receives: bool,
}

/// Lines that were needed more often than that have shown what they are needed for.
const USES_MIN: usize = 3;

impl AclFile {
    /// Lines that are wider than what clients do by them, and those by which nobody did anything
    /// though others of the same user were needed.
    pub fn lint_traffic(&self, uses: &[Use<'_>]) -> Vec<Lint> {
        let mut needs: BTreeMap<usize, Need> = BTreeMap::new();
        for found in uses {
            let action = match found.publishes {
                true => Actions::PUBLISH,
                false => Actions::RECEIVE,
            };
            let decided = self.explain(found.user_name, found.client_id, action, found.topic);
            let line = decided
                .place
                .as_deref()
                .and_then(|place| self.line_at(place));
            let Some(line) = line.filter(|_| decided.allowed) else {
                continue;
            };
            let topic = of_pattern(line, found);
            let need = needs.entry(line.number).or_default();
            need.filter = match need.uses {
                0 => topic,
                _ => both(&need.filter, &topic),
            };
            need.uses += 1;
            need.publishes |= found.publishes;
            need.receives |= !found.publishes;
        }
        let lines = self.lines.iter();
        let found = lines.filter_map(|line| {
            let need = needs.get(&line.number)?;
            let why = need.narrower_than(line)?;
            Some(Lint {
                line: line.number,
                why,
            })
        });
        found.collect()
    }
}

impl Need {
    fn narrower_than(&self, line: &Line) -> Option<String> {
        if self.uses < USES_MIN {
            return None;
        }
        let is_narrower = covers(&line.filter, &self.filter)
            && !covers(&self.filter, &line.filter)
            && !is_all(&self.filter);
        let access = match (self.publishes, self.receives) {
            (true, false) => Access::Write,
            (false, true) => Access::Read,
            _ => line.access,
        };
        let is_one_way = access != line.access && line.access == Access::ReadWrite;
        if !is_narrower && !is_one_way {
            return None;
        }
        let narrower = Line {
            number: line.number,
            of: line.of.clone(),
            access,
            filter: match is_narrower {
                true => self.filter.as_str().into(),
                false => line.filter.clone(),
            },
        };
        Some(format!(
            "`{}` is wider than the traffic seen: `{}` would do for its {} uses",
            line.text(),
            narrower.text(),
            self.uses
        ))
    }
}

/// The topic with %c and %u in it where the line has them.
fn of_pattern(line: &Line, found: &Use<'_>) -> String {
    if !line.has_names() {
        return found.topic.to_owned();
    }
    let levels = line
        .filter
        .split('/')
        .map(Some)
        .chain(std::iter::repeat(None));
    let topic = found.topic.split('/').zip(levels);
    let topic = topic.map(|(level, pattern)| match pattern {
        Some("%c") if level == found.client_id => "%c",
        Some("%u") if Some(level) == found.user_name => "%u",
        _ => level,
    });
    topic.collect::<Vec<&str>>().join("/")
}

/// A filter that matches all that either matches: a level where they differ is `+`, and where one
/// is longer, `#`. Beyond a few levels in common nothing is said of those that follow.
fn both(one: &str, other: &str) -> String {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    let mut levels: Vec<&str> = Vec::new();
    loop {
        match (one.next(), other.next()) {
            (None, None) => break,
            (Some("#"), _) | (_, Some("#")) | (None, _) | (_, None) => {
                levels.push("#");
                break;
            }
            (Some(one), Some(other)) if one == other => levels.push(one),
            _ => levels.push("+"),
        }
    }
    levels.join("/")
}

/// Every topic, but those that begin with `$`.
fn is_all(filter: &str) -> bool {
    matches!(filter, "#" | "+/#")
}

/// Each topic that `inner` matches, `outer` does.
fn covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && !outer.starts_with('$') {
        return false;
    }
    let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) => return true,
            (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(outer), Some(inner)) if outer == inner => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str) -> Vec<usize> {
        let found = AclFile::parse("acl", file).unwrap().lint();
        found.iter().map(|lint| lint.line).collect()
    }

    #[test]
    fn what_never_decides_is_found() {
        assert_eq!(lines("user a\ntopic a/#\ntopic read a/b\n"), [3]);
        assert_eq!(lines("user a\ntopic read a/b\ntopic a/#\n"), [0; 0]);
        assert_eq!(lines("user a\ntopic a/b\ntopic deny a/#\n"), [2]);
        assert_eq!(lines("user a\ntopic a/b\nuser b\ntopic a/b\n"), [0; 0]);
        assert_eq!(
            lines("user a\ntopic read +/x\ntopic write +/x\ntopic a/+\n"),
            [0; 0]
        );
        assert_eq!(lines("user a\ntopic #\ntopic read $SYS/#\n"), [0; 0]);
    }

    #[test]
    fn what_is_wider_than_its_traffic_is_found() {
        let file =
            "user a\ntopic home/#\ntopic read news/+\npattern readwrite d/%c/#\nuser b\ntopic #\n";
        let file = AclFile::parse("acl", file).unwrap();
        let uses = |user, client_id, publishes, topics: &[&'static str]| {
            let all = topics.iter().map(|topic| Use {
                user_name: Some(user),
                client_id,
                topic,
                publishes,
            });
            all.collect::<Vec<_>>()
        };
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
        let found = file.lint_traffic(&all);
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
        // Too few to say anything.
        assert!(file.lint_traffic(&all[..2]).is_empty());
    }

    #[test]
    fn what_is_wider_than_meant_is_found() {
        assert_eq!(lines("topic read #\n"), [1]);
        assert_eq!(lines("user admin\ntopic #\n"), [0; 0]);
        assert_eq!(lines("pattern read news\n"), [1]);
        assert_eq!(lines("user a\ntopic d/%c\n"), [2]);
        assert_eq!(lines("pattern readwrite #\n").len(), 2);
    }
}
