//! Tests every kind of disk call of the store's threads under load, failing with each error, or
//! taking a second longer. QoS 0 continues, no acknowledged message is lost, and everything works
//! again without a restart.
//!
//! `tests/disk.rs` of `martlet-store` tests each single call of the engine.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::*;
use martlet_broker::Settings;
use martlet_reactor::{DiskStore, Durability};
use martlet_store::{Call, Disk, Options, SimDisk};

/// Trouble of a call.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Error(io::ErrorKind),
    Delay(Duration),
}

/// A disk whose calls of one kind are in trouble until it ends.
#[derive(Clone, Debug)]
struct TroubledDisk {
    inner: SimDisk,
    trouble: Arc<Mutex<Option<(Call, Trouble)>>>,
    met: Arc<AtomicU64>,
}

impl TroubledDisk {
    fn new(inner: SimDisk) -> Self {
        Self {
            inner,
            trouble: Arc::default(),
            met: Arc::default(),
        }
    }

    fn set(&self, trouble: Option<(Call, Trouble)>) {
        *self.trouble.lock().unwrap() = trouble;
    }

    fn met(&self) -> u64 {
        self.met.load(Ordering::SeqCst)
    }

    fn meet(&self, call: Call) -> io::Result<()> {
        let trouble = *self.trouble.lock().unwrap();
        let Some((_, trouble)) = trouble.filter(|(troubled, _)| *troubled == call) else {
            return Ok(());
        };
        self.met.fetch_add(1, Ordering::SeqCst);
        match trouble {
            Trouble::Error(kind) => Err(kind.into()),
            Trouble::Delay(delay) => {
                std::thread::sleep(delay);
                Ok(())
            }
        }
    }
}

impl Disk for TroubledDisk {
    type File = <SimDisk as Disk>::File;

    fn create(&self, name: &str, len: u64) -> io::Result<Self::File> {
        self.meet(Call::Create)?;
        self.inner.create(name, len)
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.meet(Call::Open)?;
        self.inner.open(name)
    }

    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.meet(Call::Write)?;
        self.inner.write_at(file, offset, bytes)
    }

    fn read_at(&self, file: &Self::File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.meet(Call::Read)?;
        self.inner.read_at(file, offset, bytes)
    }

    fn sync(&self, file: &Self::File) -> io::Result<()> {
        self.meet(Call::Sync)?;
        self.inner.sync(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.meet(Call::Rename)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.meet(Call::Remove)?;
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.meet(Call::List)?;
        self.inner.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.meet(Call::SyncDir)?;
        self.inner.sync_dir()
    }
}

/// Calls of a running store; `List` is used only for opening.
const CALLS: [Call; 8] = [
    Call::Create,
    Call::Open,
    Call::Write,
    Call::Read,
    Call::Sync,
    Call::Rename,
    Call::Remove,
    Call::SyncDir,
];

/// Number and length of messages that fill several segments.
const MESSAGES: u16 = 1200;
const BYTES: usize = 4000;

/// Time limit for a call that may not happen.
const AWAITED: Duration = Duration::from_secs(3);

fn start_on(disk: &TroubledDisk) -> Node {
    let mut config = config(2, Settings::default());
    let options = Options {
        segment_bytes: 1 << 20,
        tail_bytes: 1 << 20,
        ..Options::default()
    };
    config.store = Box::new(DiskStore::on(disk.clone(), options, Durability::Sync, ROOM).unwrap());
    run(config)
}

fn payload(number: u16) -> Vec<u8> {
    let mut payload = vec![7; BYTES];
    payload[..2].copy_from_slice(&number.to_be_bytes());
    payload
}

/// Lets a session that outlives its connection receive and acknowledge these messages.
fn take(node: &Node, session_present: u8, numbers: std::ops::Range<u16>) {
    let mut keeper = node.tcp();
    keeper.send(&connect("keeper", 0x00, None));
    keeper.expect(&[0x20, 2, session_present, 0]);
    if session_present == 0 {
        keeper.subscribe("t", 1);
    }
    for number in numbers {
        let packet = keeper.packet().unwrap();
        let header = 2 + packet[1..].iter().take_while(|byte| **byte >= 0x80).count();
        let body = &packet[header..];
        let topic = usize::from(body[1]);
        let found = u16::from_be_bytes([body[4 + topic], body[5 + topic]]);
        assert_eq!(found, number, "in order, and each once");
        keeper.send(&[0x40, 2, body[2 + topic], body[3 + topic]]);
    }
    keeper.send(&DISCONNECT);
    keeper.expect_closed();
}

fn publish_all(publisher: &mut Client, numbers: std::ops::Range<u16>) {
    for number in numbers.clone() {
        publisher.send(&publish_qos1("t", number + 1, &payload(number)));
    }
    for number in numbers {
        let [high, low] = (number + 1).to_be_bytes();
        publisher.expect(&[0x40, 2, high, low]);
    }
}

/// Returns how often the trouble occurred.
fn live_through(call: Call, trouble: Trouble) -> u64 {
    println!("{call:?} {trouble:?}");
    let sim = SimDisk::new(call as u64);
    let disk = TroubledDisk::new(sim.clone());
    let node = start_on(&disk);
    take(&node, 0, 0..0);
    let mut publisher = node.tcp().connect("publisher");
    publish_all(&mut publisher, 0..300);
    let (mut quick, mut reader) = (node.tcp().connect("quick"), node.tcp().connect("reader"));
    reader.subscribe("quick", 0);
    std::thread::scope(|scope| {
        disk.set(Some((call, trouble)));
        let sender = scope.spawn(|| {
            publish_all(&mut publisher, 300..MESSAGES);
        });
        // Half of them arrive while the disk is in trouble, if possible.
        let taker = scope.spawn(|| take(&node, 1, 0..MESSAGES));
        let end = Instant::now() + AWAITED;
        while disk.met() < 2 && Instant::now() < end {
            quick.send(&publish("quick", b"x"));
            reader.expect(&publish("quick", b"x"));
        }
        for _ in 0..100 {
            quick.send(&publish("quick", b"x"));
            reader.expect(&publish("quick", b"x"));
        }
        disk.set(None);
        sender.join().unwrap();
        taker.join().unwrap();
    });
    let health = node.running.store_health().unwrap();
    await_that("all is well again", || {
        let status = health.status();
        status.failure.is_none() && !status.is_behind && !status.is_low
    });
    assert_eq!(health.status().unreadable, 0);
    publish_all(&mut publisher, 0..50);
    drop(node);
    sim.crash(call as u64);
    let node = start_on(&TroubledDisk::new(sim));
    take(&node, 1, 0..50);
    disk.met()
}

/// Tests the trouble for each kind of call.
fn at_each_call(trouble: Trouble) {
    for call in CALLS {
        let met = live_through(call, trouble);
        assert!(met > 0, "{call:?} was not called");
    }
}

#[test]
fn an_input_output_error_at_any_call_delays_promises_and_breaks_none() {
    at_each_call(Trouble::Error(io::ErrorKind::Other));
}

#[test]
fn no_space_at_any_call_delays_promises_and_breaks_none() {
    at_each_call(Trouble::Error(io::ErrorKind::StorageFull));
}

#[test]
fn a_read_only_file_system_at_any_call_delays_promises_and_breaks_none() {
    at_each_call(Trouble::Error(io::ErrorKind::ReadOnlyFilesystem));
}

#[test]
fn a_second_more_at_any_call_delays_promises_and_breaks_none() {
    at_each_call(Trouble::Delay(Duration::from_secs(1)));
}

#[test]
fn a_disk_that_reads_nothing_for_a_while_costs_no_message() {
    let disk = TroubledDisk::new(SimDisk::new(9));
    let node = start_on(&disk);
    take(&node, 0, 0..0);
    let mut publisher = node.tcp().connect("publisher");
    publish_all(&mut publisher, 0..MESSAGES);
    disk.set(Some((Call::Read, Trouble::Error(io::ErrorKind::Other))));
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| take(&node, 1, 0..MESSAGES));
        // The pauses between attempts grow: this is more than a second, and many attempts.
        let begin = Instant::now();
        await_that("it was tried again and again", || {
            disk.met() > 12 && begin.elapsed() > Duration::from_secs(1)
        });
        disk.set(None);
        taker.join().unwrap();
    });
    let health = node.running.store_health().unwrap();
    assert_eq!(health.status().unreadable, 0);
}
