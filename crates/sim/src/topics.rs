//! The Topic Names and Topic Filters of a run, with a precomputed table of matches.
//!
//! Topics have classes, so that each check has some for itself: `t/…` are plain, `r/…` are
//! published with RETAIN by one publisher each, `s/…` are for share groups, `w/…` for Wills.

use martlet_codec::{SubscriptionFilter, TopicName};

/// A Topic Name of the run.
pub type TopicIndex = u16;
/// A Topic Filter of the run.
pub type FilterIndex = u16;

/// Purpose of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Ordinary messages.
    Plain,
    /// Retained messages; one publisher per topic.
    Retained,
    /// Messages for share groups.
    Shared,
    /// Wills, one topic per client.
    Will,
}

/// The tables.
#[derive(Debug, Default)]
pub struct Topics {
    names: Vec<(String, Class)>,
    filters: Vec<String>,
    /// Whether a filter matches a topic, by filter, then topic.
    matches: Vec<Vec<bool>>,
}

impl Topics {
    /// Tables of these topics and filters; shared filters begin with `$share/`.
    pub fn new(names: Vec<(String, Class)>, filters: Vec<String>) -> Self {
        let matches = filters.iter().map(|filter| {
            let parsed = SubscriptionFilter::parse(filter).expect("filters of the run are valid");
            let matched = names.iter().map(|(name, _)| {
                let name = TopicName::new(name).expect("topics of the run are valid");
                parsed.filter.matches(name)
            });
            matched.collect()
        });
        let matches = matches.collect();
        Self {
            names,
            filters,
            matches,
        }
    }

    /// The text of a topic.
    pub fn name(&self, topic: TopicIndex) -> &str {
        &self.names[usize::from(topic)].0
    }

    /// Purpose of a topic.
    pub fn class(&self, topic: TopicIndex) -> Class {
        self.names[usize::from(topic)].1
    }

    /// The text of a filter.
    pub fn filter(&self, filter: FilterIndex) -> &str {
        &self.filters[usize::from(filter)]
    }

    /// Whether a filter is that of a share group.
    pub fn is_shared(&self, filter: FilterIndex) -> bool {
        self.filter(filter).starts_with("$share/")
    }

    /// The topic with this text.
    pub fn find(&self, name: &str) -> Option<TopicIndex> {
        let place = self.names.iter().position(|(known, _)| known == name);
        place.map(|index| index as TopicIndex)
    }

    /// The filter with this text.
    pub fn find_filter(&self, filter: &str) -> Option<FilterIndex> {
        let place = self.filters.iter().position(|known| known == filter);
        place.map(|index| index as FilterIndex)
    }

    /// Whether a filter matches a topic.
    pub fn matches(&self, filter: FilterIndex, topic: TopicIndex) -> bool {
        self.matches[usize::from(filter)][usize::from(topic)]
    }

    /// All topics of a class.
    pub fn of_class(&self, class: Class) -> impl Iterator<Item = TopicIndex> + '_ {
        let named = self.names.iter().enumerate();
        named
            .filter(move |(_, (_, found))| *found == class)
            .map(|(index, _)| index as TopicIndex)
    }

    /// Number of filters.
    pub fn filter_count(&self) -> usize {
        self.filters.len()
    }
}
