//! Reports of changes of alarms: to subscribers of the topic of alerts, and to readers of events.
//! Other systems get them by integrations that take that topic, with their queues and retries.

use std::collections::HashSet;

use martlet_broker::{EVENTS, EventHead, NewMessage, Published, TenantId};
use martlet_codec::{QoS, ReasonCode};
use martlet_integrate::is_for_good;
use martlet_registry::OutboxRow;
use martlet_rules::{Alarm, AlarmChange, ChangeKind, hops_after};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::{Alarms, lock};
use crate::event::{AlarmNotice, NodeEvent, NodeNotice};
use crate::rfc3339;
use crate::rules::publish::{PostError, Publisher};
use crate::shared_registry::SharedRegistryError;
use crate::wall_clock::unsigned;

/// Client Identifier of the parts that publish alerts.
const PART: &str = "$alarms";
/// The publisher of events.
const PUBLISHER: &str = "$events";
/// Path of their topic below `iotflow.base`. The warnings of health have a topic of their own.
const ALARMS: &str = "system/alarms";
/// Names of what health reports.
const UNPUBLISHED: &str = "alarms_unpublished";
const UNRETAINED: &str = "alarms_unretained";

impl Alarms {
    /// Publishes the messages about changes of alarms that are written; all if the tables cannot be
    /// written: nobody shall wait for them.
    pub(super) async fn publish_changes(&self, publisher: &mut Publisher, are_written: bool) {
        loop {
            let read = match are_written {
                true => self.read_outbox().await,
                false => Ok(()),
            };
            if let Err(error) = read {
                // Those of the tables may be older than what waits.
                return warn!(%error, "cannot read messages about alarms; retrying");
            }
            let due = lock(&self.pending).take_waiting(!are_written);
            let is_last = due.is_empty();
            let left = self.publish_all(publisher, due).await;
            let is_stuck = !left.is_empty();
            lock(&self.pending).put_back(left);
            let removed = match are_written {
                true => self.remove_sent().await,
                false => Ok(()),
            };
            if let Err(error) = removed {
                return warn!(%error, "cannot remove messages about alarms; retrying");
            }
            if is_last || is_stuck {
                return;
            }
        }
    }

    /// Publishes messages in order. Returns those that are to be tried again: the first of a tenant
    /// that fails, and all of that tenant after it.
    async fn publish_all(&self, publisher: &mut Publisher, due: Vec<OutboxRow>) -> Vec<OutboxRow> {
        let (mut left, mut stuck) = (Vec::new(), HashSet::new());
        for row in due {
            if stuck.contains(&row.tenant) {
                left.push(row);
                continue;
            }
            match self.publish(publisher, &row).await {
                Ok(()) => {
                    if !is_event(&row) {
                        self.notifications.published();
                    }
                    self.control.health.withdraw(UNPUBLISHED);
                    lock(&self.pending).done(row.number);
                }
                Err(why) => {
                    self.unpublished_change(&row, &why.to_string());
                    match why {
                        Unpublished::ForGood(_) => lock(&self.pending).done(row.number),
                        Unpublished::NotPosted(_) | Unpublished::Rejected(_) => {
                            stuck.insert(row.tenant);
                            left.push(row);
                        }
                    }
                }
            }
        }
        left
    }

    /// Reads messages of earlier runs, and those that did not fit into memory.
    async fn read_outbox(&self) -> Result<(), SharedRegistryError> {
        let Some(limit) = lock(&self.pending).to_read() else {
            return Ok(());
        };
        let node = self.settings.node.clone();
        let read = self
            .tables
            .read(move |registry| Box::pin(async move { registry.outbox(&node, limit).await }));
        let rows = read.await?;
        lock(&self.pending).read(rows, limit);
        Ok(())
    }

    /// Removes the messages that were published.
    async fn remove_sent(&self) -> Result<(), SharedRegistryError> {
        let sent = lock(&self.pending).take_sent();
        if sent.is_empty() {
            return Ok(());
        }
        let (node, numbers) = (self.settings.node.clone(), sent.clone());
        let removed = self.tables.note(move |registry| {
            Box::pin(async move { registry.remove_from_outbox(&node, &numbers).await })
        });
        let removed = removed.await;
        if removed.is_err() {
            lock(&self.pending).not_removed(sent);
        }
        removed
    }

    fn unpublished_change(&self, row: &OutboxRow, why: &str) {
        if is_event(row) {
            let event = &*row.subject;
            return debug!(event, why, "could not publish an event");
        }
        let alarm = &*row.subject;
        if !self.notifications.failed(TenantId(row.tenant), alarm, why) {
            return;
        }
        warn!(
            alarm,
            why, "could not publish an alarm; martlet alarm ls shows it"
        );
        self.control.health.warn_logged_as(
            UNPUBLISHED,
            format!("the alarm {alarm} could not be published: {why}; martlet alarm ls shows it"),
        );
    }

    pub(super) fn notify_readers(&self, change: &AlarmChange) {
        self.control.report_event(event(change));
    }

    /// The topic of messages about alarms.
    pub(crate) fn topic(&self) -> String {
        self.settings.catalogue.topic(ALARMS)
    }

    /// The messages about a change: the alert, and the event, if such events are published.
    pub(super) fn messages(&self, change: &AlarmChange) -> Vec<OutboxRow> {
        let event = self.outbox.message(event(change));
        std::iter::once(self.alert(change)).chain(event).collect()
    }

    fn alert(&self, change: &AlarmChange) -> OutboxRow {
        OutboxRow {
            node: self.settings.node.clone(),
            number: self.outbox.next_number(),
            tenant: change.alarm.key.tenant,
            subject: change.alarm.key.name.clone(),
            topic: self.topic(),
            payload: payload(&self.settings.node, change).to_string(),
            hops: hops_after(change.hops, 1),
        }
    }

    async fn publish(&self, publisher: &mut Publisher, row: &OutboxRow) -> Result<(), Unpublished> {
        let mut message = NewMessage {
            topic: row.topic.as_str().into(),
            payload: row.payload.as_bytes().into(),
            qos: QoS::AtLeastOnce,
            retain: !is_event(row),
            payload_is_utf8: Some(true),
            content_type: Some("application/json".into()),
            hops: row.hops,
            ..NewMessage::default()
        };
        let tenant = TenantId(row.tenant);
        if is_event(row) {
            // Parts may not publish there.
            let published = self.control.publish(PUBLISHER, tenant, vec![message]).await;
            let outcomes = published.map_err(|error| Unpublished::NotPosted(error.to_string()))?;
            return outcomes.first().map_or(Ok(()), judge);
        }
        let mut posted = self.post(publisher, tenant, message.clone()).await;
        // An alarm reaches its subscribers though no more retained messages are permitted.
        let is_full = matches!(
            posted,
            Err(Unpublished::Rejected(ReasonCode::QuotaExceeded))
        ) && message.retain;
        if is_full {
            message.retain = false;
            posted = self.post(publisher, tenant, message).await;
        }
        posted?;
        match is_full {
            false => self.control.health.withdraw(UNRETAINED),
            true => self.control.health.warn_as(
                UNRETAINED,
                "the last alarm was published without the Retain flag: limits.retained_messages, \
                 limits.retained_bytes or limits.memory_bytes is reached"
                    .to_owned(),
            ),
        }
        Ok(())
    }

    async fn post(
        &self,
        publisher: &mut Publisher,
        tenant: TenantId,
        message: NewMessage,
    ) -> Result<(), Unpublished> {
        let posted = publisher.post(tenant, PART, None, message).await;
        let posted = posted.map_err(|error| match error {
            PostError::Refused(why) | PostError::Failed(why) => Unpublished::NotPosted(why),
        })?;
        let outcome = publisher.answer(&posted).await;
        judge(&outcome.map_err(Unpublished::NotPosted)?)
    }
}

/// Whether a message is published.
fn judge(outcome: &Published) -> Result<(), Unpublished> {
    match outcome.reason.is_error() || outcome.is_held {
        false => Ok(()),
        // It has been passed on too often.
        true if outcome.reason == ReasonCode::ImplementationSpecificError
            || is_for_good(outcome.reason) =>
        {
            Err(Unpublished::ForGood(outcome.reason))
        }
        true => Err(Unpublished::Rejected(outcome.reason)),
    }
}

/// Why a change is not published.
#[derive(Debug, thiserror::Error)]
enum Unpublished {
    /// The node did not take it, or did not answer; the reason in words.
    #[error("{0}")]
    NotPosted(String),
    /// The node rejects it now.
    #[error("the node rejects it: {}", .0.name())]
    Rejected(ReasonCode),
    /// The node rejects it, and would do so again.
    #[error("the node rejects it: {}", .0.name())]
    ForGood(ReasonCode),
}

/// Whether it is an event on a topic of its own, not an alert.
fn is_event(row: &OutboxRow) -> bool {
    row.topic.starts_with(EVENTS)
}

/// The event about a change.
fn event(change: &AlarmChange) -> NodeNotice {
    let alarm = &change.alarm;
    let notice = AlarmNotice {
        id: alarm.id,
        name: alarm.key.name.as_str().into(),
        severity: alarm.severity.word(),
        state: alarm.state.word(),
        message: alarm.message.as_str().into(),
        hops: hops_after(change.hops, 1),
    };
    let event = match change.kind {
        ChangeKind::Raised => NodeEvent::AlarmRaised(Box::new(notice)),
        _ => NodeEvent::AlarmChanged(Box::new(notice)),
    };
    let head = EventHead::new(TenantId(alarm.key.tenant), alarm.key.subject.as_str());
    NodeNotice::new(head, event)
}

/// A change as a message.
fn payload(node: &str, change: &AlarmChange) -> Value {
    let alarm: &Alarm = &change.alarm;
    let time = |ms: i64| rfc3339::text(unsigned(ms));
    json!({
        "id": alarm.id.to_string(),
        "change": change.kind.word(),
        "state": alarm.state.word(),
        "name": alarm.key.name,
        "severity": alarm.severity.word(),
        "message": alarm.message,
        "device": alarm.device,
        "subject": alarm.key.subject,
        "value": alarm.value,
        "raised_at": time(alarm.raised_ms),
        "changed_at": time(alarm.changed_ms),
        "changed_by": Some(&alarm.changed_by).filter(|by| !by.is_empty()),
        "shelved_until": alarm.shelved_until_ms.map(time),
        "node": node,
    })
}
