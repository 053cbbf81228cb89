//! Tests of enhanced authentication in combination: clients that disconnect during the exchange,
//! credentials that are revoked or expire, rules that change afterwards.

use std::sync::Arc;

use martlet_broker::{
    Authenticated, Authentication, Command, EventInterest, ExchangeState, Identity, ListenerPolicy,
    Realm, Refusal, RefusalCause, Revocation, RevokedClients, Rules, Settings, TransportEnd,
};
use martlet_codec::{
    Auth, Connect, ConnectProperties, Packet, ProtocolVersion, ReasonCode, decode_packet,
};
use martlet_script::{Harness, Link, Wiring};

const METHOD: &str = "test";
const SHARDS: u16 = 3;

/// A client and its pending authentication.
struct Bench {
    node: Harness,
    link: Link,
}

impl Bench {
    /// A client that has sent its CONNECT.
    fn new() -> Self {
        let listener = ListenerPolicy {
            authenticate: true,
            ..ListenerPolicy::default()
        };
        let wiring = Wiring {
            shards: SHARDS,
            ..Wiring::default()
        };
        let settings = Settings {
            events: EventInterest {
                connections: true,
                drops: false,
                ..EventInterest::default()
            },
            ..Settings::default()
        };
        let mut node = Harness::new(settings, listener, wiring);
        let link = node.open();
        let mut bench = Self { node, link };
        bench.connect();
        bench
    }

    /// A client that has been accepted.
    fn accepted(identity: Identity) -> Self {
        let mut bench = Self::new();
        bench.answer(accepted(identity, 0));
        assert_eq!(bench.received(), ["ConnAck Success"]);
        bench
    }

    fn connect(&mut self) {
        let connect = Connect {
            properties: ConnectProperties {
                authentication_method: Some(METHOD),
                authentication_data: Some(b"hello"),
                ..ConnectProperties::default()
            },
            ..Connect::new(ProtocolVersion::V5, "a client")
        };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        self.node.send(self.link, &bytes);
    }

    fn auth(&mut self, reason: ReasonCode) {
        let auth = Auth {
            authentication_method: Some(METHOD),
            authentication_data: Some(b"more"),
            ..Auth::new(reason)
        };
        let mut bytes = Vec::new();
        auth.encode(&mut bytes);
        self.node.send(self.link, &bytes);
    }

    /// The only pending request.
    fn asked(&mut self) -> (u16, Authentication) {
        let mut all = self.node.take_authentications();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn answer(&mut self, answer: Authenticated) {
        let (shard, asked) = self.asked();
        self.node.authenticated(shard, asked.connection, answer);
    }

    fn revoke(&mut self, user_name: &str) {
        for shard in 0..SHARDS {
            let revocation = Revocation {
                realm: Realm::COMMON,
                whose: RevokedClients::User(user_name.into()),
                number: 1,
                reason: martlet_broker::RevocationReason::Credentials,
            };
            self.node
                .command(shard, Command::Revoke([revocation].into()));
        }
    }

    /// The received packets, abbreviated.
    fn received(&mut self) -> Vec<String> {
        let bytes = self.node.take(self.link);
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let Some((packet, length)) =
            decode_packet(rest, ProtocolVersion::V5).expect("packets")
        {
            all.push(match packet {
                Packet::ConnAck(packet) => format!("ConnAck {:?}", packet.reason),
                Packet::Auth(packet) => format!("Auth {:?}", packet.reason),
                Packet::Disconnect(packet) => format!("Disconnect {:?}", packet.reason),
                Packet::PubAck(packet) => format!("PubAck {:?}", packet.reason),
                other => format!("{:?}", other.packet_type()),
            });
            rest = &rest[length..];
        }
        all
    }

    fn publish(&mut self) -> Vec<String> {
        self.node.send(self.link, b"\x32\x07\x00\x01t\x00\x01\x00x");
        self.received()
    }
}

fn user(name: &str) -> Identity {
    Identity {
        user_name: Some(name.into()),
        ..Identity::anyone()
    }
}

fn accepted(identity: Identity, last_revocation: u64) -> Authenticated {
    Authenticated::Accepted {
        identity,
        last_revocation,
        data: Some((*b"welcome").into()),
    }
}

fn asks(remembers: &Arc<()>) -> Authenticated {
    Authenticated::Continue {
        data: (*b"who?").into(),
        state: ExchangeState::new(Arc::clone(remembers)),
    }
}

#[test]
fn what_is_remembered_comes_back_with_the_next_step_and_goes_with_the_connection() {
    let remembers = Arc::new(());
    let mut bench = Bench::new();
    let (shard, asked) = bench.asked();
    let step = asked.step.expect("a step");
    assert_eq!((&*step.method, &*step.data), (METHOD, &b"hello"[..]));
    assert!(step.state.is_none());
    bench
        .node
        .authenticated(shard, asked.connection, asks(&remembers));
    assert_eq!(bench.received(), ["Auth ContinueAuthentication"]);
    bench.auth(ReasonCode::ContinueAuthentication);
    let (_, asked) = bench.asked();
    let step = asked.step.expect("a step");
    let state = step.state.as_ref().and_then(ExchangeState::get::<Arc<()>>);
    assert!(state.is_some_and(|state| Arc::ptr_eq(state, &remembers)));
    drop(step);
    assert_eq!(Arc::strong_count(&remembers), 1, "it is handed out once");
    // A client that disconnects between its steps.
    let mut bench = Bench::new();
    bench.answer(asks(&remembers));
    assert_eq!(Arc::strong_count(&remembers), 2);
    bench.node.end(bench.link, TransportEnd::EndOfStream);
    assert_eq!(Arc::strong_count(&remembers), 1);
    // A client that sends nothing more.
    let mut bench = Bench::new();
    bench.answer(asks(&remembers));
    bench.node.elapse(61_000);
    assert!(bench.node.is_closed(bench.link));
    assert_eq!(Arc::strong_count(&remembers), 1);
}

#[test]
fn steps_do_not_prolong_the_deadline() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        bench.answer(asks(&Arc::default()));
        bench.node.elapse(11_000);
        bench.auth(ReasonCode::ContinueAuthentication);
    }
    let (shard, asked) = bench.asked();
    bench.node.elapse(6000);
    assert!(bench.node.is_closed(bench.link));
    // The answer arrives too late.
    let answer = accepted(user("alice"), 0);
    bench.node.authenticated(shard, asked.connection, answer);
    bench.received();
    // The same for a re-authentication.
    let mut bench = Bench::accepted(user("alice"));
    bench.auth(ReasonCode::ReAuthenticate);
    for _ in 0..5 {
        bench.answer(asks(&Arc::default()));
        bench.node.elapse(11_000);
        bench.auth(ReasonCode::ContinueAuthentication);
    }
    bench.received();
    bench.node.elapse(6000);
    assert_eq!(bench.received(), ["Disconnect NotAuthorized"]);
}

#[test]
fn who_is_revoked_meanwhile_does_not_come_in() {
    let mut bench = Bench::new();
    bench.answer(asks(&Arc::default()));
    bench.received();
    bench.revoke("alice");
    bench.auth(ReasonCode::ContinueAuthentication);
    bench.answer(accepted(user("alice"), 0));
    assert_eq!(bench.received(), ["ConnAck NotAuthorized"]);
    // A client that is connected by enhanced authentication ends at once, in any state.
    let mut bench = Bench::accepted(user("alice"));
    bench.auth(ReasonCode::ReAuthenticate);
    bench.revoke("alice");
    assert_eq!(bench.received(), ["Disconnect NotAuthorized"]);
    bench.answer(accepted(user("alice"), 0));
    assert_eq!(bench.received(), [""; 0]);
}

#[test]
fn the_rules_are_those_of_the_last_proof_and_the_old_ones_until_then() {
    let with = |rules| Identity {
        realm: Realm::OWN_RULES,
        rules: Arc::new(rules),
        ..user("alice")
    };
    let mut bench = Bench::accepted(with(Rules::open()));
    assert_eq!(bench.publish(), ["PubAck NoMatchingSubscribers"]);
    bench.auth(ReasonCode::ReAuthenticate);
    bench.answer(asks(&Arc::default()));
    bench.received();
    assert_eq!(bench.publish(), ["PubAck NoMatchingSubscribers"]);
    bench.auth(ReasonCode::ContinueAuthentication);
    assert_eq!(bench.publish(), ["PubAck NoMatchingSubscribers"]);
    bench.answer(accepted(with(Rules::closed()), 0));
    assert_eq!(bench.received(), ["Auth Success"]);
    assert_eq!(bench.publish(), ["PubAck NotAuthorized"]);
}

#[test]
fn credentials_that_end_are_prolonged_by_another_proof() {
    let mut bench = Bench::new();
    let now_ms = bench.node.now().wall_ms;
    let until = |secs: u64| Identity {
        expires_wall_ms: now_ms + secs * 1000,
        ..user("alice")
    };
    bench.answer(accepted(until(100), 0));
    bench.received();
    for secs in [300, 200] {
        bench.auth(ReasonCode::ReAuthenticate);
        bench.answer(accepted(until(secs), 0));
        assert_eq!(bench.received(), ["Auth Success"]);
    }
    bench.node.elapse(150_000);
    assert_eq!(bench.received(), [""; 0]);
    bench.node.elapse(51_000);
    assert_eq!(bench.received(), ["Disconnect NotAuthorized"]);
}

#[test]
fn what_becomes_of_a_client_when_who_keeps_the_credentials_fails() {
    let mut bench = Bench::accepted(user("alice"));
    bench.auth(ReasonCode::ReAuthenticate);
    bench.answer(Authenticated::failed(Refusal::operators_only(
        RefusalCause::LoginFailed,
        "the source is away",
    )));
    assert_eq!(bench.received(), ["Disconnect ServerBusy"]);
    let told = format!("{:?}", bench.node.take_events());
    assert!(told.contains("ReauthenticationRefused") && told.contains("the source is away"));
    // A step is requested of a client without an authentication method.
    let mut bench = Bench::new();
    let (shard, _) = bench.asked();
    let link = bench.node.open();
    let connect = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01b";
    bench.node.send(link, connect);
    bench.link = link;
    let (_, asked) = bench.asked();
    let shard = shard + 1;
    bench
        .node
        .authenticated(shard, asked.connection, asks(&Arc::default()));
    assert_eq!(bench.received(), ["ConnAck UnspecifiedError"]);
}
