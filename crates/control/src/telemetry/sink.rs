//! The integration that stores what devices publish.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use martlet_broker::TenantId;
use martlet_integrate::{
    ALL_TENANTS, CLIENT_IDS, ConfiguredSink, Outcome, Settings, Sink, SinkMessage,
};
use martlet_telemetry::Point;
use martlet_telemetry::decode::Rejection;

use super::latency::newest_own_time;
use super::off_times::is_off;
use super::rejected::{NO_DEVICE, UNKNOWN_DEVICE};
use super::rule::{DEVICE, TelemetryRule, TopicVariables};
use super::store::{StoreError, Telemetry, points_of};
use crate::remembered::Name;
use crate::text::{typed, typed_names};

/// Kind and name of the integration.
const KIND: &str = "telemetry";
const NAME: &str = "main";

impl Telemetry {
    /// The Client Identifier is that of the integration that stores telemetry.
    pub(crate) fn is_part(client_id: &str) -> bool {
        let name = client_id.strip_prefix(CLIENT_IDS);
        name.and_then(|name| name.split_once('/')) == Some((KIND, NAME))
    }

    /// The integration that stores what the rules match, of all tenants.
    pub fn integration(self: &Arc<Self>) -> ConfiguredSink {
        let settings = Settings {
            tenant: ALL_TENANTS.into(),
            keeps_qos0: true,
            ..Settings::new(KIND, NAME, self.filters())
        };
        let telemetry = Arc::clone(self);
        ConfiguredSink::new(settings, move |_| TelemetrySink(Arc::clone(&telemetry)))
    }
}

struct TelemetrySink(Arc<Telemetry>);

impl Sink for TelemetrySink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        // All of a batch is written at once: what comes again after a failure overwrites itself.
        let outcome = match self.0.take(batch).await {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(error.caller_text()),
        };
        vec![outcome; batch.len()]
    }

    async fn test(&mut self) -> Result<(), String> {
        self.0.test().await.map_err(|error| error.caller_text())
    }
}

impl Telemetry {
    /// Topic Filters of all that is taken.
    pub(crate) fn filters(&self) -> Vec<Box<str>> {
        let mut filters: Vec<Box<str>> = Vec::new();
        for rule in self.rules() {
            let filter = rule.topic.filter().into_boxed_str();
            if !filters.contains(&filter) {
                filters.push(filter);
            }
        }
        filters
    }

    /// The values of a message with their keys, and the device that they are of; none: it has
    /// none that would be stored.
    pub(crate) fn readings_of(&self, message: &SinkMessage) -> Option<(Name, Vec<KeyedReading>)> {
        let taken = self.taken(message)?.ok()?;
        let decoder = &taken.rule.decoder;
        let decoded = decoder.decode(message.payload(), received_micros(message));
        let readings = decoded.ok()?.readings.into_iter();
        let keyed = readings.map(|reading| {
            let key = taken.rule.key.key(&reading.key, &taken.names);
            (key, reading)
        });
        Some((taken.device, keyed.collect()))
    }
}

/// A value with the key that it is stored under.
pub(crate) type KeyedReading = (String, super::Reading);

/// A message with the rule that takes it.
struct MatchedMessage<'a> {
    message: &'a SinkMessage,
    rule: &'a TelemetryRule,
    names: TopicVariables<'a>,
    device: Name,
}

/// A payload that is not stored: its message, its device, the word of the reason and what is wrong.
type NotStored<'a> = (&'a SinkMessage, Option<String>, &'static str, String);

impl Telemetry {
    /// Stores the values of messages. Invalid payloads are left out, counted and remembered.
    ///
    /// # Errors
    /// Nothing is stored for sure: devices cannot be looked up, or the storage does not take it.
    async fn take(&self, batch: &[SinkMessage]) -> Result<(), StoreError> {
        let mut not_stored: Vec<NotStored<'_>> = Vec::new();
        let mut taken = Vec::new();
        for message in batch {
            match self.taken(message) {
                Some(Ok(one)) => taken.push(one),
                Some(Err((reason, why))) => not_stored.push((message, None, reason, why)),
                // The rules were others when it came, before a restart.
                None => {}
            }
        }
        let names: BTreeSet<Name> = taken.iter().map(|one| one.device.clone()).collect();
        let devices = self.devices(names).await?;
        let (mut points, mut active, mut retimed) = (Vec::<Point>::new(), BTreeMap::new(), 0);
        // The message of each point; type of the device, its time and that of receipt, by payload.
        let (mut sources, mut timed) = (Vec::new(), Vec::new());
        // As a rule no clock is off, and no name is copied.
        let (is_any_off, mut off) = (self.off_times.holds_any(), Vec::new());
        for one in taken {
            let message = one.message;
            let Some(device) = devices.get(&one.device) else {
                let (tenant, id) = &one.device;
                let team = self.control.team_of_tenant(TenantId(*tenant));
                let team =
                    team.map_or_else(String::new, |team| format!("--team={} ", typed(&team)));
                let why = format!(
                    "there is no device {id:?}: add it (martlet device add {team}{}), or correct \
                     the topic",
                    typed_names(&[id])
                );
                not_stored.push((message, Some(one.device.1), UNKNOWN_DEVICE, why));
                continue;
            };
            let received = received_micros(message);
            match one.rule.decoder.decode(message.payload(), received) {
                Err(rejection) => {
                    let (device, reason) = (Some(one.device.1), rejection.reason());
                    not_stored.push((message, device, reason, rejection.to_string()));
                }
                Ok(decoded) => {
                    retimed += decoded.retimed;
                    for (reason, why) in by_reason(&decoded.left_out) {
                        not_stored.push((message, Some(one.device.1.clone()), reason, why));
                    }
                    if let Some(time) = newest_own_time(&decoded) {
                        timed.push((Arc::clone(&device.device_type), time, received));
                        if is_any_off || is_off(time, received) {
                            off.push((one.device.clone(), time, received));
                        }
                    }
                    let origin = message.id() as i64;
                    let key = |key: &str| one.rule.key.key(key, &one.names);
                    points.extend(points_of(decoded, device.in_storage(), origin, key));
                    sources.resize(points.len(), message);
                    let last = active.entry(one.device).or_insert(received);
                    *last = received.max(*last);
                }
            }
        }
        let refused = self.write(points).await?;
        for (device_type, time, received) in timed {
            self.ages.note(&device_type, time, received);
        }
        self.off_times.note(off);
        self.note_activity(active);
        self.count_retimed(retimed);
        let mut rejected: HashSet<*const SinkMessage> = HashSet::new();
        for (message, device, reason, why) in not_stored {
            rejected.insert(message);
            let tenant = message.tenant().0;
            let (client_id, device) = (message.client_id(), device.as_deref());
            self.reject(tenant, message.topic(), client_id, device, (reason, why));
        }
        for (index, refused) in refused {
            rejected.extend(sources.get(index).map(|one| std::ptr::from_ref(*one)));
            let (key, reason, why) = refused;
            self.reject_value(&sources, index, key, reason, why);
        }
        self.note_stored(|| {
            let stored: HashSet<*const SinkMessage> =
                sources.iter().map(|one| std::ptr::from_ref(*one)).collect();
            // Of each topic the last message decides.
            let mut topics = HashMap::new();
            for message in batch {
                let is_rejected = rejected.contains(&std::ptr::from_ref(message));
                if is_rejected || stored.contains(&std::ptr::from_ref(message)) {
                    topics.insert((message.tenant().0, message.topic()), !is_rejected);
                }
            }
            topics
        });
        Ok(())
    }

    /// Notes that the value at this index is not stored. `sources` are the messages of all values.
    fn reject_value(
        &self,
        sources: &[&SinkMessage],
        index: usize,
        key: Arc<str>,
        reason: &'static str,
        why: String,
    ) {
        let Some(message) = sources.get(index) else {
            return;
        };
        let one = self.taken(message).and_then(Result::ok);
        let first = sources.iter().position(|of| std::ptr::eq(*of, *message));
        let place = one.as_ref().and_then(|one| {
            let (decoder, received) = (&one.rule.decoder, received_micros(message));
            decoder.place_of(message.payload(), received, index - first?)
        });
        let place = place.map_or_else(String::new, |place| place.to_string());
        let device = one.map(|one| one.device.1);
        let (tenant, device) = (message.tenant().0, device.as_deref());
        let why = (reason, format!("{place}{key}: {why}"));
        self.reject(tenant, message.topic(), message.client_id(), device, why);
    }

    /// The first rule that matches a topic, and what its names stand for there.
    pub(super) fn rule_of<'a>(
        &'a self,
        topic: &'a str,
    ) -> Option<(&'a TelemetryRule, TopicVariables<'a>)> {
        let mut rules = self.rules().iter();
        rules.find_map(|rule| Some((rule, rule.topic.names(topic)?)))
    }

    /// The rule that takes a message, with its device; none: no rule does.
    fn taken<'a>(
        &'a self,
        message: &'a SinkMessage,
    ) -> Option<Result<MatchedMessage<'a>, (&'static str, String)>> {
        let (rule, names) = self.rule_of(message.topic())?;
        // The topic names the device: permissions have decided who may publish to it.
        let id = names.get(DEVICE).or_else(|| message.device());
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            let why = format!(
                "the rule's topic {} has no {{{DEVICE}}}, and the publisher is not a device",
                rule.topic
            );
            return Some(Err((NO_DEVICE, why)));
        };
        Some(Ok(MatchedMessage {
            message,
            rule,
            device: (message.tenant().0, id.to_owned()),
            names,
        }))
    }
}

/// Time of receipt of a message, µs since the Unix epoch.
fn received_micros(message: &SinkMessage) -> i64 {
    let received = i64::try_from(message.received_ms()).unwrap_or(i64::MAX);
    received.saturating_mul(1_000)
}

/// The rejections of a message, those of each reason as one text.
fn by_reason(rejections: &[Rejection]) -> BTreeMap<&'static str, String> {
    let mut by_reason = BTreeMap::<_, String>::new();
    for rejection in rejections {
        let text = by_reason.entry(rejection.reason()).or_default();
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&rejection.to_string());
    }
    by_reason
}
