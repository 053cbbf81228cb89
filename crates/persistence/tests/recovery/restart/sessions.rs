//! Sessions, their subscriptions and their queues.

use martlet_store::{Call, Failure, Fault};

use super::restarts;
use crate::node::{End, StoredNode};

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
        // A node that does not start could free no space. Twice: nothing of the run in between is
        // on the disk, so its number is free again.
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
