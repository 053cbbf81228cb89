//! From a topic to a device and its keys: templates of topics and of keys.

use martlet_codec::{TopicFilter, TopicName};
use martlet_telemetry::decode::Decoder;

/// Name of the level that names the device.
pub const DEVICE: &str = "device";
/// Name of the levels that `#` stands for.
pub const REST: &str = "rest";
/// Name of the key in the payload.
const KEY: &str = "key";

/// Messages that are taken as telemetry, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryRule {
    /// Topics whose messages it takes.
    pub topic: TopicTemplate,
    /// Keys of their values.
    pub key: KeyTemplate,
    /// How their payloads are decoded.
    pub decoder: Decoder,
}

/// A Topic Filter with names for some of its levels, such as `plant/{line}/{device}/#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    text: Box<str>,
    levels: Vec<Level>,
    /// Whether it ends with `#`.
    has_rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(Box<str>),
    Named(Box<str>),
    Any,
}

/// Texts that the names of a template stand for in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicVariables<'t>(Vec<(&'t str, &'t str)>);

impl<'t> TopicVariables<'t> {
    /// Text that a name stands for.
    pub fn get(&self, name: &str) -> Option<&'t str> {
        let mut all = self.0.iter();
        all.find(|(known, _)| *known == name).map(|(_, text)| *text)
    }
}

impl TopicTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// It is no Topic Filter with names, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut levels = Vec::new();
        let mut has_rest = false;
        for level in text.split('/') {
            if has_rest {
                return Err(format!("{text:?}: # is permitted only at the end"));
            }
            let name = level
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            match (level, name) {
                ("#", _) => has_rest = true,
                ("+", _) => levels.push(Level::Any),
                (_, Some(name)) => {
                    check_name(name).map_err(|why| format!("{text:?}: {why}"))?;
                    let is_known = |known: &Level| matches!(known, Level::Named(n) if **n == *name);
                    if levels.iter().any(is_known) {
                        return Err(format!("{text:?} has {{{name}}} twice"));
                    }
                    levels.push(Level::Named(name.into()));
                }
                (level, None) if level.contains(['{', '}']) => {
                    return Err(format!(
                        "{text:?}: a name such as {{device}} is a whole level"
                    ));
                }
                (level, None) => levels.push(Level::Text(level.into())),
            }
        }
        let template = Self {
            text: text.into(),
            levels,
            has_rest,
        };
        let filter = template.filter();
        match TopicFilter::new(&filter) {
            Ok(_) if !filter.starts_with("$share/") => Ok(template),
            _ => Err(format!("{text:?} is not a valid Topic Filter")),
        }
    }

    /// The Topic Filter of its topics.
    pub fn filter(&self) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Text(text) => text,
            Level::Named(_) | Level::Any => "+",
        });
        let rest = self.has_rest.then_some("#");
        levels.chain(rest).collect::<Vec<_>>().join("/")
    }

    /// Whether one of its levels has this name.
    pub fn has(&self, name: &str) -> bool {
        let is_named = |level: &Level| matches!(level, Level::Named(known) if **known == *name);
        (self.has_rest && name == REST) || self.levels.iter().any(is_named)
    }

    /// Texts that its names stand for in a topic; none: the topic does not match.
    pub fn names<'t>(&'t self, topic: &'t str) -> Option<TopicVariables<'t>> {
        let filter = self.filter();
        let filter = TopicFilter::new(&filter).ok()?;
        if !filter.matches(TopicName::new(topic).ok()?) {
            return None;
        }
        let mut names = Vec::new();
        let mut left = Some(topic);
        for level in &self.levels {
            let (text, more) = match left?.split_once('/') {
                Some((text, more)) => (text, Some(more)),
                None => (left?, None),
            };
            if let Level::Named(name) = level {
                names.push((&**name, text));
            }
            left = more;
        }
        if self.has_rest {
            names.push((REST, left.unwrap_or_default()));
        }
        Some(TopicVariables(names))
    }
}

impl std::fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Keys of values: text with `{key}`, the key in the payload, and names of the topic's levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate(Vec<KeyPiece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum KeyPiece {
    Text(Box<str>),
    Named(Box<str>),
}

impl KeyTemplate {
    /// Reads a template for the keys of a topic's values.
    ///
    /// # Errors
    /// It has a name that the topic has not, in words.
    pub fn parse(text: &str, topic: &TopicTemplate) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut left = text;
        while let Some((before, behind)) = left.split_once('{') {
            let Some((name, behind)) = behind.split_once('}') else {
                return Err(format!("{text:?} has a {{ without }}"));
            };
            if name != KEY && !topic.has(name) {
                return Err(format!(
                    "{text:?} has {{{name}}}, and the topic {topic} has not"
                ));
            }
            if !before.is_empty() {
                parts.push(KeyPiece::Text(before.into()));
            }
            parts.push(KeyPiece::Named(name.into()));
            left = behind;
        }
        if left.contains('}') {
            return Err(format!("{text:?} has a }} without {{"));
        }
        if !left.is_empty() {
            parts.push(KeyPiece::Text(left.into()));
        }
        match parts.is_empty() {
            true => Err("it is empty: expected text such as {key}".to_owned()),
            false => Ok(Self(parts)),
        }
    }

    /// Whether the key in the payload is part of the key.
    pub fn has_key(&self) -> bool {
        let is_key = |part: &KeyPiece| matches!(part, KeyPiece::Named(name) if &**name == KEY);
        self.0.iter().any(is_key)
    }

    /// The key of a value.
    pub fn key(&self, key: &str, names: &TopicVariables<'_>) -> String {
        let parts = self.0.iter().map(|part| match part {
            KeyPiece::Text(text) => text.to_string(),
            KeyPiece::Named(name) if &**name == KEY => key.to_owned(),
            // Levels of the topic have a dot between them, as members of JSON have.
            KeyPiece::Named(name) => names.get(name).unwrap_or_default().replace('/', "."),
        });
        parts.collect()
    }
}

impl Default for KeyTemplate {
    fn default() -> Self {
        Self(vec![KeyPiece::Named(KEY.into())])
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_word) {
        return Err(format!("{{{name}}}: a name has letters, digits and _"));
    }
    match [KEY, REST].contains(&name) {
        true => Err(format!("{{{name}}} is not a valid name for a level")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_its_device_and_parts_of_keys() {
        let topic = TopicTemplate::parse("plant/{line}/+/{device}/#").unwrap();
        assert_eq!(topic.filter(), "plant/+/+/+/#");
        let names = topic.names("plant/a/x/pump-7/motor/1").unwrap();
        assert_eq!(names.get(DEVICE), Some("pump-7"));
        let key = KeyTemplate::parse("{line}.{rest}.{key}", &topic).unwrap();
        assert_eq!(key.key("rpm", &names), "a.motor.1.rpm");
        // `#` stands for no level, too.
        let names = topic.names("plant/a/x/pump-7").unwrap();
        assert_eq!(names.get(REST), Some(""));
        assert_eq!(topic.names("plant/a/x"), None);
        assert_eq!(topic.names("other/a/x/pump-7"), None);
        let plain = TopicTemplate::parse("device/data/{device}").unwrap();
        assert_eq!(plain.names("device/data/a/b"), None);
        assert_eq!(
            KeyTemplate::default().key("t", &TopicVariables::default()),
            "t"
        );
    }

    #[test]
    fn templates_that_mean_nothing_are_rejected() {
        for text in [
            "a/#/b",
            "a/x{device}",
            "a/{}",
            "a/{x y}",
            "a/{key}",
            "a/{x}/{x}",
            "",
            "a/b+",
        ] {
            assert!(TopicTemplate::parse(text).is_err(), "{text}");
        }
        let topic = TopicTemplate::parse("a/{device}").unwrap();
        for text in ["", "{line}", "{key", "key}", "{rest}"] {
            assert!(KeyTemplate::parse(text, &topic).is_err(), "{text}");
        }
    }
}
