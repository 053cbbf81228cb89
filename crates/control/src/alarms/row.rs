//! An alarm as the tables have it.

use martlet_registry::AlarmRow;
use martlet_rules::{Alarm, AlarmKey, AlarmState, Severity};

/// The row of an alarm of a node.
pub(super) fn of_alarm(node: &str, alarm: &Alarm) -> AlarmRow {
    AlarmRow {
        node: node.to_owned(),
        id: alarm.id,
        tenant: alarm.key.tenant,
        name: alarm.key.name.clone(),
        subject: alarm.key.subject.clone(),
        device: alarm.device.clone().unwrap_or_default(),
        severity: alarm.severity.word().to_owned(),
        state: alarm.state.word().to_owned(),
        message: alarm.message.clone(),
        value: alarm.value,
        raised_ms: alarm.raised_ms,
        changed_ms: alarm.changed_ms,
        changed_by: alarm.changed_by.clone(),
        shelved_until_ms: alarm.shelved_until_ms.unwrap_or(0),
        was_acknowledged: alarm.was_acknowledged,
        cleared_ms: match alarm.state {
            AlarmState::Cleared => alarm.changed_ms,
            _ => 0,
        },
    }
}

/// The alarm of a row. None if this version does not know a word in it.
pub(super) fn to_alarm(row: &AlarmRow) -> Option<Alarm> {
    Some(Alarm {
        id: row.id,
        key: AlarmKey {
            tenant: row.tenant,
            name: row.name.clone(),
            subject: row.subject.clone(),
        },
        device: Some(row.device.clone()).filter(|id| !id.is_empty()),
        severity: Severity::from_word(&row.severity)?,
        state: AlarmState::from_word(&row.state)?,
        message: row.message.clone(),
        value: row.value,
        raised_ms: row.raised_ms,
        changed_ms: row.changed_ms,
        changed_by: row.changed_by.clone(),
        shelved_until_ms: Some(row.shelved_until_ms).filter(|until| *until > 0),
        was_acknowledged: row.was_acknowledged,
    })
}
