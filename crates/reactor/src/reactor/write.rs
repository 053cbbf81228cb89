//! One write to a socket: the shard's output in its TLS and WebSocket framing.

use std::io::{self, IoSlice};

use crate::layers::Layers;
use crate::poll::Stream;
use crate::tls::Tls;
use crate::websocket::{SERVER_HEADER_MAX, WebSocket, binary_header};

/// Longest payload of a sent WebSocket frame in bytes. It limits how much a slow client can make
/// the node copy.
const FRAME_PAYLOAD_MAX: usize = 256 * 1024;

/// Result of one system call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wrote {
    /// Bytes that the kernel took.
    pub(super) written: usize,
    /// Bytes of the shard's output that must not be offered again.
    pub(super) taken: usize,
    /// The socket's send buffer is full.
    pub(super) blocked: bool,
}

/// Writes bytes of the layers, then `output`. Returns `None` if there is nothing to write.
pub(super) fn write_output(
    stream: &mut Stream,
    layers: Option<&mut Layers>,
    output: &[u8],
) -> Option<io::Result<Wrote>> {
    let Some(layers) = layers else {
        if output.is_empty() {
            return None;
        }
        let wrote = stream.write(output).or_else(nothing_if_blocked);
        let all = output.len();
        return Some(wrote.map(|written| Wrote {
            written,
            taken: written,
            blocked: written < all,
        }));
    };
    let mut below = Below {
        stream,
        tls: layers.tls.as_mut(),
    };
    match &mut layers.web {
        Some(web) => write_web_socket(&mut below, web, output),
        None if output.is_empty() && !below.has_output() => None,
        None => Some(below.write(&[IoSlice::new(output)])),
    }
}

/// The transport below a WebSocket connection.
struct Below<'a> {
    stream: &'a mut Stream,
    tls: Option<&'a mut Tls>,
}

impl Below<'_> {
    fn has_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_output())
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<Wrote> {
        if let Some(tls) = &mut self.tls {
            let wrote = tls.write(self.stream, parts)?;
            return Ok(Wrote {
                written: wrote.written,
                taken: wrote.taken,
                blocked: wrote.blocked,
            });
        }
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let written = self.stream.write_vectored(parts);
        let written = written.or_else(nothing_if_blocked)?;
        Ok(Wrote {
            written,
            taken: written,
            blocked: written < all,
        })
    }
}

/// Writes pending bytes of the WebSocket connection, then `output` as one binary frame
/// [MQTT-6.0.0-1]. The rest of a partly written frame is buffered.
fn write_web_socket(
    below: &mut Below<'_>,
    web: &mut WebSocket,
    output: &[u8],
) -> Option<io::Result<Wrote>> {
    web.answer_ping();
    let payload = &output[..output.len().min(FRAME_PAYLOAD_MAX)];
    if web.out.is_empty() && payload.is_empty() && !below.has_output() {
        return None;
    }
    let mut header = [0; SERVER_HEADER_MAX];
    let header_len = if payload.is_empty() {
        0
    } else {
        binary_header(payload.len(), &mut header)
    };
    let header = &header[..header_len];
    let parts = [
        IoSlice::new(&web.out),
        IoSlice::new(header),
        IoSlice::new(payload),
    ];
    let wrote = match below.write(&parts) {
        Ok(wrote) => wrote,
        Err(error) => return Some(Err(error)),
    };
    let (written, blocked) = (wrote.written, wrote.blocked);
    let before = web.out.len();
    let cut = wrote.taken < before + header_len + payload.len();
    let of_frame = wrote.taken.checked_sub(before);
    let Some(of_frame) = of_frame.filter(|of_frame| *of_frame > 0) else {
        web.out.drain(..wrote.taken);
        return Some(Ok(Wrote {
            written,
            taken: 0,
            blocked,
        }));
    };
    // An idle connection keeps no buffer.
    web.out = Vec::new();
    if cut {
        web.out
            .extend_from_slice(&header[of_frame.min(header_len)..]);
        web.out
            .extend_from_slice(&payload[of_frame.saturating_sub(header_len)..]);
    }
    Some(Ok(Wrote {
        written,
        taken: payload.len(),
        blocked,
    }))
}

fn nothing_if_blocked(error: io::Error) -> io::Result<usize> {
    if error.kind() == io::ErrorKind::WouldBlock {
        Ok(0)
    } else {
        Err(error)
    }
}
