//! Events as text, written once for all readers of the same form.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio_tungstenite::tungstenite::Bytes;

use crate::feed::entry::FeedEntry;
use crate::feed::{Block, BlockPart};

/// Texts, and bytes of them, that are kept for readers that come to the same events a little later.
const KEPT: usize = 32;
const KEPT_BYTES: usize = 4 << 20;
/// Number of further events that are written at once in a form that was read.
const WANTED: u64 = 16_384;
/// Forms, at most.
const FORMS: usize = 4;

/// Some events, as a stream of server-sent events has them, one behind the other.
#[derive(Debug, Default)]
pub struct EventTexts {
    text: Bytes,
    spans: Vec<EventSpan>,
}

/// Positions of an event in the text.
#[derive(Clone, Copy, Debug)]
struct EventSpan {
    json: usize,
    json_end: usize,
    end: usize,
}

impl EventTexts {
    /// Writes the entries, with at most `payload_max` bytes of each payload.
    fn of<'a>(
        run: &'a str,
        entries: impl Iterator<Item = FeedEntry<'a>>,
        payload_max: usize,
    ) -> Self {
        let mut text = Vec::with_capacity(256 * entries.size_hint().0);
        let mut spans = Vec::with_capacity(entries.size_hint().0);
        for entry in entries {
            let shown = entry.shown(run, payload_max);
            match &shown {
                Ok(event) => {
                    text.extend_from_slice(b"id: ");
                    let _ = write!(Text(&mut text), "{}", event.id);
                    text.push(b'\n');
                }
                Err(_) => text.extend_from_slice(b"event: gone\n"),
            }
            text.extend_from_slice(b"data: ");
            let json = text.len();
            match &shown {
                Ok(event) => put(&mut text, event),
                Err(gap) => put(&mut text, gap),
            }
            let json_end = text.len();
            text.extend_from_slice(b"\n\n");
            spans.push(EventSpan {
                json,
                json_end,
                end: text.len(),
            });
        }
        Self {
            text: text.into(),
            spans,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Bytes that it takes.
    fn memory_bytes(&self) -> usize {
        self.text.len() + self.spans.len() * size_of::<EventSpan>()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Run of the lines, as a piece of a stream.
    pub fn stream(&self, run: Range<usize>) -> Bytes {
        let start = match run.start.checked_sub(1) {
            Some(before) => self.spans.get(before).map_or(0, |span| span.end),
            None => 0,
        };
        let end = match run.end.checked_sub(1) {
            Some(last) => self.spans.get(last).map_or(start, |span| span.end),
            None => start,
        };
        self.text.slice(start..end)
    }

    /// The object of one.
    pub fn json(&self, at: usize) -> Bytes {
        let span = self.spans.get(at);
        span.map_or_else(Bytes::new, |span| self.text.slice(span.json..span.json_end))
    }
}

struct Text<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn put(text: &mut Vec<u8>, value: &impl Serialize) {
    // Numbers and texts always become JSON, and a list of bytes takes all of it.
    let _ = serde_json::to_writer(text, value);
}

/// Lines of whole blocks.
#[derive(Debug, Default)]
pub(super) struct KeptLines(Mutex<LineCache>);

#[derive(Debug, Default)]
struct LineCache {
    /// The latest last.
    lines: VecDeque<KeptOf>,
    bytes: usize,
    /// Bytes of them, at most; none: [`KEPT_BYTES`].
    bytes_max: Option<usize>,
    /// Forms that are read, and the event up to which they are written in advance.
    pending: Vec<(usize, u64)>,
}

#[derive(Debug)]
struct KeptOf {
    /// The number of the first event of the block.
    first: u64,
    /// Bytes of each payload that are shown, at most.
    payload_max: usize,
    lines: Arc<EventTexts>,
}

impl KeptLines {
    /// The lines of a part, and which of them are meant.
    pub(super) fn of(
        &self,
        run: &str,
        part: &BlockPart,
        payload_max: usize,
    ) -> (Arc<EventTexts>, Vec<Range<usize>>) {
        let (count, all) = (part.len(), part.block.len());
        // A reader of few of them does not pay for all.
        if count * 2 < all {
            let lines = EventTexts::of(run, part.entries(), payload_max);
            return (Arc::new(lines), std::iter::once(0..count).collect());
        }
        let found = {
            let mut kept = self.lock();
            kept.want(part.block.first(), payload_max);
            kept.find(part.block.first(), payload_max)
        };
        let lines = found.unwrap_or_else(|| self.write(run, &part.block, payload_max));
        (lines, part.runs.clone())
    }

    /// Writes what readers are about to ask for, so that their thread has less to do.
    pub(super) fn prepare(&self, run: &str, blocks: &[Arc<Block>]) {
        // Of more than that the first would be forgotten before they are asked for.
        for block in blocks.iter().take(KEPT / 2) {
            let pending = self.lock().pending(block.first());
            for payload_max in pending {
                self.write(run, block, payload_max);
            }
        }
    }

    fn write(&self, run: &str, block: &Block, payload_max: usize) -> Arc<EventTexts> {
        let lines = Arc::new(EventTexts::of(run, block.entries(), payload_max));
        self.lock().keep(KeptOf {
            first: block.first(),
            payload_max,
            lines: Arc::clone(&lines),
        });
        lines
    }

    /// Sets the number of bytes that they take, at most.
    pub(super) fn set_bytes_max(&self, bytes: usize) {
        self.lock().bytes_max = Some(KEPT_BYTES.min(bytes));
    }

    /// Number of bytes that they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, LineCache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LineCache {
    fn find(&self, first: u64, payload_max: usize) -> Option<Arc<EventTexts>> {
        let mut all = self.lines.iter().rev();
        let found = all.find(|kept| kept.first == first && kept.payload_max == payload_max);
        found.map(|kept| Arc::clone(&kept.lines))
    }

    fn keep(&mut self, kept: KeptOf) {
        self.bytes += kept.lines.memory_bytes();
        self.lines.push_back(kept);
        let bytes_max = self.bytes_max.unwrap_or(KEPT_BYTES);
        while self.lines.len() > KEPT || self.bytes > bytes_max {
            let Some(oldest) = self.lines.pop_front() else {
                return;
            };
            self.bytes -= oldest.lines.memory_bytes();
        }
    }

    /// Notes that a reader of this form has come to this event.
    fn want(&mut self, seq: u64, payload_max: usize) {
        let until = seq + WANTED;
        match self
            .pending
            .iter_mut()
            .find(|(form, _)| *form == payload_max)
        {
            Some((_, known)) => *known = until.max(*known),
            None => {
                self.pending.truncate(FORMS - 1);
                self.pending.push((payload_max, until));
            }
        }
    }

    fn pending(&mut self, seq: u64) -> Vec<usize> {
        self.pending.retain(|(_, until)| *until > seq);
        self.pending.iter().map(|(form, _)| *form).collect()
    }
}
