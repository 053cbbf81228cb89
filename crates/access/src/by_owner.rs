//! Lines of an ACL file by owner, so that checks of a file take time linear in the number of its
//! users.

use std::collections::BTreeMap;

use crate::acl_line::{Access, AclLine, LineSubject, fits_patterns};
use crate::coverage::covers;

/// Lines by owner, each list in the order of the file.
#[derive(Default)]
pub(crate) struct LinesByOwner<'a> {
    anonymous: Vec<&'a AclLine>,
    patterns: Vec<&'a AclLine>,
    users: BTreeMap<&'a str, Vec<&'a AclLine>>,
}

impl<'a> LinesByOwner<'a> {
    pub(crate) fn new(lines: &'a [AclLine]) -> Self {
        let mut all = Self::default();
        for line in lines {
            let list = match &line.of {
                LineSubject::Anonymous => &mut all.anonymous,
                LineSubject::Everybody => &mut all.patterns,
                LineSubject::User(name) => all.users.entry(name).or_default(),
            };
            list.push(line);
        }
        all
    }

    /// Lines of this owner only.
    pub(crate) fn of(&self, owner: &LineSubject) -> &[&'a AclLine] {
        match owner {
            LineSubject::Anonymous => &self.anonymous,
            LineSubject::Everybody => &self.patterns,
            LineSubject::User(name) => self.of_user(name),
        }
    }

    fn of_user(&self, name: &str) -> &[&'a AclLine] {
        self.users.get(name).map_or(&[], |lines| lines)
    }
}

/// Determines which users have any rights by an ACL file. Created once per file; a query takes time
/// linear in the user's own lines.
pub struct Permitted<'a> {
    lines: LinesByOwner<'a>,
    /// Patterns that permit, without those that another pattern denies.
    patterns: Vec<&'a AclLine>,
}

impl<'a> Permitted<'a> {
    pub(crate) fn new(lines: &'a [AclLine]) -> Self {
        let lines = LinesByOwner::new(lines);
        let patterns = permitting(&lines.patterns, &lines.patterns).collect();
        Self { lines, patterns }
    }

    /// Whether any line permits this user something; `None` is an anonymous client. Lines that are
    /// covered by a denying line do not count.
    pub fn permits(&self, user: Option<&str>) -> bool {
        let own = match user {
            None => &self.lines.anonymous,
            Some(name) => self.lines.of_user(name),
        };
        // A user's own lines take precedence over patterns.
        let has_pattern = || permitting(&self.patterns, own).next().is_some();
        permitting(own, own).next().is_some() || user.is_none_or(fits_patterns) && has_pattern()
    }
}

/// Lines that permit and are not covered by any of `denying`.
fn permitting<'a, 'l>(
    lines: &'l [&'a AclLine],
    denying: &'l [&'a AclLine],
) -> impl Iterator<Item = &'a AclLine> + use<'a, 'l> {
    let denies = |deny: &AclLine, line: &AclLine| {
        deny.access == Access::Deny && covers(&deny.filter, &line.filter)
    };
    let permitting = lines.iter().filter(|line| line.access != Access::Deny);
    permitting
        .filter(move |line| !denying.iter().any(|deny| denies(deny, line)))
        .copied()
}
