//! Room for what comes in: how much of it a bridge holds, and whether more is read.
//!
//! While there is no room nothing is read. Acknowledgements of what goes out stand behind what is
//! not read then, and the node may take what came in only when these have made room in the queue of
//! the bridge. So after a time messages are read and not taken: the other broker, which gets no
//! acknowledgement of them, sends them again over the next connection.

use std::sync::Arc;
use std::time::Duration;

use martlet_client::Session;
use tokio::time::Instant;

use super::incoming::Inbox;
use super::outgoing::Outbox;
use crate::input_memory::{InputMemory, InputShare};

/// Time after which messages are skipped, if acknowledgements are waited for and nothing is read.
const SKIPS_AFTER: Duration = Duration::from_secs(3);
/// While there is no room it is looked at again after this time: others may give memory back.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);
/// Bytes of the output's memory that are kept when it is empty.
const OUTPUT_KEPT_BYTES: usize = 256 << 10;

/// What a bridge holds in memory.
#[derive(Debug)]
pub(super) struct Room {
    share: InputShare,
    /// Since when nothing is read although acknowledgements are waited for.
    stalled_since: Option<Instant>,
}

impl Room {
    /// Of a bridge that holds nothing.
    pub(super) fn new(memory: Arc<InputMemory>) -> Self {
        Self {
            share: InputShare::new(memory),
            stalled_since: None,
        }
    }

    /// The connection has ended.
    pub(super) fn disconnected(&mut self) {
        self.stalled_since = None;
    }

    /// Counts what is held, with what buffers take of a packet that has not come in full and of
    /// what is to be sent.
    pub(super) fn count(
        &mut self,
        inbox: &Inbox,
        outbox: &Outbox,
        (unfinished, output): (usize, usize),
    ) {
        self.share
            .set(inbox.bytes() + unfinished, outbox.bytes() + output);
    }

    /// Counts what is held. None: more may be read; else when that is looked at again.
    /// `keeps_session` says that the other broker sends again what is not acknowledged.
    pub(super) fn look(
        &mut self,
        (inbox, outbox, session): (&mut Inbox, &Outbox, &mut Session),
        keeps_session: bool,
    ) -> Option<Instant> {
        let output = session.output_mut();
        if output.is_empty() && output.capacity() > OUTPUT_KEPT_BYTES {
            *output = Vec::new();
        }
        self.count(inbox, outbox, session.buffered_bytes());
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
