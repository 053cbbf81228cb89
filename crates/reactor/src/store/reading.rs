//! The thread that reads messages back, so that the writing thread never waits for reads.
//!
//! The writing thread determines the positions of the messages, after it has written all records
//! appended before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use martlet_broker::{ListenerPolicy, MemoryGauge, Now, PageOf, QueueOwner, ReadPage};
use martlet_persistence::{LocatedPage, Making, PageFound, read_located};
use martlet_store::Disk;

use super::durable::Durable;
use super::health::StoreHealth;

/// Initial and longest time until a page is read again after disk errors.
const RETRY_AFTER: Duration = Duration::from_millis(20);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// Time after which an unreadable position counts as damaged. It gives operators time to repair a
/// disk that reads nothing.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// A page to be read.
#[derive(Debug)]
pub(super) struct Page<F> {
    pub(super) owner: QueueOwner,
    pub(super) of: PageOf,
    pub(super) located: LocatedPage<F>,
    pub(super) now: Now,
    pub(super) gauge: Arc<MemoryGauge>,
    pub(super) with_publishers: bool,
    pub(super) answer: Durable,
}

/// Most pages read together. Queues that are emptied at the same time were often filled together.
const TOGETHER_MAX: usize = 32;

/// A page to be read, with the state of its retries.
struct Attempt<F> {
    page: Page<F>,
    /// When it was first tried.
    since: Instant,
    at: Instant,
    /// Time until the next attempt.
    after: Duration,
}

impl<F> Attempt<F> {
    fn first(page: Page<F>) -> Self {
        let now = Instant::now();
        Self {
            page,
            since: now,
            at: now,
            after: RETRY_AFTER,
        }
    }

    /// Schedules another attempt after a disk error. Returns `None` if there have been errors for
    /// too long.
    fn again(mut self, now: Instant) -> Option<Self> {
        self.at = now + self.after;
        self.after = (self.after * 2).min(RETRY_AFTER_MAX);
        Some(self).filter(|attempt| now - attempt.since < GIVE_UP_AFTER)
    }
}

/// Reads pages until no sender is left. A page with disk errors is set aside, so that the others do
/// not wait for it.
pub(super) fn read_pages<D: Disk>(
    disk: &D,
    pages: &Receiver<Page<D::File>>,
    listeners: &[Arc<ListenerPolicy>],
    health: &StoreHealth,
) {
    let mut aside: Vec<Attempt<D::File>> = Vec::new();
    loop {
        let next = aside.iter().map(|attempt| attempt.at).min();
        let first = match next {
            None => pages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => pages.recv_deadline(at),
        };
        let mut together = Vec::new();
        match first {
            Ok(first) => together.push(Attempt::first(first)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let more = pages.try_iter().take(TOGETHER_MAX - 1);
        together.extend(more.map(Attempt::first));
        let now = Instant::now();
        together.extend(aside.extract_if(.., |attempt| attempt.at <= now));
        aside.extend(read_together(disk, together, listeners, health));
    }
}

/// Reads pages and sends the answers. Returns the pages that must be read again.
fn read_together<D: Disk>(
    disk: &D,
    together: Vec<Attempt<D::File>>,
    listeners: &[Arc<ListenerPolicy>],
    health: &StoreHealth,
) -> Vec<Attempt<D::File>> {
    let wanted: Vec<_> = together
        .iter()
        .map(|Attempt { page, .. }| {
            let making = Making {
                now: page.now,
                gauge: &page.gauge,
                publishers: page.with_publishers.then_some(listeners),
            };
            (&page.located, making)
        })
        .collect();
    let read = read_located(disk, &wanted);
    let now = Instant::now();
    let mut again = Vec::new();
    for (attempt, PageFound { messages, unread }) in together.into_iter().zip(read) {
        let answer = attempt.page.answer.clone();
        let (owner, of) = (attempt.page.owner, attempt.page.of);
        if let Some((id, Err(why))) = unread.and_then(|first| messages.get(first)) {
            let is_first = attempt.at == attempt.since;
            if let Some(attempt) = attempt.again(now) {
                if is_first {
                    health.unread(format!("message {:#x}: {why}", id.0));
                }
                again.push(attempt);
                continue;
            }
        }
        // The shard decides whether an unreadable message is still needed.
        answer.messages_read(ReadPage {
            owner,
            of,
            messages,
        });
    }
    again
}
