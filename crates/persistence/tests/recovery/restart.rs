//! What a restart keeps, with one shard and several, after a stop, a kill and a loss of power, and
//! with another number of shards than before.

use martlet_script::{Script, Users};
use martlet_store::{Call, Failure, Fault};

use crate::node::{End, StoredNode};

/// Plays `before`, restarts in each way, plays `after`.
fn restarts(before: &str, after: &str) {
    restarts_with(&[], before, after);
}

fn restarts_with(settings: &[(&str, &str)], before: &str, after: &str) {
    let settings: Vec<(String, String)> = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let ends = [End::Stop, End::Kill, End::PowerCut(1), End::PowerCut(2)];
    for (shards_before, shards_after) in [(1, 1), (3, 3), (1, 3), (3, 1), (2, 5)] {
        for end in ends {
            println!("{shards_before} shards, then {shards_after}, {end:?}");
            let mut node = StoredNode::with_settings(shards_before, &settings);
            node.play(before);
            let mut node = node.restart(end, shards_after, 10);
            assert_eq!(node.report.damaged, 0, "{:?}", node.report);
            node.play(after);
            // And what has just been brought back comes back again.
            let node = node.restart(end, shards_before, 10);
            assert_eq!(node.report.damaged, 0, "{:?}", node.report);
        }
    }
}

#[test]
fn messages_of_qos_1_and_2_wait_for_a_client_that_is_away() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t/# qos=2
         A: DISCONNECT
         P: CONNECT
         P: PUBLISH t/1 qos=1 payload=one content_type=x user_property=a:b
         P: PUBLISH t/2 qos=2 payload=two
         P: PUBLISH t/0 payload=zero
         P: PUBLISH t/3 qos=1 payload=three",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH t/1 qos=1 payload=one content_type=x user_property=a:b id=1
         A> PUBLISH t/2 qos=2 payload=two id=2
         A> PUBLISH t/3 qos=1 payload=three id=3
         A: PUBACK 1 & PUBREC 2 & PUBACK 3
         A> PUBREL 2
         A: PUBCOMP 2
         A: DISCONNECT
         A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> nothing",
    );
}

#[test]
fn what_was_sent_is_sent_again_with_its_packet_identifier() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=2
         P: CONNECT
         P: PUBLISH t qos=2 payload=released
         P: PUBLISH t qos=1 payload=one; PUBLISH t qos=2 payload=two
         A> PUBLISH t qos=2 payload=released id=1
         A> PUBLISH t qos=1 payload=one id=2
         A> PUBLISH t qos=2 payload=two id=3
         A: PUBREC 1
         A> PUBREL 1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBREL 1
         A> PUBLISH t qos=1 payload=one id=2 dup
         A> PUBLISH t qos=2 payload=two id=3 dup
         A: PUBCOMP 1 & PUBACK 2 & PUBREC 3
         A> PUBREL 3
         A: PUBCOMP 3
         P: CONNECT; PUBLISH t qos=1 payload=new
         A> PUBLISH t qos=1 payload=new id=4
         A: PUBACK 4",
    );
}

#[test]
fn messages_keep_the_subscription_identifiers_they_were_queued_with() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000
         A: SUBSCRIBE t/# qos=1 subscription_id=300; SUBSCRIBE t/+ qos=2 subscription_id=2
         A: SUBSCRIBE t/both qos=1; SUBSCRIBE +/m qos=1 subscription_id=7
         A: DISCONNECT
         P: CONNECT
         P: PUBLISH t/a/b qos=1 payload=1
         P: PUBLISH t/both qos=2 payload=2
         P: PUBLISH t/m qos=2 payload=3
         P: PUBLISH t/both qos=1 payload=4",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH t/a/b qos=1 payload=1 subscription_id=300
         A> PUBLISH t/both qos=2 payload=2 subscription_id=2 subscription_id=300 id=$two
         A> PUBLISH t/m qos=2 payload=3 subscription_id=2 subscription_id=7 subscription_id=300 ..
         A> PUBLISH t/both qos=1 payload=4 subscription_id=2 subscription_id=300 ..
         A: PUBREC $two
         A> PUBREL $two
         A: DISCONNECT",
    );
}

#[test]
fn what_is_in_flight_keeps_its_subscription_identifiers() {
    for end in [End::Stop, End::Kill, End::PowerCut(1), End::PowerCut(2)] {
        crate::cases::in_flight_keeps_its_subscription_identifiers(end);
    }
}

#[test]
fn unsubscribe_leaves_nothing_of_a_subscription_that_is_owed_retained_messages() {
    crate::cases::unsubscribe_leaves_no_state();
}

#[test]
fn a_qos_2_message_received_before_is_not_received_twice() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=1
         P: CONNECT clean=0 session_expiry=1000
         P: PUBLISH t qos=2 id=7 payload=x
         P> PUBREC 7
         A> PUBLISH t qos=1 payload=x id=1
         A: PUBACK 1
         P: PUBLISH other qos=2 id=8 payload=x
         P> PUBREC 8 ..
         P: PUBREL 8
         P> PUBCOMP 8",
        "P: CONNECT clean=0 session_expiry=1000
         P> CONNACK 0 session_present=1
         A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         P: PUBLISH t qos=2 id=7 payload=x dup
         P> PUBREC 7
         P: PUBREL 7
         P> PUBCOMP 7
         A> nothing
         P: PUBLISH t qos=2 id=8 payload=y
         P> PUBREC 8
         A> PUBLISH t qos=1 payload=y id=1
         A: PUBACK 1
         P: PUBREL 8
         P> PUBCOMP 8",
    );
}

#[test]
fn of_retained_messages_the_last_of_each_topic_is_kept_and_what_was_cleared_stays_so() {
    restarts(
        "P: CONNECT
         P: PUBLISH r/1 retain payload=old; PUBLISH r/1 qos=1 retain payload=new
         P: PUBLISH r/2 qos=2 retain payload=two; PUBLISH r/3 qos=1 retain payload=gone
         P: PUBLISH r/3 qos=1 retain
         P: PUBLISH r/4 retain payload=a; PUBLISH r/4 retain; PUBLISH r/4 retain payload=b",
        "A: CONNECT; SUBSCRIBE r/+ qos=1
         A> PUBLISH r/1 qos=1 retain payload=new id=1
         A> PUBLISH r/2 qos=1 retain payload=two id=2
         A> PUBLISH r/4 retain payload=b
         A: PUBACK 1 & PUBACK 2
         P: CONNECT; PUBLISH r/1 qos=1 retain
         A> PUBLISH r/1 qos=1 id=3
         A: PUBACK 3
         B: CONNECT; SUBSCRIBE r/1
         B> nothing",
    );
}

#[test]
fn subscriptions_keep_their_options_and_what_was_unsubscribed_stays_so() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000
         A: SUBSCRIBE a/+ qos=1 nl rap subscription_id=5
         A: SUBSCRIBE a/b qos=2 subscription_id=268435455
         A: SUBSCRIBE gone qos=1; SUBSCRIBE c qos=0
         A: UNSUBSCRIBE gone
         A: DISCONNECT",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         P: CONNECT
         P: PUBLISH gone qos=1 payload=x
         P> PUBACK * reason=0x10
         P: PUBLISH a/x qos=2 retain payload=1
         A> PUBLISH a/x qos=1 retain payload=1 subscription_id=5 id=1
         A: PUBACK 1
         P: PUBLISH a/b qos=2 payload=2
         A> PUBLISH a/b qos=2 payload=2 subscription_id=5 subscription_id=268435455 id=2
         A: PUBREC 2
         A> PUBREL 2
         A: PUBCOMP 2
         P: PUBLISH c qos=2 payload=3
         A> PUBLISH c payload=3
         A: PUBLISH a/y qos=1 payload=own
         A> PUBACK * reason=0x10",
    );
}

#[test]
fn several_subscription_identifiers_wait_with_their_message() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000
         A: SUBSCRIBE a/+ qos=1 subscription_id=5; SUBSCRIBE a/b qos=2 subscription_id=300
         A: DISCONNECT
         P: CONNECT; PUBLISH a/b qos=1 payload=x",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH a/b qos=1 payload=x subscription_id=5 subscription_id=300 id=1
         A: PUBACK 1",
    );
}

#[test]
fn a_client_that_was_connected_has_left_and_its_will_is_sent_after_the_grace() {
    restarts(
        "W: CONNECT id=w clean=0 session_expiry=1000 will.topic=w/1 will.payload=gone will.qos=1 will.delay=3
         V: CONNECT id=v will.topic=w/2 will.payload=gone2
         X: CONNECT id=x will.topic=w/3 will.payload=never
         X: DISCONNECT
         A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE w/# qos=1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         wait 20s
         A> nothing
         wait 20s
         {
         A> PUBLISH w/1 qos=1 payload=gone id=$one
         A> PUBLISH w/2 payload=gone2
         }
         A: PUBACK $one
         wait 100s
         A> nothing
         W: CONNECT id=w clean=0 session_expiry=1000
         W> CONNACK 0 session_present=1
         V: CONNECT id=v clean=0 session_expiry=1000",
    );
}

#[test]
fn who_comes_back_in_time_has_no_will_sent() {
    restarts(
        "W: CONNECT id=w clean=0 session_expiry=1000 will.topic=w will.payload=gone
         A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE w qos=1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         W: CONNECT id=w clean=0 session_expiry=1000
         W> CONNACK 0 session_present=1
         wait 100s
         A> nothing",
    );
}

#[test]
fn a_will_that_was_sent_is_not_sent_again() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE w/# qos=1
         W: CONNECT id=w clean=0 session_expiry=1000 will.topic=w/1 will.payload=gone will.qos=1
         V: CONNECT id=v clean=0 session_expiry=1000 will.topic=nobody will.payload=gone
         W: drop
         V: drop
         A> PUBLISH w/1 qos=1 payload=gone id=1
         A: PUBACK 1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A: SUBSCRIBE nobody
         wait 100s
         A> nothing",
    );
}

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
        // A minute at least, whatever the clock says.
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
fn retained_messages_still_owed_are_owed_to_a_subscription_that_is_made_again() {
    const COUNT: usize = 400;
    let mut node = StoredNode::new(1);
    node.play(&format!(
        "P: CONNECT
         repeat {COUNT}
         P: PUBLISH r/${{n}} qos=1 retain payload=${{n}}
         end"
    ));
    // It takes none, so that most are still owed when it says that it wants none again.
    node.play(
        "A: CONNECT id=a1 clean=0 session_expiry=65536 receive_maximum=1; SUBSCRIBE r/# qos=1
         A> PUBLISH r/1 qos=1 payload=1 retain ..
         A: SUBSCRIBE r/# qos=1 rh=2",
    );
    let mut node = node.restart(End::Kill, 1, 10);
    let (present, mut payloads) = node.collect("a1");
    assert!(present);
    payloads.sort_unstable();
    payloads.dedup();
    assert_eq!(payloads.len(), COUNT);
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

/// Whether the session of A, with an expiry of `expiry` seconds, is still there.
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
        // The last start has recorded the time; each further one with an older clock adds nothing.
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
fn no_local_keeps_to_the_publisher_of_a_retained_message() {
    restarts(
        "A: CONNECT id=a1 clean=0 session_expiry=1000
         A: PUBLISH t/1 retain qos=1 payload=own
         B: CONNECT id=b1; PUBLISH t/2 retain qos=1 payload=other",
        "A: CONNECT id=a1 clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A: SUBSCRIBE t/+ nl
         A> PUBLISH t/2 retain payload=other
         A> nothing
         A: UNSUBSCRIBE t/+",
    );
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
        // The expired one has been taken away for good.
        node.elapse(60_000);
        let node = node.restart(end, 2, 0);
        assert_eq!((node.report.entries, node.report.retained), (0, 1));
    }
}

#[test]
fn a_share_group_keeps_what_its_members_have_not_acknowledged() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=2
         A: DISCONNECT
         P: CONNECT
         P: PUBLISH t qos=1 payload=1; PUBLISH t qos=2 payload=2; PUBLISH t qos=1 payload=3",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH t qos=1 payload=1 id=$one
         A> PUBLISH t qos=2 payload=2 id=$two
         A> PUBLISH t qos=1 payload=3 id=$three
         A: PUBACK $one & PUBREC $two & PUBACK $three
         A> PUBREL $two
         A: PUBCOMP $two
         P: CONNECT; PUBLISH t qos=1 payload=4
         A> PUBLISH t qos=1 payload=4 id=$four
         A: PUBACK $four
         A: DISCONNECT",
    );
}

#[test]
fn each_message_of_a_share_group_is_with_one_member_after_a_restart() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=1
         B: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=1
         P: CONNECT; PUBLISH t qos=1 payload=1; PUBLISH t qos=1 payload=2
         X,Y = A|B> PUBLISH t qos=1 payload=1 id=1
         Y> PUBLISH t qos=1 payload=2 id=1
         X: PUBACK 1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         B: CONNECT clean=0 session_expiry=1000
         B> CONNACK 0 session_present=1
         A|B> PUBLISH t qos=1 payload=2 ..
         A> nothing
         B> nothing",
    );
}

#[test]
fn what_one_client_cannot_take_waits_for_the_others() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000 maximum_packet_size=20; SUBSCRIBE t qos=1
         B: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=1
         B: DISCONNECT
         P: CONNECT
         P: PUBLISH t qos=1 payload=too-long-for-the-one-of-the-two",
        "B: CONNECT clean=0 session_expiry=1000
         B> CONNACK 0 session_present=1
         B> PUBLISH t qos=1 payload=too-long-for-the-one-of-the-two id=$one
         B: PUBACK $one
         B: DISCONNECT",
    );
}

#[test]
fn what_a_share_group_gave_at_qos_0_is_over() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=0
         P: CONNECT
         P: PUBLISH t qos=1 payload=1; PUBLISH t qos=2 payload=2
         A> PUBLISH t qos=0 payload=1
         A> PUBLISH t qos=0 payload=2",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> nothing",
    );
    // Neither to the member that would have kept it.
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=2
         A: DISCONNECT
         B: CONNECT; SUBSCRIBE $share/g/t qos=0
         P: CONNECT; PUBLISH t qos=2 payload=1
         B> PUBLISH t qos=0 payload=1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> nothing",
    );
}

#[test]
fn what_a_share_group_gave_at_qos_0_leaves_nothing_in_the_store() {
    let mut node = StoredNode::new(2);
    node.play(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=0
         P: CONNECT
         P: PUBLISH t qos=1 payload=1; PUBLISH t qos=2 payload=2
         A> PUBLISH t qos=0 payload=1
         A> PUBLISH t qos=0 payload=2",
    );
    assert_eq!(node.bodies(), 0);
}

#[test]
fn what_a_share_group_lent_to_a_member_without_session_goes_to_another() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=1
         A: DISCONNECT
         B: CONNECT; SUBSCRIBE $share/g/t qos=1
         P: CONNECT; PUBLISH t qos=1 payload=1
         B> PUBLISH t qos=1 payload=1 ..",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH t qos=1 payload=1 id=$one ..
         A: PUBACK $one",
    );
}

#[test]
fn what_a_member_without_session_has_acknowledged_goes_to_nobody_after_a_restart() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=1
         A: DISCONNECT
         B: CONNECT; SUBSCRIBE $share/g/t qos=1
         P: CONNECT; PUBLISH t qos=1 payload=1
         B> PUBLISH t qos=1 payload=1 id=$one ..
         B: PUBACK $one",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> nothing
         A: DISCONNECT",
    );
}

#[test]
fn retained_messages_still_owed_for_a_subscription_are_sent_after_the_restart() {
    restarts(
        "P: CONNECT; PUBLISH r/1 qos=1 retain payload=1; PUBLISH r/2 qos=1 retain payload=2
         A: CONNECT clean=0 session_expiry=1000 receive_maximum=1; SUBSCRIBE r/# qos=1
         A> PUBLISH r/1 qos=1 retain payload=1 id=1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH r/1 qos=1 retain payload=1 id=1 dup
         A> PUBLISH r/2 qos=1 retain payload=2 id=2 ..
         A: PUBACK 1 & PUBACK 2
         A> nothing",
    );
}

#[test]
fn a_queue_longer_than_its_window_comes_back_in_order_page_by_page() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=1
         A: DISCONNECT
         P: CONNECT
         repeat 600
         P: PUBLISH t qos=1 payload=m${n}
         end",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         repeat 600
         A> PUBLISH t qos=1 payload=m${n} id=$n
         A: PUBACK $n
         end
         A> nothing",
    );
}

#[test]
fn a_new_session_has_nothing_of_the_old_one() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=1
         A: DISCONNECT
         P: CONNECT; PUBLISH t qos=1 payload=x
         A: CONNECT clean=1 session_expiry=1000
         A: DISCONNECT",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         P: CONNECT; PUBLISH t qos=1 payload=y
         P> PUBACK * reason=0x10
         A> nothing",
    );
}

#[test]
fn a_will_that_came_due_after_its_delay_is_not_sent_again() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE w qos=1
         W: CONNECT clean=0 session_expiry=900 will.topic=w will.payload=go will.qos=1 will.delay=3
         W: drop
         A> nothing
         wait 4s
         A> PUBLISH w qos=1 payload=go id=1
         A: PUBACK 1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         wait 100s
         A> nothing",
    );
}

#[test]
fn a_retained_message_that_was_replaced_or_swept_away_leaves_nothing_behind() {
    let mut node = StoredNode::new(2);
    node.play("P: CONNECT; PUBLISH r qos=1 retain payload=1; PUBLISH r qos=1 retain payload=2");
    assert_eq!(node.bodies(), 1);
    node.play("P: CONNECT; PUBLISH r qos=1 retain");
    // The clearing stays until no older record can follow.
    assert_eq!(node.bodies(), 1);
    node.elapse(60_000);
    assert_eq!(node.bodies(), 0);
    let node = node.restart(End::Kill, 2, 1);
    assert_eq!(node.report.retained, 0);
}

#[test]
fn a_share_group_whose_members_are_gone_ends_with_the_restart() {
    let mut node = StoredNode::new(2);
    node.play("A: CONNECT clean=0 session_expiry=1000");
    let session = node.owners()[0];
    node.play(
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A: SUBSCRIBE $share/g/t qos=1
         A: DISCONNECT
         P: CONNECT; PUBLISH t qos=1 payload=x",
    );
    // As if the power had gone between the end of the session and that of the group.
    node.append(|record| record.forget(session));
    let node = node.restart(End::Kill, 2, 1);
    assert_eq!((node.report.sessions, node.report.groups), (0, 1));
    let node = node.restart(End::Kill, 2, 1);
    assert_eq!((node.report.groups, node.report.entries), (0, 0));
    assert_eq!(node.bodies(), 0);
}

#[test]
fn each_copy_of_a_retained_message_is_acknowledged_for_good() {
    restarts(
        "P: CONNECT; PUBLISH r/1 qos=1 retain payload=1
         A: CONNECT clean=0 session_expiry=1000 receive_maximum=1; SUBSCRIBE r/# qos=1, r/+ qos=1
         A> PUBLISH r/1 qos=1 retain payload=1 id=1
         A: DISCONNECT
         A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH r/1 qos=1 retain payload=1 id=1 dup
         A> PUBLISH r/1 qos=1 retain payload=1 id=2
         A: PUBACK 1 & PUBACK 2",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> nothing",
    );
}

#[test]
fn what_a_share_group_gave_to_a_member_with_a_long_queue_goes_to_another_when_it_leaves() {
    restarts(
        "A: CONNECT session_expiry=1000 receive_maximum=1
         A: SUBSCRIBE own qos=1; SUBSCRIBE $share/g/t qos=1
         P: CONNECT
         repeat 6
         P: PUBLISH own qos=1 payload=x*40000
         end
         P: PUBLISH t qos=1 payload=shared
         A> PUBLISH own qos=1 id=1 ..
         B: CONNECT session_expiry=1000; SUBSCRIBE $share/g/t qos=1
         A: DISCONNECT
         B> PUBLISH t qos=1 payload=shared id=1
         B: PUBACK 1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH own qos=1 id=1 dup ..
         repeat 5
         A> PUBLISH own qos=1 ..
         end
         A> nothing",
    );
}

#[test]
fn a_node_starts_on_a_full_disk_and_promises_again_when_there_is_room() {
    for end in [End::Kill, End::PowerCut(1)] {
        let mut node = StoredNode::new(2);
        node.play(
            "A: CONNECT id=a clean=0 session_expiry=1000; SUBSCRIBE t qos=1; DISCONNECT
             P: CONNECT; PUBLISH t qos=1 payload=before",
        );
        let first = node.report.start;
        node.disk.inject(Fault {
            call: Some(Call::Write),
            skip: 0,
            failure: Failure::NoSpace,
            once: false,
        });
        // Nobody could make room on a node that does not start. Twice: nothing of the run between
        // is on the disk, so its number is free again.
        let node = node.restart(End::Kill, 2, 10);
        let mut node = node.restart(End::Kill, 2, 10);
        assert_eq!(node.report.start, first + 1);
        node.disk.lift();
        node.play("P: CONNECT; PUBLISH t qos=1 payload=behind");
        let mut node = node.restart(end, 2, 10);
        assert_eq!(
            node.report.start,
            first + 2,
            "the number came before the message"
        );
        let kept = ["before", "behind"].map(str::to_owned).to_vec();
        assert_eq!(node.collect("a"), (true, kept));
    }
}

/// The users of a script's header.
fn users(text: &str) -> Users {
    Users::new(&Script::parse("users", text).unwrap().users)
}

#[test]
fn a_session_is_its_users_alone_after_a_restart_too() {
    for end in [End::Stop, End::Kill, End::PowerCut(1)] {
        let both = users("user alice a\nuser bob b");
        let mut node = StoredNode::new(2).with_users(both);
        node.play(
            "A: CONNECT id=x clean=0 session_expiry=1000 user=alice password=a; SUBSCRIBE t qos=1
             A: DISCONNECT
             P: CONNECT id=p user=bob password=b
             P: PUBLISH t qos=1 payload=one",
        );
        let mut node = node.restart(end, 3, 10);
        node.play(
            "B: CONNECT id=x clean=1 user=bob password=b
             B> CONNACK 0x87
             B> closed
             A: CONNECT id=x clean=0 session_expiry=1000 user=alice password=a
             A> CONNACK 0 session_present=1
             A> PUBLISH t qos=1 payload=one id=1",
        );
    }
}

#[test]
fn a_session_from_before_anybody_had_to_say_who_they_are_is_its_clients_still() {
    let mut node = StoredNode::new(1);
    node.play("A: CONNECT id=x clean=0 session_expiry=1000; SUBSCRIBE t qos=1");
    let node = node.restart(End::Kill, 1, 10);
    node.with_users(users("user alice a")).play(
        "A: CONNECT id=x clean=0 session_expiry=1000 user=alice password=a
         A> CONNACK 0 session_present=1",
    );
}

#[test]
fn a_will_that_is_due_after_a_restart_needs_permission_then() {
    for (rules, sent) in [("allow=publish:w", true), ("deny=publish:w", false)] {
        let mut node = StoredNode::new(1).with_users(users("user alice a\nuser bob b"));
        node.play(
            "A: CONNECT id=x clean=0 session_expiry=1000 user=alice password=a will.topic=w will.payload=gone
             A: PINGREQ",
        );
        let node = node.restart(End::Kill, 1, 10);
        let mut node = node.with_users(users(&format!("user alice a {rules}\nuser bob b")));
        node.play(&format!(
            "B: CONNECT id=b user=bob password=b; SUBSCRIBE w
             wait 120s
             B> {}",
            if sent {
                "PUBLISH w payload=gone"
            } else {
                "nothing"
            }
        ));
    }
}

#[test]
fn what_only_an_absent_member_of_a_share_group_may_have_waits_for_it_over_a_restart() {
    for end in [End::Kill, End::Stop] {
        for shards in [1, 3] {
            let both = "user low a allow=subscribe:# allow=receive:l/#\nuser high b";
            let mut node = StoredNode::new(shards).with_users(users(both));
            node.play(
                "L: CONNECT id=l user=low password=a clean=0 session_expiry=65536
                 L: SUBSCRIBE $share/g/# qos=1
                 H: CONNECT id=h user=high password=b clean=0 session_expiry=65536
                 H: SUBSCRIBE $share/g/# qos=1; DISCONNECT
                 P: CONNECT id=p user=high password=b
                 P: PUBLISH s/1 payload=1 qos=1 id=1
                 P> PUBACK id=1
                 L: DISCONNECT
                 P: PUBLISH s/2 payload=2 qos=1 id=2
                 P> PUBACK id=2",
            );
            let mut node = node.restart(end, shards, 1);
            // Who may have neither is back first, and takes nothing from who may. What went back to
            // the group meanwhile comes in no order that was promised: here the last first.
            node.play(
                "L: CONNECT id=l user=low password=a clean=0 session_expiry=65536
                 L> CONNACK 0 session_present=1
                 L> nothing
                 P: CONNECT id=p user=high password=b
                 P: PUBLISH l/3 payload=3 qos=1 id=1
                 P> PUBACK id=1
                 L> PUBLISH l/3 payload=3 qos=1 id=$a
                 L: PUBACK id=$a
                 H: CONNECT id=h user=high password=b clean=0 session_expiry=65536
                 H> CONNACK 0 session_present=1
                 H> PUBLISH s/2 payload=2 qos=1 id=$b
                 H> PUBLISH s/1 payload=1 qos=1 id=$c
                 H: PUBACK id=$b; PUBACK id=$c",
            );
        }
    }
}

#[test]
fn a_session_in_several_share_groups_keeps_what_each_of_them_gave_it() {
    for end in [End::Kill, End::Stop] {
        for shards in [1, 3] {
            let mut node = StoredNode::new(shards);
            node.play(
                "A: CONNECT id=a clean=0 session_expiry=65536 receive_maximum=3; \
                 SUBSCRIBE $share/g/t qos=1
                 A: SUBSCRIBE $share/h/t qos=1; SUBSCRIBE $share/i/+ qos=2
                 A: SUBSCRIBE $share/j/# qos=1; SUBSCRIBE t qos=1
                 P: CONNECT id=p; PUBLISH t qos=1 payload=x id=1
                 P> PUBACK id=1
                 P: PUBLISH t qos=2 payload=y id=2
                 P> PUBREC id=2
                 P: PUBREL id=2
                 P> PUBCOMP id=2
                 A> PUBLISH t qos=1 id=$a payload=x
                 A> PUBLISH t qos=1 id=$b payload=x
                 A> PUBLISH t qos=1 id=$c payload=x",
            );
            let mut node = node.restart(end, shards, 1);
            let (present, mut payloads) = node.collect("a");
            payloads.sort();
            let expected = ["x", "x", "x", "x", "x", "y", "y", "y", "y", "y"];
            assert!(
                present && payloads == expected,
                "{shards} shards: {payloads:?}"
            );
        }
    }
}
