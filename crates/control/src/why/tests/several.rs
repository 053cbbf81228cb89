//! Verdicts on users with several clients, and on what strangers did.

use martlet_broker::TlsFault;

use super::*;
use crate::authentication::LockoutFacts;

fn stray(ago_ms: u64) -> Entry {
    Entry {
        address: Some("192.0.2.7:4711".to_owned()),
        ..run(
            EventKind::Refused,
            "ProtocolError",
            (
                RefusalCause::Tls(TlsFault::NotTls),
                "the received data is not TLS",
            ),
            1,
            ago_ms,
        )
        .last
    }
}

#[test]
fn refusals_without_a_name_are_told_once_as_a_guess() {
    let disconnected = |ago_ms| {
        let went = run(
            EventKind::Disconnected,
            "Success",
            "the client sent DISCONNECT",
            1,
            ago_ms,
        );
        {
            let mut of = facts(None);
            of.asked.runs = vec![went];
            of.admission.nameless = vec![stray(20_000), stray(10_000)];
            of
        }
    };
    let mut admin = of_client("ann", facts(None));
    admin.clients = ["c1", "c2", "c3"]
        .map(|name| of_client(name, disconnected(30_000)))
        .into();
    let diagnosis = judge(&admin);
    let of_strangers = |diagnosis: &Diagnosis| {
        let seen = diagnosis.evidence.iter().map(|one| one.text.clone());
        seen.filter(|text| text.contains("not TLS"))
            .collect::<Vec<_>>()
    };
    let seen = of_strangers(&diagnosis);
    assert_eq!(seen.len(), 2, "{diagnosis:#?}");
    for text in seen {
        assert!(text.starts_with("perhaps: "), "{text}");
    }
    // What happened before the client was last heard of, or before it existed, says nothing of it.
    let diagnosis = judge(&disconnected(5_000));
    assert!(of_strangers(&diagnosis).is_empty(), "{diagnosis:#?}");
}

#[test]
fn of_a_client_that_is_not_connected_nothing_is_said_as_of_the_connected_one() {
    let topic = Some("office/1");
    let publisher = {
        let mut of = facts(topic);
        of.asked.runs = vec![run(
            EventKind::Disconnected,
            "Success",
            "the client sent DISCONNECT",
            1,
            50_000,
        )];
        of.asked.rules = rules(Outcome::Refused, Outcome::Refused);
        of
    };
    let panel = {
        let mut of = facts(topic);
        of.asked.session = Some(Session {
            subscriptions: vec![("office/#".to_owned(), 0)],
            ..connected()
        });
        of.asked.rules = rules(Outcome::Refused, Outcome::Permitted);
        of
    };
    let mut ann = of_client("ann", facts(topic));
    ann.clients = vec![of_client("auto-1", publisher), of_client("panel", panel)];
    let diagnosis = judge(&ann);
    assert_eq!(diagnosis.state, State::Connected);
    let all = std::iter::once(&diagnosis.finding).chain(&diagnosis.also);
    for finding in all.filter(|one| one.sentence.starts_with("client auto-1")) {
        let sentence = &finding.sentence;
        assert!(sentence.contains("not connected"), "{diagnosis:#?}");
    }
}

#[test]
fn who_is_let_in_by_a_remembered_password_is_not_kept_out() {
    let mut facts = facts(None);
    facts.asked.standing = Some(Standing::Known);
    let bad = "BadUserNameOrPassword";
    facts.asked.runs = vec![
        run(
            EventKind::Refused,
            bad,
            (WRONG_PASSWORD, "wrong password, according to x"),
            5,
            3_000,
        ),
        run(EventKind::Connected, "", "", 2, 2_000),
        run(
            EventKind::Disconnected,
            "Success",
            "the client sent DISCONNECT",
            2,
            1_000,
        ),
    ];
    let mut lockout = LockoutFacts {
        why: "locked out for 56 s more: too many wrong credentials".to_owned(),
        accepted_secs: Some(200),
        worded: WordedRemedy::default(),
    };
    facts.admission.locked_out = Some(lockout.clone());
    expect(&judge(&facts), Cause::Away, State::Away, "sent DISCONNECT");
    lockout.accepted_secs = None;
    facts.admission.locked_out = Some(lockout);
    let expected = "it cannot log in now";
    expect(&judge(&facts), Cause::LockedOut, State::Away, expected);
}
