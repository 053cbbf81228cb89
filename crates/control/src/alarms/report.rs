//! Reports of changes of alarms: to subscribers of the topic of alerts, and to readers of events.
//! Other systems get them by integrations that take that topic, with their queues and retries.

use martlet_broker::{AlarmNotice, Event, EventHead, EventNotice, NewMessage, TenantId};
use martlet_codec::{QoS, ReasonCode};
use martlet_rules::{Alarm, AlarmChange, ChangeKind, hops_after};
use serde_json::{Value, json};
use tracing::warn;

use super::{Alarms, lock};
use crate::rfc3339;
use crate::rules::publish::{PostError, Publisher};
use crate::wall_clock::unsigned;

/// Client Identifier of the parts that publish alerts.
const PART: &str = "$alarms";
/// Path of their topic below `iotflow.base`. The warnings of health have a topic of their own.
const ALARMS: &str = "system/alarms";
/// Names of what health reports.
const UNPUBLISHED: &str = "alarms_unpublished";
const UNRETAINED: &str = "alarms_unretained";

impl Alarms {
    /// Publishes the changes of alarms, and reports them to readers of events.
    pub(super) async fn publish_changes(&self, publisher: &mut Publisher) {
        loop {
            let next = lock(&self.unreported).pop_front();
            let Some(change) = next else { return };
            self.notify_readers(&change);
            match self.publish(publisher, &change).await {
                Ok(()) => {
                    self.notifications.published();
                    self.control.health.withdraw(UNPUBLISHED);
                }
                Err(why) => self.unpublished_change(&change, &why),
            }
        }
    }

    fn unpublished_change(&self, change: &AlarmChange, why: &str) {
        let key = &change.alarm.key;
        self.notifications
            .failed(TenantId(key.tenant), &key.name, why);
        let alarm = &*key.name;
        warn!(
            alarm,
            why, "could not publish an alarm; GET /api/v1/alarms has it"
        );
        self.control.health.warn_as(
            UNPUBLISHED,
            format!("the alarm {alarm} could not be published: {why}; martlet alarm ls shows it"),
        );
    }

    fn notify_readers(&self, change: &AlarmChange) {
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
            ChangeKind::Raised => Event::AlarmRaised(Box::new(notice)),
            _ => Event::AlarmChanged(Box::new(notice)),
        };
        let head = EventHead::new(TenantId(alarm.key.tenant), alarm.key.subject.as_str());
        self.control.report_event(EventNotice::new(head, event));
    }

    /// The topic of messages about alarms.
    pub(crate) fn topic(&self) -> String {
        self.settings.catalogue.topic(ALARMS)
    }

    async fn publish(&self, publisher: &mut Publisher, change: &AlarmChange) -> Result<(), String> {
        let mut message = NewMessage {
            topic: self.topic().into(),
            payload: payload(&self.settings.node, change)
                .to_string()
                .into_bytes()
                .into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            payload_is_utf8: Some(true),
            content_type: Some("application/json".into()),
            hops: hops_after(change.hops, 1),
            ..NewMessage::default()
        };
        let tenant = TenantId(change.alarm.key.tenant);
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
        posted.map_err(|error| error.to_string())?;
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
        let posted = publisher.post((tenant, PART), None, message).await;
        let posted = posted.map_err(|error| match error {
            PostError::Refused(why) | PostError::Failed(why) => Unpublished::NotPosted(why),
        })?;
        let outcome = publisher.answer(&posted).await;
        let outcome = outcome.map_err(Unpublished::NotPosted)?;
        match outcome.reason.is_error() || outcome.is_held {
            true => Err(Unpublished::Rejected(outcome.reason)),
            false => Ok(()),
        }
    }
}

/// Why a change is not published.
#[derive(Debug, thiserror::Error)]
enum Unpublished {
    /// The node did not take it, or did not answer; the reason in words.
    #[error("{0}")]
    NotPosted(String),
    /// The node rejects it.
    #[error("the node rejects it: {}", .0.name())]
    Rejected(ReasonCode),
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
