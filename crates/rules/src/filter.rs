//! Topic Filters, split into levels once.

/// Levels of a Topic Filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels(Vec<Level>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    Plus,
    Hash,
}

impl Levels {
    /// The levels of a valid Topic Filter.
    pub(crate) fn of(filter: &str) -> Self {
        let levels = filter.split('/').map(|level| match level {
            "+" => Level::Plus,
            "#" => Level::Hash,
            literal => Level::Literal(literal.to_owned()),
        });
        Self(levels.collect())
    }

    /// The first level; `None`: it is a wildcard.
    pub(crate) fn first_literal(&self) -> Option<&str> {
        match self.0.first() {
            Some(Level::Literal(literal)) => Some(literal),
            _ => None,
        }
    }

    /// Whether the filter matches a Topic Name.
    pub(crate) fn match_topic(&self, topic: &str) -> bool {
        // [MQTT-4.7.2-1]
        if topic.starts_with('$') && self.first_literal().is_none() {
            return false;
        }
        let mut names = topic.split('/');
        for level in &self.0 {
            match level {
                Level::Hash => return true,
                Level::Plus if names.next().is_some() => {}
                Level::Literal(literal) if names.next() == Some(literal) => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}
