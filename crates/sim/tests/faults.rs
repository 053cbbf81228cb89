//! The checks bite: with each deliberate fault in force, some seed finds it that is fine without.
//!
//! Needs the feature `faults`: `cargo test -p martlet-sim --features faults --test faults`.

use martlet_broker::fault::Fault;
use martlet_sim::{Kind, Scenario, Violation, faults};

/// Seeds that a fault may take to be found.
const SEEDS_MAX: u64 = 1500;
const THREADS: usize = 2;

/// What a seed comes to with a fault, or without one.
fn run(seed: u64, fault: Option<Fault>) -> Option<Violation> {
    faults::set(fault);
    let outcome = Scenario::new(Kind::of_seed(seed), seed).run(false);
    faults::set(None);
    outcome.observer.findings.violations.first().cloned()
}

/// The first seed that finds a fault, and how.
fn find(fault: Fault) -> Option<String> {
    (0..SEEDS_MAX).find_map(|seed| {
        let Violation { check, what, .. } = run(seed, Some(fault))?;
        let found = format!("{fault:?}: seed {seed}: {check}: {what}");
        run(seed, None).is_none().then_some(found)
    })
}

#[test]
fn every_deliberate_fault_is_found() {
    assert!(Fault::ALL.len() >= 20);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let of_thread = Fault::ALL.iter().copied().skip(thread).step_by(THREADS);
            std::thread::spawn(move || {
                let found = of_thread.map(|fault| (fault, find(fault)));
                found.collect::<Vec<_>>()
            })
        })
        .collect();
    let mut missed = Vec::new();
    for thread in threads {
        for (fault, found) in thread.join().expect("no seed panics") {
            match found {
                Some(found) => println!("{found}"),
                None => missed.push(fault),
            }
        }
    }
    assert!(
        missed.is_empty(),
        "not found in {SEEDS_MAX} seeds: {missed:?}"
    );
}
