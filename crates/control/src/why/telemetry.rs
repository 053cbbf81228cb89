//! Why telemetry of a client was not stored.

use super::Finding;
use super::arrival::{names_client, with_messages};
use super::facts::{ClockOff, Facts, NotStored};
use super::found::{Bearing, Found, RECENT_MS, first_of};
use super::integration::published_in_vain;
use super::near::{is_nearly_matched, matches};
use super::side::{Side, side};
use crate::cause::Cause;

/// Payloads that are named, at most.
const NAMED: usize = 3;

pub(super) fn telemetry(facts: &Facts, found: &mut Found) {
    without_rule(facts, found);
    // The topic of the values is not known.
    let bearing_of_times = match facts.question.topic {
        Some(_) => Bearing::Aside,
        None => Bearing::Happened,
    };
    let off = facts.clock_off.as_ref();
    found.extend(off.map(|off| (bearing_of_times, of_times(off))));
    let is_recent = |at_ms: u64| facts.now_ms.saturating_sub(at_ms) <= RECENT_MS;
    let is_meant = |one: &&NotStored| one.near_id.is_none() || facts.registered_as.is_some();
    let recent = facts.not_stored.iter().filter(|one| is_recent(one.at_ms));
    let recent = recent.filter(is_meant);
    for one in recent.take(NAMED) {
        let payloads = match one.count {
            1 => "a payload was".to_owned(),
            count => format!("{count} payloads were"),
        };
        let by = match &one.by {
            Some(by) => format!(", published by {by}"),
            None => String::new(),
        };
        let meant = one.near_id.as_ref().map_or_else(String::new, |id| {
            let name = &facts.question.name;
            format!("; {name} may be meant by {id}: upper and lower case, - and _ differ")
        });
        let sentence = format!(
            "{payloads} not stored as telemetry ({}), the last one of {}{by}: {}{meant}",
            one.reason, one.topic, one.detail
        );
        let mut finding = Finding::new(Cause::TelemetryNotStored, sentence).of_many(one.count);
        finding.last_ms = Some(one.at_ms);
        finding.is_guess = one.near_id.is_some();
        found.push(match one.is_over {
            true => {
                finding
                    .sentence
                    .push_str("; a later one of that topic is stored");
                (Bearing::Over, finding)
            }
            false => {
                let mut finding = finding.remedy(remedy(one.reason));
                if let (Some(add), true) = (&facts.namesakes.add, is_unknown_device(facts, one)) {
                    finding.command.clone_from(&add.command);
                }
                (bearing(facts, one), finding)
            }
        });
    }
}

/// A topic of the device, the one that was asked about or the last that it published to without a
/// receiver, is matched by no rule of telemetry.
fn without_rule(facts: &Facts, found: &mut Found) {
    let filters = &facts.telemetry_filters;
    if !facts.is_device() || filters.is_empty() {
        return;
    }
    let is_taken = |topic: &str| filters.iter().any(|filter| matches(filter, topic));
    // What integrations nearly take is reported as theirs.
    let is_near = |topic: &str| is_nearly_matched(filters.iter(), topic);
    // What the node itself receives is no telemetry.
    let is_received = |topic: &str| {
        let mut received = facts.own_topics.received.iter();
        received.any(|filter| matches(filter, topic))
    };
    let is_own =
        |topic: &str| names_client(facts, topic) && !is_taken(topic) && !is_received(topic);
    match facts.question.topic.as_deref() {
        Some(topic) => {
            let is_publisher = side(facts) != Side::Receiver;
            if is_own(topic) && is_publisher && !facts.question.is_about_filter() {
                let finding = unmatched(facts, topic, "what it publishes there");
                found.push((Bearing::Aside, finding));
            }
        }
        None => {
            let mut latest = published_in_vain(facts).rev();
            let missed = latest.find(|one| is_own(&one.topic) && !is_near(&one.topic));
            found.extend(missed.map(|one| {
                let finding = unmatched(facts, &one.topic, "what it published there");
                (Bearing::Remark, with_messages(finding, one))
            }));
        }
    }
}

/// No rule of telemetry matches the topic.
fn unmatched(facts: &Facts, topic: &str, what: &str) -> Finding {
    let reached = match facts.question.topic {
        Some(_) => "",
        None => ", and it reached nobody",
    };
    let sentence = format!(
        "no rule of telemetry matches {topic}, so {what} is not stored{reached}: the topics of the \
         rules are {}",
        first_of(&facts.telemetry_filters, NAMED)
    );
    Finding::new(Cause::TelemetryNotStored, sentence).remedy(
        "if it is telemetry, have the device publish to a topic that they match, or add a rule to \
         [[telemetry.rules]]",
    )
}

/// The clock of the device is weeks off.
fn of_times(off: &ClockOff) -> Finding {
    let side = match off.days_behind > 0 {
        true => "behind",
        false => "ahead of",
    };
    let days = off.days_behind.unsigned_abs();
    let by = match days / 365 {
        0 | 1 => format!("{days} days"),
        years => format!("{years} years"),
    };
    let payloads = match off.count {
        1 => "the values of its last payload are stored at".to_owned(),
        count => format!("the values of its last {count} payloads are stored at times such as"),
    };
    let sentence = format!(
        "{payloads} {}, {by} {side} the time of receipt: the device gives these times, so its \
         clock or the unit of its times is wrong, or it sends old values",
        off.time
    );
    Finding::new(Cause::TimeWrong, sentence)
        .since(off.since_ms)
        .last(off.last_ms)
        .of_many(off.count)
        .remedy(
            "set the clock of the device, or have it send no time; with telemetry.skew_behind_secs \
             and telemetry.skew_ahead_secs the node stores the time of receipt instead of a time \
             that differs more; to see the last values, run",
        )
        .command(&off.command)
}

/// Payloads of another topic than the one that was asked about are reported beside the answer.
fn bearing(facts: &Facts, one: &NotStored) -> Bearing {
    match &facts.question.topic {
        // It is not known whether it is about this device.
        _ if one.near_id.is_some() => Bearing::Remark,
        Some(expected) if *expected != one.topic && !matches(expected, &one.topic) => {
            Bearing::Aside
        }
        // Nothing else is known of it.
        _ if is_unknown_device(facts, one) => Bearing::Refused,
        _ => Bearing::Happened,
    }
}

/// Other clients published for a device of that name, which does not exist.
fn is_unknown_device(facts: &Facts, one: &NotStored) -> bool {
    one.by.is_some()
        && facts.registered_as.is_none()
        && facts.session.is_none()
        && facts.runs.is_empty()
}

/// What to do about a reason.
fn remedy(reason: &str) -> &'static str {
    match reason {
        "too_many_keys" => {
            "check whether the device generates keys, such as one for each message; otherwise \
             delete keys that are no longer needed, or raise telemetry.keys_per_device"
        }
        "too_many_series" => {
            "delete values of devices that are no longer needed, or raise telemetry.series"
        }
        "unknown_device" | "no_device" => {
            "add the device, or correct the topic or its rule in [[telemetry.rules]]"
        }
        "bad_time" => {
            "have the device send its time as a number of seconds or milliseconds since 1970, or as \
             text such as 2026-01-31T12:00:00Z"
        }
        "no_time" | "skewed_time" => {
            "set the clock of the device, or see telemetry.skew and telemetry.missing_time"
        }
        _ => "correct what the device publishes: martlet telemetry rejected has all of them",
    }
}
