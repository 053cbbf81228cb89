//! The quiet clients: some ping, and some pairs exchange one message at a time. They measure the
//! time of each round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use martlet_codec::{Ack, AckKind, Packet, ProtocolVersion, QoS, ReasonCode};

use super::peer::{Broker, Manner, Peer, publish};
use crate::histogram::Histogram;

/// Number of clients of each kind: more than one, so that every shard of a node has some.
const CLIENTS: usize = 4;
/// Time between two round trips of a client.
const PAUSE: Duration = Duration::from_millis(2);

/// Running quiet clients.
pub(super) struct Quiet {
    stop: Arc<AtomicBool>,
    pings: Vec<JoinHandle<anyhow::Result<Vec<u64>>>>,
    messages: Vec<JoinHandle<anyhow::Result<Vec<u64>>>>,
}

/// Their measured latencies in nanoseconds.
pub(super) struct QuietLatencies {
    pub(super) pings: Histogram,
    pub(super) ping_count: u64,
    pub(super) messages: Histogram,
    pub(super) message_count: u64,
}

impl Quiet {
    /// Connects all of them and starts measuring.
    pub(super) fn start(broker: &Broker) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut pings, mut messages) = (Vec::new(), Vec::new());
        for number in 0..CLIENTS {
            let name = broker.name(&format!("quiet-{number}"));
            let mut pinging = broker.connect(&name, Manner::default())?;
            let stopped = Arc::clone(&stop);
            pings.push(std::thread::spawn(move || {
                repeat(&stopped, || pinging.ping())
            }));
            let topic = format!("{name}/topic");
            let publisher = broker.connect(&format!("{name}-from"), Manner::default())?;
            let mut subscriber = broker.connect(&format!("{name}-to"), Manner::default())?;
            subscriber.subscribe(std::slice::from_ref(&topic), QoS::AtLeastOnce)?;
            let mut pair = Pair::new(publisher, subscriber, &topic);
            let stopped = Arc::clone(&stop);
            messages.push(std::thread::spawn(move || {
                repeat(&stopped, || pair.exchange())
            }));
        }
        Ok(Self {
            stop,
            pings,
            messages,
        })
    }

    /// Stops the clients and merges their latencies.
    pub(super) fn stop(self) -> anyhow::Result<QuietLatencies> {
        self.stop.store(true, Ordering::Relaxed);
        let (pings, ping_count) = gather(self.pings)?;
        let (messages, message_count) = gather(self.messages)?;
        Ok(QuietLatencies {
            pings,
            ping_count,
            messages,
            message_count,
        })
    }
}

fn gather(clients: Vec<JoinHandle<anyhow::Result<Vec<u64>>>>) -> anyhow::Result<(Histogram, u64)> {
    let mut all = Histogram::new();
    let mut count = 0;
    for client in clients {
        let waits = client
            .join()
            .map_err(|_| anyhow::anyhow!("a quiet client panicked"))??;
        for wait in waits {
            all.record(wait);
            count += 1;
        }
    }
    Ok((all, count))
}

/// Makes round trips until stopped. Returns the duration of each in nanoseconds.
fn repeat(
    stop: &AtomicBool,
    mut round_trip: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<u64>> {
    let mut waits = Vec::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        round_trip()?;
        // Measured from the due time: a client that waits for one answer sends its next request
        // late.
        waits.push(due.elapsed().as_nanos() as u64);
        due = (due + PAUSE).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = due.max(Instant::now());
    }
    Ok(waits)
}

/// A publisher and a subscriber.
struct Pair {
    publisher: Peer,
    subscriber: Peer,
    message: Vec<u8>,
}

impl Pair {
    fn new(publisher: Peer, subscriber: Peer, topic: &str) -> Self {
        let mut message = Vec::new();
        publish(&mut message, topic, &[b'x'; 32], QoS::AtLeastOnce, false);
        Self {
            publisher,
            subscriber,
            message,
        }
    }

    /// Exchanges one QoS 1 message: published, received and acknowledged on both sides.
    fn exchange(&mut self) -> anyhow::Result<()> {
        self.publisher.write(&self.message)?;
        let mut answer = Vec::new();
        self.subscriber.read_until(|packet| {
            if let Packet::Publish(publish) = packet
                && let Some(id) = publish.packet_id
            {
                let ack = Ack::new(id, ReasonCode::Success);
                ack.encode(AckKind::PubAck, ProtocolVersion::V5, &mut answer);
            }
            Ok(!answer.is_empty())
        })?;
        self.subscriber.write(&answer)?;
        self.publisher
            .read_until(|packet| Ok(matches!(packet, Packet::PubAck(_))))
    }
}
