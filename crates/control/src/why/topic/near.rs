//! Topic Filters that nearly match a topic: a client that is subscribed to `d/7/cmd` gets nothing
//! of `d/7/command`, and gets no error.

use martlet_codec::{SubscriptionFilter, TopicFilter, TopicName};

/// How a Topic Filter misses a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NearMiss {
    /// Difference, in words.
    pub(crate) words: String,
    /// Whether it is likely to be a mistake, not another topic.
    pub(crate) is_likely: bool,
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
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
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
pub(crate) fn near_miss(filter: &str, topic: &str) -> Option<NearMiss> {
    let own = SubscriptionFilter::parse(filter).ok()?.filter.as_str();
    if would_match(own, topic) {
        return None;
    }
    if let Some(meant) = shared_meant(own).filter(|(_, filter)| would_match(filter, topic)) {
        let (shared, _) = meant;
        return NearMiss::likely(format!("{shared} is meant"));
    }
    let begins_wild = own.starts_with(['+', '#']);
    if begins_wild
        && topic
            .strip_prefix('$')
            .is_some_and(|rest| would_match(own, rest))
    {
        return NearMiss::likely(
            "a filter that begins with a wildcard does not match topics that begin with $",
        );
    }
    let names = Names {
        filter: "the filter",
        topic: "the topic",
    };
    if let Some(words) = slip(own, topic, &names) {
        return NearMiss::likely(words);
    }
    let is_whole = !own.ends_with('#');
    if is_whole && own.contains('/') && would_match(&format!("{own}/#"), topic) {
        return NearMiss::likely(format!(
            "the topic has more levels, which {own}/# would match"
        ));
    }
    differing_level(own, topic, &names)
}

/// The Shared Subscription that is meant by a filter of another broker's form, and its filter:
/// `$queue/FILTER`, or `$shared/GROUP/FILTER`.
pub(crate) fn shared_meant(filter: &str) -> Option<(String, &str)> {
    if let Some(filter) = filter.strip_prefix("$queue/") {
        return Some((format!("$share/GROUP/{filter}"), filter));
    }
    let (group, filter) = filter.strip_prefix("$shared/")?.split_once('/')?;
    Some((format!("$share/{group}/{filter}"), filter))
}

/// How a topic differs from another one that is likely to be meant, in words. None: it is the same,
/// or it is about something else.
pub(crate) fn nearly_same(meant: &str, topic: &str) -> Option<String> {
    if meant == topic || TopicName::new(meant).is_err() {
        return None;
    }
    let names = Names {
        filter: meant,
        topic,
    };
    slip(meant, topic, &names).or_else(|| {
        let near = differing_level(meant, topic, &names)?;
        near.is_likely.then_some(near.words)
    })
}

/// Names that a filter and a topic are called in words.
struct Names<'a> {
    filter: &'a str,
    topic: &'a str,
}

/// Words for what was likely written by mistake: slashes, blanks, `*`, capital letters, the order
/// of levels, or a prefix that one of both lacks.
fn slip(filter: &str, topic: &str, names: &Names<'_>) -> Option<String> {
    for (longer, other, what, lacks, is_topic) in [
        (topic, filter, names.topic, names.filter, true),
        (filter, topic, names.filter, names.topic, false),
    ] {
        let is_it = |longer: &str| match is_topic {
            true => would_match(other, longer),
            false => would_match(longer, other),
        };
        if longer.strip_prefix('/').is_some_and(is_it) {
            return Some(format!("{what} begins with /, and {lacks} does not"));
        }
        if longer.strip_suffix('/').is_some_and(is_it) {
            return Some(format!("{what} ends with /, and {lacks} does not"));
        }
        if without_empty_levels(longer).is_some_and(|rest| is_it(&rest)) {
            return Some(format!("{what} has an empty level (//)"));
        }
    }
    for (of, what) in [(filter, names.filter), (topic, names.topic)] {
        // Else there are none in it.
        let has_blanks = without_blanks(of) != of;
        if has_blanks && would_match(&without_blanks(filter), &without_blanks(topic)) {
            let what = match what == of {
                true => format!("{of:?}"),
                false => format!("{what} {of:?}"),
            };
            return Some(format!(
                "{what} has a blank at the beginning or end of a level, which counts in MQTT"
            ));
        }
    }
    let mut meant = ["+", "#"]
        .iter()
        .filter_map(|last| with_wildcards(filter, last));
    if let Some(meant) = meant.find(|meant| would_match(meant, topic)) {
        return Some(format!(
            "* is not a wildcard in MQTT: {meant} would match (+ matches one level, # the rest)"
        ));
    }
    if would_match(&filter.to_lowercase(), &topic.to_lowercase()) {
        return Some("upper and lower case differ".to_owned());
    }
    if is_reordered(filter, topic) {
        return Some("the levels are in another order".to_owned());
    }
    prefixed(filter, topic, names)
}

/// Whether the filter has the levels of the topic in another order. At least two of them must be
/// words.
fn is_reordered(filter: &str, topic: &str) -> bool {
    let mut levels: Vec<&str> = topic.split('/').collect();
    let mut own: Vec<&str> = filter.split('/').collect();
    if own.last() == Some(&"#") {
        own.pop();
        levels.truncate(own.len());
    }
    let named = own.iter().filter(|level| **level != "+");
    let is_word = |level: &&&str| {
        level.chars().count() >= WORD_LETTERS && !level.bytes().any(|byte| byte.is_ascii_digit())
    };
    if own.len() != levels.len() || named.clone().filter(is_word).count() < LITERAL_LEVELS {
        return false;
    }
    named.into_iter().all(|level| {
        let at = levels.iter().position(|other| other == level);
        at.map(|at| levels.swap_remove(at)).is_some()
    })
}

/// One of both has more levels in front, and is the same otherwise.
fn prefixed(filter: &str, topic: &str, names: &Names<'_>) -> Option<String> {
    let is_specific = |filter: &str| {
        let levels = filter
            .split('/')
            .filter(|level| !matches!(*level, "+" | "#"));
        levels.count() >= LITERAL_LEVELS
    };
    for (prefix, rest) in prefixes(topic) {
        if is_specific(filter) && would_match(filter, rest) {
            let Names { filter, topic } = names;
            return Some(format!(
                "{topic} begins with {prefix}, and {filter} does not"
            ));
        }
    }
    for (prefix, rest) in prefixes(filter) {
        let is_literal = !prefix.contains(['+', '#', '$']);
        if is_literal && is_specific(rest) && would_match(rest, topic) {
            let Names { filter, topic } = names;
            return Some(format!(
                "{filter} begins with {prefix}, and {topic} does not"
            ));
        }
    }
    None
}

/// Levels of a filter that are no wildcards, so that a topic is not like it by chance.
const LITERAL_LEVELS: usize = 2;

/// Letters of a level that is a word.
const WORD_LETTERS: usize = 3;

/// Each way to take levels off at the beginning: what is taken off, with its slash, and the rest.
fn prefixes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = text.match_indices('/').map(|(at, _)| at + 1);
    ends.map(|at| text.split_at(at)).take(PREFIX_LEVELS_MAX)
}

/// Levels that are taken off, at most.
const PREFIX_LEVELS_MAX: usize = 8;

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
pub(crate) fn is_nearly_matched<'a, F: AsRef<str> + ?Sized + 'a>(
    filters: impl IntoIterator<Item = &'a F>,
    topic: &str,
) -> bool {
    nearest(filters, topic).is_some_and(|(_, near)| near.is_likely)
}

/// Result of [`nearest`] in words that follow a sentence; nothing if no filter is near.
pub(crate) fn nearest_in_words<'a, F: AsRef<str> + ?Sized + 'a>(
    filters: impl IntoIterator<Item = &'a F>,
    topic: &str,
) -> String {
    nearest(filters, topic).map_or_else(String::new, |(filter, near)| {
        format!("; {filter} does not match: {}", near.words)
    })
}

/// The levels without white space around them.
fn without_blanks(text: &str) -> String {
    let levels: Vec<&str> = text.split('/').map(str::trim).collect();
    levels.join("/")
}

/// The levels without empty ones between others; none: there are no such.
fn without_empty_levels(text: &str) -> Option<String> {
    let levels: Vec<&str> = text.split('/').collect();
    let end = levels.len() - 1;
    let kept = levels.iter().enumerate();
    let kept = kept.filter(|(at, level)| !level.is_empty() || *at == 0 || *at == end);
    let kept: Vec<&str> = kept.map(|(_, level)| *level).collect();
    (kept.len() < levels.len()).then(|| kept.join("/"))
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
fn differing_level(filter: &str, topic: &str, names: &Names<'_>) -> Option<NearMiss> {
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
    // Where no other level is the same, one letter more or less is a mistake.
    let has_same = levels().any(|(_, (own, level))| own == level);
    if differing.next().is_some() || !(has_same || is_similar(own_level, level, 1)) {
        return None;
    }
    let number = at + 1;
    Some(NearMiss {
        words: format!(
            "level {number} is {own_level:?} in {} and {level:?} in {}",
            names.filter, names.topic
        ),
        is_likely: is_similar(own_level, level, 2),
    })
}

/// One is a misspelt form of the other, with this number of wrong letters at most; or, if two
/// may be wrong, short for it.
fn is_similar(one: &str, other: &str, wrong_max: usize) -> bool {
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
    let is_short_for = wrong_max > 1 && short.chars().all(|letter| letters.any(|of| of == letter));
    // Of four letters, two others make another word: slow and shop.
    let wrong_max = match short.chars().count() {
        ..5 => 1,
        _ => wrong_max,
    };
    let is_misspelt = strsim::osa_distance(short, long) <= wrong_max;
    is_misspelt || is_short_for
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // Table: of filters, topics and words.
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
                "* is not a wildcard in MQTT: plant/+/temp would match (+ matches one level, # the \
                 rest)",
            ),
            (
                "plant/**",
                "plant/1/temp",
                "* is not a wildcard in MQTT: plant/# would match (+ matches one level, # the \
                 rest)",
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
            (
                "d/+/cmd",
                "acme/d/f3/cmd",
                "the topic begins with acme/, and the filter does not",
            ),
            (
                "acme/eu/d/+/cmd",
                "d/f3/cmd",
                "the filter begins with acme/eu/, and the topic does not",
            ),
            (
                "task/#",
                "tasks/3",
                "level 1 is \"task\" in the filter and \"tasks\" in the topic",
            ),
            (
                "stat/plug/POWER",
                "plug/stat/POWER",
                "the levels are in another order",
            ),
            (
                "stat/+/POWER",
                "plug/stat/POWER",
                "the levels are in another order",
            ),
            (
                "stat/plug/#",
                "plug/stat/POWER/1",
                "the levels are in another order",
            ),
            (
                "wa/b/temp",
                "wa//b/temp",
                "the topic has an empty level (//)",
            ),
            ("wb//+", "wb/1", "the filter has an empty level (//)"),
            ("$queue/d/#", "d/f3/cmd", "$share/GROUP/d/# is meant"),
            ("$shared/g/d/#", "d/f3/cmd", "$share/g/d/# is meant"),
            (
                "#",
                "$SYS/broker/uptime",
                "a filter that begins with a wildcard does not match topics that begin with $",
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
            ("d/#", "x/d/f3"),
            ("+/f3", "a/b/c/f3"),
            ("line/1/2", "1/line/2"),
            ("stat/plug", "plug/stat/POWER"),
            ("$queue/d/#", "x/f3"),
        ] {
            assert_eq!(near_miss(filter, topic), None, "{filter} {topic}");
        }
        for (filter, topic) in [
            ("d/f3/cmd", "d/f4/cmd"),
            ("d/f3/cmd", "d/f3/state"),
            ("shop/1", "slow/1"),
        ] {
            let found = near_miss(filter, topic);
            assert!(
                found.is_some_and(|found| !found.is_likely),
                "{filter} {topic}"
            );
        }
    }

    #[test]
    fn a_topic_that_is_nearly_another_is_told() {
        for (meant, topic, expected) in [
            (
                "d/4/state",
                "/d/4/state",
                "/d/4/state begins with /, and d/4/state does not",
            ),
            ("d/5/state", "d/5/State", "upper and lower case differ"),
            (
                "d/6/state",
                "acme/d/6/state",
                "acme/d/6/state begins with acme/, and d/6/state does not",
            ),
            (
                "d/7/state",
                "d/7/stat",
                "level 3 is \"state\" in d/7/state and \"stat\" in d/7/stat",
            ),
            (
                "d/8/state",
                "d/8/state ",
                "\"d/8/state \" has a blank at the beginning or end of a level, which counts in \
                 MQTT",
            ),
            (
                "d/9/state",
                "d//9/state",
                "d//9/state has an empty level (//)",
            ),
        ] {
            assert_eq!(nearly_same(meant, topic).as_deref(), Some(expected));
        }
        for (meant, topic) in [
            ("d/4/state", "d/4/state"),
            ("d/4/state", "d/5/state"),
            ("d/4", "d/4/state"),
            ("d/4/state", "d/4/events"),
            ("d/+/state", "/d/4/state"),
        ] {
            assert_eq!(nearly_same(meant, topic), None, "{meant} {topic}");
        }
    }
}
