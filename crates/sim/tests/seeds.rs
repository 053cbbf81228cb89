//! Runs a thousand seeds per test run, or `SIM_SEEDS` from the environment; `martlet-sim --hours`
//! runs any number.

use martlet_sim::{Kind, Scenario};

/// Total number of seeds, divided among threads.
const SEEDS: u64 = 1200;
const THREADS: u64 = 2;
/// Number of seeds of integrations.
const SINK_SEEDS: u64 = 150;

/// Runs the seeds of one thread; returns the first finding of each seed that failed.
fn run(thread: u64) -> Vec<String> {
    let mut found = Vec::new();
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|s| s.parse().ok());
    for seed in (thread..seeds.unwrap_or(SEEDS)).step_by(THREADS as usize) {
        let kind = Kind::of_seed(seed);
        let outcome = Scenario::new(kind, seed).run(false);
        if let Some(violation) = outcome.observer.findings.violations.first() {
            found.push(format!(
                "seed {seed}: {}: {}\n  cargo run --release -p martlet-sim -- --seed {seed} --log",
                violation.check, violation.what
            ));
        }
    }
    found
}

#[test]
fn a_thousand_seeds_keep_every_promise() {
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| std::thread::spawn(move || run(thread)))
        .collect();
    let found: Vec<String> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("no seed panics"))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Seeds of integrations: the production runner, with a target and tables that fail.
#[test]
fn integrations_lose_nothing_and_keep_the_order() {
    for seed in 0..SINK_SEEDS {
        let outcome = Scenario::new(Kind::Sinks, seed).run(false);
        let found = outcome.observer.findings.violations;
        assert!(found.is_empty(), "{seed}: {:?}", found.first());
    }
}

/// Seeds that failed once. c9's session expired while its link was slow, and the client noticed
/// the next session only by Session Present. In 190 the node crashed before c6 learned of its
/// session: messages that c6 may have been sent before the crash have DUP set.
#[test]
fn a_session_that_nobody_heard_of_is_not_the_one_before() {
    for (kind, seed) in [(Kind::Everything, 95_000_220), (Kind::Sharing, 190)] {
        let outcome = Scenario::new(kind, seed).run(false);
        let found = outcome.observer.findings.violations;
        assert!(found.is_empty(), "{seed}: {:?}", found.first());
    }
}

/// Seeds that failed once: a QoS 2 message in flight, which its client might not have after
/// reconnecting, was dropped, and another message got its Packet Identifier.
#[test]
fn a_packet_identifier_stands_for_one_message_until_its_exchange_is_over() {
    for seed in [100_105, 100_388, 100_482, 100_681] {
        let outcome = Scenario::new(Kind::Rules, seed).run(false);
        let found = outcome.observer.findings.violations;
        assert!(found.is_empty(), "{seed}: {:?}", found.first());
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..10 {
        let run = || {
            let outcome = Scenario::new(Kind::of_seed(seed), seed).run(true);
            let log = outcome.observer.log.expect("the log was asked for");
            format!("{log:?}")
        };
        assert!(run() == run(), "seed {seed} went differently");
    }
}
