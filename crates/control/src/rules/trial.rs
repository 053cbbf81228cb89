//! Rules that are tried on messages: the result is what would have happened, and nothing is done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_rules::{
    Action, AlarmMachine, Definition, DeviceFacts, Evaluator, Facts, Memory, MessageRules,
    RuleInput, RuleResult,
};
use serde_json::{Value, json};

use super::guarded::GuardedRule;
use super::{RuleError, Rules, TRIALS_MAX, guarded};
use crate::shared_slots::SharedSlot;

/// Longest time that a trial may take.
const TRIAL_WITHIN: Duration = Duration::from_secs(10);
/// Longest time that a trial waits until it begins.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);

/// A message that a rule is tried on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TriedMessage {
    /// Topic Name; empty for values of telemetry and events.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// When it was received, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The device that has published it, or whose value it is.
    pub device: Option<String>,
    /// Key and value of telemetry.
    pub value: Option<(String, Value)>,
    /// Kind of an event, whose payload is the event.
    pub event: Option<String>,
}

/// Result of a rule for a message.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialOutcome {
    /// Place of the message in those that were given.
    pub message: usize,
    /// `matched`, `unmatched`, `missing`, `failed`; none: the rule does not look at it.
    pub verdict: Option<&'static str>,
    /// Member that is missing, or why the rule has failed.
    pub why: Option<String>,
    /// Actions that would be done, and changes of alarms.
    pub actions: Vec<Value>,
}

impl Rules {
    /// Tries a rule on messages of a tenant, in their order, on a thread of its own that delays no
    /// other work.
    ///
    /// # Errors
    /// It says something that it may not, takes too long, or the tables cannot be read.
    pub async fn trial(
        &self,
        name: &str,
        tenant: u32,
        definition: Definition,
        messages: Arc<[TriedMessage]>,
    ) -> Result<Vec<TrialOutcome>, RuleError> {
        super::check(name, &definition)?;
        let place = self.trials.take(&tenant, BEGINS_WITHIN).await;
        let place = Arc::new(place.ok_or_else(no_place)?);
        let until = Instant::now() + TRIAL_WITHIN;
        let mut definition = super::with_kinds(definition);
        definition.enabled = Some(true);
        let evaluator = Arc::<Evaluator>::default();
        let rule = guarded::read(&evaluator, name, &definition)?;
        let set = guarded::set_of(&evaluator, &[GuardedRule::new(tenant, rule)]);
        let set = Arc::new(set);
        let (named, of) = (Arc::clone(&set), Arc::clone(&messages));
        let names = apart(&place, move || {
            let mut names = Vec::new();
            for facts in of.iter().map(|one| facts(one, tenant)) {
                let ids = named.devices_of(&facts).into_iter();
                names.extend(ids.map(|id| (tenant, id)));
                if Instant::now() > until {
                    return None;
                }
            }
            names.sort_unstable();
            names.dedup();
            Some(names)
        });
        let names = names.await?.ok_or_else(too_long)?;
        let devices = self.devices.find(names).await?;
        let tried = apart(&place, move || {
            let all: Vec<Facts<'_>> = messages.iter().map(|one| facts(one, tenant)).collect();
            try_all(&set, &all, &devices, until)
        });
        tried.await?.ok_or_else(too_long)
    }
}

fn no_place() -> RuleError {
    RuleError::Busy(format!(
        "other trials run: the node runs {TRIALS_MAX} at a time, those of a team within its share \
         of them. No place was free within {} s: try again",
        BEGINS_WITHIN.as_secs()
    ))
}

fn too_long() -> RuleError {
    let secs = TRIAL_WITHIN.as_secs();
    RuleError::Trial(format!(
        "the test takes longer than {secs} s: give it fewer messages"
    ))
}

/// Calls something on a thread of its own. The slot of the trial is in use until it has ended, even
/// if its caller has given up.
///
/// # Errors
/// It panicked.
async fn apart<T: Send + 'static>(
    place: &Arc<SharedSlot>,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RuleError> {
    let place = Arc::clone(place);
    let called = tokio::task::spawn_blocking(move || {
        let called = martlet_integrate::apart(call);
        drop(place);
        called
    });
    let called = called.await.unwrap_or_else(|error| Err(error.to_string()));
    called.map_err(|text| {
        RuleError::Trial(format!(
            "an expression of the rule cannot be evaluated: {text}"
        ))
    })
}

fn facts(message: &TriedMessage, tenant: u32) -> Facts<'_> {
    Facts {
        tenant,
        topic: &message.topic,
        payload: &message.payload,
        source: match (&message.value, &message.event) {
            (Some((key, value)), _) => RuleInput::Telemetry {
                key: key.clone(),
                value: value.clone(),
            },
            (None, Some(kind)) => RuleInput::Event(super::kind_of_event(kind)),
            (None, None) => RuleInput::Message,
        },
        device: message.device.as_ref().map(|id| DeviceFacts {
            id: id.clone(),
            ..DeviceFacts::default()
        }),
        time_ms: message.time_ms,
        received_ms: message.time_ms,
        hops: 0,
        told_hops: 0,
        by_rule: None,
    }
}

/// None: it takes too long.
fn try_all(
    set: &MessageRules,
    all: &[Facts<'_>],
    devices: &HashMap<(u32, String), DeviceFacts>,
    until: Instant,
) -> Option<Vec<TrialOutcome>> {
    let (mut memory, mut machine) = (Memory::default(), AlarmMachine::default());
    let mut outcomes = Vec::with_capacity(all.len());
    for (message, facts) in all.iter().enumerate() {
        memory.next_message();
        let lookup = |id: &str| devices.get(&(facts.tenant, id.to_owned())).cloned();
        // Time passes between messages, too.
        let ticked = machine.tick(facts.received_ms);
        let found = set.evaluate(facts, &lookup, &mut memory).into_iter().next();
        let mut outcome = TrialOutcome {
            message,
            verdict: None,
            why: None,
            actions: ticked.iter().map(change_of).collect(),
        };
        match found.map(|found| found.verdict) {
            // There is no earlier rule.
            None | Some(RuleResult::Stopped(_)) => {}
            Some(RuleResult::Matched(actions) | RuleResult::Withheld(actions)) => {
                outcome.verdict = Some("matched");
                for action in actions {
                    match action {
                        Action::Alarm(input) => {
                            let change = input.apply(&mut machine);
                            outcome.actions.extend(change.iter().map(change_of));
                        }
                        action => outcome.actions.push(shown(&action)),
                    }
                }
            }
            Some(RuleResult::Unmatched | RuleResult::OtherDevice) => {
                outcome.verdict = Some("unmatched");
            }
            Some(RuleResult::Missing(name)) => {
                outcome.verdict = Some("missing");
                outcome.why = Some(name);
            }
            Some(RuleResult::Failed(why)) => {
                outcome.verdict = Some("failed");
                outcome.why = Some(why);
            }
            Some(RuleResult::Loop) => outcome.verdict = Some("loop"),
        }
        outcomes.push(outcome);
        if Instant::now() > until {
            return None;
        }
    }
    Some(outcomes)
}

fn change_of(change: &martlet_rules::AlarmChange) -> Value {
    let alarm = &change.alarm;
    json!({ "alarm": {
        "change": change.kind.word(),
        "name": alarm.key.name,
        "subject": alarm.key.subject,
        "severity": alarm.severity.word(),
        "message": alarm.message,
        "value": alarm.value,
    } })
}

/// An action as it would be written.
fn shown(action: &Action) -> Value {
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    match action {
        Action::Publish {
            topic,
            payload,
            qos,
            retain,
        } => json!({ "publish": {
            "topic": topic, "payload": text(payload), "qos": *qos as u8, "retain": retain,
        } }),
        Action::Webhook { name, payload, .. } => {
            json!({ "webhook": { "name": name, "payload": text(payload) } })
        }
        Action::Command {
            device,
            kind,
            command,
            parameters,
            expires_secs,
        } => json!({ "command": {
            "device": device, "kind": kind, "command": command, "parameters": parameters,
            "expires_secs": expires_secs,
        } }),
        Action::Telemetry { device, key, value } => {
            json!({ "telemetry": { "device": device, "key": key, "value": value } })
        }
        Action::Alarm(_) => Value::Null,
    }
}
