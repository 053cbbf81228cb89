//! The checks bite: with each deliberate fault in force, some seed finds it that is fine without.
//!
//! Needs the feature `faults`: `cargo test -p martlet-sim --features faults --test faults`. With
//! `FAULT` in the environment only those of these names.

use martlet_fault::Fault;
use martlet_sim::{Kind, Scenario, Violation};

/// Seeds that a fault may take to be found.
const SEEDS_MAX: u64 = 1500;
const THREADS: usize = 2;

/// Those that the simulator's stores are too small and too careful for: the store's own model finds
/// them.
const OF_THE_STORE: &[Fault] = &[
    Fault::FreedUndurable,
    Fault::MovedAsNew,
    Fault::NamesUnsynced,
];

/// Those of permissions, tenants and lockouts.
const OF_RULES: &[Fault] = &[
    Fault::RevokedStays,
    Fault::RevokedWhileWaiting,
    Fault::ReviewSkipsAway,
    Fault::RouteOutlivesRules,
    Fault::RetainedUnchecked,
    Fault::QueuedUnchecked,
    Fault::FannedOutUnchecked,
    Fault::PublishUnchecked,
    Fault::WillUnchecked,
    Fault::SessionForNextHolder,
    Fault::RouteOfOtherTenant,
    Fault::RetainedOfOtherTenant,
    Fault::ShareOfOtherTenant,
    Fault::LockoutForgottenForWaiting,
];

/// The scenario in which a fault has its chance.
fn kind(fault: Fault, seed: u64) -> Kind {
    match fault {
        Fault::EpochReadAfterIndex => Kind::Churn,
        Fault::RetainedReadBeforeInterest => Kind::Arriving,
        Fault::ExpiryFromConnectRecorded => Kind::Wills,
        Fault::ShareReturnLostOld | Fault::ShareReturnedFull => Kind::Sharing,
        _ if OF_RULES.contains(&fault) => Kind::Rules,
        _ => Kind::of_seed(seed),
    }
}

/// What a seed comes to with a fault, or without one.
fn run(kind: Kind, seed: u64, fault: Option<Fault>) -> Option<Violation> {
    martlet_fault::set(fault);
    let outcome = Scenario::new(kind, seed).run(false);
    martlet_fault::set(None);
    outcome.observer.findings.violations.first().cloned()
}

/// The first seed that finds a fault, and how.
fn find(fault: Fault) -> Option<String> {
    (0..SEEDS_MAX).find_map(|seed| {
        let kind = kind(fault, seed);
        let Violation { check, what, .. } = run(kind, seed, Some(fault))?;
        let found = format!("{fault:?}: seed {seed}: {check}: {what}");
        run(kind, seed, None).is_none().then_some(found)
    })
}

#[test]
fn every_deliberate_fault_is_found() {
    assert!(Fault::ALL.len() >= 20);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let only = std::env::var("FAULT").ok();
            let wanted = move |fault: &Fault| {
                only.as_ref()
                    .is_none_or(|o| o.split(',').any(|o| o == format!("{fault:?}")))
            };
            let all = Fault::ALL.iter().copied().filter(wanted);
            let all = all.filter(|fault| !OF_THE_STORE.contains(fault));
            let of_thread = all.skip(thread).step_by(THREADS);
            std::thread::spawn(move || {
                let missed = of_thread.filter(|fault| match find(*fault) {
                    Some(found) => {
                        println!("{found}");
                        false
                    }
                    None => true,
                });
                missed.collect::<Vec<_>>()
            })
        })
        .collect();
    let mut missed = Vec::new();
    for thread in threads {
        missed.extend(thread.join().expect("no seed panics"));
    }
    assert!(
        missed.is_empty(),
        "not found in {SEEDS_MAX} seeds: {missed:?}"
    );
}
