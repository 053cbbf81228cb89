//! The integration that hands messages to the rules of a tenant.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::{EVENTS, OnFull, PartQueueLimits};
use martlet_codec::PublishProperties;
use martlet_integrate::{ConfiguredSink, Outcome, Settings, Sink, SinkMessage};
use martlet_rules::{DeviceFacts, Facts, Memory, RuleInput, RuleResult};
use serde_json::Value;

use super::RuleQueue;
use super::actions::{ConsequenceHops, Doer, Origin};
use super::publish::{BY_RULE, HOPS};
use super::{InForce, KIND, Publisher, Rules, lock};
use crate::remembered::Name;
use crate::telemetry::followed::FollowedValues;
use crate::telemetry::json_of;

/// Messages of one call. Each may lead to a command, which is synced in the tables.
const BATCH_MESSAGES: u16 = 500;
/// Messages that each lane hands over before they are settled: what comes within the time between
/// two calls, also at 100,000 messages a second. Others would be read back from the disk.
const IN_HAND: u16 = 1_000;
/// Longest time between two calls of a few messages, see [`Settings::called_every`].
const CALLED_EVERY: Duration = Duration::from_millis(4);

impl Rules {
    /// The integration of this name.
    pub(super) fn integration(self: &Arc<Self>, name: &str, of: &RuleQueue) -> ConfiguredSink {
        let filters = of.filters.iter().map(|filter| filter.as_str().into());
        let settings = Settings {
            tenant: of.team.as_str().into(),
            keeps_qos0: true,
            batch_messages: BATCH_MESSAGES,
            in_hand: IN_HAND,
            queue: PartQueueLimits {
                on_full: OnFull::HoldFromOutside,
                ..PartQueueLimits::default()
            },
            called_every: CALLED_EVERY,
            ..Settings::new(KIND, name, filters.collect())
        };
        let rules = Arc::clone(self);
        ConfiguredSink::new(settings, move |_| RuleSink {
            rules: Arc::clone(&rules),
            memory: Memory::with(Arc::clone(&rules.previous)),
            publisher: Publisher::new(Arc::clone(&rules.control)),
        })
    }
}

struct RuleSink {
    rules: Arc<Rules>,
    memory: Memory,
    publisher: Publisher,
}

impl Sink for RuleSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let rules = Arc::clone(&self.rules);
        let in_force = rules.in_force();
        // Else each try would repeat what the rules do beside the alarms.
        if let Err(error) = rules.alarms.save_observed().await {
            return vec![Outcome::Failed(error.caller_text()); batch.len()];
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut doer = Doer::new(&rules, &in_force, &mut self.publisher);
        // While the tables cannot be read, messages of known devices do not wait for those behind
        // them.
        let mut all = rules.devices_of(&in_force, batch).await;
        let mut tried = batch;
        if all.is_err() && batch.len() > 1 {
            tried = &batch[..1];
            all = rules.devices_of(&in_force, tried).await;
        }
        let devices = match all {
            Ok(devices) => devices,
            Err(why) => return vec![Outcome::Failed(why); batch.len()],
        };
        for message in tried {
            match look_at(
                &rules,
                &in_force,
                message,
                &devices,
                &mut self.memory,
                &mut doer,
            )
            .await
            {
                Ok(()) => outcomes.push(Outcome::Done),
                Err(why) => {
                    outcomes.push(Outcome::Failed(why));
                    break;
                }
            }
        }
        let done = outcomes.len().saturating_sub(1);
        if let Err((at, why)) = doer.finish().await {
            // What came behind it has been done; it comes again as a repeated message.
            outcomes.truncate(at.min(done));
            outcomes.push(Outcome::Failed(why));
        }
        outcomes.resize(batch.len(), Outcome::NotTried);
        outcomes
    }

    async fn test(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Evaluates the rules for a message, and runs the actions of those that match.
///
/// # Errors
/// An action cannot be run now, and is to be tried again.
async fn look_at(
    rules: &Rules,
    in_force: &InForce,
    message: &SinkMessage,
    devices: &HashMap<Name, DeviceFacts>,
    memory: &mut Memory,
    doer: &mut Doer<'_>,
) -> Result<(), String> {
    doer.next_message();
    memory.next_message();
    let mut matched = Vec::new();
    let (mut hops, mut told_hops) = (0, 0);
    for facts in facts_of(rules, in_force, message) {
        (hops, told_hops) = (facts.hops, facts.told_hops);
        let lookup = |id: &str| devices.get(&(facts.tenant, id.to_owned())).cloned();
        let began = Instant::now();
        let outcomes = in_force.set.evaluate(&facts, &lookup, memory);
        let is_judged =
            |one: &&martlet_rules::Outcome| !matches!(one.verdict, RuleResult::Stopped(_));
        let judged = outcomes.iter().filter(is_judged).count();
        let each = began.elapsed() / u32::try_from(judged.max(1)).unwrap_or(1);
        for outcome in outcomes {
            let mut all = lock(&rules.counts);
            let place = in_force.places.get(outcome.rule);
            // None: the rule has been removed meanwhile.
            let Some(counts) = place.and_then(|place| all.get_mut(&place.key)) else {
                continue;
            };
            if let RuleResult::Stopped(earlier) = outcome.verdict {
                if let Some(earlier) = in_force.places.get(earlier) {
                    counts.note_stopped(&earlier.name);
                }
                continue;
            }
            if let Some(actions) = counts.note(outcome.verdict, facts.topic, facts.payload, each) {
                matched.push((outcome.rule, actions));
            }
        }
    }
    let after = |hops| ConsequenceHops::of(hops, matched.iter().flat_map(|(_, actions)| actions));
    let origin = Origin {
        rule: 0,
        tenant: message.tenant().0,
        hops: after(hops),
        told_hops: after(told_hops),
        received_ms: i64::try_from(message.received_ms()).unwrap_or(i64::MAX),
        message: message.id(),
    };
    for (rule, actions) in matched {
        doer.act(&Origin { rule, ..origin }, actions).await?;
    }
    Ok(())
}

/// Hops that were counted in this node. Messages of a bridge have their hops in a property.
fn hops_in_node(message: &SinkMessage) -> u8 {
    match message.bridge() {
        None => message.hops(),
        Some(_) => 0,
    }
}

/// Hops that rules of this node and of others have counted, as the message states.
fn told_hops(message: &SinkMessage) -> u8 {
    hops_of_property(message).max(message.hops())
}

fn hops_of_property(message: &SinkMessage) -> u8 {
    if message.properties().is_empty() {
        return 0;
    }
    let Ok(properties) = PublishProperties::from_forwarded(message.properties()) else {
        return 0;
    };
    let pairs = properties.user_properties.iter();
    let hops = pairs.filter(|(name, _)| *name == HOPS);
    let hops = hops.filter_map(|(_, hops)| hops.parse::<u8>().ok());
    hops.max().unwrap_or_default()
}

/// The facts for the rules about a message: one, or one for each value of telemetry.
fn facts_of<'a>(rules: &Rules, in_force: &InForce, message: &'a SinkMessage) -> Vec<Facts<'a>> {
    let received_ms = i64::try_from(message.received_ms()).unwrap_or(i64::MAX);
    let device = |id: &str| DeviceFacts {
        id: id.to_owned(),
        ..DeviceFacts::default()
    };
    let by_rule = message
        .client_id()
        .and_then(|client_id| client_id.strip_prefix(BY_RULE));
    let facts = Facts {
        tenant: message.tenant().0,
        topic: message.topic(),
        payload: message.payload(),
        source: RuleInput::Message,
        device: message.device().map(device),
        time_ms: received_ms,
        received_ms,
        hops: hops_in_node(message),
        told_hops: told_hops(message),
        by_rule,
    };
    if let Some(followed) = FollowedValues::of(message.topic(), message.payload()) {
        let of = device(&followed.device);
        let values = followed.values.into_iter();
        let values = values.map(|one| Facts {
            source: RuleInput::Telemetry {
                key: one.key,
                value: one.value,
            },
            device: Some(of.clone()),
            time_ms: one.time_ms,
            // They came by no topic.
            topic: "",
            payload: &[],
            ..facts.clone()
        });
        return values.collect();
    }
    if let Some(kind) = message.topic().strip_prefix(EVENTS) {
        let client = client_of_event(message.payload());
        // That what a rule publishes is refused may be the consequence of such an event.
        if client.as_ref().is_some_and(|id| id.starts_with(BY_RULE)) {
            return Vec::new();
        }
        let device = client.map(|id| device(&id));
        return vec![Facts {
            source: RuleInput::Event(kind),
            device,
            ..facts
        }];
    }
    let mut values = Vec::new();
    if in_force.set.has_telemetry()
        && let Some(telemetry) = rules.telemetry.as_ref()
        && let Some((name, readings)) = telemetry.readings_of(message)
    {
        let (wanted, others): (Vec<_>, Vec<_>) = readings
            .into_iter()
            .partition(|(key, _)| in_force.set.looks_at_key(key));
        lock(&rules.other_keys).note(message.tenant().0, others.iter().map(|(key, _)| key));
        values.extend(wanted.into_iter().map(|(key, reading)| Facts {
            source: RuleInput::Telemetry {
                key,
                value: json_of(&reading.value),
            },
            device: Some(device(&name.1)),
            time_ms: reading.time / 1_000,
            ..facts.clone()
        }));
    }
    std::iter::once(facts).chain(values).collect()
}

/// The client that an event is about: the Client Identifier of a device is its id.
fn client_of_event(payload: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(payload).ok()?;
    let id = event.get("client_id")?.as_str()?;
    (!id.is_empty()).then(|| id.to_owned())
}

impl Rules {
    /// The devices that rules need for messages.
    async fn devices_of(
        &self,
        in_force: &InForce,
        batch: &[SinkMessage],
    ) -> Result<HashMap<Name, DeviceFacts>, String> {
        let mut names = Vec::new();
        if !in_force.set.needs_devices() {
            return Ok(HashMap::new());
        }
        for message in batch {
            for facts in facts_of(self, in_force, message) {
                let ids = in_force.set.devices_of(&facts).into_iter();
                names.extend(ids.map(|id| (facts.tenant, id)));
            }
        }
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        names.sort_unstable();
        names.dedup();
        let found = self.devices.find(names).await;
        found.map_err(|error| error.caller_text())
    }
}
