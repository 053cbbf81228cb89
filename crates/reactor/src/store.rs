//! Where records go. Each reactor has a [`Writer`] of its own; the store behind them may be one.
//!
//! Records are opaque here. A writer that needs time answers from another thread through
//! [`Durable`]; the reactor never waits for it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use martlet_broker::{Record, RecordNumber, ShardId};

use crate::mailbox::{Control, Mailboxes};

/// A store, as the start of a node sees it.
pub trait Store: fmt::Debug + Send {
    /// A writer for one shard, which answers through `durable` whatever it cannot answer at once.
    fn writer(&mut self, shard: ShardId, durable: Durable) -> Box<dyn Writer>;
}

/// Takes the records of one shard.
pub trait Writer: Send {
    /// Takes all `records`, in order; the last of them is number `last` of its shard. Answers up
    /// to which number records are durable by now, if that is known already. Does not block.
    fn append(&mut self, records: &mut Vec<Record>, last: RecordNumber) -> Option<RecordNumber>;
}

/// The way of a store's answers to one shard.
#[derive(Clone, Debug)]
pub struct Durable {
    shard: ShardId,
    mailboxes: Arc<Mailboxes>,
}

impl Durable {
    pub(crate) fn new(shard: ShardId, mailboxes: Arc<Mailboxes>) -> Self {
        Self { shard, mailboxes }
    }

    /// All records of the shard up to number `up_to` are durable.
    pub fn up_to(&self, up_to: RecordNumber) {
        self.mailboxes.control(self.shard, Control::Durable(up_to));
    }
}

/// Keeps nothing: what the shards hold in memory is all there is, and it is as durable as that.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn writer(&mut self, _: ShardId, _: Durable) -> Box<dyn Writer> {
        Box::new(MemoryWriter)
    }
}

#[derive(Debug)]
struct MemoryWriter;

impl Writer for MemoryWriter {
    fn append(&mut self, records: &mut Vec<Record>, last: RecordNumber) -> Option<RecordNumber> {
        records.clear();
        Some(last)
    }
}

/// As [`MemoryStore`], but each answer comes so much later, from another thread: for tests of
/// what waits for a store.
#[derive(Clone, Copy, Debug)]
pub struct DelayedStore {
    /// How long a record takes to become durable.
    pub delay: Duration,
}

impl Store for DelayedStore {
    fn writer(&mut self, _: ShardId, durable: Durable) -> Box<dyn Writer> {
        let (sender, receiver) = mpsc::channel();
        let delay = self.delay;
        thread::spawn(move || answer_later(&receiver, &durable, delay));
        Box::new(DelayedWriter { sender })
    }
}

struct DelayedWriter {
    sender: mpsc::Sender<(Instant, RecordNumber)>,
}

impl Writer for DelayedWriter {
    fn append(&mut self, records: &mut Vec<Record>, last: RecordNumber) -> Option<RecordNumber> {
        records.clear();
        // The thread ends only with this sender.
        let _ = self.sender.send((Instant::now(), last));
        None
    }
}

fn answer_later(
    receiver: &mpsc::Receiver<(Instant, RecordNumber)>,
    durable: &Durable,
    delay: Duration,
) {
    while let Ok((appended, last)) = receiver.recv() {
        let wait = (appended + delay).saturating_duration_since(Instant::now());
        thread::sleep(wait);
        durable.up_to(last);
    }
}
