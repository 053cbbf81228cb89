//! Share groups.

use super::restarts;
use crate::node::{End, StoredNode};

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
    // Not even to the member that would have kept it.
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
    // As if power had failed between the end of the session and that of the group.
    node.append(|record| record.forget(session));
    let node = node.restart(End::Kill, 2, 1);
    assert_eq!((node.report.sessions, node.report.groups), (0, 1));
    let node = node.restart(End::Kill, 2, 1);
    assert_eq!((node.report.groups, node.report.entries), (0, 0));
    assert_eq!(node.bodies(), 0);
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
