//! Measures the store beside `bare` (the same bytes in the same groups: no index, no checksum,
//! nothing ever given back) and redb in its best layout for this use (`redb-heads`: one row per
//! message at a growing key, per queue one record that moves). One engine and one pattern per
//! process; `bench/store-compare` runs all.
//!
//! Two producers build records and keep a number of them in flight; the main thread writes and
//! syncs whatever has come in meanwhile.

mod engines;
mod load;
mod measure;

use engines::{Bare, Nothing, Own, RedbHeads, Store};
use std::path::PathBuf;

/// Settings of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub directory: PathBuf,
    /// Bytes of a message.
    pub payload: usize,
    /// Queues that each message enters.
    pub entries: u64,
    /// Messages in flight, of both producers together.
    pub window: usize,
    /// Seconds of the patterns that run for a time.
    pub secs: f64,
    /// Messages of the patterns that need a number.
    pub messages: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, pattern, directory, rest @ ..] = &arguments[..] else {
        eprintln!("engine pattern directory [name=value …]");
        std::process::exit(2);
    };
    let mut plan = Plan {
        directory: PathBuf::from(directory),
        payload: 256,
        entries: 1,
        window: 1000,
        secs: 5.0,
        messages: 1_000_000,
    };
    for argument in rest {
        let (name, value) = argument.split_once('=').expect("name=value");
        let number: f64 = value.parse().expect("a number");
        match name {
            "payload" => plan.payload = number as usize,
            "entries" => plan.entries = number as u64,
            "window" => plan.window = number as usize,
            "secs" => plan.secs = number,
            "messages" => plan.messages = number as u64,
            _ => panic!("unknown: {name}"),
        }
    }
    let _ = std::fs::remove_dir_all(&plan.directory);
    match engine.as_str() {
        "bare" => run(Bare::open, pattern, &plan),
        "nothing" => run(Nothing::open, pattern, &plan),
        "own" => run(Own::open, pattern, &plan),
        "redb" => run(RedbHeads::open, pattern, &plan),
        _ => panic!("unknown: {engine}"),
    }
    let _ = std::fs::remove_dir_all(&plan.directory);
}

fn run<S: Store>(open: impl Fn(&Plan) -> S, pattern: &str, plan: &Plan) {
    match pattern {
        "saturated" => load::saturated(open(plan), plan),
        "steady" => load::steady(open(plan), plan),
        "drain" => load::drain(open, plan),
        "lone" => load::lone(open(plan), plan),
        _ => panic!("unknown: {pattern}"),
    }
}
