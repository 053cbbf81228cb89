//! What loads leave in the broker, and how it is taken away: at the end of each load, and when the
//! run is interrupted.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use anyhow::bail;
use martlet_codec::QoS;

use super::peer::{Broker, Manner, publish};

/// Clients that connect at the same time.
const CONNECTING: usize = 4;
/// Messages between two pings.
const MESSAGES_PER_PING: usize = 1000;

/// Something that outlives the connection that made it.
#[derive(Clone, Debug)]
pub(super) enum Leftover {
    /// The session of this client.
    Session(&'static str),
    /// The sessions of so many numbered clients.
    Sessions(usize),
    /// So many retained messages below a topic.
    Retained(String, usize),
}

/// What is left by now. Its copies are one list.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftBehind {
    all: Arc<Mutex<Vec<Leftover>>>,
    /// Nothing more may be left. A task holds the lock for reading while it may leave something.
    pub(super) closed: Arc<RwLock<bool>>,
}

impl LeftBehind {
    /// Notes what is about to be left.
    pub(super) fn note(&self, left: Leftover) {
        self.lock().push(left);
    }

    /// It is gone by itself.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Waits until nobody is about to leave more, and sees to it that nobody does from now on.
    pub(super) fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Leftover>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Leftover> {
        std::mem::take(&mut self.lock())
    }
}

/// Client Identifier of a numbered client.
pub(super) fn numbered(broker: &Broker, number: usize) -> String {
    broker.name(&format!("a{number}"))
}

/// Takes away all that is left in the broker.
pub(super) fn take_away(broker: &Broker) -> anyhow::Result<()> {
    let cleaner = broker.unhindered();
    for left in broker.left.take() {
        match left {
            Leftover::Session(name) => end_session(&cleaner, &cleaner.name(name))?,
            Leftover::Sessions(count) => end_sessions(&cleaner, count)?,
            Leftover::Retained(root, count) => retain(&cleaner, &root, count, b"")?,
        }
    }
    Ok(())
}

/// Publishes `count` retained messages below a topic; with an empty payload they are removed.
pub(super) fn retain(
    broker: &Broker,
    root: &str,
    count: usize,
    payload: &[u8],
) -> anyhow::Result<()> {
    let mut publisher = broker.connect(&broker.name("keeper"), Manner::default())?;
    for first in (0..count).step_by(MESSAGES_PER_PING) {
        let mut bytes = Vec::new();
        for number in first..(first + MESSAGES_PER_PING).min(count) {
            let topic = format!("{root}/{}/{number}", number % 1000);
            publish(&mut bytes, &topic, payload, QoS::AtMostOnce, true);
        }
        let _may = broker.may_leave()?;
        publisher.write(&bytes)?;
        publisher.ping()?;
    }
    Ok(())
}

fn end_sessions(broker: &Broker, count: usize) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTING)
            .map(|part| {
                scope.spawn(move || {
                    let mut numbers = (part..count).step_by(CONNECTING);
                    numbers.try_for_each(|number| end_session(broker, &numbered(broker, number)))
                })
            })
            .collect();
        let mut threads = threads.into_iter();
        threads.try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(_) => bail!("a connecting thread panicked"),
        })
    })
}

/// A session that begins anew and ends with its connection takes the place of the old one.
fn end_session(broker: &Broker, client_id: &str) -> anyhow::Result<()> {
    let mut peer = broker.connect(client_id, Manner::default())?;
    peer.write(&[0xE0, 0])
}
