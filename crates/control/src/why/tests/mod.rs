use martlet_broker::{
    DropReason, Event, EventKind, Limit, LockoutScope, LossTimes, PasswordSource, Reached, Refusal,
    RefusalCause, UserSources,
};
use martlet_codec::ReasonCode;

use super::facts::{
    Banned, Deleted, Facts, GoneTeam, Lockout, Meant, Presence, Session, Spent, StoreTrouble,
    Subscriber, TopicRules,
};
use super::{Question, State, Verdict, judge};
use crate::authentication::Standing;
use crate::cause::Cause;
use crate::cause::tests::WORDS_OF_OLD;
use crate::explain::{Explained, Outcome};
use crate::journal::{Entry, Run, Way};

mod several;

const NOW: u64 = 1_000_000_000;

fn facts(topic: Option<&str>) -> Facts {
    Facts {
        question: Question {
            name: "d1".to_owned(),
            topic: topic.map(str::to_owned),
            sees_node: true,
            ..Question::default()
        },
        now_ms: NOW,
        listeners: vec!["mqtt://0.0.0.0:1883".to_owned()],
        ..Facts::default()
    }
}

/// Why something was refused or ended.
struct Said(Refusal);

impl From<&str> for Said {
    /// Words alone: no cause can be read from them.
    fn from(words: &str) -> Self {
        (RefusalCause::ByReasonCode, words).into()
    }
}

impl From<(RefusalCause, &str)> for Said {
    fn from((cause, words): (RefusalCause, &str)) -> Self {
        Self(Refusal::untold(cause, words.to_owned()))
    }
}

fn run(what: EventKind, reason: &str, why: impl Into<Said>, count: u64, ago_ms: u64) -> Run {
    let Said(why) = why.into();
    let last = Entry {
        at_ms: NOW - ago_ms,
        client_id: "d1".to_owned(),
        reason: Some(reason.to_owned()),
        why: Some(why.detail().to_owned()),
        mend: Some("do this".to_owned()),
        ..Entry::new(what)
    };
    Run {
        cause: cause_of(what, reason, why),
        since_ms: NOW - ago_ms - 60_000,
        count,
        said_goodbye: false,
        last,
    }
}

/// As the journal has it.
fn cause_of(what: EventKind, reason: &str, why: Refusal) -> Option<Cause> {
    let codes = (0..=u8::MAX).filter_map(ReasonCode::from_u8);
    let mut codes = codes.filter(|code| code.name() == reason || format!("{code:?}") == reason);
    let reason_code = codes.next().unwrap_or(ReasonCode::UnspecifiedError);
    Cause::of(&match what {
        EventKind::Refused => Event::Refused {
            will_topic: None,
            reason: reason_code,
            why,
        },
        EventKind::Disconnected => Event::Disconnected {
            reason: reason_code,
            why,
        },
        EventKind::PublishRefused => Event::PublishRefused {
            topic: String::new(),
            reason: reason_code,
            why,
        },
        EventKind::Dropped => Event::Dropped {
            topic: String::new(),
            stored: None,
            reason: *DropReason::ALL.iter().find(|one| one.name() == reason)?,
            limit: None,
            refused: None,
        },
        _ => return None,
    })
}

fn connected() -> Session {
    Session {
        client_id: "d1".to_owned(),
        connected: true,
        since_ms: Some(NOW - 5_000),
        keep_alive_secs: 5,
        ..Session::default()
    }
}

fn explained(outcome: Outcome) -> Explained {
    Explained {
        outcome,
        place: None,
        rule: None,
        why: "no rule permits it".to_owned(),
        asked: String::new(),
        notes: Vec::new(),
    }
}

fn rules(publish: Outcome, receive: Outcome) -> Option<TopicRules> {
    let way = |access| Way {
        text: "permit it in the rules of the device type sensor".to_owned(),
        command: Some(format!(
            "martlet device type allow sensor 'topic {access} a'"
        )),
    };
    Some(TopicRules {
        publish: explained(publish),
        receive: explained(receive),
        meant: None,
        meant_receive: None,
        permitted: vec!["d/d1/telemetry".to_owned()],
        readable: vec!["d/d1/set".to_owned()],
        mend_publish: way("write"),
        mend_receive: way("read"),
    })
}

const WRONG_PASSWORD: RefusalCause = RefusalCause::WrongPassword(PasswordSource::Registry);

const NOBODY: RefusalCause = RefusalCause::UnknownUser(UserSources {
    registry: true,
    proofs: false,
});

fn barred(cause: RefusalCause, words: &'static str) -> Standing {
    Standing::Barred(Refusal::untold(cause, words))
}

#[track_caller]
fn expect(verdict: &Verdict, cause: Cause, state: State, said: &str) {
    assert_eq!(
        (verdict.finding.cause, verdict.state),
        (cause, state),
        "{verdict:#?}"
    );
    assert!(verdict.finding.sentence.contains(said), "{verdict:#?}");
}

#[test]
fn what_it_was_told_when_it_last_came_decides() {
    let wrong = (WRONG_PASSWORD, "wrong password, according to the registry");
    let refused = run(
        EventKind::Refused,
        "BadUserNameOrPassword",
        wrong,
        12,
        1_000,
    );
    let mut facts = facts(None);
    facts.runs = vec![run(EventKind::Connected, "", "", 1, 900_000), refused];
    facts.standing = Some(Standing::Known);
    let verdict = judge(&facts);
    expect(
        &verdict,
        Cause::WrongPassword,
        State::Refused,
        "according to",
    );
    assert_eq!(verdict.finding.since_ms, Some(NOW - 61_000));
    assert_eq!(verdict.finding.count, Some(12));
    assert_eq!(verdict.finding.mend.as_deref(), Some("do this"));
    // It has come in meanwhile.
    facts.runs.push(run(EventKind::Connected, "", "", 1, 10));
    facts.session = Some(connected());
    let verdict = judge(&facts);
    let said = "is connected and nothing is wrong now";
    expect(&verdict, Cause::NothingWrong, State::Connected, said);
    let [before] = &*verdict.also else {
        panic!("{verdict:#?}");
    };
    assert!(before.sentence.contains("it was refused: "), "{before:#?}");
    assert_eq!((&before.mend, &before.command), (&None, &None));
}

#[test]
fn who_would_not_be_let_in_is_told_so_before_it_comes() {
    let mut facts = facts(None);
    facts.known_as = Some("device".to_owned());
    facts.standing = Some(barred(
        RefusalCause::DeviceMaintenance,
        "device d1 is maintenance",
    ));
    expect(
        &judge(&facts),
        Cause::Disabled,
        State::NeverSeen,
        "maintenance",
    );
    facts.standing = Some(Standing::Known);
    expect(
        &judge(&facts),
        Cause::NeverConnected,
        State::NeverSeen,
        "neither connected nor",
    );
    facts.known_as = None;
    let nobody = "nobody of that name is known to the registry";
    facts.standing = Some(barred(NOBODY, nobody));
    expect(
        &judge(&facts),
        Cause::NobodyKnown,
        State::NeverSeen,
        "nobody of that name",
    );
    facts.banned = Some(Banned {
        why: "the user ann is banned: noise, until tomorrow".to_owned(),
        command: None,
    });
    expect(
        &judge(&facts),
        Cause::Banned,
        State::NeverSeen,
        "until tomorrow",
    );
}

#[test]
fn a_door_that_is_closed_is_named() {
    let mut facts = facts(None);
    facts.standing = Some(Standing::Known);
    facts.presence = Some(Presence {
        since_ms: NOW - 10_000,
        listener: Some("mqtts://0.0.0.0:8883".to_owned()),
        ..Presence::default()
    });
    expect(
        &judge(&facts),
        Cause::ListenerClosed,
        State::Away,
        "mqtts://0.0.0.0:8883",
    );
}

#[test]
fn who_goes_again_and_again_is_told_why() {
    let mut facts = facts(None);
    facts.session = Some(connected());
    let silent = run(
        EventKind::Disconnected,
        "KeepAliveTimeout",
        (RefusalCause::KeepAlive, "keep alive"),
        4,
        1_000,
    );
    facts.runs = vec![silent];
    let reason = ReasonCode::KeepAliveTimeout.name();
    facts.runs[0].last.reason = Some(reason.to_owned());
    facts.runs[0].cause = Some(Cause::KeepAlive);
    expect(
        &judge(&facts),
        Cause::KeepAlive,
        State::Connected,
        "4 times",
    );
    facts.runs[0].cause = Some(Cause::TakenOver);
    expect(
        &judge(&facts),
        Cause::TakenOver,
        State::Connected,
        "same Client Identifier",
    );
    // Once is what a client does that comes again by another network.
    facts.runs[0].count = 1;
    facts.runs[0].cause = Some(Cause::KeepAlive);
    expect(
        &judge(&facts),
        Cause::NothingWrong,
        State::Connected,
        "nothing of it",
    );
}

#[test]
fn a_topic_is_followed_from_the_rules_to_who_is_subscribed() {
    let mut facts = facts(Some("d/d2/telemetry"));
    facts.session = Some(connected());
    facts.rules = rules(Outcome::Refused, Outcome::Refused);
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        "d/d1/telemetry",
    );
    if let Some(rules) = &mut facts.rules {
        rules.meant = Some(Meant {
            place: "device type sensor rule 1".to_owned(),
            filter: "d/d1/telemetry".to_owned(),
            instead: "d2".to_owned(),
        });
    }
    expect(
        &judge(&facts),
        Cause::WrongTopic,
        State::Connected,
        "instead of \"d2\"",
    );
    facts.rules = rules(Outcome::Permitted, Outcome::Refused);
    facts.subscribers = Some(Vec::new());
    expect(
        &judge(&facts),
        Cause::SubscriberAbsent,
        State::Connected,
        "nobody is subscribed",
    );
    let subscriber = |connected| Subscriber {
        client_id: "app".to_owned(),
        filter: "d/#".to_owned(),
        qos: 0,
        connected,
        drops: Vec::new(),
    };
    facts.subscribers = Some(vec![subscriber(false)]);
    expect(
        &judge(&facts),
        Cause::SubscriberAbsent,
        State::Connected,
        "none is connected",
    );
    // It is no fault: the messages come.
    facts.subscribers = Some(vec![subscriber(true)]);
    let verdict = judge(&facts);
    let said = "to which 1 client is subscribed";
    expect(&verdict, Cause::NothingWrong, State::Connected, said);
    assert_eq!(verdict.also[0].cause, Cause::QosDowngraded);
}

#[test]
fn a_receiver_is_told_what_keeps_messages_from_it() {
    let mut facts = facts(Some("d/d2/telemetry"));
    let mut session = connected();
    session.subscriptions = vec![("d/+/telemetry".to_owned(), 0)];
    facts.session = Some(session);
    facts.rules = rules(Outcome::Refused, Outcome::Permitted);
    let verdict = judge(&facts);
    let said = "it is subscribed to d/d2/telemetry";
    expect(&verdict, Cause::NothingWrong, State::Connected, said);
    assert_eq!(verdict.also[0].cause, Cause::QosDowngraded);
    assert!(!verdict.wrong);
    facts.rules = rules(Outcome::Permitted, Outcome::Refused);
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        "may not read",
    );
    if let Some(session) = &mut facts.session {
        session.subscriptions[0].1 = 1;
    }
    facts.rules = rules(Outcome::Permitted, Outcome::Permitted);
    let mut full = run(
        EventKind::Dropped,
        "queue_full",
        "the queue was full",
        30,
        1_000,
    );
    full.last.topic = Some("d/d2/telemetry".to_owned());
    facts.runs = vec![full];
    expect(
        &judge(&facts),
        Cause::QueueFull,
        State::Connected,
        "the queue was full",
    );
}

#[test]
fn what_is_old_or_weighs_less_is_told_beside_it() {
    let mut facts = facts(None);
    facts.session = Some(connected());
    let refused = run(
        EventKind::PublishRefused,
        "NotAuthorized",
        "no rule permits it",
        1,
        20 * 60 * 1000,
    );
    facts.runs = vec![refused];
    let verdict = judge(&facts);
    expect(
        &verdict,
        Cause::NothingWrong,
        State::Connected,
        "nothing of it",
    );
    assert_eq!(verdict.evidence.len(), 1);
    facts.store = Some(StoreTrouble::Failing("no space left".to_owned()));
    facts.runs[0].last.at_ms = NOW;
    let verdict = judge(&facts);
    expect(
        &verdict,
        Cause::StoreFailing,
        State::Connected,
        "no space left",
    );
    assert_eq!(verdict.also.len(), 1);
}

#[test]
fn who_has_no_good_credential_left_is_told_so_with_the_way_to_another() {
    let mut facts = facts(None);
    facts.standing = Some(Standing::Known);
    facts.known_as = Some("device".to_owned());
    let spent = Spent {
        count: 2,
        all_revoked: true,
        last_ms: 1_896_091_200_000,
        command: Some("martlet device rotate d1".to_owned()),
        ..Spent::default()
    };
    facts.spent = Some(spent.clone());
    let wrong = (RefusalCause::WrongSecret, "wrong credential for device d1");
    let refused = run(EventKind::Refused, "BadUserNameOrPassword", wrong, 3, 1_000);
    facts.runs = vec![refused];
    let verdict = judge(&facts);
    let said = "all 2 of its credentials were revoked, the last on 2030-01-31 12:00 UTC";
    expect(&verdict, Cause::CredentialExpired, State::Refused, said);
    assert_eq!(
        verdict.finding.command.as_deref(),
        Some("martlet device rotate d1")
    );
    // Any certificate that names it would do, and it has shown none.
    facts.by_certificate = true;
    assert_eq!(judge(&facts).finding.cause, Cause::WrongPassword);
    facts.spent = Some(Spent {
        has_certificate: true,
        ..spent
    });
    assert_eq!(judge(&facts).finding.cause, Cause::CredentialExpired);
}

#[test]
fn a_stranger_who_tries_the_name_of_who_is_connected_is_a_remark() {
    let mut facts = facts(None);
    facts.session = Some(connected());
    let wrong = (RefusalCause::WrongSecret, "wrong credential for device d1");
    let mut tried = run(EventKind::Refused, "BadUserNameOrPassword", wrong, 3, 1_000);
    tried.last.address = Some("[2001:db8::1]:4711".to_owned());
    tried.last.command = Some("martlet device rotate d1".to_owned());
    facts.runs = vec![run(EventKind::Connected, "", "", 1, 5_000), tried];
    let verdict = judge(&facts);
    expect(
        &verdict,
        Cause::NothingWrong,
        State::Connected,
        "is connected",
    );
    let [aside] = &*verdict.also else {
        panic!("{verdict:#?}");
    };
    assert!(
        aside
            .sentence
            .contains("a client at [2001:db8::1] tried its name with a wrong password 3 times"),
        "{verdict:#?}"
    );
    assert_eq!(aside.command, None);
    assert!(
        !aside
            .mend
            .as_deref()
            .unwrap_or_default()
            .contains("do this")
    );
    // It came in after that: it may have been itself.
    facts.runs.push(run(EventKind::Connected, "", "", 1, 500));
    let verdict = judge(&facts);
    assert_eq!(verdict.finding.cause, Cause::NothingWrong);
    assert_eq!(verdict.also[0].command, None);
    // It disconnected since, by itself: a refusal while it was connected does not keep it out.
    facts.runs.pop();
    facts.session = None;
    facts.runs.push(run(
        EventKind::Disconnected,
        "Success",
        "it said goodbye",
        1,
        400,
    ));
    let verdict = judge(&facts);
    expect(&verdict, Cause::Away, State::Away, "it is not connected");
    assert!(
        verdict.also[0].sentence.starts_with("a client at "),
        "{verdict:#?}"
    );
}

#[test]
fn what_was_refused_of_another_topic_is_told_beside_what_was_asked() {
    let mut facts = facts(Some("d/d1/telemetry"));
    facts.session = Some(connected());
    facts.rules = rules(Outcome::Permitted, Outcome::Refused);
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        1_000,
    );
    refused.last.topic = Some("d/d1/other".to_owned());
    facts.runs = vec![refused.clone()];
    let verdict = judge(&facts);
    let said = "nothing of that topic was refused";
    expect(&verdict, Cause::NothingWrong, State::Connected, said);
    assert_eq!(verdict.also.len(), 1, "{verdict:#?}");
    assert!(verdict.also[0].sentence.contains("d/d1/other"));
    // What is wrong with the topic leads.
    facts.subscribers = Some(Vec::new());
    let verdict = judge(&facts);
    let said = "nobody is subscribed";
    expect(&verdict, Cause::SubscriberAbsent, State::Connected, said);
    // Without a topic it is what is wrong, and so is what is of the topic.
    facts.question.topic = None;
    let said = "d/d1/other";
    expect(&judge(&facts), Cause::NotPermitted, State::Connected, said);
    facts.question.topic = Some("d/d1/other".to_owned());
    facts.rules = rules(Outcome::Permitted, Outcome::Permitted);
    expect(&judge(&facts), Cause::NotPermitted, State::Connected, said);
}

#[test]
fn where_the_rule_has_to_be_is_named() {
    let mut facts = facts(Some("d/d2/telemetry"));
    facts.session = Some(connected());
    facts.rules = rules(Outcome::Refused, Outcome::Refused);
    let finding = judge(&facts).finding;
    let mend = finding.mend.unwrap_or_default();
    assert!(mend.contains("the device type sensor; or have"), "{mend}");
    let command = finding.command.as_deref();
    let expected = "martlet device type allow sensor 'topic write a'";
    assert_eq!(command, Some(expected));
}

#[test]
fn who_went_with_a_team_is_told_which_to_restore() {
    let mut facts = facts(None);
    let command = Some("martlet team restore t1".to_owned());
    for (brings_back, said) in [(true, "that restores it too"), (false, "first, then it")] {
        facts.deleted = Some(Deleted {
            user: None,
            at_ms: NOW - 5_000,
            command: command.clone(),
            team: Some(GoneTeam {
                name: "north".to_owned(),
                brings_back,
            }),
        });
        let verdict = judge(&facts);
        expect(&verdict, Cause::Deleted, State::NeverSeen, "its team north");
        let mend = verdict.finding.mend.unwrap_or_default();
        assert!(
            mend.contains("the team north") && mend.contains(said),
            "{mend}"
        );
        assert_eq!(verdict.finding.command, command);
    }
}

#[test]
fn what_the_rules_permit_meanwhile_is_wrong_no_more() {
    let mut facts = facts(None);
    facts.session = Some(connected());
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        1_000,
    );
    refused.last.topic = Some("d/d1/other".to_owned());
    refused.last.command = Some("martlet role allow r".to_owned());
    refused.last.seq = 7;
    facts.runs = vec![refused];
    let said = "its publish to d/d1/other was refused";
    expect(&judge(&facts), Cause::NotPermitted, State::Connected, said);
    facts.permitted_now = vec![7];
    let verdict = judge(&facts);
    let said = "nothing is wrong now";
    expect(&verdict, Cause::NothingWrong, State::Connected, said);
    let said = &verdict.also[0];
    assert!(
        said.sentence.ends_with("the rules permit it now"),
        "{said:#?}"
    );
    assert_eq!((&said.mend, &said.command), (&None, &None));
}

#[test]
fn somebody_without_a_name_is_not_who_was_heard_of_since() {
    let mut facts = facts(None);
    let why = (RefusalCause::NotMqtt, "the first packet is not CONNECT");
    let stray = |ago_ms| Entry {
        address: Some("192.0.2.7:4711".to_owned()),
        ..run(EventKind::Refused, "ProtocolError", why, 1, ago_ms).last
    };
    let keep_alive = ReasonCode::KeepAliveTimeout.name();
    let silent = (RefusalCause::KeepAlive, "nothing came");
    facts.runs = vec![run(EventKind::Disconnected, keep_alive, silent, 1, 5_000)];
    facts.nameless = vec![stray(1_000)];
    // It is the newest thing that is known, and a guess all the same.
    let verdict = judge(&facts);
    let said = "its connection was ended";
    expect(&verdict, Cause::KeepAlive, State::Away, said);
    let said = "another client at 192.0.2.7";
    let guess = verdict.also.iter().find(|one| one.is_guess).unwrap();
    assert!(guess.sentence.contains(said), "{guess:#?}");
    let mend = guess.mend.as_deref().unwrap_or_default();
    assert!(mend.starts_with("if it is this client: "), "{mend}");
    // Something of its own is newer: there is nothing to guess.
    facts.nameless = vec![stray(6_000)];
    let verdict = judge(&facts);
    assert_eq!(verdict.finding.cause, Cause::KeepAlive);
    assert!(!verdict.also.iter().any(|one| one.is_guess), "{verdict:#?}");
}

#[test]
fn of_an_unknown_name_it_is_not_told_what_it_may_publish() {
    let mut facts = facts(Some("a/b"));
    facts.rules = rules(Outcome::Permitted, Outcome::Permitted);
    facts.subscribers = Some(Vec::new());
    let verdict = judge(&facts);
    let text = "nothing is known of d1";
    expect(&verdict, Cause::NobodyKnown, State::NeverSeen, text);
    assert!(verdict.also.is_empty(), "{verdict:#?}");
}

#[test]
fn a_lockout_that_is_over_is_a_remark() {
    let mut facts = facts(None);
    let wrong = (RefusalCause::WrongSecret, "wrong credential for device d1");
    let locked = "locked out for 1 s more: too many wrong credentials for this user name";
    facts.locked_out = Some(Lockout {
        accepted_secs: None,
        why: locked.to_owned(),
        way: Way {
            text: "lift it".to_owned(),
            command: Some("martlet lockout rm d1".to_owned()),
        },
    });
    let bad = "BadUserNameOrPassword";
    facts.runs = vec![
        run(
            EventKind::Disconnected,
            "Success",
            "it said goodbye",
            1,
            9_000,
        ),
        run(EventKind::Refused, bad, wrong, 3, 3_000),
        run(
            EventKind::Refused,
            "NotAuthorized",
            (RefusalCause::LockedOut(LockoutScope::UserName), locked),
            2,
            2_000,
        ),
    ];
    let verdict = judge(&facts);
    expect(&verdict, Cause::LockedOut, State::Refused, "locked out");
    let command = verdict.finding.command.as_deref();
    assert_eq!(command, Some("martlet lockout rm d1"));
    facts.locked_out = None;
    let verdict = judge(&facts);
    expect(
        &verdict,
        Cause::WrongPassword,
        State::Refused,
        "wrong credential",
    );
    let said = |one: &super::Finding| one.sentence.starts_with("it was locked out for ");
    assert!(verdict.also.iter().any(said), "{verdict:#?}");
    // It was another who tried, and it has not come itself.
    facts.runs.remove(1);
    expect(
        &judge(&facts),
        Cause::Away,
        State::Away,
        "it is not connected",
    );
}

fn of_client(name: &str, mut facts: Facts) -> Facts {
    facts.question.name = "ann".to_owned();
    facts.client_id = name.to_owned();
    for run in &mut facts.runs {
        run.last.client_id = name.to_owned();
    }
    facts
}

#[test]
fn all_clients_of_a_user_are_looked_at() {
    let topic = Some("d/d1/telemetry");
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        60_000,
    );
    refused.last.topic = topic.map(str::to_owned);
    let publisher = Facts {
        runs: vec![
            refused,
            run(
                EventKind::Disconnected,
                "Success",
                "the client said goodbye",
                1,
                50_000,
            ),
        ],
        ..facts(topic)
    };
    let other = Facts {
        session: Some(connected()),
        runs: vec![run(EventKind::Connected, "", "", 1, 5_000)],
        ..facts(topic)
    };
    let mut both = of_client("ann", facts(topic));
    both.clients = vec![of_client("c1", publisher), of_client("c2", other)];
    let verdict = judge(&both);
    let said = "client c1 (not connected): its publish to d/d1/telemetry was refused: no rule";
    expect(&verdict, Cause::NotPermitted, State::Connected, said);
    // Without the refusal she is well: one of her clients is connected.
    both.clients[0].runs.remove(0);
    let verdict = judge(&both);
    let said = "1 of its 2 clients are connected (c2)";
    expect(&verdict, Cause::NothingWrong, State::Connected, said);
    let is_told = |one: &super::Finding| one.sentence.starts_with("client c1: it is not connected");
    assert!(verdict.also.iter().any(is_told), "{verdict:#?}");
    // None of them is.
    both.clients[1].session = None;
    both.clients[1].runs[0] = run(
        EventKind::Disconnected,
        "Success",
        "the client said goodbye",
        1,
        10,
    );
    let said = "it is not connected: the client said goodbye";
    expect(&judge(&both), Cause::Away, State::Away, said);
}

#[test]
fn a_refused_publish_of_who_is_subscribed_to_the_topic_too_is_told() {
    let mut facts = facts(Some("d/d1/telemetry"));
    let mut session = connected();
    session.subscriptions = vec![("d/#".to_owned(), 1)];
    facts.session = Some(session);
    facts.rules = rules(Outcome::Refused, Outcome::Permitted);
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        1_000,
    );
    refused.last.topic = facts.question.topic.clone();
    facts.runs = vec![refused];
    let said = "its publish to d/d1/telemetry was refused";
    expect(&judge(&facts), Cause::NotPermitted, State::Connected, said);
}

#[test]
fn a_queue_that_has_drained_is_not_full_and_its_losses_are_told() {
    let mut facts = facts(None);
    let limit = Limit::QueuedMessages;
    let full = Reached { limit, value: 5 };
    let mut session = connected();
    session.queued = 5;
    session.drops = vec![(DropReason::QueueFull, 30)];
    session.queue_full = Some(full);
    facts.session = Some(session);
    let mut dropped = run(EventKind::Dropped, "queue_full", &*full.words(), 30, 2_000);
    dropped.last.topic = Some("t".to_owned());
    let mut begun = run(EventKind::QueueFull, "", "5 messages wait", 1, 2_000);
    begun.cause = Some(Cause::QueueFull);
    facts.runs = vec![begun, dropped];
    let verdict = judge(&facts);
    let all = |verdict: &Verdict| {
        let also = verdict.also.iter().map(|one| one.sentence.clone());
        let all: Vec<String> = [verdict.finding.sentence.clone()]
            .into_iter()
            .chain(also)
            .collect();
        all.join("\n")
    };
    let said = all(&verdict);
    assert!(
        said.contains("its queue is full, 5 messages wait"),
        "{said}"
    );
    assert!(said.contains("(limits.queued_messages = 5)"), "{said}");
    if let Some(session) = &mut facts.session {
        (session.queued, session.queue_full) = (0, None);
    }
    let verdict = judge(&facts);
    let lost = "30 messages for it were dropped: the queue has as many messages";
    expect(&verdict, Cause::QueueFull, State::Connected, lost);
    let said = all(&verdict);
    assert!(
        !said.contains("is full") && said.contains("; there is room again"),
        "{said}"
    );
    assert_eq!(verdict.finding.count, Some(30));
    assert_eq!(verdict.finding.since_ms, Some(NOW - 62_000));
    assert_eq!(verdict.finding.last_ms, Some(NOW - 2_000));
    // What the journal has forgotten is told by number, since when the session counts it.
    facts.runs.clear();
    let at = LossTimes {
        first_ms: NOW - 90_000,
        last_ms: NOW - 2_000,
    };
    if let Some(session) = &mut facts.session {
        session.dropped_at = vec![at];
    }
    let verdict = judge(&facts);
    assert_eq!(verdict.finding.since_ms, Some(NOW - 90_000));
    assert!(
        verdict.finding.sentence.starts_with("30 messages"),
        "{verdict:#?}"
    );
}

#[test]
fn a_connection_that_began_after_the_refusal_is_not_another_one() {
    let mut facts = facts(None);
    let wrong = (RefusalCause::WrongSecret, "wrong credential for device d1");
    facts.runs = vec![
        run(EventKind::Refused, "BadUserNameOrPassword", wrong, 3, 9_000),
        run(EventKind::Connected, "", "", 1, 5_000),
        run(
            EventKind::Disconnected,
            "Success",
            "the client said goodbye",
            1,
            1_000,
        ),
    ];
    let verdict = judge(&facts);
    expect(&verdict, Cause::Away, State::Away, "it is not connected");
    let is_claimed = |one: &super::Finding| one.sentence.contains("connection of its own");
    assert!(!verdict.also.iter().any(is_claimed), "{verdict:#?}");
    // It was connected while the other one tried.
    facts.runs[1].last.at_ms = NOW - 10_000;
    let verdict = judge(&facts);
    assert!(verdict.also.iter().any(is_claimed), "{verdict:#?}");
}

#[test]
fn a_remedy_is_that_of_the_finding_and_of_no_other_event() {
    let mut facts = facts(None);
    facts.known_as = Some("device".to_owned());
    facts.standing = Some(barred(
        RefusalCause::DeviceInactive,
        "device d1 is inactive",
    ));
    facts.standing_way = Some(Way {
        text: "let it in again".to_owned(),
        command: Some("martlet device set --status=active d1".to_owned()),
    });
    // Another refusal of the same kind, for another name.
    let other = (RefusalCause::DeviceInactive, "device d2 is inactive");
    let mut refused = run(EventKind::Refused, "NotAuthorized", other, 1, 1_000);
    refused.last.command = Some("martlet device set --status=active d2".to_owned());
    facts.runs = vec![refused, run(EventKind::Connected, "", "", 1, 500)];
    let finding = judge(&facts).finding;
    let expected = "martlet device set --status=active d1";
    assert_eq!(finding.command.as_deref(), Some(expected), "{finding:#?}");
    // Nor has what the rules say of one topic the command of an event.
    let mut facts = facts_of_refused_topic();
    facts.runs[0].last.command = Some("martlet role allow other".to_owned());
    assert_eq!(judge(&facts).finding.command, None);
}

fn facts_of_refused_topic() -> Facts {
    let mut facts = facts(Some("d/d1/x"));
    facts.session = Some(connected());
    facts.rules = rules(Outcome::Refused, Outcome::Refused);
    if let Some(rules) = &mut facts.rules {
        rules.mend_publish.command = None;
    }
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        1_000,
    );
    refused.last.topic = Some("d/d1/x".to_owned());
    facts.runs = vec![refused];
    facts
}

#[test]
fn a_full_store_is_named_to_who_waits_for_it_and_to_who_hears_nothing() {
    let mut facts = facts(None);
    facts.session = Some(connected());
    let why = "the message store takes as much as limits.store_bytes allows".to_owned();
    let mend = Some("raise limits.store_bytes".to_owned());
    facts.store = Some(StoreTrouble::Full { why, mend });
    let (full, is_there) = (Cause::StoreFull, State::Connected);
    let said = "messages with QoS 1 and 2 wait, whoever publishes them: the message store takes";
    expect(&judge(&facts), full, is_there, said);
    if let Some(session) = &mut facts.session {
        session.waits_for_store = true;
    }
    let verdict = judge(&facts);
    let said = "its publishes wait: the message store takes as much as limits.store_bytes";
    expect(&verdict, full, is_there, said);
    let mend = verdict.finding.mend.as_deref();
    assert_eq!(mend, Some("raise limits.store_bytes"));
    facts.store = Some(StoreTrouble::Slow);
    let said = "the disk is too slow";
    expect(&judge(&facts), Cause::StoreSlow, is_there, said);
    // The reason of an absent client is how it left, not the store.
    facts.session = None;
    facts.runs = vec![run(
        EventKind::Disconnected,
        "Success",
        "it said goodbye",
        1,
        10,
    )];
    let said = "it is not connected";
    expect(&judge(&facts), Cause::Away, State::Away, said);
}

#[test]
fn what_holds_now_comes_before_what_happened() {
    let mut facts = facts(None);
    let wrong = (WRONG_PASSWORD, "the password is not that of the registry");
    facts.runs = vec![run(
        EventKind::Refused,
        "BadUserNameOrPassword",
        wrong,
        1,
        1_000,
    )];
    facts.standing = Some(barred(RefusalCause::UserDisabled, "user d1 is disabled"));
    let verdict = judge(&facts);
    expect(&verdict, Cause::Disabled, State::Refused, "is disabled");
    assert_eq!(verdict.also[0].cause, Cause::WrongPassword);
    // It was refused for that too: since when is told.
    let disabled = (RefusalCause::UserDisabled, "user d1 is disabled");
    facts
        .runs
        .push(run(EventKind::Refused, "NotAuthorized", disabled, 3, 500));
    let verdict = judge(&facts);
    expect(&verdict, Cause::Disabled, State::Refused, "is disabled");
    assert_eq!(verdict.finding.count, Some(3));
    facts.runs.pop();
    facts.standing = Some(barred(NOBODY, "nobody of that name is known to x"));
    expect(&judge(&facts), Cause::UnknownName, State::Refused, "nobody");
}

#[test]
fn losses_are_told_with_their_own_time() {
    let mut facts = facts(Some("big"));
    let mut session = connected();
    session.subscriptions = vec![("big".to_owned(), 0)];
    session.drops = vec![(DropReason::OutputFull, 2_614)];
    session.dropped_at = vec![LossTimes {
        first_ms: NOW - 4_000,
        last_ms: NOW - 1_000,
    }];
    facts.session = Some(session);
    facts.rules = rules(Outcome::Permitted, Outcome::Permitted);
    let verdict = judge(&facts);
    let said = "2614 messages for it were dropped";
    expect(&verdict, Cause::SlowReader, State::Connected, said);
    assert_eq!(verdict.finding.since_ms, Some(NOW - 4_000));
    assert_eq!(verdict.also[0].cause, Cause::QosDowngraded);
    // Long ago it is told beside.
    if let Some(session) = &mut facts.session {
        session.dropped_at[0].last_ms = NOW - 3_600_000;
    }
    let verdict = judge(&facts);
    let said = "nothing is wrong now";
    expect(&verdict, Cause::NothingWrong, State::Connected, said);
    assert_eq!(verdict.also[0].cause, Cause::SlowReader);
}

/// A client chooses its Client Identifier, its user name and its topics.
#[test]
fn names_that_clients_choose_are_not_diagnosed() {
    for name in WORDS_OF_OLD {
        let forbidden = format!("the Will on {name:?} is refused: no rule permits it");
        let will = (RefusalCause::WillForbidden, &*forbidden);
        let mut facts = facts(Some(name));
        (facts.question.name, facts.client_id) = ((*name).to_owned(), (*name).to_owned());
        facts.user = Some((*name).to_owned());
        facts.standing = Some(Standing::Known);
        facts.runs = vec![run(EventKind::Refused, "NotAuthorized", will, 1, 1_000)];
        let verdict = judge(&facts);
        expect(&verdict, Cause::NotPermitted, State::Refused, name);
        let goodbye = (RefusalCause::Goodbye, *name);
        facts.runs = vec![run(EventKind::Disconnected, "Success", goodbye, 1, 1_000)];
        let verdict = judge(&facts);
        expect(&verdict, Cause::Away, State::Away, "it is not connected");
    }
}
