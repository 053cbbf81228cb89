//! A part that is attached once per shard, over a restart: tested correctly, and with deliberate
//! faults that must be detected.

use martlet_broker::{
    Delivery, LaneOrder, MessageId, PartCall, PartEvent, PartId, PartOutcome, PartQueueLimits,
    PartReach, PartSpec, PartSubscription, Settlement, ShardId, TenantId, first_number, lane_name,
    start_of,
};
use martlet_codec::RetainHandling;
use martlet_store::{BodyId, Holds};

use crate::node::{End, StoredNode};

const NAME: &str = "$test/part";

/// Attaches a lane; returns its events.
fn attach_lane(node: &mut StoredNode, lane: u16) -> Vec<PartEvent> {
    attach_with(node, lane, &["t/#"])
}

/// As [`attach_lane`], with these filters.
fn attach_with(node: &mut StoredNode, lane: u16, filters: &[&str]) -> Vec<PartEvent> {
    let name = lane_name(NAME, lane);
    let subscriptions = filters.iter().map(|filter| PartSubscription {
        filter: (*filter).into(),
        identifier: 7,
        retain_handling: RetainHandling::DoNotSend,
    });
    let spec = PartSpec {
        id: PartId(u64::from(lane)),
        client_id: name.as_str().into(),
        reach: PartReach::Lane,
        tenant: TenantId(0),
        subscriptions: subscriptions.collect(),
        credit: 100,
        session_expiry_secs: u32::MAX,
        keeps_qos0: true,
        queue: PartQueueLimits {
            bytes_max: 1 << 30,
            ..PartQueueLimits::default()
        },
        identity: None,
    };
    node.part_call(&name, PartCall::Attach(Box::new(spec)));
    node.take_part_events()
}

/// Publishers on several shards, each with messages in order.
const PLAY: &str = "P: CONNECT
     P: PUBLISH t/p qos=1 payload=first
     Q: CONNECT
     Q: PUBLISH t/q qos=1 payload=first
     R: CONNECT
     R: PUBLISH t/r qos=1 payload=first
     P: PUBLISH t/p qos=1 payload=second
     Q: PUBLISH t/q qos=1 payload=second
     R: PUBLISH t/r qos=1 payload=second
     P: PUBLISH t/p payload=third
     Q: PUBLISH t/q payload=third
     R: PUBLISH t/r payload=third";

/// All lanes together get the messages of each publisher once and in order, over a restart with a
/// different number of shards.
pub(crate) fn keep_order(before: u16, after: u16, end: End) {
    let mut node = StoredNode::new(before);
    for lane in 0..before {
        let events = attach_lane(&mut node, lane);
        assert!(matches!(
            events[..],
            [
                PartEvent::Attached { .. },
                PartEvent::Run {
                    is_present: true,
                    ..
                },
                ..
            ]
        ));
        let name = lane_name(NAME, lane);
        node.part_call(&name, PartCall::Detach(PartId(u64::from(lane))));
        node.take_part_events();
    }
    node.play(PLAY);
    let mut node = node.restart(end, after, 10);
    // All lanes so far, perhaps more than there are shards.
    let mut order = LaneOrder::new(usize::from(before.max(after)));
    let mut taken: Vec<(u16, Delivery)> = Vec::new();
    for lane in 0..before.max(after) {
        for event in attach_lane(&mut node, lane) {
            take(&mut order, lane, event);
        }
    }
    node.play(PLAY);
    for (lane, event) in events_of(&mut node) {
        take(&mut order, lane, event);
    }
    while let Some((lane, delivery)) = order.pop() {
        let settled = Settlement {
            token: delivery.token,
            outcome: PartOutcome::Done,
        };
        let lane = lane as u16;
        taken.push((lane, delivery));
        let name = lane_name(NAME, lane);
        let id = PartId(u64::from(lane));
        node.part_call(&name, PartCall::Settle(id, vec![settled]));
        for (lane, event) in events_of(&mut node) {
            take(&mut order, lane, event);
        }
    }
    for topic in ["t/p", "t/q", "t/r"] {
        let of_topic = taken
            .iter()
            .filter(|(_, found)| found.message.topic() == topic);
        let texts: Vec<&str> = of_topic
            .map(|(_, found)| core::str::from_utf8(found.message.payload()).unwrap())
            .collect();
        let all = ["first", "second", "third"];
        assert_eq!(texts, [all, all].concat(), "{topic}");
    }
}

fn take(order: &mut LaneOrder<Delivery>, lane: u16, event: PartEvent) {
    let lane = usize::from(lane);
    match event {
        PartEvent::Delivery(delivery) => {
            let run = start_of(delivery.message.id().0);
            order.push(lane, run, delivery);
        }
        PartEvent::Run { oldest, .. } => order.set_oldest_run(lane, oldest),
        _ => {}
    }
}

fn events_of(node: &mut StoredNode) -> Vec<(u16, PartEvent)> {
    let events = node.take_part_events_by_part().into_iter();
    events.map(|(id, event)| (id.0 as u16, event)).collect()
}

fn detach(node: &mut StoredNode, lane: u16) {
    let name = lane_name(NAME, lane);
    node.part_call(&name, PartCall::Detach(PartId(u64::from(lane))));
    node.take_part_events();
}

/// Topics of the deliveries among events of lanes.
fn topics(events: &[PartEvent]) -> Vec<String> {
    let topics = events.iter().filter_map(|event| match event {
        PartEvent::Delivery(delivery) => Some(delivery.message.topic().to_owned()),
        _ => None,
    });
    topics.collect()
}

/// Messages acknowledged before the lanes of new shards are attached are not lost, on any shard,
/// even if the node ends once more before that.
pub(crate) fn new_shards_have_lanes(before: u16, after: u16, end: End) {
    let mut node = StoredNode::new(before);
    for lane in 0..before {
        attach_lane(&mut node, lane);
        detach(&mut node, lane);
    }
    let mut node = node.restart(end, after, 10);
    let publishers = |node: &mut StoredNode| {
        for name in 0..16 {
            node.play(&format!(
                "P: CONNECT id=p{name}; PUBLISH t/{name} qos=1 payload=x
                 P: PUBLISH t/{name} payload=x; PUBLISH u/{name} qos=1 payload=x"
            ));
        }
    };
    publishers(&mut node);
    let mut node = node.restart(end, after, 10);
    publishers(&mut node);
    let mut all = Vec::new();
    for lane in 0..after {
        let events = attach_lane(&mut node, lane);
        let PartEvent::Attached {
            session_present, ..
        } = events[0]
        else {
            panic!("{events:?}");
        };
        assert!(session_present, "lane {lane}");
        all.extend(topics(&events));
    }
    all.sort();
    let mut expected: Vec<String> = (0..64).map(|number| format!("t/{}", number % 16)).collect();
    expected.sort();
    assert_eq!(all, expected);
}

/// Lanes left over while the node had fewer shards take messages again when it has more, before
/// they are attached, and keep their waiting messages.
pub(crate) fn left_over_lanes_take_again(end: End) {
    const SHARDS: u16 = 4;
    let publish = |node: &mut StoredNode| {
        for name in 0..16 {
            node.play(&format!(
                "P: CONNECT id=p{name}; PUBLISH t/{name} qos=1 payload=x"
            ));
        }
    };
    let mut node = StoredNode::new(SHARDS);
    (0..SHARDS).for_each(|lane| drop(attach_lane(&mut node, lane)));
    publish(&mut node);
    (0..SHARDS).for_each(|lane| detach(&mut node, lane));
    let mut node = node.restart(end, 1, 10);
    attach_lane(&mut node, 0);
    (1..SHARDS).for_each(|lane| drop(attach_with(&mut node, lane, &[])));
    (0..SHARDS).for_each(|lane| detach(&mut node, lane));
    let mut node = node.restart(end, SHARDS, 10);
    publish(&mut node);
    let events = (0..SHARDS).flat_map(|lane| attach_lane(&mut node, lane));
    let mut found = topics(&events.collect::<Vec<_>>());
    found.sort();
    let mut expected: Vec<String> = (0..32).map(|number| format!("t/{}", number % 16)).collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// A lane gets topics that were routed again before it was restored, but not the messages routed
/// again.
pub(crate) fn gets_what_was_routed_before_it() {
    let mut node = StoredNode::new(3);
    node.play(
        "A: CONNECT id=a1 clean=0 session_expiry=1000; SUBSCRIBE t/# qos=1
         B: CONNECT id=b2 clean=0 session_expiry=1000; SUBSCRIBE t/# qos=1
         C: CONNECT id=c3 clean=0 session_expiry=1000; SUBSCRIBE t/# qos=1",
    );
    node.hold_mail();
    node.play("P: CONNECT id=p; PUBLISH t/1 qos=1 payload=x");
    for lane in 0..3 {
        attach_lane(&mut node, lane);
    }
    let mut node = node.restart(End::Kill, 3, 10);
    assert_eq!(node.report.routed_again, 1);
    node.play("P: CONNECT id=p; PUBLISH t/1 qos=1 payload=new");
    let events: Vec<Vec<PartEvent>> = (0..3).map(|lane| attach_lane(&mut node, lane)).collect();
    assert_eq!(topics(&events.concat()), ["t/1"]);
}

/// If its entry was lost, a lane gets messages that are routed again, only from its own shard.
pub(crate) fn gets_what_is_routed_again() {
    let mut node = StoredNode::new(2);
    for lane in 0..2 {
        attach_lane(&mut node, lane);
        detach(&mut node, lane);
    }
    // Version, QoS 1, tenant, arrival, lengths of topic and properties; topic, payload.
    let body = [&[1, 1, 0, 1, 3, 0][..], b"t/1x"].concat();
    let id = MessageId::new(ShardId(1), first_number(1) + 1_000);
    node.append(|record| record.body(BodyId(id.0), Holds::ROUTING, &[&body]));
    let mut node = node.restart(End::Kill, 2, 10);
    assert_eq!(node.report.routed_again, 1);
    assert_eq!(topics(&attach_lane(&mut node, 0)), [""; 0]);
    assert_eq!(topics(&attach_lane(&mut node, 1)), ["t/1"]);
}

/// A filter that a lane has unsubscribed from stays unsubscribed.
pub(crate) fn forgets_what_it_has_given_up() {
    let mut node = StoredNode::new(1);
    attach_with(&mut node, 0, &["t/#", "u/#"]);
    detach(&mut node, 0);
    attach_with(&mut node, 0, &["t/#"]);
    let mut node = node.restart(End::Stop, 1, 10);
    node.play("P: CONNECT; PUBLISH u/1 qos=1 payload=x; PUBLISH t/1 qos=1 payload=x");
    assert_eq!(topics(&attach_lane(&mut node, 0)), ["t/1"]);
}

/// When all messages of an earlier run have expired, a lane reports it, although nothing is
/// settled.
pub(crate) fn tells_its_run_when_all_has_expired() {
    let mut node = StoredNode::new(1);
    attach_lane(&mut node, 0);
    detach(&mut node, 0);
    node.play("P: CONNECT; PUBLISH t/1 qos=1 payload=x message_expiry=5");
    let mut node = node.restart(End::Stop, 1, 5_100);
    let mut events = attach_lane(&mut node, 0);
    node.elapse(1_100);
    events.extend(node.take_part_events());
    assert_eq!(topics(&events), [""; 0]);
    let last = events.iter().rev().find_map(|event| match event {
        PartEvent::Run { is_present, .. } => Some(*is_present),
        _ => None,
    });
    assert_eq!(last, Some(true), "{events:?}");
}
