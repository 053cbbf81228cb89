//! Where the facts about messages come from.

use martlet_broker::{
    Actions, ClientDetail, DropReason, GroupDetail, LossTimes, RetainedQuery, SubscriptionQuery,
    TenantId, UnmatchedTopic,
};
use martlet_codec::{SubscriptionFilter, TopicFilter, TopicName};

use super::facts::{
    LEVELS_MAX, NearSubscriber, Retained, SUBSCRIPTIONS_MAX, Subscriber, TOLD, TopicFacts,
    Unreadable,
};
use super::near::{is_nearly_matched, matches, near_miss, nearly_same};
use crate::control::{Control, ControlError};
use crate::explain::{self, Outcome};
use crate::integrations::Integrations;
use crate::journal::{Entry, Lacking};
use crate::remedy::form;
use crate::telemetry::Telemetry;
use crate::wall_clock::now_ms;
use crate::why::asked::Asked;
use crate::why::found::RECENT_MS;
use crate::why::session::backlog_of;

/// Subscribers that are looked at.
const SUBSCRIBERS_MAX: usize = 20;

/// Messages of a subscriber that are looked at.
const MESSAGES_MAX: usize = 64;

/// Subscriptions of other clients that are compared with a topic: there may be very many.
const OF_OTHERS_MAX: usize = 1_000;

/// Topics for which the rules are asked.
const UNREADABLE_MAX: usize = 8;

/// Refused publishes that are looked at.
const REFUSED_MAX: usize = 16;

/// Clients that lost messages whose subscriptions are looked at.
const LOST_BY_MAX: usize = 8;

/// Messages that a session lost, by reason, and when.
fn drops_of(session: &ClientDetail) -> Vec<(DropReason, u64, LossTimes)> {
    let drops = session.drops.iter().zip(&session.dropped_at);
    drops
        .map(|((reason, count), at)| (*reason, *count, *at))
        .collect()
}

/// Gathers them.
pub(super) async fn gathered(
    control: &Control,
    integrations: Option<&Integrations>,
    telemetry: Option<&Telemetry>,
    asked: &Asked,
) -> Result<TopicFacts, ControlError> {
    let (question, tenant) = (&asked.question, asked.question.tenant);
    let refused_publishes = control.recently_refused(asked);
    let permitted_now = control.permitted_now(tenant, refused_publishes.iter());
    let mut facts = TopicFacts {
        taken_for_all: integrations.is_some_and(|all| all.take_for_all(question)),
        elsewhere: control.elsewhere(telemetry, question).await?,
        own_publishers: control.publishers_of(asked),
        unreadable: control.unreadable(asked).await?,
        permitted_now: permitted_now.await?,
        refused_publishes,
        session_expiry_max_secs: control.info.limits.session_expiry_max_secs,
        ..TopicFacts::default()
    };
    if let Some(topic) = &question.topic {
        facts.retained = control.retained_of(tenant, &asked.client_id, topic).await?;
    }
    if question.topic.is_none() && asked.is_device {
        facts.lost_by = control.lost_by(asked).await?;
    }
    if let Some(topic) = asked.topic_name() {
        let (all, groups) = control.subscribers_of(tenant, topic).await?;
        if all.is_empty() {
            facts.near = control.near_subscribers_of(asked, topic).await?;
        }
        (facts.subscribers, facts.groups) = (Some(all), groups);
    }
    Ok(facts)
}

impl Control {
    /// The first retained message that a topic, or the Topic Filter of a subscription, matches;
    /// else the end of the last one.
    async fn retained_of(
        &self,
        tenant: TenantId,
        client_id: &str,
        topic: &str,
    ) -> Result<Option<Retained>, ControlError> {
        let Ok(filter) = SubscriptionFilter::parse(topic) else {
            return Ok(None);
        };
        let filter = filter.filter.as_str();
        let query = RetainedQuery {
            tenant,
            filter: filter.into(),
            search: None,
            after: None,
            limit: 1,
            payload_bytes_max: 0,
            count: false,
        };
        if let Some(first) = self.retained(&query).await?.messages.into_iter().next() {
            return Ok(Some(Retained::Kept {
                past_will: self.past_will(tenant, client_id, &first).await?,
                remove: self.command_of_tenant(form::RETAINED_RM, tenant, &[&first.topic]),
                topic: first.topic.into_string(),
                at_ms: first.received_wall_ms,
            }));
        }
        let ended = self.retained_ended(tenant, filter).await?;
        Ok(ended.into_iter().next_back().map(Retained::Ended))
    }

    /// The subscribers of a topic, whether they are connected, and their share groups.
    async fn subscribers_of(
        &self,
        tenant: TenantId,
        topic: &str,
    ) -> Result<(Vec<Subscriber>, Vec<GroupDetail>), ControlError> {
        let query = SubscriptionQuery {
            tenant: Some(tenant),
            topic: Some(topic.into()),
            limit: SUBSCRIBERS_MAX,
            ..SubscriptionQuery::default()
        };
        let mut subscribers: Vec<Subscriber> = Vec::new();
        let found = self.subscriptions(&query).await?.subscriptions;
        let filters = found.iter().map(|one| &*one.filter);
        let groups = self.groups_among(tenant, filters).await?;
        for one in found {
            let session = self
                .client(one.tenant, &one.client_id, MESSAGES_MAX)
                .await?;
            let id = &[&*one.client_id];
            let backlog = session.as_ref();
            let backlog = backlog.and_then(|of| backlog_of(of, &one.filter, &groups));
            subscribers.push(Subscriber {
                backlog,
                end_session: self.command_of_tenant(form::SESSION_RM, one.tenant, id),
                connected: session.as_ref().is_some_and(|of| of.info.connected),
                drops: session.as_ref().map_or_else(Vec::new, drops_of),
                client_id: one.client_id.to_string(),
                filter: one.filter.into_string(),
                qos: one.qos as u8,
            });
        }
        Ok((subscribers, groups))
    }

    /// Clients whose queues were full recently, and whether they are subscribed to topics with the
    /// name of the device to which it may publish; else to what may have its name.
    async fn lost_by(&self, asked: &Asked) -> Result<Vec<(Subscriber, bool)>, ControlError> {
        let tenant = asked.question.tenant;
        let written = self.may_publish_to(tenant, &asked.question.name);
        let since_ms = now_ms().saturating_sub(RECENT_MS);
        let mut found = Vec::new();
        for client_id in self.journal.queues_full(tenant, since_ms, LOST_BY_MAX) {
            let session = self.client(tenant, &client_id, SUBSCRIPTIONS_MAX).await?;
            let Some(session) = session.filter(|_| client_id != asked.client_id) else {
                continue;
            };
            let subscriptions = session.subscriptions.iter();
            let filters = || {
                let all = subscriptions.clone().map(|one| &*one.filter);
                all.filter_map(|filter| Some((filter, SubscriptionFilter::parse(filter).ok()?)))
            };
            // A device that may publish to all topics is not meant by each filter.
            let names_it =
                |topics: &str| topics.split('/').any(|level| level == asked.question.name);
            let is_own = |of: &SubscriptionFilter<'_>| {
                let written = written.iter().filter_map(|one| TopicFilter::new(one).ok());
                let mut common = written.filter_map(|written| of.filter.intersection(written));
                common.any(|topics| names_it(&topics))
            };
            // It may have the name of the device in topics of a gateway.
            let may_name = |of: &SubscriptionFilter<'_>| {
                let mut levels = of.filter.as_str().split('/');
                levels.any(|level| ["+", "#", &asked.question.name].contains(&level))
            };
            let own = filters().find(|(_, of)| is_own(of));
            let likely = own.is_some();
            if let Some((filter, _)) = own.or_else(|| filters().find(|(_, of)| may_name(of))) {
                let subscriber = Subscriber {
                    filter: filter.to_owned(),
                    drops: drops_of(&session),
                    client_id,
                    ..Subscriber::default()
                };
                found.push((subscriber, likely));
            }
        }
        Ok(found)
    }

    /// Clients whose subscriptions nearly match the topic, without the one that was asked about:
    /// those whose names are in the topic, then those whose filters are likely meant for it. They
    /// need not be connected.
    async fn near_subscribers_of(
        &self,
        asked: &Asked,
        topic: &str,
    ) -> Result<Vec<NearSubscriber>, ControlError> {
        let question = &asked.question;
        let mut found: Vec<NearSubscriber> = Vec::new();
        for level in topic.split('/').take(LEVELS_MAX) {
            if level.is_empty() || *level == *question.name {
                continue;
            }
            let client = self
                .client(question.tenant, level, SUBSCRIPTIONS_MAX)
                .await?;
            let Some(client) = client else { continue };
            let near = client.subscriptions.iter().filter_map(|one| {
                Some(NearSubscriber {
                    client_id: level.to_owned(),
                    connected: client.info.connected,
                    words: near_miss(&one.filter, topic)?.words,
                    filter: one.filter.to_string(),
                })
            });
            found.extend(near.take(TOLD));
        }
        let query = SubscriptionQuery {
            tenant: Some(question.tenant),
            // Those of the node itself.
            without: &["$"],
            limit: OF_OTHERS_MAX,
            ..SubscriptionQuery::default()
        };
        for one in self.subscriptions(&query).await?.subscriptions {
            if found.len() >= TOLD {
                break;
            }
            let is_asked = *one.client_id == *question.name || *one.client_id == *asked.client_id;
            let is_known = found.iter().any(|known| *known.client_id == *one.client_id);
            let near = near_miss(&one.filter, topic);
            let Some(near) = near.filter(|near| near.is_likely && !is_asked && !is_known) else {
                continue;
            };
            let client = self.client(one.tenant, &one.client_id, 0).await?;
            found.push(NearSubscriber {
                connected: client.is_some_and(|client| client.info.connected),
                client_id: one.client_id.to_string(),
                filter: one.filter.into_string(),
                words: near.words,
            });
        }
        Ok(found)
    }

    /// Topics of a tenant with recent messages that had no subscriber. Telemetry has reached its
    /// receiver.
    pub(crate) async fn recently_unmatched(
        &self,
        telemetry: Option<&Telemetry>,
        tenant: TenantId,
    ) -> Result<Vec<UnmatchedTopic>, ControlError> {
        let mut topics = self.unmatched_topics(tenant).await?;
        let now_ms = now_ms();
        let filters: Vec<Box<str>> = telemetry.map(Telemetry::filters).unwrap_or_default();
        let filters = filters
            .iter()
            .filter_map(|filter| TopicFilter::new(filter).ok());
        let filters: Vec<TopicFilter<'_>> = filters.collect();
        topics.retain(|one| {
            let topic = TopicName::new(&one.topic);
            let is_telemetry =
                topic.is_ok_and(|topic| filters.iter().any(|one| one.matches(topic)));
            !is_telemetry && now_ms.saturating_sub(one.last_ms) <= RECENT_MS
        });
        Ok(topics)
    }

    /// The clients of a user that published to unmatched topics last.
    fn publishers_of(&self, asked: &Asked) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let Some(user) = &asked.user else {
            return found;
        };
        for client_id in asked
            .unmatched
            .iter()
            .filter_map(|one| one.client_id.as_deref())
        {
            let whose = self.presence.user_of(asked.question.tenant, client_id);
            if whose.as_ref() == Some(user) && !found.iter().any(|known| known == client_id) {
                found.push(client_id.to_owned());
            }
        }
        found
    }

    /// Unmatched topics that the rules forbid a client to read, though it is
    /// subscribed, or nearly so, or they have its name in them.
    async fn unreadable(&self, asked: &Asked) -> Result<Vec<Unreadable>, ControlError> {
        let mut found = Vec::new();
        let (tenant, client_id) = (asked.question.tenant, &*asked.client_id);
        let user = asked.user.as_deref().or(Some(client_id));
        let filters = &asked.filters;
        let own = &filters[..filters.len().min(SUBSCRIPTIONS_MAX)];
        let is_meant = |topic: &str| {
            asked.is_named_in(topic)
                || filters.iter().any(|filter| matches(filter, topic))
                || is_nearly_matched(own, topic)
        };
        let meant = asked
            .unmatched
            .iter()
            .rev()
            .filter(|one| is_meant(&one.topic));
        for one in meant.take(UNREADABLE_MAX) {
            let question = explain::PermissionQuestion {
                tenant,
                user: user.map(str::to_owned),
                client_id: Some(client_id.to_owned()),
                action: Actions::RECEIVE,
                topic: one.topic.to_string(),
            };
            let explained = self.explain(&question).await?;
            if explained.outcome == Outcome::Refused {
                let lacking = Lacking {
                    client_id,
                    user,
                    action: "receive",
                    topic: &one.topic,
                };
                found.push(Unreadable {
                    topic: one.topic.to_string(),
                    why: explained.why,
                    worded: self.journal.commands().permitting(tenant, &lacking, None),
                });
            }
        }
        Ok(found)
    }

    /// The last publish of each client, and topic, that was recently refused or dropped: of the
    /// topic that was asked about, or nearly so, or of topics that its Topic Filters match, or
    /// that name the client.
    fn recently_refused(&self, asked: &Asked) -> Vec<Entry> {
        let is_wanted = |topic: &str| match &asked.question.topic {
            Some(asked) => asked == topic || nearly_same(asked, topic).is_some(),
            None => asked.is_named_in(topic) || asked.filters.iter().any(|of| matches(of, topic)),
        };
        let since_ms = now_ms().saturating_sub(RECENT_MS);
        let tenant = asked.question.tenant;
        let mut entries: Vec<Entry> = Vec::new();
        for entry in self.journal.publishes_refused(tenant, since_ms, is_wanted) {
            let is_same =
                |known: &Entry| known.client_id == entry.client_id && known.topic == entry.topic;
            if entries.len() < REFUSED_MAX && !entries.iter().any(is_same) {
                entries.push(entry);
            }
        }
        entries.reverse();
        entries
    }
}
