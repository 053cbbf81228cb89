//! One connection of the load generator: a socket, its output, and an incomplete packet.
//!
//! Responsible for reading into a buffer that all connections share, and for writing with as few
//! system calls as possible. The use of packets is decided elsewhere.

use std::io;
use std::time::Instant;

use martlet_codec::{DecodeError, Packet, ProtocolVersion, decode_fixed_header};
use mio::net::TcpStream;

use super::wire::Wire;

/// Most reads of one connection per turn, so that none starves the others.
const READS_MAX: usize = 4;

/// Capacity of the output buffer that is kept after writing.
const OUTPUT_KEPT_BYTES: usize = 64 * 1024;

/// State of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The TCP connection is being established.
    Connecting,
    /// CONNECT was sent.
    AwaitingConnAck,
    /// SUBSCRIBE was sent.
    AwaitingSubAck,
    /// The setup has completed.
    Ready,
    /// DISCONNECT was sent.
    Closing,
    /// Refused, failed or lost.
    Closed,
}

/// A connection.
pub(super) struct Connection {
    wire: Wire,
    pub(super) phase: Phase,
    /// When connecting began.
    pub(super) began: Instant,
    /// Bytes to be sent.
    pub(super) output: Vec<u8>,
    written: usize,
    /// The received bytes of an incomplete packet.
    partial: Vec<u8>,
    /// Whether it is listed for writing at the end of this turn.
    pub(super) dirty: bool,
}

/// Result of handling a packet: continue, or close the connection for this reason.
pub(super) type Received = Result<(), String>;

/// Result of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// Everything available was read.
    Drained,
    /// There may be more to read.
    More,
    /// The broker closed the connection.
    Closed,
}

impl Connection {
    /// Creates a connection whose TCP connection has begun.
    pub(super) fn new(wire: Wire, began: Instant) -> Self {
        let phase = Phase::Connecting;
        let (output, partial) = (Vec::new(), Vec::new());
        Self {
            wire,
            phase,
            began,
            output,
            written: 0,
            partial,
            dirty: false,
        }
    }

    /// The socket, for registering it and for reading its error.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        self.wire.socket()
    }

    /// Reads available bytes into `buffer` and passes each packet to `receive`, with the output for
    /// answers. The time of a packet is that of its read.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        version: ProtocolVersion,
        mut receive: impl FnMut(&mut Phase, Packet<'_>, Instant, &mut Vec<u8>) -> Received,
    ) -> Result<ReadEnd, String> {
        let mut filled = self.partial.len();
        buffer[..filled].copy_from_slice(&self.partial);
        self.partial.clear();
        let mut end = ReadEnd::More;
        for _ in 0..READS_MAX {
            let room = buffer.len() - filled;
            if room == 0 {
                return Err("a packet larger than the read buffer".into());
            }
            let count = match self.wire.read(&mut buffer[filled..]) {
                Ok(0) => {
                    end = ReadEnd::Closed;
                    break;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    end = ReadEnd::Drained;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            filled += count;
            let now = Instant::now();
            let mut used = 0;
            while let Some((packet, len)) = decode(&buffer[used..filled], version)
                .map_err(|error| fault(&error, self.phase, &buffer[used..filled]))?
            {
                receive(&mut self.phase, packet, now, &mut self.output)?;
                used += len;
            }
            buffer.copy_within(used..filled, 0);
            filled -= used;
            if count < room && self.wire.short_is_all() {
                end = ReadEnd::Drained;
                break;
            }
        }
        self.partial.extend_from_slice(&buffer[..filled]);
        Ok(end)
    }

    /// Writes as much as the system accepts.
    pub(super) fn write(&mut self) -> Result<(), String> {
        while self.written < self.output.len() {
            match self.wire.write(&self.output[self.written..]) {
                Ok(0) => return Err("the broker closed the connection".into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.written = 0;
        self.output.clear();
        self.output.shrink_to(OUTPUT_KEPT_BYTES);
        self.wire.flush().map_err(|error| error.to_string())
    }

    /// Closes the connection on our side and frees its buffers.
    pub(super) fn discard(&mut self) {
        // The connection may have ended already.
        let _ = self.wire.socket().shutdown(std::net::Shutdown::Both);
        self.output = Vec::new();
        self.written = 0;
        self.partial = Vec::new();
    }

    /// Whether there is output to write.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.wire.holds_output()
    }

    /// Number of bytes not yet written.
    pub(super) fn output_len(&self) -> usize {
        self.output.len() - self.written
    }
}

/// Text about bytes that are no packet.
fn fault(error: &DecodeError, phase: Phase, bytes: &[u8]) -> String {
    let other = other_protocol(bytes).filter(|_| phase == Phase::AwaitingConnAck);
    other.map_or_else(|| error.to_string(), str::to_owned)
}

/// Text about a server whose first bytes are of another protocol than MQTT; none: they are not.
pub(crate) fn other_protocol(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [b'H', b'T', b'T', b'P', b'/', ..] => Some(
            "the server answered with HTTP, not with MQTT. The port is a port of HTTP, or of MQTT \
             over WebSocket: give the port of MQTT, often 1883",
        ),
        // The alert of a TLS server, whatever its version.
        [0x15, 0x03, ..] => Some(
            "the server answered with TLS. The port is a TLS port: give the CA of the server with \
             --cafile FILE, or --tls-use-os-certs",
        ),
        _ => None,
    }
}

#[inline]
fn decode(
    bytes: &[u8],
    version: ProtocolVersion,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some(header) = decode_fixed_header(bytes)? else {
        return Ok(None);
    };
    let len = header.packet_len();
    let Some(body) = bytes.get(usize::from(header.header_len)..len) else {
        return Ok(None);
    };
    Packet::decode(header, body, version).map(|packet| Some((packet, len)))
}
