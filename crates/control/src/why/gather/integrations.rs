//! Integrations, and the sessions and dead letters of one.

use std::collections::HashMap;
use std::sync::Arc;

use martlet_broker::{LossTimes, TenantId};
use martlet_codec::{TopicFilter, TopicName};
use martlet_integrate::{CLIENT_IDS, Handle, KINDS, Kind, SOURCES, SecretTrouble, bridge};

use super::session::session_of;
use crate::control::{Control, ControlError};
use crate::integrations::{Activity, Examined, Integrations, part_of, queue_trouble};
use crate::journal::Run;
use crate::telemetry::Telemetry;
use crate::text::typed;
use crate::why::facts::{Facts, Integration, IntegrationMissing, NotDelivering, Session};
use crate::why::integration::{is_slow, of_rules, of_webhook, published_in_vain};
use crate::why::near::is_nearly_matched;
use crate::why::{Finding, Question};

/// What to do if the target fails. The command tests it.
const REPAIR_TARGET: &str = "correct what the error names, at the target or in the settings \
                             of the integration: it tries again by itself; to test whether it \
                             reaches its target, run";

/// The same where messages that wait for too long are dropped.
const REPAIR_TARGET_IN_TIME: &str = "correct what the error names, at the target or in the \
                                     settings of the integration: messages that are not too old \
                                     by then are delivered; or raise its max_age_secs; to test \
                                     whether it reaches its target, run";

/// Kinds of integrations that are not configured or added by operators. They are not listed as
/// examples.
const OF_THE_NODE: [&str; 3] = ["log", "rules", "telemetry"];

/// The Client Identifier of an integration of the node itself.
pub(super) fn is_of_node(client_id: &str) -> bool {
    let name = client_id.strip_prefix(CLIENT_IDS);
    let kind = name.and_then(|name| name.split_once('/'));
    kind.is_some_and(|(kind, _)| OF_THE_NODE.contains(&kind))
}

/// The question about an integration that is named by kind and name, `file/audit`, or by the
/// Client Identifier of its part or of one of its lanes, as one about its part.
pub(super) fn integration_named(all: &Integrations, question: &Question) -> Option<Question> {
    let named = |name: &str| {
        let (kind, name) = name.split_once('/')?;
        let is_there = |entry: &Arc<Handle>| match all.takes_all_tenants(kind, entry.name()) {
            true => question.sees_node,
            false => entry.state().tenant == Some(question.tenant),
        };
        // A name with its team is that of one in another tenant.
        match question.sees_node && name.contains('/') {
            true => all.called(None, kind, name).ok(),
            false => all
                .called(Some(question.tenant), kind, name)
                .ok()
                .filter(is_there),
        }
    };
    let handle = match question.name.strip_prefix(CLIENT_IDS) {
        Some(name) => {
            named(name).or_else(|| named(part_of(&question.name).get(CLIENT_IDS.len()..)?))
        }
        None => named(&question.name),
    }?;
    Some(Question {
        name: handle.client_id().to_owned(),
        // The sessions of one that takes messages of all tenants are the node's own.
        tenant: handle.state().tenant.unwrap_or(question.tenant),
        ..question.clone()
    })
}

/// Whether one of these Topic Filters matches the topic.
fn takes(filters: &[Box<str>], topic: TopicName<'_>) -> bool {
    let mut filters = filters.iter();
    filters.any(|filter| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic)))
}

/// Whether an integration that takes messages of all tenants takes those of the topic in the
/// question.
fn takes_for_all(all: &Integrations, question: &Question) -> bool {
    let topic = question.topic.as_deref();
    topic
        .and_then(|topic| TopicName::new(topic).ok())
        .is_some_and(|topic| {
            all.examined().iter().any(|one| {
                all.takes_all_tenants(one.handle.kind(), one.handle.name())
                    && takes(&one.filters, topic)
            })
        })
}

impl Control {
    /// The facts of an integration, with the sessions and the recent events of all of its lanes. A
    /// publisher's messages are in one of them alone.
    pub(super) async fn facts_of_integration(
        &self,
        all: &Integrations,
        telemetry: Option<&Telemetry>,
        question: &Question,
    ) -> Result<Facts, ControlError> {
        let (tenant, part) = (question.tenant, &*question.name);
        let lanes = all.lanes_of(tenant, part).await?;
        let (mut sessions, mut runs) = (Vec::new(), Vec::<Run>::new());
        for lane in &lanes {
            let session = self.session(tenant, lane).await?;
            sessions.extend(session.map(session_of));
            runs.extend(self.journal.runs_of(tenant, lane, &self.presence));
        }
        runs.sort_by_key(|run| (run.last.at_ms, run.last.seq));
        let facts = self.facts_of(telemetry, question, part, None, runs);
        let facts = facts.await?;
        Ok(Facts {
            session: as_one(sessions),
            // It has no address: those are of strangers.
            nameless: Vec::new(),
            ..facts
        })
    }

    /// What there is instead of the integration that was asked about by its kind and name, if no
    /// integration has them.
    pub(super) fn integration_missing(
        &self,
        all: &Integrations,
        question: &Question,
    ) -> Option<IntegrationMissing> {
        let (kind, own) = question.name.split_once('/')?;
        let is_kind = |one: &Kind| one.name == kind;
        let is_known = KINDS.iter().any(is_kind)
            || SOURCES.iter().any(|(_, one)| is_kind(one))
            || kind == bridge::KIND.name;
        if !is_known || own.is_empty() || integration_named(all, question).is_some() {
            return None;
        }
        let mut there: Vec<(usize, String)> = Vec::new();
        for one in all.examined() {
            let (handle, tenant) = (&one.handle, one.state.tenant);
            let is_seen = match all.takes_all_tenants(handle.kind(), handle.name()) {
                true => question.sees_node,
                false => tenant == Some(question.tenant),
            };
            if is_seen && !OF_THE_NODE.contains(&handle.kind()) {
                let name = format!("{}/{}", handle.kind(), handle.name());
                there.push((strsim::osa_distance(&question.name, &name), name));
            }
        }
        there.sort();
        let is_near = |(distance, name): &&(usize, String)| {
            let same_name = name.split_once('/').is_some_and(|(_, of)| of == own);
            *distance <= 2 || same_name
        };
        let near: Vec<String> = there
            .iter()
            .filter(is_near)
            .map(|one| one.1.clone())
            .collect();
        let others = there.into_iter().map(|(_, name)| name);
        let others = others
            .filter(|name| !near.contains(name))
            .collect::<Vec<_>>();
        Some(IntegrationMissing {
            near: near.len(),
            there: near.into_iter().chain(others).collect(),
            has_configuration: !question.sees_node || self.has_configuration(),
            list: self.listing_command("integration ls"),
        })
    }

    /// The node was started with a configuration file.
    pub(super) fn has_configuration(&self) -> bool {
        self.info.command_options.contains(" -c ")
    }

    /// Adds the integrations to the facts of a client, and to those of each client of a user. The
    /// dead letters of the one that was asked about, and of those whose targets have refused
    /// messages, are counted.
    pub(super) async fn add_integrations(&self, all: &Integrations, facts: &mut Facts) {
        facts.integrations = self.integrations_of(all, facts);
        facts.taken_for_all = takes_for_all(all, &facts.question);
        for client in &mut facts.clients {
            client.integrations = self.integrations_of(all, client);
            client.taken_for_all = facts.taken_for_all;
        }
        let of_clients = facts.clients.iter_mut();
        let of_clients = of_clients.flat_map(|client| &mut client.integrations);
        let mut counted = HashMap::new();
        for one in facts.integrations.iter_mut().chain(of_clients) {
            if !one.is_own && one.refused == 0 {
                continue;
            }
            if !counted.contains_key(&one.name) {
                counted.insert(one.name.clone(), letters_of(all, &one.name).await);
            }
            if let Some((count, reason)) = counted.get(&one.name) {
                (one.dead_letters, one.letter_reason) = (*count, reason.clone());
            }
        }
    }

    /// Integrations of the tenant that do not deliver, and that which was asked about.
    fn integrations_of(&self, all: &Integrations, of: &Facts) -> Vec<Integration> {
        let (question, client_id) = (&of.question, &*of.client_id);
        let topic = question.topic.as_deref();
        let topic = topic.and_then(|topic| TopicName::new(topic).ok());
        let mut found = Vec::new();
        for examined in all.examined() {
            let Examined { handle, state, .. } = &examined;
            let is_seen = match all.takes_all_tenants(handle.kind(), handle.name()) {
                true => question.sees_node,
                false => state.tenant == Some(question.tenant),
            };
            if !is_seen {
                continue;
            }
            let found_one = self.integration(&examined, (question.tenant, client_id), topic);
            let is_missed = || {
                let topic = topic.map_or("", |topic| topic.as_str());
                is_nearly_matched(examined.filters.iter(), topic)
                    || published_in_vain(of)
                        .any(|one| is_nearly_matched(examined.filters.iter(), &one.topic))
            };
            let is_slow = found_one.oldest_ms.is_some_and(|ms| is_slow(of.now_ms, ms));
            let is_ill = found_one.why.is_some()
                || found_one.queue.is_some()
                || is_slow
                || found_one.refused > 0;
            let topic = topic.map_or("", |topic| topic.as_str());
            let is_idle_bridge = found_one.brought == 0
                && found_one
                    .brings
                    .iter()
                    .any(|one| one.there(topic).is_some());
            if found_one.is_own || is_ill || is_idle_bridge || is_missed() {
                found.push(found_one);
            }
        }
        found
    }

    /// An integration, as far as messages wait for it.
    fn integration(
        &self,
        examined: &Examined,
        (tenant, client_id): (TenantId, &str),
        topic: Option<TopicName<'_>>,
    ) -> Integration {
        let Examined {
            handle,
            state,
            filters,
            brings,
            age_max_secs,
            ..
        } = examined;
        let name = format!("{}/{}", handle.kind(), handle.name());
        let command = |action: &str| self.integration_command(action, &name);
        let queue = state.queue.as_ref();
        Integration {
            takes_topic: topic.is_some_and(|topic| takes(filters, topic)),
            has_messages: state.clients_waiting.iter().any(|one| one == client_id),
            waiting: state.lag,
            filters: filters.iter().map(ToString::to_string).collect(),
            brings: brings.clone(),
            brought: state.counts.incoming,
            show_command: command("show"),
            command: command("test"),
            access_refused: state.access_refused,
            dead_letters: 0,
            letter_reason: String::new(),
            letters_command: command("dead-letter ls"),
            send_again_command: command("dead-letter send --all"),
            delivered: state.counts.delivered,
            oldest_ms: state.oldest_received_ms,
            refused: state.counts.refused,
            health: state.sink_health.clone(),
            holds: queue.is_some_and(|queue| queue.holds),
            queue: queue.and_then(|queue| queue_trouble(queue, handle.on_full())),
            age_max_secs: *age_max_secs,
            why: self.not_delivering(examined, &name),
            is_own: handle.client_id() == client_id && state.tenant == Some(tenant),
            name,
        }
    }

    /// Why an integration does not deliver; none: it does.
    fn not_delivering(&self, examined: &Examined, name: &str) -> Option<NotDelivering> {
        let state = &examined.state;
        let command = |action: &str| self.integration_command(action, name);
        match (&state.stopped_because, &state.failure) {
            (Some(why), _) => Some(NotDelivering::Stopped {
                why: why.clone(),
                command: command("resume"),
            }),
            _ if state.activity == Activity::Paused => Some(NotDelivering::Paused {
                command: command("resume"),
            }),
            (None, Some(failure)) => {
                let (remedy, command) = match &examined.secret_trouble {
                    None => {
                        let repair = match examined.age_max_secs {
                            0 => REPAIR_TARGET,
                            _ => REPAIR_TARGET_IN_TIME,
                        };
                        (repair, Some(command("test")))
                    }
                    Some(trouble) => self.secret_remedy(trouble),
                };
                Some(NotDelivering::Failing {
                    error: failure.error.clone(),
                    since_ms: failure.since_ms,
                    attempts: failure.attempts,
                    remedy,
                    command,
                })
            }
            (None, None) => {
                let is_starting = state.activity == Activity::Starting;
                is_starting.then_some(NotDelivering::Starting)
            }
        }
    }

    /// What is wrong with an integration that takes what others depend on.
    pub(crate) async fn findings_of_integration(
        &self,
        all: &Integrations,
        name: &str,
    ) -> Vec<Finding> {
        let one = self.named_integration(all, name).await;
        one.as_ref().map(of_webhook).unwrap_or_default()
    }

    /// Reason why an integration does not deliver. `None`: it delivers, or it does not exist.
    pub(crate) async fn not_delivered_by(&self, all: &Integrations, name: &str) -> Option<Finding> {
        of_rules(&self.named_integration(all, name).await?)
    }

    /// The integration of this name with its dead letters, as one that was asked about.
    async fn named_integration(&self, all: &Integrations, name: &str) -> Option<Integration> {
        let examined = all.examined().into_iter();
        let mut examined =
            examined.filter(|one| name == format!("{}/{}", one.handle.kind(), one.handle.name()));
        let examined = examined.next()?;
        let handle = Arc::clone(&examined.handle);
        let of = (
            examined.state.tenant.unwrap_or_default(),
            handle.client_id(),
        );
        let (dead_letters, letter_reason) = letters_of(all, name).await;
        Some(Integration {
            dead_letters,
            letter_reason,
            ..self.integration(&examined, of, None)
        })
    }

    /// The remedy for a fault of secrets, and its command if it has one.
    fn secret_remedy(&self, trouble: &SecretTrouble) -> (&'static str, Option<String>) {
        match trouble {
            SecretTrouble::Missing { names, team, .. } => {
                let name = names.first().map_or("", |name| name);
                let command = self.command_of_team("secret set", team, name);
                (
                    "set the secret (the command prompts for the value)",
                    Some(command),
                )
            }
            SecretTrouble::Unusable { name, team, .. } => {
                let command = self.command_of_team("secret set", team, name);
                (
                    "set the secret again; the command prompts for the value",
                    Some(command),
                )
            }
            SecretTrouble::NotRead => ("wait until the tables answer", None),
            _ => ("correct what the error names", None),
        }
    }

    fn integration_command(&self, action: &str, name: &str) -> String {
        self.command_with_options(&format!("integration {action}"), &typed(name))
    }

    /// A command of this program with the options that name the node.
    pub(crate) fn command_with_options(&self, command: &str, arguments: &str) -> String {
        let options = match &*self.info.command_options {
            "" => String::new(),
            options => format!("{options} "),
        };
        format!("martlet {command} {options}{arguments}")
    }

    /// A command that needs no arguments.
    pub(crate) fn listing_command(&self, command: &str) -> String {
        self.command_with_options(command, "").trim_end().to_owned()
    }

    /// The same about an object of a tenant, which may be that of a team.
    pub(crate) fn command_of_tenant(
        &self,
        command: &str,
        tenant: TenantId,
        arguments: &str,
    ) -> String {
        let team = self.team_of_tenant(tenant).unwrap_or_default();
        self.command_of_team(command, &team, arguments)
    }

    /// The same about an object of a team; empty: of none.
    pub(crate) fn command_of_team(&self, command: &str, team: &str, arguments: &str) -> String {
        let team = match team {
            "" => String::new(),
            team => format!("--team {} ", typed(team)),
        };
        self.command_with_options(command, &format!("{team}{arguments}"))
    }
}

/// The number of dead letters of an integration, and why its target has refused one of them.
async fn letters_of(all: &Integrations, name: &str) -> (u64, String) {
    let count = all.letters_stored_of(name).await.unwrap_or(0);
    let reason = match count {
        0 => None,
        _ => all.letter_reason_of(name).await,
    };
    (count, reason.unwrap_or_default())
}

/// The sessions of all lanes of an integration as one; none if it has none.
fn as_one(lanes: impl IntoIterator<Item = Session>) -> Option<Session> {
    let mut lanes = lanes.into_iter();
    let mut all = lanes.next()?;
    for lane in lanes {
        all.connected &= lane.connected;
        all.since_ms = all.since_ms.into_iter().chain(lane.since_ms).min();
        all.queued += lane.queued;
        all.in_flight += lane.in_flight;
        all.waits_for_store |= lane.waits_for_store;
        all.queue_full = all.queue_full.or(lane.queue_full);
        if lane.expired > 0 {
            all.expired_at = match all.expired {
                0 => lane.expired_at,
                _ => both(all.expired_at, lane.expired_at),
            };
            all.expired += lane.expired;
        }
        for ((reason, count), at) in lane.drops.into_iter().zip(lane.dropped_at) {
            let known = all.drops.iter().position(|(known, _)| *known == reason);
            match known {
                Some(index) => {
                    all.drops[index].1 += count;
                    all.dropped_at[index] = both(all.dropped_at[index], at);
                }
                None => {
                    all.drops.push((reason, count));
                    all.dropped_at.push(at);
                }
            }
        }
    }
    Some(all)
}

/// When messages were lost on either of two lanes. A time of 0 is unknown.
fn both(one: LossTimes, other: LossTimes) -> LossTimes {
    let firsts = [one.first_ms, other.first_ms];
    let known = firsts.into_iter().filter(|ms| *ms > 0);
    LossTimes {
        first_ms: known.min().unwrap_or(0),
        last_ms: one.last_ms.max(other.last_ms),
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::DropReason;

    use super::*;

    const QUEUE_FULL: DropReason = DropReason::QueueFull;

    fn lane(drops: &[(DropReason, u64, u64, u64)], expired: u64) -> Session {
        Session {
            connected: true,
            queued: 2,
            in_flight: 1,
            drops: drops.iter().map(|drop| (drop.0, drop.1)).collect(),
            dropped_at: drops
                .iter()
                .map(|drop| LossTimes {
                    first_ms: drop.2,
                    last_ms: drop.3,
                })
                .collect(),
            expired,
            expired_at: LossTimes {
                first_ms: expired * 100,
                last_ms: expired * 200,
            },
            ..Session::default()
        }
    }

    #[test]
    fn losses_of_all_lanes_are_counted_together() {
        let lanes = [
            lane(&[], 0),
            lane(&[(QUEUE_FULL, 3, 500, 900)], 2),
            lane(
                &[(DropReason::TooOld, 1, 600, 600), (QUEUE_FULL, 4, 400, 700)],
                1,
            ),
        ];
        let all = as_one(lanes).unwrap();
        assert_eq!((all.queued, all.in_flight, all.expired), (6, 3, 3));
        assert_eq!(all.drops, [(QUEUE_FULL, 7), (DropReason::TooOld, 1)]);
        let at = |first_ms, last_ms| LossTimes { first_ms, last_ms };
        assert_eq!(all.dropped_at, [at(400, 900), at(600, 600)]);
        assert_eq!(all.expired_at, at(100, 400));
    }
}
