//! Rules that are tried on messages: what would have happened is told, and nothing is done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_rules::{
    Action, AlarmMachine, Definition, DeviceFacts, Facts, Memory, RuleSet, Source, Verdict,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{RuleError, Rules, guarded};

/// Trials that run at one time; others wait.
static RUNNING: Semaphore = Semaphore::const_new(2);

/// Longest time that a trial may take.
const TRIAL_WITHIN: Duration = Duration::from_secs(10);

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

/// What a rule makes of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialOutcome {
    /// Place of the message in those that were given.
    pub message: usize,
    /// `matched`, `unmatched`, `missing`, `failed`; none: the rule does not look at it.
    pub verdict: Option<&'static str>,
    /// What is missing, or why it has failed.
    pub why: Option<String>,
    /// What would be done, and changes of alarms.
    pub actions: Vec<Value>,
}

impl Rules {
    /// What a rule makes of messages of a tenant, in their order. It is found out on a thread of
    /// its own, which holds up nobody.
    ///
    /// # Errors
    /// It says something that it may not, takes too long, or the tables cannot be read.
    pub async fn trial(
        &self,
        (name, tenant): (&str, u32),
        definition: Definition,
        messages: Arc<[TriedMessage]>,
    ) -> Result<Vec<TrialOutcome>, RuleError> {
        super::check(name, &definition)?;
        let mut definition = super::with_kinds(definition);
        definition.enabled = Some(true);
        let set = guarded::set_of(vec![(name.to_owned(), (tenant, definition))]);
        let set = Arc::new(set.map_err(RuleError::Trial)?);
        let (named, of) = (Arc::clone(&set), Arc::clone(&messages));
        let names = apart(move || {
            let all = of.iter().map(|one| facts(one, tenant));
            let names = all.flat_map(|facts| named.devices_of(&facts));
            names.map(|id| (tenant, id)).collect::<Vec<_>>()
        });
        let devices = self.devices.find(names.await?).await?;
        let tried = apart(move || {
            let all: Vec<Facts<'_>> = messages.iter().map(|one| facts(one, tenant)).collect();
            try_all(&set, &all, &devices)
        });
        tried.await?.ok_or_else(|| {
            let secs = TRIAL_WITHIN.as_secs();
            RuleError::Trial(format!(
                "the trial takes longer than {secs} s: give it fewer messages"
            ))
        })
    }
}

/// Calls something on a thread of its own.
///
/// # Errors
/// It panicked.
async fn apart<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RuleError> {
    // It is never closed.
    let running = RUNNING.acquire().await;
    let called = tokio::task::spawn_blocking(|| martlet_integrate::apart(call)).await;
    drop(running);
    let called = called.unwrap_or_else(|error| Err(error.to_string()));
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
            (Some((key, value)), _) => Source::Telemetry {
                key: key.clone(),
                value: value.clone(),
            },
            (None, Some(kind)) => Source::Event(super::kind_of_event(kind)),
            (None, None) => Source::Message,
        },
        device: message.device.as_ref().map(|id| DeviceFacts {
            id: id.clone(),
            ..DeviceFacts::default()
        }),
        time_ms: message.time_ms,
        received_ms: message.time_ms,
        hops: 0,
        by_rule: None,
    }
}

/// None: it takes too long.
fn try_all(
    set: &RuleSet,
    all: &[Facts<'_>],
    devices: &HashMap<(u32, String), DeviceFacts>,
) -> Option<Vec<TrialOutcome>> {
    let began = Instant::now();
    let (mut memory, mut machine) = (Memory::default(), AlarmMachine::default());
    let mut outcomes = Vec::with_capacity(all.len());
    for (message, facts) in all.iter().enumerate() {
        if began.elapsed() > TRIAL_WITHIN {
            return None;
        }
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
            None => {}
            Some(Verdict::Matched(actions)) => {
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
            Some(Verdict::Unmatched) => outcome.verdict = Some("unmatched"),
            Some(Verdict::Missing(name)) => {
                outcome.verdict = Some("missing");
                outcome.why = Some(name);
            }
            Some(Verdict::Failed(why)) => {
                outcome.verdict = Some("failed");
                outcome.why = Some(why);
            }
            Some(Verdict::Loop) => outcome.verdict = Some("loop"),
        }
        outcomes.push(outcome);
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
