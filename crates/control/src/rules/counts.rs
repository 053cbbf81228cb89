//! Counts of a rule since the start of the node, and its last error.

use std::time::Duration;

use martlet_rules::{Action, HOPS_MAX, RuleResult};
use serde::Serialize;

use super::action_counts::ActionKind;
use super::on_topics::{LastOnTopic, OnTopics, TopicResult};
use crate::rfc3339;
use crate::wall_clock::now_ms;

/// Bytes of a payload in which a member was missing that is kept.
const PAYLOAD_BYTES_MAX: usize = 2_048;

/// Bytes of an error that is kept.
const ERROR_BYTES_MAX: usize = 500;

/// Counts of a rule since the start of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RuleCounts {
    /// Messages that it has looked at.
    pub messages: u64,
    /// Messages for which its condition was true.
    pub matched: u64,
    /// Messages in which a member was missing that its condition needs. It is false for these.
    pub missing: u64,
    /// Messages of no device, or of one of another type or without the tag that it looks at.
    pub other_device: u64,
    /// Messages that an earlier rule has stopped: it did not look at them.
    pub stopped: u64,
    /// The rule that has stopped the last of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<String>,
    /// Actions that were done.
    pub actions: u64,
    /// Messages and actions for which it has failed.
    pub errors: u64,
    /// Messages that it did not look at, or published nothing for, since rules have passed them on
    /// too often.
    pub loops: u64,
    /// Time that a message takes on average, µs.
    pub micros_per_message: u64,
    /// The last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was, milliseconds since the Unix epoch.
    #[serde(skip)]
    pub last_error_ms: Option<u64>,
    /// The topic of the message that it is of, unless it is of an action.
    #[serde(skip)]
    pub failed_topic: Option<String>,
    /// A later message of that topic did not fail.
    #[serde(skip)]
    pub is_over: bool,
    /// The member that was missing last.
    #[serde(skip)]
    pub missing_member: Option<MissingMember>,
    /// The kind of the action that it is of; none: of the condition or a template.
    #[serde(skip)]
    pub failed_action: Option<&'static str>,
    /// Time of the last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_error_at: Option<String>,
}

/// A member that a condition names and a message does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingMember {
    /// Name of the member.
    pub name: String,
    /// The topic of the message.
    pub topic: String,
    /// Members that its payload has.
    pub others: Vec<String>,
}

/// Result that is remembered of a message; none: the rule did not look at it.
fn result_of(verdict: &RuleResult) -> Option<TopicResult> {
    Some(match verdict {
        RuleResult::Matched(_) => TopicResult::Matched,
        RuleResult::Unmatched => TopicResult::Unmatched,
        RuleResult::OtherDevice => TopicResult::OtherDevice,
        RuleResult::Missing(name) => TopicResult::Missing(name.clone()),
        RuleResult::Withheld(_) | RuleResult::Failed(_) | RuleResult::Loop => TopicResult::Failed,
        RuleResult::Stopped(_) => return None,
    })
}

/// Counts of a rule as they are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) matched: u64,
    pub(super) missing: u64,
    pub(super) other_device: u64,
    stopped: u64,
    stopped_by: Option<String>,
    pub(super) actions: u64,
    pub(super) errors: u64,
    pub(super) loops: u64,
    pub(super) time: Duration,
    last_error: Option<(u64, String)>,
    failed_action: Option<&'static str>,
    failed_topic: Option<String>,
    is_over: bool,
    /// Name of the member that was missing last, and the topic of the message.
    missing_member: (String, String),
    /// The payload of that message; empty: it is long.
    missing_payload: Vec<u8>,
    on_topics: OnTopics,
}

impl Counts {
    /// Result of the rule for the last message of this topic; none: that is not remembered.
    pub(super) fn on_topic(&self, topic: &str) -> Option<LastOnTopic> {
        self.on_topics.of(topic).cloned()
    }

    pub(super) fn failed(&mut self, why: &str) {
        self.errors += 1;
        let mut why = why.to_owned();
        let end = (0..=ERROR_BYTES_MAX.min(why.len()))
            .rev()
            .find(|at| why.is_char_boundary(*at));
        why.truncate(end.unwrap_or_default());
        self.last_error = Some((now_ms(), why));
        self.failed_action = None;
        self.failed_topic = None;
        self.is_over = false;
    }

    /// An action of this kind has failed.
    pub(super) fn action_failed(&mut self, kind: ActionKind, why: &str) {
        self.failed(why);
        self.failed_action = Some(kind.word());
    }

    /// Counts a message that an earlier rule has stopped.
    pub(super) fn note_stopped(&mut self, earlier: &str) {
        self.stopped += 1;
        if self.stopped_by.as_deref() != Some(earlier) {
            self.stopped_by = Some(earlier.to_owned());
        }
    }

    /// Counts what the rule makes of a message on this topic in this time. Returns what follows, if
    /// anything.
    pub(super) fn note(
        &mut self,
        verdict: RuleResult,
        topic: &str,
        payload: &[u8],
        time: Duration,
    ) -> Option<Vec<Action>> {
        self.messages += 1;
        self.time += time;
        if matches!(verdict, RuleResult::Matched(_) | RuleResult::Unmatched) {
            self.is_over |= self.failed_topic.as_deref() == Some(topic);
        }
        if let Some(result) = result_of(&verdict) {
            self.on_topics.note(topic, payload, result);
        }
        match verdict {
            RuleResult::Matched(actions) => {
                self.matched += 1;
                return Some(actions);
            }
            RuleResult::Withheld(actions) => {
                self.matched += 1;
                self.loops += 1;
                self.failed(&format!(
                    "a message on {topic:?} was passed on by rules too often ({HOPS_MAX} hops): it \
                     is treated as a loop, and the rule publishes nothing for it"
                ));
                return Some(actions);
            }
            RuleResult::Unmatched | RuleResult::Stopped(_) => {}
            RuleResult::OtherDevice => self.other_device += 1,
            RuleResult::Missing(name) => self.note_missing(name, topic, payload),
            RuleResult::Failed(why) => {
                self.failed(&why);
                self.failed_topic = Some(topic.to_owned());
            }
            RuleResult::Loop => {
                self.loops += 1;
                self.failed(&format!(
                    "a message on {topic:?} was passed on by rules too often ({HOPS_MAX} hops): it \
                     is treated as a loop and ignored"
                ));
            }
        }
        None
    }

    fn note_missing(&mut self, name: String, topic: &str, payload: &[u8]) {
        self.missing += 1;
        let (of_name, of_topic) = &mut self.missing_member;
        *of_name = name;
        if of_topic != topic {
            topic.clone_into(of_topic);
        }
        self.missing_payload.clear();
        if payload.len() <= PAYLOAD_BYTES_MAX {
            self.missing_payload.extend_from_slice(payload);
        }
    }

    /// Member that was missing last; none: nothing was.
    fn missing_member(&self) -> Option<MissingMember> {
        let (name, topic) = &self.missing_member;
        let payload = serde_json::from_slice(&self.missing_payload);
        let others = match payload {
            Ok(serde_json::Value::Object(members)) => {
                members.into_iter().map(|one| one.0).collect()
            }
            _ => Vec::new(),
        };
        (self.missing > 0).then(|| MissingMember {
            name: name.clone(),
            topic: topic.clone(),
            others,
        })
    }

    pub(super) fn seen(&self) -> RuleCounts {
        let micros = self.time.as_micros() as u64;
        RuleCounts {
            messages: self.messages,
            matched: self.matched,
            missing: self.missing,
            other_device: self.other_device,
            stopped: self.stopped,
            stopped_by: self.stopped_by.clone(),
            actions: self.actions,
            errors: self.errors,
            loops: self.loops,
            micros_per_message: micros.checked_div(self.messages).unwrap_or(0),
            last_error: self.last_error.as_ref().map(|(_, why)| why.clone()),
            last_error_ms: self.last_error.as_ref().map(|(at_ms, _)| *at_ms),
            failed_topic: self.failed_topic.clone(),
            is_over: self.is_over,
            missing_member: self.missing_member(),
            failed_action: self.failed_action,
            last_error_at: self
                .last_error
                .as_ref()
                .map(|(at, _)| rfc3339::in_answers(*at)),
        }
    }
}
