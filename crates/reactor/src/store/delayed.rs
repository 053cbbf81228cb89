//! A store that keeps nothing and answers after a delay.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use martlet_broker::{Now, Record, RecordNumber, ShardId};
use martlet_tick::Storage;

use super::durable::Durable;
use super::interface::{Store, Writer};

/// Like [`MemoryStore`](super::MemoryStore), but each answer comes from another thread after a
/// delay. For tests of operations that wait for a store.
#[derive(Clone, Copy, Debug)]
pub struct DelayedStore {
    /// Time until a record is durable.
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

impl Writer for DelayedWriter {}

impl Storage for DelayedWriter {
    fn append(
        &mut self,
        _: &[Record],
        last: RecordNumber,
        _: Now,
        _: bool,
    ) -> Option<RecordNumber> {
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
