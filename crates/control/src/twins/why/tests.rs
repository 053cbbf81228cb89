//! Verdicts on configurations that were pushed.

use super::*;
use crate::why::tests::{NOW, connected, expect, facts};
use crate::why::{Case, State};

#[test]
fn a_configuration_that_was_not_reported_is_told() {
    let twin = |desired_ago_ms, reported_ms| DeviceTwin {
        version: 2,
        desired_ms: NOW - desired_ago_ms,
        reported_ms,
        missing: vec!["interval".to_owned()],
        topic: "d/d1/config".to_owned(),
        reports: "d/d1/twin/reported".to_owned(),
        ..DeviceTwin::default()
    };
    let wrong = Cause::ConfigurationNotReported;
    let with = |filter: &str, twin| {
        let mut session = connected();
        session.subscriptions = vec![(filter.to_owned(), 1)];
        let mut client = facts(None);
        client.session = Some(session);
        Case::of(client).with::<Twins>(Some(twin)).diagnosis()
    };
    for (diagnosis, cause, expected) in [
        (
            with("d/d1/conf", twin(0, 0)),
            wrong,
            "is not subscribed to d/d1/config",
        ),
        (with("d/d1/#", twin(0, 0)), Cause::NothingWrong, ""),
        (
            with("d/d1/#", twin(60_000, 0)),
            wrong,
            "has reported nothing since",
        ),
        (with("d/d1/#", twin(9, NOW)), wrong, "has other values"),
    ] {
        expect(&diagnosis, cause, State::Connected, expected);
    }
}
