//! The latest events, in blocks: what came together is kept, shown and forgotten together.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use martlet_broker::TenantId;

use crate::feed::entry::{EntryContent, EventOf, FeedEntry};

/// Events of a block, at most, and bytes of them, approximately.
const BLOCK: usize = 256;
const BLOCK_BYTES: usize = 64 * 1024;

/// Limits of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events.
    pub events: usize,
    /// Bytes of these events, approximately.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            events: 65_536,
            bytes: 32 << 20,
        }
    }
}

/// Events whose numbers follow each other; never empty.
#[derive(Debug)]
pub struct Block {
    /// The number of the first one.
    first: u64,
    /// Time of the first one, milliseconds since the Unix epoch.
    at_ms: u64,
    kept: Box<[BlockEntry]>,
    bytes: usize,
}

/// An event of a block; its place gives its number. There may be ten thousands of them.
#[derive(Debug)]
struct BlockEntry {
    content: EntryContent,
    tenant: TenantId,
    /// Milliseconds since the first one of the block.
    since_ms: i32,
}

/// Some events of a block.
#[derive(Debug)]
pub struct BlockPart {
    /// Block that has them.
    pub block: Arc<Block>,
    /// Where in it: runs, in order, none of them empty.
    pub runs: Vec<Range<usize>>,
}

impl Block {
    /// The one at this place.
    pub fn entry(&self, at: usize) -> Option<FeedEntry<'_>> {
        Some(self.shown(at, self.kept.get(at)?))
    }

    /// All of them, in order.
    pub fn entries(&self) -> impl Iterator<Item = FeedEntry<'_>> {
        let kept = self.kept.iter().enumerate();
        kept.map(|(at, kept)| self.shown(at, kept))
    }

    fn shown<'a>(&self, at: usize, kept: &'a BlockEntry) -> FeedEntry<'a> {
        FeedEntry {
            seq: self.first + at as u64,
            at_ms: self.at_ms.saturating_add_signed(kept.since_ms.into()),
            kind: kept.content.kind(),
            tenant: kept.tenant,
            content: &kept.content,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The number of the first one.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number behind the last one.
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}

impl BlockPart {
    /// In order.
    pub fn entries(&self) -> impl Iterator<Item = FeedEntry<'_>> {
        let runs = self.runs.iter().cloned();
        runs.flatten().filter_map(|at| self.block.entry(at))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }
}

/// Puts events into blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    finished: Vec<Arc<Block>>,
    /// Events of the block that is being made.
    kept: Vec<BlockEntry>,
    first: u64,
    at_ms: u64,
    bytes: usize,
}

impl Blocks {
    /// Puts the next event behind the others.
    pub(super) fn push(&mut self, seq: u64, at_ms: u64, tenant: TenantId, content: EntryContent) {
        let since_ms = |first_ms: u64| i32::try_from(at_ms.checked_signed_diff(first_ms)?).ok();
        let since_ms = since_ms(self.at_ms).filter(|_| !self.kept.is_empty());
        if since_ms.is_none() {
            self.close();
            (self.first, self.at_ms) = (seq, at_ms);
        }
        self.bytes += weight(&content);
        self.kept.push(BlockEntry {
            content,
            tenant,
            since_ms: since_ms.unwrap_or(0),
        });
        if self.kept.len() >= BLOCK || self.bytes >= BLOCK_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        // A new list of the right length: one that grew keeps more than it needs.
        let kept: Box<[BlockEntry]> = self.kept.drain(..).collect();
        self.finished.push(Arc::new(Block {
            first: self.first,
            at_ms: self.at_ms,
            kept,
            bytes: std::mem::take(&mut self.bytes),
        }));
    }

    pub(super) fn into_blocks(mut self) -> Vec<Arc<Block>> {
        self.close();
        self.finished
    }
}

/// Events that are kept.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) bounds: Bounds,
    /// Some events of the first block may be too old already.
    blocks: VecDeque<Arc<Block>>,
    bytes: usize,
    /// The number of the next event.
    next: u64,
}

impl Ring {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            blocks: VecDeque::new(),
            bytes: 0,
            next: 1,
        }
    }

    /// The answer is what is not kept any more, to be dropped without the lock.
    pub(super) fn push(&mut self, blocks: Vec<Arc<Block>>) -> Vec<Arc<Block>> {
        for block in blocks {
            self.bytes += block.bytes;
            self.next = block.end();
            self.blocks.push_back(block);
        }
        let mut removed = Vec::new();
        while let Some(oldest) = self.blocks.front()
            && (oldest.end() <= self.too_old()
                || self.bytes > self.bounds.bytes && self.blocks.len() > 1)
        {
            self.bytes -= oldest.bytes;
            removed.extend(self.blocks.pop_front());
        }
        removed
    }

    /// Number before which events are no longer kept.
    fn too_old(&self) -> u64 {
        self.next.saturating_sub(self.bounds.events as u64)
    }

    /// Approximate number of bytes of all events.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The number of the first one that is kept.
    pub(super) fn first(&self) -> u64 {
        let first = self.blocks.front().map(|block| block.first());
        first.map_or(self.next, |first| first.max(self.too_old()))
    }

    /// Number of events that are kept.
    pub(super) fn len(&self) -> usize {
        (self.next - self.first()) as usize
    }

    /// At most `most` events, from this number on, of which all are still kept. Once they have
    /// `bytes_max` bytes no other block follows.
    pub(super) fn from(&self, next: u64, most: usize, bytes_max: usize) -> Vec<BlockPart> {
        let at = self.blocks.partition_point(|block| block.end() <= next);
        let (mut parts, mut left, mut bytes) = (Vec::new(), most, 0);
        for block in self.blocks.range(at..) {
            bytes += block.bytes;
            if bytes > bytes_max && !parts.is_empty() {
                break;
            }
            let start = next.saturating_sub(block.first()) as usize;
            let end = block.len().min(start + left);
            if start == end {
                break;
            }
            left -= end - start;
            parts.push(BlockPart {
                block: Arc::clone(block),
                runs: std::iter::once(start..end).collect(),
            });
        }
        parts
    }
}

/// Approximate number of bytes that an entry takes.
fn weight(content: &EntryContent) -> usize {
    let notice = match content {
        EntryContent::Connected(client) => {
            let user = client.user_name.as_ref().map_or(0, |name| name.len());
            return size_of::<BlockEntry>() + client.client_id.len() + user;
        }
        EntryContent::Event(content) | EntryContent::Each(content) => &content.notice,
        EntryContent::Together(content) => &content.0.notice,
        EntryContent::Lost(_) => return size_of::<BlockEntry>(),
    };
    size_of::<BlockEntry>() + size_of::<EventOf>() + notice.text_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NodeNotice;
    use martlet_broker::{Event, EventHead, MessageId, PublishedMessage};
    use martlet_codec::QoS;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<BlockEntry>() <= 24);
    }

    #[test]
    fn a_reader_takes_no_more_bytes_at_once_than_it_may_hold() {
        let payload = |bytes: usize| {
            let message = PublishedMessage {
                topic: "t".into(),
                id: MessageId(1),
                qos: QoS::AtMostOnce,
                retain: false,
                matched: true,
                payload_bytes: bytes,
                payload: vec![0; bytes].into(),
                at_ms: 1,
            };
            let event = Event::Published(Box::new(message));
            let head = EventHead::new(TenantId::default(), "c");
            let notice = NodeNotice {
                head,
                event: event.into(),
            };
            EntryContent::Event(Box::new(EventOf { notice, who: None }))
        };
        let mut blocks = Blocks::default();
        for seq in 1..=10 {
            blocks.push(seq, 1, TenantId::default(), payload(100_000));
        }
        let mut ring = Ring::new(Bounds::default());
        ring.push(blocks.into_blocks());
        assert!(ring.bytes() >= 1_000_000);
        let taken = |from, bytes_max| {
            let parts = ring.from(from, 1_000, bytes_max);
            parts.iter().map(BlockPart::len).sum::<usize>()
        };
        assert_eq!(taken(1, usize::MAX), 10);
        assert_eq!(taken(1, 250_000), 2);
        assert_eq!(taken(5, 1), 1, "a long one comes alone");
    }

    #[test]
    fn times_far_apart_are_not_of_one_block() {
        let mut blocks = Blocks::default();
        let times = [1_000, 900, 2_000, 1 << 40, (1 << 40) - 1, 5];
        for (seq, at_ms) in (7..).zip(times) {
            blocks.push(seq, at_ms, TenantId::default(), EntryContent::Lost(1));
        }
        let finished = blocks.into_blocks();
        assert_eq!(finished.len(), 3);
        let entries = finished.iter().flat_map(|block| block.entries());
        let found: Vec<(u64, u64)> = entries.map(|entry| (entry.seq, entry.at_ms)).collect();
        assert_eq!(found, (7..).zip(times).collect::<Vec<_>>());
    }
}
