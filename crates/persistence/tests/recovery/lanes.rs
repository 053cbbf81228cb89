//! A part that is attached once per shard, over a restart: played as it should be, and with
//! deliberate faults that have to be found.

use martlet_broker::{
    Delivery, LaneOrder, PartCall, PartEvent, PartId, PartOutcome, PartQueueLimits, PartReach,
    PartSpec, PartSubscription, Settlement, TenantId, lane_name, start_of,
};
use martlet_codec::RetainHandling;

use crate::node::{End, StoredNode};

const NAME: &str = "$test/part";

/// Attaches a lane; what it is told.
fn attach_lane(node: &mut StoredNode, lane: u16) -> Vec<PartEvent> {
    let name = lane_name(NAME, lane);
    let spec = PartSpec {
        id: PartId(u64::from(lane)),
        client_id: name.as_str().into(),
        reach: PartReach::Lane,
        tenant: TenantId(0),
        subscriptions: vec![PartSubscription {
            filter: "t/#".into(),
            identifier: 7,
            retain_handling: RetainHandling::DoNotSend,
        }],
        credit: 100,
        session_expiry_secs: u32::MAX,
        keeps_qos0: true,
        queue: PartQueueLimits::default(),
        identity: None,
    };
    node.part_call(&name, PartCall::Attach(Box::new(spec)));
    node.take_told()
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

/// All lanes together get the messages of each publisher once and in order, over a restart with
/// another number of shards.
pub(crate) fn keep_order(before: u16, after: u16, end: End) {
    let mut node = StoredNode::new(before);
    for lane in 0..before {
        let told = attach_lane(&mut node, lane);
        assert!(matches!(
            told[..],
            [
                PartEvent::Attached { .. },
                PartEvent::Run {
                    is_present: true,
                    ..
                }
            ]
        ));
        let name = lane_name(NAME, lane);
        node.part_call(&name, PartCall::Detach(PartId(u64::from(lane))));
        node.take_told();
    }
    node.play(PLAY);
    let mut node = node.restart(end, after, 10);
    // All lanes there have been, which are more than shards perhaps.
    let mut order = LaneOrder::new(usize::from(before.max(after)));
    let mut taken: Vec<(u16, Delivery)> = Vec::new();
    for lane in 0..before.max(after) {
        for event in attach_lane(&mut node, lane) {
            take(&mut order, lane, event);
        }
    }
    node.play(PLAY);
    for (lane, event) in told_of(&mut node) {
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
        for (lane, event) in told_of(&mut node) {
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

fn told_of(node: &mut StoredNode) -> Vec<(u16, PartEvent)> {
    let told = node.take_told_by_part().into_iter();
    told.map(|(id, event)| (id.0 as u16, event)).collect()
}
