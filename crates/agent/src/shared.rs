//! State shared by the two halves of the agent: the queue, and the means to wake each other.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _};

use martlet_store::RealDisk;
use tokio::sync::Notify;

use crate::queue::Queue;

/// State shared by keeper and link. Both run in one thread, and neither borrows the queue while it
/// waits.
pub(crate) struct Shared {
    pub(crate) queue: RefCell<Queue<RealDisk>>,
    /// Signalled after a commit: the link may have messages to send.
    pub(crate) committed: Notify,
    /// Signalled when messages have ended: the keeper has changes to commit.
    pub(crate) ended: Notify,
}

impl Shared {
    /// Creates the initial state.
    pub(crate) fn new(queue: Queue<RealDisk>) -> Self {
        Self {
            queue: RefCell::new(queue),
            committed: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// The current counters as a line for the log.
    pub(crate) fn report(&self) -> String {
        let queue = self.queue.borrow();
        let counts = queue.counts();
        let mut line = format!(
            "{} messages ({} bytes) in the queue; since the start: taken {}, acknowledged {}",
            queue.messages(),
            queue.bytes(),
            counts.taken,
            counts.acknowledged
        );
        for (what, count) in [
            ("dropped", counts.dropped),
            ("refused", counts.refused),
            ("damaged", counts.damaged),
        ] {
            if count > 0 {
                line.push_str(&format!(", {what} {count}"));
            }
        }
        line
    }
}

/// A random number.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
