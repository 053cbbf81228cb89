//! Expiry of sessions and messages, with a clock that may step.

use crate::node::{End, StoredNode};

#[test]
fn a_session_ends_when_its_expiry_has_run_out_across_the_restart() {
    for end in [End::Stop, End::Kill, End::PowerCut(3)] {
        let mut node = StoredNode::new(2);
        node.play(
            "A: CONNECT clean=0 session_expiry=100; SUBSCRIBE t qos=1
             A: DISCONNECT
             B: CONNECT clean=0 session_expiry=10000; SUBSCRIBE t qos=1
             B: DISCONNECT
             C: CONNECT clean=0 session_expiry=100
             P: CONNECT; PUBLISH t qos=1 payload=x",
        );
        let mut node = node.restart(end, 2, 50_000);
        assert_eq!(node.report.sessions, 3, "{:?}", node.report);
        // At least a minute, independent of the clock.
        node.elapse(61_000);
        node.play(
            "A: CONNECT clean=0 session_expiry=100
             A> CONNACK 0 session_present=0
             B: CONNECT clean=0 session_expiry=10000
             B> CONNACK 0 session_present=1
             B> PUBLISH t qos=1 payload=x id=1
             B: PUBACK 1",
        );
        let node = node.restart(end, 2, 0);
        assert_eq!(node.report.orphans, 0, "{:?}", node.report);
        assert_eq!(node.bodies(), 0);
    }
}

#[test]
fn a_message_lives_no_longer_than_its_interval_across_the_restart() {
    for end in [End::Stop, End::Kill, End::PowerCut(3)] {
        let mut node = StoredNode::new(2);
        node.play("A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=2; DISCONNECT");
        node.elapse(555);
        node.play(
            "P: CONNECT
             P: PUBLISH t qos=1 message_expiry=5 payload=over
             P: PUBLISH t qos=2 message_expiry=5 payload=over
             P: PUBLISH r qos=1 message_expiry=5 payload=over retain
             P: PUBLISH t qos=1 message_expiry=6 payload=1
             P: PUBLISH r/8 qos=1 message_expiry=8 payload=2 retain
             P: PUBLISH t qos=2 message_expiry=9 payload=3",
        );
        node.elapse(2_400);
        let mut node = node.restart(end, 1, 1_300);
        node.elapse(1_300);
        // Exactly 5 s have passed.
        node.play(
            "A: CONNECT clean=0 session_expiry=1000
             A> CONNACK 0 session_present=1
             A> PUBLISH t qos=1 payload=1 message_expiry=1 ..
             A> PUBLISH t qos=2 payload=3 message_expiry=4 ..
             A: SUBSCRIBE r/# qos=1
             A> PUBLISH r/8 qos=1 payload=2 message_expiry=3 retain ..
             A> nothing",
        );
        assert_eq!(node.counters().expired, 2);
    }
}

#[test]
fn an_interval_that_is_sent_on_after_a_restart_is_no_longer_than_what_is_left() {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=1; DISCONNECT
         P: CONNECT; PUBLISH t qos=1 message_expiry=9 payload=x",
    );
    node.elapse(700);
    let mut node = node.restart(End::Kill, 1, 1_700);
    node.play(
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH t qos=1 payload=x message_expiry=6 ..",
    );
}

const DAY_MS: u64 = 86_400_000;

/// Whether the session of A, with an expiry of `expiry` seconds, still exists.
fn is_there(node: &mut StoredNode, expiry: u32) -> bool {
    let (present, _) = node.collect_with("a1", expiry);
    present
}

#[test]
fn a_clock_set_back_does_not_let_an_expiry_begin_anew() {
    for (wait_ms, expected) in [(390_000, true), (420_000, false)] {
        let mut node = StoredNode::new(2);
        node.play("A: CONNECT id=a1 clean=0 session_expiry=1000; DISCONNECT");
        node.elapse(600_000);
        let mut node = node.restart(End::Kill, 2, 0);
        // The last start has recorded the time; further ones with an older clock add nothing.
        for _ in 0..3 {
            node.set_wall_clock_back(DAY_MS);
            node = node.restart(End::Kill, 2, 0);
        }
        node.elapse(wait_ms);
        assert_eq!(is_there(&mut node, 1000), expected, "after {wait_ms} ms");
    }
}

#[test]
fn a_clock_that_steps_while_the_node_runs_moves_no_expiry() {
    for (wait_ms, expected) in [(390_000, true), (420_000, false)] {
        let mut node = StoredNode::new(2);
        node.set_wall_clock_back(30 * DAY_MS);
        let mut node = node.restart(End::Stop, 2, 0);
        node.play("A: CONNECT id=a1 clean=0 session_expiry=1000; DISCONNECT");
        node.set_wall_clock_forward(30 * DAY_MS);
        node.record_clock();
        let mut node = node.restart(End::Kill, 2, 600_000);
        node.elapse(wait_ms);
        assert_eq!(is_there(&mut node, 1000), expected, "after {wait_ms} ms");
    }
}

#[test]
fn the_minute_after_a_start_is_given_once() {
    for (wait_ms, expected) in [(20_000, true), (40_000, false)] {
        let mut node = StoredNode::new(2);
        node.play("A: CONNECT id=a1 clean=0 session_expiry=100; DISCONNECT");
        let mut node = node.restart(End::Kill, 2, 500_000);
        node.elapse(30_000);
        let mut node = node.restart(End::Kill, 2, 10);
        node.elapse(wait_ms);
        assert_eq!(
            is_there(&mut node, 100),
            expected,
            "after {wait_ms} ms more"
        );
    }
}

#[test]
fn a_message_expires_across_the_restart() {
    for end in [End::Stop, End::Kill] {
        let mut node = StoredNode::new(2);
        node.play(
            "A: CONNECT clean=0 session_expiry=10000; SUBSCRIBE t qos=1
             A: DISCONNECT
             P: CONNECT
             P: PUBLISH t qos=1 payload=short message_expiry=20
             P: PUBLISH t qos=1 payload=long message_expiry=1000
             P: PUBLISH r qos=1 retain payload=short message_expiry=20
             P: PUBLISH s qos=1 retain payload=long message_expiry=1000",
        );
        let mut node = node.restart(end, 2, 30_000);
        node.play(
            "A: CONNECT clean=0 session_expiry=10000
             A> CONNACK 0 session_present=1
             A> PUBLISH t qos=1 payload=long message_expiry=968..970 id=$id
             A: PUBACK $id
             B: CONNECT; SUBSCRIBE r; SUBSCRIBE s
             B> PUBLISH s retain payload=long message_expiry=968..970",
        );
        // The expired one was removed for good.
        node.elapse(60_000);
        let node = node.restart(end, 2, 0);
        assert_eq!((node.report.entries, node.report.retained), (0, 1));
    }
}
