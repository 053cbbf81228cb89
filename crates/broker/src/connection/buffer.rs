//! Bytes that came and are not worked off, or are to go and not written; and the pool from which
//! connections borrow room for them.

use std::collections::VecDeque;

use martlet_codec::PacketType;

use crate::id::MessageId;

/// Bytes that came and are not worked off, or are to go and not written.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    /// How many of the first bytes are done with: written, or looked at and held back.
    pub(crate) done: u32,
    /// QoS 0 messages in output, of which this many are held (idea 6).
    pub(crate) qos0: u32,
    /// The QoS 0 messages whose delivery has to be reported, in order.
    pub(crate) unreported_deliveries: VecDeque<UnreportedDelivery>,
    /// Capacity when that was last charged.
    pub(crate) charged: u32,
    /// Last time the peer took output, or there was none.
    pub(crate) last_progress_ms: u64,
}

impl Buffer {
    /// Takes out QoS 0 messages none of whose bytes has been written; how many.
    pub(crate) fn drop_qos0(&mut self) -> u32 {
        if !self.unreported_deliveries.is_empty() {
            // Their places count those before them.
            return 0;
        }
        let mut kept = Vec::new();
        let (mut at, mut dropped) = (0, 0);
        while let Some((length, is_qos0)) = packet_at(&self.bytes[at..]) {
            let end = (at + length).min(self.bytes.len());
            match is_qos0 && at >= self.done as usize {
                true => dropped += 1,
                false => kept.extend_from_slice(&self.bytes[at..end]),
            }
            at = end;
        }
        kept.extend_from_slice(&self.bytes[at..]);
        self.bytes = kept;
        self.qos0 -= dropped;
        dropped
    }

    /// `count` bytes have been written, which is not all.
    pub(crate) fn wrote(&mut self, count: usize) -> u32 {
        let until = self.done as usize + count;
        let (delivered, boundary) = self.packets_written(until);
        self.qos0 -= delivered;
        self.done = until as u32;
        // Only whole packets are cut off, so that the buffer always begins with a packet's start.
        if boundary > self.bytes.len() / 2 {
            self.bytes.drain(..boundary);
            self.done -= boundary as u32;
        }
        delivered
    }

    /// How many QoS 0 PUBLISH packets end between the bytes written before and `until`, and where
    /// the last packet that is written whole ends.
    pub(crate) fn packets_written(&self, until: usize) -> (u32, usize) {
        let (mut delivered, mut boundary) = (0, 0);
        while let Some((length, qos0)) = packet_at(&self.bytes[boundary..]) {
            let end = boundary + length;
            if end > until {
                break;
            }
            delivered += u32::from(qos0 && end > self.done as usize);
            boundary = end;
        }
        (delivered, boundary)
    }
}

/// Length of the packet at the front of our own output and whether it is a QoS 0 PUBLISH.
fn packet_at(bytes: &[u8]) -> Option<(usize, bool)> {
    let header = martlet_codec::decode_fixed_header(bytes).ok().flatten()?;
    let publish = header.packet_type == PacketType::Publish;
    Some((header.packet_len(), publish && header.flags & 0b0110 == 0))
}

/// Buffers that connections borrow while they have something in them.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    // Boxed where they are used, so that they are not moved into boxes and out.
    #[expect(
        clippy::vec_box,
        reason = "they go to connections and come back in their boxes"
    )]
    free: Vec<Box<Buffer>>,
    /// Room in them, bytes.
    bytes: usize,
}

/// Capacity of a fresh buffer: more than CONNACK needs. Those of busy connections grow, and stay so
/// in the pool.
const BUFFER_BYTES: usize = 512;
/// A buffer that grew beyond this is not kept. It is more than what one read brings, since buffers
/// double: else those of connections with large messages would grow anew each time.
const KEPT_BYTES: usize = 128 * 1024;
/// Buffers kept.
const KEPT: usize = 128;

impl BufferPool {
    pub(crate) fn take(&mut self) -> Box<Buffer> {
        if let Some(buffer) = self.free.pop() {
            self.bytes -= buffer.bytes.capacity();
            return buffer;
        }
        Box::new(Buffer {
            bytes: Vec::with_capacity(BUFFER_BYTES),
            ..Buffer::default()
        })
    }

    /// Bytes of the buffers that wait to be used.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn put(&mut self, buffer: Option<Box<Buffer>>) {
        let Some(mut buffer) = buffer else { return };
        let bytes = buffer.bytes.capacity();
        if bytes == 0 || bytes > KEPT_BYTES || self.free.len() >= KEPT {
            return drop_buffer(buffer);
        }
        buffer.bytes.clear();
        (buffer.done, buffer.qos0, buffer.charged) = (0, 0, 0);
        if !buffer.unreported_deliveries.is_empty() {
            buffer.unreported_deliveries.clear();
        }
        self.bytes += bytes;
        self.free.push(buffer);
    }
}

/// Out of the way of those that are kept.
#[cold]
fn drop_buffer(buffer: Box<Buffer>) {
    drop(buffer);
}

/// A QoS 0 message in an output whose delivery is to be reported.
#[derive(Debug)]
pub(crate) struct UnreportedDelivery {
    /// QoS 0 messages of the output up to this one that have not left.
    pub(crate) left: u32,
    pub(crate) topic: Box<str>,
    pub(crate) id: MessageId,
    pub(crate) received_mono_ms: u64,
}

impl UnreportedDelivery {
    /// Notes that `count` QoS 0 messages have left; returns whether this message is one of them.
    pub(crate) fn has_left(&mut self, count: u32) -> bool {
        self.left = self.left.saturating_sub(count);
        self.left == 0
    }
}
