//! The tests detect faults: each of these behaviours fails with a deliberate fault.
//!
//! Needs debug assertions, which a release does not have.

#[allow(dead_code)]
#[path = "../../../script/tests/part_holds.rs"]
mod part_holds;

use std::panic::catch_unwind;

use martlet_fault::Fault;

use crate::node::End;
use crate::{cases, lanes, part_order, parts};

/// Whether the behaviour fails with the fault, and passes without it.
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
    let routed_again = || lanes::gets_what_is_routed_again();
    assert!(is_found(Fault::LanesNotRoutedAgain, routed_again));
}

#[test]
fn holds_that_go_too_far_or_not_far_enough_are_found() {
    let kept = || part_holds::qos_0_is_not_kept_while_the_store_does_not_keep_up();
    assert!(is_found(Fault::KeptQos0IgnoresStore, kept));
    let operators = || part_holds::what_operators_publish_waits_aside_for_a_part_and_others_go_on();
    assert!(is_found(Fault::HoldSparesOperators, operators));
    let leavers = || part_holds::a_client_that_hangs_up_does_not_get_past_a_hold();
    assert!(is_found(Fault::HoldSparesLeavers, leavers));
    let share = || part_holds::a_queue_in_memory_holds_before_it_has_used_up_its_share_of_that();
    assert!(is_found(Fault::HoldIgnoresMemory, share));
    let relief =
        || part_holds::short_memory_holds_publishers_and_drops_nothing_of_the_queue_of_a_part();
    assert!(is_found(Fault::ReliefDropsHeld, relief));
    let absent = || parts::a_part_that_is_not_attached_in_time_after_a_start_holds_nobody();
    assert!(is_found(Fault::HoldOutlivesPart, absent));
}

#[test]
fn acknowledgements_before_a_message_is_in_its_queue_are_found() {
    let restarts = || part_order::is_that_of_acknowledgements(End::Kill);
    assert!(is_found(Fault::AckBeforePartQueue, restarts));
}
