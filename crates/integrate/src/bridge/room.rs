//! Memory for incoming messages: how much a bridge holds, and whether it reads more.
//!
//! While there is no room, nothing is read. Acknowledgements of outgoing messages are then behind
//! unread data, and the node may accept incoming messages only when these acknowledgements have
//! freed space in the queue of the bridge. So after a time messages are read and skipped: the
//! other broker gets no acknowledgement of them, and sends them again over the next connection.

use std::sync::Arc;
use std::time::Duration;

use martlet_client::Session;
use tokio::time::Instant;

use super::incoming::Inbox;
use super::outgoing::Outbox;
use crate::input_memory::{InputMemory, InputShare};

/// Time without reading, while acknowledgements are pending, after which messages are skipped.
const SKIPS_AFTER: Duration = Duration::from_secs(3);
/// Interval of checks while there is no room: others may return memory.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);
/// Capacity of the output buffer that is kept when it is empty, bytes.
const OUTPUT_KEPT_BYTES: usize = 256 << 10;

/// Memory used by a bridge.
#[derive(Debug)]
pub(super) struct Room {
    share: InputShare,
    /// Time since which nothing is read although acknowledgements are pending.
    stalled_since: Option<Instant>,
}

impl Room {
    /// For a bridge that uses no memory yet.
    pub(super) fn new(memory: Arc<InputMemory>) -> Self {
        Self {
            share: InputShare::new(memory),
            stalled_since: None,
        }
    }

    /// Handles the end of the connection.
    pub(super) fn disconnected(&mut self) {
        self.stalled_since = None;
    }

    /// Counts the memory, with buffers for an incomplete packet and for outgoing data.
    pub(super) fn count(
        &mut self,
        inbox: &Inbox,
        outbox: &Outbox,
        unfinished: usize,
        output: usize,
    ) {
        self.share
            .set(inbox.bytes() + unfinished, outbox.bytes() + output);
    }

    /// Counts the memory. `None`: more may be read; else the time of the next check.
    /// `keeps_session`: the other broker sends unacknowledged messages again.
    pub(super) fn look(
        &mut self,
        inbox: &mut Inbox,
        outbox: &Outbox,
        session: &mut Session,
        keeps_session: bool,
    ) -> Option<Instant> {
        let output = session.output_mut();
        if output.is_empty() && output.capacity() > OUTPUT_KEPT_BYTES {
            *output = Vec::new();
        }
        let (unfinished, output) = session.buffered_bytes();
        self.count(inbox, outbox, unfinished, output);
        inbox.set_bytes_max(self.share.max());
        let awaits = outbox.waits();
        if inbox.has_room(awaits) {
            self.stalled_since = None;
            return None;
        }
        let now = Instant::now();
        if awaits && keeps_session {
            let since = *self.stalled_since.get_or_insert(now);
            if now >= since + SKIPS_AFTER {
                inbox.skip();
            }
        }
        Some(now + LOOKED_AT_EVERY)
    }
}
