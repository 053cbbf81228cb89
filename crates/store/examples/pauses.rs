//! Prints the longest steps of a store with a million live messages (or the number in the second
//! argument) in a directory (the first argument), and the work of each step. It commits and runs
//! slices of housekeeping while checkpoints are taken, segments are freed and sparse ones are
//! copied; then it ends a queue with all messages. With `sim` as the directory, it uses the
//! simulated disk and the CPU time of this thread, which excludes the file system, the disk and
//! other processes.
//!
//! The sizes are those of a running node: groups of 100 messages, slices of 64 KiB.

use martlet_store::{
    BodyId, Disk, Engine, Holds, Options, QueueId, RealDisk, RecordBuffer, SimDisk,
};
use std::path::Path;
use std::time::Duration;

const QUEUES: u64 = 1000;
const GROUP: u64 = 100;
/// The queue with an entry of every message.
const LONG: QueueId = QueueId(QUEUES);

/// The longest steps so far, longest first.
#[derive(Default)]
struct Longest {
    all: Vec<Duration>,
    steps: Vec<(Duration, String)>,
}

impl Longest {
    fn note(&mut self, took: Duration, cause: impl FnOnce() -> String) {
        self.all.push(took);
        if self.steps.len() < 5 || self.steps.last().is_some_and(|(least, _)| took > *least) {
            self.steps.push((took, cause()));
            self.steps.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
            self.steps.truncate(5);
        }
    }

    fn print(&mut self, what: &str) {
        self.all.sort_unstable();
        let count = self.all.len();
        let Some(longest) = self.all.last() else {
            return;
        };
        let p99 = self.all[(count - 1) * 99 / 100];
        println!("{what}: {count}, 99 % within {p99:.1?}, longest {longest:.1?}");
        for (took, cause) in &self.steps {
            println!("    {took:>10.1?}  {cause}");
        }
    }
}

struct Bench<D: Disk> {
    engine: Engine<D>,
    buffer: RecordBuffer,
    commits: Longest,
    slices: Longest,
    now: fn() -> Duration,
}

fn time_of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn time_of_day() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl<D: Disk> Bench<D> {
    fn publish(&mut self, id: u64) {
        let mut record = self.buffer.record();
        record.body(BodyId(id), Holds::NONE, &[&[7; 256]]);
        record.enqueue(QueueId(id % QUEUES), BodyId(id), 0, [1, 0], b"");
    }

    /// Commits the buffer, then runs a slice of housekeeping.
    fn step(&mut self, phase: &str) {
        let began = (self.now)();
        self.engine.append(&self.buffer);
        self.engine.write().expect("writes");
        let wrote = (self.now)() - began;
        self.engine.sync().expect("syncs");
        let records = self.buffer.count();
        self.commits.note((self.now)() - began, || {
            format!("{phase}: {records} records, {wrote:.1?} of it writing")
        });
        self.buffer.clear();
        let began = (self.now)();
        let work = self.engine.housekeep(64 << 10).expect("keeps house");
        self.slices
            .note((self.now)() - began, || format!("{phase}: {work:?}"));
    }

    fn print(&mut self, what: &str) {
        println!("{what}");
        std::mem::take(&mut self.commits).print("  write and sync");
        std::mem::take(&mut self.slices).print("  housekeeping");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().expect("a directory");
    let live: u64 = arguments
        .next()
        .map_or(1_000_000, |count| count.parse().expect("a number"));
    if directory == "sim" {
        return run(SimDisk::new(1), live, time_of_this_thread);
    }
    let path = Path::new(&directory).join(format!("martlet-store-pauses-{}", std::process::id()));
    run(
        RealDisk::open(&path).expect("a directory"),
        live,
        time_of_day,
    );
    std::fs::remove_dir_all(&path).expect("removes");
}

fn run<D: Disk>(disk: D, live: u64, now: fn() -> Duration) {
    let (engine, _) = Engine::open(disk, Options::default()).expect("opens");
    let mut bench = Bench {
        engine,
        buffer: RecordBuffer::new(),
        commits: Longest::default(),
        slices: Longest::default(),
        now,
    };
    for id in 1..=live {
        bench.publish(id);
        if id % GROUP == 0 {
            bench.step("fill");
        }
    }
    bench.print("filling");
    // Each new message ends the oldest of its queue.
    for id in live + 1..=2 * live {
        bench.publish(id);
        let old = id - live;
        let queue = QueueId(old % QUEUES);
        bench.buffer.record().end(queue, BodyId(old), 0);
        if id % GROUP == 0 {
            bench.step("steady");
        }
    }
    bench.print("a message comes, another ends");
    // Most old messages end in another order: segments then become sparse.
    for old in (live + 1..=2 * live).filter(|id| id % 10 != 0) {
        let queue = QueueId(old % QUEUES);
        bench.buffer.record().end(queue, BodyId(old), 0);
        if old % GROUP == 1 {
            bench.step("ends");
        }
    }
    bench.engine.seal().expect("seals");
    for _ in 0..20_000 {
        bench.step("rest");
    }
    bench.print("nine of ten end; then rest");
    for id in 2 * live + 1..=3 * live {
        let mut record = bench.buffer.record();
        record.body(BodyId(id), Holds::NONE, &[&[7; 256]]);
        record.enqueue(LONG, BodyId(id), 0, [1, 0], b"");
        drop(record);
        if id % GROUP == 0 {
            bench.step("one queue");
        }
    }
    bench.print("one long queue");
    bench.buffer.record().forget(LONG.0);
    for round in 0..5000 {
        bench.step(if round == 0 { "forget" } else { "after" });
    }
    bench.print("that queue is forgotten");
    println!("{:?}", bench.engine.stats());
}
