//! Prints the cost of a million messages (or the number in the first argument): memory of the
//! index, time to open with and without a checkpoint, and the longest commit while checkpoints are
//! taken.

use martlet_store::{BodyId, Engine, Holds, Options, QueueId, RealDisk, RecordBuffer};
use std::time::{Duration, Instant};

const QUEUES: u64 = 1000;

fn main() {
    let messages: u64 = std::env::args()
        .nth(1)
        .and_then(|argument| argument.parse().ok())
        .unwrap_or(1_000_000);
    let directory = std::env::temp_dir().join(format!("martlet-store-size-{}", std::process::id()));
    let open = || {
        let disk = RealDisk::open(&directory).expect("a directory");
        let began = Instant::now();
        let (engine, report) = Engine::open(disk, Options::default()).expect("opens");
        (engine, report, began.elapsed())
    };
    let (mut engine, ..) = open();
    let (mut commits, mut rests) = (Vec::new(), Vec::new());
    let mut buffer = RecordBuffer::new();
    for id in 1..=messages {
        let mut record = buffer.record();
        record.body(BodyId(id), Holds::NONE, &[&[7; 256]]);
        record.enqueue(QueueId(id % QUEUES), BodyId(id), 0, [1, 0], b"");
        drop(record);
        if id % 500 == 0 || id == messages {
            commits.push(timed(|| {
                engine.append(&buffer);
                engine.write().expect("writes");
                engine.sync().expect("syncs");
            }));
            rests.push(timed(|| {
                engine.housekeep(256 * 1024).expect("keeps house");
            }));
            buffer.clear();
        }
    }
    print_longest("commit", &mut commits);
    print_longest("housekeeping", &mut rests);
    let stats = engine.stats();
    println!("{stats:?}");
    let each = stats.index_bytes as f64 / messages as f64;
    println!("index: {each:.1} bytes a message");
    drop(engine);
    let (engine, report, took) = open();
    println!(
        "opened after a kill: {took:.2?}, {} replayed",
        report.replayed
    );
    engine.close().expect("closes");
    let (engine, report, took) = open();
    println!(
        "opened after closing: {took:.2?}, {} replayed",
        report.replayed
    );
    drop(engine);
    std::fs::remove_dir_all(&directory).expect("removes");
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn print_longest(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1000];
    let (p50, p99, max) = (at(500), at(990), at(1000));
    println!("{name}: p50 {p50:.2?}, p99 {p99:.2?}, longest {max:.2?}");
}
