//! Who is refused, or would be.

use martlet_broker::{LockoutScope, RefusalCause, TlsFault};
use martlet_codec::ReasonCode;

use super::{NOBODY, NOW, WRONG_PASSWORD, barred, connected, expect, facts, judge, run};
use crate::authentication::LockoutFacts;
use crate::authentication::Standing;
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::journal::{Entry, WordedRemedy};
use crate::presence::ClientPresence;
use crate::shared_registry::{Deleted, Spent};
use crate::why::{Finding, State};

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
    facts.asked.runs = vec![run(EventKind::Connected, "", "", 1, 900_000), refused];
    facts.asked.standing = Some(Standing::Known);
    let diagnosis = judge(&facts);
    expect(
        &diagnosis,
        Cause::WrongPassword,
        State::Refused,
        "according to",
    );
    assert_eq!(diagnosis.finding.since_ms, Some(NOW - 61_000));
    assert_eq!(diagnosis.finding.count, Some(12));
    assert_eq!(diagnosis.finding.remedy.as_deref(), Some("do this"));
    // It has come in meanwhile.
    facts
        .asked
        .runs
        .push(run(EventKind::Connected, "", "", 1, 10));
    facts.asked.session = Some(connected());
    let diagnosis = judge(&facts);
    let expected = "is connected and nothing is wrong now";
    expect(&diagnosis, Cause::NothingWrong, State::Connected, expected);
    let [before] = &*diagnosis.also else {
        panic!("{diagnosis:#?}");
    };
    assert!(before.sentence.contains("it was refused: "), "{before:#?}");
    assert_eq!((&before.remedy, &before.command), (&None, &None));
}

#[test]
fn who_would_not_be_let_in_is_told_so_before_it_comes() {
    let mut facts = facts(None);
    facts.asked.registered_as = Some("device".to_owned());
    facts.asked.standing = Some(barred(
        RefusalCause::DeviceMaintenance,
        "device d1 has the status maintenance",
    ));
    expect(
        &judge(&facts),
        Cause::Disabled,
        State::NeverSeen,
        "maintenance",
    );
    facts.asked.standing = Some(Standing::Known);
    expect(
        &judge(&facts),
        Cause::NeverConnected,
        State::NeverSeen,
        "neither connected nor",
    );
    facts.asked.registered_as = None;
    let nobody = "no user of that name exists (looked up in: the registry)";
    facts.asked.standing = Some(barred(NOBODY, nobody));
    expect(
        &judge(&facts),
        Cause::NobodyKnown,
        State::NeverSeen,
        "no user of that name",
    );
    facts.admission.banned = Some((
        "the user ann is banned: noise, until tomorrow".to_owned(),
        None,
    ));
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
    facts.asked.standing = Some(Standing::Known);
    facts.asked.presence = Some(ClientPresence {
        since_ms: NOW - 10_000,
        listener_url: "mqtts://0.0.0.0:8883".to_owned(),
        ..ClientPresence::default()
    });
    expect(
        &judge(&facts),
        Cause::ListenerClosed,
        State::Away,
        "mqtts://0.0.0.0:8883",
    );
}

#[test]
fn who_has_no_good_credential_left_is_told_so_with_the_way_to_another() {
    let mut facts = facts(None);
    facts.asked.standing = Some(Standing::Known);
    facts.asked.registered_as = Some("device".to_owned());
    let spent = Spent {
        count: 2,
        all_revoked: true,
        last_ms: 1_896_091_200_000,
        ..Spent::default()
    };
    facts.admission.account.spent = Some(spent.clone());
    facts.admission.account.rotate = Some("martlet device rotate d1".to_owned().into());
    let wrong = (RefusalCause::WrongSecret, "wrong credential for device d1");
    let refused = run(EventKind::Refused, "BadUserNameOrPassword", wrong, 3, 1_000);
    facts.asked.runs = vec![refused];
    let diagnosis = judge(&facts);
    let expected = "all 2 of its credentials were revoked, the last on 2030-01-31 12:00:00 UTC";
    expect(
        &diagnosis,
        Cause::CredentialExpired,
        State::Refused,
        expected,
    );
    assert_eq!(
        diagnosis.finding.command.as_deref(),
        Some("martlet device rotate d1")
    );
    // Any certificate that names it would do, and it has shown none.
    facts.admission.by_certificate = true;
    assert_eq!(judge(&facts).finding.cause, Cause::WrongPassword);
    facts.admission.account.spent = Some(Spent {
        has_certificate: true,
        ..spent
    });
    assert_eq!(judge(&facts).finding.cause, Cause::CredentialExpired);
}

#[test]
fn a_stranger_who_tries_the_name_of_who_is_connected_is_a_remark() {
    let mut facts = facts(None);
    facts.asked.session = Some(connected());
    let wrong = (RefusalCause::WrongSecret, "wrong credential for device d1");
    let mut tried = run(EventKind::Refused, "BadUserNameOrPassword", wrong, 3, 1_000);
    tried.last.address = Some("[2001:db8::1]:4711".to_owned());
    tried.last.command = Some("martlet device rotate d1".to_owned().into());
    facts.asked.runs = vec![run(EventKind::Connected, "", "", 1, 5_000), tried];
    let diagnosis = judge(&facts);
    expect(
        &diagnosis,
        Cause::NothingWrong,
        State::Connected,
        "is connected",
    );
    let [aside] = &*diagnosis.also else {
        panic!("{diagnosis:#?}");
    };
    assert!(
        aside
            .sentence
            .contains("a client at [2001:db8::1] tried its name with a wrong password 3 times"),
        "{diagnosis:#?}"
    );
    assert_eq!(aside.command, None);
    assert!(
        !aside
            .remedy
            .as_deref()
            .unwrap_or_default()
            .contains("do this")
    );
    // It came in after that: it may have been itself.
    facts
        .asked
        .runs
        .push(run(EventKind::Connected, "", "", 1, 500));
    let diagnosis = judge(&facts);
    assert_eq!(diagnosis.finding.cause, Cause::NothingWrong);
    assert_eq!(diagnosis.also[0].command, None);
    // It disconnected since, by itself: a refusal while it was connected does not keep it out.
    facts.asked.runs.pop();
    facts.asked.session = None;
    facts.asked.runs.push(run(
        EventKind::Disconnected,
        "Success",
        "it said goodbye",
        1,
        400,
    ));
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::Away, State::Away, "it is not connected");
    assert!(
        diagnosis.also[0].sentence.starts_with("a client at "),
        "{diagnosis:#?}"
    );
}

#[test]
fn who_went_with_a_team_is_told_which_to_restore() {
    let mut facts = facts(None);
    let command = Some("martlet team restore t1".to_owned().into());
    for (brings_back, expected) in [(true, "which also restores it"), (false, "first, then it")] {
        facts.admission.account.deleted = Some(Deleted {
            user: None,
            at_ms: NOW - 5_000,
            command: command.clone(),
            team: Some(("north".to_owned(), brings_back)),
        });
        let diagnosis = judge(&facts);
        expect(
            &diagnosis,
            Cause::Deleted,
            State::NeverSeen,
            "its team north",
        );
        let remedy = diagnosis.finding.remedy.unwrap_or_default();
        assert!(
            remedy.contains("the team north") && remedy.contains(expected),
            "{remedy}"
        );
        assert_eq!(diagnosis.finding.command, command);
    }
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
    facts.asked.runs = vec![run(EventKind::Disconnected, keep_alive, silent, 1, 5_000)];
    facts.admission.nameless = vec![stray(1_000)];
    // It is the newest thing that is known, and a guess all the same.
    let diagnosis = judge(&facts);
    let expected = "its connection was ended";
    expect(&diagnosis, Cause::KeepAlive, State::Away, expected);
    let expected = "another client at 192.0.2.7";
    let guess = diagnosis.also.iter().find(|one| one.is_guess).unwrap();
    assert!(guess.sentence.contains(expected), "{guess:#?}");
    let remedy = guess.remedy.as_deref().unwrap_or_default();
    assert!(remedy.starts_with("if it is this client: "), "{remedy}");
    // Something of its own is newer: there is nothing to guess.
    facts.admission.nameless = vec![stray(6_000)];
    let diagnosis = judge(&facts);
    assert_eq!(diagnosis.finding.cause, Cause::KeepAlive);
    assert!(
        !diagnosis.also.iter().any(|one| one.is_guess),
        "{diagnosis:#?}"
    );
}

#[test]
fn the_probe_of_a_load_balancer_is_not_the_client() {
    let mut facts = facts(None);
    let refused = |fault: TlsFault, last: u8| {
        let why = (RefusalCause::from(fault), fault.text());
        Entry {
            address: Some(format!("192.0.2.{last}:4711")),
            ..run(EventKind::Refused, "ProtocolError", why, 1, 1_000).last
        }
    };
    let probe = || refused(TlsFault::LeftAfterHandshake, 1);
    // One that was never there may be the one that ends its connections without a word, unless
    // another one was refused with a reason.
    facts.asked.registered_as = Some("device".to_owned());
    facts.asked.standing = Some(Standing::Known);
    for (nameless, expected) in [
        (
            vec![probe()],
            "at 192.0.2.1 that was refused: the client ended",
        ),
        (
            vec![refused(TlsFault::NoVersion, 2), probe()],
            "at 192.0.2.2 that was refused: no TLS version",
        ),
    ] {
        facts.admission.nameless = nameless;
        let sentence = judge(&facts).finding.sentence;
        assert!(sentence.contains(expected), "{sentence}");
    }
    // Nothing is guessed of one that was there.
    let goodbye = (RefusalCause::Goodbye, "the client sent DISCONNECT");
    facts.asked.runs = vec![run(EventKind::Disconnected, "Success", goodbye, 1, 5_000)];
    facts.admission.nameless = vec![probe()];
    let diagnosis = judge(&facts);
    assert!(!diagnosis.also.iter().any(|one| one.is_guess));
    assert!(!diagnosis.finding.sentence.contains("192.0.2.1"));
}

#[test]
fn a_lockout_that_is_over_is_a_remark() {
    let mut facts = facts(None);
    let wrong = (RefusalCause::WrongSecret, "wrong credential for device d1");
    let locked = "locked out for 1 s more: too many wrong credentials for this user name";
    facts.admission.locked_out = Some(LockoutFacts {
        accepted_secs: None,
        why: locked.to_owned(),
        worded: WordedRemedy {
            text: "lift it".to_owned(),
            command: Some("martlet lockout rm d1".to_owned().into()),
        },
    });
    let bad = "BadUserNameOrPassword";
    facts.asked.runs = vec![
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
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::LockedOut, State::Refused, "locked out");
    let command = diagnosis.finding.command.as_deref();
    assert_eq!(command, Some("martlet lockout rm d1"));
    facts.admission.locked_out = None;
    let diagnosis = judge(&facts);
    expect(
        &diagnosis,
        Cause::WrongPassword,
        State::Refused,
        "wrong credential",
    );
    let expected = |one: &Finding| one.sentence.starts_with("it was locked out for ");
    assert!(diagnosis.also.iter().any(expected), "{diagnosis:#?}");
    // It was another who tried, and it has not come itself.
    facts.asked.runs.remove(1);
    expect(
        &judge(&facts),
        Cause::Away,
        State::Away,
        "it is not connected",
    );
}
