//! Topics that a bridge carries, their direction, and their names at the other side, as in a
//! `topic` line of Mosquitto's configuration.

use std::borrow::Cow;
use std::fmt;

use martlet_codec::{QoS, TopicFilter, TopicName};

/// Highest QoS of topics whose lines name none.
pub const DEFAULT_QOS: QoS = QoS::AtLeastOnce;

/// Direction of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this node to the other broker.
    Out,
    /// From the other broker to this node.
    In,
    /// Both.
    Both,
}

impl Direction {
    /// The words for them.
    pub const WORDS: &'static [&'static str] = &["out", "in", "both"];

    /// The direction for this word.
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Out, Self::In, Self::Both];
        all.into_iter().find(|one| one.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
            Self::Both => "both",
        }
    }

    fn goes_out(self) -> bool {
        self != Self::In
    }

    fn comes_in(self) -> bool {
        self != Self::Out
    }
}

/// Topics that a bridge carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// Topic Filter without the prefixes; empty: the prefixes are one topic each.
    pub filter: Box<str>,
    /// Direction of messages.
    pub direction: Direction,
    /// Highest QoS of messages.
    pub qos: QoS,
    /// Prefix of the filter at this node.
    pub local_prefix: Box<str>,
    /// Prefix of the filter at the other broker.
    pub remote_prefix: Box<str>,
}

impl TopicRule {
    /// Parses `FILTER [out|in|both [QOS [LOCAL_PREFIX [REMOTE_PREFIX]]]]`, as Mosquitto does: the
    /// default direction is `out`. A text with blanks must be quoted; `""` is an empty text.
    ///
    /// # Errors
    /// The error in the line.
    pub fn parse(line: &str, default_qos: QoS) -> Result<Self, String> {
        let words = words(line)?;
        let mut words = words.into_iter();
        let filter = words.next().ok_or("a topic is empty, expected a filter")?;
        let direction = match words.next() {
            None => Direction::Out,
            Some(word) => Direction::of(&word).ok_or_else(|| {
                format!("{word:?} is not a valid direction, expected out, in or both")
            })?,
        };
        let qos = match words.next() {
            None => default_qos,
            Some(word) => word
                .parse()
                .ok()
                .and_then(QoS::from_bits)
                .ok_or_else(|| format!("{word:?} is not a valid QoS, expected 0, 1 or 2"))?,
        };
        let rule = Self {
            filter: filter.into(),
            direction,
            qos,
            local_prefix: words.next().unwrap_or_default().into(),
            remote_prefix: words.next().unwrap_or_default().into(),
        };
        if let Some(word) = words.next() {
            return Err(format!("unexpected {word:?} after the remote prefix"));
        }
        rule.check()?;
        Ok(rule)
    }

    fn check(&self) -> Result<(), String> {
        let prefixes = [&self.local_prefix, &self.remote_prefix];
        if let Some(prefix) = prefixes.iter().find(|prefix| prefix.contains(['+', '#'])) {
            return Err(format!("the prefix {prefix:?} has a wildcard"));
        }
        for text in [self.local_filter(), self.remote_filter()] {
            if text.is_empty() {
                return Err("an empty filter needs both prefixes".to_owned());
            }
            if text.starts_with("$share/") {
                return Err(format!("{text:?}: a bridge joins no share group"));
            }
            TopicFilter::new(&text)
                .map_err(|error| format!("{text:?} is not a valid Topic Filter: {error}"))?;
        }
        Ok(())
    }

    fn local_filter(&self) -> String {
        format!("{}{}", self.local_prefix, self.filter)
    }

    fn remote_filter(&self) -> String {
        format!("{}{}", self.remote_prefix, self.filter)
    }
}

impl fmt::Display for TopicRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = self.direction.word();
        let qos = self.qos.bits();
        write!(f, "{} {direction} {qos}", quoted(&self.filter))?;
        if !self.local_prefix.is_empty() || !self.remote_prefix.is_empty() {
            let (local, remote) = (quoted(&self.local_prefix), quoted(&self.remote_prefix));
            write!(f, " {local} {remote}")?;
        }
        Ok(())
    }
}

/// A word of a line, in quotes if it needs them.
fn quoted(word: &str) -> String {
    match word.is_empty() || word.contains(char::is_whitespace) {
        true => format!("\"{word}\""),
        false => word.to_owned(),
    }
}

fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(inside) => inside
                .split_once('"')
                .ok_or("a quote is not closed".to_owned())?,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    Ok(words)
}

/// Topics that a bridge carries one way, with their names at this node and at the other broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroughtTopics {
    /// Topic Filter without the prefixes; empty: the prefixes are one topic each.
    pub filter: Box<str>,
    /// Prefix of the filter at this node.
    pub local_prefix: Box<str>,
    /// Prefix of the filter at the other broker.
    pub remote_prefix: Box<str>,
}

impl BroughtTopics {
    /// The name at the other broker of a topic of this node; `None`: the topic does not match.
    pub fn there(&self, topic: &str) -> Option<String> {
        self.renamed(topic, &self.local_prefix, &self.remote_prefix)
    }

    /// The name at this node of a topic of the other broker; `None`: the topic does not match.
    pub fn here(&self, topic: &str) -> Option<String> {
        self.renamed(topic, &self.remote_prefix, &self.local_prefix)
    }

    /// Topics that both carry under the same names, as a Topic Filter of this node; `None`: there
    /// are none.
    pub fn shared(&self, other: &Self) -> Option<String> {
        let is_renamed_alike = (&self.local_prefix, &self.remote_prefix)
            == (&other.local_prefix, &other.remote_prefix)
            || self.local_prefix == self.remote_prefix && other.local_prefix == other.remote_prefix;
        let of = |one: &Self| format!("{}{}", one.local_prefix, one.filter);
        let (one, other) = (of(self), of(other));
        let filters = TopicFilter::new(&one)
            .ok()
            .zip(TopicFilter::new(&other).ok());
        let (one, other) = filters.filter(|_| is_renamed_alike)?;
        one.intersection(other)
    }

    fn renamed(&self, topic: &str, from: &str, to: &str) -> Option<String> {
        let filter = format!("{from}{}", self.filter);
        let is_one = matches(&filter, TopicName::new(topic).ok()?);
        let rest = topic.strip_prefix(from).filter(|_| is_one)?;
        Some(format!("{to}{rest}"))
    }
}

/// All topics of a bridge. If several lines match a topic, the first one applies.
#[derive(Clone, Debug, Default)]
pub struct Topics(Vec<Prepared>);

#[derive(Clone, Debug)]
struct Prepared {
    rule: TopicRule,
    local_filter: Box<str>,
    remote_filter: Box<str>,
}

impl FromIterator<TopicRule> for Topics {
    fn from_iter<I: IntoIterator<Item = TopicRule>>(rules: I) -> Self {
        let prepared = rules.into_iter().map(|rule| Prepared {
            local_filter: rule.local_filter().into(),
            remote_filter: rule.remote_filter().into(),
            rule,
        });
        Self(prepared.collect())
    }
}

impl Topics {
    /// The name at the other broker of an outgoing topic of this node, and the highest QoS.
    pub fn outward<'a>(&self, topic: &'a str) -> Option<(Cow<'a, str>, QoS)> {
        let name = TopicName::new(topic).ok()?;
        let mut rules = self.0.iter().filter(|one| one.rule.direction.goes_out());
        let found = rules.find(|one| matches(&one.local_filter, name))?;
        found.renamed(topic, &found.rule.local_prefix, &found.rule.remote_prefix)
    }

    /// The name at this node of an incoming topic of the other broker, and the highest QoS.
    pub fn inward(&self, topic: &str) -> Option<(String, QoS)> {
        let name = TopicName::new(topic).ok()?;
        let mut rules = self.0.iter().filter(|one| one.rule.direction.comes_in());
        let found = rules.find(|one| matches(&one.remote_filter, name))?;
        let prefixes = (&*found.rule.remote_prefix, &*found.rule.local_prefix);
        let (topic, qos) = found.renamed(topic, prefixes.0, prefixes.1)?;
        Some((topic.into_owned(), qos))
    }

    /// Topic Filters of this node for outgoing messages, each once.
    pub fn local_filters(&self) -> Vec<Box<str>> {
        let mut filters = Vec::new();
        for one in self.0.iter().filter(|one| one.rule.direction.goes_out()) {
            if !filters.contains(&one.local_filter) {
                filters.push(one.local_filter.clone());
            }
        }
        filters
    }

    /// The incoming topics.
    pub fn brought(&self) -> Vec<BroughtTopics> {
        self.carried(Direction::comes_in)
    }

    /// The outgoing topics.
    pub fn sent(&self) -> Vec<BroughtTopics> {
        self.carried(Direction::goes_out)
    }

    fn carried(&self, is_wanted: fn(Direction) -> bool) -> Vec<BroughtTopics> {
        let wanted = self.0.iter().filter(|one| is_wanted(one.rule.direction));
        wanted
            .map(|one| BroughtTopics {
                filter: one.rule.filter.clone(),
                local_prefix: one.rule.local_prefix.clone(),
                remote_prefix: one.rule.remote_prefix.clone(),
            })
            .collect()
    }

    /// Topic Filters of the other broker for incoming messages, each once with its highest QoS.
    pub fn remote_filters(&self) -> Vec<(String, QoS)> {
        let mut filters: Vec<(String, QoS)> = Vec::new();
        for one in self.0.iter().filter(|one| one.rule.direction.comes_in()) {
            let known = filters
                .iter_mut()
                .find(|(filter, _)| **filter == *one.remote_filter);
            match known {
                Some((_, qos)) => *qos = one.rule.qos.max(*qos),
                None => filters.push((one.remote_filter.to_string(), one.rule.qos)),
            }
        }
        filters
    }
}

impl Prepared {
    fn renamed<'a>(&self, topic: &'a str, from: &str, to: &str) -> Option<(Cow<'a, str>, QoS)> {
        // A comparison with an empty text, which has no address in memory, takes 100 ns on
        // processors with AVX-512: memcmp uses a masked read, and that read faults.
        let rest = match from.is_empty() {
            true => topic,
            false => topic.strip_prefix(from)?,
        };
        let topic = match from == to {
            true => Cow::Borrowed(topic),
            false => Cow::Owned(format!("{to}{rest}")),
        };
        Some((topic, self.rule.qos))
    }
}

fn matches(filter: &str, topic: TopicName<'_>) -> bool {
    TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(lines: &[&str]) -> Topics {
        let rules = lines.iter();
        let rules = rules.map(|line| TopicRule::parse(line, QoS::AtMostOnce).expect("a line"));
        rules.collect()
    }

    #[test]
    fn topics_that_two_bridges_carry_are_found() {
        for (one, other, expected) in [
            ("plant/# in", "plant/# in", Some("plant/#")),
            ("plant/# in", "plant/+/temp in", Some("plant/+/temp")),
            ("+/1/# in", "plant/+/temp in", Some("plant/1/temp")),
            ("plant/# in", "plant in", Some("plant")),
            ("plant/1 in", "plant/2 in", None),
            ("plant/+ in", "plant/1/temp in", None),
            ("# in 0 a/ b/", "x in 0 a/ b/", Some("a/x")),
            ("# in 0 a/ b/", "x in 0 a/ c/", None),
            ("# in 0 a/ a/", "a/x in", Some("a/x")),
        ] {
            let brought = [one, other].map(|line| topics(&[line]).brought().remove(0));
            for (first, second) in [(0, 1), (1, 0)] {
                let found = brought[first].shared(&brought[second]);
                assert_eq!(found.as_deref(), expected, "{one} {other}");
            }
        }
    }

    #[test]
    fn topics_are_renamed_as_mosquitto_does() {
        let all = topics(&[
            "# both 2 local/ remote/",
            "\"\" out 1 one/topic other/topic",
            "plain",
            "in/+ in 1",
        ]);
        let named = |name: &str, qos| Some((name.to_owned(), qos));
        let outward = |topic| {
            let found = all.outward(topic);
            found.map(|(name, qos)| (name.into_owned(), qos))
        };
        let (two, one, none) = (QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::AtMostOnce);
        assert_eq!(outward("local/a/b"), named("remote/a/b", two));
        assert_eq!(all.inward("remote/a"), named("local/a", two));
        assert_eq!(outward("one/topic"), named("other/topic", one));
        assert_eq!(outward("plain"), named("plain", none));
        assert_eq!(all.inward("in/x"), named("in/x", one));
        let brought = all.brought();
        assert_eq!(brought[0].there("local/a").as_deref(), Some("remote/a"));
        assert_eq!(brought[0].here("remote/a").as_deref(), Some("local/a"));
        assert_eq!((brought[0].there("a"), brought.len()), (None, 2));
        assert_eq!(all.sent().len(), 3);
        for (out, within) in [
            ("other", "local/a"),
            ("in/x", "plain"),
            ("remote/a", "in/x/y"),
        ] {
            assert_eq!(outward(out), None, "{out}");
            assert_eq!(all.inward(within), None, "{within}");
        }
        assert_eq!(
            all.local_filters(),
            ["local/#".into(), "one/topic".into(), "plain".into()]
        );
        assert_eq!(
            all.remote_filters(),
            [("remote/#".to_owned(), two), ("in/+".to_owned(), one)]
        );
    }

    #[test]
    fn the_parent_of_a_filter_with_a_prefix_is_no_topic_of_it() {
        // `local/#` matches `local` too, which does not begin with the prefix.
        assert_eq!(topics(&["# out 0 local/ remote/"]).outward("local"), None);
    }

    #[test]
    fn a_line_is_written_as_it_is_read() {
        for line in ["a/# out 0", "\"\" both 1 a b", "\"a b\" in 2 \"\" c/"] {
            let rule = TopicRule::parse(line, QoS::AtMostOnce).expect("a line");
            assert_eq!(rule.to_string(), line);
        }
    }

    #[test]
    fn what_is_no_topic_line_is_refused() {
        for bad in [
            "",
            "a up",
            "a out 3",
            "a out 1 x/# y",
            "a#",
            "\"\" out 0",
            "a out 0 b c d",
            "\"a",
            "$share/g/a",
        ] {
            assert!(TopicRule::parse(bad, QoS::AtMostOnce).is_err(), "{bad}");
        }
    }
}
