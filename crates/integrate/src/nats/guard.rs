//! Checks data of a server: lines and messages of a bounded length.
//!
//! The client library reads a line until its end, and a message of the length that the server
//! announces, however long. Here a server that sends longer ones than a NATS server does is cut
//! off before its bytes are buffered. The text is split as by the library: a line ends with CR LF,
//! and only messages have bytes after it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

/// Longest line of the server: INFO of a cluster with many addresses.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;
/// Maximum message length that a server may announce (`max_payload`): the maximum of NATS itself.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Message length that is always allowed, whatever `max_payload` is: the server's own answers, and
/// messages stored before it was changed.
const PAYLOAD_BYTES_ALWAYS: usize = 8 << 20;

/// The excess for which a server is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// `max_payload` of INFO is too large.
    MaxPayload(usize),
    /// A line is too long.
    Line,
    /// The length of a message; `None`: not a number.
    Message(Option<usize>),
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxPayload(bytes) => write!(
                f,
                "its max_payload is {bytes}, expected {PAYLOAD_BYTES_MAX} at most"
            ),
            Self::Line => write!(f, "it sends a line of more than {LINE_BYTES_MAX} bytes"),
            Self::Message(Some(bytes)) => {
                write!(
                    f,
                    "it sends a message of {bytes} bytes, more than it may have"
                )
            }
            Self::Message(None) => f.write_str("it sends a message without a length"),
        }
    }
}

impl std::error::Error for Excess {}

/// Fields of INFO about the length of messages.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    max_payload: usize,
}

/// Checks that a server may announce messages of this length.
///
/// # Errors
/// They are too long.
pub(super) fn check_max_payload(bytes: usize) -> Result<(), Excess> {
    match bytes > PAYLOAD_BYTES_MAX {
        true => Err(Excess::MaxPayload(bytes)),
        false => Ok(()),
    }
}

/// The highest subscription id that the client has used. It gives each subscription the next one.
pub(super) type LastSubscription = AtomicU64;

/// Splits data into lines, without the messages between them.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of an incomplete line.
    line: Vec<u8>,
    /// Bytes of the current message that are missing, with its line end.
    left: usize,
}

impl Lines {
    /// Reads the next data. `behind` returns how many bytes follow a line.
    fn read(
        &mut self,
        mut bytes: &[u8],
        mut behind: impl FnMut(&[u8]) -> Result<usize, Excess>,
    ) -> Result<(), Excess> {
        while !bytes.is_empty() {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                return match self.line.len() > LINE_BYTES_MAX {
                    true => Err(Excess::Line),
                    false => Ok(()),
                };
            };
            let (piece, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.line.is_empty() && piece.ends_with(b"\r\n") {
                self.left = behind(piece)?;
                continue;
            }
            self.line.extend_from_slice(piece);
            if self.line.len() > LINE_BYTES_MAX {
                return Err(Excess::Line);
            }
            if self.line.ends_with(b"\r\n") {
                let mut line = std::mem::take(&mut self.line);
                self.left = behind(&line)?;
                line.clear();
                self.line = line;
            }
        }
        Ok(())
    }
}

/// Reads what the client sends, and notes its subscriptions.
#[derive(Debug, Default)]
pub(super) struct Outgoing(Lines);

impl Outgoing {
    /// Reads the next data. Notes the id of each subscription.
    ///
    /// # Errors
    /// A line is longer than those of the client.
    pub(super) fn look(&mut self, bytes: &[u8], last: &LastSubscription) -> Result<(), Excess> {
        self.0.read(bytes, |line| {
            if line.starts_with(b"PUB ") || line.starts_with(b"HPUB ") {
                return message_bytes(line).map(|length| length.saturating_add(2));
            }
            if line.starts_with(b"SUB ") {
                let id = words(line).and_then(|mut words| words.next_back()?.parse().ok());
                last.fetch_max(id.unwrap_or(0), Ordering::Relaxed);
            }
            Ok(0)
        })
    }
}

/// The words of a line, unless it is no text.
fn words(line: &[u8]) -> Option<impl DoubleEndedIterator<Item = &str>> {
    std::str::from_utf8(line).ok().map(str::split_whitespace)
}

/// Bytes of the message behind a line, without their end.
fn message_bytes(line: &[u8]) -> Result<usize, Excess> {
    let length = words(line).and_then(|mut words| words.next_back()?.parse().ok());
    length.ok_or(Excess::Message(None))
}

/// Checks the data that a server sends after its first INFO.
#[derive(Debug)]
pub(super) struct Guard {
    payload_max: usize,
    lines: Lines,
    /// Lines that bring no message of a subscription, since they were last taken.
    other_lines: u32,
}

impl Guard {
    /// A guard for a server that sent this first line.
    ///
    /// # Errors
    /// Its maximum message length is too large.
    pub(super) fn of(info: &[u8]) -> Result<Self, Excess> {
        let json = info.strip_prefix(b"INFO ").unwrap_or_default();
        // The client rejects a line that is not INFO.
        let info: Option<Info> = serde_json::from_slice(json).ok();
        let named = info.map_or(0, |info| info.max_payload);
        check_max_payload(named)?;
        let twice = named.saturating_mul(2);
        Ok(Self {
            payload_max: twice.clamp(PAYLOAD_BYTES_ALWAYS, PAYLOAD_BYTES_MAX),
            lines: Lines::default(),
            other_lines: 0,
        })
    }

    /// Takes the number of lines since the last call that bring no message of a subscription:
    /// PING, INFO, errors, and messages for which nobody asked.
    pub(super) fn take_other_lines(&mut self) -> u32 {
        std::mem::take(&mut self.other_lines)
    }

    /// Checks the next data, where this is the last subscription of the client.
    ///
    /// # Errors
    /// A line or a message in it is too long.
    pub(super) fn look(&mut self, bytes: &[u8], last: &LastSubscription) -> Result<(), Excess> {
        let (payload_max, other_lines) = (self.payload_max, &mut self.other_lines);
        self.lines.read(bytes, |line| {
            if line.len() > LINE_BYTES_MAX {
                return Err(Excess::Line);
            }
            let is_message = line.starts_with(b"MSG ") || line.starts_with(b"HMSG ");
            if !is_message || !is_asked_for(line, last) {
                *other_lines = other_lines.saturating_add(1);
            }
            if !is_message {
                return Ok(0);
            }
            let length = message_bytes(line)?;
            match length > payload_max {
                true => Err(Excess::Message(Some(length))),
                false => Ok(length + 2),
            }
        })
    }
}

/// Whether the message of this line has the id of a subscription that the client has made, ended
/// ones among them: a message may be under way when one ends.
fn is_asked_for(line: &[u8], last: &LastSubscription) -> bool {
    let id = words(line).and_then(|mut words| words.nth(2)?.parse::<u64>().ok());
    id.is_some_and(|id| id <= last.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"INFO {\"server_id\":\"a\",\"max_payload\":1048576}\r\n";

    /// Checks a text in pieces of this length.
    fn look(text: &[u8], piece: usize) -> Result<usize, Excess> {
        let mut guard = Guard::of(INFO)?;
        let mut pieces = text.chunks(piece);
        pieces.try_for_each(|bytes| guard.look(bytes, &LastSubscription::new(12)))?;
        Ok(guard.lines.left + guard.lines.line.len())
    }

    #[test]
    fn what_a_server_sends_passes_however_it_is_cut() {
        let text = b"+OK\r\nPING\r\nMSG a.b 1 5\r\nx\r\nyz\r\nHMSG a 12 _r 12 13\r\n\
                     NATS/1.0\r\n\r\nx\r\n-ERR 'no\nline'\r\nINFO {}\r\nMSG a 1 0\r\n\r\nPONG\r\n";
        for piece in 1..=text.len() {
            assert_eq!(look(text, piece), Ok(0), "{piece}");
        }
        let mut long = b"MSG a 1 2000000\r\n".to_vec();
        long.extend(vec![b'x'; 2_000_000]);
        long.extend(b"\r\nPING\r\n");
        assert_eq!(look(&long, 65_536), Ok(0));
    }

    #[test]
    fn a_line_or_a_message_without_an_end_is_cut_off() {
        for begin in [&b"INFO {"[..], b"-ERR '", b"MSG a", b"x\n"] {
            let mut text = begin.to_vec();
            text.extend(vec![b'A'; LINE_BYTES_MAX]);
            assert_eq!(look(&text, 1_000), Err(Excess::Line));
            // The client ends lines only at CR LF.
            let text = [begin, &b"y\n".repeat(LINE_BYTES_MAX)].concat();
            assert_eq!(look(&text, 1_000), Err(Excess::Line));
        }
        let message = |length: &str| look(format!("MSG a 1 {length}\r\n").as_bytes(), 7);
        assert_eq!(
            message("999999999999"),
            Err(Excess::Message(Some(999_999_999_999)))
        );
        for no_number in ["18446744073709551616", "-1", "x", ""] {
            let expected = match no_number {
                // The number before it is the subscription id.
                "" => Ok(1 + 2),
                _ => Err(Excess::Message(None)),
            };
            assert_eq!(message(no_number), expected, "{no_number}");
        }
        let headers = look(b"HMSG a 1 10 18446744073709551615\r\n", 100);
        assert_eq!(headers, Err(Excess::Message(Some(usize::MAX))));
    }

    #[test]
    fn messages_that_nobody_asked_for_are_counted() {
        let (mut sent, last) = (Outgoing::default(), LastSubscription::default());
        let text =
            b"CONNECT {}\r\nSUB a.b 1\r\nPUB x 9\r\nSUB c 7\r\n\r\nHPUB x y 2 5\r\n\r\nabc\r\n\
                     SUB c group 3\r\nUNSUB 3\r\n";
        for bytes in text.chunks(5) {
            sent.look(bytes, &last).expect("these are short lines");
        }
        assert_eq!(last.load(Ordering::Relaxed), 3);
        let mut guard = Guard::of(INFO).expect("it is short");
        let text = b"MSG a 3 1\r\nx\r\nMSG a 4 1\r\nx\r\nHMSG a 2 r 2 2\r\n\r\n\r\nMSG a x 0\r\n\r\nPING\r\n";
        guard.look(text, &last).expect("these are short lines");
        assert_eq!(guard.take_other_lines(), 3);
    }

    #[test]
    fn the_longest_message_is_what_the_server_names_within_bounds() {
        let of = |bytes: usize| {
            let info = format!("INFO {{\"max_payload\":{bytes}}}\r\n");
            Guard::of(info.as_bytes()).map(|guard| guard.payload_max)
        };
        assert_eq!(of(1 << 20), Ok(8 << 20));
        assert_eq!(of(16 << 20), Ok(32 << 20));
        assert_eq!(of(64 << 20), Ok(64 << 20));
        let excess = Excess::MaxPayload((64 << 20) + 1);
        assert_eq!(of((64 << 20) + 1), Err(excess));
        assert!(excess.to_string().contains("67108864 at most"));
    }
}
