//! Limits of what any packet may have in it: topics, User Properties.

use martlet_codec::{ReasonCode, TopicName, UserProperties, is_plain, level_count};
use martlet_permission::Limit;

use crate::shard::{PacketError, Shard};

/// Units of a packet with more User Properties than are allowed.
const TOO_MANY_PROPERTIES: u64 = 8 * 1024;

impl Shard {
    pub(crate) fn check_user_properties(
        &mut self,
        properties: UserProperties<'_>,
    ) -> Result<(), PacketError> {
        let count_max = usize::from(self.settings.limits.user_properties);
        if properties.iter().take(count_max + 1).count() > count_max {
            // It may have had hundreds of thousands.
            self.work.add(TOO_MANY_PROPERTIES);
            return Err(PacketError::of(
                ReasonCode::QuotaExceeded,
                Limit::UserProperties,
            ));
        }
        Ok(())
    }

    /// The limits of a Topic Name.
    pub(crate) fn check_topic(&self, topic: &str) -> Result<(), PacketError> {
        debug_assert!(TopicName::new(topic).is_ok());
        self.check_topic_text(topic)
    }

    /// Length, levels and characters of a Topic Name or Topic Filter.
    pub(crate) fn check_topic_text(&self, topic: &str) -> Result<(), PacketError> {
        let limits = &self.settings.limits;
        let levels_max = usize::from(limits.topic_levels);
        let is_too_long = topic.len() > usize::from(limits.topic_bytes);
        // A topic has at most one level more than it has bytes.
        if is_too_long || topic.len() >= levels_max && level_count(topic) > levels_max {
            let limit = match is_too_long {
                true => Limit::TopicBytes,
                false => Limit::TopicLevels,
            };
            return Err(PacketError::of(ReasonCode::TopicNameInvalid, limit));
        }
        if self.settings.refuse_control_characters
            && !is_plain(topic)
            && martlet_codec::has_control_characters(topic)
        {
            return Err(PacketError::rule(
                ReasonCode::TopicNameInvalid,
                "control character in topic (MQTT 5 section 1.5.4)",
            ));
        }
        Ok(())
    }
}
