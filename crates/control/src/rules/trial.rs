//! Rules that are tried on messages: what would have happened is told, and nothing is done.

use std::collections::HashMap;
use std::sync::Arc;

use martlet_rules::{
    Action, AlarmMachine, Definition, DeviceFacts, Evaluator, Facts, Memory, Rule, RuleSet, Source,
    TaggedRule, Verdict,
};
use serde_json::{Value, json};

use super::{RuleError, Rules};

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
    /// What a rule makes of messages of a tenant, in their order.
    ///
    /// # Errors
    /// It says something that it may not, or the tables cannot be read.
    pub async fn trial(
        &self,
        (name, tenant): (&str, u32),
        definition: Definition,
        messages: &[TriedMessage],
    ) -> Result<Vec<TrialOutcome>, RuleError> {
        super::check(name, &definition)?;
        let evaluator = Evaluator::default();
        let mut definition = definition;
        definition.enabled = Some(true);
        for kind in &mut definition.events {
            *kind = super::kind_of_event(kind).to_owned();
        }
        let rule = Rule::new(&evaluator, name, definition)?;
        let rule = TaggedRule {
            tenant,
            rule: Arc::new(rule),
        };
        let set = RuleSet::new(evaluator, vec![rule]);
        let all: Vec<Facts<'_>> = messages.iter().map(|one| facts(one, tenant)).collect();
        let names = all.iter().flat_map(|facts| set.devices_of(facts));
        let names: Vec<(u32, String)> = names.map(|id| (tenant, id)).collect();
        let devices = self.devices.find(names).await?;
        Ok(try_all(&set, &all, &devices))
    }
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

fn try_all(
    set: &RuleSet,
    all: &[Facts<'_>],
    devices: &HashMap<(u32, String), DeviceFacts>,
) -> Vec<TrialOutcome> {
    let (mut memory, mut machine) = (Memory::default(), AlarmMachine::default());
    let mut outcomes = Vec::with_capacity(all.len());
    for (message, facts) in all.iter().enumerate() {
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
    outcomes
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
        Action::Webhook { name, payload } => {
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
