//! What `%c` and `%u` in the Topic Filters of rules stand for.

/// What `%c` and `%u` stand for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// Client Identifier.
    pub client_id: &'a str,
    /// User name; empty is none.
    pub user_name: &'a str,
}

impl<'a> Names<'a> {
    /// Both stand for one level, or for nothing.
    pub(crate) fn are_levels(&self) -> bool {
        [self.client_id, self.user_name]
            .iter()
            .all(|name| !name.contains(['+', '#', '/']))
    }

    /// A name that would reach beyond its level, or match others, stands for nothing: a rule that
    /// needs it never matches.
    fn usable(name: &'a str) -> Option<&'a str> {
        let is_level = !name.is_empty() && !name.contains(['+', '#', '/']);
        is_level.then_some(name)
    }

    /// Whether `level` is what `template` becomes with these names.
    pub(crate) fn fill(&self, template: &str, level: &str) -> bool {
        let (mut template, mut level) = (template, level);
        while let Some(at) = template.find('%') {
            let (before, rest) = template.split_at(at);
            let Some(after) = level.strip_prefix(before) else {
                return false;
            };
            let name = match rest.as_bytes().get(1) {
                Some(b'c') => Self::usable(self.client_id),
                Some(b'u') => Self::usable(self.user_name),
                _ => {
                    // A percent sign like any other letter.
                    let Some(after) = after.strip_prefix('%') else {
                        return false;
                    };
                    (template, level) = (&rest[1..], after);
                    continue;
                }
            };
            let Some(after) = name.and_then(|name| after.strip_prefix(name)) else {
                return false;
            };
            (template, level) = (&rest[2..], after);
        }
        template == level
    }
}

/// A level of a rule's Topic Filter names the client or its user.
pub(crate) fn is_template(level: &str) -> bool {
    level.contains("%c") || level.contains("%u")
}
