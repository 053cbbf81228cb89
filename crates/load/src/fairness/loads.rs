//! The loads: each is something that one client, or many, can do to a node within its limits.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use martlet_codec::{Packet, QoS};

use super::left::{numbered, retain};
use super::left_behind::Leftover;
use super::peer::{Broker, Manner, Peer, publish, subscribe_packet, unsubscribe_packet};

/// A load.
pub(super) struct Load {
    /// Name on the command line.
    pub(super) name: &'static str,
    /// Description.
    pub(super) what: &'static str,
    /// Most sockets that it has open at the same time, for this scale of its amounts.
    pub(super) sockets: fn(f64) -> usize,
    /// Prepares it, for this scale of its amounts.
    pub(super) prepare: fn(&Broker, f64) -> anyhow::Result<Prepared>,
}

/// A prepared load.
pub(super) struct Prepared {
    /// Runs the load, for this duration if it has no end of its own. Returns a description of its
    /// amount.
    pub(super) go: Box<dyn FnMut(Duration) -> anyhow::Result<String>>,
}

/// Only the quiet clients.
pub(super) const NOTHING: Load = Load {
    name: "nothing",
    what: "nothing",
    sockets: |_| 0,
    prepare: |_, _| {
        Ok(go(|least| {
            thread::sleep(least);
            Ok("none".to_owned())
        }))
    },
};

/// All loads.
pub(super) const LOADS: &[Load] = &[
    Load {
        name: "combinations",
        what: "all combinations of a level and +",
        sockets: |_| FEW,
        prepare: combinations,
    },
    Load {
        name: "subscribe",
        what: "SUBSCRIBE with 10,000 filters",
        sockets: |_| FEW,
        prepare: subscribe,
    },
    Load {
        name: "retained",
        what: "# over retained messages",
        sockets: |_| FEW,
        prepare: retained,
    },
    Load {
        name: "retained-filters",
        what: "SUBSCRIBE with 2,000 filters over retained",
        sockets: |_| FEW,
        prepare: retained_filters,
    },
    Load {
        name: "wills",
        what: "Wills that are due at once",
        sockets: |scale| scaled(50_000, scale).min(SOCKETS_MAX) + FEW,
        prepare: wills,
    },
    Load {
        name: "expiry",
        what: "sessions that expire at once",
        sockets: |_| FEW + CONNECTING,
        prepare: expiry,
    },
    Load {
        name: "share",
        what: "members of share groups come and go",
        sockets: |scale| scaled(100, scale) + FEW,
        prepare: share,
    },
    Load {
        name: "pubrels",
        what: "65,535 PUBRELs at once",
        sockets: |_| FEW,
        prepare: pubrels,
    },
    Load {
        name: "crowds",
        what: "twenty publishes, each to 750 subscribers",
        sockets: |scale| scaled(SOCKETS_MAX, scale) + CROWDS + FEW,
        prepare: crowds,
    },
    Load {
        name: "fan-out",
        what: "a publish to connected and absent subscribers",
        sockets: |scale| scaled(SOCKETS_MAX, scale) + FEW,
        prepare: fan_out,
    },
];

/// Names of the loads, for the command line.
pub(in super::super) fn names() -> Vec<&'static str> {
    LOADS.iter().map(|load| load.name).collect()
}

/// Levels of the combined filters.
const LEVELS: usize = 13;
/// Filters of the load `subscribe`: the limit of one client.
const FILTERS: usize = 10_000;
/// Most sockets that are open at the same time; most systems permit a process some more.
const SOCKETS_MAX: usize = 15_000;
/// Sockets of a load in addition to its many similar ones.
const FEW: usize = 16;
/// Sockets of the quiet clients and others.
pub(super) const OTHER_SOCKETS: u64 = 64;
/// Number of clients that connect at the same time.
const CONNECTING: usize = 4;
/// Lifetime in seconds of sessions that are left behind and not cleaned up.
const LEFT_SECS: u32 = 120;
/// Publishers of the load `crowds`, each with a separate part of the subscribers.
const CROWDS: usize = 20;
/// Time between two messages of each of these publishers.
const CROWDS_PAUSE: Duration = Duration::from_millis(250);
/// Filters in one SUBSCRIBE if their number does not matter.
const FILTERS_PER_PACKET: usize = 500;

fn go(go: impl FnMut(Duration) -> anyhow::Result<String> + 'static) -> Prepared {
    Prepared { go: Box::new(go) }
}

fn scaled(amount: usize, scale: f64) -> usize {
    ((amount as f64 * scale) as usize).max(1)
}

/// Repeats an action until the time has expired. Returns the number of repetitions.
fn until_over(
    least: Duration,
    mut once: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < least {
        once()?;
        count += 1;
    }
    Ok(count)
}

/// One client subscribes to all combinations of `{a,+}`. It publishes to topics that match all of
/// them except in the last level, so that no topic is repeated; other topics match completely.
fn combinations(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let levels = (LEVELS as f64 + scale.log2()).max(1.0) as usize;
    let root = broker.name("combinations");
    let filters: Vec<String> = (0_u32..1 << levels)
        .map(|mask| {
            let level = |at: usize| if mask >> at & 1 == 1 { "/+" } else { "/a" };
            let middle: String = (0..levels).map(level).collect();
            format!("{root}{middle}/q")
        })
        .collect();
    let mut attacker = broker.connect(&broker.name("attacker"), Manner::default())?;
    for part in filters.chunks(FILTERS_PER_PACKET) {
        attacker.subscribe(part, QoS::AtMostOnce)?;
    }
    let mut next = 0_usize;
    Ok(go(move |least| {
        let rounds = until_over(least, || {
            let mut bytes = Vec::new();
            for _ in 0..2000 {
                next += 1;
                let last = match next.is_multiple_of(10) {
                    true => "q".to_owned(),
                    false => format!("m{next}"),
                };
                let topic = format!("{root}{}/{last}", "/a".repeat(levels));
                publish(&mut bytes, &topic, b"x", QoS::AtMostOnce, false);
            }
            attacker.write(&bytes)?;
            attacker.ping()
        })?;
        Ok(format!("{} messages", rounds * 2000))
    }))
}

fn subscribe(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let root = broker.name("many");
    let filters: Vec<String> = (0..scaled(FILTERS, scale))
        .map(|number| format!("{root}/{number}/+/x"))
        .collect();
    let mut attacker = broker.connect(&broker.name("attacker"), Manner::default())?;
    let (on, off) = (
        subscribe_packet(&filters, QoS::AtLeastOnce),
        unsubscribe_packet(&filters),
    );
    Ok(go(move |least| {
        let rounds = until_over(least, || {
            attacker.write(&on)?;
            attacker.read_until(|packet| Ok(matches!(packet, Packet::SubAck(_))))?;
            attacker.write(&off)?;
            attacker.read_until(|packet| Ok(matches!(packet, Packet::UnsubAck(_))))
        })?;
        Ok(format!("{rounds} times on and off"))
    }))
}

fn retained(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let count = scaled(1_000_000, scale);
    let root = broker.name("retained");
    broker.left.note(Leftover::Retained(root.clone(), count));
    retain(broker, &root, count, &[b'x'; 64])?;
    let reading = broker.clone();
    let filter = [format!("{root}/#")];
    Ok(go(move |least| {
        let rounds = until_over(least, || {
            let mut reader = reading.connect(&reading.name("reader"), Manner::default())?;
            reader.write(&subscribe_packet(&filter, QoS::AtMostOnce))?;
            let mut seen = 0;
            reader.read_until(|packet| {
                seen += usize::from(matches!(packet, Packet::Publish(_)));
                Ok(seen == count)
            })
        })?;
        Ok(format!("{rounds} times {count} messages"))
    }))
}

/// Each filter leads to one node below each of the topics' second levels, and matches nothing.
fn retained_filters(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let (count, filters) = (scaled(200_000, scale), scaled(2_000, scale));
    let root = broker.name("looked-for");
    broker.left.note(Leftover::Retained(root.clone(), count));
    retain(broker, &root, count, &[b'x'; 64])?;
    let filters: Vec<String> = (0..filters)
        .map(|number| format!("{root}/+/x{number}"))
        .collect();
    let asking = broker.clone();
    Ok(go(move |least| {
        let rounds = until_over(least, || {
            let mut attacker = asking.connect(&asking.name("attacker"), Manner::default())?;
            attacker.write(&subscribe_packet(&filters, QoS::AtMostOnce))?;
            attacker.read_until(|packet| Ok(matches!(packet, Packet::SubAck(_))))
        })?;
        Ok(format!(
            "{rounds} times {} filters over {count}",
            filters.len()
        ))
    }))
}

/// Connects `count` clients, runs `session` on each, and closes them without DISCONNECT, so that
/// their sessions and Wills are due at `due`. The last `staying` clients stay connected and are
/// returned.
fn arrange(
    broker: &Broker,
    count: usize,
    staying: usize,
    due: Instant,
    session: impl Fn(&mut Peer, usize) -> anyhow::Result<()> + Sync,
    has_will: bool,
) -> anyhow::Result<Vec<TcpStream>> {
    broker.left.note(Leftover::Sessions(count));
    let topic = broker.name("will");
    let parts: Vec<anyhow::Result<Vec<TcpStream>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTING)
            .map(|part| {
                let (session, topic) = (&session, &topic);
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for number in (part..count).step_by(CONNECTING) {
                        let stays = number + staying >= count;
                        let left = due.saturating_duration_since(Instant::now());
                        let left_secs = if stays { 0 } else { left.as_secs() as u32 };
                        let will_topic = format!("{topic}/{number}");
                        let manner = Manner {
                            session_expiry_secs: left_secs + if has_will { LEFT_SECS } else { 0 },
                            will: has_will.then_some((&will_topic, b"gone".as_slice(), left_secs)),
                        };
                        let mut peer = broker.connect(&numbered(broker, number), manner)?;
                        session(&mut peer, number)?;
                        if stays {
                            kept.push(peer.stream);
                        }
                    }
                    Ok(kept)
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<_>>| {
            thread
                .join()
                .unwrap_or_else(|_| bail!("a connecting thread panicked"))
        };
        threads.into_iter().map(join).collect()
    });
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

/// Estimates how long it takes to connect `count` clients.
fn time_to_connect(count: usize) -> Duration {
    Duration::from_millis(500) + Duration::from_micros(300) * count as u32
}

fn wills(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let count = scaled(50_000, scale);
    let due = Instant::now() + time_to_connect(count);
    let mut watcher = broker.connect(&broker.name("watcher"), Manner::default())?;
    watcher.subscribe(&[format!("{}/#", broker.name("will"))], QoS::AtMostOnce)?;
    let staying = count.min(SOCKETS_MAX);
    let kept = arrange(broker, count, staying, due, |_, _| Ok(()), true)?;
    let mut kept = Some(kept);
    Ok(go(move |_| {
        let left = due.saturating_duration_since(Instant::now());
        thread::sleep(left.saturating_sub(Duration::from_millis(500)));
        drop(kept.take());
        let mut seen = 0;
        watcher.read_until(|packet| {
            seen += usize::from(matches!(packet, Packet::Publish(_)));
            Ok(seen == count)
        })?;
        Ok(format!("{count} Wills"))
    }))
}

fn expiry(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let count = scaled(50_000, scale);
    let due = Instant::now() + time_to_connect(count);
    let topic = broker.name("expiring");
    let session = |peer: &mut Peer, number: usize| {
        let filters: Vec<_> = (0..3)
            .map(|part| format!("{topic}/{number}/{part}"))
            .collect();
        peer.subscribe(&filters, QoS::AtLeastOnce)
    };
    arrange(broker, count, 0, due, session, false)?;
    let behind = broker.left.clone();
    Ok(go(move |_| {
        let left = due.saturating_duration_since(Instant::now());
        thread::sleep(left + Duration::from_secs(2));
        behind.forget();
        Ok(format!("{count} sessions"))
    }))
}

fn share(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let members = scaled(100, scale);
    let topic = broker.name("shared");
    let filter = [format!("$share/g/{topic}")];
    let mut all = Vec::new();
    for number in 0..members {
        all.push(broker.connect(&broker.name(&format!("m{number}")), Manner::default())?);
    }
    let mut publisher = broker.connect(&broker.name("publisher"), Manner::default())?;
    let (on, off) = (
        subscribe_packet(&filter, QoS::AtLeastOnce),
        unsubscribe_packet(&filter),
    );
    Ok(go(move |least| {
        let rounds = until_over(least, || {
            let mut messages = Vec::new();
            for _ in 0..100 {
                publish(&mut messages, &topic, b"x", QoS::AtMostOnce, false);
            }
            for member in &mut all {
                member.write(&on)?;
            }
            publisher.write(&messages)?;
            for member in &mut all {
                member.write(&off)?;
                member.ping()?;
            }
            Ok(())
        })?;
        Ok(format!("{} times joined and left", rounds * members))
    }))
}

fn pubrels(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let count = scaled(65_535, scale) as u16;
    let manner = Manner {
        session_expiry_secs: LEFT_SECS,
        ..Manner::default()
    };
    broker.left.note(Leftover::Session("attacker"));
    let mut attacker = broker.connect(&broker.name("attacker"), manner)?;
    let packets: Vec<u8> = (1..=count)
        .flat_map(|id| {
            let [high, low] = id.to_be_bytes();
            [0x62, 2, high, low]
        })
        .collect();
    Ok(go(move |least| {
        let rounds = until_over(least, || {
            attacker.write(&packets)?;
            let mut seen = 0;
            attacker.read_until(|packet| {
                seen += u16::from(matches!(packet, Packet::PubComp(_)));
                Ok(seen == count)
            })
        })?;
        Ok(format!("{rounds} times {count} PUBRELs"))
    }))
}

fn fan_out(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let (there, away) = (scaled(SOCKETS_MAX, scale), scaled(100_000, scale));
    let topic = broker.name("everybody");
    let filter = [topic.clone()];
    let due = Instant::now() + Duration::from_secs(u64::from(LEFT_SECS)) + time_to_connect(away);
    let session = |peer: &mut Peer, _: usize| peer.subscribe(&filter, QoS::AtLeastOnce);
    // The connected clients do not read: their messages wait in the system's buffers.
    let kept = arrange(broker, there + away, there, due, session, false)?;
    let mut publisher = broker.connect(&broker.name("publisher"), Manner::default())?;
    let mut message = Vec::new();
    publish(&mut message, &topic, b"x", QoS::AtLeastOnce, false);
    Ok(go(move |least| {
        let rounds = until_over(least, || {
            publisher.write(&message)?;
            publisher.read_until(|packet| Ok(matches!(packet, Packet::PubAck(_))))
        })?;
        // The next message is sent after the previous one has been sent to all.
        publisher.write(&message)?;
        publisher.read_until(|packet| Ok(matches!(packet, Packet::PubAck(_))))?;
        Ok(format!(
            "{} messages to {} + {away}",
            rounds + 1,
            kept.len()
        ))
    }))
}

/// Each message has fewer receivers than are fanned out over turns; all messages arrive at once.
fn crowds(broker: &Broker, scale: f64) -> anyhow::Result<Prepared> {
    let count = scaled(SOCKETS_MAX, scale);
    let topic = broker.name("crowd");
    let session = |peer: &mut Peer, number: usize| {
        let filter = format!("{topic}/{}", number % CROWDS);
        peer.subscribe(&[filter], QoS::AtMostOnce)
    };
    let kept = arrange(broker, count, count, Instant::now(), session, false)?;
    let mut publishers = Vec::new();
    for number in 0..CROWDS {
        let name = broker.name(&format!("p{number}"));
        let mut message = Vec::new();
        let topic = format!("{topic}/{number}");
        publish(&mut message, &topic, b"x", QoS::AtMostOnce, false);
        publishers.push((broker.connect(&name, Manner::default())?, message));
    }
    Ok(go(move |least| {
        let rounds = until_over(least, || {
            for (publisher, message) in &mut publishers {
                publisher.write(message)?;
            }
            thread::sleep(CROWDS_PAUSE);
            Ok(())
        })?;
        Ok(format!(
            "{rounds} times {CROWDS} messages to {} in all",
            kept.len()
        ))
    }))
}
