//! Values of `%c` and `%u` in the Topic Filters of rules.

/// Values of `%c` and `%u`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// Client Identifier.
    pub client_id: &'a str,
    /// User name; empty if there is none.
    pub user_name: &'a str,
}

impl<'a> Names<'a> {
    /// Whether each name is a single level or empty.
    pub(crate) fn are_levels(&self) -> bool {
        [self.client_id, self.user_name]
            .iter()
            .all(|name| !name.contains(['+', '#', '/']))
    }

    /// Returns the name if it is a single level. A name that would span several levels or contains
    /// a wildcard has no value: rules that contain it never match.
    fn usable(name: &'a str) -> Option<&'a str> {
        let is_level = !name.is_empty() && !name.contains(['+', '#', '/']);
        is_level.then_some(name)
    }

    /// Whether `level` equals `template` with these names inserted.
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
                    // A percent sign is an ordinary character here.
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

/// Whether a level of a rule's Topic Filter contains the client or its user.
pub(crate) fn is_template(level: &str) -> bool {
    level.contains("%c") || level.contains("%u")
}
