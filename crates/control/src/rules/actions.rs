//! Does what follows from a message.

use futures_util::future::{BoxFuture, join_all};
use martlet_broker::{NewMessage, TenantId, may_publish};
use martlet_codec::{QoS, ReasonCode, TopicName};
use martlet_registry::{Actor, NewCommand, RegistryError, Visibility};
use martlet_rules::{Action, hops_after, hops_of_siblings};

use super::action_counts::{ActionKind, ActionOutcome};
use super::publish::{BY_RULE, HOPS};
use super::{InForce, PostError, Posted, Publisher, Rules, lock, webhooks};
use crate::devices::DeviceName;
use crate::integrations::TO_WEBHOOKS;
use crate::shared_registry::SharedRegistryError;
use crate::telemetry::StoreError;

/// Messages of a batch that are handed over before their answers are waited for, at most.
const POSTED_MAX: usize = 256;
/// Values of a batch that are stored at once, at most.
const STORED_MAX: usize = 256;

/// Why a message waits.
const SHORT: &str = "the message waits, since the memory or the message store of the node is full, \
                     or the team has its share of the store";

/// Which rule does something, and for which message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// Place of the rule in the set.
    pub(super) rule: usize,
    pub(super) tenant: u32,
    /// The hops that this node has counted, for messages that are published. The message itself has
    /// the number of earlier hops, so that rules apply to it nevertheless.
    pub(super) hops: ConsequenceHops,
    /// The hops in the message, for commands and alarms, whose own messages have none.
    pub(super) told_hops: ConsequenceHops,
    pub(super) received_ms: i64,
    /// Number of the message in the node.
    pub(super) message: u64,
}

/// Hops of what follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConsequenceHops {
    /// Hops of each message and command.
    sent: u8,
    /// Hops of the input of alarms. Their messages have more.
    observed: u8,
}

impl ConsequenceHops {
    /// Everything that follows from a message with `hops`.
    pub(super) fn of<'a>(hops: u8, actions: impl Iterator<Item = &'a Action>) -> Self {
        let (mut sent, mut observed) = (0, 0);
        for action in actions {
            match action {
                Action::Publish { .. } | Action::Command { .. } => sent += 1,
                Action::Alarm(_) => observed += 1,
                Action::Webhook { .. } | Action::Telemetry { .. } => {}
            }
        }
        Self {
            sent: hops_after(hops, sent),
            observed: hops.saturating_add(hops_of_siblings(observed)),
        }
    }
}

/// The storing of a value.
type Storing<'a> = BoxFuture<'a, Result<(), StoreError>>;

/// Does what follows from the messages of a batch.
pub(super) struct Doer<'a> {
    rules: &'a Rules,
    in_force: &'a InForce,
    publisher: &'a mut Publisher,
    /// Messages whose answers are due: the place of the message in the batch, the rule, the topic.
    posted: Vec<(usize, usize, String, Posted)>,
    /// Values that are due to be stored, with the place of the message in the batch and the rule.
    /// They are synced together: one after the other each would wait for a sync of its own.
    to_store: Vec<(usize, usize, Storing<'a>)>,
    /// Number of messages so far.
    messages: usize,
    /// Actions of the present message: they number its commands.
    actions: usize,
    failed: Option<(usize, String)>,
    /// The first message that alarms have observed.
    observed: Option<usize>,
}

impl<'a> Doer<'a> {
    pub(super) fn new(
        rules: &'a Rules,
        in_force: &'a InForce,
        publisher: &'a mut Publisher,
    ) -> Self {
        Self {
            rules,
            in_force,
            publisher,
            posted: Vec::new(),
            to_store: Vec::new(),
            messages: 0,
            actions: 0,
            failed: None,
            observed: None,
        }
    }

    /// Begins the next message: what comes now follows from it.
    pub(super) fn next_message(&mut self) {
        self.messages += 1;
        self.actions = 0;
    }

    /// Does what a rule has decided, in order.
    ///
    /// # Errors
    /// Something cannot be done now, and is to be tried again; the reason in words.
    pub(super) async fn act(
        &mut self,
        origin: &Origin,
        actions: Vec<Action>,
    ) -> Result<(), String> {
        for action in actions {
            self.actions += 1;
            let kind = ActionKind::of(&action);
            match self.one(origin, action).await {
                Ok(()) => {}
                Err(PostError::Refused(why)) => self.note(origin.rule, kind, Err(&why)),
                Err(PostError::Failed(why)) => {
                    self.rules.actions.note(kind, ActionOutcome::Retried);
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// Distinguishes values of one time. It is the same if the message comes again.
    fn origin_of_value(&self, origin: &Origin) -> i64 {
        let number = origin.message as i64 ^ ((self.actions as i64) << 48);
        (number & i64::MAX).max(1)
    }

    fn name(&self, rule: usize) -> &str {
        let place = self.in_force.places.get(rule);
        place.map_or("", |place| &place.name)
    }

    /// Counts an action that was done, or why not.
    fn note(&self, rule: usize, kind: ActionKind, done: Result<(), &str>) {
        let outcome = match done {
            Ok(()) => ActionOutcome::Done,
            Err(_) => ActionOutcome::Refused,
        };
        self.rules.actions.note(kind, outcome);
        let mut counts = lock(&self.rules.counts);
        let place = self.in_force.places.get(rule);
        let Some(counts) = place.and_then(|place| counts.get_mut(&place.key)) else {
            return;
        };
        match done {
            Ok(()) => counts.actions += 1,
            Err(why) => counts.action_failed(kind, why),
        }
    }

    async fn one(&mut self, origin: &Origin, action: Action) -> Result<(), PostError> {
        let kind = ActionKind::of(&action);
        match action {
            Action::Publish {
                topic,
                payload,
                qos,
                retain,
            } => {
                let message = new_message(topic, payload, qos, retain);
                return self.publish(origin, message).await;
            }
            Action::Webhook {
                name,
                is_own,
                payload,
            } => self.webhook(origin, &name, is_own, payload).await?,
            Action::Command {
                device,
                kind,
                command,
                parameters,
                expires_secs,
            } => {
                let new = NewCommand {
                    // The same if the message comes again.
                    id: Some(format!(
                        "rule-{}-{}-{}",
                        self.name(origin.rule),
                        origin.message,
                        self.actions
                    )),
                    kind,
                    name: command,
                    parameters,
                    qos: None,
                    time_ms: i64::from(expires_secs) * 1_000,
                    hops: origin.told_hops.sent,
                };
                self.command(origin, device, new).await?;
            }
            Action::Telemetry { device, key, value } => {
                return self.store(origin, device, key, value).await;
            }
            Action::Alarm(input) => {
                let input = input.after(origin.told_hops.observed);
                self.rules.alarms.observe(input);
                let at = self.messages.saturating_sub(1);
                self.observed.get_or_insert(at);
            }
        }
        self.note(origin.rule, kind, Ok(()));
        Ok(())
    }

    async fn publish(&mut self, origin: &Origin, mut message: NewMessage) -> Result<(), PostError> {
        let topic = message.topic.to_string();
        let refused = |why: String| Err(PostError::Refused(why));
        if topic.contains(['+', '#']) || TopicName::new(&topic).is_err() {
            return refused(format!("{topic:?} is not a valid Topic Name"));
        }
        if !may_publish(&topic) {
            return refused(format!("{topic:?} is a topic of the node's own"));
        }
        let rule = self.in_force.set.rules().get(origin.rule);
        let publish_as = rule.and_then(|one| one.rule.definition().publish_as.as_deref());
        let client_id = format!("{BY_RULE}{}", self.name(origin.rule));
        let tenant = TenantId(origin.tenant);
        message.hops = origin.hops.sent;
        let told = origin.told_hops.sent.to_string();
        message.user_properties = vec![(HOPS.into(), told.into())];
        let posted = self.publisher.post(tenant, &client_id, publish_as, message);
        let posted = posted.await?;
        let at = self.messages.saturating_sub(1);
        self.posted.push((at, origin.rule, topic, posted));
        if self.posted.len() >= POSTED_MAX {
            self.wait().await;
        }
        Ok(())
    }

    async fn store(
        &mut self,
        origin: &Origin,
        device: String,
        key: String,
        value: serde_json::Value,
    ) -> Result<(), PostError> {
        let rules: &'a Rules = self.rules;
        let telemetry = rules.telemetry.as_ref().ok_or_else(|| {
            let why = "the node stores no telemetry: set telemetry.enabled = true";
            PostError::Refused(why.to_owned())
        })?;
        let tenant = origin.tenant;
        let (time_ms, origin_of_value) = (origin.received_ms, self.origin_of_value(origin));
        let storing = async move {
            let stored =
                telemetry.store_value(tenant, &device, &key, &value, time_ms, origin_of_value);
            stored.await
        };
        let at = self.messages.saturating_sub(1);
        self.to_store.push((at, origin.rule, Box::pin(storing)));
        if self.to_store.len() >= STORED_MAX {
            self.store_all().await;
        }
        Ok(())
    }

    /// Stores the values that are due.
    async fn store_all(&mut self) {
        let to_store = std::mem::take(&mut self.to_store).into_iter();
        let storing = to_store.map(|(at, rule, storing)| async move { (at, rule, storing.await) });
        for (at, rule, stored) in join_all(storing).await {
            match stored {
                Ok(()) => self.note(rule, ActionKind::Telemetry, Ok(())),
                Err(error @ (StoreError::Rejected(_) | StoreError::Refused { .. })) => {
                    self.note(rule, ActionKind::Telemetry, Err(&error.caller_text()));
                }
                Err(error) => self.fail(at, ActionKind::Telemetry, error.caller_text()),
            }
        }
    }

    /// Something of the message at this place is to be tried again.
    fn fail(&mut self, at: usize, kind: ActionKind, why: String) {
        self.rules.actions.note(kind, ActionOutcome::Retried);
        // The first such message of the batch: what comes behind it comes again.
        if self.failed.as_ref().is_none_or(|(first, _)| at < *first) {
            self.failed = Some((at, why));
        }
    }

    /// Waits for the answers that are due.
    async fn wait(&mut self) {
        for (at, rule, topic, posted) in std::mem::take(&mut self.posted) {
            match self.publisher.answer(&posted).await {
                Ok(outcome) if outcome.is_held => {
                    let why = format!(
                        "{topic:?}: the message waits, since the queue of an integration is full"
                    );
                    self.fail(at, ActionKind::Publish, why);
                }
                Ok(outcome) if outcome.is_short => {
                    let why = format!("{topic:?}: {SHORT}");
                    self.fail(at, ActionKind::Publish, why);
                }
                Ok(outcome) if outcome.reason == ReasonCode::NotAuthorized => {
                    let why = format!("{topic:?}: rules do not permit it to publish there");
                    self.note(rule, ActionKind::Publish, Err(&why));
                }
                Ok(outcome) if outcome.reason.is_error() => {
                    let why = format!("{topic:?}: the node rejects it: {}", outcome.reason.name());
                    self.note(rule, ActionKind::Publish, Err(&why));
                }
                Ok(_) => self.note(rule, ActionKind::Publish, Ok(())),
                Err(why) => self.fail(at, ActionKind::Publish, format!("{topic:?}: {why}")),
            }
        }
    }

    /// Waits until all is done.
    ///
    /// # Errors
    /// Something of the message at this place is to be tried again; the reason in words.
    pub(super) async fn finish(mut self) -> Result<(), (usize, String)> {
        self.store_all().await;
        self.wait().await;
        // The messages are settled next: what they have changed must outlive a crash.
        if let Some(at) = self.observed
            && let Err(error) = self.rules.alarms.save_observed().await
        {
            self.fail(at, ActionKind::Alarm, error.caller_text());
        }
        match self.failed {
            None => Ok(()),
            Some(failed) => Err(failed),
        }
    }

    async fn webhook(
        &mut self,
        origin: &Origin,
        name: &str,
        is_own: bool,
        payload: Vec<u8>,
    ) -> Result<(), PostError> {
        let topic = match is_own {
            true => webhooks::topic(name),
            false => format!("{TO_WEBHOOKS}{name}/{}", self.name(origin.rule)),
        };
        let message = new_message(topic, payload, QoS::AtLeastOnce, false);
        let by = format!("{BY_RULE}{}", self.name(origin.rule));
        let control = &self.rules.control;
        let published = control.publish(&by, TenantId(origin.tenant), vec![message]);
        let published = published.await;
        let published = published.map_err(|error| PostError::Failed(error.to_string()))?;
        match published.first() {
            Some(one) if one.is_held => Err(PostError::Failed(format!(
                "the webhook {name:?}: its queue is full"
            ))),
            Some(one) if one.is_short => {
                Err(PostError::Failed(format!("the webhook {name:?}: {SHORT}")))
            }
            Some(one) if one.reason.is_error() => Err(PostError::Refused(format!(
                "the webhook {name:?}: the node rejects the message: {}",
                one.reason.name()
            ))),
            // A webhook is a lane, which is not counted among subscribers.
            Some(one) if one.matched_locally > 0 || one.other_shards > 0 => Ok(()),
            _ if is_own => Err(PostError::Refused(format!(
                "the webhook {name:?} of the rule does not run: the log shows why"
            ))),
            _ => Err(PostError::Refused(format!(
                "there is no webhook {name:?}: GET /api/v1/webhooks lists all webhooks"
            ))),
        }
    }

    async fn command(
        &mut self,
        origin: &Origin,
        device: String,
        new: NewCommand,
    ) -> Result<(), PostError> {
        let place = self.in_force.places.get(origin.rule);
        let team = place.map_or("", |place| &place.team);
        let actor = Actor {
            who: format!("rule {}", self.name(origin.rule)),
            by: "rule".to_owned(),
            address: String::new(),
            request_id: String::new(),
            visibility: Visibility::of(Some(team).filter(|team| !team.is_empty())),
        };
        let added = self.rules.commands.add(actor, DeviceName::Id(device), new);
        match added.await {
            Ok(_) => Ok(()),
            // The message has come again.
            Err(SharedRegistryError::Registry(RegistryError::Exists(_))) => Ok(()),
            Err(error) if error.is_fault() => Err(PostError::Failed(error.caller_text())),
            Err(error) => Err(PostError::Refused(error.caller_text())),
        }
    }
}

fn new_message(topic: String, payload: Vec<u8>, qos: QoS, retain: bool) -> NewMessage {
    NewMessage {
        topic: topic.into(),
        payload: payload.into(),
        qos,
        retain,
        ..NewMessage::default()
    }
}
