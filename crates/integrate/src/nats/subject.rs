//! Subjects of NATS, built from messages. Each name becomes one token; characters that NATS does
//! not accept are escaped as `%XX`. So no name can add a wildcard or a token or produce another's
//! subject, and the name can be decoded again.

use martlet_codec::PublishProperties;

use crate::sink_message::SinkMessage;

/// Maximum bytes of a subject. A server closes a connection whose control line is longer than
/// 4,096 bytes, which includes the subject and the inbox of the answer.
pub(super) const SUBJECT_BYTES_MAX: usize = 2_048;
/// The token for a missing name.
const MISSING: &str = "-";

/// A subject with fields, such as `raw.{user}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectTemplate(Vec<SubjectPiece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum SubjectPiece {
    Text(Box<str>),
    Field(Field),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    MqttTopic,
    User,
    Device,
    Client,
    Tenant,
    ContentType,
    /// The first User Property with this name.
    Property(Box<str>),
}

const FIELDS: &[(&str, Field)] = &[
    ("topic", Field::Topic),
    ("topic:mqtt", Field::MqttTopic),
    ("user", Field::User),
    ("device", Field::Device),
    ("client", Field::Client),
    ("tenant", Field::Tenant),
    ("content_type", Field::ContentType),
];
/// Prefix of the name of a User Property.
const PROPERTY: &str = "property:";

fn field(name: &str) -> Option<Field> {
    if let Some(property) = name.strip_prefix(PROPERTY) {
        return (!property.is_empty()).then(|| Field::Property(property.into()));
    }
    let found = FIELDS.iter().find(|(known, _)| *known == name);
    found.map(|(_, field)| field.clone())
}

impl SubjectTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// It is not a valid subject; the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let field = after
                .split_once('}')
                .and_then(|(name, behind)| Some((field(name)?, behind)));
            let Some((field, behind)) = field else {
                let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                return Err(format!(
                    "after `{{` expected one of: {}, {PROPERTY}NAME, and `}}`",
                    names.join(", ")
                ));
            };
            if !before.is_empty() {
                parts.push(SubjectPiece::Text(before.into()));
            }
            parts.push(SubjectPiece::Field(field));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(SubjectPiece::Text(rest.into()));
        }
        let template = Self(parts);
        template.check()?;
        Ok(template)
    }

    fn check(&self) -> Result<(), String> {
        let mut shape = String::new();
        for part in &self.0 {
            match part {
                SubjectPiece::Text(text) => shape.push_str(text),
                SubjectPiece::Field(_) => shape.push('x'),
            }
        }
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || "*>}%".contains(c);
        if self.has_two_in_a_token() {
            return Err(
                "expected one field in each token: with two, different names could result in the \
                 same subject"
                    .to_owned(),
            );
        }
        if shape.contains(is_bad) || shape.split('.').any(str::is_empty) {
            return Err(
                "expected tokens with dots between them, without blanks, *, >, % and }".to_owned(),
            );
        }
        let first = shape.split('.').next();
        if shape.starts_with('$') || first == Some("_INBOX") {
            return Err("subjects that begin with $ or _INBOX belong to the server".to_owned());
        }
        Ok(())
    }

    fn has_two_in_a_token(&self) -> bool {
        let mut fields = 0;
        self.0.iter().any(|part| {
            match part {
                SubjectPiece::Text(text) if text.contains('.') => fields = 0,
                SubjectPiece::Text(_) => {}
                SubjectPiece::Field(_) => fields += 1,
            }
            fields > 1
        })
    }

    /// The filter that matches all its subjects, for a stream.
    ///
    /// # Errors
    /// It begins with a field, so that only `>` would match.
    pub(super) fn filter(&self) -> Result<String, String> {
        let fixed = match self.0.as_slice() {
            [SubjectPiece::Text(text)] => return Ok(text.to_string()),
            [SubjectPiece::Text(text), ..] => text.rsplit_once('.').map(|(fixed, _)| fixed),
            _ => None,
        };
        let fixed = fixed.ok_or("`subject` has no fixed first token")?;
        Ok(format!("{fixed}.>"))
    }

    /// Whether it needs the properties of messages.
    fn has_properties(&self) -> bool {
        let mut parts = self.0.iter();
        parts.any(|part| {
            matches!(
                part,
                SubjectPiece::Field(Field::ContentType | Field::Property(_))
            )
        })
    }

    /// The subject of a message. `team` is the team that owns the message's tenant.
    ///
    /// # Errors
    /// There is no valid subject; the reason.
    pub(super) fn subject(
        &self,
        message: &SinkMessage,
        team: Option<&str>,
    ) -> Result<String, String> {
        let properties = match self.has_properties() {
            true => PublishProperties::from_forwarded(message.properties()).unwrap_or_default(),
            false => PublishProperties::default(),
        };
        // Each team has separate names: the same name is a different client in each team.
        let others = team.filter(|_| message.is_of_all_tenants());
        let mut subject = String::new();
        for part in &self.0 {
            let field = match part {
                SubjectPiece::Text(text) => {
                    subject.push_str(text);
                    continue;
                }
                SubjectPiece::Field(field) => field,
            };
            match field {
                Field::Topic => push_levels(&mut subject, message.topic()),
                Field::MqttTopic => subject.push_str(&mqtt_subject(message.topic())?),
                Field::User => push_name_of(&mut subject, message.user(), others),
                Field::Device => push_name_of(&mut subject, message.device(), others),
                Field::Client => push_name_of(&mut subject, message.client_id(), others),
                Field::Tenant => push_name(&mut subject, team),
                Field::ContentType => push_name(&mut subject, properties.content_type),
                Field::Property(name) => {
                    let mut pairs = properties.user_properties.iter();
                    let found = pairs.find(|(known, _)| **known == **name);
                    push_name(&mut subject, found.map(|(_, value)| value));
                }
            }
        }
        match subject.len() {
            0..=SUBJECT_BYTES_MAX => Ok(subject),
            bytes => Err(format!(
                "its subject would have {bytes} bytes, at most {SUBJECT_BYTES_MAX} are accepted"
            )),
        }
    }
}

/// Checks a subject with wildcards, such as `cmd.*` or `cmd.>`.
///
/// # Errors
/// It is not valid; the reason.
pub(super) fn check_filter(text: &str) -> Result<(), String> {
    let is_bad = |token: &str| {
        token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if text.split('.').any(is_bad) {
        return Err("expected tokens with dots between them, without blanks".to_owned());
    }
    let has_wildcard = |token: &str| token.len() > 1 && token.contains(['*', '>']);
    let before_last = text.rsplit_once('.').map_or("", |(before, _)| before);
    if text.split('.').any(has_wildcard) || before_last.split('.').any(|token| token == ">") {
        return Err(
            "the wildcards * and > are tokens of their own, and > is the last one".to_owned(),
        );
    }
    Ok(())
}

fn push_name(subject: &mut String, name: Option<&str>) {
    match name {
        None => subject.push_str(MISSING),
        // Must differ from the token for a missing name.
        Some(MISSING) => subject.push_str("%2D"),
        Some(name) => push_token(subject, name),
    }
}

/// Appends a name in a team, as `NAME%40TEAM`. No plain name produces this: its `%` is escaped.
fn push_name_of(subject: &mut String, name: Option<&str>, team: Option<&str>) {
    push_name(subject, name);
    if let (Some(_), Some(team)) = (name, team) {
        subject.push_str("%40");
        push_token(subject, team);
    }
}

fn push_levels(subject: &mut String, topic: &str) {
    for (at, level) in topic.split('/').enumerate() {
        if at > 0 {
            subject.push('.');
        }
        push_token(subject, level);
    }
}

/// A name as one token; the empty one is `%`.
fn push_token(subject: &mut String, name: &str) {
    if name.is_empty() {
        subject.push('%');
    }
    for c in name.chars() {
        // Subjects reserved by the server begin with these characters.
        let is_reserved = subject.is_empty() && "$_".contains(c);
        if !is_reserved && !c.is_whitespace() && !c.is_control() && !".*>%".contains(c) {
            subject.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            subject.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The subject that nats-server's own MQTT listener uses for a topic: `/` becomes a dot, an empty
/// level `/`, and a dot `//`.
fn mqtt_subject(topic: &str) -> Result<String, String> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || "*>".contains(c);
    if topic.contains(is_bad) || topic.starts_with('$') || topic.starts_with("_INBOX") {
        return Err(
            "nats-server's MQTT mapping has no subject for its topic: blanks, *, > and names of \
             the server are not accepted"
                .to_owned(),
        );
    }
    let levels = topic.split('/').map(|level| match level {
        "" => "/".to_owned(),
        level => level.replace('.', "//"),
    });
    Ok(levels.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink_message::Publisher;

    fn token(name: &str) -> String {
        let mut subject = "raw.".to_owned();
        push_name(&mut subject, Some(name));
        subject
    }

    /// Decodes an escaped token.
    fn name(token: &str) -> String {
        let (mut bytes, mut rest) = (Vec::new(), token.as_bytes());
        while let [first, behind @ ..] = rest {
            match (first, behind) {
                (b'%', [high, low, behind @ ..]) => {
                    let digits = [*high, *low];
                    let digits = std::str::from_utf8(&digits).expect("digits");
                    bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
                    rest = behind;
                }
                (b'%', _) => rest = behind,
                (byte, _) => {
                    bytes.push(*byte);
                    rest = behind;
                }
            }
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn every_name_is_one_token_and_can_be_read_back() {
        let odd = [
            "", "-", "--", ".", "*", ">", "a.b", "a b", "%", "%2E", "a%", "é", "\u{a0}",
        ];
        let more = (1..0x250u32).filter_map(char::from_u32).map(String::from);
        let all: Vec<String> = odd
            .iter()
            .map(|text| (*text).to_owned())
            .chain(more)
            .collect();
        let mut seen = std::collections::BTreeMap::new();
        for user in all {
            let subject = token(&user);
            let tail = subject.strip_prefix("raw.").expect("its prefix");
            assert!(!tail.is_empty() && tail != "-", "{user:?}");
            assert!(
                !tail.contains(['.', '*', '>', ' ', '\t', '\r', '\n']),
                "{user:?}: {tail}"
            );
            assert_eq!(name(tail), user);
            if let Some(other) = seen.insert(subject, user.clone()) {
                assert_eq!(other, user, "one subject for two names");
            }
        }
        assert_eq!(token("ann"), "raw.ann");
    }

    #[test]
    fn a_template_is_filled_with_a_message() {
        let template = SubjectTemplate::parse("raw.{user}").expect("a template");
        let message = SinkMessage::example("a/b.c//$x", b"");
        assert_eq!(template.subject(&message, None).as_deref(), Ok("raw.-"));
        assert_eq!(template.filter().as_deref(), Ok("raw.>"));
        let template = SubjectTemplate::parse("{topic}.{tenant}").expect("a template");
        let subject = template.subject(&message, Some("t1"));
        assert_eq!(subject.as_deref(), Ok("a.b%2Ec.%.$x.t1"));
        assert!(template.filter().is_err());
        for theirs in ["$SYS/REQ", "$JS/API", "_INBOX/x"] {
            let subject = template.subject(&SinkMessage::example(theirs, b""), None);
            assert!(subject.expect("a subject").starts_with('%'), "{theirs}");
        }
        let long = SinkMessage::example(&"a/".repeat(2_000), b"");
        assert!(template.subject(&long, None).is_err());
        let of_north = SinkMessage::example("t", b"").published_by(Publisher {
            user: Some("pump@x".to_owned()),
            ..Publisher::default()
        });
        let template = SubjectTemplate::parse("raw.{user}").expect("a template");
        let of_all = of_north.clone().with_team(Some("no.rth".into()), true);
        let subject = template.subject(&of_all, Some("no.rth"));
        assert_eq!(subject.as_deref(), Ok("raw.pump@x%40no%2Erth"));
        let of_one = of_north.with_team(Some("no.rth".into()), false);
        let subject = template.subject(&of_one, Some("no.rth"));
        assert_eq!(subject.as_deref(), Ok("raw.pump@x"));
        for bad in [
            "",
            "raw.{user}{client}",
            "raw.{user}-{client}",
            "a..b",
            ".a",
            "a.*",
            "raw.>",
            "{usr}",
            "{user",
            "a}",
            "$JS.x",
            "a b",
            "{property:}",
        ] {
            assert!(SubjectTemplate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_mqtt_mapping_is_that_of_nats_server() {
        for (topic, subject) in [
            ("foo/bar", "foo.bar"),
            ("/foo", "/.foo"),
            ("foo/", "foo./"),
            ("foo//bar", "foo./.bar"),
            ("foo.bar/baz", "foo//bar.baz"),
        ] {
            assert_eq!(mqtt_subject(topic).as_deref(), Ok(subject), "{topic}");
        }
        assert!(mqtt_subject("a b").is_err() && mqtt_subject("a/*").is_err());
    }
}
