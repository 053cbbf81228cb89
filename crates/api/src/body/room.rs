//! Room for bodies: within a budget of all of them, and within the memory of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt as _, Limited};
use martlet_control::Control;

/// Longest body of a caller without credentials: a user name and a password, or a device.
pub(super) const OPEN_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all bodies at once, and of those of callers without credentials.
const ALL_BYTES_MAX: usize = 32 * 1024 * 1024;
const ALL_OPEN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that bodies of callers with credentials may take together where the node has no memory
/// left: an operator can still act on the node.
const BYTES_ALWAYS: usize = 1024 * 1024;
/// The step in which the budget is taken.
const STEP: usize = 4 * 1024;

/// Bytes of bodies that are in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bodies {
    all: Arc<AtomicUsize>,
    /// Bytes of bodies of callers without credentials.
    open: Arc<AtomicUsize>,
}

impl Bodies {
    /// Bytes of all bodies that are in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }
}

/// A part of the budget; it is given back when this is dropped.
pub(crate) struct BudgetShare {
    bytes: usize,
    max: usize,
    of: Vec<(Arc<AtomicUsize>, usize)>,
    /// Bytes of them that are borrowed from the node's memory.
    borrowed: usize,
    is_open: bool,
    memory: Option<Arc<Control>>,
}

impl BudgetShare {
    pub(super) fn new(
        bodies: &Bodies,
        memory: Option<Arc<Control>>,
        is_open: bool,
        longest: usize,
    ) -> Self {
        // The longest body that is allowed finds room beside others.
        let all = (Arc::clone(&bodies.all), ALL_BYTES_MAX.max(2 * longest));
        let open = (Arc::clone(&bodies.open), ALL_OPEN_BYTES_MAX);
        Self {
            bytes: 0,
            max: longest,
            of: match is_open {
                true => vec![open, all],
                false => vec![all],
            },
            borrowed: 0,
            is_open,
            memory,
        }
    }

    /// Takes from the budget until it holds `bytes`. False if there was no room: nothing was taken.
    fn grow_to(&mut self, bytes: usize) -> bool {
        let bytes_wanted = bytes.div_ceil(STEP).saturating_mul(STEP).min(self.max);
        let more = bytes_wanted.max(bytes).saturating_sub(self.bytes);
        for at in 0..self.of.len() {
            let (used, max) = &self.of[at];
            let before = used.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > *max {
                for (used, _) in &self.of[..=at] {
                    used.fetch_sub(more, Ordering::Relaxed);
                }
                return false;
            }
        }
        if !self.borrow(more) {
            for (used, _) in &self.of {
                used.fetch_sub(more, Ordering::Relaxed);
            }
            return false;
        }
        self.bytes += more;
        true
    }

    /// Counts `more` bytes as memory of the node; false if they are not available.
    fn borrow(&mut self, more: usize) -> bool {
        let Some(memory) = &self.memory else {
            return true;
        };
        if memory.borrow_memory(more) {
            self.borrowed += more;
            return true;
        }
        let all = self.of.last();
        let all = all.map_or(usize::MAX, |(used, _)| used.load(Ordering::Relaxed));
        !self.is_open && all <= BYTES_ALWAYS
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        for (used, _) in &self.of {
            used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        if let Some(memory) = &self.memory {
            memory.return_memory(self.borrowed);
        }
    }
}

pub(super) enum BodyError {
    NoRoom,
    Error(Box<dyn std::error::Error + Send + Sync>),
}

/// Copies each chunk into one buffer: a chunk of one byte costs one byte.
pub(super) async fn collect(
    mut body: Limited<Body>,
    held: &mut BudgetShare,
) -> Result<Bytes, BodyError> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(BodyError::Error)?;
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        let length = all.len() + chunk.len();
        if length > all.capacity() {
            // Twice as much each time, so that few bytes are copied again.
            let bytes_wanted = length
                .max(all.capacity() * 2)
                .clamp(STEP.min(held.max), held.max);
            if !held.grow_to(bytes_wanted.max(length)) {
                return Err(BodyError::NoRoom);
            }
            all.reserve_exact(bytes_wanted.max(length) - all.len());
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_count_until_they_are_dropped_and_open_ones_have_less_room() {
        let bodies = Bodies::default();
        let mut open = BudgetShare::new(&bodies, None, true, OPEN_BYTES_MAX);
        assert!(open.grow_to(1) && open.grow_to(STEP) && open.grow_to(STEP + 1));
        assert_eq!(bodies.all.load(Ordering::Relaxed), 2 * STEP);
        let mut many = Vec::new();
        loop {
            let mut one = BudgetShare::new(&bodies, None, true, OPEN_BYTES_MAX);
            if !one.grow_to(OPEN_BYTES_MAX) {
                break;
            }
            many.push(one);
        }
        assert!(bodies.open.load(Ordering::Relaxed) <= ALL_OPEN_BYTES_MAX);
        let mut known = BudgetShare::new(&bodies, None, false, 1024 * 1024);
        assert!(known.grow_to(1024 * 1024));
        drop((open, many, known));
        assert_eq!(bodies.all.load(Ordering::Relaxed), 0);
        assert_eq!(bodies.open.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn chunks_of_one_byte_are_one_buffer() {
        let bodies = Bodies::default();
        let mut held = BudgetShare::new(&bodies, None, false, 1024 * 1024);
        let chunks = (0..100_000).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"x")));
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let read = collect(Limited::new(body, 1024 * 1024), &mut held).await;
        assert_eq!(read.ok().map(|body| body.len()), Some(100_000));
        assert!((100_000..300_000).contains(&held.bytes), "{}", held.bytes);
    }
}
