//! A short run of each fuzz target with every test run, always the same one: bytes of a random
//! generator with a fixed seed, and the codec's packet table as seeds, as it is and damaged.
//! A failure prints the input; `MARTLET_FUZZ_INPUT=hex` with the test's name runs it alone, and
//! `MARTLET_FUZZ_RUNS` is how many times as long the run is.

#[path = "../../codec/tests/support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use martlet_broker::{Counters, DropReason};
use martlet_fuzzing::{
    Random, codec_decode, codec_roundtrip, rules_evaluate, shard_steps, shard_steps_counted,
    store_recover,
};

/// Time for one target at most, so that a slow machine does not wait.
const TIME_MAX: Duration = Duration::from_secs(5);

fn run(name: &str, iterations: u64, target: fn(&[u8]), input: impl Fn(&mut Random) -> Vec<u8>) {
    if let Ok(hex) = std::env::var("MARTLET_FUZZ_INPUT") {
        return target(&unhex(&hex));
    }
    let times = std::env::var("MARTLET_FUZZ_RUNS").ok();
    let times: u64 = times.and_then(|text| text.parse().ok()).unwrap_or(1);
    let begin = Instant::now();
    let first: u64 = std::env::var("MARTLET_FUZZ_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    for seed in first..first + iterations * times {
        if begin.elapsed() > TIME_MAX * times as u32 {
            return;
        }
        let bytes = input(&mut Random::new(seed));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&bytes))) {
            eprintln!("{name}: seed {seed}, input {}", hex(&bytes));
            resume_unwind(panic);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// A packet of the table behind a byte for its version, as it is or with some damage.
fn table_input(table: &[support::Case], random: &mut Random) -> Vec<u8> {
    let case = &table[random.below(table.len())];
    let mut bytes = vec![case.version.level() % 3];
    bytes.extend(&case.bytes);
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[at] = random.number() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[test]
fn no_bytes_upset_the_decoder() {
    let table = support::table();
    run("codec_decode", 10_000, codec_decode, |random| {
        table_input(&table, random)
    });
}

#[test]
fn what_decodes_encodes_to_the_same() {
    let table = support::table();
    run("codec_roundtrip", 10_000, codec_roundtrip, |random| {
        table_input(&table, random)
    });
}

#[test]
fn no_steps_upset_a_node_or_leave_anything_behind() {
    run("shard_steps", 2_000, shard_steps, any_steps);
}

/// Steps, few in half of the cases.
fn any_steps(random: &mut Random) -> Vec<u8> {
    let length = 1 << random.below(12);
    random.bytes(length)
}

/// Else all would pass on a node that does nothing.
#[test]
fn steps_reach_what_happens_on_a_node() {
    let mut sum = Counters::default();
    for seed in 0..1_000 {
        sum.add(&shard_steps_counted(&any_steps(&mut Random::new(seed))));
    }
    let dropped = |reason| sum.dropped[reason as usize];
    let reached = [
        ("accepted", sum.connects_accepted),
        ("refused", sum.connects_refused),
        ("taken over", sum.sessions_taken_over),
        ("expired", sum.sessions_expired),
        ("silent", sum.keep_alive_timeouts),
        ("against the protocol", sum.protocol_errors),
        ("sent", sum.publishes_sent),
        ("sent at once", sum.publishes_sent_at_once),
        ("not permitted", sum.publishes_refused),
        ("not retained", sum.retained_refused),
        ("Will", sum.wills_sent),
        ("delivered", sum.delivered),
        ("too old", sum.expired),
        ("recorded", sum.records_appended),
        ("client away", dropped(DropReason::ClientAway)),
        ("queue full", dropped(DropReason::QueueFull)),
        ("session ended", dropped(DropReason::SessionEnded)),
        ("connection lost", dropped(DropReason::ConnectionLost)),
        ("no member", dropped(DropReason::NoMember)),
    ];
    for (what, count) in reached {
        assert!(count > 0, "{what}: never");
    }
}

#[test]
fn no_expression_and_no_payload_upset_the_rules() {
    run("rules_evaluate", 4_000, rules_evaluate, |random| {
        let length = 16 + random.below(400);
        random.bytes(length)
    });
}

#[test]
fn no_change_of_its_files_upsets_a_store_or_makes_it_serve_what_it_never_had() {
    // A dead segment was cut down to nothing; repair left it.
    store_recover(&[
        111, 0, 0, 1, 0, 0, 14, 1, 111, 105, 110, 116, 105, 110, 0, 36, 1, 0, 218, 218,
    ]);
    run("store_recover", 1_000, store_recover, |random| {
        let length = 64 + random.below(1500);
        random.bytes(length)
    });
}

#[test]
fn packets_of_the_table_upset_no_node() {
    let table = support::table();
    run("shard_steps", 1_000, shard_steps, |random| {
        let mut bytes = random.bytes(60);
        for _ in 0..8 {
            // Op 17 sends the bytes that follow their count.
            let packet = table_input(&table, random);
            let packet = &packet[1..packet.len().min(64)];
            bytes.extend([17, random.number() as u8, packet.len() as u8]);
            bytes.extend(packet);
            let length = random.below(40);
            bytes.extend(random.bytes(length));
        }
        bytes
    });
}
