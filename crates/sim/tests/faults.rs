//! The checks bite: with each deliberate fault in force, some seed finds it that is fine without.
//!
//! Needs the feature `faults`: `cargo test -p martlet-sim --features faults --test faults`. With
//! `FAULT` in the environment only those of these names.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use martlet_fault::Fault;
use martlet_sim::{Kind, Scenario, Violation};

/// Seeds that a fault may take to be found.
const SEEDS_MAX: u64 = 1500;
const THREADS: usize = 2;

/// Seeds that found a fault once, so that not all before them are run each time. Where one finds
/// nothing any more, the others are tried; then the test prints the seed to be named here.
const HINTS: &[(Fault, u64)] = &[];

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

/// Those of parts.
const OF_PARTS: &[Fault] = &[
    Fault::PartSettlementLost,
    Fault::PartSettlesOther,
    Fault::PartRefusedComesAgain,
    Fault::PartLaterForgotten,
    Fault::PartCreditNotReturned,
    Fault::PartCreditNotLowered,
    Fault::PartInFlightForgotten,
    Fault::PartDupForgotten,
    Fault::PartCrashForgotten,
    Fault::PartOrderSwapped,
    Fault::PartSubscriptionStays,
    Fault::PartEndForgotten,
    Fault::KeptQos0NotRecorded,
    Fault::KeptQos0NotRouted,
    Fault::KeepsQos0NotRestored,
    Fault::KeepsQos0NotRenewed,
];

/// The scenario in which a fault has its chance.
fn kind(fault: Fault, seed: u64) -> Kind {
    match fault {
        Fault::EpochReadAfterIndex => Kind::Churn,
        Fault::RetainedReadBeforeInterest => Kind::Arriving,
        Fault::ExpiryFromConnectRecorded => Kind::Wills,
        Fault::ShareReturnLostOld | Fault::ShareReturnedFull => Kind::Sharing,
        _ if OF_RULES.contains(&fault) => Kind::Rules,
        _ if OF_PARTS.contains(&fault) => Kind::Parts,
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

/// The first seed that finds a fault, and how. Seeds begin at the one that found it last.
fn find(fault: Fault) -> Option<String> {
    let hint = HINTS.iter().find(|(known, _)| *known == fault);
    let hint = hint.map_or(0, |(_, seed)| *seed);
    let seeds = core::iter::once(hint).chain((0..SEEDS_MAX).filter(|seed| *seed != hint));
    seeds.into_iter().find_map(|seed| {
        let kind = kind(fault, seed);
        let Violation { check, what, .. } = run(kind, seed, Some(fault))?;
        let found = format!("{fault:?}: seed {seed}: {check}: {what}");
        run(kind, seed, None).is_none().then_some(found)
    })
}

#[test]
fn every_deliberate_fault_is_found() {
    assert!(Fault::ALL.len() >= 20);
    let only = std::env::var("FAULT").ok();
    let is_wanted = |fault: &Fault| {
        let name = format!("{fault:?}");
        let named = only
            .as_ref()
            .is_none_or(|only| only.split(',').any(|one| one == name));
        named && !OF_THE_STORE.contains(fault)
    };
    let faults: Vec<Fault> = Fault::ALL.iter().copied().filter(is_wanted).collect();
    // Each thread takes the next fault when it is done with one: some take much longer.
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    match find(*fault) {
                        Some(found) => println!("{:.1} s {found}", began.elapsed().as_secs_f64()),
                        None => missed.lock().expect("no seed panics").push(*fault),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no seed panics");
    assert!(
        missed.is_empty(),
        "not found in {SEEDS_MAX} seeds: {missed:?}"
    );
}
