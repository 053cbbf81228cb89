//! Wills of clients that have left: published, waiting or discarded.

use martlet_broker::{EventKind, TenantId, WillNotice};

use super::facts::{AbsentWill, SilenceFacts};
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::rfc3339;
use crate::why::{Asked, Finding};

/// How a client ends its connection so that its Will is published.
const WITHOUT_DISCONNECT: &str = "end its connection without DISCONNECT, or send DISCONNECT with \
                                  reason code 0x04 (MQTT 5)";

/// Adds to a finding about the end of a connection whether the Will of the client was published.
pub(crate) fn with_will(asked: &Asked, will: &Option<AbsentWill>, mut finding: Finding) -> Finding {
    let Some(will) = will else {
        return finding;
    };
    let topic = will.topic();
    let text = match will {
        AbsentWill::Delayed { due_ms, .. } => {
            format!("; its Will for {topic} {}", delayed(*due_ms))
        }
        AbsentWill::Gone(gone) if gone.is_discarded => {
            finding.remedy.get_or_insert_with(|| {
                format!("if its Will should be published, have the client {WITHOUT_DISCONNECT}")
            });
            format!("; its Will for {topic} was not published: that DISCONNECT discards it")
        }
        // That it was refused is reported as a publish of its own.
        AbsentWill::Gone(_)
            if asked.runs.iter().any(|run| {
                run.last.what == EventKind::PublishRefused
                    && run.last.topic.as_deref() == Some(topic)
            }) =>
        {
            return finding;
        }
        AbsentWill::Gone(_) => format!("; its Will was published to {topic}"),
    };
    finding.sentence.push_str(&text);
    finding
}

fn delayed(due_ms: Option<u64>) -> String {
    let until = "unless it connects before that";
    match due_ms {
        Some(due_ms) => {
            let at = rfc3339::in_words(due_ms);
            format!("is published on {at}, after its Will Delay Interval, {until}")
        }
        None => format!("is published after its Will Delay Interval, {until}"),
    }
}

/// Wills of other clients that go to the topic that was asked about, and were not published.
pub(super) fn of_others(facts: &SilenceFacts) -> impl Iterator<Item = (Bearing, Finding)> {
    facts.named.iter().filter_map(|one| {
        let (client_id, (will, since_ms)) = (&one.client_id, one.will.as_ref()?);
        let topic = will.topic();
        let (sentence, remedy) = match will {
            AbsentWill::Delayed { due_ms, .. } => (
                format!(
                    "{client_id} is not connected, and its Will for {topic} {}",
                    delayed(*due_ms)
                ),
                "wait, or have that client connect with a shorter Will Delay Interval".to_owned(),
            ),
            AbsentWill::Gone(WillNotice { is_discarded, .. }) if *is_discarded => (
                format!(
                    "{client_id} has disconnected, and its Will for {topic} was not published: it \
                     sent DISCONNECT, which discards the Will"
                ),
                format!("if the Will should be published, have that client {WITHOUT_DISCONNECT}"),
            ),
            AbsentWill::Gone(_) => return None,
        };
        let finding = Finding::new(Cause::WillNotSent, sentence).since(*since_ms);
        Some((Bearing::Topic, finding.remedy(remedy)))
    })
}

impl Control {
    /// The Will of a client that is not connected: it waits, was published or was discarded.
    pub(crate) async fn will_of(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<Option<AbsentWill>, ControlError> {
        let session = self.client(tenant, client_id, 0).await?;
        if let Some(session) = session {
            if session.info.connected {
                return Ok(None);
            }
            if let Some(will) = session.will {
                let delay_secs = will.delay_secs.min(session.info.session_expiry_secs);
                let delay_ms = u64::from(delay_secs) * 1_000;
                return Ok(Some(AbsentWill::Delayed {
                    topic: will.topic.to_string(),
                    due_ms: session.left_ms.map(|left_ms| left_ms + delay_ms),
                }));
            }
        }
        Ok(self
            .presence
            .will_of(tenant, client_id)
            .map(AbsentWill::Gone))
    }
}
