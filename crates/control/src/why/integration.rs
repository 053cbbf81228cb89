//! Messages that wait for an integration.

use martlet_broker::{DropReason, LossTimes};
use martlet_codec::{TopicFilter, TopicName};
use martlet_integrate::{CLIENT_IDS, SecretTrouble};

use super::facts::{Facts, Integration, NotDelivering, Session};
use super::found::{Found, RECENT_MS, Weight, uncapitalized};
use super::gather::session_of;
use super::{Finding, Question};
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::integrations::{Activity, Examined, part_of, queue_trouble};
use crate::journal::{Run, mend_of_drop};
use crate::text::typed;

/// What to do if the target fails. The command tests it.
const REPAIR_TARGET: &str =
    "repair the target, and they are delivered; this tests whether it answers";

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
        if let (true, Some(session)) = (one.is_own, &facts.session) {
            lost(facts.now_ms, one, session, found);
        }
    }
}

/// What was dropped for an integration that was asked about, as its session counts it. What its
/// target refused is told as dead letters.
fn lost(now_ms: u64, one: &Integration, session: &Session, found: &mut Found) {
    let name = &one.name;
    let drops = session.drops.iter().zip(&session.dropped_at);
    let drops = drops.filter(|((reason, count), _)| {
        *count > 0 && *reason != DropReason::RefusedByReceiver && !reason.is_expected()
    });
    for ((reason, count), at) in drops {
        let why = format!(
            "dropped: {} ({})",
            uncapitalized(reason.meaning()),
            reason.name()
        );
        let mend = match reason {
            DropReason::QueueFull => {
                Some("raise `max_bytes` of the integration and restart the node")
            }
            reason => mend_of_drop(*reason),
        };
        let losses = (*count, *at);
        let finding = lost_finding(name, Cause::of_drop(*reason), losses, &why);
        let finding = match mend {
            Some(mend) => finding.mend(mend),
            None => finding,
        };
        found.push((weight_of_loss(now_ms, *at), finding));
    }
    if session.expired > 0 {
        let why = "not delivered before the Message Expiry Interval ran out";
        let losses = (session.expired, session.expired_at);
        let finding = lost_finding(name, Cause::Expired, losses, why)
            .mend("publish with a longer Message Expiry Interval");
        found.push((weight_of_loss(now_ms, session.expired_at), finding));
    }
}

fn weight_of_loss(now_ms: u64, at: LossTimes) -> Weight {
    match now_ms.saturating_sub(at.last_ms) <= RECENT_MS {
        true => Weight::Trouble,
        false => Weight::Before,
    }
}

fn lost_finding(name: &str, cause: Cause, (count, at): (u64, LossTimes), why: &str) -> Finding {
    let were = match count {
        1 => "1 message for the integration".to_owned(),
        count => format!("{count} messages for the integration"),
    };
    let was = match count {
        1 => "was",
        _ => "were",
    };
    let sentence = format!("{were} {name} {was} {why}");
    let mut finding = Finding::new(cause, sentence).of_many(count);
    finding.since_ms = Some(at.first_ms).filter(|ms| *ms > 0);
    finding.last_ms = Some(at.last_ms).filter(|ms| *ms > 0);
    finding
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
                Some(place) => {
                    all.drops[place].1 += count;
                    all.dropped_at[place] = both(all.dropped_at[place], at);
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
            mend,
            command,
        } => {
            let sentence = format!("{what}: {error}");
            let mut finding = Finding::new(Cause::IntegrationFailing, sentence)
                .since(*since_ms)
                .of_many(u64::from(*attempts))
                .mend(*mend);
            finding.command.clone_from(command);
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
    /// Client Identifier of its part or of one of its lanes, as one about its part.
    pub(super) fn integration_meant(&self, question: &Question) -> Option<Question> {
        let all = self.integrations()?;
        let named = |name: &str| {
            let (kind, name) = name.split_once('/')?;
            all.get(kind, name)
        };
        let handle = match question.name.strip_prefix(CLIENT_IDS) {
            Some(name) => {
                named(name).or_else(|| named(part_of(&question.name).get(CLIENT_IDS.len()..)?))
            }
            None => named(&question.name),
        }?;
        let tenant = handle.state().tenant;
        let is_there = match all.takes_all_tenants(handle.kind(), handle.name()) {
            true => question.sees_node,
            false => tenant == Some(question.tenant),
        };
        is_there.then(|| Question {
            name: handle.client_id().to_owned(),
            // The sessions of one that takes messages of all tenants are the node's own.
            tenant: tenant.unwrap_or(question.tenant),
            ..question.clone()
        })
    }

    /// The facts of an integration, with the sessions and the recent events of all of its lanes. A
    /// publisher's messages are in one of them alone.
    pub(super) async fn facts_of_integration(
        &self,
        question: &Question,
    ) -> Result<Facts, ControlError> {
        let (tenant, part) = (question.tenant, &*question.name);
        let lanes = match self.integrations() {
            Some(all) => all.lanes_of(tenant, part).await?,
            None => Vec::new(),
        };
        let (mut sessions, mut runs) = (Vec::new(), Vec::<Run>::new());
        for lane in &lanes {
            let session = self.session(tenant, lane).await?;
            sessions.extend(session.map(session_of));
            runs.extend(self.journal.runs_of(tenant, lane, &self.presence));
        }
        runs.sort_by_key(|run| (run.last.at_ms, run.last.seq));
        let facts = self.facts_of(question, part, None, runs).await?;
        Ok(Facts {
            session: as_one(sessions),
            // It has no address: those are of strangers.
            nameless: Vec::new(),
            ..facts
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
        for examined in all.examined() {
            let Examined {
                handle,
                state,
                filters,
                secret_trouble,
            } = examined;
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
                (None, Some(failure)) => {
                    let (mend, command) = match secret_trouble {
                        None => (REPAIR_TARGET, Some(command("test"))),
                        Some(trouble) => self.secret_remedy(&trouble),
                    };
                    Some(NotDelivering::Failing {
                        error: failure.error.clone(),
                        since_ms: failure.since_ms,
                        attempts: failure.attempts,
                        mend,
                        command,
                    })
                }
                (None, None) if state.activity == Activity::Starting => {
                    Some(NotDelivering::Starting)
                }
                (None, None) => None,
            };
            let is_own = handle.client_id() == client_id;
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

    /// The remedy for a fault of secrets, and its command if it has one.
    fn secret_remedy(&self, trouble: &SecretTrouble) -> (&'static str, Option<String>) {
        match trouble {
            SecretTrouble::Missing { names, team, .. } => {
                let team = match &**team {
                    "" => String::new(),
                    team => format!("--team {} ", typed(team)),
                };
                let name = names.first().map_or("", |name| name);
                let command = self.command_with_options("secret set", &format!("{team}{name}"));
                ("set the secret; it asks for the value", Some(command))
            }
            SecretTrouble::NotRead => ("wait until the tables answer", None),
            _ => ("do what the error says", None),
        }
    }

    fn integration_command(&self, action: &str, name: &str) -> String {
        self.command_with_options(&format!("integration {action}"), &typed(name))
    }

    /// A command of this program with the options that name the node.
    fn command_with_options(&self, command: &str, arguments: &str) -> String {
        let options = match &*self.info.command_options {
            "" => String::new(),
            options => format!("{options} "),
        };
        format!("martlet {command} {options}{arguments}")
    }
}

#[cfg(test)]
mod tests {
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
    fn losses_of_all_lanes_are_told_together() {
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

        let facts = Facts {
            now_ms: 1_000,
            session: Some(all),
            integrations: vec![Integration {
                name: "file/audit".to_owned(),
                is_own: true,
                ..Integration::default()
            }],
            ..Facts::default()
        };
        let mut found = Vec::new();
        integrations(&facts, &mut found);
        let told = found.iter().find(|(_, one)| one.cause == Cause::QueueFull);
        let (weight, told) = told.unwrap();
        assert_eq!(*weight, Weight::Trouble);
        assert_eq!((told.since_ms, told.last_ms), (Some(400), Some(900)));
        assert!(
            told.sentence
                .starts_with("7 messages for the integration file/audit were dropped: "),
            "{told:?}"
        );
    }

    #[test]
    fn what_the_target_refused_is_told_as_dead_letters_alone() {
        let refused = [(DropReason::RefusedByReceiver, 3, 500, 900)];
        let facts = Facts {
            session: Some(lane(&refused, 0)),
            integrations: vec![Integration {
                is_own: true,
                ..Integration::default()
            }],
            ..Facts::default()
        };
        let mut found = Vec::new();
        integrations(&facts, &mut found);
        assert_eq!(found, []);
    }
}
