//! Messages of the topic that was asked about, or of topics of the client: what happens to them.
//!
//! * `arrival`: messages did not come to it though it is subscribed, or nearly so
//! * `elsewhere`: what other tenants have
//! * `near`: Topic Filters that nearly match a topic
//! * `refused`: what the rules forbid
//! * `retained`: retained messages that it did not get
//! * `silence`: no message of the topic has come to it
//! * `subscribers`: who receives a topic
//! * `well`: what it may do with the topic, where nothing is wrong

mod arrival;
mod elsewhere;
mod facts;
mod gather;
mod near;
mod refused;
mod retained;
mod silence;
mod subscribers;
mod well;

use super::asked::Asked;
use super::examine::{Examine, Findings};
use crate::control::{Control, ControlError};
use crate::integrations::Integrations;
use crate::telemetry::Telemetry;
use crate::topic_memory::TopicMemory;
pub(crate) use facts::{LEVELS_MAX, TopicFacts};
#[cfg(test)]
pub(crate) use facts::{Retained, Subscriber, TopicSilence};
pub(crate) use near::{
    is_nearly_matched, matches, near_miss, nearest_in_words, nearly_same, shared_meant,
};
pub(super) use well::comes_twice_to_several;

/// Course of messages.
pub(crate) struct Topics<'a> {
    /// Sinks that take messages for other systems.
    pub(crate) integrations: Option<&'a Integrations>,
    /// Values that devices send.
    pub(crate) telemetry: Option<&'a Telemetry>,
    /// Messages that are remembered by topic.
    pub(crate) memory: Option<&'a TopicMemory>,
}

impl Examine for Topics<'_> {
    type Facts = TopicFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<TopicFacts, ControlError> {
        let facts = gather::gathered(control, self.integrations, self.telemetry, asked).await?;
        Ok(TopicFacts {
            silence: silence::gathered(self.memory, control.uptime(), asked).await,
            ..facts
        })
    }

    fn judge(facts: &TopicFacts, asked: &Asked, findings: &mut Findings) {
        // Where anonymous clients are accepted, any name would have the rules of those.
        if !asked.is_client() {
            return;
        }
        let found = &mut findings.found;
        arrival::arrivals(asked, facts, found);
        found.extend(elsewhere::elsewhere(asked, facts));
        found.extend(retained::retained(asked, facts));
        subscribers::topic(asked, facts, found);
        subscribers::lost_of_device(asked, facts, found);
        if let Some(topic) = &asked.question.topic {
            findings.uses = Some(well::is_well(asked, facts, topic));
            let nothing_came = silence::in_words(facts);
            findings.nothing_came = findings.nothing_came.take().or(nothing_came);
        }
    }
}
