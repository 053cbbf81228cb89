use std::any::Any;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use martlet_access::scram::Client;
use martlet_broker::{ConnectionId, ListenerPolicy, RevokedClients, Rules};
use martlet_codec::ProtocolVersion;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::super::{Chain, CredentialSource, Lockout, Looking, LookupResult};
use super::*;

/// Alice has a verifier, Bob a password only, and Mallory breaks it.
#[derive(Debug)]
struct Registry(Verifier);

impl CredentialSource for Registry {
    fn name(&self) -> String {
        "the test".to_owned()
    }

    fn look<'a>(&'a self, _: &'a Authentication, _: &'a SlotRequest) -> Looking<'a> {
        Box::pin(std::future::ready(LookupResult::Stranger))
    }

    fn scram(&self, user_name: &str, _: &str) -> ScramUser {
        match user_name {
            "alice" => ScramUser::Known(
                self.0.clone(),
                Identity {
                    user_name: Some(user_name.into()),
                    bound: true,
                    ..Identity::anyone()
                },
            ),
            "bob" => ScramUser::WithoutVerifier,
            "mallory" => panic!("a source that is broken"),
            _ => ScramUser::Unknown,
        }
    }

    fn rules_of(&self, _: &str) -> Option<Arc<Rules>> {
        None
    }

    fn no_longer_valid(&self, _: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        vec![RevokedClients::User("alice".into())]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Bench {
    chain: AuthenticationChain,
    _runtime: Runtime,
}

const LOCKOUT_FAILURES: u32 = 3;

#[test]
fn a_long_first_message_is_refused_before_anything_of_it_is_kept() {
    let bench = bench(true);
    let first = |length: usize| format!("n,,n={},r=abc", "a".repeat(length));
    let answer = bench.ask(METHOD, first(3_000).as_bytes(), None);
    assert!(
        matches!(answer, Authenticated::Continue { .. }),
        "{answer:?}"
    );
    let answer = bench.ask(METHOD, first(31_000).as_bytes(), None);
    assert!(
        matches!(answer, Authenticated::Refused { .. }),
        "{answer:?}"
    );
}

fn bench(scram: bool) -> Bench {
    let runtime = Runtime::new().expect("threads");
    let verifier = Verifier::with_salt(b"right", b"salt", std::num::NonZeroU32::MIN);
    let chain = Chain {
        sources: vec![Arc::new(Registry(verifier))],
        anonymous: Arc::new(Rules::open()),
        acl_file: None,
        acl_users: Arc::default(),
    };
    let mut policy = Policy::new([(Realm(7), chain)].into());
    policy.scram = scram;
    policy.lockout = Lockout {
        failures: LOCKOUT_FAILURES,
        lasts: Duration::from_secs(60),
    };
    Bench {
        chain: AuthenticationChain::new(Arc::new(policy), runtime.handle().clone(), &[7; 32], None),
        _runtime: runtime,
    }
}

impl Bench {
    fn ask(&self, method: &str, data: &[u8], state: Option<ExchangeState>) -> Authenticated {
        self.ask_later(method, data, state)
            .recv_timeout(Duration::from_secs(20))
            .expect("an answer")
    }

    fn ask_later(
        &self,
        method: &str,
        data: &[u8],
        state: Option<ExchangeState>,
    ) -> Receiver<Authenticated> {
        let request = Authentication {
            connection: ConnectionId {
                index: 0,
                generation: 0,
            },
            listener: Arc::new(ListenerPolicy {
                realm: Realm(7),
                ..ListenerPolicy::default()
            }),
            realm: Realm(7),
            address: None,
            version: ProtocolVersion::V5,
            client_id: "c".into(),
            user_name: None,
            password: None,
            certificate: None,
            waiter: martlet_broker::LoginWaiter::default(),
            step: Some(Step {
                method: method.into(),
                data: data.into(),
                state,
            }),
        };
        let (answers, answered) = channel();
        self.chain.ask(request, move |answer| {
            // The test may be over.
            let _ = answers.send(answer);
        });
        answered
    }

    fn begin(&self, user: &str, password: &str) -> (Client, Box<[u8]>, ExchangeState) {
        let client = Client::new(user, password.as_bytes(), "clients");
        match self.ask(METHOD, client.first().as_bytes(), None) {
            Authenticated::Continue { data, state } => (client, data, state),
            other => panic!("{other:?}"),
        }
    }

    fn prove(&self, user: &str, password: &str) -> Authenticated {
        let (client, data, state) = self.begin(user, password);
        let (last, _) = client.finish(&data).expect("an answer");
        self.ask(METHOD, last.as_bytes(), Some(state))
    }
}

fn refused(answer: Authenticated) -> (ReasonCode, Refusal) {
    match answer {
        Authenticated::Refused { reason, why, .. } => (reason, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_proves_it_is_of_the_realm_of_its_listener() {
    let bench = bench(true);
    let (client, data, state) = bench.begin("alice", "right");
    let (last, signature) = client.finish(&data).expect("an answer");
    let answer = bench.ask(METHOD, last.as_bytes(), Some(state));
    let Authenticated::Accepted { identity, data, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(identity.user_name.as_deref(), Some("alice"));
    assert_eq!(identity.realm, Realm(7));
    let shown = data.expect("the server's proof");
    assert_eq!(signature.check(&shown), Ok(()));
}

#[test]
fn who_operates_the_node_is_told_why_and_the_client_is_not() {
    let bench = bench(true);
    for (user, why) in [
        ("alice", "SCRAM-SHA-256 as alice: the password is wrong"),
        (
            "bob",
            "no SCRAM verifier is stored for bob: set the password again while auth.scram is on",
        ),
        ("carol", "no SCRAM verifier of carol is in the test"),
    ] {
        let answer = refused(bench.prove(user, "wrong"));
        assert_eq!(answer.0, ReasonCode::BadUserNameOrPassword);
        assert_eq!((answer.1.detail(), answer.1.for_client()), (why, None));
    }
    let (reason, why) = refused(bench.prove("bob", "right"));
    assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
    assert_eq!(why.cause, RefusalCause::NoScramVerifier);
}

#[test]
fn what_is_revoked_between_two_steps_is_known_to_be() {
    let bench = bench(true);
    let (client, data, state) = bench.begin("alice", "right");
    let revoked = bench.chain.set_policy(Arc::new(Policy::new([].into())));
    let (last, _) = client.finish(&data).expect("an answer");
    let answer = bench.ask(METHOD, last.as_bytes(), Some(state));
    let Authenticated::Accepted {
        last_revocation, ..
    } = answer
    else {
        panic!("{answer:?}");
    };
    assert!(last_revocation < revoked[0].number, "the shards refuse it");
}

#[test]
fn who_tries_passwords_is_locked_out_before_anything_is_looked_for() {
    let bench = bench(true);
    for _ in 0..LOCKOUT_FAILURES {
        refused(bench.prove("alice", "wrong"));
    }
    let client = Client::new("alice", b"right", "clients");
    let (reason, _) = refused(bench.ask(METHOD, client.first().as_bytes(), None));
    assert_eq!(reason, ReasonCode::ConnectionRateExceeded);
}

#[test]
fn exchanges_that_were_begun_before_the_lockout_are_no_more_guesses() {
    let bench = bench(true);
    let begun = |password: &str| {
        let (client, data, state) = bench.begin("alice", password);
        (client.finish(&data).expect("an answer").0, state)
    };
    let wrong: Vec<_> = (0..LOCKOUT_FAILURES + 1).map(|_| begun("wrong")).collect();
    let (right, right_state) = begun("right");
    let mut reasons = Vec::new();
    for (last, state) in wrong {
        reasons.push(refused(bench.ask(METHOD, last.as_bytes(), Some(state))).0);
    }
    reasons.push(refused(bench.ask(METHOD, right.as_bytes(), Some(right_state))).0);
    let mut expected = vec![ReasonCode::BadUserNameOrPassword; LOCKOUT_FAILURES as usize];
    // Whether one of them was right is not told.
    expected.extend([ReasonCode::ConnectionRateExceeded; 2]);
    assert_eq!(reasons, expected);
}

#[test]
fn a_source_that_panics_lets_nobody_in_and_nothing_waits_for_it() {
    let bench = bench(true);
    let client = Client::new("mallory", b"right", "clients");
    let (reason, _) = refused(bench.ask(METHOD, client.first().as_bytes(), None));
    assert_eq!(reason, ReasonCode::ServerUnavailable);
    assert_eq!(bench.chain.0.lock().waiting, 0);
}

#[test]
fn another_method_and_one_that_is_off_are_not_known() {
    let client = Client::new("alice", b"right", "clients");
    for (scram, method) in [(true, "SCRAM-SHA-1"), (true, ""), (false, METHOD)] {
        let answer = bench(scram).ask(method, client.first().as_bytes(), None);
        assert_eq!(refused(answer).0, ReasonCode::BadAuthenticationMethod);
    }
}

#[test]
fn what_others_remember_is_not_taken_for_an_exchange() {
    let bench = bench(true);
    let state = Some(ExchangeState::new("something else"));
    let (reason, _) = refused(bench.ask(METHOD, b"c=biws,r=x,p=AAAA", state));
    assert_eq!(reason, ReasonCode::ServerUnavailable);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Garbage in any step is answered, and accepts nobody.
    #[test]
    fn garbage_in_any_step_is_refused(first in any::<Vec<u8>>(), last in any::<Vec<u8>>()) {
        let bench = bench(true);
        let answer = bench.ask(METHOD, &first, None);
        let is_accepted = matches!(answer, Authenticated::Accepted { .. });
        prop_assert!(!is_accepted);
        let (_, _, state) = bench.begin("alice", "right");
        let (reason, _) = refused(bench.ask(METHOD, &last, Some(state)));
        prop_assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
    }
}
