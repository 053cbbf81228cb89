//! The configuration that a device is to have and has not reported.

use super::Finding;
use super::facts::{DeviceTwin, Facts, HiddenValue, Mistyped};
use super::found::{Bearing, Found, RECENT_MS, is_connected};
use super::near::{matches, nearest_in_words};
use super::side::concerns_one_of;
use crate::cause::Cause;
use crate::rfc3339;

/// Time that a device has to report before that is reported.
const REPORTS_WITHIN_MS: u64 = 30_000;

pub(super) fn twin(facts: &Facts, found: &mut Found) {
    let Some(twin) = facts
        .twin
        .as_ref()
        .filter(|twin| is_in_question(facts, twin))
    else {
        return;
    };
    // A later report that was applied ends it.
    if let Some(misread) = &twin.misread {
        let sentence = format!(
            "a report of its configuration was not applied: {}",
            misread.why
        );
        let remedy = format!(
            "have the device report a JSON object on {}; to see its desired and reported values, \
             run",
            twin.reports
        );
        let finding = finding(twin, sentence, remedy).at(misread.at_ms);
        found.push((Bearing::Happened, finding));
        return;
    }
    if let Some(hidden) = &twin.hidden {
        found.push(of_hidden(facts, hidden));
    }
    if !twin.missing.is_empty() {
        found.push(not_reported(facts, twin));
    }
}

/// A value of a group is not what the device gets.
fn of_hidden(facts: &Facts, hidden: &HiddenValue) -> (Bearing, Finding) {
    let HiddenValue { name, group, .. } = hidden;
    let (by, remedy) = match &hidden.by_group {
        Some(other) => (
            format!(
                "the group {other} has another value, and has priority because its name sorts \
                 later"
            ),
            format!(
                "set the value in {other}, remove it there, or remove the device from one of the \
                 groups; to see the values of {other}, run"
            ),
        ),
        None => (
            "the device has a desired value of its own, which hides that of the group".to_owned(),
            format!("to apply the value of the group {group}, remove the device's own value"),
        ),
    };
    let sentence = format!("the value {name} of the group {group} is not sent to the device: {by}");
    let finding = Finding::new(Cause::ConfigurationHidden, sentence)
        .since(hidden.group_ms)
        .remedy(remedy)
        .command(&hidden.command);
    // It may be intended, unless it is in question or the value has just changed.
    let is_recent = facts.now_ms.saturating_sub(hidden.group_ms) <= RECENT_MS;
    let bearing = match facts.question.topic.is_some() || is_recent {
        true => Bearing::Happened,
        false => Bearing::Aside,
    };
    (bearing, finding)
}

/// It is about the topics of the configuration, if a topic was asked about.
fn is_in_question(facts: &Facts, twin: &DeviceTwin) -> bool {
    concerns_one_of(facts, [&twin.topic, &twin.reports])
}

fn finding(twin: &DeviceTwin, sentence: String, remedy: String) -> Finding {
    Finding::new(Cause::ConfigurationNotReported, sentence)
        .since(twin.desired_ms)
        .remedy(remedy)
        .command(&twin.show)
}

/// What the device is to have and has not reported.
fn not_reported(facts: &Facts, twin: &DeviceTwin) -> (Bearing, Finding) {
    let (topic, reports) = (&twin.topic, &twin.reports);
    let missing = twin.missing.join(", ");
    let what = format!(
        "it has not reported the desired configuration (version {}: {missing})",
        twin.version
    );
    let shows = "to see its desired and reported values, run";
    let session = facts.session.iter();
    let own = session.flat_map(|session| &session.subscriptions);
    let own = own.map(|(filter, _)| filter);
    let is_subscribed = own.clone().any(|filter| matches(filter, topic));
    let is_late = facts.now_ms.saturating_sub(twin.desired_ms) >= REPORTS_WITHIN_MS;
    if !is_connected(facts) {
        let sentence = format!("{what}: it is not connected");
        let remedy = format!("have the device connect, and subscribe to {topic}; {shows}");
        return (Bearing::Aside, finding(twin, sentence, remedy));
    }
    if !is_subscribed {
        let near = nearest_in_words(own, topic);
        let sentence = format!("{what}: it is not subscribed to {topic}{near}");
        let remedy = format!("have the device subscribe to {topic} with QoS 1; {shows}");
        // What was refused is the cause, and is reported first.
        return (
            Bearing::Present,
            finding(twin, sentence, remedy).about(topic),
        );
    }
    if let Some(Mistyped {
        name,
        expected,
        reported,
    }) = &twin.mistyped
    {
        let sentence = format!(
            "{what}: {name} should be a {expected}, and the device reports a {reported} with the \
             same characters"
        );
        let remedy = format!("have the device report {name} as a {expected}; {shows}");
        return (Bearing::Happened, finding(twin, sentence, remedy));
    }
    if twin.reported_ms > twin.desired_ms {
        let sentence = format!(
            "{what}: what it reported last, on {}, has other values",
            rfc3339::in_words(twin.reported_ms)
        );
        let remedy = format!(
            "find out why the device does not accept these values, or set values that it accepts; {shows}"
        );
        return (Bearing::Happened, finding(twin, sentence, remedy));
    }
    let sentence = format!(
        "{what}: the desired values were published on {topic}, and it has reported \
         nothing since"
    );
    let remedy = format!(
        "find out why the program of the device does not report its values on {reports}; {shows}"
    );
    let bearing = match is_late {
        true => Bearing::Present,
        false => Bearing::Aside,
    };
    (bearing, finding(twin, sentence, remedy).about(reports))
}
