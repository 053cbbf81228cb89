//! Retained messages, and those that are owed to subscriptions.

use super::restarts;
use crate::node::{End, StoredNode};

#[test]
fn unsubscribe_leaves_nothing_of_a_subscription_that_is_owed_retained_messages() {
    crate::cases::unsubscribe_leaves_no_state();
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
fn retained_messages_still_owed_are_owed_to_a_subscription_that_is_made_again() {
    const COUNT: usize = 400;
    let mut node = StoredNode::new(1);
    node.play(&format!(
        "P: CONNECT
         repeat {COUNT}
         P: PUBLISH r/${{n}} qos=1 retain payload=${{n}}
         end"
    ));
    // It acknowledges none, so that most are still owed when it subscribes again with Retain
    // Handling 2.
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
fn a_retained_message_that_was_replaced_or_swept_away_leaves_nothing_behind() {
    let mut node = StoredNode::new(2);
    node.play("P: CONNECT; PUBLISH r qos=1 retain payload=1; PUBLISH r qos=1 retain payload=2");
    assert_eq!(node.bodies(), 1);
    node.play("P: CONNECT; PUBLISH r qos=1 retain");
    // The clearing is kept until no older record can follow.
    assert_eq!(node.bodies(), 1);
    node.elapse(60_000);
    assert_eq!(node.bodies(), 0);
    let node = node.restart(End::Kill, 2, 1);
    assert_eq!(node.report.retained, 0);
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
