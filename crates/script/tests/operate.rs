//! Tests of operators' commands: publishing messages; listing and changing sessions, subscriptions
//! and retained messages. On one shard and on several, with a store that answers late.

use martlet_broker::{
    Answer, Authenticated, ClientDetail, ClientPage, ClientQuery, Command, DeleteOutcome,
    DeliveryState, DropReason, Identity, Limits, ListenerPolicy, NewMessage, NewSubscription,
    Published, RetainedPage, RetainedQuery, Search, Settings, StoreState, SubscriptionPage,
    SubscriptionQuery, TenantId, TransportEnd,
};
use martlet_codec::{QoS, ReasonCode};
use martlet_script::{Harness, Link, Wiring};

const CLEAN: u8 = 0x02;
const TENANT: TenantId = TenantId(0);

struct Node {
    harness: Harness,
    shards: u16,
    asked: u64,
}

impl Node {
    fn new(shards: u16, durable_delay_ms: u64, limits: Limits) -> Self {
        let settings = Settings {
            limits,
            ..Settings::default()
        };
        let wiring = Wiring {
            shards,
            durable_delay_ms,
            seed: 7,
            ..Wiring::default()
        };
        Self {
            harness: Harness::new(settings, ListenerPolicy::default(), wiring),
            shards,
            asked: 0,
        }
    }

    fn client(&mut self, client_id: &str, flags: u8) -> Link {
        let link = self.harness.open();
        self.harness.send(link, &connect(client_id, flags));
        self.harness.elapse(10);
        self.harness.take(link);
        link
    }

    fn subscriber(&mut self, client_id: &str, filter: &str) -> Link {
        let link = self.client(client_id, 0);
        self.harness.send(link, &subscribe(filter));
        self.harness.elapse(10);
        self.harness.take(link);
        link
    }

    /// The answer of one shard so far; there must be no other answer.
    fn answer_of(&mut self, shard: u16, command: impl Fn(u64) -> Command) -> Option<Answer> {
        self.asked += 1;
        self.harness.command(shard, command(self.asked));
        self.answer()
    }

    fn answer(&mut self) -> Option<Answer> {
        let mut reports = self.harness.take_reports();
        assert!(reports.len() <= 1, "one command has one answer");
        let report = reports.pop()?;
        assert_eq!(report.request, self.asked);
        Some(report.answer)
    }

    /// The answers of all shards.
    fn answers(&mut self, command: impl Fn(u64) -> Command) -> Vec<Answer> {
        let mut answers = Vec::new();
        for shard in 0..self.shards {
            let mut answer = self.answer_of(shard, &command);
            if answer.is_none() {
                self.harness.elapse(20);
                answer = self.answer();
            }
            answers.push(answer.expect("each shard answers"));
        }
        answers
    }

    fn publish(&mut self, shard: u16, messages: &[NewMessage]) -> Option<Vec<Published>> {
        let answer = self.answer_of(shard, |request| Command::Publish {
            request,
            tenant: TENANT,
            publisher: "operator".into(),
            messages: messages.into(),
        });
        answer.map(published)
    }

    fn clients(&mut self, query: &ClientQuery) -> Vec<ClientPage> {
        let answers = self.answers(|request| Command::Clients {
            request,
            query: Box::new(query.clone()),
        });
        let pages = answers.into_iter().map(|answer| match answer {
            Answer::Clients(page) => page,
            other => panic!("{other:?}"),
        });
        pages.collect()
    }

    fn subscriptions(&mut self, query: &SubscriptionQuery) -> SubscriptionPage {
        let answers = self.answers(|request| Command::Subscriptions {
            request,
            query: Box::new(query.clone()),
        });
        let mut all = SubscriptionPage::default();
        for answer in answers {
            let Answer::Subscriptions(page) = answer else {
                panic!("{answer:?}");
            };
            all.subscriptions.extend(page.subscriptions);
            all.total += page.total;
            all.more |= page.more;
        }
        all
    }

    fn retained(&mut self, query: &RetainedQuery) -> RetainedPage {
        let answer = self.answer_of(0, |request| Command::Retained {
            request,
            query: Box::new(query.clone()),
        });
        match answer {
            Some(Answer::Retained(page)) => page,
            other => panic!("{other:?}"),
        }
    }

    fn detail(&mut self, client_id: &str) -> Option<ClientDetail> {
        let answers = self.answers(|request| Command::ClientDetail {
            request,
            tenant: TENANT,
            client_id: client_id.into(),
            limit: 10,
        });
        answers.into_iter().find_map(|answer| match answer {
            Answer::ClientDetail(found) => found.map(|found| *found),
            other => panic!("{other:?}"),
        })
    }

    fn subscribe_for(&mut self, client_id: &str, filters: &[&str]) -> Vec<ReasonCode> {
        let subscriptions: Vec<_> = filters
            .iter()
            .map(|filter| NewSubscription::new(filter, QoS::AtLeastOnce))
            .collect();
        let answers = self.answers(|request| Command::Subscribe {
            request,
            tenant: TENANT,
            client_id: client_id.into(),
            subscriptions: subscriptions.clone(),
        });
        let found = answers.into_iter().find_map(|answer| match answer {
            Answer::Subscribe(codes) => codes,
            other => panic!("{other:?}"),
        });
        found.expect("the session is on one shard")
    }
}

fn published(answer: Answer) -> Vec<Published> {
    match answer {
        Answer::Publish(outcomes) => outcomes,
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u16).to_be_bytes();
    [&length, text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, body.len() as u8], body].concat()
}

fn connect(client_id: &str, flags: u8) -> Vec<u8> {
    let head = [b"\0\x04MQTT\x04".as_slice(), &[flags, 0, 60]].concat();
    packet(0x10, &[head, text(client_id)].concat())
}

/// A CONNECT with a user name that equals the Client Identifier.
fn connect_as(name: &str) -> Vec<u8> {
    let head = [b"\0\x04MQTT\x04".as_slice(), &[CLEAN | 0x80, 0, 60]].concat();
    packet(0x10, &[head, text(name), text(name)].concat())
}

fn subscribe(filter: &str) -> Vec<u8> {
    packet(0x82, &[vec![0, 1], text(filter), vec![2]].concat())
}

fn message(topic: &str, qos: QoS, payload: &str) -> NewMessage {
    NewMessage {
        topic: topic.into(),
        payload: payload.as_bytes().into(),
        qos,
        ..NewMessage::default()
    }
}

fn retained(topic: &str, payload: &str) -> NewMessage {
    NewMessage {
        retain: true,
        ..message(topic, QoS::AtLeastOnce, payload)
    }
}

fn reasons(outcomes: &[Published]) -> Vec<ReasonCode> {
    outcomes.iter().map(|outcome| outcome.reason).collect()
}

fn names(page: &ClientPage) -> Vec<&str> {
    let names = page.clients.iter();
    names.map(|client| client.client_id.as_str()).collect()
}

#[test]
fn operators_publish_as_clients_do() {
    let mut node = Node::new(3, 0, Limits::default());
    let links: Vec<_> = (0..6)
        .map(|number| node.subscriber(&format!("s{number}"), "t/+"))
        .collect();
    let messages = [
        message("t/1", QoS::AtMostOnce, "zero"),
        message("t/1", QoS::AtLeastOnce, "one"),
        message("nobody", QoS::AtLeastOnce, "lost"),
        message("$SYS/broker/uptime", QoS::AtMostOnce, "9"),
        message("t/#", QoS::AtMostOnce, "no topic"),
    ];
    let outcomes = node.publish(1, &messages).expect("nothing is waited for");
    assert_eq!(
        reasons(&outcomes),
        [
            ReasonCode::Success,
            ReasonCode::Success,
            ReasonCode::NoMatchingSubscribers,
            ReasonCode::NotAuthorized,
            ReasonCode::TopicNameInvalid,
        ]
    );
    let here = outcomes[0].matched_locally;
    assert!(
        here <= 6 && outcomes[0].other_shards > 0,
        "{:?}",
        outcomes[0]
    );
    for link in links {
        let got = node.harness.take(link);
        let count = |what: &[u8]| got.windows(what.len()).filter(|part| part == &what).count();
        assert_eq!([count(b"zero"), count(b"one"), count(b"lost")], [1, 1, 0]);
    }
}

#[test]
fn an_operator_is_answered_when_the_puback_would_come() {
    let mut node = Node::new(1, 50, Limits::default());
    node.subscriber("durable", "t");
    node.harness.elapse(100);
    let messages = [
        message("t", QoS::AtMostOnce, "at once"),
        message("t", QoS::AtLeastOnce, "kept"),
    ];
    assert_eq!(
        node.publish(0, &messages),
        None,
        "the record is not durable"
    );
    node.harness.elapse(49);
    assert!(node.answer().is_none());
    node.harness.elapse(1);
    let outcomes = published(node.answer().expect("it is durable"));
    assert_eq!(reasons(&outcomes), [ReasonCode::Success; 2]);
    assert_eq!([outcomes[0].recorded, outcomes[1].recorded], [false, true]);
    let unrecorded = node
        .publish(0, &messages[..1])
        .expect("QoS 0 waits for nothing");
    assert_eq!(reasons(&unrecorded), [ReasonCode::Success]);
}

#[test]
fn a_store_that_takes_nothing_is_no_hang() {
    let limits = Limits {
        store_stalled_secs: 30,
        ..Limits::default()
    };
    let mut node = Node::new(1, 0, limits.clone());
    node.subscriber("durable", "t");
    let kept = [message("t", QoS::AtLeastOnce, "kept")];
    node.harness.set_store_state(StoreState::Full);
    let outcomes = node.publish(0, &kept).expect("it says no at once");
    assert_eq!(reasons(&outcomes), [ReasonCode::QuotaExceeded]);
    // A store that is behind may catch up.
    node.harness.set_store_state(StoreState::Behind);
    assert_eq!(node.publish(0, &kept), None);
    node.harness.elapse(5_000);
    node.harness.set_store_state(StoreState::KeepsUp);
    node.harness.end_tick();
    let outcomes = published(node.answer().expect("it is its turn"));
    assert_eq!(reasons(&outcomes), [ReasonCode::Success]);
    node.harness.set_store_state(StoreState::Behind);
    assert_eq!(node.publish(0, &kept), None);
    node.harness.elapse(30_000);
    let outcomes = published(node.answer().expect("it has waited long enough"));
    assert_eq!(reasons(&outcomes), [ReasonCode::QuotaExceeded]);
    // A store that never answers.
    let mut node = Node::new(1, 3_600_000, limits);
    let topic = [retained("r", "kept")];
    assert_eq!(node.publish(0, &topic), None);
    node.harness.elapse(30_000);
    let outcomes = published(node.answer().expect("it has waited long enough"));
    assert_eq!(reasons(&outcomes), [ReasonCode::QuotaExceeded]);
}

#[test]
fn a_long_batch_keeps_its_order_and_has_an_outcome_for_each() {
    let mut node = Node::new(2, 0, Limits::default());
    let link = node.client("s", CLEAN);
    node.harness.send(
        link,
        &packet(0x82, &[vec![0, 1], text("t"), vec![0]].concat()),
    );
    node.harness.take(link);
    let messages: Vec<_> = (0..1000)
        .map(|number| message("t", QoS::AtMostOnce, &format!("<{number}>")))
        .collect();
    let outcomes = node.publish(1, &messages).expect("all are routed");
    assert_eq!(outcomes.len(), 1000);
    let got = String::from_utf8_lossy(&node.harness.take(link)).into_owned();
    let numbers = got.split('<').skip(1);
    let numbers = numbers.filter_map(|part| part.split('>').next()?.parse::<u32>().ok());
    assert!(numbers.eq(0..1000));
}

#[test]
fn properties_of_an_operators_message_are_passed_on() {
    let mut node = Node::new(1, 0, Limits::default());
    let link = node.harness.open();
    let v5 = [b"\0\x04MQTT\x05\x02\0\0\0".as_slice(), &text("v5")].concat();
    node.harness.send(link, &packet(0x10, &v5));
    let body = [vec![0, 1, 0], text("t"), vec![0]].concat();
    node.harness.send(link, &packet(0x82, &body));
    node.harness.take(link);
    let rich = NewMessage {
        content_type: Some("text/plain".into()),
        response_topic: Some("answers/1".into()),
        correlation_data: Some(b"77".as_slice().into()),
        user_properties: vec![("key".into(), "value".into())],
        message_expiry_secs: Some(60),
        payload_is_utf8: Some(true),
        ..message("t", QoS::AtMostOnce, "hello")
    };
    let outcomes = node
        .publish(0, std::slice::from_ref(&rich))
        .expect("routed");
    assert_eq!(reasons(&outcomes), [ReasonCode::Success]);
    let got = node.harness.take(link);
    for part in ["text/plain", "answers/1", "77", "key", "value", "hello"] {
        let found = got
            .windows(part.len())
            .any(|window| window == part.as_bytes());
        assert!(found, "{part} in {got:?}");
    }
    let broken = NewMessage {
        payload: [0xFF].into(),
        ..rich
    };
    let outcomes = node.publish(0, &[broken]).expect("refused at once");
    assert_eq!(reasons(&outcomes), [ReasonCode::PayloadFormatInvalid]);
}

#[test]
fn sessions_are_found_by_page() {
    let mut node = Node::new(3, 0, Limits::default());
    let mut links = Vec::new();
    for number in 0..30 {
        links.push(node.client(&format!("client-{number:02}"), 0));
    }
    let other = node.client("elsewhere", CLEAN);
    node.harness.end(links[3], TransportEnd::Error);
    let mut all: Vec<String> = Vec::new();
    for shard in 0..3 {
        let mut query = ClientQuery {
            limit: 4,
            ..ClientQuery::default()
        };
        loop {
            let page = node.clients(&query).swap_remove(shard);
            assert!(page.clients.len() <= 4);
            all.extend(names(&page).iter().map(|name| (*name).to_owned()));
            let Some(end) = page.end else {
                break;
            };
            query.after = Some(end);
        }
    }
    all.sort();
    assert_eq!(all.len(), 31);
    all.dedup();
    assert_eq!(all.len(), 31, "each is on one page");
    let search = |text: &str, anywhere| ClientQuery {
        search: Some(Search {
            text: text.into(),
            anywhere,
        }),
        limit: 100,
        ..ClientQuery::default()
    };
    let mut count = |query: &ClientQuery| -> usize {
        let pages = node.clients(query);
        pages.iter().map(|page| page.total).sum()
    };
    assert_eq!(count(&search("client-1", false)), 10);
    assert_eq!(count(&search("lient-1", false)), 0);
    assert_eq!(count(&search("lient-1", true)), 10);
    assert_eq!(count(&search("127.0.0.1", false)), 30, "all connected");
    let away = ClientQuery {
        connected: Some(false),
        limit: 100,
        ..ClientQuery::default()
    };
    assert_eq!(count(&away), 1);
    node.harness.end(other, TransportEnd::Error);
}

#[test]
fn many_sessions_are_looked_through_in_steps() {
    let mut node = Node::new(1, 0, Limits::default());
    // More connections than several steps examine; finally few are left.
    let mut links = Vec::new();
    for number in 0..2500 {
        let link = node.harness.open();
        node.harness
            .send(link, &connect(&format!("c{number:04}"), CLEAN));
        links.push(link);
    }
    let all = ClientQuery {
        limit: 3000,
        ..ClientQuery::default()
    };
    let page = node.clients(&all).swap_remove(0);
    assert_eq!((page.clients.len(), page.total), (2500, 2500));
    for link in &links[..2400] {
        node.harness.end(*link, TransportEnd::Error);
    }
    let query = ClientQuery {
        limit: 10,
        ..ClientQuery::default()
    };
    let page = node.clients(&query).swap_remove(0);
    assert_eq!((page.total, page.end.is_some()), (100, true));
    assert_eq!(names(&page)[0], "c2400");
}

/// Sessions found by a scan may end before the scan does. The sessions after them are on the next
/// page.
#[test]
fn sessions_that_end_while_they_are_looked_for_hide_no_others() {
    const AWAY: u8 = 0;
    let mut node = Node::new(1, 0, Limits::default());
    let passing: Vec<_> = (0..3)
        .map(|at| node.client(&format!("a{at}"), CLEAN))
        .collect();
    // As many sessions as several steps examine.
    for number in 0..5000 {
        let link = node.harness.open();
        node.harness
            .send(link, &connect(&format!("b{number:04}"), AWAY));
    }
    let mut query = ClientQuery {
        limit: 3,
        ..ClientQuery::default()
    };
    // They end after the scan has found them, while it searches for more.
    node.asked += 1;
    let command = Command::Clients {
        request: node.asked,
        query: Box::new(query.clone()),
    };
    node.harness.at_once(|harness| {
        harness.command(0, command);
        for link in passing {
            harness.end(link, TransportEnd::Error);
        }
    });
    let Some(Answer::Clients(page)) = node.answer() else {
        panic!("it was asked for clients");
    };
    assert_eq!(names(&page), [""; 0], "those that were found have ended");
    query.after = page.end;
    assert!(query.after.is_some(), "there are more");
    let page = node.clients(&query).swap_remove(0);
    assert_eq!(names(&page), ["b0000", "b0001", "b0002"]);
}

#[test]
fn a_session_is_shown_with_what_it_waits_for() {
    let mut node = Node::new(2, 0, Limits::default());
    let link = node.subscriber("device", "t/#");
    node.harness.send(link, &subscribe("$share/g/jobs"));
    node.publish(0, &[message("t/a", QoS::AtLeastOnce, "first")]);
    let detail = node.detail("device").expect("it has a session");
    assert!(detail.info.connected && detail.durable);
    let connection = detail.connection.expect("it is connected");
    assert_eq!(connection.listener, "default");
    assert!(!connection.clean_start && connection.admitted);
    let filters = detail.subscriptions.iter().map(|found| &*found.filter);
    assert_eq!(filters.collect::<Vec<_>>(), ["t/#", "$share/g/jobs"]);
    let [in_flight] = &detail.in_flight[..] else {
        panic!("{:?}", detail.in_flight);
    };
    assert_eq!(in_flight.state, DeliveryState::Unacknowledged);
    let head = in_flight.head.as_ref().expect("it is in memory");
    assert_eq!((&*head.topic, head.payload_bytes), ("t/a", 5));
    node.harness.end(link, TransportEnd::Error);
    node.publish(0, &[message("t/b", QoS::ExactlyOnce, "second")]);
    node.publish(0, &[message("t/b", QoS::AtMostOnce, "dropped")]);
    let detail = node.detail("device").expect("it has a session");
    assert_eq!(detail.connection, None);
    assert_eq!(detail.queue[0].qos, QoS::ExactlyOnce);
    assert_eq!(detail.in_flight[0].state, DeliveryState::Unacknowledged);
    assert_eq!(detail.drops, [(DropReason::ClientAway, 1)]);
    assert!(node.detail("nobody").is_none());
}

#[test]
fn a_session_is_ended_whoever_is_there() {
    let mut node = Node::new(3, 5, Limits::default());
    let watcher = node.subscriber("watcher", "will");
    let will = [
        b"\0\x04MQTT\x04\x04\0\x3c".as_slice(),
        &text("there"),
        &text("will"),
        &text("gone"),
    ];
    let link = node.harness.open();
    node.harness.send(link, &packet(0x10, &will.concat()));
    node.harness.elapse(10);
    let away = node.subscriber("away", "t");
    node.harness.end(away, TransportEnd::Error);
    for (client_id, connected) in [("there", true), ("away", false), ("nobody", false)] {
        let disconnected = node.answers(|request| Command::Disconnect {
            request,
            tenant: TENANT,
            client_id: "nobody".to_owned(),
            reason: ReasonCode::AdministrativeAction,
        });
        let found = disconnected.iter();
        assert!(
            found
                .into_iter()
                .all(|answer| matches!(answer, Answer::Disconnect(false)))
        );
        let ended = node.answers(|request| Command::EndSession {
            request,
            tenant: TENANT,
            client_id: client_id.into(),
        });
        let found = ended
            .iter()
            .filter(|answer| matches!(answer, Answer::EndSession(true)));
        assert_eq!(found.count(), usize::from(client_id != "nobody"));
        assert_eq!(
            node.harness.is_closed(link),
            connected || client_id != "there"
        );
        assert!(node.detail(client_id).is_none());
    }
    node.harness.elapse(100);
    let got = node.harness.take(watcher);
    assert!(got.ends_with(b"gone"), "the Will is sent: {got:?}");
}

#[test]
fn an_operators_subscription_is_the_clients_own() {
    let mut node = Node::new(3, 5, Limits::default());
    let link = node.client("device", 0);
    let codes = node.subscribe_for("device", &["t/+", "$share/g/jobs", "bad/#/filter"]);
    assert_eq!(
        codes,
        [
            ReasonCode::GrantedQoS1,
            ReasonCode::GrantedQoS1,
            ReasonCode::TopicFilterInvalid,
        ]
    );
    node.publish(0, &[message("t/1", QoS::AtMostOnce, "<t>")]);
    node.publish(0, &[message("jobs", QoS::AtMostOnce, "<jobs>")]);
    node.harness.elapse(50);
    node.harness.take_reports();
    let got = node.harness.take(link);
    let count = |what: &[u8]| got.windows(what.len()).filter(|part| part == &what).count();
    assert_eq!([count(b"<t>"), count(b"<jobs>")], [1, 1]);
    // Messages are queued for an offline client from now on.
    node.harness.end(link, TransportEnd::Error);
    assert_eq!(
        node.subscribe_for("device", &["later"]),
        [ReasonCode::GrantedQoS1]
    );
    node.publish(0, &[message("later", QoS::AtLeastOnce, "<later>")]);
    node.harness.elapse(50);
    node.harness.take_reports();
    let page = node.subscriptions(&SubscriptionQuery {
        topic: Some("t/9".into()),
        limit: 10,
        ..SubscriptionQuery::default()
    });
    assert_eq!(page.subscriptions.len(), 1);
    assert_eq!(&*page.subscriptions[0].filter, "t/+");
    let page = node.subscriptions(&SubscriptionQuery {
        share_name: Some("g".into()),
        limit: 10,
        ..SubscriptionQuery::default()
    });
    assert_eq!(&*page.subscriptions[0].filter, "$share/g/jobs");
    let ended = node.answers(|request| Command::Unsubscribe {
        request,
        tenant: TENANT,
        client_id: "device".into(),
        filters: vec!["t/+".into(), "$share/g/jobs".into(), "other".into()],
    });
    let codes = ended.into_iter().find_map(|answer| match answer {
        Answer::Unsubscribe(codes) => codes,
        other => panic!("{other:?}"),
    });
    let (ok, none) = (ReasonCode::Success, ReasonCode::NoSubscriptionExisted);
    assert_eq!(codes, Some(vec![ok, ok, none]));
    let all = SubscriptionQuery {
        limit: 10,
        ..SubscriptionQuery::default()
    };
    let page = node.subscriptions(&all);
    assert_eq!((page.total, &*page.subscriptions[0].filter), (1, "later"));
    let link = node.harness.open();
    node.harness.send(link, &connect("device", 0));
    node.harness.elapse(50);
    let got = node.harness.take(link);
    assert!(got.windows(7).any(|part| part == b"<later>"), "{got:?}");
}

#[test]
fn subscriptions_are_found_by_page() {
    let mut node = Node::new(1, 0, Limits::default());
    for number in 0..10 {
        let link = node.subscriber(&format!("c{number}"), "a");
        node.harness.send(link, &subscribe("b"));
        node.harness.take(link);
    }
    let mut query = SubscriptionQuery {
        limit: 7,
        ..SubscriptionQuery::default()
    };
    let mut all = Vec::new();
    loop {
        let page = node.subscriptions(&query);
        assert_eq!(page.total, 20);
        all.extend(page.subscriptions);
        let Some(last) = all.last().filter(|_| page.more) else {
            break;
        };
        let (name, filter) = ((*last.client_id).into(), last.filter.clone());
        query.after = Some((name, last.tenant, filter));
    }
    let names = all
        .iter()
        .map(|found| format!("{} {}", found.client_id, found.filter));
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), 20);
    assert!(names.is_sorted());
    let exact = node.subscriptions(&SubscriptionQuery {
        client_id: Some("c3".into()),
        filter: Some("b".into()),
        limit: 7,
        ..SubscriptionQuery::default()
    });
    assert_eq!(exact.total, 1);
}

#[test]
fn retained_messages_are_found_and_taken_away() {
    let mut node = Node::new(2, 5, Limits::default());
    let rooms: Vec<_> = (0..700)
        .map(|number| retained(&format!("room/{number:03}/light"), "on"))
        .collect();
    node.publish(1, &rooms);
    let other = NewMessage {
        content_type: Some("text/plain".into()),
        user_properties: vec![("room".into(), "7".into())],
        ..retained("other", "stays")
    };
    node.publish(1, &[other]);
    node.harness.elapse(50);
    node.harness.take_reports();
    let query = RetainedQuery {
        filter: "room/+/light".into(),
        limit: 3,
        payload_bytes_max: 1,
        count: true,
        ..RetainedQuery::default()
    };
    let page = node.retained(&query);
    assert_eq!((page.total, page.more), (Some(700), true));
    assert_eq!(&*page.messages[0].topic, "room/000/light");
    assert_eq!(page.messages[0].payload_bytes, 2);
    assert_eq!(&*page.messages[0].payload, b"o");
    let next = node.retained(&RetainedQuery {
        after: Some(page.messages[2].topic.clone()),
        search: Some(Search {
            text: "/69".into(),
            anywhere: true,
        }),
        limit: 100,
        ..query.clone()
    });
    assert_eq!(
        (next.total, next.messages.len(), next.more),
        (Some(10), 10, false)
    );
    let command = |request| Command::DeleteRetained {
        request,
        tenant: TENANT,
        filter: "room/#".into(),
    };
    assert!(
        node.answer_of(0, command).is_none(),
        "it is not durable yet"
    );
    node.harness.elapse(50);
    let Some(Answer::DeleteRetained { deleted, outcome }) = node.answer() else {
        panic!("it is durable");
    };
    assert_eq!((deleted, outcome), (700, DeleteOutcome::Deleted));
    let left = node.retained(&RetainedQuery {
        filter: "#".into(),
        ..query
    });
    let other = &left.messages[0];
    assert_eq!((left.total, &*other.topic), (Some(1), "other"));
    assert_eq!(other.content_type.as_deref(), Some("text/plain"));
    assert_eq!(other.user_properties, [("room".into(), "7".into())]);
}

#[test]
fn devices_that_publish_are_listed_once_in_some_seconds() {
    let listener = ListenerPolicy {
        authenticate: true,
        ..ListenerPolicy::default()
    };
    let mut node = Harness::new(Settings::default(), listener, Wiring::default());
    let active = |node: &mut Harness| {
        node.command(0, Command::ActiveDevices { request: 1 });
        let answers = node.take_reports().into_iter().map(|report| report.answer);
        let listed = answers.flat_map(|answer| match answer {
            Answer::ActiveDevices(active) => active.devices,
            other => panic!("{other:?} is not an answer to this"),
        });
        let ids = listed.map(|(_, id)| id.to_string());
        ids.collect::<Vec<_>>()
    };
    let mut links = Vec::new();
    for (name, is_device) in [("sensor", true), ("person", false)] {
        let link = node.open();
        node.send(link, &connect_as(name));
        for (shard, asked) in node.take_authentications() {
            let answer = Authenticated::Accepted {
                identity: Identity {
                    user_name: asked.user_name.clone(),
                    is_device,
                    ..Identity::anyone()
                },
                last_revocation: 0,
                data: None,
            };
            node.authenticated(shard, asked.connection, answer);
        }
        links.push(link);
    }
    let publish = |node: &mut Harness| {
        for link in &links {
            node.send(*link, &packet(0x30, &[text("a"), b"x".to_vec()].concat()));
        }
    };
    // Nothing has been requested yet.
    publish(&mut node);
    assert_eq!(active(&mut node), Vec::<String>::new());
    publish(&mut node);
    publish(&mut node);
    assert_eq!(active(&mut node), ["sensor"]);
    publish(&mut node);
    assert_eq!(active(&mut node), Vec::<String>::new());
    node.elapse(20_000);
    publish(&mut node);
    assert_eq!(active(&mut node), ["sensor"]);
}
