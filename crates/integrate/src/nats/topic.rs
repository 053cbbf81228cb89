//! Topic Names, built from NATS subjects. A token becomes one level: escapes of the sink are
//! decoded. A token that would add a wildcard or a level is an error.

use martlet_codec::TopicName;

/// A topic with fields, such as `devices/{2}/set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicTemplate(Vec<TopicPiece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TopicPiece {
    Text(Box<str>),
    /// All tokens, as levels.
    Subject,
    /// One token, from 1.
    Token(usize),
    /// All tokens from this one on, as levels.
    From(usize),
    /// The topic that nats-server's own MQTT listener uses for the subject.
    MqttSubject,
    /// The topic that a sink wrote into the header.
    Header,
}

impl TopicTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// It is not a valid topic; the reason.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let found = after
                .split_once('}')
                .and_then(|(name, behind)| Some((field(name)?, behind)));
            let (part, behind) = found.ok_or(
                "after `{` expected one of: subject, subject:mqtt, topic, the number of a token, \
                 such as 2, or a number followed by .., and `}`",
            )?;
            if !before.is_empty() {
                parts.push(TopicPiece::Text(before.into()));
            }
            parts.push(part);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(TopicPiece::Text(rest.into()));
        }
        let is_bad = |part: &TopicPiece| match part {
            TopicPiece::Text(text) => text.contains(['+', '#', '}', '\0']),
            _ => false,
        };
        if parts.is_empty() || parts.iter().any(is_bad) || text.starts_with('$') {
            return Err("expected a topic without +, # and }, and without $ first".to_owned());
        }
        Ok(Self(parts))
    }

    /// The topic of a message with this subject. `header`: the topic that a sink wrote.
    ///
    /// # Errors
    /// There is none; the reason.
    pub(super) fn topic(&self, subject: &str, header: Option<&str>) -> Result<String, String> {
        let tokens: Vec<&str> = subject.split('.').collect();
        let levels = |tokens: &[&str]| {
            let levels: Result<Vec<_>, _> = tokens.iter().map(|token| level(token)).collect();
            levels.map(|levels| levels.join("/"))
        };
        let mut topic = String::new();
        for part in &self.0 {
            match part {
                TopicPiece::Text(text) => topic.push_str(text),
                TopicPiece::Subject => topic.push_str(&levels(&tokens)?),
                TopicPiece::Token(number) | TopicPiece::From(number) => {
                    let from = tokens.get(number - 1..).filter(|from| !from.is_empty());
                    let from = from.ok_or_else(|| format!("its subject has no token {number}"))?;
                    let is_one = matches!(part, TopicPiece::Token(_));
                    topic.push_str(&levels(if is_one { &from[..1] } else { from })?);
                }
                TopicPiece::MqttSubject => topic.push_str(&of_mqtt_subject(&tokens)),
                TopicPiece::Header => topic.push_str(header.ok_or("it has no header Mqtt-Topic")?),
            }
        }
        if topic.starts_with('$') {
            return Err(format!(
                "its topic would be {topic:?}: topics that begin with $ are the node's own"
            ));
        }
        match TopicName::new(&topic) {
            Ok(_) => Ok(topic),
            Err(error) => Err(format!("its topic would be {topic:?}: {error}")),
        }
    }
}

fn field(name: &str) -> Option<TopicPiece> {
    let number = |text: &str| text.parse().ok().filter(|number: &usize| *number > 0);
    match name {
        "subject" => Some(TopicPiece::Subject),
        "subject:mqtt" => Some(TopicPiece::MqttSubject),
        "topic" => Some(TopicPiece::Header),
        _ => match name.strip_suffix("..") {
            Some(first) => number(first).map(TopicPiece::From),
            None => number(name).map(TopicPiece::Token),
        },
    }
}

/// The topic level for a token.
fn level(token: &str) -> Result<String, String> {
    // The empty name.
    if token == "%" {
        return Ok(String::new());
    }
    let level = percent_encoding::percent_decode_str(token).decode_utf8();
    let level = level.map_err(|_| format!("its subject has the token {token:?}, not UTF-8"))?;
    match level.contains(['/', '+', '#', '\0']) {
        true => Err(format!(
            "its subject has the token {token:?}, which is not one level of a topic"
        )),
        false => Ok(level.into_owned()),
    }
}

/// The reverse of the sink's `{topic:mqtt}`.
fn of_mqtt_subject(tokens: &[&str]) -> String {
    let levels = tokens.iter().map(|token| match *token {
        "/" => String::new(),
        token => token.replace("//", "."),
    });
    levels.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_becomes_a_topic() {
        for (template, subject, topic) in [
            ("{subject}", "cmd.a.b", Some("cmd/a/b")),
            ("{subject}", "cmd.%.b%2Ec", Some("cmd//b.c")),
            ("d/{2}/set", "cmd.pump-7.on", Some("d/pump-7/set")),
            ("d/{2..}", "cmd.pump-7.on", Some("d/pump-7/on")),
            ("d/{4}", "cmd.pump-7.on", None),
            ("{subject:mqtt}", "foo//bar./.baz", Some("foo.bar//baz")),
            ("{topic}", "x", Some("plant/1")),
            ("{2}", "cmd.%23", None),
            ("{2}", "cmd.a/b", None),
            ("{2}", "cmd.a%2Fb", None),
            ("{2}", "cmd.+", None),
            ("{subject}", "%24SYS.x", None),
            ("d/{2}", "cmd.%FF", None),
        ] {
            let parsed = TopicTemplate::parse(template).expect(template);
            let made = parsed.topic(subject, Some("plant/1"));
            assert_eq!(made.as_deref().ok(), topic, "{template} {subject}");
        }
        for bad in ["", "{", "{0}", "{x}", "a/#", "+", "$SYS/{1}", "a}"] {
            assert!(TopicTemplate::parse(bad).is_err(), "{bad}");
        }
        let topic = TopicTemplate::parse("{topic}").expect("a template");
        assert!(topic.topic("x", None).is_err() && topic.topic("x", Some("a/#")).is_err());
    }
}
