//! The checks detect faults: with each deliberate fault, some seed fails that passes without it.
//!
//! Needs debug assertions, which a release does not have. With `FAULT` in the environment, only the
//! faults with these names.

#![cfg(debug_assertions)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use martlet_fault::Fault;
use martlet_sim::{Kind, Scenario, Violation};

/// Maximum number of seeds to find a fault.
const SEEDS_MAX: u64 = 1500;
const THREADS: usize = 2;

/// Maximum characters of a finding that are printed.
const WHAT_MAX: usize = 160;

/// Seeds that found a fault before, so that not all earlier seeds are run each time. If one finds
/// nothing any more, the others are tried; then the test prints the seed to enter here.
const HINTS: &[(Fault, u64)] = &[
    (Fault::PacketIdFreedEarly, 15),
    (Fault::QuotaIgnored, 2),
    (Fault::WillIgnoresDelay, 15),
    (Fault::WillSentThoughBack, 17),
    (Fault::EpochReadAfterIndex, 684),
    (Fault::ShareReturnLost, 3),
    (Fault::ShareReturnLostAway, 3),
    (Fault::ShareReturnLostAtStart, 42),
    (Fault::ShareReturnLostAtEnd, 61),
    (Fault::ShareReturnLostUnsent, 126),
    (Fault::ShareReturnLostOnTheWay, 553),
    (Fault::ShareReturnLostElsewhere, 42),
    (Fault::ShareReturnLostOld, 354),
    (Fault::ShareReturnLostOfLeaver, 43),
    (Fault::ShareReturnedLent, 61),
    (Fault::ShareReturnedTaken, 3),
    (Fault::ShareReturnedFull, 155),
    (Fault::ShareReturnedByTurn, 20),
    (Fault::ShareReturnsSentQos2, 80),
    (Fault::NoLocalIgnored, 4),
    (Fault::SessionExpiresEarly, 58),
    (Fault::ExpiryFromConnectRecorded, 80),
    (Fault::RoutedAgainToAll, 4),
    (Fault::WillNotUsedUp, 199),
    (Fault::EndNotRecorded, 2),
    (Fault::RevokedWhileWaiting, 78),
    (Fault::FannedOutUnchecked, 8),
    (Fault::LockoutForgottenForWaiting, 1126),
    (Fault::PartRefusedComesAgain, 2),
    (Fault::PartCrashForgotten, 6),
    (Fault::PartSubscriptionStays, 15),
    (Fault::KeepsQos0NotRestored, 3),
    (Fault::KeepsQos0NotRenewed, 14),
    (Fault::PublisherNotRestored, 2),
    (Fault::HoldNotEnded, 1),
    (Fault::HoldOutlivesSession, 49),
    (Fault::HoldOverNotTold, 2),
    (Fault::HoldNotTold, 129),
    (Fault::HoldTakesAll, 60),
    (Fault::HoldForgetsAlias, 201),
    (Fault::HoldDrops, 2),
    (Fault::PartAgeFromAttachment, 8),
    (Fault::PartDropsNewest, 54),
    (Fault::SinkStopForgets, 38),
    (Fault::PartReceiptsNotRestored, 3),
    (Fault::HopsNotStored, 3),
    (Fault::MoveEndsFirst, 3),
    (Fault::ExpiryForgotten, 22),
    (Fault::QueueFirstNotRestored, 3),
    (Fault::QueueLastNotRestored, 3),
    (Fault::RetainedOwedStays, 537),
    (Fault::FailedSyncBelieved, 20),
    (Fault::HousekeepingBelieved, 285),
    (Fault::SyncedTooMuch, 4),
    (Fault::DoubtfulBelieved, 249),
    (Fault::ChecksumIgnored, 48),
    (Fault::ScanIgnoresChecksum, 63),
    (Fault::OneCopyRead, 14),
    (Fault::PubRecNotRestored, 1),
    (Fault::ReviewSkipsAway, 15),
    (Fault::PartRefusalForgotten, 50),
    (Fault::KeptQos0NotRouted, 1),
    (Fault::AckBeforePartQueue, 419),
    (Fault::LaneOfOtherShard, 2),
    (Fault::LaneRunTooEarly, 19),
    (Fault::LaneNotAdded, 19),
    (Fault::PartReceiptNotSent, 5),
    (Fault::ReplacedStaysRetained, 1),
];

/// Faults for which the simulator's stores are too small and too careful: the model test of the
/// store finds them.
const OF_THE_STORE: &[Fault] = &[
    Fault::FreedUndurable,
    Fault::MovedAsNew,
    Fault::NamesUnsynced,
];

/// Faults that need more than the simulated parts cause: tests of restarts find them
/// (`crates/persistence/tests/recovery/faults.rs`).
const OF_RESTARTS: &[Fault] = &[Fault::LaneRouteStays, Fault::LanesNotRoutedAgain];

/// Faults of parts that involve store, memory or operators, which the simulator does not vary:
/// scripts find them (`crates/persistence/tests/recovery/faults.rs`).
const OF_SCRIPTS: &[Fault] = &[
    Fault::KeptQos0IgnoresStore,
    Fault::HoldSparesOperators,
    Fault::HoldOutlivesPart,
    Fault::HoldIgnoresMemory,
    Fault::ReliefDropsHeld,
    Fault::HoldSparesLeavers,
];

/// Faults of permissions, tenants and lockouts.
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

/// Faults of parts.
const OF_PARTS: &[Fault] = &[
    Fault::PartAttachedBeforeRecord,
    Fault::PartSettlementLost,
    Fault::PartSettlesOther,
    Fault::PartRefusedComesAgain,
    Fault::PartRefusalForgotten,
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
    Fault::PublisherNotRestored,
    Fault::HoldNotEnded,
    Fault::HoldOutlivesSession,
    Fault::HoldNotTold,
    Fault::HoldOverNotTold,
    Fault::HoldForgetsAlias,
    Fault::HoldTakesAll,
    Fault::HoldDrops,
    Fault::PartAgeFromAttachment,
    Fault::PartDropsNewest,
    Fault::PartToldBeforeRecord,
    Fault::PartPublishedBeforeRecord,
    Fault::PartPublishUnchecked,
    Fault::PartRefusalNotAnswered,
    Fault::PartOwnComesBack,
    Fault::AckBeforePartQueue,
    Fault::LaneOfOtherShard,
    Fault::LaneRunTooEarly,
    Fault::LaneNotAdded,
    Fault::PartReceiptLost,
    Fault::PartReceiptTwice,
    Fault::PartReceiptOfOther,
    Fault::PartReceiptForDrop,
    Fault::PartReceiptNotSent,
    Fault::PartReceiptsNotRestored,
    Fault::HopsNotStored,
];

/// Faults of integrations.
const OF_SINKS: &[Fault] = &[
    Fault::LaneOfOtherTenant,
    Fault::SinkStopForgets,
    Fault::SinkSettlesBeforeLetter,
    Fault::SinkRepeatedForgotten,
    Fault::SinkRetriesBehind,
    Fault::SinkSilenceIsDone,
    Fault::SinkDrainLooksInHand,
];

/// The scenario that can reveal a fault.
fn kind(fault: Fault, seed: u64) -> Kind {
    match fault {
        Fault::EpochReadAfterIndex => Kind::Churn,
        Fault::RetainedReadBeforeInterest => Kind::Arriving,
        Fault::ExpiryFromConnectRecorded => Kind::Wills,
        Fault::ShareReturnLostOld | Fault::ShareReturnedFull => Kind::Sharing,
        Fault::HousekeepingBelieved => Kind::Parts,
        _ if OF_RULES.contains(&fault) => Kind::Rules,
        _ if OF_SINKS.contains(&fault) => Kind::Sinks,
        _ if OF_PARTS.contains(&fault) => Kind::Parts,
        _ => Kind::of_seed(seed),
    }
}

/// Result of a seed with a fault, or without one.
fn run(kind: Kind, seed: u64, fault: Option<Fault>) -> Option<Violation> {
    martlet_fault::set(fault);
    let outcome = Scenario::new(kind, seed).run(false);
    martlet_fault::set(None);
    outcome.observer.findings.violations.first().cloned()
}

/// The first seed that finds a fault, and its finding. Starts with the seed that found it before.
fn find(fault: Fault) -> Option<String> {
    let hint = HINTS.iter().find(|(known, _)| *known == fault);
    let hint = hint.map_or(0, |(_, seed)| *seed);
    let seeds = core::iter::once(hint).chain((0..SEEDS_MAX).filter(|seed| *seed != hint));
    seeds.into_iter().find_map(|seed| {
        let kind = kind(fault, seed);
        let Violation { check, what, .. } = run(kind, seed, Some(fault))?;
        let what: String = what.chars().take(WHAT_MAX).collect();
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
        let is_elsewhere = [OF_THE_STORE, OF_RESTARTS, OF_SCRIPTS].iter();
        named && !is_elsewhere.into_iter().any(|all| all.contains(fault))
    };
    let faults: Vec<Fault> = Fault::ALL.iter().copied().filter(is_wanted).collect();
    // Each thread takes the next fault when it has finished one: some take much longer.
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
