//! Random operations, crashes and failing disks, compared with a simple model: after every crash
//! the store equals the state after some prefix of the records, and that prefix contains
//! everything that was durable.

use crate::common::{Generator, Model, Random, Step, record, tenant_of};
use martlet_store::{
    BodyId, Call, Engine, Failure, Fault, Holds, Lost, Lsn, Options, RecordBuffer, SimDisk, check,
};

/// A store under test, with the records that were passed to it.
struct Bench {
    disk: SimDisk,
    options: Options,
    engine: Option<Engine<SimDisk>>,
    records: Vec<(Lsn, Vec<Step>)>,
    /// The model of all records that were written.
    written: Model,
    written_count: usize,
    durable: Lsn,
    random: Random,
    generator: Generator,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let disk = SimDisk::new(seed);
        let options = Options {
            segment_bytes: [4096, 8192, 32_768][random.below(3) as usize],
            tail_bytes: [4096, 20_000][random.below(2) as usize],
            salt: seed,
            tenant_of: Some(tenant_of),
            ..Options::default()
        };
        let mut bench = Bench {
            disk,
            options,
            engine: None,
            records: Vec::new(),
            written: Model::default(),
            written_count: 0,
            durable: 0,
            random,
            generator: Generator::new(1 + seed % 6, [40, 300][(seed / 6 % 2) as usize]),
        };
        bench.open();
        bench
    }

    fn engine(&mut self) -> &mut Engine<SimDisk> {
        self.engine.as_mut().expect("open")
    }

    /// Opens the store, and checks that there is no damage and that the durable prefix exists.
    fn open(&mut self) {
        self.engine = None;
        if self.random.below(4) == 0 {
            // An opening that fails changes nothing.
            self.inject(20, true);
            drop(Engine::open(self.disk.clone(), self.options.clone()));
        }
        self.disk.lift();
        let is_there = self.disk.contents("STORE").is_some();
        if is_there && self.random.below(4) == 0 {
            check(self.disk.clone(), |damage| {
                // The random records have entries of bodies that never existed.
                let is_nowhere = matches!(damage.lost, Lost::Body { .. }) && damage.file.is_empty();
                assert!(is_nowhere, "{damage}");
            })
            .expect("can be read");
        }
        let (engine, report) =
            Engine::open(self.disk.clone(), self.options.clone()).expect("opens");
        assert_eq!(report.damage, [], "nothing was damaged");
        let recovered = engine.durable();
        assert!(recovered >= self.durable, "{recovered} < {}", self.durable);
        self.durable = recovered;
        self.records.retain(|(lsn, _)| *lsn <= recovered);
        self.engine = Some(engine);
        self.written = Model::default();
        self.written_count = 0;
        self.catch_up();
        self.compare();
    }

    /// Updates the model: everything appended is written.
    fn catch_up(&mut self) {
        for (lsn, steps) in &self.records[self.written_count..] {
            self.written.apply(*lsn, steps);
        }
        self.written_count = self.records.len();
    }

    fn compare(&mut self) {
        let engine = self.engine.as_mut().expect("open");
        self.written.compare(engine);
        self.written.compare_tenants(engine);
    }

    fn inject(&mut self, calls_max: u64, once: bool) {
        let failures = [
            Failure::NoSpace,
            Failure::Io,
            Failure::ReadOnly,
            Failure::ShortWrite,
        ];
        let calls = [
            None,
            Some(Call::Write),
            Some(Call::Sync),
            Some(Call::Create),
            Some(Call::Rename),
            Some(Call::SyncDir),
        ];
        self.disk.inject(Fault {
            call: calls[self.random.below(6) as usize],
            skip: self.random.below(calls_max),
            failure: failures[self.random.below(4) as usize],
            once,
        });
    }

    fn append(&mut self) {
        let mut buffer = RecordBuffer::new();
        let count = 1 + self.random.below(4);
        let mut all = Vec::new();
        for _ in 0..count {
            let steps = self.generator.steps(&mut self.random);
            record(&mut buffer, &steps);
            all.push(steps);
        }
        let last = self.engine().append(&buffer);
        let first = last + 1 - count;
        self.records.extend((first..).zip(all));
    }

    /// The records take effect before the sync, after it, or when its result is known.
    fn write_and_sync(&mut self) {
        let (disk, moment) = (self.disk.clone(), self.random.below(3));
        let mut ran = false;
        let synced = self.engine().write_and_sync(|work, apply| {
            ran = true;
            if moment == 0 {
                apply();
            }
            let synced = work.run(&disk);
            if moment == 1 {
                apply();
            }
            synced
        });
        // After a failed sync, everything written has taken effect too.
        if ran || synced.is_ok() {
            self.catch_up();
        }
        if let Ok(lsn) = synced {
            self.durable = lsn;
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..40 => self.append(),
            40..60 => {
                if self.engine().write().is_ok() {
                    self.catch_up();
                }
            }
            60..70 => {
                // Not always after a write: then it covers what was written before.
                if self.random.below(5) > 0 && self.engine().write().is_ok() {
                    self.catch_up();
                }
                if let Ok(lsn) = self.engine().sync() {
                    self.durable = lsn;
                }
            }
            70..78 => self.write_and_sync(),
            78..92 => {
                let budget = 1 << self.random.below(14);
                let _ = self.engine().housekeep(budget);
            }
            92 => {
                if self.engine().seal().is_ok() {
                    self.catch_up();
                }
            }
            93 => {
                let once = self.random.below(2) == 0;
                self.inject(30, once);
            }
            94 => self.disk.lift(),
            95 => {
                // Killed: written data remains.
                self.disk.lift();
                self.open();
            }
            96 => {
                let engine = self.engine.take().expect("open");
                if engine.close().is_ok() {
                    self.durable = self.records.last().map_or(0, |(lsn, _)| *lsn);
                }
                self.open();
            }
            97 | 98 => {
                let seed = self.random.next();
                self.engine = None;
                self.disk.crash(seed);
                self.open();
            }
            _ => {
                if self.engine().write().is_ok() {
                    self.catch_up();
                    // Reading must not fail because of this.
                    self.disk.lift();
                    self.compare();
                }
            }
        }
    }
}

fn run_seed(seed: u64, steps: usize) {
    let mut bench = Bench::new(seed);
    for _ in 0..steps {
        bench.step();
    }
    bench.disk.lift();
    bench.engine().write().expect("the disk is well again");
    bench.catch_up();
    bench.engine().sync().expect("the disk is well again");
    bench.compare();
}

fn run(seeds: std::ops::Range<u64>, steps: usize) {
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run_seed(seed, steps));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn whatever_fails_the_store_is_a_prefix_with_all_that_was_promised() {
    let seeds = std::env::var("STORE_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok());
    let first = std::env::var("STORE_FIRST")
        .ok()
        .and_then(|s| s.parse().ok());
    let first = first.unwrap_or(0);
    let steps = std::env::var("STORE_STEPS")
        .ok()
        .and_then(|s| s.parse().ok());
    run(first..first + seeds.unwrap_or(60), steps.unwrap_or(600));
}

#[test]
fn a_release_that_comes_before_its_body_is_remembered() {
    let disk = SimDisk::new(1);
    let (mut engine, _) = Engine::open(disk, Options::default()).unwrap();
    let mut buffer = RecordBuffer::new();
    buffer.record().release(BodyId(7), Holds::ROUTING);
    buffer.record().body(BodyId(7), Holds::ROUTING, &[b"gone"]);
    let kept = Holds::ROUTING.with(Holds::KEPT);
    buffer.record().release(BodyId(8), Holds::ROUTING);
    buffer.record().body(BodyId(8), kept, &[b"kept"]);
    engine.append(&buffer);
    engine.write().unwrap();
    assert_eq!(engine.stats().bodies, 1);
    assert_eq!(engine.holds(BodyId(8)), Holds::KEPT);
}

/// The model detects faults: with each deliberate fault, some seed fails that passes without it.
///
/// With `FAULT` in the environment, only the fault of that name.
#[cfg(debug_assertions)]
#[test]
fn every_deliberate_fault_of_the_engine_is_found() {
    use martlet_fault::Fault as Broken;
    use std::panic::catch_unwind;

    const SEEDS_MAX: u64 = 1000;
    let faults = [
        Broken::FreedUncovered,
        Broken::FreedUndurable,
        Broken::CheckpointUnsynced,
        Broken::CheckpointBlurred,
        Broken::MovedAsNew,
        Broken::NamesUnsynced,
        Broken::FailedSyncBelieved,
        Broken::SyncedTooMuch,
        Broken::TornTailServed,
        Broken::DoubtfulBelieved,
    ];
    let only = std::env::var("FAULT").ok();
    let wanted = |fault: &Broken| only.as_ref().is_none_or(|o| *o == format!("{fault:?}"));
    // A seed that finds a violation panics: that is expected here.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for fault in faults.into_iter().filter(wanted) {
        let found = (0..SEEDS_MAX).find(|seed| {
            martlet_fault::set(Some(fault));
            let broken = catch_unwind(|| run_seed(*seed, 600)).is_err();
            martlet_fault::set(None);
            broken && catch_unwind(|| run_seed(*seed, 600)).is_ok()
        });
        match found {
            Some(seed) => println!("{fault:?}: seed {seed}"),
            None => missed.push(fault),
        }
    }
    std::panic::set_hook(hook);
    assert!(
        missed.is_empty(),
        "not found in {SEEDS_MAX} seeds: {missed:?}"
    );
}
