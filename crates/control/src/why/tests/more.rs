//! Changes of types, devices without a credential, and bridges.

use martlet_broker::{EventKind, RefusalCause};
use martlet_integrate::BroughtTopics;

use super::{NOW, connected, expect, facts, run};
use crate::authentication::Standing;
use crate::cause::Cause;
use crate::why::State;
use crate::why::facts::{Facts, Integration, NoCredential, Subscriber, TypeChange};
use crate::why::judge::judge;

#[test]
fn what_was_refused_before_the_type_was_changed_is_not_for_that() {
    let mut facts = facts(None);
    facts.session = Some(connected());
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        (RefusalCause::Forbidden, "no rule"),
        1,
        5_000,
    );
    refused.last.topic = Some("old/d1".to_owned());
    facts.runs = vec![refused];
    let change = |ago_ms| TypeChange {
        from: "old".to_owned(),
        to: "new".to_owned(),
        at_ms: NOW - ago_ms,
        by: "user ann".to_owned(),
        command: Some("martlet device set --type old d1".to_owned()),
    };
    facts.type_change = Some(change(60_000));
    let diagnosis = judge(&facts);
    let expected = "its type was changed from old to new on";
    expect(&diagnosis, Cause::NotPermitted, State::Connected, expected);
    assert!(
        diagnosis
            .finding
            .command
            .is_some_and(|line| line.contains("--type old"))
    );
    facts.type_change = Some(change(1_000));
    assert!(!judge(&facts).finding.sentence.contains("its type"));
}

#[test]
fn a_device_without_a_credential_may_come_by_other_ways() {
    let bare = Facts {
        registered_as: Some("device".to_owned()),
        standing: Some(Standing::Known),
        no_credential: Some(NoCredential::default()),
        ..facts(None)
    };
    let expected = "the device d1 has no credential";
    expect(
        &judge(&bare),
        Cause::NoCredentials,
        State::NeverSeen,
        expected,
    );
    let by_certificate = Facts {
        by_certificate: true,
        ..bare.clone()
    };
    let by_team_token = Facts {
        by_team_token: true,
        ..bare
    };
    for facts in [by_certificate, by_team_token] {
        assert_ne!(judge(&facts).finding.cause, Cause::NoCredentials);
    }
}

fn brought(filter: &str) -> BroughtTopics {
    BroughtTopics {
        filter: filter.into(),
        ..BroughtTopics::default()
    }
}

fn bridge(takes_topic: bool, brings: &[&str]) -> Facts {
    Facts {
        integrations: vec![Integration {
            name: "bridge/up".to_owned(),
            is_own: true,
            takes_topic,
            brings: brings.iter().map(|filter| brought(filter)).collect(),
            ..Integration::default()
        }],
        subscribers: Some(Vec::new()),
        ..facts(Some("up/1"))
    }
}

#[test]
fn a_bridge_carries_a_topic_the_other_way() {
    let diagnosis = judge(&bridge(false, &["up/#"]));
    assert!(
        diagnosis
            .finding
            .sentence
            .contains("(direction in), and sends none")
    );
    // A message that is not waited for here is sent.
    let mut out = bridge(true, &[]);
    assert_eq!(judge(&out).finding.cause, Cause::NothingWrong);
    out.subscribers = Some(vec![Subscriber {
        client_id: "here".to_owned(),
        filter: "up/1".to_owned(),
        qos: 1,
        connected: true,
        drops: Vec::new(),
        end_session: String::new(),
        backlog: None,
    }]);
    assert!(
        judge(&out)
            .finding
            .sentence
            .contains("(direction out), and brings none")
    );
    out.integrations[0].brings = vec![brought("up/#")];
    assert_eq!(judge(&out).finding.cause, Cause::NothingWrong);
}
