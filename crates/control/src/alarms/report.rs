//! Reports of changes of alarms: to subscribers of the topic of alerts, and to readers of events.
//! Other systems get them by integrations that take that topic, with their queues and retries.

use martlet_broker::{AlarmNotice, Event, EventHead, EventNotice, NewMessage, TenantId};
use martlet_codec::QoS;
use martlet_rules::{Alarm, AlarmChange, ChangeKind, hops_after};
use serde_json::{Value, json};
use tracing::warn;

use super::{Alarms, lock};
use crate::rfc3339;
use crate::rules::publish::{PostError, Publisher};
use crate::wall_clock::unsigned;

/// Client Identifier of the parts that publish alerts.
const PART: &str = "$alarms";
/// Name of the topic in the catalogue.
const ALERTS: &str = "system_alerts";

impl Alarms {
    /// Publishes the changes of alarms, and reports them to readers of events.
    pub(super) async fn publish_changes(&self, publisher: &mut Publisher) {
        loop {
            let next = lock(&self.unreported).pop_front();
            let Some(change) = next else { return };
            self.notify_readers(&change);
            match self.publish(publisher, &change).await {
                Ok(()) => self.notifications.published(),
                Err(why) => {
                    self.notifications.failed();
                    let alarm = &*change.alarm.key.name;
                    warn!(
                        alarm,
                        why, "could not publish an alarm; GET /api/v1/alarms has it"
                    );
                }
            }
        }
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
        let catalogue = &self.settings.catalogue;
        let path = catalogue
            .entry(ALERTS)
            .map_or("system/alerts", |entry| entry.path);
        catalogue.topic(path)
    }

    async fn publish(&self, publisher: &mut Publisher, change: &AlarmChange) -> Result<(), String> {
        let catalogue = &self.settings.catalogue;
        let entry = catalogue.entry(ALERTS);
        let path = entry.map_or("system/alerts", |entry| entry.path);
        let message = NewMessage {
            topic: catalogue.topic(path).into(),
            payload: payload(&self.settings.node, change)
                .to_string()
                .into_bytes()
                .into(),
            qos: entry.map_or(QoS::AtLeastOnce, |entry| entry.qos),
            retain: entry.is_none_or(|entry| entry.retain),
            payload_is_utf8: Some(true),
            content_type: Some("application/json".into()),
            hops: hops_after(change.hops, 1),
            ..NewMessage::default()
        };
        let by = (TenantId(change.alarm.key.tenant), PART);
        let posted = publisher.post(by, None, message);
        let posted = posted.await.map_err(|error| match error {
            PostError::Refused(why) | PostError::Failed(why) => why,
        })?;
        let outcome = publisher.answer(&posted).await?;
        match outcome.reason.is_error() || outcome.is_held {
            true => Err(format!("the node rejects it: {}", outcome.reason.name())),
            false => Ok(()),
        }
    }
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
