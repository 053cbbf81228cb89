//! Changes of types, and devices without a credential.

use martlet_broker::RefusalCause;

use super::{NOW, connected, expect, facts, judge, run};
use crate::authentication::Standing;
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::shared_registry::TypeChange;
use crate::why::State;

#[test]
fn what_was_refused_before_the_type_was_changed_is_not_for_that() {
    let mut facts = facts(None);
    facts.asked.session = Some(connected());
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        (RefusalCause::Forbidden, "no rule"),
        1,
        5_000,
    );
    refused.last.topic = Some("old/d1".to_owned());
    facts.asked.runs = vec![refused];
    let change = |ago_ms| TypeChange {
        from: "old".to_owned(),
        to: "new".to_owned(),
        at_ms: NOW - ago_ms,
        by: "user ann".to_owned(),
        command: Some("martlet device set --type old d1".to_owned().into()),
    };
    facts.asked.type_change = Some(change(60_000));
    let diagnosis = judge(&facts);
    let expected = "its type was changed from old to new on";
    expect(&diagnosis, Cause::NotPermitted, State::Connected, expected);
    assert!(
        diagnosis
            .finding
            .command
            .is_some_and(|line| line.contains("--type old"))
    );
    facts.asked.type_change = Some(change(1_000));
    assert!(!judge(&facts).finding.sentence.contains("its type"));
}

#[test]
fn a_device_without_a_credential_may_come_by_other_ways() {
    let bare = {
        let mut of = facts(None);
        of.asked.registered_as = Some("device".to_owned());
        of.asked.standing = Some(Standing::Known);
        of.admission.account.has_no_credential = true;
        of
    };
    let expected = "the device d1 has no credential";
    expect(
        &judge(&bare),
        Cause::NoCredentials,
        State::NeverSeen,
        expected,
    );
    let by_certificate = {
        let mut of = bare.clone();
        of.admission.by_certificate = true;
        of
    };
    let by_team_token = {
        let mut of = bare;
        of.admission.by_team_token = true;
        of
    };
    for facts in [by_certificate, by_team_token] {
        assert_ne!(judge(&facts).finding.cause, Cause::NoCredentials);
    }
}
