//! Kills and power failures under load: a small version of `martlet-crash`.

use std::time::Duration;

use martlet_crash::{Plan, run};

use crate::node::{Directory, block_on, serve};

fn kills(name: &str, kills: u32, seed: u64, options: &[&str]) {
    let directory = Directory::new(name);
    let plan = Plan {
        command: serve(options),
        directory: directory.data(),
        kills,
        seed,
        life_max: Duration::from_millis(250),
        publishers: 4,
        subscribers: 3,
        window: 20,
        progress_every: 0,
    };
    let outcome = block_on(run(&plan)).expect("the node starts after each kill");
    assert_eq!(outcome.violations.count, 0, "{:#?}", outcome.violations);
    assert!(
        outcome.totals.acknowledged > u64::from(kills),
        "{}",
        outcome.totals
    );
}

#[test]
fn nothing_acknowledged_is_lost_when_the_node_is_killed() {
    kills("kill", 25, 1, &["--threads", "2"]);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    let options = ["--threads", "2", "--set", "store.simulate_power_loss=true"];
    kills("power", 25, 2, &options);
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged_before_its_sync() {
    let options = ["--durability", "interval", "--set", "store.interval_ms=200"];
    kills("interval", 10, 3, &options);
}
