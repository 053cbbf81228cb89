//! Users and their permissions.

use martlet_script::{Script, Users};

use crate::node::{End, StoredNode};

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
            // The client without permissions reconnects first, and takes nothing from the
            // permitted ones. Messages that returned to the group in the meantime have no
            // guaranteed order: here the last is first.
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
