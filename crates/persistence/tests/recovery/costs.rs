//! Costs of a message while a subscriber is slow or disconnected: memory only if there is no store
//! to read it back from, a record only if data must be kept.

use martlet_broker::DropReason;
use martlet_script::Stage;

use crate::node::StoredNode;

/// Publishes 20 messages of 40,000 bytes each.
const PUBLISH_MANY: &str = "P: CONNECT
     repeat 20
     P: PUBLISH t qos=1 payload=x*40000
     end";

/// Less than half of one message.
fn assert_memory_is_spared(node: &mut StoredNode) {
    let bytes = node.counters().memory_bytes;
    assert!(bytes < 20_000, "{bytes}");
}

#[test]
fn what_was_sent_and_waits_for_its_puback_lies_in_the_store_alone() {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT session_expiry=1000 receive_maximum=20; SUBSCRIBE t qos=1
         P: CONNECT
         repeat 20
         P: PUBLISH t qos=1 payload=x*40000
         A> PUBLISH t qos=1 id=$n ..
         end",
    );
    assert_memory_is_spared(&mut node);
}

#[test]
fn what_was_sent_again_and_waits_for_its_puback_lies_in_the_store_alone() {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT session_expiry=1000 receive_maximum=20; SUBSCRIBE t qos=1
         P: CONNECT
         repeat 20
         P: PUBLISH t qos=1 payload=x*40000
         A> PUBLISH t qos=1 id=$n ..
         end
         A: drop
         A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         repeat 20
         A> PUBLISH t qos=1 id=$n dup ..
         end",
    );
    assert_memory_is_spared(&mut node);
}

#[test]
fn the_queue_of_a_client_that_is_away_takes_no_memory() {
    let mut node = StoredNode::new(1);
    node.play("A: CONNECT session_expiry=1000; SUBSCRIBE t qos=1; DISCONNECT");
    node.play(PUBLISH_MANY);
    assert_memory_is_spared(&mut node);
}

#[test]
fn of_the_queue_of_a_slow_client_only_its_front_takes_memory() {
    let mut node = StoredNode::new(1);
    node.play("A: CONNECT session_expiry=1000 receive_maximum=1; SUBSCRIBE t qos=1");
    node.play(PUBLISH_MANY);
    let bytes = node.counters().memory_bytes;
    assert!((20_000..200_000).contains(&bytes), "{bytes} of 800,000");
}

#[test]
fn the_short_queue_of_a_client_that_leaves_takes_no_memory() {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT session_expiry=1000 receive_maximum=1; SUBSCRIBE t qos=1
         P: CONNECT
         repeat 3
         P: PUBLISH t qos=1 payload=x*40000
         end
         A> PUBLISH t qos=1 ..
         A: DISCONNECT",
    );
    assert_memory_is_spared(&mut node);
}

#[test]
fn what_lies_in_the_store_is_kept_when_the_memory_is_spent() {
    let settings = [("memory_bytes".to_owned(), (96 * 1024).to_string())];
    let mut node = StoredNode::with_settings(1, &settings);
    node.play("K: CONNECT session_expiry=1000; SUBSCRIBE will qos=1; DISCONNECT");
    node.play("W: CONNECT will.topic=will will.payload=gone will.qos=1");
    // Sessions that end with their connections have their queues in memory; none of them uses so
    // much that it must return memory. All begin while there is memory for stored messages.
    let subscribe = |name| format!("{name}: CONNECT receive_maximum=1; SUBSCRIBE {name} qos=1\n");
    let fill = |name| {
        format!(
            "repeat 2
             P: PUBLISH {name} qos=1 payload=x*1400
             end
             {name}> PUBLISH {name} qos=1 ..\n"
        )
    };
    let names = ('A'..='Z').filter(|name| !"KPQW".contains(*name));
    let subscribed: String = names.clone().map(subscribe).collect();
    let filled: String = names.take_while(|name| *name < 'N').map(fill).collect();
    node.play(&format!("{subscribed}P: CONNECT\n{filled}"));
    node.end_tick();
    node.play("Q: CONNECT\nQ> CONNACK 0x89\nQ> closed");
    let before = node.counters();
    node.end(1);
    let after = node.counters();
    assert_eq!(after.wills_sent, 1);
    assert_eq!(after.held, before.held + 1);
    assert_eq!(after.dropped[DropReason::MemoryFull as usize], 0);
}

#[test]
fn a_queue_counts_as_full_from_its_first_loss_until_it_is_worked_off() {
    for policy in ["drop-oldest", "drop-newest"] {
        let settings = [("queued_messages", "20"), ("queue_full", policy)];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut node = StoredNode::with_settings(2, &settings);
        node.play(
            "A: CONNECT session_expiry=1000; SUBSCRIBE t qos=1; DISCONNECT
             P: CONNECT
             repeat 20
             P: PUBLISH t qos=1
             end",
        );
        assert_eq!(node.counters().queues_full, 0, "it has lost nothing");
        node.play("P: CONNECT; PUBLISH t qos=1");
        assert_eq!(node.counters().queues_full, 1);
        node.play(
            "A: CONNECT clean=0 session_expiry=1000 receive_maximum=5
             A> CONNACK 0 session_present=1
             repeat 5
             A> PUBLISH t qos=1 ..
             end",
        );
        assert_eq!(node.counters().queues_full, 0, "it goes on");
    }
}

#[test]
fn what_a_session_loses_that_ends_with_its_connection_makes_no_record() {
    let settings = [("queued_messages".to_owned(), "1".to_owned())];
    let mut node = StoredNode::with_settings(1, &settings);
    node.play(
        "A: CONNECT receive_maximum=1; SUBSCRIBE t qos=1
         B: CONNECT maximum_packet_size=50; SUBSCRIBE t qos=1
         P: CONNECT
         repeat 10
         P: PUBLISH t qos=1 payload=x*100
         end
         A> PUBLISH t qos=1 ..
         A: PUBACK 1 reason=0x80
         A> anything",
    );
    assert_eq!(node.counters().records_appended, 0);
}

#[test]
fn a_session_that_ends_with_its_connection_adds_no_records_to_those_of_one_that_stays() {
    let kept = "K: CONNECT session_expiry=1000; SUBSCRIBE t qos=2
         P: CONNECT; PUBLISH t qos=1 payload=1; PUBLISH t qos=2 payload=2
         K> PUBLISH t qos=1 id=1 ..
         K> PUBLISH t qos=2 id=2 ..
         K: PUBACK 1 & PUBREC 2
         K> PUBREL 2
         K: PUBCOMP 2";
    let mut alone = StoredNode::new(1);
    alone.play(kept);
    let mut beside = StoredNode::new(1);
    let not_kept = "A> PUBLISH t qos=1 id=1 ..
         A> PUBLISH t qos=2 id=2 ..
         A: PUBACK 1 & PUBREC 2
         A> PUBREL 2
         A: PUBCOMP 2";
    beside.play(&format!(
        "A: CONNECT; SUBSCRIBE t qos=2\n{kept}\n{not_kept}"
    ));
    let records = |node: &mut StoredNode| node.counters().records_appended;
    assert_eq!(records(&mut beside), records(&mut alone));
}

#[test]
fn a_message_and_what_its_shard_queues_of_it_is_one_record_of_the_store() {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT session_expiry=1000; SUBSCRIBE t qos=1; DISCONNECT
         B: CONNECT session_expiry=1000; SUBSCRIBE t qos=2",
    );
    let before = node.store_records();
    node.play("P: CONNECT; PUBLISH t qos=1 payload=1; PUBLISH t qos=1 payload=2");
    assert_eq!(node.store_records() - before, 2);
}

#[test]
fn acknowledgements_that_come_together_are_one_record_of_the_store() {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT session_expiry=1000; SUBSCRIBE t qos=1
         P: CONNECT
         repeat 5
         P: PUBLISH t qos=1 payload=x
         A> PUBLISH t qos=1 id=$n ..
         end",
    );
    let again = "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         repeat 5
         A> PUBLISH t qos=1 id=$n dup ..
         end";
    let mut records_of = |text: &str| {
        let before = node.store_records();
        node.play(text);
        node.store_records() - before
    };
    let of_connecting = records_of(again);
    let acknowledged = format!("{again}\nA: PUBACK 1 & PUBACK 2 & PUBACK 3 & PUBACK 4 & PUBACK 5");
    assert_eq!(records_of(&acknowledged), of_connecting + 1);
}
