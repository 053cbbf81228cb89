//! Tests of changes of permissions and of revocations while clients connect, stay and disconnect.

use std::collections::BTreeSet;
use std::sync::Arc;

use martlet_broker::{
    Actions, Answer, Authenticated, Authentication, Command, CredentialMark, Event, EventInterest,
    Identity, ListenerPolicy, Realm, RefusalCause, Revocation, RevokedClients, Rule, RuleBook,
    Rules, Settings, TenantId, TransportEnd, UnmatchedTopic, Voucher,
};
use martlet_script::{Harness, Link, Wiring};

const CLEAN: u8 = 0x02;
const ACCEPTED: &[u8] = &[0x20, 2, 0, 0];
const NOT_AUTHORIZED: &[u8] = &[0x20, 2, 0, 5];

fn node(shards: u16) -> Harness {
    node_with(shards, Settings::default())
}

fn node_with(shards: u16, settings: Settings) -> Harness {
    let listener = ListenerPolicy {
        authenticate: true,
        ..ListenerPolicy::default()
    };
    let wiring = Wiring {
        shards,
        ..Wiring::default()
    };
    Harness::new(settings, listener, wiring)
}

fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u16).to_be_bytes();
    [&length, text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, body.len() as u8], body].concat()
}

fn connect(client_id: &str, flags: u8, user: &str) -> Vec<u8> {
    let head = [b"\0\x04MQTT\x04".as_slice(), &[flags | 0x80, 0, 0]].concat();
    packet(0x10, &[head, text(client_id), text(user)].concat())
}

fn subscribe(filter: &str) -> Vec<u8> {
    packet(0x82, &[vec![0, 1], text(filter), vec![1]].concat())
}

fn publish(topic: &str, qos: u8, payload: &str) -> Vec<u8> {
    let id: &[u8] = if qos > 0 { &[0, 7] } else { &[] };
    let body = [text(topic), id.to_vec(), payload.as_bytes().to_vec()].concat();
    packet(0x30 | qos << 1, &body)
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

/// Like [`Book`], with rules for all others.
#[derive(Debug)]
struct SharedBook([(&'static str, Arc<Rules>); 2], Arc<Rules>);

impl RuleBook for SharedBook {
    fn rules_of(&self, _: Realm, user_name: Option<&str>) -> Arc<Rules> {
        let found = self.0.iter().find(|(name, _)| user_name == Some(name));
        Arc::clone(found.map_or(&self.1, |(_, rules)| rules))
    }
}

#[derive(Debug)]
struct Book([(&'static str, Arc<Rules>); 2]);

impl Book {
    fn from(all: [(&'static str, &Arc<Rules>); 2]) -> Self {
        Self(all.map(|(name, rules)| (name, Arc::clone(rules))))
    }
}

impl RuleBook for Book {
    fn rules_of(&self, _: Realm, user_name: Option<&str>) -> Arc<Rules> {
        let found = self.0.iter().find(|(name, _)| user_name == Some(name));
        found.map_or_else(|| Arc::new(Rules::closed()), |(_, rules)| Arc::clone(rules))
    }
}

fn accepted(asked: &Authentication, rules: Arc<Rules>, last_revocation: u64) -> Authenticated {
    let identity = Identity {
        user_name: asked.user_name.clone(),
        rules,
        ..Identity::anyone()
    };
    Authenticated::Accepted {
        identity,
        last_revocation,
        data: None,
    }
}

/// The only pending authentication.
fn asked(node: &mut Harness) -> (u16, Authentication) {
    let mut all = node.take_authentications();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn come(node: &mut Harness, client_id: &str, flags: u8, user: &str, may: &Arc<Rules>) -> Link {
    let link = node.open();
    node.send(link, &connect(client_id, flags, user));
    let (shard, asked) = asked(node);
    let answer = accepted(&asked, Arc::clone(may), 0);
    node.authenticated(shard, asked.connection, answer);
    let answer = node.take(link);
    assert!(
        answer.starts_with(&[0x20, 2]) && answer[3] == 0,
        "{answer:?}"
    );
    link
}

/// Like [`come`], for an existing session; queued messages arrive with the CONNACK.
fn come_back(node: &mut Harness, name: &str, may: &Arc<Rules>) -> Link {
    let link = node.open();
    node.send(link, &connect(name, 0, name));
    let (shard, asked) = asked(node);
    let answer = accepted(&asked, Arc::clone(may), 0);
    node.authenticated(shard, asked.connection, answer);
    link
}

fn all(node: &mut Harness, shards: u16, command: &Command) {
    (0..shards).for_each(|shard| node.command(shard, command.clone()));
}

#[test]
fn who_waits_to_be_known_may_go_and_the_answer_comes_too_late() {
    let mut node = node(1);
    let link = node.open();
    node.send(link, &connect("a", CLEAN, "alice"));
    let (shard, asked) = asked(&mut node);
    assert_eq!(asked.user_name.as_deref(), Some("alice"));
    node.end(link, TransportEnd::EndOfStream);
    node.authenticated(shard, asked.connection, accepted(&asked, rules(&[]), 0));
    assert!(node.take(link).is_empty());
}

#[test]
fn who_is_not_known_in_time_is_refused() {
    let mut node = node(1);
    let link = node.open();
    node.send(link, &connect("a", CLEAN, "alice"));
    let (shard, asked) = asked(&mut node);
    node.elapse(60_000);
    assert!(node.is_closed(link));
    node.authenticated(shard, asked.connection, accepted(&asked, rules(&[]), 0));
    assert!(node.take(link).is_empty());
}

#[test]
fn what_comes_behind_connect_waits_with_it() {
    let mut node = node(3);
    let link = node.open();
    let open = Arc::new(Rules::open());
    node.send(link, &connect("a", CLEAN, "alice"));
    node.send(link, &subscribe("t"));
    node.send(link, &[0xC0, 0]);
    let (shard, asked) = asked(&mut node);
    assert!(node.take(link).is_empty());
    node.authenticated(shard, asked.connection, accepted(&asked, open, 0));
    let expected = [ACCEPTED, &[0x90, 3, 0, 1, 1], &[0xD0, 0]].concat();
    assert_eq!(node.take(link), expected);
}

#[test]
fn revoking_ends_connections_and_those_on_their_way_in() {
    for shards in [1, 3] {
        let mut node = node(shards);
        let open = Arc::new(Rules::open());
        let links = ["a", "b", "c"].map(|name| come(&mut node, name, CLEAN, "alice", &open));
        let bob = come(&mut node, "bob", CLEAN, "bob", &open);
        let late = node.open();
        node.send(late, &connect("late", CLEAN, "alice"));
        let (shard, waiting) = asked(&mut node);
        let revocation = Revocation {
            realm: Realm::COMMON,
            whose: RevokedClients::User("alice".into()),
            number: 5,
            reason: martlet_broker::RevocationReason::Credentials,
        };
        all(&mut node, shards, &Command::Revoke([revocation].into()));
        assert!(links.iter().all(|link| node.is_closed(*link)));
        // It was decided before the revocation, and arrives after it.
        let answer = accepted(&waiting, Arc::clone(&open), 4);
        node.authenticated(shard, waiting.connection, answer);
        assert_eq!(node.take(late), NOT_AUTHORIZED);
        node.send(bob, &[0xC0, 0]);
        assert_eq!(node.take(bob), [0xD0, 0]);
        // With new credentials it may connect again.
        let again = node.open();
        node.send(again, &connect("a", CLEAN, "alice"));
        let (shard, waiting) = asked(&mut node);
        node.authenticated(shard, waiting.connection, accepted(&waiting, open, 5));
        assert_eq!(node.take(again), ACCEPTED);
    }
}

#[test]
fn a_user_of_that_name_in_another_realm_is_not_revoked() {
    for shards in [1, 3] {
        let mut node = node(shards);
        let open = Arc::new(Rules::open());
        let link = come(&mut node, "a", CLEAN, "alice", &open);
        let late = node.open();
        node.send(late, &connect("late", CLEAN, "alice"));
        let (shard, waiting) = asked(&mut node);
        let revocation = Revocation {
            realm: Realm(7),
            whose: RevokedClients::User("alice".into()),
            number: 5,
            reason: martlet_broker::RevocationReason::Credentials,
        };
        all(&mut node, shards, &Command::Revoke([revocation].into()));
        node.authenticated(shard, waiting.connection, accepted(&waiting, open, 4));
        assert_eq!(node.take(late), ACCEPTED);
        assert!(!node.is_closed(link));
    }
}

#[test]
fn whom_a_voucher_let_in_goes_with_it_and_nobody_else() {
    let by = |voucher: u32, last_revocation: u64| Authenticated::Accepted {
        identity: Identity {
            user_name: Some("alice".into()),
            voucher: Voucher(voucher),
            ..Identity::anyone()
        },
        last_revocation,
        data: None,
    };
    for shards in [1, 3] {
        let mut node = node(shards);
        let come = |node: &mut Harness, client_id: &str, voucher| {
            let link = node.open();
            node.send(link, &connect(client_id, CLEAN, "alice"));
            let (shard, asked) = asked(node);
            node.authenticated(shard, asked.connection, by(voucher, 4));
            assert_eq!(node.take(link), ACCEPTED);
            link
        };
        let stay = [come(&mut node, "a", 0), come(&mut node, "b", 2)];
        let goes = come(&mut node, "c", 1);
        let late = node.open();
        node.send(late, &connect("late", CLEAN, "alice"));
        let (shard, waiting) = asked(&mut node);
        let revocation = Revocation {
            realm: Realm::COMMON,
            whose: RevokedClients::Voucher(Voucher(1)),
            number: 5,
            reason: martlet_broker::RevocationReason::Credentials,
        };
        all(&mut node, shards, &Command::Revoke([revocation].into()));
        assert!(node.is_closed(goes));
        assert!(stay.iter().all(|link| !node.is_closed(*link)));
        node.authenticated(shard, waiting.connection, by(1, 4));
        assert_eq!(node.take(late), NOT_AUTHORIZED);
    }
}

#[test]
fn one_credential_of_a_user_is_revoked_and_who_came_by_another_stays() {
    let rules = Arc::new(Rules::open());
    let by = |mark, last_revocation| Authenticated::Accepted {
        identity: Identity {
            user_name: Some("alice".into()),
            rules: Arc::clone(&rules),
            credential: CredentialMark(mark),
            ..Identity::anyone()
        },
        last_revocation,
        data: None,
    };
    for shards in [1, 3] {
        let mut node = node(shards);
        let come = |node: &mut Harness, client_id: &str, mark, last_revocation| {
            let link = node.open();
            node.send(link, &connect(client_id, CLEAN, "alice"));
            let (shard, asked) = asked(node);
            node.authenticated(shard, asked.connection, by(mark, last_revocation));
            link
        };
        let stays = come(&mut node, "new", 2, 4);
        let go = [come(&mut node, "old", 1, 4), come(&mut node, "any", 0, 4)];
        for link in [stays, go[0], go[1]] {
            assert_eq!(node.take(link), ACCEPTED);
        }
        let revocation = Revocation {
            realm: Realm::COMMON,
            whose: RevokedClients::Credential("alice".into(), CredentialMark(1)),
            number: 5,
            reason: martlet_broker::RevocationReason::Credentials,
        };
        all(&mut node, shards, &Command::Revoke([revocation].into()));
        assert!(go.iter().all(|link| node.is_closed(*link)));
        assert!(!node.is_closed(stays));
        // Clients whose authentication was decided before the revocation.
        for (client_id, mark, expected) in [
            ("late-old", 1, NOT_AUTHORIZED),
            ("late-any", 0, NOT_AUTHORIZED),
            ("late-new", 2, ACCEPTED),
        ] {
            let link = come(&mut node, client_id, mark, 4);
            assert_eq!(node.take(link), expected, "{client_id}");
        }
    }
}

#[test]
fn rules_that_change_hold_at_once_for_what_is_live_and_what_waits() {
    for shards in [1, 3] {
        let mut node = node(shards);
        let open = Arc::new(Rules::open());
        let reader = come(&mut node, "reader", 0, "alice", &open);
        node.send(reader, &subscribe("#"));
        node.take(reader);
        let writer = come(&mut node, "writer", CLEAN, "bob", &open);
        node.send(writer, &publish("a", 0, "1"));
        assert_eq!(node.take(reader), publish("a", 0, "1"));
        let only_b = rules(&[(true, Actions::ALL, "b")]);
        let command = |alice: &Arc<Rules>, bob: &Arc<Rules>| {
            let all = [("alice", alice), ("bob", bob)];
            Command::SetRules(Arc::new(Book::from(all)))
        };
        // The first message is queued, and becomes forbidden before it is sent.
        node.end(reader, TransportEnd::EndOfStream);
        node.send(writer, &publish("a", 1, "two"));
        node.send(writer, &publish("b", 1, "three"));
        all(&mut node, shards, &command(&only_b, &open));
        let reader = node.open();
        node.send(reader, &connect("reader", 0, "alice"));
        let (shard, back) = asked(&mut node);
        let answer = accepted(&back, Arc::clone(&only_b), 0);
        node.authenticated(shard, back.connection, answer);
        let got = node.take(reader);
        let is_in = |payload: &[u8]| got.windows(payload.len()).any(|found| found == payload);
        assert!(is_in(b"three") && !is_in(b"two"), "{got:?}");
        node.take(writer);
        node.send(writer, &publish("b", 0, "4"));
        assert_eq!(node.take(reader), publish("b", 0, "4"));
        all(&mut node, shards, &command(&only_b, &rules(&[])));
        node.send(writer, &publish("b", 0, "5"));
        assert!(node.take(reader).is_empty());
    }
}

#[test]
fn a_will_that_is_not_permitted_any_more_is_not_sent() {
    let mut node = node(1);
    let open = Arc::new(Rules::open());
    let reader = come(&mut node, "reader", CLEAN, "bob", &open);
    node.send(reader, &subscribe("w"));
    node.take(reader);
    for permitted in [true, false] {
        let link = node.open();
        let head = [b"\0\x04MQTT\x04".as_slice(), &[0x86, 0, 0]].concat();
        let body = [head, text("dying"), text("w"), text("gone"), text("alice")].concat();
        node.send(link, &packet(0x10, &body));
        let (shard, asked) = asked(&mut node);
        node.authenticated(
            shard,
            asked.connection,
            accepted(&asked, Arc::clone(&open), 0),
        );
        if !permitted {
            let book = Book::from([("alice", &rules(&[])), ("bob", &open)]);
            node.command(0, Command::SetRules(Arc::new(book)));
        }
        node.end(link, TransportEnd::Error);
        assert_eq!(!node.take(reader).is_empty(), permitted);
    }
}

/// Clients choose their Client Identifier, their user name and the topic of their Will.
#[test]
fn a_forbidden_will_is_refused_for_that_whatever_its_topic_says() {
    let settings = Settings {
        events: EventInterest {
            connections: true,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    let mut node = node_with(1, settings);
    for name in ["locked out", "another user's", "is banned", "its token"] {
        let link = node.open();
        let head = [b"\0\x04MQTT\x04".as_slice(), &[0x86, 0, 0]].concat();
        let names = [text(name), text(name), text("gone"), text(name)].concat();
        node.send(link, &packet(0x10, &[head, names].concat()));
        let (shard, asked) = asked(&mut node);
        let nothing = accepted(&asked, rules(&[]), 0);
        node.authenticated(shard, asked.connection, nothing);
        assert_eq!(node.take(link), NOT_AUTHORIZED);
        let events = node.take_events();
        let refused = events.iter().find_map(|told| match &told.event {
            Event::Refused { why, .. } => Some(why.cause),
            _ => None,
        });
        assert_eq!(refused, Some(RefusalCause::WillForbidden), "{name}");
    }
}

#[test]
fn what_a_client_may_when_it_is_back_holds_for_topics_that_were_in_use() {
    // With many subscriptions they are not checked one by one.
    for (shards, others) in [(1, 0), (3, 0), (1, 100), (3, 100)] {
        let mut node = node(shards);
        let open = Arc::new(Rules::open());
        let writer = come(&mut node, "writer", CLEAN, "bob", &open);
        let reader = come(&mut node, "reader", 0, "alice", &open);
        for other in 0..others {
            node.send(reader, &subscribe(&format!("b/{other}")));
        }
        node.send(reader, &subscribe("a"));
        node.take(reader);
        node.send(writer, &publish("a", 0, "1"));
        assert_eq!(node.take(reader), publish("a", 0, "1"));
        for (rules, comes) in [(rules(&[]), false), (open, true)] {
            node.end(reader, TransportEnd::EndOfStream);
            let reader = node.open();
            node.send(reader, &connect("reader", 0, "alice"));
            let (shard, back) = asked(&mut node);
            let answer = accepted(&back, rules, 0);
            node.authenticated(shard, back.connection, answer);
            node.take(reader);
            node.send(writer, &publish("a", 0, "2"));
            assert_eq!(!node.take(reader).is_empty(), comes);
            node.end(reader, TransportEnd::EndOfStream);
        }
    }
}

/// A received PUBLISH of QoS 1.
struct Got {
    topic: String,
    payload: String,
    packet_id: [u8; 2],
}

fn messages(node: &mut Harness, link: Link) -> Vec<Got> {
    let bytes = node.take(link);
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while let [first, length, tail @ ..] = rest {
        let (body, after) = tail.split_at((*length).into());
        if first & 0xF0 == 0x30 {
            let (topic, behind) = body[2..].split_at(body[1].into());
            let (id, payload) = behind.split_at(2);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.push(Got {
                topic: text(topic),
                payload: text(payload),
                packet_id: [id[0], id[1]],
            });
        }
        rest = after;
    }
    found
}

/// A member of the group in the test below.
struct Receiver {
    name: &'static str,
    link: Option<Link>,
    unacknowledged: Vec<[u8; 2]>,
}

impl Receiver {
    fn acknowledge(&mut self, node: &mut Harness) {
        for packet_id in self.unacknowledged.drain(..) {
            if let Some(link) = self.link {
                node.send(link, &packet(0x40, &packet_id));
            }
        }
    }

    /// Records received messages. The topic of a forbidden message is an error.
    fn receive(
        &mut self,
        node: &mut Harness,
        arrived: &mut BTreeSet<u32>,
        may: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let Some(link) = self.link else { return Ok(()) };
        for got in messages(node, link) {
            if !may(&got.topic) {
                return Err(got.topic);
            }
            arrived.insert(got.payload.parse::<u32>().unwrap_or(0));
            self.unacknowledged.push(got.packet_id);
        }
        Ok(())
    }

    fn come_back(&mut self, node: &mut Harness, rules: &Arc<Rules>) {
        self.link = Some(come_back(node, self.name, rules));
    }

    fn leave(&mut self, node: &mut Harness) {
        self.unacknowledged.clear();
        if let Some(link) = self.link.take() {
            node.end(link, TransportEnd::EndOfStream);
        }
    }
}

/// The next number of xorshift32, below a limit.
fn next_below(random: &mut u32, bound: u32) -> u32 {
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    *random % bound
}

#[test]
fn a_share_group_gives_each_message_to_one_who_may_have_it_while_rules_change_and_members_go() {
    let open = Arc::new(Rules::open());
    let of_topics = |topics: &[&str]| {
        let all = topics.iter().map(|topic| (true, Actions::READ, *topic));
        let own = [(true, Actions::SUBSCRIBE, "#")];
        rules(&own.into_iter().chain(all).collect::<Vec<_>>())
    };
    let topics = ["a", "b", "c"];
    // Bob may receive whatever alice may not: each message has a receiver.
    let may = |alice_may: u32, user: usize, topic: &str| {
        let bit = topics.iter().position(|known| *known == topic);
        (alice_may >> bit.unwrap_or(0) & 1 == 1) == (user == 0)
    };
    let rules_of = |alice_may: u32, user: usize| {
        let its = topics.iter().filter(|topic| may(alice_may, user, topic));
        of_topics(&its.copied().collect::<Vec<_>>())
    };
    for seed in 0..300_u32 {
        let shards = [1, 3][seed as usize % 2];
        let mut settings = Settings::default();
        settings.limits.share_credit = [1, 2, 64][seed as usize / 2 % 3];
        let mut node = node_with(shards, settings);
        let mut random = seed.wrapping_mul(0x9E37_79B9) | 1;
        let mut below = |bound: u32| next_below(&mut random, bound);
        let writer = come(&mut node, "writer", CLEAN, "writer", &open);
        let mut alice_may = 7;
        let mut receivers = [(0, "alice"), (1, "bob")].map(|(user, name)| {
            let link = come(&mut node, name, 0, name, &rules_of(alice_may, user));
            node.send(link, &subscribe("$share/g/#"));
            node.take(link);
            Receiver {
                name,
                link: Some(link),
                unacknowledged: Vec::new(),
            }
        });
        let (mut sent, mut arrived) = (0_u32, BTreeSet::new());
        let mut send = |node: &mut Harness, topic: u32| {
            sent += 1;
            let topic = topics[topic as usize];
            node.send(writer, &publish(topic, 1, &sent.to_string()));
            sent
        };
        let mut total = 0;
        for step in 0..80 {
            let is_last = step == 79;
            match below(8) {
                0 => {
                    alice_may = below(8);
                    let [alice, bob] = [0, 1].map(|user| rules_of(alice_may, user));
                    let book = SharedBook([("alice", alice), ("bob", bob)], Arc::clone(&open));
                    let book = Arc::new(book);
                    // The change reaches one shard after the other, and messages arrive in between.
                    for shard in 0..shards {
                        let book = Arc::clone(&book);
                        node.command(shard, Command::SetRules(book));
                        if shard + 1 < shards {
                            total = send(&mut node, below(3));
                        }
                        // By the old or by the new rules.
                        for receiver in &mut receivers {
                            assert_eq!(receiver.receive(&mut node, &mut arrived, |_| true), Ok(()));
                        }
                    }
                }
                1 | 2 => {
                    let user = below(2) as usize;
                    let receiver = &mut receivers[user];
                    match receiver.link {
                        Some(_) => receiver.leave(&mut node),
                        None => receiver.come_back(&mut node, &rules_of(alice_may, user)),
                    }
                }
                _ => total = send(&mut node, below(3)),
            }
            for (user, receiver) in receivers.iter_mut().enumerate() {
                if is_last && receiver.link.is_none() {
                    receiver.come_back(&mut node, &rules_of(alice_may, user));
                }
            }
            for _ in 0..if is_last { 200 } else { 2 } {
                for (user, receiver) in receivers.iter_mut().enumerate() {
                    if receiver.link.is_none() {
                        continue;
                    }
                    let is_permitted = |topic: &str| may(alice_may, user, topic);
                    let got = receiver.receive(&mut node, &mut arrived, is_permitted);
                    assert_eq!(got, Ok(()), "seed {seed}: to {user} in step {step}");
                    if is_last || below(3) == 0 {
                        receiver.acknowledge(&mut node);
                    }
                }
            }
        }
        let missing: Vec<u32> = (1..=total).filter(|id| !arrived.contains(id)).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?} of {total}");
    }
}

#[test]
fn what_share_groups_lent_to_somebody_who_is_revoked_goes_to_others() {
    for shards in [1, 3] {
        let mut node = node(shards);
        let open = Arc::new(Rules::open());
        let alice = come(&mut node, "alice", 0, "alice", &open);
        node.send(alice, &subscribe("$share/g/#"));
        node.take(alice);
        let writer = come(&mut node, "writer", CLEAN, "writer", &open);
        for number in 0..3 {
            node.send(writer, &publish("t", 1, &number.to_string()));
        }
        assert_eq!(messages(&mut node, alice).len(), 3);
        let bob = come(&mut node, "bob", CLEAN, "bob", &open);
        node.send(bob, &subscribe("$share/g/#"));
        node.take(bob);
        let book = Book::from([("alice", &rules(&[])), ("bob", &open)]);
        all(&mut node, shards, &Command::SetRules(Arc::new(book)));
        let revocation = Revocation {
            realm: Realm::COMMON,
            whose: RevokedClients::User("alice".into()),
            number: 1,
            reason: martlet_broker::RevocationReason::Credentials,
        };
        all(&mut node, shards, &Command::Revoke([revocation].into()));
        let mut got: Vec<_> = messages(&mut node, bob).into_iter().collect();
        got.sort_by(|one, other| one.payload.cmp(&other.payload));
        let got: Vec<_> = got.iter().map(|got| &*got.payload).collect();
        assert_eq!(got, ["0", "1", "2"]);
    }
}

/// On whatever shards the two clients are, the message is recorded with its publisher.
#[test]
fn a_message_that_rules_keep_from_its_only_subscriber_is_noted() {
    for shards in [1, 3] {
        let mut node = node(shards);
        let open = Arc::new(Rules::open());
        let writer = come(&mut node, "writer", CLEAN, "bob", &open);
        let nothing = rules(&[]);
        for reader in ["r1", "r2", "r3", "r4", "r5", "r6"] {
            let link = come(&mut node, reader, CLEAN, reader, &open);
            let topic = format!("{reader}/set");
            node.send(link, &subscribe(&topic));
            node.take(link);
            let book = |its: &Arc<Rules>| {
                let both = [(reader, its), ("bob", &open)];
                let both = both.map(|(name, its)| (name, Arc::clone(its)));
                Command::SetRules(Arc::new(SharedBook(both, Arc::clone(&open))))
            };
            all(&mut node, shards, &book(&nothing));
            node.send(writer, &publish(&topic, 1, "x"));
            assert!(node.take(link).is_empty());
            let noted = unmatched(&mut node, shards);
            let [one] = noted.as_slice() else {
                panic!("{reader}: {noted:?}")
            };
            assert_eq!((&*one.topic, one.count), (&*topic, 1));
            assert_eq!(one.client_id.as_deref(), Some("writer"));
            assert!(one.is_forbidden);
            // The record is removed when the client receives such messages.
            all(&mut node, shards, &book(&open));
            node.send(writer, &publish(&topic, 0, "x"));
            assert_eq!(node.take(link), publish(&topic, 0, "x"));
            assert_eq!(unmatched(&mut node, shards), []);
        }
    }
}

/// The topics of all shards whose messages had no receiver.
fn unmatched(node: &mut Harness, shards: u16) -> Vec<UnmatchedTopic> {
    let command = Command::Unmatched {
        request: 1,
        tenant: TenantId(0),
    };
    all(node, shards, &command);
    let reports = node.take_reports().into_iter();
    let noted = reports.filter_map(|report| match report.answer {
        Answer::Unmatched(topics) => Some(topics),
        _ => None,
    });
    noted.flatten().collect()
}
