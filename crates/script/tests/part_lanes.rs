//! A part that is attached once per shard: each lane takes the messages received by its shard, and
//! they are not sent to another shard for it.

use std::sync::Arc;

use martlet_broker::{
    Actions, Command, Delivery, Identity, ListenerPolicy, OnFull, PartCall, PartEvent, PartId,
    PartOutcome, PartQueueLimits, PartReach, PartSpec, PartSubscription, Realm, Rule, RuleBook,
    Rules, Settings, Settlement, TenantId, lane_name, shard_of,
};
use martlet_codec::{QoS, ReasonCode, RetainHandling};
use martlet_script::{Harness, Link, Wiring};

#[allow(dead_code)]
mod raw;

use raw::{CLEAN, connect, packet, text};

const NAME: &str = "$test/part";
const SHARDS: u16 = 3;

fn node() -> Harness {
    let wiring = Wiring {
        shards: SHARDS,
        ..Wiring::default()
    };
    Harness::new(Settings::default(), ListenerPolicy::default(), wiring)
}

fn spec(lane: u16, filters: &[&str]) -> PartSpec {
    let subscriptions = filters.iter().map(|filter| PartSubscription {
        filter: (*filter).into(),
        identifier: 0,
        retain_handling: RetainHandling::DoNotSend,
    });
    PartSpec {
        id: PartId(u64::from(lane)),
        tenant: TenantId(0),
        client_id: lane_name(NAME, lane).into(),
        subscriptions: subscriptions.collect(),
        credit: 10,
        session_expiry_secs: u32::MAX,
        keeps_qos0: true,
        queue: PartQueueLimits::default(),
        identity: None,
        reach: PartReach::Lane,
    }
}

fn call(node: &mut Harness, lane: u16, call: PartCall) {
    node.part_call(&lane_name(NAME, lane), call);
    node.elapse(20);
}

/// Attaches a lane. Returns its immediate events.
fn attach(node: &mut Harness, spec: PartSpec) -> Vec<PartEvent> {
    let (id, name) = (spec.id, spec.client_id.clone());
    node.part_call(&name, PartCall::Attach(Box::new(spec)));
    node.elapse(20);
    let told = node.take_told().into_iter();
    let events = told.map(|(told, event)| {
        assert_eq!(told, id);
        event
    });
    events.collect()
}

fn attach_all(node: &mut Harness, filters: &[&str]) {
    for lane in 0..SHARDS {
        let told = attach(node, spec(lane, filters));
        let [
            PartEvent::Attached { granted, .. },
            PartEvent::Run { is_present, .. },
        ] = &told[..]
        else {
            panic!("{told:?}");
        };
        assert!(is_present, "it has no message of an earlier run");
        assert_eq!(*granted, vec![ReasonCode::GrantedQoS1; filters.len()]);
    }
}

fn deliveries(node: &mut Harness) -> Vec<(u16, Delivery)> {
    let told = node.take_told().into_iter();
    let all = told.map(|(id, event)| match event {
        PartEvent::Delivery(delivery) => (id.0 as u16, delivery),
        other => panic!("{other:?}"),
    });
    all.collect()
}

fn publish(node: &mut Harness, link: Link, topic: &str, qos: u8) {
    let id: &[u8] = if qos > 0 { &[0, 9] } else { &[] };
    let body = [&text(topic), id, b"x"].concat();
    node.send(link, &packet(0x30 | qos << 1, &body));
    node.elapse(20);
}

/// Publishers on all shards, each with the number of its shard.
fn publishers(node: &mut Harness) -> Vec<(u16, Link)> {
    let all = (0..12).map(|number| {
        let link = connect(node, &format!("p{number}"), CLEAN);
        (node.shard_of(link).expect("it is connected"), link)
    });
    let all: Vec<(u16, Link)> = all.collect();
    let has_client = |shard: u16| all.iter().any(|(of, _)| *of == shard);
    assert!((0..SHARDS).all(has_client), "a shard has no client");
    all
}

#[test]
fn each_message_goes_to_the_lane_of_the_shard_that_received_it_and_to_no_other() {
    let mut node = node();
    attach_all(&mut node, &["a/#", "a/b"]);
    for (shard, link) in publishers(&mut node) {
        for qos in [0, 1] {
            publish(&mut node, link, "a/b", qos);
            let found = deliveries(&mut node);
            let [(lane, delivery)] = &found[..] else {
                panic!("{found:?}");
            };
            assert_eq!(*lane, shard);
            assert_eq!(shard_of(delivery.message.id().0), shard);
            assert_eq!(delivery.message.qos() == QoS::AtLeastOnce, qos == 1);
            let settled = Settlement {
                token: delivery.token,
                outcome: PartOutcome::Done,
            };
            let id = PartId(u64::from(*lane));
            call(&mut node, shard, PartCall::Settle(id, vec![settled]));
        }
        publish(&mut node, link, "b", 1);
        assert!(deliveries(&mut node).is_empty(), "no lane has it");
    }
    // Messages taken by a lane do not count as unmatched.
    assert_eq!(node.counters().messages_unmatched, 12);
}

#[test]
fn a_subscriber_of_another_shard_and_a_lane_get_the_same_message_once_each() {
    let mut node = node();
    attach_all(&mut node, &["a/#"]);
    let all = publishers(&mut node);
    let (_, reader) = all[0];
    let subscribe = [&[0, 1][..], &text("a/+"), &[1]].concat();
    node.send(reader, &packet(0x82, &subscribe));
    node.elapse(20);
    node.take(reader);
    for (shard, link) in &all[1..] {
        publish(&mut node, *link, "a/b", 1);
        let found = deliveries(&mut node);
        let lanes: Vec<u16> = found.iter().map(|(lane, _)| *lane).collect();
        assert_eq!(lanes, [*shard]);
        let got = node.take(reader);
        let count = got.windows(3).filter(|part| part == b"a/b").count();
        assert_eq!(count, 1, "{got:?}");
        let settled = found.iter().map(|(_, found)| Settlement {
            token: found.token,
            outcome: PartOutcome::Done,
        });
        let id = PartId(u64::from(*shard));
        call(&mut node, *shard, PartCall::Settle(id, settled.collect()));
    }
}

#[test]
fn a_lane_that_comes_back_has_what_came_meanwhile_and_the_filters_that_it_asks_for() {
    let mut node = node();
    attach_all(&mut node, &["a", "b"]);
    for lane in 0..SHARDS {
        call(&mut node, lane, PartCall::Detach(PartId(u64::from(lane))));
    }
    node.take_told();
    let all = publishers(&mut node);
    for (_, link) in &all {
        publish(&mut node, *link, "a", 0);
    }
    let mut count = 0;
    for lane in 0..SHARDS {
        let told = attach(&mut node, spec(lane, &["b"]));
        let is_delivery = |event: &&PartEvent| matches!(event, PartEvent::Delivery(_));
        count += told.iter().filter(is_delivery).count();
    }
    assert_eq!(count, all.len());
    publish(&mut node, all[0].1, "a", 1);
    assert!(deliveries(&mut node).is_empty(), "it has given that up");
    publish(&mut node, all[0].1, "b", 1);
    assert_eq!(deliveries(&mut node).len(), 1);
}

#[test]
fn only_a_part_without_an_identity_takes_messages_of_all_tenants() {
    let of_team = ListenerPolicy {
        own: Some(TenantId(5)),
        ..ListenerPolicy::default()
    };
    let wiring = Wiring::default();
    assert_eq!(wiring.shards, 1);
    let mut node = Harness::new(Settings::default(), of_team, wiring);
    let all_tenants = PartSpec {
        reach: PartReach::LaneOfAllTenants,
        ..spec(0, &["#"])
    };
    let named = PartSpec {
        identity: Some(Identity::anyone().into()),
        ..all_tenants.clone()
    };
    let told = attach(&mut node, named);
    let [PartEvent::Ended { reason, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*reason, ReasonCode::NotAuthorized);
    attach(&mut node, all_tenants);
    let device = connect(&mut node, "$device", CLEAN);
    publish(&mut node, device, "a", 1);
    let found = deliveries(&mut node);
    assert_eq!(found[0].1.message.tenant(), TenantId(5));
    let other = lane_name("$test/other", 0);
    let of_common_tenant = PartSpec {
        id: PartId(9),
        client_id: other.into(),
        ..spec(0, &["#"])
    };
    attach(&mut node, of_common_tenant);
    publish(&mut node, device, "a", 1);
    let found = deliveries(&mut node);
    let lanes: Vec<u16> = found.iter().map(|(lane, _)| *lane).collect();
    assert_eq!(lanes, [0], "the part of the common tenant does not get it");
}

#[test]
fn the_name_of_a_lane_ends_with_its_number_and_it_takes_no_retained_messages() {
    let mut node = node();
    let unnamed = PartSpec {
        client_id: NAME.into(),
        ..spec(0, &["#"])
    };
    let told = attach(&mut node, unnamed);
    assert!(matches!(told[..], [PartEvent::Ended { .. }]), "{told:?}");
    let mut retained = spec(0, &["#"]);
    retained.subscriptions[0].retain_handling = RetainHandling::SendAtSubscribe;
    let told = attach(&mut node, retained);
    let PartEvent::Attached { granted, .. } = &told[0] else {
        panic!("{told:?}");
    };
    assert!(granted[0].is_error());
}

fn settle_all(node: &mut Harness, lane: u16) {
    let id = PartId(u64::from(lane));
    let told = node.take_told().into_iter();
    let settled = told.filter_map(|(told, event)| match event {
        PartEvent::Delivery(delivery) if told == id => Some(Settlement {
            token: delivery.token,
            outcome: PartOutcome::Done,
        }),
        _ => None,
    });
    let settled = settled.collect();
    call(node, lane, PartCall::Settle(id, settled));
}

/// Publishes a message from each client, and settles the lanes' deliveries. Returns the number of
/// messages.
fn taken(node: &mut Harness, all: &[(u16, Link)], topic: &str) -> usize {
    for (_, link) in all {
        publish(node, *link, topic, 1);
    }
    let found = deliveries(node);
    for (lane, delivery) in &found {
        let settled = Settlement {
            token: delivery.token,
            outcome: PartOutcome::Done,
        };
        let id = PartId(u64::from(*lane));
        call(node, *lane, PartCall::Settle(id, vec![settled]));
    }
    found.len()
}

#[test]
fn a_full_lane_holds_the_publishers_of_its_shard_back_and_no_others() {
    let mut node = node();
    for lane in 0..SHARDS {
        let mut spec = spec(lane, &["a"]);
        spec.credit = 1;
        spec.queue = PartQueueLimits {
            bytes_max: 1000,
            age_max_secs: 0,
            on_full: OnFull::Hold,
        };
        call(&mut node, lane, PartCall::Attach(Box::new(spec)));
    }
    let all = publishers(&mut node);
    let on = |shard: u16| {
        let found = all.iter().find(|(of, _)| *of == shard);
        found.map(|(_, link)| *link).expect("there is one on each")
    };
    let (full, free) = (on(0), on(1));
    let acknowledged = |bytes: &[u8]| bytes.windows(2).filter(|head| head[0] == 0x40).count();
    let mut answered = 0;
    for _ in 0..50 {
        publish(&mut node, full, "a", 1);
        answered += acknowledged(&node.take(full));
    }
    assert!(answered < 50, "its publisher waits");
    publish(&mut node, free, "a", 1);
    assert_eq!(
        acknowledged(&node.take(free)),
        1,
        "another shard's does not"
    );
    for _ in 0..100 {
        settle_all(&mut node, 0);
    }
    answered += acknowledged(&node.take(full));
    assert_eq!(answered, 50);
}

#[test]
fn topics_that_were_published_before_go_to_a_lane_that_comes_and_not_to_one_that_gives_them_up() {
    let mut node = node();
    let all = publishers(&mut node);
    for (_, link) in &all {
        publish(&mut node, *link, "a", 1);
        publish(&mut node, *link, "b", 1);
    }
    assert_eq!(node.counters().messages_unmatched, 24);
    for (filter, expected) in [("a", [12, 0]), ("b", [0, 12]), ("#", [12, 12])] {
        for lane in 0..SHARDS {
            attach(&mut node, spec(lane, &[filter]));
        }
        node.take_told();
        let found = [taken(&mut node, &all, "a"), taken(&mut node, &all, "b")];
        assert_eq!(found, expected, "{filter}");
    }
    for lane in 0..SHARDS {
        call(&mut node, lane, PartCall::End(PartId(u64::from(lane))));
    }
    node.take_told();
    let unmatched = node.counters().messages_unmatched;
    taken(&mut node, &all, "a");
    assert_eq!(node.counters().messages_unmatched, unmatched + 12);
}

fn rules(list: &[(bool, Actions, &str)]) -> Arc<Rules> {
    let rule = |&(allows, actions, filter): &(bool, Actions, &str)| Rule {
        actions,
        allows,
        filter: filter.into(),
        source: "test".into(),
    };
    let rules = list.iter().map(rule).collect();
    Arc::new(Rules::compile(rules, Actions::NONE).expect("the filters are valid"))
}

#[derive(Debug)]
struct Book(Arc<Rules>);

impl RuleBook for Book {
    fn rules_of(&self, _: Realm, _: Option<&str>) -> Arc<Rules> {
        Arc::clone(&self.0)
    }
}

#[test]
fn a_lane_with_an_identity_gets_what_its_rules_allow_before_and_after_they_change() {
    let mut node = node();
    let all = publishers(&mut node);
    let allowed = [
        (false, Actions::SUBSCRIBE, "secret/#"),
        (false, Actions::RECEIVE, "a/secret"),
        (true, Actions::RECEIVE.and(Actions::SUBSCRIBE), "#"),
    ];
    let before = rules(&allowed);
    for lane in 0..SHARDS {
        let identity = Identity {
            user_name: Some("sink".into()),
            rules: Arc::clone(&before),
            ..Identity::anyone()
        };
        let spec = PartSpec {
            identity: Some(identity.into()),
            ..spec(lane, &["a/#", "secret/#"])
        };
        let told = attach(&mut node, spec);
        let Some(PartEvent::Attached { granted, .. }) = told.first() else {
            panic!("{told:?}");
        };
        let expected = [ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized];
        assert_eq!(granted[..], expected);
    }
    assert_eq!(taken(&mut node, &all, "a/open"), 12);
    assert_eq!(taken(&mut node, &all, "a/secret"), 0);
    assert_eq!(taken(&mut node, &all, "secret/a"), 0);
    let after = rules(&[
        (false, Actions::RECEIVE, "a/open"),
        (true, Actions::RECEIVE.and(Actions::SUBSCRIBE), "#"),
    ]);
    for shard in 0..SHARDS {
        let book = Arc::new(Book(Arc::clone(&after)));
        node.command(shard, Command::SetRules(book));
    }
    node.elapse(1_000);
    assert_eq!(taken(&mut node, &all, "a/open"), 0);
    assert_eq!(taken(&mut node, &all, "a/secret"), 12);
}

#[test]
fn a_lane_is_told_nothing_before_it_is_attached() {
    let wiring = Wiring {
        durable_delay_ms: 3_500,
        ..Wiring::default()
    };
    let mut node = Harness::new(Settings::default(), ListenerPolicy::default(), wiring);
    let mut spec = spec(0, &["a"]);
    spec.queue.bytes_max = 1_000_000;
    node.part_call(&lane_name(NAME, 0), PartCall::Attach(Box::new(spec)));
    node.elapse(3_000);
    assert!(node.take_told().is_empty(), "its record is not durable");
    node.elapse(1_000);
    let told = node.take_told();
    assert!(
        matches!(
            told[..],
            [
                (_, PartEvent::Attached { .. }),
                (_, PartEvent::Run { .. }),
                ..
            ]
        ),
        "{told:?}"
    );
}
