//! What is odd in an ACL file: lines that decide nothing, and lines that permit too much.

use std::fmt;

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
    fn what_is_wider_than_meant_is_found() {
        assert_eq!(lines("topic read #\n"), [1]);
        assert_eq!(lines("user admin\ntopic #\n"), [0; 0]);
        assert_eq!(lines("pattern read news\n"), [1]);
        assert_eq!(lines("user a\ntopic d/%c\n"), [2]);
        assert_eq!(lines("pattern readwrite #\n").len(), 2);
    }
}
