//! Messages that wait for an integration.

use martlet_broker::lane_name;
use martlet_codec::{TopicFilter, TopicName};
use martlet_integrate::CLIENT_IDS;

use super::facts::{Facts, Integration, NotDelivering};
use super::judge::{Found, Weight};
use super::{Finding, Question};
use crate::cause::Cause;
use crate::control::Control;
use crate::integrations::{Activity, part_of, queue_trouble};
use crate::text::typed;

/// It was asked about an integration.
pub(super) fn is_one(facts: &Facts) -> bool {
    facts.integrations.iter().any(|one| one.is_own)
}

/// What there is to find of integrations.
pub(super) fn integrations(facts: &Facts, found: &mut Found) {
    for one in &facts.integrations {
        let weight = match (one.is_own, one.has_messages) {
            (true, _) => Weight::Topic,
            // It is asked where messages of the topic are.
            (false, true) if one.takes_topic => Weight::Topic,
            (false, true) if facts.question.topic.is_none() => Weight::Trouble,
            (false, true) => Weight::Aside,
            // Its publishers wait.
            (false, false) if one.takes_topic && one.holds => Weight::Topic,
            (false, false) if one.takes_topic => Weight::Aside,
            (false, false) if one.holds && facts.question.topic.is_none() => Weight::Aside,
            (false, false) => continue,
        };
        found.extend(finding(one).map(|finding| (weight, finding)));
        found.extend(letters_finding(one).map(|finding| (Weight::Trouble, finding)));
        found.extend(queue_finding(one).map(|finding| (weight, finding)));
    }
}

/// An integration that was asked about and delivers, in words.
pub(super) fn is_well(facts: &Facts) -> Option<Finding> {
    let one = facts.integrations.iter().find(|one| one.is_own)?;
    let (name, delivered) = (&one.name, one.delivered);
    let waiting = match one.waiting {
        None | Some(0) => "none waits".to_owned(),
        Some(1) => "1 waits".to_owned(),
        Some(count) => format!("{count} wait"),
    };
    let sentence =
        format!("the integration {name} delivers: {delivered} messages since the start, {waiting}");
    Some(Finding::new(Cause::NothingWrong, sentence))
}

/// The target has refused messages.
fn letters_finding(one: &Integration) -> Option<Finding> {
    let name = &one.name;
    let sentence = match one.dead_letters {
        0 => return None,
        1 => format!("the target of the integration {name} refused 1 message: it is a dead letter"),
        count => {
            format!(
                "the target of the integration {name} refused {count} messages: they are dead letters"
            )
        }
    };
    let mut finding = Finding::new(Cause::IntegrationFailing, sentence)
        .of_many(one.dead_letters)
        .mend("look at their reasons, correct the target, and send them again or drop them");
    finding.command = Some(one.letters_command.clone());
    Some(finding)
}

/// The queue is full, or near its bound.
fn queue_finding(one: &Integration) -> Option<Finding> {
    let (name, queue) = (&one.name, one.queue.as_ref()?);
    let sentence = format!("the integration {name} falls behind: {queue}");
    let mut finding = Finding::new(Cause::IntegrationFailing, sentence)
        .mend("repair the target, or raise `max_bytes` of the integration and restart the node");
    finding.command = Some(one.command.clone());
    Some(finding)
}

fn finding(one: &Integration) -> Option<Finding> {
    let name = &one.name;
    let what = match (one.is_own, one.has_messages, one.waiting) {
        (true, _, Some(0)) => format!("messages will wait for the integration {name}"),
        (true, _, Some(1)) => format!("1 message waits for the integration {name}"),
        (true, _, Some(count)) => format!("{count} messages wait for the integration {name}"),
        (true, _, None) => format!("the messages wait for the integration {name}"),
        (false, true, _) => format!("its messages wait for the integration {name}"),
        (false, false, _) => {
            format!("messages of that topic wait for the integration {name}")
        }
    };
    Some(match one.why.as_ref()? {
        NotDelivering::Failing {
            error,
            since_ms,
            attempts,
            command,
        } => {
            let sentence = format!("{what}: {error}");
            let mut finding = Finding::new(Cause::IntegrationFailing, sentence)
                .since(*since_ms)
                .of_many(u64::from(*attempts))
                .mend("repair the target, and they are delivered; this tests whether it answers");
            finding.command = Some(command.clone());
            finding
        }
        NotDelivering::Stopped { why, command } => {
            let sentence = format!("{what}, which has stopped: {why}");
            let mut finding = Finding::new(Cause::IntegrationFailing, sentence)
                .mend("correct the message or the target, then resume the integration");
            finding.command = Some(command.clone());
            finding
        }
        NotDelivering::Paused { command } => {
            let sentence = format!("{what}, which is paused");
            let mut finding =
                Finding::new(Cause::IntegrationPaused, sentence).mend("resume the integration");
            finding.command = Some(command.clone());
            finding
        }
        NotDelivering::Starting => {
            let sentence = format!("{what}, which is starting");
            Finding::new(Cause::IntegrationFailing, sentence)
        }
    })
}

impl Control {
    /// The question about an integration that is named by kind and name, `file/audit`, or by the
    /// Client Identifier of its part, as one about its first session.
    pub(super) fn integration_meant(&self, question: &Question) -> Option<Question> {
        let name = question.name.strip_prefix(CLIENT_IDS);
        let (kind, name) = name.unwrap_or(&question.name).split_once('/')?;
        let handle = self.integrations()?.get(kind, name)?;
        let takes_all = self.integrations()?.takes_all_tenants(kind, name);
        let is_there = match takes_all {
            true => question.sees_node,
            false => handle.state().tenant == Some(question.tenant),
        };
        is_there.then(|| Question {
            name: lane_name(handle.client_id(), 0),
            ..question.clone()
        })
    }

    /// Integrations of the tenant that do not deliver, and that which was asked about.
    pub(super) fn integrations_of(&self, question: &Question, client_id: &str) -> Vec<Integration> {
        let Some(all) = self.integrations() else {
            return Vec::new();
        };
        let topic = question.topic.as_deref();
        let topic = topic.and_then(|topic| TopicName::new(topic).ok());
        let mut found = Vec::new();
        for (handle, state, filters) in all.with_filters() {
            let is_seen = match all.takes_all_tenants(handle.kind(), handle.name()) {
                true => question.sees_node,
                false => state.tenant == Some(question.tenant),
            };
            if !is_seen {
                continue;
            }
            let name = format!("{}/{}", handle.kind(), handle.name());
            let command = |action: &str| self.integration_command(action, &name);
            let why = match (&state.stopped_because, &state.failure) {
                (Some(why), _) => Some(NotDelivering::Stopped {
                    why: why.clone(),
                    command: command("resume"),
                }),
                _ if state.activity == Activity::Paused => Some(NotDelivering::Paused {
                    command: command("resume"),
                }),
                (None, Some(failure)) => Some(NotDelivering::Failing {
                    error: failure.error.clone(),
                    since_ms: failure.since_ms,
                    attempts: failure.attempts,
                    command: command("test"),
                }),
                (None, None) if state.activity == Activity::Starting => {
                    Some(NotDelivering::Starting)
                }
                (None, None) => None,
            };
            let is_own = handle.client_id() == part_of(client_id);
            let queue = state.queue.as_ref();
            let holds = queue.is_some_and(|queue| queue.holds);
            let queue = queue.and_then(|queue| queue_trouble(queue, handle.on_full()));
            if !is_own && why.is_none() && queue.is_none() {
                continue;
            }
            let takes = |filter: &str, topic: TopicName<'_>| {
                TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic))
            };
            found.push(Integration {
                takes_topic: topic
                    .is_some_and(|topic| filters.iter().any(|filter| takes(filter, topic))),
                has_messages: state.clients_waiting.iter().any(|one| one == client_id),
                waiting: state.lag,
                command: command("test"),
                dead_letters: 0,
                letters_command: command("dead-letter ls"),
                delivered: state.counts.delivered,
                holds,
                queue,
                name,
                is_own,
                why,
            });
        }
        found
    }

    /// Counts the dead letters of the integration that was asked about.
    pub(super) async fn count_letters(&self, found: &mut [Integration]) {
        let (Some(all), Some(own)) = (self.integrations(), found.iter_mut().find(|one| one.is_own))
        else {
            return;
        };
        own.dead_letters = all.letters_stored_of(&own.name).await.unwrap_or(0);
    }

    fn integration_command(&self, action: &str, name: &str) -> String {
        let options = match &*self.info.command_options {
            "" => String::new(),
            options => format!("{options} "),
        };
        format!("martlet integration {action} {options}{}", typed(name))
    }
}
