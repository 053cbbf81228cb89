//! The tests bite: each of these behaviours is found to be broken with a deliberate fault in force.
//!
//! Needs the feature `faults`: `cargo test -p martlet-persistence --features faults --test faults`.

#![allow(clippy::unwrap_used)]

#[path = "recovery/cases.rs"]
mod cases;
#[path = "recovery/lanes.rs"]
mod lanes;
#[allow(dead_code)]
#[path = "recovery/node.rs"]
mod node;

use std::panic::catch_unwind;

use martlet_fault::Fault;
use node::End;

/// Whether the behaviour is found to be broken with the fault, and is not without it.
fn is_found(fault: Fault, play: fn()) -> bool {
    play();
    martlet_fault::set(Some(fault));
    let found = catch_unwind(play).is_err();
    martlet_fault::set(None);
    found
}

#[test]
fn records_that_say_too_little_are_found() {
    let in_flight = || cases::in_flight_keeps_its_subscription_identifiers(End::Kill);
    assert!(is_found(Fault::InFlightIdsForgotten, in_flight));
    let unsubscribe = || cases::unsubscribe_leaves_no_state();
    assert!(is_found(Fault::RetainedOwedStays, unsubscribe));
}

#[test]
fn lanes_that_mix_up_messages_are_found() {
    assert!(is_found(Fault::LaneOfOtherShard, || lanes::keep_order(
        2,
        2,
        End::Kill
    )));
    assert!(is_found(Fault::LaneRunTooEarly, || lanes::keep_order(
        4,
        3,
        End::Kill
    )));
    let new_shards = || lanes::new_shards_have_lanes(1, 3, End::Kill);
    assert!(is_found(Fault::LaneNotAdded, new_shards));
    let routed = || lanes::gets_what_was_routed_before_it();
    assert!(is_found(Fault::LaneRouteStays, routed));
}
