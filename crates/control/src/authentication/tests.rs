use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use martlet_broker::{
    ConnectionId, Identity, ListenerPolicy, PasswordSource, Realm, RevokedClients, RuleBook as _,
    Rules,
};
use martlet_codec::{ProtocolVersion, ReasonCode};

use super::*;

/// One user, whose password is the number that is let through; it waits until it is told.
#[derive(Debug)]
struct Slow {
    requests: Arc<AtomicUsize>,
    go_on: Arc<Mutex<Receiver<()>>>,
    users: Vec<&'static str>,
}

impl CredentialSource for Slow {
    fn name(&self) -> String {
        "the test".to_owned()
    }

    fn look<'a>(&'a self, request: &'a Authentication, _: &'a SlotRequest) -> Looking<'a> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let (go_on, request) = (Arc::clone(&self.go_on), request.clone());
        Box::pin(async move {
            let is_found = tokio::task::spawn_blocking(move || {
                let go_on = go_on.lock().unwrap_or_else(PoisonError::into_inner);
                go_on.recv().is_ok()
            });
            if !is_found.await.unwrap_or(false) {
                return LookupResult::Failed(Refusal::operators_only(
                    RefusalCause::LoginFailed,
                    "gone",
                ));
            }
            match request.password.as_ref().map(|password| password.bytes()) {
                Some(b"right") => LookupResult::Known(Identity {
                    user_name: request.user_name.clone(),
                    ..Identity::anyone()
                }),
                Some(b"panic") => panic!("a source that is broken"),
                _ => LookupResult::Wrong(Refusal::operators_only(
                    RefusalCause::WrongPassword(PasswordSource::Other),
                    "the password is wrong",
                )),
            }
        })
    }

    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        self.users
            .contains(&user_name)
            .then(|| Arc::new(Rules::open()))
    }

    fn no_longer_valid(&self, next: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        let newer = policy::of_kind::<Self>(next);
        let is_there = |user| newer.is_some_and(|newer| newer.users.contains(user));
        let removed = self.users.iter().filter(|user| !is_there(user));
        removed
            .map(|user| RevokedClients::User((*user).into()))
            .collect()
    }

    fn users(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.users.iter().copied())
    }

    fn has_user(&self, user_name: &str) -> bool {
        self.users.contains(&user_name)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

struct Bench {
    chain: AuthenticationChain,
    requests: Arc<AtomicUsize>,
    go_on: Sender<()>,
    go_on_with: Arc<Mutex<Receiver<()>>>,
    answers: (Sender<Authenticated>, Receiver<Authenticated>),
    _runtime: tokio::runtime::Runtime,
}

/// A question of a client, whose Client Identifier is its user name.
fn question(user: &str, password: &str) -> Authentication {
    Authentication {
        connection: ConnectionId {
            index: 0,
            generation: 0,
        },
        listener: Arc::new(ListenerPolicy::default()),
        realm: Realm::COMMON,
        address: None,
        version: ProtocolVersion::V5,
        client_id: user.into(),
        user_name: Some(user.into()),
        password: Some(password.as_bytes().into()),
        certificate: None,
        waiter: LoginWaiter::default(),
        step: None,
    }
}

#[test]
fn a_registry_knows_its_users_and_devices_and_renews_weak_hashes() {
    use martlet_registry::{Actor, NewDevice, NewUser, Registry, Snapshot, wait};

    let place = std::env::temp_dir().join(format!("martlet-gate-{}", std::process::id()));
    std::fs::create_dir(&place).expect("a place");
    let path = place.join(martlet_registry::FILE);
    let weak =
        martlet_access::hash::PasswordHash::new(b"weak", martlet_access::hash::Kind::Pbkdf2Sha512)
            .expect("a hash");
    let read = || {
        let snapshot = wait(Snapshot::load(&path)).expect("it can be read");
        Arc::new(snapshot.expect("it is there"))
    };
    let secret = wait(async {
        let mut registry = Registry::open(&path).await?;
        registry.add_user("ann", "user", "secret").await?;
        let old = NewUser {
            role: Some("user".to_owned()),
            ..NewUser::new("old")
        };
        registry
            .create_user_with_hash(&Actor::local(), old, &weak)
            .await?;
        let device = NewDevice::new("d1");
        let added = registry.create_device(&Actor::local(), device).await?;
        let secret = added.secret.expect("it is made up");
        registry.close().await.map(|()| secret)
    })
    .expect("they are added");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let source = |snapshot| sources::RegistrySource::new(snapshot, Hashing::new(1));
    let before = source(read());
    let ask = |user: &str, password: &str| {
        runtime.block_on(before.look(&question(user, password), &SlotRequest::default()))
    };
    assert!(matches!(ask("ann", "secret"), LookupResult::Known(found) if found.bound));
    assert!(matches!(ask("ann", "guess"), LookupResult::Wrong(_)));
    assert!(matches!(ask("nobody", "guess"), LookupResult::Stranger));
    assert!(matches!(ask("d1", secret.text()), LookupResult::Known(found) if found.bound));
    assert!(matches!(ask("d1", "guess"), LookupResult::Wrong(_)));
    let mut elsewhere = question("d1", secret.text());
    elsewhere.client_id = "d2".into();
    let found = runtime.block_on(before.look(&elsewhere, &SlotRequest::default()));
    assert!(matches!(found, LookupResult::NotNow(_)));
    assert!(matches!(ask("old", "weak"), LookupResult::Known(_)));
    let after = source(read());
    let after: [Arc<dyn CredentialSource>; 1] = [Arc::new(after)];
    assert_eq!(before.no_longer_valid(&after), Vec::<RevokedClients>::new());
    assert_eq!(
        before.no_longer_valid(&[]).len(),
        3,
        "without tables nobody of them is accepted"
    );
    let renewed = read();
    let hash = renewed
        .check_user(martlet_registry::COMMON_TENANT, "old", "c", b"weak")
        .expect("it is known");
    assert_eq!(hash, Ok(None), "there is nothing to renew any more");
    std::fs::remove_dir_all(&place).expect("it was made here");
}

fn policy(sources: Vec<Arc<dyn CredentialSource>>) -> Arc<Policy> {
    let chain = Chain {
        sources,
        anonymous: Arc::new(Rules::open()),
        acl_file: None,
        acl_users: Arc::default(),
    };
    let mut policy = Policy::new([(Realm::COMMON, chain)].into());
    policy.refusal_remembered = Duration::from_secs(60);
    Arc::new(policy)
}

fn bench() -> Bench {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (go_on, wait) = channel();
    let requests = Arc::new(AtomicUsize::new(0));
    let go_on_with = Arc::new(Mutex::new(wait));
    let source = Slow {
        requests: Arc::clone(&requests),
        go_on: Arc::clone(&go_on_with),
        users: vec!["alice", "bob"],
    };
    let policy = policy(vec![Arc::new(source)]);
    Bench {
        chain: AuthenticationChain::new(policy, runtime.handle().clone(), &[7; 32], None),
        go_on_with,
        requests,
        go_on,
        answers: channel(),
        _runtime: runtime,
    }
}

impl Bench {
    fn ask(&self, user: Option<&str>, password: &str) {
        self.ask_at(true, user, password);
    }

    fn ask_at(&self, allow_anonymous: bool, user: Option<&str>, password: &str) {
        let request = Authentication {
            connection: ConnectionId {
                index: 0,
                generation: 0,
            },
            listener: Arc::new(ListenerPolicy {
                allow_anonymous,
                ..ListenerPolicy::default()
            }),
            realm: Realm::COMMON,
            address: None,
            version: ProtocolVersion::V5,
            client_id: "c".into(),
            user_name: user.map(Arc::from),
            password: (!password.is_empty()).then(|| password.as_bytes().into()),
            certificate: None,
            waiter: LoginWaiter::default(),
            step: None,
        };
        let answers = self.answers.0.clone();
        self.chain.ask(request, move |answer| {
            // The test may be over.
            let _ = answers.send(answer);
        });
    }

    fn answer(&self) -> Authenticated {
        let patience = Duration::from_secs(20);
        self.answers.1.recv_timeout(patience).expect("an answer")
    }

    fn reason(&self) -> Option<ReasonCode> {
        match self.answer() {
            Authenticated::Accepted { .. } => None,
            Authenticated::Refused { reason, .. } => Some(reason),
            Authenticated::Continue { .. } => panic!("nobody has a method"),
        }
    }

    fn let_go_on(&self) {
        self.go_on.send(()).expect("somebody waits");
    }
}

#[test]
fn the_same_question_is_asked_once_and_its_answer_remembered() {
    let bench = bench();
    (0..10).for_each(|_| bench.ask(Some("alice"), "right"));
    bench.let_go_on();
    (0..10).for_each(|_| assert_eq!(bench.reason(), None));
    bench.ask(Some("alice"), "right");
    assert_eq!(bench.reason(), None);
    assert_eq!(bench.requests.load(Ordering::SeqCst), 1);
    // Another password is another question.
    bench.ask(Some("alice"), "wrong");
    bench.let_go_on();
    assert_eq!(bench.reason(), Some(ReasonCode::BadUserNameOrPassword));
    assert_eq!(bench.requests.load(Ordering::SeqCst), 2);
}

#[test]
fn a_source_that_panics_or_fails_lets_nobody_in_and_is_asked_again() {
    let bench = bench();
    for times in 1..3 {
        bench.ask(Some("alice"), "panic");
        bench.let_go_on();
        assert_eq!(bench.reason(), Some(ReasonCode::ServerUnavailable));
        assert_eq!(bench.requests.load(Ordering::SeqCst), times);
    }
}

#[test]
fn what_is_revoked_while_it_is_asked_for_is_not_remembered() {
    let bench = bench();
    bench.ask(Some("alice"), "right");
    while bench.requests.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let again = Slow {
        requests: Arc::clone(&bench.requests),
        go_on: Arc::clone(&bench.go_on_with),
        users: vec!["bob"],
    };
    let revocations = bench.chain.set_policy(policy(vec![Arc::new(again)]));
    let number = revocations[0].number;
    assert_eq!(revocations[0].whose, RevokedClients::User("alice".into()));
    bench.let_go_on();
    let Authenticated::Accepted {
        last_revocation, ..
    } = bench.answer()
    else {
        panic!("refused");
    };
    assert!(last_revocation < number, "the shards refuse it");
    bench.ask(Some("alice"), "right");
    bench.let_go_on();
    let Authenticated::Accepted {
        last_revocation, ..
    } = bench.answer()
    else {
        panic!("refused");
    };
    assert_eq!(last_revocation, number);
    assert_eq!(bench.requests.load(Ordering::SeqCst), 2);
}

#[test]
fn who_has_no_name_is_let_in_only_where_that_is_said() {
    let bench = bench();
    bench.ask_at(false, None, "");
    assert_eq!(bench.reason(), Some(ReasonCode::NotAuthorized));
    bench.ask_at(true, None, "");
    assert_eq!(bench.reason(), None);
    // Where nobody can prove a name it is none.
    bench.chain.set_policy(policy(Vec::new()));
    bench.ask_at(true, Some("alice"), "right");
    let Authenticated::Accepted { identity, .. } = bench.answer() else {
        panic!("refused");
    };
    assert_eq!(identity.user_name, None);
    bench.ask_at(false, Some("alice"), "other");
    assert_eq!(bench.reason(), Some(ReasonCode::NotAuthorized));
}

fn user(name: &str) -> RevokedClients {
    RevokedClients::User(name.into())
}

fn whose(revoked: &[Revocation]) -> Vec<RevokedClients> {
    revoked.iter().map(|found| found.whose.clone()).collect()
}

fn people() -> sources::People {
    sources::People::new(None, &martlet_access::IotflowBase::default())
}

fn tokens(keys: &[u8], issuer: Option<&str>) -> Arc<dyn CredentialSource> {
    let keys = sources::TokenKeys::read(keys, Some(sources::Algorithm::HS256)).expect("keys");
    let settings = sources::TokenSettings {
        issuer: issuer.map(str::to_owned),
        user_claim: "sub".to_owned(),
        ..sources::TokenSettings::default()
    };
    let keys = sources::KeySource::Read(Arc::new(keys));
    Arc::new(sources::Tokens::new(keys, settings, people()))
}

fn hook(url: &str) -> Arc<dyn CredentialSource> {
    let settings = sources::HookSettings {
        url: url.to_owned(),
        form: sources::HookForm::Panel,
        timeout: Duration::from_secs(1),
        at_once: 1,
    };
    Arc::new(sources::Hook::new(settings, people()).expect("a hook"))
}

fn key_set(keys: &[(&str, &str)]) -> Vec<u8> {
    let one = |(id, secret): &(&str, &str)| {
        format!(r#"{{"kty":"oct","alg":"HS256","kid":"{id}","k":"{secret}"}}"#)
    };
    let keys: Vec<String> = keys.iter().map(one).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
}

#[test]
fn what_vouched_for_clients_is_taken_back_alone() {
    let removed = |old: &[Arc<dyn CredentialSource>], new: &[Arc<dyn CredentialSource>]| {
        let old = policy(old.to_vec());
        old.no_longer_valid(&policy(new.to_vec())).len()
    };
    let (one, two, three) = (("1", "b25l"), ("2", "dHdv"), ("2", "dGhyZWU"));
    let both = || tokens(&key_set(&[one, two]), None);
    assert_eq!(
        removed(&[both()], &[tokens(&key_set(&[two, one]), None)]),
        0
    );
    assert_eq!(removed(&[both()], &[tokens(&key_set(&[two]), None)]), 1);
    assert_eq!(
        removed(&[both()], &[tokens(&key_set(&[one, three]), None)]),
        1
    );
    assert_eq!(removed(&[both()], &[]), 2);
    assert_eq!(
        removed(&[both()], &[tokens(&key_set(&[one, two]), Some("me"))]),
        2
    );
    let (here, there) = ("http://127.0.0.1:1/a", "http://127.0.0.1:1/b");
    assert_eq!(removed(&[hook(here), both()], &[both(), hook(here)]), 0);
    assert_eq!(removed(&[hook(here), both()], &[both(), hook(there)]), 1);
    assert_eq!(removed(&[hook(here), both()], &[both()]), 1);
}

#[test]
fn who_is_decided_about_elsewhere_from_now_on_is_revoked() {
    let listed = |text: &str| -> Arc<dyn CredentialSource> {
        let users = martlet_access::credentials(text).expect("users");
        Arc::new(sources::Credentials::new(
            users,
            "auth.credentials".to_owned(),
            people(),
        ))
    };
    let slow = |users| -> Arc<dyn CredentialSource> {
        Arc::new(Slow {
            requests: Arc::default(),
            go_on: Arc::new(Mutex::new(channel().1)),
            users,
        })
    };
    let old = policy(vec![slow(vec!["alice", "bob"]), listed("bob:x,carol:y")]);
    let turned = policy(vec![listed("bob:x,carol:y"), slow(vec!["alice", "bob"])]);
    let bob = [(Realm::COMMON, user("bob"))];
    assert_eq!(old.no_longer_valid(&turned), bob);
    assert_eq!(turned.no_longer_valid(&old), bob);
    assert_eq!(old.no_longer_valid(&old), []);
    // Another list of users comes in front.
    let alone = policy(vec![listed("bob:x,carol:y")]);
    assert_eq!(alone.no_longer_valid(&old), bob);
}

#[test]
fn who_was_known_to_a_source_that_is_gone_is_revoked() {
    let bench = bench();
    let revoked = bench.chain.set_policy(policy(Vec::new()));
    assert_eq!(whose(&revoked), ["alice", "bob"].map(user));
}

#[test]
fn who_is_not_in_the_new_policy_is_revoked() {
    let bench = bench();
    bench.ask(Some("bob"), "right");
    bench.let_go_on();
    assert_eq!(bench.reason(), None);
    let newer = Slow {
        requests: Arc::clone(&bench.requests),
        go_on: Arc::clone(&bench.go_on_with),
        users: vec!["alice"],
    };
    let newer = policy(vec![Arc::new(newer)]);
    let revoked = bench.chain.set_policy(Arc::clone(&newer));
    assert_eq!(whose(&revoked), ["bob"].map(user));
    let may = |user| {
        let rules = newer.rules_of(Realm::COMMON, Some(user));
        let names = martlet_broker::Names::default();
        rules
            .topic(martlet_broker::Actions::PUBLISH, "a", names)
            .allowed
    };
    assert!(may("alice") && !may("bob"));
    // Nothing of what was verified is left.
    bench.ask(Some("bob"), "right");
    bench.let_go_on();
    assert_eq!(bench.reason(), None);
    assert_eq!(bench.requests.load(Ordering::SeqCst), 2);
}

/// A source whose every answer takes a turn.
#[derive(Debug)]
struct Counting {
    hashing: Hashing,
    done: Arc<AtomicUsize>,
}

impl CredentialSource for Counting {
    fn name(&self) -> String {
        "the test".to_owned()
    }

    fn look<'a>(&'a self, _: &'a Authentication, slot_request: &'a SlotRequest) -> Looking<'a> {
        let done = Arc::clone(&self.done);
        let work = move || done.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match self.hashing.work(slot_request, work).await {
                Some(_) => LookupResult::Wrong(Refusal::operators_only(
                    RefusalCause::WrongPassword(PasswordSource::Other),
                    "it is always wrong",
                )),
                None => LookupResult::Failed(Refusal::operators_only(
                    RefusalCause::LoginFailed,
                    "no turn",
                )),
            }
        })
    }

    fn rules_of(&self, _: &str) -> Option<Arc<Rules>> {
        None
    }

    fn no_longer_valid(&self, _: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        Vec::new()
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// The only turn is taken until the answer is sent to or dropped.
fn take_the_turn(runtime: &tokio::runtime::Runtime, hashing: &Hashing) -> Sender<()> {
    let (let_go, wait) = channel::<()>();
    let (begun, has_begun) = channel();
    let hashing = hashing.clone();
    runtime.spawn(async move {
        let work = move || {
            let _sent = begun.send(());
            wait.recv()
        };
        hashing.work(&SlotRequest::default(), work).await
    });
    has_begun.recv().expect("it begins");
    let_go
}

#[test]
fn whose_connections_have_gone_are_not_looked_for_and_who_asks_the_same_anew_is() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (hashing, done) = (Hashing::new(1), Arc::new(AtomicUsize::new(0)));
    let source = Counting {
        hashing: hashing.clone(),
        done: Arc::clone(&done),
    };
    let policy = policy(vec![Arc::new(source)]);
    let chain = AuthenticationChain::new(policy, runtime.handle().clone(), &[7; 32], None);
    let (answers, answered) = channel();
    let ask = |user: &str, asks: &Arc<()>| {
        let request = Authentication {
            waiter: LoginWaiter::of(asks),
            ..question(user, "wrong")
        };
        let answers = answers.clone();
        chain.ask(request, move |answer| {
            let _sent = answers.send(answer);
        });
    };
    let let_go = take_the_turn(&runtime, &hashing);
    let (removed, back, there) = (Arc::new(()), Arc::new(()), Arc::new(()));
    ask("gone", &removed);
    ask("back", &removed);
    ask("back", &back);
    ask("there", &there);
    drop(removed);
    drop(let_go);
    for _ in 0..3 {
        let answer = answered.recv_timeout(Duration::from_secs(20));
        let is_wrong = matches!(
            answer.expect("an answer"),
            Authenticated::Refused { reason, .. } if reason == ReasonCode::BadUserNameOrPassword
        );
        assert!(is_wrong);
    }
    assert_eq!(done.load(Ordering::SeqCst), 2, "back and there");
    while chain.0.lock().waiting_bytes > 0 {
        std::thread::yield_now();
    }
    assert_eq!(chain.0.lock().waiting, 0);
    // Nobody is left out for good.
    ask("gone", &there);
    assert!(answered.recv_timeout(Duration::from_secs(20)).is_ok());
    assert_eq!(done.load(Ordering::SeqCst), 3);
}

#[test]
fn who_guessed_too_often_meanwhile_is_not_looked_for_any_more() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (hashing, done) = (Hashing::new(1), Arc::new(AtomicUsize::new(0)));
    let source = Counting {
        hashing: hashing.clone(),
        done: Arc::clone(&done),
    };
    let mut policy = Policy::new(
        [(
            Realm::COMMON,
            Chain {
                sources: vec![Arc::new(source)],
                anonymous: Arc::new(Rules::open()),
                acl_file: None,
                acl_users: Arc::default(),
            },
        )]
        .into(),
    );
    policy.lockout.failures = 3;
    let chain =
        AuthenticationChain::new(Arc::new(policy), runtime.handle().clone(), &[7; 32], None);
    let let_go = take_the_turn(&runtime, &hashing);
    let (answers, answered) = channel();
    for number in 0..50 {
        let answers = answers.clone();
        chain.ask(question("alice", &number.to_string()), move |answer| {
            let _sent = answers.send(answer);
        });
    }
    drop(let_go);
    for _ in 0..50 {
        assert!(answered.recv_timeout(Duration::from_secs(20)).is_ok());
    }
    let done = done.load(Ordering::SeqCst);
    assert!((3..10).contains(&done), "{done}");
}

#[test]
fn who_is_not_known_costs_time_at_the_end_of_the_chain_alone() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let hashing = Hashing::new(1);
    let hash = martlet_access::hash::PasswordHash::new(
        b"secret",
        martlet_access::hash::Kind::Pbkdf2Sha512,
    );
    let text = format!("alice:{}\n", hash.expect("a hash").text());
    let plain = martlet_access::Plain::Refused;
    let file = martlet_access::PasswordFile::parse("p", text.as_bytes(), plain).expect("a file");
    let file = sources::PasswordFileSource::new("p".into(), file, people(), hashing.clone());
    let users = martlet_access::credentials("carol:y").expect("users");
    let listed = sources::Credentials::new(users, "auth.credentials".to_owned(), people());
    let policy = policy(vec![Arc::new(file), Arc::new(listed)]);
    let chain = AuthenticationChain::new(policy, runtime.handle().clone(), &[7; 32], None);
    let (answers, answered) = channel();
    let ask = |user: &'static str, password: &str| {
        let answers = answers.clone();
        chain.ask(question(user, password), move |answer| {
            let is_in = matches!(answer, Authenticated::Accepted { .. });
            let _sent = answers.send((user, is_in));
        });
    };
    let let_go = take_the_turn(&runtime, &hashing);
    ask("nobody", "y");
    ask("carol", "y");
    // The file does not know her, and she is not kept waiting by it.
    let first = answered.recv_timeout(Duration::from_secs(20));
    assert_eq!(first, Ok(("carol", true)));
    assert!(
        answered.try_recv().is_err(),
        "it takes as long as a wrong password"
    );
    drop(let_go);
    let second = answered.recv_timeout(Duration::from_secs(20));
    assert_eq!(second, Ok(("nobody", false)));
}

#[test]
fn questions_that_wait_take_so_many_bytes_and_no_more() {
    let bench = bench();
    let at_home = |password: &str| Authentication {
        address: Some((Ipv4Addr::new(192, 0, 2, 1).into(), 1)),
        ..question("alice", password)
    };
    let (answers, answered) = channel();
    bench.chain.ask(at_home("right"), move |answer| {
        let _sent = answers.send(matches!(answer, Authenticated::Accepted { .. }));
    });
    bench.let_go_on();
    assert_eq!(answered.recv(), Ok(true));
    let mut in_all = 0;
    // The longest password that MQTT has; each is another question.
    let fits = (0..10_000).take_while(|number| {
        let request = question(&number.to_string(), &"x".repeat(65_535));
        in_all += bytes_of(&request);
        bench.chain.ask(request, |_| {});
        in_all <= room(false, WAITING_BYTES_MAX).1
    });
    let fits = fits.count();
    assert_eq!(bench.chain.0.lock().waiting, fits);
    bench.ask(Some("bob"), &"x".repeat(65_535));
    assert_eq!(bench.reason(), Some(ReasonCode::ServerUnavailable));
    // Who was right recently has a place: its answer comes when it is worked out.
    let (answers, answered) = channel();
    bench.chain.ask(at_home("another"), move |answer| {
        let _sent = answers.send(matches!(answer, Authenticated::Accepted { .. }));
    });
    assert!(answered.try_recv().is_err(), "it waits with the others");
    // A short one has a place still, and there are others when these are answered.
    (0..fits + 2).for_each(|_| bench.let_go_on());
    while bench.chain.0.lock().waiting_bytes > 0 {
        std::thread::yield_now();
    }
    assert_eq!(bench.chain.0.lock().waiting, 0);
    bench.ask(Some("alice"), "right");
    assert_eq!(bench.reason(), None);
}
