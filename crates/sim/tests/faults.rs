//! The checks bite: with each deliberate fault in force, some seed finds it.
//!
//! Needs the feature `faults`: `cargo test -p martlet-sim --features faults --test faults`.

use martlet_broker::fault::Fault;
use martlet_sim::{Kind, Scenario, faults};

/// Seeds that a fault may take to be found.
const SEEDS_MAX: u64 = 400;

/// The first seed that finds a fault, and how.
fn find(fault: Fault) -> Option<(u64, String)> {
    faults::set(Some(fault));
    let found = (0..SEEDS_MAX).find_map(|seed| {
        let outcome = Scenario::new(Kind::of_seed(seed), seed).run(false);
        let violation = outcome.observer.findings.violations.first()?.clone();
        Some((seed, format!("{}: {}", violation.check, violation.what)))
    });
    faults::set(None);
    found
}

#[test]
fn every_deliberate_fault_is_found() {
    let mut missed = Vec::new();
    for &fault in Fault::ALL {
        match find(fault) {
            Some((seed, how)) => println!("{fault:?}: seed {seed}: {how}"),
            None => missed.push(fault),
        }
    }
    assert!(Fault::ALL.len() >= 20);
    assert!(
        missed.is_empty(),
        "not found in {SEEDS_MAX} seeds: {missed:?}"
    );
}
