//! Questions to shards and their answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use martlet_broker::{
    Answer, ClientDetail, Command, Counters, GroupDetail, Report, RetainedEnded, SessionRules,
    ShardId, TenantId, TopicUse, UnmatchedTopic,
};
use martlet_codec::ReasonCode;
use tokio::sync::oneshot;

use super::Control;
use super::shards::PendingAnswers;
use crate::lock::lock;

/// Time that shards may take to answer: they answer within a tick, so a longer time means a stalled
/// node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the shards could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A shard did not answer.
    #[error("only {answered} of {expected} shards answered within {} s; the node is stopping or overloaded", ANSWER_TIMEOUT.as_secs())]
    NoAnswer {
        /// Shards that did.
        answered: usize,
        /// Shards asked.
        expected: usize,
    },
    /// A shard has too much to do, or its store does not answer.
    #[error("not done, and may be tried again: {0}")]
    Refused(ReasonCode),
}

impl Control {
    /// A report came from a shard.
    pub fn report_received(&self, report: Report) {
        if let Some(expected) = lock(&self.waiting).remove(&report.request) {
            // The caller may have given up.
            let _ = expected.send(report.answer);
        }
    }

    /// Counters and gauges of each shard.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn snapshots(&self) -> Result<Vec<Counters>, ControlError> {
        self.snapshots_within(ANSWER_TIMEOUT).await
    }

    pub(crate) async fn snapshots_within(
        &self,
        timeout: Duration,
    ) -> Result<Vec<Counters>, ControlError> {
        let command = |request| Command::Snapshot { request };
        let reports = self.ask(timeout, command).await?;
        let counters = reports.into_iter().filter_map(|answer| match answer {
            Answer::Snapshot(counters) => Some(*counters),
            _ => None,
        });
        Ok(counters.collect())
    }

    /// Counters and gauges of the node.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn snapshot(&self) -> Result<Counters, ControlError> {
        let counters = sum(&self.snapshots().await?);
        self.clients_maximum
            .fetch_max(counters.connections, Ordering::Relaxed);
        Ok(counters)
    }

    /// The session of this Client Identifier, with `limit` of its subscriptions, of the messages in
    /// its queue and of those in flight at most.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn client(
        &self,
        tenant: TenantId,
        client_id: &str,
        limit: usize,
    ) -> Result<Option<ClientDetail>, ControlError> {
        let command = |request| Command::ClientDetail {
            request,
            tenant,
            client_id: client_id.into(),
            limit,
        };
        let mut answers = self.ask_all(command).await?.into_iter();
        Ok(answers.find_map(|answer| match answer {
            Answer::ClientDetail(found) => found.map(|found| *found),
            _ => None,
        }))
    }

    /// The share groups of a tenant with these Topic Filters.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn group_details(
        &self,
        tenant: TenantId,
        filters: Arc<[Box<str>]>,
    ) -> Result<Vec<GroupDetail>, ControlError> {
        let command = |request| Command::GroupDetails {
            request,
            tenant,
            filters: Arc::clone(&filters),
        };
        let answers = self.ask_all(command).await?.into_iter();
        let groups = answers.filter_map(|answer| match answer {
            Answer::GroupDetails(groups) => Some(groups),
            _ => None,
        });
        Ok(groups.flatten().collect())
    }

    /// Topics of a tenant with messages that had no subscriber, the latest last.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn unmatched_topics(
        &self,
        tenant: TenantId,
    ) -> Result<Vec<UnmatchedTopic>, ControlError> {
        let command = |request| Command::Unmatched { request, tenant };
        let mut topics: Vec<UnmatchedTopic> = Vec::new();
        for answer in self.ask_all(command).await? {
            let Answer::Unmatched(found) = answer else {
                continue;
            };
            for one in found {
                match topics.iter_mut().find(|known| known.topic == one.topic) {
                    Some(known) => known.add(one),
                    None => topics.push(one),
                }
            }
        }
        topics.sort_by_key(|one| one.last_ms);
        Ok(topics)
    }

    /// Retained messages of a tenant that were taken away, of the topics that a Topic Filter
    /// matches, the latest last.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn retained_ended(
        &self,
        tenant: TenantId,
        filter: &str,
    ) -> Result<Vec<RetainedEnded>, ControlError> {
        let command = |request| Command::RetainedEnded {
            request,
            tenant,
            filter: filter.into(),
        };
        let answers = self.ask_all(command).await?.into_iter();
        let ended = answers.filter_map(|answer| match answer {
            Answer::RetainedEnded(ended) => Some(ended),
            _ => None,
        });
        let mut ended: Vec<RetainedEnded> = ended.flatten().collect();
        ended.sort_by_key(|one| one.at_ms);
        Ok(ended)
    }

    /// The topics in use and their users: `limit` uses of each shard at most.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn traffic(&self, limit: usize) -> Result<Vec<TopicUse>, ControlError> {
        let command = |request| Command::Traffic { request, limit };
        let reports = self.ask(ANSWER_TIMEOUT, command).await?;
        let uses = reports.into_iter().filter_map(|answer| match answer {
            Answer::Traffic(uses) => Some(uses),
            _ => None,
        });
        Ok(uses.flatten().collect())
    }

    /// Rules of the client of this identifier, if it is connected.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn session_rules(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<Option<SessionRules>, ControlError> {
        let command = |request| Command::SessionRules {
            request,
            tenant,
            client_id: client_id.to_owned(),
        };
        let mut reports = self.ask(ANSWER_TIMEOUT, command).await?.into_iter();
        Ok(reports.find_map(|answer| match answer {
            Answer::SessionRules(found) => found,
            _ => None,
        }))
    }

    /// Waits until every shard has done its earlier commands, 5 s at most.
    pub async fn wait_until_all_reported(&self) {
        // What they answer does not matter: they take one command after the other.
        let _ = self.session_rules(TenantId::default(), "").await;
    }

    /// Asks every shard; `command` is made with the number of the request. The answers come in no
    /// particular order.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn ask_all(
        &self,
        command: impl Fn(u64) -> Command,
    ) -> Result<Vec<Answer>, ControlError> {
        self.ask(ANSWER_TIMEOUT, command).await
    }

    /// Asks one shard, and waits as long as what it is asked for may have to wait for the store.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub async fn ask_shard(
        &self,
        shard: ShardId,
        timeout: Duration,
        command: impl Fn(u64) -> Command,
    ) -> Result<Answer, ControlError> {
        let mut answers = self.ask_some(&[shard], timeout, command).await?;
        let none = ControlError::NoAnswer {
            answered: 0,
            expected: 1,
        };
        answers.pop().ok_or(none)
    }

    pub(crate) async fn ask(
        &self,
        timeout: Duration,
        command: impl Fn(u64) -> Command,
    ) -> Result<Vec<Answer>, ControlError> {
        let shards: Vec<ShardId> = (0..self.shards.count()).map(ShardId).collect();
        self.ask_some(&shards, timeout, command).await
    }

    /// Answers are in the order of the shards.
    async fn ask_some(
        &self,
        shards: &[ShardId],
        timeout: Duration,
        command: impl Fn(u64) -> Command,
    ) -> Result<Vec<Answer>, ControlError> {
        let expected: Vec<PendingAnswer<'_>> =
            shards.iter().map(|_| self.expect_answer()).collect();
        for (shard, expected) in shards.iter().zip(&expected) {
            self.shards.send(*shard, command(expected.request));
        }
        let until = tokio::time::Instant::now() + timeout;
        let mut answers = Vec::with_capacity(shards.len());
        for mut expected in expected {
            let answer = tokio::time::timeout_at(until, &mut expected.answer).await;
            answers.extend(answer.ok().and_then(Result::ok));
        }
        match answers.len() == shards.len() {
            true => Ok(answers),
            false => Err(ControlError::NoAnswer {
                answered: answers.len(),
                expected: shards.len(),
            }),
        }
    }

    fn expect_answer(&self) -> PendingAnswer<'_> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(request, sender);
        PendingAnswer {
            waiting: &self.waiting,
            request,
            answer,
        }
    }
}

/// A question is forgotten when its answer is not waited for any more.
struct PendingAnswer<'a> {
    waiting: &'a PendingAnswers,
    request: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for PendingAnswer<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.request);
    }
}

pub(crate) fn sum(all: &[Counters]) -> Counters {
    let mut sum = Counters::default();
    for counters in all {
        sum.add(counters);
    }
    sum
}
