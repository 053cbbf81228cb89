//! The latest events, in blocks: what came together is kept, shown and forgotten together.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use martlet_broker::Event;

use crate::feed::{Bounds, Entry, Happened};
use crate::journal::weight_of_text;

/// Events of a block at most, and bytes of them, about.
const BLOCK: usize = 256;
const BLOCK_BYTES: usize = 64 * 1024;

/// Events whose numbers follow each other; never empty.
#[derive(Debug)]
pub struct Block {
    entries: Box<[Entry]>,
    bytes: usize,
}

/// Some events of a block.
#[derive(Debug)]
pub struct Part {
    /// It has them.
    pub block: Arc<Block>,
    /// Where in it: runs, in order, none of them empty.
    pub runs: Vec<Range<usize>>,
}

impl Block {
    /// All of them, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of the first one.
    pub(super) fn first(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.seq)
    }

    /// The number behind the last one.
    fn end(&self) -> u64 {
        self.first() + self.entries.len() as u64
    }
}

impl Part {
    /// In order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let runs = self.runs.iter().cloned();
        runs.flat_map(|run| &self.block.entries[run])
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }
}

/// Puts events into blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    made: Vec<Arc<Block>>,
    entries: Vec<Entry>,
    bytes: usize,
}

impl Blocks {
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += weight(&entry);
        self.entries.push(entry);
        if self.entries.len() >= BLOCK || self.bytes >= BLOCK_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        // A new list of the right length: one that grew keeps more than it needs.
        let entries: Box<[Entry]> = self.entries.drain(..).collect();
        let bytes = std::mem::take(&mut self.bytes);
        self.made.push(Arc::new(Block { entries, bytes }));
    }

    pub(super) fn into_made(mut self) -> Vec<Arc<Block>> {
        self.close();
        self.made
    }
}

/// What is kept.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) bounds: Bounds,
    /// Of the first one, some events may be too old already.
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
        let mut gone = Vec::new();
        while let Some(oldest) = self.blocks.front()
            && (oldest.end() <= self.too_old()
                || self.bytes > self.bounds.bytes && self.blocks.len() > 1)
        {
            self.bytes -= oldest.bytes;
            gone.extend(self.blocks.pop_front());
        }
        gone
    }

    /// Before this number there are more events than are kept.
    fn too_old(&self) -> u64 {
        self.next.saturating_sub(self.bounds.events as u64)
    }

    /// Bytes of all of them, about.
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

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        (self.next - self.first()) as usize
    }

    /// Those from this number on, of which all are kept, until they are so many.
    pub(super) fn from(&self, next: u64, most: usize) -> Vec<Part> {
        let at = self.blocks.partition_point(|block| block.end() <= next);
        let (mut parts, mut left) = (Vec::new(), most);
        for block in self.blocks.range(at..) {
            let start = next.saturating_sub(block.first()) as usize;
            let end = block.entries.len().min(start + left);
            if start == end {
                break;
            }
            left -= end - start;
            parts.push(Part {
                block: Arc::clone(block),
                runs: std::iter::once(start..end).collect(),
            });
        }
        parts
    }
}

/// What an entry takes, about.
fn weight(entry: &Entry) -> usize {
    let event = match entry.what() {
        Happened::Connected(client) => return size_of::<Entry>() + client.client_id.len(),
        Happened::Event(event) => event,
        Happened::Lost(_) => return size_of::<Entry>(),
    };
    let text = match event {
        Event::Published(message) => message.topic.len() + message.payload.len() + 64,
        Event::Delivered(message) => message.topic.len() + 64,
        Event::Subscribed { filter, .. } | Event::Unsubscribed { filter, .. } => filter.len(),
        event => weight_of_text(event),
    };
    size_of::<Entry>() + size_of::<Event>() + text
}
