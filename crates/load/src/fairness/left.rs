//! Removes what loads leave in the broker: at the end of each load, and when the run is
//! interrupted.

use std::thread;

use anyhow::bail;
use martlet_codec::QoS;

use super::left_behind::Leftover;
use super::peer::{Broker, Manner, publish};

/// Number of clients that connect at the same time.
const CONNECTING: usize = 4;
/// Number of messages between two pings.
const MESSAGES_PER_PING: usize = 1000;

/// Client Identifier of a numbered client.
pub(super) fn numbered(broker: &Broker, number: usize) -> String {
    broker.name(&format!("a{number}"))
}

/// Removes everything left in the broker.
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

/// Publishes `count` retained messages below a topic; an empty payload removes them.
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

/// Replaces the old session by a new one that ends with its connection.
fn end_session(broker: &Broker, client_id: &str) -> anyhow::Result<()> {
    let mut peer = broker.connect(client_id, Manner::default())?;
    peer.write(&[0xE0, 0])
}
