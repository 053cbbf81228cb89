//! WebSocket frames (RFC 6455 section 5), server side. Client frames are unmasked in place, and the
//! payloads of all frames of one read are moved to the front of the read buffer, as if they had
//! arrived over TCP.
//!
//! Of MQTT, only two rules apply here: its bytes arrive in binary frames [MQTT-6.0.0-1], and
//! packets may span frames [MQTT-6.0.0-2]. No sockets. No extension is ever negotiated, so reserved
//! bits are violations and nothing is decompressed.

use martlet_broker::WebSocketFault;

/// Longest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_PAYLOAD_MAX: usize = 125;

/// Limit for consecutive data frames without payload: they cost work and have no use.
const EMPTY_FRAMES_MAX: u8 = 32;

/// Longest header of a frame that a client sends: two bytes, a 64-bit length, the masking key.
const HEADER_MAX: usize = 14;

/// Longest header of a frame that the server sends; it does not mask.
pub(crate) const SERVER_HEADER_MAX: usize = 10;

/// Status codes of Close frames (RFC 6455 section 7.4.1) that the server sends.
pub(crate) mod close_code {
    /// Normal closure.
    pub(crate) const NORMAL: u16 = 1000;
    /// Protocol error.
    pub(crate) const PROTOCOL_ERROR: u16 = 1002;
    /// Unsupported data: text [MQTT-6.0.0-1].
    pub(crate) const UNSUPPORTED_DATA: u16 = 1003;
    /// Text that is not valid UTF-8.
    pub(crate) const INVALID_PAYLOAD: u16 = 1007;
    /// Policy violation.
    pub(crate) const POLICY_VIOLATION: u16 = 1008;
    /// Frame too large.
    pub(crate) const TOO_BIG: u16 = 1009;
}

/// Kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A protocol violation by the client, which ends the WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Status code of the Close frame in response.
    pub(crate) code: u16,
    /// The kind of violation.
    pub(crate) fault: WebSocketFault,
}

const fn protocol_error(fault: WebSocketFault) -> Violation {
    Violation {
        code: close_code::PROTOCOL_ERROR,
        fault,
    }
}

/// Why reading of frames ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramesEnd {
    /// A Close frame was received, with its status code, which the response repeats.
    Close(Option<u16>),
    /// The client violated the protocol.
    Violation(Violation),
}

/// Result of one read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frames {
    /// Bytes of payload at the front of the buffer. They arrived before `end` and must be processed
    /// first.
    pub(crate) data_len: usize,
    /// Payload of the last Ping. Earlier Pings of the same read need no separate response (RFC 6455
    /// section 5.5.3).
    pub(crate) ping: Option<Vec<u8>>,
    /// Number of frames that ended.
    pub(crate) count: usize,
    /// Set if no further frame is read; the rest of the buffer is ignored.
    pub(crate) end: Option<FramesEnd>,
}

/// Reads the frames of one connection. Buffers incomplete headers and control frames, but no data
/// payload.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// Received bytes of the header of the current frame.
    header: [u8; HEADER_MAX],
    header_len: u8,
    /// The current frame; `None` while its header is incomplete.
    frame: Option<Frame>,
    /// A message has begun and its last fragment has not been received.
    in_message: bool,
    /// Data frames without payload since the last one with payload.
    empty_frames: u8,
    /// Payload of the current control frame.
    control: Vec<u8>,
    /// Longest payload of a data frame, in bytes.
    payload_max: u64,
}

#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    mask: [u8; 4],
    /// Bytes of the payload still to be received.
    left: u64,
}

impl FrameReader {
    /// Memory use in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.control.capacity()
    }

    /// Creates a reader. Data frames longer than `payload_max` bytes are violations.
    pub(crate) fn new(payload_max: u64) -> Self {
        Self {
            header: [0; HEADER_MAX],
            header_len: 0,
            frame: None,
            in_message: false,
            empty_frames: 0,
            control: Vec::new(),
            payload_max,
        }
    }

    /// Reads all frames in `bytes` and moves the payload of data frames to the front of it.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> Frames {
        let mut found = Frames {
            data_len: 0,
            ping: None,
            count: 0,
            end: None,
        };
        let mut at = 0;
        while at < bytes.len() {
            let step = match self.frame {
                None => self.read_header(&bytes[at..]),
                Some(_) => Ok(self.read_payload(bytes, at, &mut found.data_len)),
            };
            match step {
                Ok(read) => at += read,
                Err(violation) => {
                    found.end = Some(FramesEnd::Violation(violation));
                    return found;
                }
            }
            if self.frame.as_ref().is_some_and(|frame| frame.left == 0) {
                found.count += 1;
                found.end = self.finish_frame(&mut found.ping);
                if found.end.is_some() {
                    return found;
                }
            }
        }
        found
    }

    /// Consumes header bytes until the frame's header is complete. Returns how many it consumed.
    fn read_header(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut taken = 0;
        loop {
            let have = usize::from(self.header_len);
            if have == 2 {
                self.check_header_start()?;
            }
            let need = if have < 2 {
                2
            } else {
                header_len(self.header[1])
            };
            if have == need {
                self.begin_frame()?;
                return Ok(taken);
            }
            let count = (need - have).min(bytes.len() - taken);
            if count == 0 {
                return Ok(taken);
            }
            self.header[have..have + count].copy_from_slice(&bytes[taken..taken + count]);
            taken += count;
            self.header_len += count as u8;
        }
    }

    /// Rejects violations that are visible in the first two bytes.
    fn check_header_start(&self) -> Result<Opcode, Violation> {
        let [first, second] = [self.header[0], self.header[1]];
        if first & 0x70 != 0 {
            return Err(protocol_error(WebSocketFault::ReservedBits));
        }
        let opcode = match first & 0x0F {
            0x0 => Opcode::Continuation,
            // [MQTT-6.0.0-1]
            0x1 => {
                let fault = WebSocketFault::TextFrame;
                return Err(Violation {
                    code: close_code::UNSUPPORTED_DATA,
                    fault,
                });
            }
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return Err(protocol_error(WebSocketFault::ReservedOpcode)),
        };
        if second & 0x80 == 0 {
            return Err(protocol_error(WebSocketFault::NotMasked));
        }
        if opcode.is_control() {
            if first & 0x80 == 0 {
                return Err(protocol_error(WebSocketFault::FragmentedControl));
            }
            if usize::from(second & 0x7F) > CONTROL_PAYLOAD_MAX {
                return Err(protocol_error(WebSocketFault::ControlTooLong));
            }
        }
        match (opcode, self.in_message) {
            (Opcode::Continuation, false) => Err(protocol_error(WebSocketFault::NothingToContinue)),
            (Opcode::Binary, true) => Err(protocol_error(WebSocketFault::MessageUnfinished)),
            _ => Ok(opcode),
        }
    }

    /// The header is complete: checks its length and begins the payload.
    fn begin_frame(&mut self) -> Result<(), Violation> {
        let opcode = self.check_header_start()?;
        let (left, mask_at) = match self.header[1] & 0x7F {
            126 => (
                u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
                4,
            ),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.header[2..10]);
                (u64::from_be_bytes(length), 10)
            }
            short => (u64::from(short), 2),
        };
        let shortest = match mask_at {
            4 => 126,
            10 => 0x1_0000,
            _ => 0,
        };
        if left < shortest || left > i64::MAX as u64 {
            return Err(protocol_error(WebSocketFault::LengthForm));
        }
        if left > self.payload_max {
            let fault = WebSocketFault::FrameTooLong;
            return Err(Violation {
                code: close_code::TOO_BIG,
                fault,
            });
        }
        if !opcode.is_control() {
            self.in_message = self.header[0] & 0x80 == 0;
            if left > 0 {
                self.empty_frames = 0;
            } else if self.empty_frames == EMPTY_FRAMES_MAX {
                let fault = WebSocketFault::EmptyFrames;
                return Err(Violation {
                    code: close_code::POLICY_VIOLATION,
                    fault,
                });
            } else {
                self.empty_frames += 1;
            }
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[mask_at..mask_at + 4]);
        self.header_len = 0;
        self.frame = Some(Frame { opcode, mask, left });
        Ok(())
    }

    /// Consumes payload from `bytes[at..]`. Returns how many bytes.
    fn read_payload(&mut self, bytes: &mut [u8], at: usize, data_len: &mut usize) -> usize {
        let Some(frame) = &mut self.frame else {
            return 0;
        };
        let there = bytes.len() - at;
        let count = usize::try_from(frame.left).map_or(there, |left| left.min(there));
        if frame.opcode.is_control() {
            let start = self.control.len();
            self.control.extend_from_slice(&bytes[at..at + count]);
            unmask(&mut self.control[start..], frame.mask);
        } else {
            bytes.copy_within(at..at + count, *data_len);
            unmask(&mut bytes[*data_len..*data_len + count], frame.mask);
            *data_len += count;
        }
        frame.mask.rotate_left(count % 4);
        frame.left -= count as u64;
        count
    }

    /// Ends the current frame. Returns why reading ends, if the frame ends the connection.
    fn finish_frame(&mut self, ping: &mut Option<Vec<u8>>) -> Option<FramesEnd> {
        let frame = self.frame.take()?;
        let control = core::mem::take(&mut self.control);
        match frame.opcode {
            Opcode::Continuation | Opcode::Binary | Opcode::Pong => None,
            Opcode::Ping => {
                *ping = Some(control);
                None
            }
            Opcode::Close => Some(close_of(&control)),
        }
    }
}

/// Length of a client's header whose second byte is `second`.
fn header_len(second: u8) -> usize {
    match second & 0x7F {
        126 => 8,
        127 => 14,
        _ => 6,
    }
}

/// Reads the payload of a Close frame.
fn close_of(payload: &[u8]) -> FramesEnd {
    let (code, reason) = match payload {
        [] => return FramesEnd::Close(None),
        [_] => return FramesEnd::Violation(protocol_error(WebSocketFault::CloseHalfCode)),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return FramesEnd::Violation(protocol_error(WebSocketFault::CloseCode));
    }
    if core::str::from_utf8(reason).is_err() {
        let fault = WebSocketFault::CloseNotUtf8;
        return FramesEnd::Violation(Violation {
            code: close_code::INVALID_PAYLOAD,
            fault,
        });
    }
    FramesEnd::Close(Some(code))
}

/// Removes the mask, eight bytes at a time; `mask[0]` belongs to the first byte.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Writes the header of a binary frame with `payload_len` bytes into `header`. Returns its length.
pub(crate) fn binary_header(payload_len: usize, header: &mut [u8; SERVER_HEADER_MAX]) -> usize {
    header[0] = 0x82;
    match payload_len {
        0..=125 => {
            header[1] = payload_len as u8;
            2
        }
        126..=0xFFFF => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    }
}

/// Appends a Pong frame. `payload` comes from a Ping, so it has at most 125 bytes.
pub(crate) fn append_pong(out: &mut Vec<u8>, payload: &[u8]) {
    debug_assert!(
        payload.len() <= CONTROL_PAYLOAD_MAX,
        "a Ping's payload is short"
    );
    out.extend_from_slice(&[0x8A, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// Appends a Close frame, with the status code if there is one.
pub(crate) fn append_close(out: &mut Vec<u8>, code: Option<u16>) {
    match code {
        Some(code) => {
            out.extend_from_slice(&[0x88, 2]);
            out.extend_from_slice(&code.to_be_bytes());
        }
        None => out.extend_from_slice(&[0x88, 0]),
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
