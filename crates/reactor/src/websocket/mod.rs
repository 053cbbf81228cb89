//! A WebSocket connection without I/O, from its HTTP request to its Close frame. Input: bytes of
//! the socket. Output: bytes of MQTT, and bytes to be written in addition to MQTT.
//!
//! Has no MQTT packets and no sockets. RFC 6455; MQTT 5.0 section 6.

mod frame;
mod upgrade;

use std::sync::Arc;

pub(crate) use frame::{SERVER_HEADER_MAX, binary_header};
pub(crate) use upgrade::UpgradeRules;

use frame::{FrameReader, FramesEnd, close_code};
use martlet_broker::WebSocketFault;
use upgrade::HEAD_LEN_MAX;

/// Number of bytes by which a frame may exceed the largest packet: room for other packets in the
/// same frame.
const FRAME_SLACK: u64 = 64 * 1024;

/// State of one WebSocket connection.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stage: Stage,
    /// Bytes that must be written before any further MQTT: an HTTP response, the rest of a frame, a
    /// Close frame.
    pub(crate) out: Vec<u8>,
    /// A Pong to be sent when `out` is empty. The Pong for a later Ping replaces it, so that a
    /// client that sends Pings and reads nothing cannot make the node buffer answers.
    pong: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Stage {
    /// The request is incomplete; `head` holds the received part.
    Upgrading {
        head: Vec<u8>,
        rules: Arc<UpgradeRules>,
        packet_len_max: u64,
    },
    /// Frames are exchanged.
    Open { reader: FrameReader },
    /// A Close frame or a refusal has been sent, or waits to be sent. Received bytes are ignored.
    Ended,
}

/// Result of one read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes of MQTT at the front of the buffer. They arrived before `end`.
    pub(crate) data_len: usize,
    /// Number of frames that ended.
    pub(crate) frames: usize,
    /// Set if the connection has ended.
    pub(crate) end: Option<WebSocketEnd>,
}

impl Received {
    /// No MQTT, and no end.
    const NOTHING: Self = Self {
        data_len: 0,
        frames: 0,
        end: None,
    };
}

/// How the client ended a WebSocket connection. The response is in `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebSocketEnd {
    /// A Close frame was received.
    Closed,
    /// The client violated the protocol, or its request was refused.
    Violation(WebSocketFault),
}

impl WebSocket {
    /// Waits for a request that complies with `rules`. A frame may hold a packet of
    /// `packet_len_max` bytes.
    pub(crate) fn new(rules: Arc<UpgradeRules>, packet_len_max: u64) -> Self {
        let stage = Stage::Upgrading {
            head: Vec::new(),
            rules,
            packet_len_max,
        };
        Self {
            stage,
            out: Vec::new(),
            pong: None,
        }
    }

    /// Processes bytes read from the socket, in place.
    pub(crate) fn receive(&mut self, bytes: &mut [u8]) -> Received {
        match &mut self.stage {
            Stage::Upgrading { .. } => self.receive_request(bytes),
            Stage::Open { .. } => self.receive_frames(bytes),
            Stage::Ended => Received::NOTHING,
        }
    }

    /// Memory use in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let unfinished = match &self.stage {
            Stage::Upgrading { head, .. } => head.capacity(),
            Stage::Open { reader } => reader.bytes(),
            Stage::Ended => 0,
        };
        unfinished + self.out.capacity() + self.pong.as_ref().map_or(0, Vec::capacity)
    }

    /// Whether MQTT may be sent: the request has been accepted and no Close frame has been queued.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// Closes the connection normally from the server's side; once.
    pub(crate) fn close(&mut self) {
        if self.is_open() {
            frame::append_close(&mut self.out, Some(close_code::NORMAL));
        }
        self.stage = Stage::Ended;
    }

    /// Whether bytes other than MQTT wait to be written.
    pub(crate) fn has_answers(&self) -> bool {
        !self.out.is_empty() || self.pong.is_some()
    }

    /// Moves a pending Pong to `out`, which must be written next.
    pub(crate) fn answer_ping(&mut self) {
        if self.out.is_empty()
            && self.is_open()
            && let Some(payload) = self.pong.take()
        {
            frame::append_pong(&mut self.out, &payload);
        }
    }

    fn receive_request(&mut self, bytes: &mut [u8]) -> Received {
        let Stage::Upgrading {
            head,
            rules,
            packet_len_max,
        } = &mut self.stage
        else {
            return Received::NOTHING;
        };
        let before = head.len();
        // One byte more than allowed is enough to detect a head that is too long.
        let room = (HEAD_LEN_MAX + 1 - before).min(bytes.len());
        head.extend_from_slice(&bytes[..room]);
        // Only the end of a line can complete the request. This check avoids parsing the request
        // again for each byte of a slow sender.
        if before > 0 && head.len() < HEAD_LEN_MAX && !bytes.contains(&b'\n') {
            return Received::NOTHING;
        }
        match upgrade::read_request(head, rules) {
            Ok(None) => Received::NOTHING,
            Ok(Some(acceptance)) => {
                acceptance.append_response(&mut self.out);
                let reader = FrameReader::new(*packet_len_max + FRAME_SLACK);
                self.stage = Stage::Open { reader };
                let frames_at = acceptance.head_len - before;
                bytes.copy_within(frames_at.., 0);
                let frames_len = bytes.len() - frames_at;
                self.receive_frames(&mut bytes[..frames_len])
            }
            Err(bad) => {
                bad.append_response(&mut self.out);
                self.stage = Stage::Ended;
                Received {
                    end: Some(WebSocketEnd::Violation(bad.fault)),
                    ..Received::NOTHING
                }
            }
        }
    }

    fn receive_frames(&mut self, bytes: &mut [u8]) -> Received {
        let Stage::Open { reader } = &mut self.stage else {
            return Received::NOTHING;
        };
        let found = reader.read(bytes);
        if found.ping.is_some() {
            self.pong = found.ping;
        }
        let end = found.end.map(|end| {
            self.stage = Stage::Ended;
            match end {
                FramesEnd::Close(code) => {
                    frame::append_close(&mut self.out, code);
                    WebSocketEnd::Closed
                }
                FramesEnd::Violation(violation) => {
                    frame::append_close(&mut self.out, Some(violation.code));
                    WebSocketEnd::Violation(violation.fault)
                }
            }
        });
        Received {
            data_len: found.data_len,
            frames: found.count,
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origins;

    const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    /// PINGREQ in a frame masked with zeros.
    const FRAME: &[u8] = &[0x82, 0x82, 0, 0, 0, 0, 0xC0, 0x00];

    fn web_socket() -> WebSocket {
        let rules = UpgradeRules {
            path: "/mqtt".into(),
            origins: Origins::All,
        };
        WebSocket::new(Arc::new(rules), 1000)
    }

    #[test]
    fn frames_right_behind_the_request_are_read() {
        for read_len in 1..REQUEST.len() + FRAME.len() {
            let mut web = web_socket();
            let mut data = Vec::new();
            for chunk in [REQUEST, FRAME].concat().chunks_mut(read_len) {
                let received = web.receive(chunk);
                assert_eq!(received.end, None);
                data.extend_from_slice(&chunk[..received.data_len]);
            }
            assert!(web.is_open());
            assert_eq!(data, [0xC0, 0x00]);
            assert!(web.out.starts_with(b"HTTP/1.1 101 "));
        }
    }

    #[test]
    fn a_refused_request_is_answered_and_nothing_after_it_counts() {
        let mut web = web_socket();
        let received = web.receive(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec());
        assert!(matches!(received.end, Some(WebSocketEnd::Violation(_))));
        assert!(web.out.starts_with(b"HTTP/1.1 404 "));
        let written = web.out.len();
        assert_eq!(web.receive(&mut REQUEST.to_vec()), Received::NOTHING);
        assert_eq!(web.out.len(), written);
    }

    #[test]
    fn a_request_that_never_ends_is_refused_at_its_limit_byte_by_byte_too() {
        for read_len in [1, 1000, 1 << 20] {
            let mut web = web_socket();
            let mut request = b"GET /mqtt HTTP/1.1\r\nX: ".to_vec();
            request.resize(1 << 20, b'a');
            let read = request
                .chunks_mut(read_len)
                .position(|chunk| web.receive(chunk).end.is_some());
            assert!(read.unwrap() * read_len <= HEAD_LEN_MAX);
            assert!(web.out.starts_with(b"HTTP/1.1 431 "));
        }
    }

    #[test]
    fn unread_pongs_do_not_pile_up() {
        let mut web = web_socket();
        web.receive(&mut REQUEST.to_vec());
        web.out.clear();
        for count in 0..1000u16 {
            let [high, low] = count.to_be_bytes();
            web.receive(&mut [0x89, 0x82, 0, 0, 0, 0, high, low]);
        }
        web.answer_ping();
        assert_eq!(web.out, [0x8A, 2, 0x03, 0xE7]);
        web.answer_ping();
        assert_eq!(web.out.len(), 4);
    }

    #[test]
    fn a_close_frame_is_answered_with_its_code() {
        let mut web = web_socket();
        web.receive(&mut REQUEST.to_vec());
        web.out.clear();
        let received = web.receive(&mut [0x88, 0x82, 0, 0, 0, 0, 0x0F, 0xA0]);
        assert_eq!(received.end, Some(WebSocketEnd::Closed));
        assert_eq!(web.out, [0x88, 2, 0x0F, 0xA0]);
        web.close();
        assert_eq!(web.out.len(), 4, "one Close frame is enough");
    }
}
