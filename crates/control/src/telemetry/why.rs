//! Why telemetry of a client was not stored.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Order, Range, Row, Selection, StoreError, TIME_END, TIME_MIN, Telemetry, Value};
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::remedy::{Command, form};
use crate::remembered::Name;
use crate::rfc3339;
use crate::wall_clock::unsigned;
use crate::why::{Asked, Examine, Finding, Findings, Side, first_of, is_nearly_matched, matches};

/// Payloads that are named, at most.
const NAMED: usize = 3;

/// Keys of a device with texts whose earlier values are looked at, and how many of these.
const TEXTS_LOOKED_AT: usize = 20;
const VALUES_LOOKED_AT: usize = 100;

/// Characters of a text that are shown.
const TEXT_CHARS: usize = 40;

/// Time that reading values may take.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// Facts about telemetry.
#[derive(Debug, Default)]
pub(crate) struct TelemetryFacts {
    /// Payloads that the client published and that are not stored, the latest first.
    not_stored: Vec<NotStored>,
    /// Topic Filters of the rules of telemetry; empty: no telemetry is stored.
    filters: Vec<Box<str>>,
    /// The times of its last telemetry are weeks off.
    clock_off: Option<ClockOff>,
    /// Values that were numbers, and are texts now.
    now_texts: Vec<NowText>,
}

/// The values of a key of the device were numbers, and are texts now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NowText {
    key: Arc<str>,
    /// The last of them.
    text: String,
    /// The time of the first text behind the numbers.
    since_ms: u64,
    /// The time of the last text.
    last_ms: u64,
}

/// Payloads that are not stored as telemetry, of one topic and for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotStored {
    /// When the last one came.
    at_ms: u64,
    topic: String,
    /// Word of the reason.
    reason: &'static str,
    /// Fault of the last one, in words.
    detail: String,
    count: u64,
    /// A later payload of that topic is stored.
    is_over: bool,
    /// Client Identifier of the last publisher, if that is another client.
    by: Option<String>,
    /// They are of a device that is not known, whose id is nearly that of the one that was asked
    /// about: this one.
    near_id: Option<String>,
}

/// The last values of a device are stored at times that it has given and that are years off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClockOff {
    /// The time that it has given last, in words.
    time: String,
    /// By how many days that is before the time of receipt; negative: after it.
    days_behind: i64,
    /// When the first such payload was received.
    since_ms: u64,
    /// When the last one was.
    last_ms: u64,
    count: u64,
    /// The command that shows the last values.
    command: Option<Command>,
}

impl Examine for Telemetry {
    type Facts = TelemetryFacts;

    async fn gather(
        &self,
        control: &Control,
        asked: &Asked,
    ) -> Result<TelemetryFacts, ControlError> {
        Ok(TelemetryFacts {
            not_stored: self.not_stored(asked),
            filters: self.filters(),
            clock_off: self.clock_off(control, asked),
            now_texts: self.now_texts(asked).await,
        })
    }

    fn judge(facts: &TelemetryFacts, asked: &Asked, findings: &mut Findings) {
        without_rule(facts, asked, findings);
        // The topic of the values is not known.
        let bearing = match asked.question.topic {
            Some(_) => Bearing::Aside,
            None => Bearing::Present,
        };
        let of_values = facts.clock_off.iter().map(of_times);
        for finding in of_values.chain(facts.now_texts.iter().take(NAMED).map(of_text)) {
            findings.add_as(bearing, finding);
        }
        let is_meant = |one: &&NotStored| one.near_id.is_none() || asked.is_registered;
        let recent = facts
            .not_stored
            .iter()
            .filter(|one| asked.is_recent(one.at_ms));
        for one in recent.filter(is_meant).take(NAMED) {
            not_stored(asked, one, findings);
        }
    }
}

impl Telemetry {
    /// Keys of the device whose last value is a text, and whose values were numbers before; none if
    /// they cannot be read in time.
    async fn now_texts(&self, asked: &Asked) -> Vec<NowText> {
        if !asked.is_device {
            return Vec::new();
        }
        let (tenant, device) = (asked.question.tenant.0, &asked.question.name);
        let read = self.texts_behind_numbers((tenant, device.clone()));
        let read = tokio::time::timeout(READ_WITHIN, read).await;
        read.ok().and_then(Result::ok).unwrap_or_default()
    }

    async fn texts_behind_numbers(&self, device: Name) -> Result<Vec<NowText>, StoreError> {
        let mut found = Vec::new();
        let known = self.devices(BTreeSet::from([device.clone()])).await?;
        let Some(device) = known.get(&device) else {
            return Ok(found);
        };
        let storage = self.storage().await?;
        let latest = storage.latest(&Selection::device(device.number)).await?;
        let texts = latest
            .iter()
            .filter(|row| matches!(row.value, Value::Text(_)));
        for row in texts.take(TEXTS_LOOKED_AT) {
            let range = Range {
                selection: Selection::device(device.number).keys([&*row.key]),
                from: TIME_MIN,
                until: TIME_END,
                order: Order::NewestFirst,
                limit: VALUES_LOOKED_AT,
                after: None,
            };
            let rows = storage.range(&range).await?.rows;
            let is_number = |row: &Row| matches!(row.value, Value::Integer(_) | Value::Number(_));
            let texts = rows.iter().position(is_number).unwrap_or(0);
            let (Some(first), Value::Text(text)) = (rows[..texts].last(), &row.value) else {
                continue;
            };
            found.push(NowText {
                key: Arc::clone(&row.key),
                text: text.chars().take(TEXT_CHARS).collect(),
                since_ms: unsigned(first.time / 1_000),
                last_ms: unsigned(row.time / 1_000),
            });
        }
        Ok(found)
    }

    /// The times of the last telemetry of a device, if they are years off.
    fn clock_off(&self, control: &Control, asked: &Asked) -> Option<ClockOff> {
        let (tenant, device) = (asked.question.tenant, &*asked.client_id);
        let off = self.off_time(tenant.0, device)?;
        let ms = |secs: i64| unsigned(secs.saturating_mul(1_000));
        let words = |secs: i64| match Timestamp::from_second(secs) {
            Ok(at) => at.to_string(),
            Err(_) => secs.to_string(),
        };
        let (from, to) = (words(off.time_secs), words(off.time_secs.saturating_add(1)));
        let values = [device, &*from, &*to];
        Some(ClockOff {
            days_behind: off.received_secs.saturating_sub(off.time_secs) / (24 * 60 * 60),
            since_ms: ms(off.since_secs),
            last_ms: ms(off.received_secs),
            count: off.count,
            command: control.command_of_tenant(form::TELEMETRY_QUERY, tenant, &values),
            time: from,
        })
    }

    /// Payloads of a client that are not stored as telemetry, and those that name it as a device
    /// that is not known; of the integration of telemetry all of them.
    fn not_stored(&self, asked: &Asked) -> Vec<NotStored> {
        let (tenant, client_id) = (asked.question.tenant.0, &*asked.client_id);
        let rejected = match Self::is_part(client_id) {
            true => self.all_rejected(),
            false => self.rejected_about(tenant, client_id),
        };
        // Only for a device that is known by this id.
        let near = self.rejected_nearly_about(tenant, client_id);
        let near = near.into_iter().map(|(one, id)| (one, Some(id)));
        let rejected = rejected.into_iter().map(|one| (one, None)).chain(near);
        let not_stored = rejected.map(|(one, near_id)| NotStored {
            near_id,
            at_ms: one.at_ms,
            topic: one.topic,
            reason: one.reason,
            detail: one.detail,
            count: one.count,
            is_over: one.stored_ms.is_some(),
            by: one.client_id.filter(|by| by != client_id),
        });
        let mut all: Vec<NotStored> = Vec::new();
        for one in not_stored {
            // A message that it published itself is listed once.
            let is_same =
                |other: &NotStored| other.topic == one.topic && other.reason == one.reason;
            if !all.iter().any(is_same) {
                all.push(one);
            }
        }
        all
    }
}

/// Payloads of one topic that are not stored.
fn not_stored(asked: &Asked, one: &NotStored, findings: &mut Findings) {
    let payloads = match one.count {
        1 => "a payload was".to_owned(),
        count => format!("{count} payloads were"),
    };
    let by = one.by.iter().map(|by| format!(", published by {by}"));
    let by: String = by.collect();
    let meant = one.near_id.as_ref().map_or_else(String::new, |id| {
        let name = &asked.question.name;
        format!("; {name} may be meant by {id}: upper and lower case, - and _ differ")
    });
    let sentence = format!(
        "{payloads} not stored as telemetry ({}), the last one of {}{by}: {}{meant}",
        one.reason, one.topic, one.detail
    );
    let mut finding = Finding::new(Cause::TelemetryNotStored, sentence).of_many(one.count);
    finding.last_ms = Some(one.at_ms);
    finding.is_guess = one.near_id.is_some();
    if one.is_over {
        let over = "; a later one of that topic is stored";
        finding.sentence.push_str(over);
        return findings.add_as(Bearing::Over, finding);
    }
    let mut finding = finding.remedy(remedy(one.reason));
    if is_unknown_device(asked, one) {
        finding.command = asked.add.as_ref().and_then(|add| add.command.clone());
    }
    findings.add_as(bearing(asked, one), finding);
}

/// A topic of the device, the one that was asked about or the last that it published to without a
/// receiver, is matched by no rule of telemetry.
fn without_rule(facts: &TelemetryFacts, asked: &Asked, findings: &mut Findings) {
    let filters = &facts.filters;
    if !asked.is_device || filters.is_empty() {
        return;
    }
    let is_taken = |topic: &str| filters.iter().any(|filter| matches(filter, topic));
    // What integrations nearly take is reported as theirs.
    let is_near = |topic: &str| is_nearly_matched(filters.iter(), topic);
    // What the node itself receives is no telemetry.
    let is_received = |topic: &str| asked.received.iter().any(|filter| matches(filter, topic));
    let is_own = |topic: &str| asked.is_named_in(topic) && !is_taken(topic) && !is_received(topic);
    match asked.question.topic.as_deref() {
        Some(topic) => {
            let is_publisher = asked.side != Side::Receiver;
            if is_own(topic) && is_publisher && !asked.question.is_about_filter() {
                let finding = unmatched(facts, asked, topic, "what it publishes there");
                findings.add_as(Bearing::Aside, finding);
            }
        }
        None => {
            let mut latest = asked.published_in_vain().rev();
            let missed = latest.find(|one| is_own(&one.topic) && !is_near(&one.topic));
            if let Some(one) = missed {
                let finding = unmatched(facts, asked, &one.topic, "what it published there");
                findings.add_as(Bearing::Remark, finding.with_messages(one));
            }
        }
    }
}

/// No rule of telemetry matches the topic.
fn unmatched(facts: &TelemetryFacts, asked: &Asked, topic: &str, what: &str) -> Finding {
    let reached = match asked.question.topic {
        Some(_) => "",
        None => ", and it reached nobody",
    };
    let sentence = format!(
        "no rule of telemetry matches {topic}, so {what} is not stored{reached}: the topics of the \
         rules are {}",
        first_of(&facts.filters, NAMED)
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

/// Values were numbers, and are texts now.
fn of_text(now_text: &NowText) -> Finding {
    let NowText {
        key,
        text,
        since_ms,
        last_ms,
    } = now_text;
    let at = rfc3339::in_words(*since_ms);
    let sentence = format!("{key} was a number until {at}, and is a text now: {text:?}");
    Finding::new(Cause::ValueTypeChanged, sentence)
        .since(*since_ms)
        .last(*last_ms)
        .remedy(format!(
            "have the device publish {key} as a number: without quotation marks, and with a \
             decimal point; texts are left out of averages and of other calculations"
        ))
}

/// Payloads of another topic than the one that was asked about are reported beside the answer.
fn bearing(asked: &Asked, one: &NotStored) -> Bearing {
    match &asked.question.topic {
        // It is not known whether it is about this device.
        _ if one.near_id.is_some() => Bearing::Remark,
        Some(expected) if *expected != one.topic && !matches(expected, &one.topic) => {
            Bearing::Aside
        }
        // Nothing else is known of it.
        _ if is_unknown_device(asked, one) => Bearing::Refused,
        _ => Bearing::Present,
    }
}

/// Other clients published for a device of that name, which does not exist.
fn is_unknown_device(asked: &Asked, one: &NotStored) -> bool {
    one.by.is_some() && asked.is_unknown()
}

/// Returns the remedy for a reason.
fn remedy(reason: &str) -> &'static str {
    match reason {
        "too_many_keys" => {
            "check whether the device generates keys, such as one for each message; otherwise \
             delete keys that are no longer needed, or raise telemetry.keys_per_device"
        }
        "too_many_series" => {
            "delete values of devices that are no longer needed, or raise telemetry.series"
        }
        "team_series" | "team_bytes" => {
            "delete values of devices that are no longer needed, or raise limits.team_percent"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::why::tests::{NOW, connected, expect, facts};
    use crate::why::{Case, Diagnosis, State};

    fn of_topic(topic: &str, with_topic: Option<&str>) -> Diagnosis {
        let not_stored = NotStored {
            near_id: None,
            at_ms: NOW - 1_000,
            topic: topic.to_owned(),
            reason: "unknown_device",
            detail: "no device of that id".to_owned(),
            count: 1,
            is_over: false,
            by: None,
        };
        let mut client = facts(with_topic);
        client.session = Some(connected());
        let facts = TelemetryFacts {
            not_stored: vec![not_stored],
            ..TelemetryFacts::default()
        };
        Case::of(client).with::<Telemetry>(facts).diagnosis()
    }

    #[test]
    fn telemetry_of_another_topic_is_told_beside_the_answer() {
        let of = "d/ghost/telemetry";
        for (with_topic, cause) in [
            (None, Cause::TelemetryNotStored),
            (Some(of), Cause::TelemetryNotStored),
            (Some("loop/x"), Cause::NothingWrong),
        ] {
            let diagnosis = of_topic(of, with_topic);
            expect(&diagnosis, cause, State::Connected, "");
            let mut also = diagnosis.also.iter();
            let is_reported = also.any(|one| one.cause == Cause::TelemetryNotStored);
            assert!(is_reported || cause == Cause::TelemetryNotStored);
        }
    }
}
