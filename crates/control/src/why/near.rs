//! Topic Filters that nearly match a topic: a client that is subscribed to `d/7/cmd` gets nothing
//! of `d/7/command`, and nobody is told so.

use martlet_codec::{SubscriptionFilter, TopicFilter, TopicName};

/// How a Topic Filter misses a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NearMiss {
    /// What differs, in words.
    pub(super) words: String,
    /// It is likely to be a mistake, not another topic.
    pub(super) is_likely: bool,
}

impl NearMiss {
    fn likely(words: impl Into<String>) -> Option<Self> {
        Some(Self {
            words: words.into(),
            is_likely: true,
        })
    }
}

/// The filter matches the topic.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    SubscriptionFilter::parse(filter).is_ok_and(|of| would_match(of.filter.as_str(), topic))
}

/// The filter, which is no Shared Subscription, matches the topic. Neither need be valid.
fn would_match(filter: &str, topic: &str) -> bool {
    let (Ok(filter), Ok(topic)) = (TopicFilter::new(filter), TopicName::new(topic)) else {
        return false;
    };
    filter.matches(topic)
}

/// How a subscription misses a topic that it nearly matches. None: it matches, or is about
/// something else.
pub(super) fn near_miss(filter: &str, topic: &str) -> Option<NearMiss> {
    let filter = SubscriptionFilter::parse(filter).ok()?.filter.as_str();
    if would_match(filter, topic) {
        return None;
    }
    for (longer, other, what, lacks) in [
        (topic, filter, "the topic", "the filter"),
        (filter, topic, "the filter", "the topic"),
    ] {
        let is_it = |longer: &str| match what {
            "the topic" => would_match(other, longer),
            _ => would_match(longer, other),
        };
        if longer.strip_prefix('/').is_some_and(is_it) {
            return NearMiss::likely(format!("{what} begins with /, and {lacks} does not"));
        }
        if longer.strip_suffix('/').is_some_and(is_it) {
            return NearMiss::likely(format!("{what} ends with /, and {lacks} does not"));
        }
    }
    for (of, what) in [(filter, "the filter"), (topic, "the topic")] {
        // Else there are none in it.
        let has_blanks = without_blanks(of) != of;
        if has_blanks && would_match(&without_blanks(filter), &without_blanks(topic)) {
            return NearMiss::likely(format!(
                "{what} {of:?} has a blank at the beginning or end of a level, which counts in MQTT"
            ));
        }
    }
    let mut meant = ["+", "#"]
        .iter()
        .filter_map(|last| with_wildcards(filter, last));
    if let Some(meant) = meant.find(|meant| would_match(meant, topic)) {
        return NearMiss::likely(format!(
            "* is not a wildcard in MQTT: {meant} would match (+ stands for one level, # for the \
             rest)"
        ));
    }
    if would_match(&filter.to_lowercase(), &topic.to_lowercase()) {
        return NearMiss::likely("upper and lower case differ");
    }
    let is_whole = !filter.ends_with('#');
    if is_whole && filter.contains('/') && would_match(&format!("{filter}/#"), topic) {
        return NearMiss::likely(format!(
            "the topic has more levels, which {filter}/# would match"
        ));
    }
    differing_level(filter, topic)
}

/// The filter that misses the topic most nearly, and what differs.
pub(super) fn nearest<'a, F: AsRef<str> + ?Sized + 'a>(
    filters: impl IntoIterator<Item = &'a F>,
    topic: &str,
) -> Option<(&'a str, NearMiss)> {
    let filters = filters.into_iter().map(AsRef::as_ref);
    let near = filters.filter_map(|filter| Some((filter, near_miss(filter, topic)?)));
    near.max_by_key(|(_, near)| near.is_likely)
}

/// Whether a filter is likely to be meant for the topic, though it does not match it.
pub(super) fn is_nearly_matched<'a, F: AsRef<str> + ?Sized + 'a>(
    filters: impl IntoIterator<Item = &'a F>,
    topic: &str,
) -> bool {
    nearest(filters, topic).is_some_and(|(_, near)| near.is_likely)
}

/// The same as [`nearest`] in words that follow a sentence; nothing if no filter is near.
pub(super) fn nearest_in_words(filters: &[String], topic: &str) -> String {
    nearest(filters, topic).map_or_else(String::new, |(filter, near)| {
        format!("; {filter} does not match: {}", near.words)
    })
}

/// The levels without white space around them.
fn without_blanks(text: &str) -> String {
    let levels: Vec<&str> = text.split('/').map(str::trim).collect();
    levels.join("/")
}

/// The filter with wildcards of MQTT where it has `*`, as in shells: `last` for its last level.
fn with_wildcards(filter: &str, last: &str) -> Option<String> {
    let levels: Vec<&str> = filter.split('/').collect();
    if !filter.contains('*') {
        return None;
    }
    let end = levels.len() - 1;
    let levels = levels.iter().enumerate();
    let levels = levels.map(|(at, level)| match level.contains('*') {
        true if at == end => last,
        true => "+",
        false => level,
    });
    Some(levels.collect::<Vec<&str>>().join("/"))
}

/// All levels but one match.
fn differing_level(filter: &str, topic: &str) -> Option<NearMiss> {
    let topic: Vec<&str> = topic.split('/').collect();
    let mut own: Vec<&str> = filter.split('/').collect();
    if own.last() == Some(&"#") {
        own.pop();
        own.resize(topic.len().max(own.len()), "+");
    }
    if own.len() != topic.len() {
        return None;
    }
    let levels = || own.iter().zip(&topic).enumerate();
    let mut differing = levels().filter(|(_, (own, level))| **own != "+" && own != level);
    let (at, (own_level, level)) = differing.next()?;
    let has_same = levels().any(|(_, (own, level))| own == level);
    if differing.next().is_some() || !has_same {
        return None;
    }
    let number = at + 1;
    Some(NearMiss {
        words: format!("level {number} is {own_level:?} in the filter and {level:?} in the topic"),
        is_likely: is_similar(own_level, level),
    })
}

/// One is a misspelt form of the other, or short for it.
fn is_similar(one: &str, other: &str) -> bool {
    let (short, long) = match one.len() <= other.len() {
        true => (one, other),
        false => (other, one),
    };
    // Numbers that differ are others on purpose.
    let has_number = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
    if short.chars().count() < 3 || has_number(one) || has_number(other) {
        return false;
    }
    let mut letters = long.chars();
    let is_short_for = short.chars().all(|letter| letters.any(|of| of == letter));
    is_short_for || strsim::osa_distance(short, long) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told() {
        for (filter, topic, expected) in [
            (
                "d/f3/cmd",
                "d/f3/command",
                "level 3 is \"cmd\" in the filter and \"command\" in the topic",
            ),
            (
                "d/f3/comand",
                "d/f3/command",
                "level 3 is \"comand\" in the filter and \"command\" in the topic",
            ),
            (
                "$share/g/d/+/cmd",
                "d/f3/command",
                "level 3 is \"cmd\" in the filter and \"command\" in the topic",
            ),
            (
                "/d/f3/cmd",
                "d/f3/cmd",
                "the filter begins with /, and the topic does not",
            ),
            (
                "d/#",
                "/d/f3/cmd",
                "the topic begins with /, and the filter does not",
            ),
            (
                "d/f3/cmd",
                "d/f3/cmd/",
                "the topic ends with /, and the filter does not",
            ),
            ("D/F3/cmd", "d/f3/cmd", "upper and lower case differ"),
            (
                "plant/*/temp",
                "plant/1/temp",
                "* is not a wildcard in MQTT: plant/+/temp would match (+ stands for one level, # \
                 for the rest)",
            ),
            (
                "plant/**",
                "plant/1/temp",
                "* is not a wildcard in MQTT: plant/# would match (+ stands for one level, # for \
                 the rest)",
            ),
            (
                "plant/1/temp ",
                "plant/1/temp",
                "the filter \"plant/1/temp \" has a blank at the beginning or end of a level, \
                 which counts in MQTT",
            ),
            (
                "plant/+/temp",
                "plant/1/ temp",
                "the topic \"plant/1/ temp\" has a blank at the beginning or end of a level, \
                 which counts in MQTT",
            ),
            (
                "d/f3",
                "d/f3/cmd",
                "the topic has more levels, which d/f3/# would match",
            ),
            (
                "d/+",
                "d/f3/cmd",
                "the topic has more levels, which d/+/# would match",
            ),
        ] {
            let found = near_miss(filter, topic).unwrap_or_else(|| panic!("{filter} {topic}"));
            assert_eq!((&*found.words, found.is_likely), (expected, true));
        }
    }

    #[test]
    fn another_topic_is_no_mistake() {
        for (filter, topic) in [
            ("d/f3/cmd", "d/f3/cmd"),
            ("d/f3/cmd", "x/f4/cmd"),
            ("jobs", "plan"),
            ("a/#", "b/c"),
        ] {
            assert_eq!(near_miss(filter, topic), None, "{filter} {topic}");
        }
        for (filter, topic) in [("d/f3/cmd", "d/f4/cmd"), ("d/f3/cmd", "d/f3/state")] {
            let found = near_miss(filter, topic);
            assert!(
                found.is_some_and(|found| !found.is_likely),
                "{filter} {topic}"
            );
        }
    }
}
