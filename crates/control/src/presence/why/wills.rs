//! Wills of clients that have left: published, waiting or discarded.

use martlet_broker::{RetainedQuery, TenantId, WillNotice};

use super::facts::{AbsentWill, SilenceFacts, WillBeside};
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::event_kind::EventKind;
use crate::remedy::form;
use crate::rfc3339;
use crate::why::{Asked, CLOCKS_DIFFER_MS, Finding, LEVELS_MAX};

/// Retained messages that are looked at for each level of the topic of a Will.
const RETAINED_MAX: usize = 100;

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

/// A Will that does not replace the retained message that it is likely meant to replace.
pub(super) fn beside(asked: &Asked, one: &WillBeside) -> (Bearing, Finding) {
    let (client_id, will, retained) = (&one.client_id, &one.will, &one.retained);
    let (did, does, remedy) = match one.is_published {
        true => (
            "left its Will for",
            "the Will has not replaced",
            format!(
                "have {client_id} set its Will for {retained}, with RETAIN; to delete the Will of \
                 {will} if it is retained, run"
            ),
        ),
        false => (
            "has its Will for",
            "the Will will not replace",
            format!(
                "have {client_id} set its Will for {retained}, with RETAIN, or publish its state \
                 to {will}"
            ),
        ),
    };
    let sentence = format!(
        "{client_id} {did} {will}, and {retained} has a retained message of {}: upper and lower \
         case differ, so {does} that message",
        rfc3339::in_words(one.at_ms)
    );
    let finding = Finding::new(Cause::WillRetained, sentence).since(one.at_ms);
    let bearing = match &asked.question.topic {
        Some(_) => Bearing::Topic,
        None if one.is_published => Bearing::Happened,
        None => Bearing::Remark,
    };
    (bearing, finding.remedy(remedy).command(&one.remove))
}

/// Topic Filters that match a topic with one other level, so also one with other capital letters in
/// one level.
fn with_another_level(topic: &str) -> Vec<String> {
    let levels: Vec<&str> = topic.split('/').collect();
    let named = levels.iter().enumerate().take(LEVELS_MAX);
    let named = named.filter(|(_, level)| level.chars().any(char::is_alphabetic));
    let filters = named.map(|(at, _)| {
        let mut levels = levels.clone();
        levels[at] = "+";
        levels.join("/")
    });
    filters.collect()
}

/// Both differ in upper and lower case alone.
fn differ_in_case(one: &str, other: &str) -> bool {
    one != other && one.to_lowercase() == other.to_lowercase()
}

impl Control {
    /// The Will that has nearly the topic of the retained message in question, of a client that has
    /// left; or the retained message that has nearly the topic of the Will of the client that was
    /// asked about.
    pub(super) async fn will_beside(
        &self,
        asked: &Asked,
    ) -> Result<Option<WillBeside>, ControlError> {
        let tenant = asked.question.tenant;
        let (client_id, will, is_published, filters) = match &asked.question.topic {
            Some(topic) => {
                let is_meant = |will: &str| differ_in_case(will, topic);
                let Some((client_id, will)) = self.presence.left_with_will(tenant, is_meant) else {
                    return Ok(None);
                };
                (client_id, will.into_string(), true, vec![topic.clone()])
            }
            None => {
                let client_id = asked.client_id.clone();
                let Some((will, is_published)) = self.present_will(tenant, &client_id).await?
                else {
                    return Ok(None);
                };
                let filters = with_another_level(&will);
                (client_id, will, is_published, filters)
            }
        };
        // What was retained before the client connected last is not its present state, nor is a
        // Will of its own that it has left before.
        let came_ms = self.presence.calm(tenant, &client_id);
        let came_ms = came_ms.map_or(0, |client| client.came.2);
        let before = self.presence.past_will_of(tenant, &client_id);
        let is_state = |topic: &str, at_ms: u64| {
            differ_in_case(topic, &will)
                && at_ms + CLOCKS_DIFFER_MS >= came_ms
                && before.as_deref() != Some(topic)
        };
        for filter in filters {
            let all = self.retained_at(tenant, &filter).await?;
            let mut all = all.into_iter();
            let Some((retained, at_ms)) = all.find(|(topic, at_ms)| is_state(topic, *at_ms)) else {
                continue;
            };
            let remove = self.command_of_tenant(form::RETAINED_RM, tenant, &[&will]);
            return Ok(Some(WillBeside {
                remove: remove.filter(|_| is_published),
                client_id,
                will,
                retained,
                at_ms,
                is_published,
            }));
        }
        Ok(None)
    }

    /// The Will Topic of a client, and whether the Will was published when the client left.
    async fn present_will(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<Option<(String, bool)>, ControlError> {
        Ok(match self.will_of(tenant, client_id).await? {
            Some(AbsentWill::Gone(gone)) => {
                (!gone.is_discarded).then(|| (gone.topic.into_string(), true))
            }
            Some(AbsentWill::Delayed { topic, .. }) => Some((topic, false)),
            None => {
                let session = self.client(tenant, client_id, 0).await?;
                let will = session.and_then(|session| session.will);
                let will = will.filter(|will| will.retain);
                will.map(|will| (will.topic.into_string(), false))
            }
        })
    }

    /// Topics of the first retained messages that a Topic Filter matches, and when they came.
    async fn retained_at(
        &self,
        tenant: TenantId,
        filter: &str,
    ) -> Result<Vec<(String, u64)>, ControlError> {
        let query = RetainedQuery {
            tenant,
            filter: filter.into(),
            search: None,
            after: None,
            limit: RETAINED_MAX,
            payload_bytes_max: 0,
            count: false,
        };
        let found = self.retained(&query).await?.messages.into_iter();
        Ok(found
            .map(|one| (one.topic.into_string(), one.received_wall_ms))
            .collect())
    }

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
