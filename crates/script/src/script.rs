//! The text of scripts: parses the lines of a file to its header and steps.
//!
//! Implements the grammar (README.md has an example of each construct), but not the meaning of
//! packets: a packet is a name, words and `key=word` pairs here.

use std::time::Duration;

use crate::value::{Word, hex, unescape};

/// A protocol version of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1, `MQIsdp`.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// The version as scripts write it: `3.1`, `3.1.1` or `5`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "3.1" => Some(Self::V31),
            "3.1.1" => Some(Self::V311),
            "5" => Some(Self::V5),
            _ => None,
        }
    }

    /// Returns the name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// `chapter/behaviour`.
    pub name: String,
    /// The lines, for transcripts.
    pub lines: Vec<String>,
    /// Versions for which it runs, separately.
    pub versions: Vec<Version>,
    /// Settings of the broker, in order.
    pub settings: Vec<(String, String)>,
    /// Users that may connect; if empty, all clients connect anonymously.
    pub users: Vec<User>,
    /// Whether its waiting times are too long for real time.
    pub is_virtual: bool,
    /// Reason why it cannot run with several shards, if any.
    pub one_shard: Option<String>,
    /// Reason why it cannot run with other brokers, if any.
    pub martlet_only: Option<String>,
    /// Reason why it cannot run with Mosquitto, if any.
    pub not_mosquitto: Option<String>,
    /// How Mosquitto differs, and which statement it violates.
    pub mosquitto_differs: Option<String>,
    /// The steps.
    pub steps: Vec<Step>,
}

/// A client that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User Name.
    pub name: String,
    /// Password.
    pub password: String,
    /// Rules of the user: the first match decides, and everything else is forbidden. Without any
    /// rules, everything is permitted.
    pub rules: Vec<UserRule>,
}

/// `allow=publish+receive:a/#`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRule {
    /// Whether the rule permits; otherwise it forbids.
    pub allows: bool,
    /// `publish`, `subscribe`, `receive`, separated by `+`.
    pub actions: String,
    /// Topic Filter, with `%c` and `%u`.
    pub filter: String,
}

impl User {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (name, password) = (words.next()?.to_owned(), words.next()?.to_owned());
        let rules = words.map(|word| {
            let (effect, rule) = word.split_once('=')?;
            let (actions, filter) = rule.split_once(':')?;
            let allows = match effect {
                "allow" => true,
                "deny" => false,
                _ => return None,
            };
            let (actions, filter) = (actions.to_owned(), filter.to_owned());
            Some(UserRule {
                allows,
                actions,
                filter,
            })
        });
        let rules = rules.collect::<Option<_>>()?;
        Some(Self {
            name,
            password,
            rules,
        })
    }
}

/// One statement.
#[derive(Clone, Debug)]
pub struct Step {
    /// Number of its line in the file, from 0.
    pub line: usize,
    /// The versions it applies to; empty means all.
    pub only: Vec<Version>,
    /// The action.
    pub act: Act,
}

/// The action of a statement.
#[derive(Clone, Debug)]
pub enum Act {
    /// `A: …`: a client sends.
    Send {
        /// The client.
        client: char,
        /// The actions of the client, in order.
        parts: Vec<Part>,
    },
    /// `A> …`: a client receives.
    Expect(Expectation),
    /// `{ … }`: all of these in any order.
    Group(Vec<(usize, Expectation)>),
    /// `wait 1s`.
    Wait(Duration),
    /// `repeat N … end`.
    Repeat(u32, Vec<Step>),
}

/// One action of a client.
#[derive(Clone, Debug)]
pub struct Part {
    /// The action.
    pub what: Outgoing,
    /// Whether it is sent in one segment with the next part (`&` and not `;`).
    pub joined: bool,
}

/// Action of a client.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// Sends a packet.
    Packet(TextPacket),
    /// Sends these bytes.
    Raw(Vec<u8>),
    /// Sends a packet byte by byte, with this pause before each byte.
    Drip(Duration, TextPacket),
    /// Ends the connection without DISCONNECT.
    Drop,
    /// Stops reading.
    Pause,
    /// Resumes reading.
    Resume,
}

/// A packet as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPacket {
    /// `CONNECT` and so on.
    pub name: String,
    /// Words and pairs, in order; `,` of SUBSCRIBE is a separate word.
    pub fields: Vec<(Option<String>, Word)>,
}

/// An expected reception.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// One of these clients receives it.
    pub clients: Vec<char>,
    /// The letters bound to the client that received it and to the other one.
    pub bind: Vec<char>,
    /// The expected item.
    pub what: Expected,
}

/// Item that a client must receive.
#[derive(Clone, Debug)]
pub enum Expected {
    /// This packet next.
    Packet(TextPacket),
    /// The end of the connection.
    Closed,
    /// Nothing for this duration; `None` is the default of the runner.
    Nothing(Option<Duration>),
    /// Anything from here on.
    Anything,
}

impl Script {
    /// Parses a file; `name` is `chapter/behaviour`.
    ///
    /// # Errors
    /// The first invalid line, with its number.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut script = Self {
            name: name.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            versions: vec![Version::V5],
            ..Self::default()
        };
        let mut parser = Parser {
            lines: script.lines.clone(),
            at: 0,
        };
        while let Some((number, line)) = parser.peek() {
            match script.header(&line) {
                Ok(true) => parser.at = number + 1,
                Ok(false) => break,
                Err(why) => return Err(format!("{name}:{}: {why}", number + 1)),
            }
        }
        script.steps = parser
            .steps(None)
            .map_err(|why| format!("{name}:{}: {why}", parser.at))?;
        Ok(script)
    }

    fn header(&mut self, line: &str) -> Result<bool, String> {
        let after = |key: &str| {
            let rest = line.strip_prefix(key)?.strip_prefix(':')?;
            Some(rest.trim().to_owned())
        };
        if let Some(list) = line
            .strip_prefix("versions ")
            .or_else(|| line.strip_prefix("version "))
        {
            self.versions = list
                .split_whitespace()
                .map(|name| Version::from_name(name).ok_or(format!("no version {name}")))
                .collect::<Result<_, _>>()?;
        } else if let Some(list) = line.strip_prefix("settings ") {
            for pair in list.split_whitespace() {
                let (key, value) = pair.split_once('=').ok_or(format!("{pair}: no `=`"))?;
                self.settings.push((key.to_owned(), value.to_owned()));
            }
        } else if let Some(user) = line.strip_prefix("user ") {
            let user = User::parse(user);
            let form = "user NAME PASSWORD [allow|deny=ACTIONS:FILTER]…";
            self.users.push(user.ok_or(form)?);
        } else if line == "virtual" {
            self.is_virtual = true;
        } else if let Some(why) = after("one-shard") {
            self.one_shard = Some(why);
        } else if let Some(why) = after("martlet-only") {
            self.martlet_only = Some(why);
        } else if let Some(why) = after("not-mosquitto") {
            self.not_mosquitto = Some(why);
        } else if let Some(why) = after("mosquitto-differs") {
            self.mosquitto_differs = Some(why);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The steps for one version.
    pub fn steps_for(&self, version: Version) -> Vec<Step> {
        steps_for(&self.steps, version)
    }

    /// Shortest total waiting time of the script.
    pub fn waits(&self) -> Duration {
        waits(&self.steps)
    }

    /// The statements in its comments, such as `MQTT-3.1.2-22`.
    pub fn statements(&self) -> Vec<String> {
        let comments = self
            .lines
            .iter()
            .filter(|line| line.trim_start().starts_with('#'));
        comments
            .flat_map(|line| line.split('[').skip(1))
            .filter_map(|part| part.split_once(']'))
            .filter(|(tag, _)| tag.starts_with("MQTT-"))
            .map(|(tag, _)| tag.to_owned())
            .collect()
    }
}

fn steps_for(steps: &[Step], version: Version) -> Vec<Step> {
    let chosen = steps
        .iter()
        .filter(|step| step.only.is_empty() || step.only.contains(&version));
    chosen
        .cloned()
        .map(|mut step| {
            if let Act::Repeat(_, inner) = &mut step.act {
                *inner = steps_for(inner, version);
            }
            step
        })
        .collect()
}

fn waits(steps: &[Step]) -> Duration {
    steps
        .iter()
        .map(|step| match &step.act {
            Act::Wait(time) => *time,
            Act::Expect(Expectation {
                what: Expected::Nothing(Some(time)),
                ..
            }) => *time,
            Act::Send { parts, .. } => parts.iter().map(drip_time).sum(),
            Act::Repeat(count, inner) => waits(inner) * *count,
            _ => Duration::ZERO,
        })
        .sum()
}

fn drip_time(part: &Part) -> Duration {
    match &part.what {
        // An approximate length of the packet is sufficient here.
        Outgoing::Drip(pause, _) => *pause * 16,
        _ => Duration::ZERO,
    }
}

struct Parser {
    lines: Vec<String>,
    at: usize,
}

impl Parser {
    /// The next line that is neither empty nor a comment.
    fn peek(&self) -> Option<(usize, String)> {
        let rest = self.lines.iter().enumerate().skip(self.at);
        rest.map(|(number, line)| (number, line.trim().to_owned()))
            .find(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    }

    fn steps(&mut self, end: Option<&str>) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        while let Some((number, line)) = self.peek() {
            self.at = number + 1;
            if Some(line.as_str()) == end {
                return Ok(steps);
            }
            let (only, line) = versions_of(&line)?;
            let act = self.act(line)?;
            steps.push(Step {
                line: number,
                only,
                act,
            });
        }
        match end {
            Some(end) => Err(format!("`{end}` is missing")),
            None => Ok(steps),
        }
    }

    fn act(&mut self, line: &str) -> Result<Act, String> {
        if line == "{" {
            return self.group();
        }
        if let Some(count) = line.strip_prefix("repeat ") {
            let count = count
                .trim()
                .parse()
                .map_err(|_| format!("`{count}` is not a count"))?;
            return Ok(Act::Repeat(count, self.steps(Some("end"))?));
        }
        if let Some(time) = line.strip_prefix("wait ") {
            return Ok(Act::Wait(duration(time)?));
        }
        if line.as_bytes().get(1) == Some(&b':') {
            let client = letter(&line[..1])?;
            let parts = parts(&line[2..])?;
            return Ok(Act::Send { client, parts });
        }
        expectation(line).map(Act::Expect)
    }

    fn group(&mut self) -> Result<Act, String> {
        let mut members = Vec::new();
        for step in self.steps(Some("}"))? {
            let Act::Expect(expectation) = step.act else {
                return Err("a group holds expectations only".to_owned());
            };
            if !matches!(expectation.what, Expected::Packet(_)) || expectation.clients.len() != 1 {
                return Err("a group holds packets of one client each".to_owned());
            }
            members.push((step.line, expectation));
        }
        Ok(Act::Group(members))
    }
}

/// Parses `@5 …`, `@3 …`, `@3.1.1 …`: the line applies to these versions only.
fn versions_of(line: &str) -> Result<(Vec<Version>, &str), String> {
    let Some(rest) = line.strip_prefix('@') else {
        return Ok((Vec::new(), line));
    };
    let (name, rest) = rest.split_once(' ').ok_or("nothing behind `@`")?;
    let only = match name {
        "3" => vec![Version::V31, Version::V311],
        name => vec![Version::from_name(name).ok_or(format!("no version {name}"))?],
    };
    Ok((only, rest.trim()))
}

/// Parses `15s`, `500ms` or `3h`.
fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is not a valid time"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "h" => Ok(Duration::from_secs(count * 3600)),
        "d" => Ok(Duration::from_secs(count * 86_400)),
        unit => Err(format!("`{unit}` is not a unit of time")),
    }
}

fn letter(text: &str) -> Result<char, String> {
    let mut chars = text.trim().chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if c.is_ascii_uppercase() => Ok(c),
        _ => Err(format!("`{text}` is not a client: one letter from A to Z")),
    }
}

fn expectation(line: &str) -> Result<Expectation, String> {
    let (who, what) = line.split_once('>').ok_or("neither `A: …` nor `A> …`")?;
    let (bind, who) = match who.split_once('=') {
        Some((bind, who)) => (bind.split(',').map(letter).collect::<Result<_, _>>()?, who),
        None => (Vec::new(), who),
    };
    let clients = who.split('|').map(letter).collect::<Result<_, _>>()?;
    let what = match what.trim() {
        "closed" => Expected::Closed,
        "anything" => Expected::Anything,
        "nothing" => Expected::Nothing(None),
        text => match text.strip_prefix("nothing ") {
            Some(time) => Expected::Nothing(Some(duration(time)?)),
            None => {
                let mut split = tokens(text)?;
                if split
                    .iter()
                    .any(|token| matches!(token, Token::Semicolon | Token::Ampersand))
                {
                    return Err("one packet per expectation".to_owned());
                }
                Expected::Packet(packet(split.drain(..))?)
            }
        },
    };
    Ok(Expectation {
        clients,
        bind,
        what,
    })
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut gathered = Vec::new();
    for token in tokens(text)?.into_iter().chain([Token::Semicolon]) {
        let joined = match token {
            Token::Semicolon => false,
            Token::Ampersand => true,
            token => {
                gathered.push(token);
                continue;
            }
        };
        let what = outgoing(core::mem::take(&mut gathered))?;
        parts.push(Part { what, joined });
    }
    Ok(parts)
}

fn outgoing(mut tokens: Vec<Token>) -> Result<Outgoing, String> {
    let first = match tokens.first() {
        Some(Token::Word(None, word)) => word.text.clone(),
        _ => return Err("nothing to send".to_owned()),
    };
    match first.as_str() {
        "drop" => Ok(Outgoing::Drop),
        "pause" => Ok(Outgoing::Pause),
        "resume" => Ok(Outgoing::Resume),
        "raw" => raw(&tokens[1..]).map(Outgoing::Raw),
        "drip" => {
            let Some(Token::Word(None, pause)) = tokens.get(1) else {
                return Err("drip needs a time".to_owned());
            };
            let pause = duration(&pause.text)?;
            Ok(Outgoing::Drip(pause, packet(tokens.drain(2..))?))
        }
        _ => Ok(Outgoing::Packet(packet(tokens.drain(..))?)),
    }
}

fn raw(tokens: &[Token]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for token in tokens {
        let Token::Word(None, word) = token else {
            return Err("raw takes bytes and texts".to_owned());
        };
        if word.quoted {
            bytes.extend(unescape(&word.text)?);
        } else if let Some((unit, count)) = word.text.split_once('*') {
            let count = count
                .parse()
                .map_err(|_| format!("`{count}` is not a count"))?;
            bytes.extend(hex(unit)?.repeat(count));
        } else {
            bytes.extend(hex(&word.text)?);
        }
    }
    Ok(bytes)
}

fn packet(tokens: impl Iterator<Item = Token>) -> Result<TextPacket, String> {
    let mut tokens = tokens;
    let Some(Token::Word(None, name)) = tokens.next() else {
        return Err("a packet's name is missing".to_owned());
    };
    let known = [
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "AUTH",
    ];
    if !known.contains(&name.text.as_str()) {
        return Err(format!("`{}` is not a packet", name.text));
    }
    let fields = tokens
        .map(|token| match token {
            Token::Word(key, word) => (key, word),
            _ => (None, Word::plain(",")),
        })
        .collect();
    Ok(TextPacket {
        name: name.text,
        fields,
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(Option<String>, Word),
    Comma,
    Semicolon,
    Ampersand,
}

/// Splits at spaces, `;`, `,` and single `&`, but not inside quotes.
fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        match c {
            ';' => tokens.push(Token::Semicolon),
            ',' => tokens.push(Token::Comma),
            '&' if rest[1..].starts_with(' ') => tokens.push(Token::Ampersand),
            _ => {
                let (token, len) = word(rest)?;
                tokens.push(token);
                rest = rest[len..].trim_start();
                continue;
            }
        }
        rest = rest[1..].trim_start();
    }
    Ok(tokens)
}

fn word(text: &str) -> Result<(Token, usize), String> {
    let key_len = text.find('=').filter(|end| {
        text[..*end]
            .chars()
            .all(|c| c.is_ascii_lowercase() || "._".contains(c))
    });
    let (key, start) = match key_len {
        Some(end) if end > 0 => (Some(text[..end].to_owned()), end + 1),
        _ => (None, 0),
    };
    let value = &text[start..];
    if let Some(quoted) = value.strip_prefix('"') {
        let mut escaped = false;
        for (at, c) in quoted.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let word = Word {
                        text: quoted[..at].to_owned(),
                        quoted: true,
                    };
                    return Ok((Token::Word(key, word), start + at + 2));
                }
                _ => {}
            }
        }
        return Err("a quote is not closed".to_owned());
    }
    let end = value.find([' ', '\t', ';', ',']).unwrap_or(value.len());
    Ok((Token::Word(key, Word::plain(&value[..end])), start + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_header_and_steps() {
        let text = "# [MQTT-3.1.2-22] kept\nversions 3.1.1 5\nsettings receive_maximum=2\n\
            A: CONNECT id=a; SUBSCRIBE \"a b\" qos=1, $share/g/t\nwait 15s\n@5 A> closed\n\
            {\nA> PUBLISH w\nB> PUBACK 1\n}\nX,Y = A|B> PUBLISH j\n";
        let script = Script::parse("x/y", text).unwrap();
        assert_eq!(script.versions, [Version::V311, Version::V5]);
        assert_eq!(script.statements(), ["MQTT-3.1.2-22"]);
        assert_eq!(script.steps.len(), 5);
        assert_eq!(script.steps_for(Version::V311).len(), 4);
        assert_eq!(script.waits(), Duration::from_secs(15));
        let Act::Send { parts, .. } = &script.steps[0].act else {
            panic!("not a send")
        };
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number() {
        let error = Script::parse("x/y", "A: CONNECT\n\nA: CONECT\n").unwrap_err();
        assert_eq!(error, "x/y:3: `CONECT` is not a packet");
    }
}
