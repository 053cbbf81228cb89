//! Messages and subscribers of the topic in other tenants, where the same topic is another one;
//! only for callers that see the whole node.

use martlet_broker::{SubscriptionQuery, TenantId};

use super::arrival::{own_filters, published};
use super::facts::{Elsewhere, LEVELS_MAX, TOLD, TopicFacts};
use super::near::matches;
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::integrations::is_of_node;
use crate::telemetry::Telemetry;
use crate::why::asked::Asked;
use crate::why::{Finding, Question, Side};

/// Remedy for clients of two tenants.
const SAME_TENANT: &str = "have the publisher and the receiver log in as users or devices of the \
                           same team";

/// Findings.
pub(super) fn elsewhere(asked: &Asked, facts: &TopicFacts) -> Option<(Bearing, Finding)> {
    let finding = published_elsewhere(asked, facts).or_else(|| device_elsewhere(asked, facts))?;
    Some((Bearing::Topic, finding))
}

/// Messages to a topic of the client that were published in another tenant.
fn published_elsewhere(asked: &Asked, facts: &TopicFacts) -> Option<Finding> {
    let is_meant = |topic: &str| {
        let is_asked = match &asked.question.topic {
            Some(expected) => topic == expected,
            None => asked.is_named_in(topic) || own_filters(asked).any(|filter| filter == topic),
        };
        is_asked && own_filters(asked).any(|filter| matches(filter, topic))
    };
    let mut all = facts.elsewhere.unmatched.iter();
    let (tenant, one) = all.find_map(|(tenant, topics)| {
        let mut latest = topics.iter().rev();
        Some((tenant, latest.find(|one| is_meant(&one.topic))?))
    })?;
    let (published, own) = (published(one), own_tenant(&facts.elsewhere));
    let sentence = format!(
        "{published} arrived in {tenant}, and it is in {own}: the topics of tenants are separate"
    );
    let finding = Finding::new(Cause::NotSubscribed, sentence).remedy(SAME_TENANT);
    Some(finding.with_messages(one))
}

/// The client is subscribed to a topic that names a device of another tenant.
fn device_elsewhere(asked: &Asked, facts: &TopicFacts) -> Option<Finding> {
    let topic = asked.question.topic.as_deref()?;
    if asked.side != Side::Receiver || !asked.is_connected {
        return None;
    }
    let (id, tenant) = facts.elsewhere.device.as_ref()?;
    let own = own_tenant(&facts.elsewhere);
    let sentence = format!(
        "the topic {topic} names the device {id}, which is in {tenant}, and it is in {own}: the \
         topics of tenants are separate"
    );
    Some(Finding::new(Cause::PublisherAbsent, sentence).remedy(SAME_TENANT))
}

/// The subscribers of the topic in other tenants, as the end of a sentence, and what to do.
pub(super) fn subscribers_elsewhere(elsewhere: &Elsewhere) -> Option<(String, &'static str)> {
    let all = elsewhere.subscribers.join(", ");
    let own = own_tenant(elsewhere);
    let words = format!("; {all}, and it publishes in {own}: the topics of tenants are separate");
    (!all.is_empty()).then_some((words, SAME_TENANT))
}

fn own_tenant(elsewhere: &Elsewhere) -> &str {
    match &*elsewhere.own {
        "" => "another tenant",
        own => own,
    }
}

/// Other tenants that are looked at.
const TENANTS_MAX: usize = 16;

impl Control {
    /// Facts of other tenants about the topic in the question, and messages without receivers
    /// there.
    pub(super) async fn elsewhere(
        &self,
        telemetry: Option<&Telemetry>,
        question: &Question,
    ) -> Result<Elsewhere, ControlError> {
        let mut found = Elsewhere {
            own: self.tenant_in_words(question.tenant),
            ..Elsewhere::default()
        };
        if !question.sees_node {
            return Ok(found);
        }
        for tenant in self.other_tenants(question.tenant) {
            let unmatched = self.recently_unmatched(telemetry, tenant).await?;
            if !unmatched.is_empty() {
                found
                    .unmatched
                    .push((self.tenant_in_words(tenant), unmatched));
            }
        }
        let topic = question.topic.as_deref();
        let Some(topic) = topic.filter(|_| !question.is_about_filter()) else {
            return Ok(found);
        };
        for tenant in self.other_tenants(question.tenant) {
            let query = SubscriptionQuery {
                tenant: Some(tenant),
                topic: Some(topic.into()),
                limit: TOLD,
                ..SubscriptionQuery::default()
            };
            let all = self.subscriptions(&query).await?.subscriptions.into_iter();
            // They take messages of all tenants.
            let all = all.filter(|one| !is_of_node(&one.client_id));
            let tenant = self.tenant_in_words(tenant);
            found.subscribers.extend(all.map(|one| {
                let (client_id, filter) = (one.client_id, one.filter);
                format!("{client_id} is subscribed to {filter} in {tenant}")
            }));
        }
        found.subscribers.truncate(TOLD);
        found.device = self.device_elsewhere(question.tenant, topic);
        Ok(found)
    }

    /// The common tenant, and those of teams, without one.
    pub(crate) fn other_tenants(&self, own: TenantId) -> Vec<TenantId> {
        let tables = self.tables();
        let owned = tables.iter().flat_map(|tables| tables.tenants());
        let all = std::iter::once(0).chain(owned).map(TenantId);
        all.filter(|tenant| *tenant != own)
            .take(TENANTS_MAX)
            .collect()
    }

    pub(crate) fn tenant_in_words(&self, tenant: TenantId) -> String {
        let tables = self.tables();
        let team = tables
            .as_deref()
            .and_then(|tables| tables.team_of(tenant.0));
        match team {
            Some(team) => format!("the tenant of the team {team}"),
            None => "the common tenant".to_owned(),
        }
    }

    /// The first device of another tenant whose id is a level of a topic, where the own tenant has
    /// no device or user of that name; with its tenant, in words.
    fn device_elsewhere(&self, own: TenantId, topic: &str) -> Option<(String, String)> {
        let tables = self.tables()?;
        let mut levels = topic
            .split('/')
            .take(LEVELS_MAX)
            .filter(|level| !level.is_empty() && tables.account_kind(own.0, level).is_none());
        levels.find_map(|level| {
            let mut tenants = self.other_tenants(own).into_iter();
            let tenant = tenants.find(|tenant| tables.is_device(tenant.0, level))?;
            Some((level.to_owned(), self.tenant_in_words(tenant)))
        })
    }
}
