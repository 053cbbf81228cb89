//! Runs a script on a stage and reports where the broker differs.
//!
//! Implements the order of steps: implicit answers, expected packets, groups, one of several
//! receivers. Sockets and shards are in the stages.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::packet::{Encoded, Fields, decode, encode};
use crate::script::{
    Act, Expectation, Expected, Outgoing, Part, Script, Step, TextPacket, Version,
};
use crate::value::{Value, Variables, Word};

/// Input of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Bytes.
    Bytes(Vec<u8>),
    /// End of the connection.
    Closed,
    /// Nothing within the given time.
    Nothing,
}

/// The place where a script runs: a broker and a connection to it.
pub trait Stage {
    /// Opens a connection and returns its number.
    ///
    /// # Errors
    /// The broker cannot be reached.
    fn open(&mut self) -> Result<usize, String>;
    /// Sends bytes. It is no error if the broker has already closed the connection.
    ///
    /// # Errors
    /// Any other failure.
    fn send(&mut self, link: usize, bytes: &[u8]) -> Result<(), String>;
    /// Closes a connection without DISCONNECT.
    fn end(&mut self, link: usize);
    /// Stops or resumes reading from the connection.
    fn set_reading(&mut self, link: usize, reading: bool);
    /// Returns available input, or waits up to `patience` for it.
    fn read(&mut self, link: usize, patience: Duration) -> Incoming;
    /// Waits for this time.
    fn wait(&mut self, time: Duration);
    /// Lets the broker process what was sent on one connection before another one sends.
    fn settle(&mut self);
    /// Longest waiting time for expected input.
    fn patience(&self) -> Duration;
    /// Waiting time after which there counts as being no input.
    fn quiet(&self) -> Duration;
}

/// A script with which the broker's behaviour differs.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The script's name, the version and the runner.
    pub title: String,
    /// Number of the line that differs, from 0.
    pub line: usize,
    /// The difference.
    pub why: String,
    /// Transcript of what happened until then.
    pub transcript: Vec<String>,
    /// The line with which the script would pass, if it can be determined.
    pub got: Option<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for line in &self.transcript {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "        {}", self.why)
    }
}

/// Runs `script` for `version`; messages call the stage `runner`.
///
/// # Errors
/// The first line from which the broker's behaviour differs.
pub fn play(
    stage: &mut dyn Stage,
    script: &Script,
    version: Version,
    runner: &str,
) -> Result<(), Box<Mismatch>> {
    let mut player = Player {
        stage,
        script,
        version,
        clients: BTreeMap::new(),
        names: BTreeMap::new(),
        variables: Variables::new(),
        transcript: Vec::new(),
        line: 0,
    };
    let steps = script.steps_for(version);
    let result = player.run(&steps).and_then(|()| player.finish());
    result.map_err(|failure| {
        let line = player.line;
        let text = script
            .lines
            .get(line)
            .map_or("(end of script)", String::as_str);
        player.transcript.push(format!(">> {:3}  {text}", line + 1));
        Box::new(Mismatch {
            title: format!("{} (version {}, {runner})", script.name, version.name()),
            line,
            why: failure.why,
            transcript: player.transcript,
            got: failure.got,
        })
    })
}

struct Failure {
    why: String,
    got: Option<String>,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, got: None }
    }
}

type Outcome<T = ()> = Result<T, Failure>;

#[derive(Debug)]
struct Client {
    link: usize,
    version: Version,
    buffer: Vec<u8>,
    next_id: u64,
    /// Whether the end of the connection has been received.
    closed: bool,
    /// Whether the script ignores the connection from now on.
    ignored: bool,
}

enum Next {
    Packet(Fields),
    Closed,
    Nothing,
}

struct Player<'a> {
    stage: &'a mut dyn Stage,
    script: &'a Script,
    version: Version,
    clients: BTreeMap<char, Client>,
    /// Letters bound to other ones (`X = A|B> …`).
    names: BTreeMap<char, char>,
    variables: Variables,
    transcript: Vec<String>,
    line: usize,
}

impl Player<'_> {
    fn run(&mut self, steps: &[Step]) -> Outcome {
        for (index, step) in steps.iter().enumerate() {
            self.line = step.line;
            match &step.act {
                Act::Send { client, parts } => {
                    let answered = steps
                        .get(index + 1)
                        .is_some_and(|next| answers(next, *client, parts));
                    self.send(*client, parts, !answered)?;
                }
                Act::Expect(expectation) => self.expect(expectation)?,
                Act::Group(members) => self.group(members)?,
                Act::Wait(time) => self.stage.wait(*time),
                Act::Repeat(count, inner) => {
                    for round in 1..=*count {
                        self.variables
                            .insert("n".to_owned(), Value::Number(u64::from(round)));
                        self.run(inner)?;
                    }
                }
            }
            let text = self.script.lines.get(step.line).map_or("", String::as_str);
            // Long repetitions would hide what is important.
            if self.transcript.len() > 200 {
                self.transcript.drain(..100);
            }
            self.transcript
                .push(format!("   {:3}  {text}", step.line + 1));
        }
        Ok(())
    }

    /// Checks that no client has received more than the script expects.
    fn finish(&mut self) -> Outcome {
        self.line = self.script.lines.len();
        let quiet = self.stage.quiet();
        self.stage.wait(quiet);
        let letters: Vec<char> = self.clients.keys().copied().collect();
        for letter in letters {
            if self
                .clients
                .get(&letter)
                .is_none_or(|client| client.ignored || client.closed)
            {
                continue;
            }
            match self.next(letter, Duration::ZERO)? {
                Next::Nothing => {}
                Next::Packet(packet) => {
                    let got = format!("{letter}> {}", packet.render());
                    let why = format!("{letter} received more than the script says: {got}");
                    return Err(Failure {
                        why,
                        got: Some(got),
                    });
                }
                Next::Closed => {
                    let why = format!("{letter} was closed, which the script does not say");
                    let got = Some(format!("{letter}> closed"));
                    return Err(Failure { why, got });
                }
            }
        }
        if self.script.name.starts_with("hostile/") {
            self.round_trip()?;
        }
        Ok(())
    }

    /// After hostile input another client must still be served.
    fn round_trip(&mut self) -> Outcome {
        let text = "C: CONNECT v=3.1.1 id=control; SUBSCRIBE control/x qos=1\n\
            C: PUBLISH control/x qos=1 payload=alive\n\
            {\nC> PUBACK *\nC> PUBLISH control/x qos=1 payload=alive id=$control_id\n}\n\
            C: PUBACK $control_id\nC: DISCONNECT\n";
        let script = Script::parse("control", text)?;
        self.clients.remove(&'C');
        self.names.clear();
        self.run(&script.steps).map_err(|failure| Failure {
            why: format!("the control client's round trip failed: {}", failure.why),
            got: None,
        })
    }

    fn letter(&self, letter: char) -> char {
        self.names.get(&letter).copied().unwrap_or(letter)
    }

    fn send(&mut self, letter: char, parts: &[Part], implicit: bool) -> Outcome {
        let letter = self.letter(letter);
        let mut segment = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let mut awaited = None;
            let mut pause = None;
            match &part.what {
                Outgoing::Drop => {
                    if let Some(client) = self.clients.remove(&letter) {
                        self.stage.end(client.link);
                        self.stage.settle();
                    }
                    continue;
                }
                Outgoing::Pause | Outgoing::Resume => {
                    let reading = matches!(part.what, Outgoing::Resume);
                    let link = self.client(letter)?.link;
                    self.stage.set_reading(link, reading);
                    continue;
                }
                Outgoing::Raw(bytes) => {
                    self.client(letter)?;
                    segment.extend_from_slice(bytes);
                }
                Outgoing::Packet(packet) => {
                    segment.extend(self.encode(letter, packet, &mut awaited)?);
                }
                Outgoing::Drip(time, packet) => {
                    pause = Some(*time);
                    segment.extend(self.encode(letter, packet, &mut awaited)?);
                }
            }
            if part.joined && !last {
                continue;
            }
            let joined = index > 0 && parts[index - 1].joined;
            let bytes = core::mem::take(&mut segment);
            self.transmit(letter, &bytes, pause)?;
            let answer = awaited.filter(|_| (implicit || !last) && !joined);
            match answer {
                Some((name, encoded)) => self.answer(letter, &name, &encoded)?,
                None => self.stage.settle(),
            }
        }
        Ok(())
    }

    fn transmit(&mut self, letter: char, bytes: &[u8], pause: Option<Duration>) -> Outcome {
        let link = self.client(letter)?.link;
        let Some(pause) = pause else {
            return Ok(self.stage.send(link, bytes)?);
        };
        for byte in bytes {
            self.stage.wait(pause);
            self.stage.send(link, &[*byte])?;
        }
        Ok(())
    }

    fn encode(
        &mut self,
        letter: char,
        packet: &TextPacket,
        awaited: &mut Option<(String, Encoded)>,
    ) -> Outcome<Vec<u8>> {
        if packet.name == "CONNECT" && self.clients.get(&letter).is_some_and(|found| found.closed) {
            self.clients.remove(&letter);
        }
        let (version, next_id) = {
            let client = self.client(letter)?;
            (client.version, client.next_id)
        };
        let encoded = encode(packet, version, next_id, letter, &self.variables)?;
        let client = self.client(letter)?;
        if encoded.packet_id == next_id {
            client.next_id = next_id % 65_535 + 1;
        }
        client.version = encoded.version.unwrap_or(version);
        let bytes = encoded.bytes.clone();
        *awaited = Some((packet.name.clone(), encoded));
        Ok(bytes)
    }

    fn client(&mut self, letter: char) -> Outcome<&mut Client> {
        if !self.clients.contains_key(&letter) {
            let client = Client {
                link: self.stage.open()?,
                version: self.version,
                buffer: Vec::new(),
                next_id: 1,
                closed: false,
                ignored: false,
            };
            self.clients.insert(letter, client);
        }
        self.clients
            .get_mut(&letter)
            .ok_or_else(|| "no such client".to_owned().into())
    }

    /// Receives the answer required by the specification, if the packet has one.
    fn answer(&mut self, letter: char, name: &str, encoded: &Encoded) -> Outcome {
        let id = encoded.packet_id;
        match name {
            "CONNECT" => self.receive(letter, &packet("CONNACK", &["0"])),
            "PINGREQ" => self.receive(letter, &packet("PINGRESP", &[])),
            "SUBSCRIBE" => {
                let codes: Vec<_> = encoded.asked.iter().map(u64::to_string).collect();
                let mut words = vec![format!("id={id}")];
                words.extend(codes);
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                self.receive(letter, &packet("SUBACK", &words))
            }
            "UNSUBSCRIBE" => self.receive(letter, &packet("UNSUBACK", &[&format!("id={id}")])),
            "PUBLISH" if encoded.qos == 1 => {
                self.receive(letter, &packet("PUBACK", &[&id.to_string()]))
            }
            "PUBLISH" if encoded.qos == 2 => {
                self.receive(letter, &packet("PUBREC", &[&id.to_string()]))?;
                let release = packet("PUBREL", &[&id.to_string()]);
                let bytes = self.encode(letter, &release, &mut None)?;
                self.transmit(letter, &bytes, None)?;
                self.receive(letter, &packet("PUBCOMP", &[&id.to_string()]))
            }
            "DISCONNECT" => self.receive_end(letter),
            _ => {
                self.stage.settle();
                Ok(())
            }
        }
    }

    fn receive(&mut self, letter: char, expected: &TextPacket) -> Outcome {
        let patience = self.stage.patience();
        let text = text_of(expected);
        match self.next(letter, patience)? {
            Next::Packet(packet) => packet
                .matches(expected, &mut self.variables)
                .map_err(|why| Failure {
                    why: format!(
                        "expected: {letter}> {text}\n        got:      {letter}> {}\n        {why}",
                        packet.render()
                    ),
                    got: Some(format!("{letter}> {}", packet.render())),
                }),
            Next::Closed => Err(Failure {
                why: format!("expected: {letter}> {text}\n        got:      closed"),
                got: Some(format!("{letter}> closed")),
            }),
            Next::Nothing => Err(Failure {
                why: format!("expected: {letter}> {text}\n        got:      nothing"),
                got: Some(format!("{letter}> nothing")),
            }),
        }
    }

    fn receive_end(&mut self, letter: char) -> Outcome {
        let patience = self.stage.patience();
        let got = match self.next(letter, patience)? {
            Next::Closed => return Ok(()),
            Next::Packet(packet) => format!("{letter}> {}", packet.render()),
            Next::Nothing => format!("{letter}> nothing"),
        };
        Err(Failure {
            why: format!("expected: {letter}> closed\n        got:      {got}"),
            got: Some(got),
        })
    }

    fn expect(&mut self, expectation: &Expectation) -> Outcome {
        let clients: Vec<char> = expectation
            .clients
            .iter()
            .map(|c| self.letter(*c))
            .collect();
        let letter = clients[0];
        match &expectation.what {
            Expected::Packet(expected) if clients.len() > 1 => {
                let receiver = self.one_of(&clients)?;
                let other = clients.iter().copied().find(|client| *client != receiver);
                let bound = [Some(receiver), other];
                for (name, client) in expectation.bind.iter().zip(bound) {
                    self.names.insert(*name, client.unwrap_or(receiver));
                }
                self.receive(receiver, expected)
            }
            Expected::Packet(expected) => self.receive(letter, expected),
            Expected::Closed => self.receive_end(letter),
            Expected::Anything => {
                self.client(letter)?.ignored = true;
                Ok(())
            }
            Expected::Nothing(time) => {
                let time = time.unwrap_or_else(|| self.stage.quiet());
                self.stage.wait(time);
                for letter in clients {
                    let got = match self.next(letter, Duration::ZERO)? {
                        Next::Nothing => continue,
                        Next::Packet(packet) => format!("{letter}> {}", packet.render()),
                        Next::Closed => format!("{letter}> closed"),
                    };
                    let why = format!("expected: {letter}> nothing\n        got:      {got}");
                    return Err(Failure {
                        why,
                        got: Some(got),
                    });
                }
                Ok(())
            }
        }
    }

    /// Waits until one of the clients has received anything.
    fn one_of(&mut self, clients: &[char]) -> Outcome<char> {
        let patience = self.stage.patience();
        let started = Instant::now();
        // The clock does not advance in virtual time, so rounds are counted too.
        for _ in 0..patience.as_millis().max(1) {
            for letter in clients {
                if self.has_packet(*letter, Duration::from_millis(1))? {
                    return Ok(*letter);
                }
            }
            if started.elapsed() > patience {
                break;
            }
        }
        Err(format!("none of {clients:?} received anything").into())
    }

    fn has_packet(&mut self, letter: char, patience: Duration) -> Outcome<bool> {
        self.fill(letter, patience)?;
        let client = self.client(letter)?;
        let version = client.version;
        Ok(decode(&client.buffer, version)?.is_some())
    }

    fn fill(&mut self, letter: char, patience: Duration) -> Outcome<Incoming> {
        let link = self.client(letter)?.link;
        let incoming = self.stage.read(link, patience);
        if let Incoming::Bytes(bytes) = &incoming {
            self.client(letter)?.buffer.extend_from_slice(bytes);
        }
        Ok(incoming)
    }

    /// Receives packets in any order, even within one client.
    fn group(&mut self, members: &[(usize, Expectation)]) -> Outcome {
        let patience = self.stage.patience();
        let mut left: Vec<(usize, char, TextPacket)> = Vec::new();
        for (line, member) in members {
            if let Expected::Packet(packet) = &member.what {
                left.push((*line, self.letter(member.clients[0]), packet.clone()));
            }
        }
        while let Some((line, letter, _)) = left.first().cloned() {
            self.line = line;
            let got = match self.next(letter, patience)? {
                Next::Packet(packet) => {
                    let place = left.iter().position(|(_, who, expected)| {
                        *who == letter
                            && packet
                                .matches(expected, &mut self.variables.clone())
                                .is_ok()
                    });
                    if let Some(place) = place {
                        let (_, _, expected) = left.remove(place);
                        packet.matches(&expected, &mut self.variables)?;
                        continue;
                    }
                    packet.render()
                }
                Next::Closed => "closed".to_owned(),
                Next::Nothing => "nothing".to_owned(),
            };
            let wanted: Vec<_> = left
                .iter()
                .filter(|(_, who, _)| *who == letter)
                .map(|(_, _, expected)| text_of(expected))
                .collect();
            let wanted = wanted.join(" or ");
            return Err(Failure {
                why: format!("expected: {letter}> {wanted}\n        got:      {letter}> {got}"),
                got: Some(format!("{letter}> {got}")),
            });
        }
        Ok(())
    }

    fn next(&mut self, letter: char, patience: Duration) -> Outcome<Next> {
        loop {
            let client = self.client(letter)?;
            let version = client.version;
            let decoded = decode(&client.buffer, version)
                .map_err(|why| format!("{letter} received a wrong packet: {why}"))?;
            if let Some((packet, used)) = decoded {
                client.buffer.drain(..used);
                return Ok(Next::Packet(packet));
            }
            if client.closed {
                return Ok(Next::Closed);
            }
            match self.fill(letter, patience)? {
                Incoming::Bytes(_) => {}
                Incoming::Closed => {
                    let client = self.client(letter)?;
                    client.closed = true;
                    if !client.buffer.is_empty() {
                        return Err("the connection ended within a packet".to_owned().into());
                    }
                    return Ok(Next::Closed);
                }
                Incoming::Nothing => return Ok(Next::Nothing),
            }
        }
    }
}

/// Whether the step itself contains the answer to the last of `parts`: the answer required by the
/// specification, or the end of the connection.
fn answers(step: &Step, client: char, parts: &[Part]) -> bool {
    let sent = match parts.last().map(|part| &part.what) {
        Some(Outgoing::Packet(packet) | Outgoing::Drip(_, packet)) => packet.name.as_str(),
        _ => return false,
    };
    let answer: &[&str] = match sent {
        "CONNECT" => &["CONNACK", "AUTH"],
        "SUBSCRIBE" => &["SUBACK"],
        "UNSUBSCRIBE" => &["UNSUBACK"],
        "PUBLISH" => &["PUBACK", "PUBREC"],
        "PINGREQ" => &["PINGRESP"],
        _ => &[],
    };
    let is_answer = |expectation: &Expectation| {
        expectation.clients.contains(&client)
            && match &expectation.what {
                Expected::Packet(packet) => {
                    packet.name == "DISCONNECT" || answer.contains(&packet.name.as_str())
                }
                Expected::Closed | Expected::Anything => true,
                Expected::Nothing(_) => false,
            }
    };
    match &step.act {
        Act::Expect(expectation) => is_answer(expectation),
        Act::Group(members) => members.iter().any(|(_, member)| is_answer(member)),
        _ => false,
    }
}

fn packet(name: &str, words: &[&str]) -> TextPacket {
    let fields = words.iter().map(|word| match word.split_once('=') {
        Some((key, value)) => (Some(key.to_owned()), Word::plain(value)),
        None => (None, Word::plain(word)),
    });
    TextPacket {
        name: name.to_owned(),
        fields: fields.collect(),
    }
}

fn text_of(packet: &TextPacket) -> String {
    let mut text = packet.name.clone();
    for (key, word) in &packet.fields {
        let value = match word.quoted {
            true => format!("\"{}\"", word.text),
            false => word.text.clone(),
        };
        match key {
            Some(key) => text.push_str(&format!(" {key}={value}")),
            None => text.push_str(&format!(" {value}")),
        }
    }
    text
}
