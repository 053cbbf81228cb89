//! Integrations that do not deliver, that lose messages, or that do not exist.

mod facts;
mod judge;
#[cfg(test)]
mod tests;
mod twice;

use std::sync::Arc;

use martlet_broker::{DropReason, LossTimes, SubscriptionQuery};
use martlet_codec::{TopicFilter, TopicName};
use martlet_integrate::{CLIENT_IDS, Handle, KINDS, SecretTrouble};

use super::{Activity, Examined, Integrations, part_of, queue_trouble};
use crate::control::{Control, ControlError};
use crate::remedy::form;
use crate::rules::publish::BY_RULE;

use crate::why::{Asked, Examine, Finding, Findings, Question, is_nearly_matched};
use facts::{
    Halt, InsteadOfMissing, Integration, IntegrationFacts, Lines, NotDelivering, OwnLetters,
    name_of,
};

/// Remedy if the target fails. The command tests it.
const REPAIR_TARGET: &str = "correct what the error names, at the target or in the settings \
                             of the integration: it tries again by itself; to test whether it \
                             reaches its target, run";

/// Remedy if the target fails, where messages that wait for too long are dropped.
const REPAIR_TARGET_IN_TIME: &str = "correct what the error names, at the target or in the \
                                     settings of the integration: messages that are not too old \
                                     by then are delivered; or raise its max_age_secs; to test \
                                     whether it reaches its target, run";

/// Kinds of integrations that are not configured or added by operators. They are not listed as
/// examples.
const OF_THE_NODE: [&str; 3] = ["log", "rules", "telemetry"];

impl Examine for Integrations {
    type Facts = IntegrationFacts;

    async fn gather(
        &self,
        control: &Control,
        asked: &Asked,
    ) -> Result<IntegrationFacts, ControlError> {
        let topic = asked.question.topic.as_deref();
        let name = topic.and_then(|topic| TopicName::new(topic).ok());
        let mut examined = self.examined();
        examined.retain(|one| self.is_seen(one, &asked.question));
        let mut facts = IntegrationFacts {
            twice: twice::found(control, asked, &examined),
            ..IntegrationFacts::default()
        };
        for examined in &examined {
            let mut one = control.integration(examined, asked, name);
            if one.takes_topic && asked.publishes_there() {
                one.drops = self.dropped(control, examined).await;
            }
            let is_near = |topic: &str| is_nearly_matched(&one.filters, topic);
            let is_slow = one
                .oldest_ms
                .is_some_and(|ms| judge::is_slow(asked.now_ms, ms));
            let brings = topic.is_some_and(|topic| {
                let mut all = one.brings.iter();
                one.brought == 0 && all.any(|topics| topics.there(topic).is_some())
            });
            let is_told = one.is_own || is_slow || brings || one.refused > 0;
            if is_told
                || one.why.is_some()
                || one.queue.is_some()
                || !one.drops.is_empty()
                || topic.is_some_and(is_near)
                || asked.published_in_vain().any(|one| is_near(&one.topic))
            {
                if one.is_own || one.refused > 0 {
                    (one.dead_letters, one.letter_reason) = self.letters_of(&one.name).await;
                }
                if !one.is_own && one.dead_letters > 0 && topic.is_none() {
                    one.own_letters = self.own_letters(&one.name, asked).await;
                }
                facts.all.push(one);
            }
        }
        if facts.all.iter().any(|one| one.is_own) && asked.topic_name().is_some() {
            let query = SubscriptionQuery {
                tenant: Some(asked.question.tenant),
                topic: topic.map(Into::into),
                without: &["$"],
                limit: 1,
                ..SubscriptionQuery::default()
            };
            let found = control.subscriptions(&query).await;
            facts.is_awaited = found.is_ok_and(|page| !page.subscriptions.is_empty());
        }
        Ok(facts)
    }

    fn judge(facts: &IntegrationFacts, asked: &Asked, findings: &mut Findings) {
        judge::judge(facts, asked, findings);
    }
}

/// The integration that was asked about by its kind and name, if none has them.
#[derive(Debug)]
pub(crate) struct MissingIntegration<'a>(pub(crate) &'a Integrations);

impl Examine for MissingIntegration<'_> {
    type Facts = Option<InsteadOfMissing>;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<Self::Facts, ControlError> {
        Ok(self.instead(control, asked))
    }

    fn judge(facts: &Self::Facts, asked: &Asked, findings: &mut Findings) {
        if let Some(instead) = facts.as_ref().filter(|_| !findings.has_named()) {
            findings.add_named(judge::missing(instead, asked));
        }
    }
}

impl MissingIntegration<'_> {
    /// Returns what there is instead, if the name is that of an integration that is not there, or
    /// of several without their kinds.
    fn instead(&self, control: &Control, asked: &Asked) -> Option<InsteadOfMissing> {
        let (all, question) = (self.0, &asked.question);
        let Some((kind, own)) = question.name.split_once('/') else {
            let there = all.named_without_kind(question);
            return (there.len() > 1 && asked.is_unknown()).then(|| InsteadOfMissing {
                near: there.len(),
                there,
                is_bare: true,
                list: control.command(form::INTEGRATION_LS, &[]),
                ..InsteadOfMissing::default()
            });
        };
        let is_known = KINDS.iter().any(|known| known.kind == kind);
        if asked.is_registered || asked.is_integration || !is_known || own.is_empty() {
            return None;
        }
        let seen = all
            .examined()
            .into_iter()
            .filter(|one| all.is_seen(one, question) && !OF_THE_NODE.contains(&one.handle.kind()));
        let mut there: Vec<(bool, usize, String)> = seen
            .map(|one| {
                let name = name_of(&one.handle);
                let distance = strsim::osa_distance(&question.name, &name);
                (distance > 2 && one.handle.name() != own, distance, name)
            })
            .collect();
        there.sort();
        Some(InsteadOfMissing {
            near: there.iter().filter(|(is_other, ..)| !is_other).count(),
            there: there.into_iter().map(|(.., name)| name).collect(),
            is_bare: false,
            has_configuration: !question.sees_node || control.has_configuration(),
            is_restored: control.restored_recently().is_some(),
            list: control.command(form::INTEGRATION_LS, &[]),
        })
    }
}

impl Integrations {
    /// The question about an integration that is named by kind and name, `file/audit`, or by the
    /// Client Identifier of its part or of one of its lanes, as one about its part.
    pub(crate) fn question_about(&self, question: &Question) -> Option<Question> {
        let named = |name: &str| {
            let (kind, name) = name.split_once('/')?;
            let is_there = |entry: &Arc<Handle>| match self.takes_all_tenants(kind, entry.name()) {
                true => question.sees_node,
                false => entry.state().tenant == Some(question.tenant),
            };
            // A name with its team is that of one in another tenant.
            match question.sees_node && name.contains('/') {
                true => self.called(None, kind, name).ok(),
                false => {
                    let found = self.called(Some(question.tenant), kind, name).ok();
                    found.filter(is_there)
                }
            }
        };
        let handle = match question.name.strip_prefix(CLIENT_IDS) {
            Some(name) => named(name).or_else(|| named(integration_of(&question.name)?)),
            None => named(&question.name),
        }?;
        Some(Question {
            name: handle.client_id().to_owned(),
            // The sessions of one that takes messages of all tenants are the node's own.
            tenant: handle.state().tenant.unwrap_or(question.tenant),
            ..question.clone()
        })
    }

    /// The question about the only integration of a name without its kind, as one about its kind
    /// and name.
    pub(crate) fn question_without_kind(&self, question: &Question) -> Option<Question> {
        let [name] = <[String; 1]>::try_from(self.named_without_kind(question)).ok()?;
        Some(Question {
            name,
            ..question.clone()
        })
    }

    /// Kinds and names of the integrations that have the name in the question, as far as the caller
    /// sees them, without those of the node itself.
    fn named_without_kind(&self, question: &Question) -> Vec<String> {
        let seen = self.examined().into_iter().filter(|one| {
            let is_named = [one.handle.name(), one.handle.own_name()].contains(&&*question.name);
            is_named && !OF_THE_NODE.contains(&one.handle.kind()) && self.is_seen(one, question)
        });
        seen.map(|one| name_of(&one.handle)).collect()
    }

    /// Whether an integration that takes messages of all tenants takes those of the topic in the
    /// question.
    pub(crate) fn take_for_all(&self, question: &Question) -> bool {
        let topic = question.topic.as_deref();
        let topic = topic.and_then(|topic| TopicName::new(topic).ok());
        topic.is_some_and(|topic| {
            self.examined().iter().any(|one| {
                self.takes_all_tenants(one.handle.kind(), one.handle.name())
                    && takes(&one.filters, topic)
            })
        })
    }

    /// The caller may know of it.
    fn is_seen(&self, one: &Examined, question: &Question) -> bool {
        match self.takes_all_tenants(one.handle.kind(), one.handle.name()) {
            true => question.sees_node,
            false => one.state.tenant == Some(question.tenant),
        }
    }

    /// Returns what was dropped for the lanes of an integration, by reason.
    async fn dropped(
        &self,
        control: &Control,
        one: &Examined,
    ) -> Vec<(DropReason, u64, LossTimes)> {
        let mut all: Vec<(DropReason, u64, LossTimes)> = Vec::new();
        let tenant = one.state.tenant.unwrap_or_default();
        let lanes = self.lanes_of(tenant, one.handle.client_id()).await;
        for lane in lanes.unwrap_or_default() {
            let Ok(Some(session)) = control.client(tenant, &lane, 0).await else {
                continue;
            };
            let drops = session.drops.into_iter().zip(session.dropped_at);
            for ((reason, count), at) in drops.filter(|((_, count), _)| *count > 0) {
                match all.iter_mut().find(|(known, ..)| *known == reason) {
                    Some((_, sum, of_all)) => {
                        *sum += count;
                        of_all.first_ms = of_all.first_ms.min(at.first_ms);
                        of_all.last_ms = of_all.last_ms.max(at.last_ms);
                    }
                    None => all.push((reason, count, at)),
                }
            }
        }
        all
    }

    /// The dead letters of an integration that the client in the question has published, or that
    /// name it in their topic.
    async fn own_letters(&self, name: &str, asked: &Asked) -> Option<OwnLetters> {
        let (question, client_id) = (&asked.question, &*asked.client_id);
        let letters = self.letters_about(name, question.tenant, client_id, &question.name);
        let letters = letters.await;
        let count = letters.len() as u64;
        let last = letters.into_iter().max_by_key(|letter| letter.refused_ms)?;
        Some(OwnLetters {
            count,
            last_ms: last.refused_ms,
            reason: last.reason,
        })
    }

    /// The number of dead letters of an integration, and why its target has refused one of them.
    async fn letters_of(&self, name: &str) -> (u64, String) {
        let count = self.letters_stored_of(name).await.unwrap_or(0);
        let reason = match count {
            0 => None,
            _ => self.letter_reason_of(name).await,
        };
        (count, reason.unwrap_or_default())
    }
}

impl Control {
    /// An integration, as far as messages wait for it.
    fn integration(
        &self,
        examined: &Examined,
        asked: &Asked,
        topic: Option<TopicName<'_>>,
    ) -> Integration {
        let Examined { handle, state, .. } = examined;
        let name = name_of(handle);
        let line = |form| self.command(form, &[&name]);
        let queue = state.queue.as_ref();
        let tenant = asked.question.tenant;
        Integration {
            is_own: handle.client_id() == asked.client_id
                && state.tenant.is_none_or(|own| own == tenant),
            takes_topic: topic.is_some_and(|topic| takes(&examined.filters, topic)),
            filters: examined.filters.clone(),
            brings: examined.brings.clone(),
            brought: state.counts.incoming,
            has_messages: state.clients_waiting.contains(&asked.client_id),
            waiting: state.lag,
            why: self.not_delivering(examined, &name),
            health: state.sink_health.clone(),
            queue: queue.and_then(|queue| queue_trouble(queue, handle.on_full())),
            holds: queue.is_some_and(|queue| queue.holds),
            access_refused: state.access_refused,
            refused: state.counts.refused,
            delivered: state.counts.delivered,
            age_max_secs: examined.age_max_secs,
            oldest_ms: state.oldest_received_ms,
            lines: Lines {
                show: line(form::INTEGRATION_SHOW),
                test: line(form::INTEGRATION_TEST),
                letters: line(form::LETTERS_LS),
                send_again: line(form::LETTERS_SEND),
                rules: self.command(form::RULE_LS, &[]),
            },
            name,
            ..Integration::default()
        }
    }

    /// Why an integration does not deliver; none: it does.
    fn not_delivering(&self, examined: &Examined, name: &str) -> Option<NotDelivering> {
        let state = &examined.state;
        let halted = |state, why: &str, remedy, command| NotDelivering {
            state,
            why: why.to_owned(),
            tries: None,
            remedy,
            command,
        };
        let resume = || self.command(form::INTEGRATION_RESUME, &[name]);
        if let Some(why) = &state.stopped_because {
            let remedy = "correct the message or the target, then resume the integration";
            return Some(halted(Halt::Stopped, why, remedy, resume()));
        }
        if state.activity == Activity::Paused {
            return Some(halted(Halt::Paused, "", "resume the integration", resume()));
        }
        let Some(failure) = &state.failure else {
            let is_starting = state.activity == Activity::Starting;
            return is_starting.then(|| halted(Halt::Starts, "", "", None));
        };
        let (remedy, command) = match &examined.secret_trouble {
            None => {
                let repair = match examined.age_max_secs {
                    0 => REPAIR_TARGET,
                    _ => REPAIR_TARGET_IN_TIME,
                };
                (repair, self.command(form::INTEGRATION_TEST, &[name]))
            }
            Some(SecretTrouble::Missing { names, team, .. }) => (
                "set the secret (the command prompts for the value)",
                self.command_of_team(form::SECRET_SET, team, &[names.first().map_or("", |n| n)]),
            ),
            Some(SecretTrouble::Unusable { name, team, .. }) => (
                "set the secret again; the command prompts for the value",
                self.command_of_team(form::SECRET_SET, team, &[name]),
            ),
            Some(SecretTrouble::NotRead) => ("wait until the tables answer", None),
            Some(_) => ("correct what the error names", None),
        };
        Some(NotDelivering {
            tries: Some((failure.since_ms, failure.attempts)),
            ..halted(Halt::Fails, &failure.error, remedy, command)
        })
    }

    /// Returns what is wrong with an integration that takes what others depend on.
    pub(crate) async fn findings_of_integration(
        &self,
        all: &Integrations,
        name: &str,
    ) -> Vec<Finding> {
        let one = self.named_integration(all, name).await;
        one.as_ref().map(judge::of_webhook).unwrap_or_default()
    }

    /// Reason why an integration does not deliver. `None`: it delivers, or it does not exist.
    pub(crate) async fn not_delivered_by(&self, all: &Integrations, name: &str) -> Option<Finding> {
        judge::not_delivered(&self.named_integration(all, name).await?)
    }

    /// The integration of this name with its dead letters, as one that was asked about.
    async fn named_integration(&self, all: &Integrations, name: &str) -> Option<Integration> {
        let mut examined = all.examined().into_iter();
        let examined = examined.find(|one| name == name_of(&one.handle))?;
        let (dead_letters, letter_reason) = all.letters_of(name).await;
        Some(Integration {
            is_own: true,
            dead_letters,
            letter_reason,
            ..self.integration(&examined, &Asked::default(), None)
        })
    }
}

/// Whether one of these Topic Filters matches the topic.
fn takes(filters: &[Box<str>], topic: TopicName<'_>) -> bool {
    let mut filters = filters.iter();
    filters.any(|filter| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic)))
}

/// The integration whose part has that Client Identifier: its kind and name, such as `file/audit`.
pub(crate) fn integration_of(client_id: &str) -> Option<&str> {
    part_of(client_id).strip_prefix(CLIENT_IDS)
}

/// Whether the Client Identifier is that of an integration of the node itself.
pub(crate) fn is_of_node(client_id: &str) -> bool {
    let kind = integration_of(client_id).and_then(|name| name.split_once('/'));
    kind.is_some_and(|(kind, _)| OF_THE_NODE.contains(&kind))
}

/// The rule or integration whose part has that Client Identifier, in words.
pub(crate) fn part_in_words(client_id: &str) -> Option<String> {
    let rule = client_id.strip_prefix(BY_RULE);
    let rule = rule.map(|rule| format!("the rule {rule}"));
    rule.or_else(|| integration_of(client_id).map(|name| format!("the integration {name}")))
}
