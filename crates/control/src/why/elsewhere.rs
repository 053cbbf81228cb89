//! What other tenants have of the topic, where the same topic is another one; only for callers that
//! see the whole node.

use martlet_broker::{ClientQuery, EventKind, Search, SubscriptionQuery, TenantId};

use super::arrival::{LEVELS_MAX, names_client, own_filters, published};
use super::facts::{DeviceElsewhere, Elsewhere, Facts, RefusedElsewhere, SubscriberElsewhere};
use super::found::{Bearing, Found, is_connected};
use super::names::nearest;
use super::near::matches;
use super::side::{Side, side};
use super::{Finding, Question};
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::integrations::is_of_node;
use crate::journal::Entry;
use crate::remedy::Command;
use crate::remedy::form;
use crate::telemetry::Telemetry;

/// What to do about clients of two tenants.
const SAME_TENANT: &str = "have the publisher and the receiver log in as users or devices of the \
                           same team";

/// What there is to find.
pub(super) fn elsewhere(facts: &Facts, found: &mut Found) {
    if let Some(finding) = published_elsewhere(facts) {
        found.push((Bearing::Topic, finding));
        return;
    }
    found.extend(device_elsewhere(facts).map(|finding| (Bearing::Topic, finding)));
}

/// Messages to a topic of the client that were published in another tenant.
fn published_elsewhere(facts: &Facts) -> Option<Finding> {
    let is_meant = |topic: &str| {
        let is_asked = match &facts.question.topic {
            Some(expected) => topic == expected,
            None => names_client(facts, topic) || own_filters(facts).any(|filter| filter == topic),
        };
        is_asked && own_filters(facts).any(|filter| matches(filter, topic))
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
fn device_elsewhere(facts: &Facts) -> Option<Finding> {
    let topic = facts.question.topic.as_deref()?;
    if side(facts) != Side::Receiver || !is_connected(facts) {
        return None;
    }
    let device = facts.elsewhere.devices.first()?;
    let (id, tenant, own) = (&device.id, &device.tenant, own_tenant(&facts.elsewhere));
    let sentence = format!(
        "the topic {topic} names the device {id}, which is in {tenant}, and it is in {own}: the \
         topics of tenants are separate"
    );
    Some(Finding::new(Cause::PublisherAbsent, sentence).remedy(SAME_TENANT))
}

/// The subscribers of the topic in other tenants, as the end of a sentence, and what to do.
pub(super) fn subscribers_elsewhere(facts: &Facts) -> Option<(String, &'static str)> {
    let all = facts.elsewhere.subscribers.iter().map(|one| {
        let (client_id, filter, tenant) = (&one.client_id, &one.filter, &one.tenant);
        format!("{client_id} is subscribed to {filter} in {tenant}")
    });
    let all: Vec<String> = all.collect();
    let own = own_tenant(&facts.elsewhere);
    (!all.is_empty()).then(|| {
        let words = format!(
            "{}, and it publishes in {own}: the topics of tenants are separate",
            all.join(", ")
        );
        (words, SAME_TENANT)
    })
}

fn own_tenant(elsewhere: &Elsewhere) -> &str {
    match &*elsewhere.own {
        "" => "another tenant",
        own => own,
    }
}

/// Sessions whose Client Identifiers begin with the name that are looked at, at most.
const LOOKED_AT: usize = 64;

/// Other tenants that are looked at.
const TENANTS_MAX: usize = 16;

/// Subscribers in other tenants that are reported, at most.
const TOLD: usize = 3;

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
        let Some(topic) = question
            .topic
            .as_deref()
            .filter(|_| !question.is_about_filter())
        else {
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
            found.subscribers.extend(all.map(|one| SubscriberElsewhere {
                client_id: one.client_id.to_string(),
                filter: one.filter.into_string(),
                tenant: self.tenant_in_words(tenant),
            }));
        }
        found.subscribers.truncate(TOLD);
        found.devices = self.devices_elsewhere(question.tenant, topic);
        Ok(found)
    }

    /// The common tenant, and those of teams, without one.
    fn other_tenants(&self, own: TenantId) -> Vec<TenantId> {
        let policy = self.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        let owned = tables.iter().flat_map(|tables| tables.tenants());
        let all = std::iter::once(0).chain(owned).map(TenantId);
        all.filter(|tenant| *tenant != own)
            .take(TENANTS_MAX)
            .collect()
    }

    fn tenant_in_words(&self, tenant: TenantId) -> String {
        let policy = self.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        match tables.and_then(|tables| tables.team_of(tenant.0)) {
            Some(team) => format!("the tenant of the team {team}"),
            None => "the common tenant".to_owned(),
        }
    }

    /// Devices of other tenants whose ids are levels of a topic, where the own tenant has no device
    /// or user of that name.
    fn devices_elsewhere(&self, own: TenantId, topic: &str) -> Vec<DeviceElsewhere> {
        let policy = self.policy();
        let Some(tables) = policy.as_deref().and_then(|policy| policy.tables()) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for level in topic.split('/').take(LEVELS_MAX) {
            if level.is_empty() || tables.account_kind(own.0, level).is_some() {
                continue;
            }
            let tenants = self.other_tenants(own).into_iter();
            let mut tenants = tenants.filter(|tenant| tables.is_device(tenant.0, level));
            found.extend(tenants.next().map(|tenant| DeviceElsewhere {
                id: level.to_owned(),
                tenant: self.tenant_in_words(tenant),
            }));
        }
        found
    }

    /// The last client with this Client Identifier that was refused in another tenant; none where
    /// there is none, or the caller sees one team alone.
    pub(super) fn refused_elsewhere(&self, question: &Question) -> Option<RefusedElsewhere> {
        if !question.sees_node {
            return None;
        }
        let policy = self.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables())?;
        let name = &*question.name;
        let refused = self.other_tenants(question.tenant).into_iter();
        let refused = refused.filter_map(|tenant| {
            let runs = self.journal.runs_of(tenant, name, &self.presence);
            let last = runs.into_iter().next_back()?;
            (last.last.what == EventKind::Refused).then_some((tenant, last))
        });
        let (tenant, run) = refused.max_by_key(|(_, run)| run.last.at_ms)?;
        let of_team_token = run.cause == Some(Cause::WrongClientId);
        Some(RefusedElsewhere {
            tenant: self.tenant_in_words(tenant),
            near: match of_team_token {
                true => nearest(name, tables.names(tenant.0)),
                false => Vec::new(),
            },
            run,
        })
    }

    /// The last client of the tenant that was refused for its Client Identifier, which is spelt
    /// nearly like that of the device that was asked about.
    pub(super) fn near_refused(
        &self,
        question: &Question,
        registered_as: Option<&str>,
    ) -> Option<Entry> {
        // In the common tenant are clients of other teams.
        let is_seen = question.sees_node || question.tenant != TenantId::default();
        if registered_as != Some("device") || !is_seen {
            return None;
        }
        let name = &*question.name;
        self.journal
            .client_id_refused(question.tenant, |client_id| {
                client_id != name && !nearest(name, std::iter::once(client_id)).is_empty()
            })
    }

    /// The command that asks about a connected client of another tenant with this Client
    /// Identifier; none where there is none, or the caller sees one team alone.
    pub(super) async fn client_elsewhere(
        &self,
        question: &Question,
    ) -> Result<Option<Command>, ControlError> {
        if !question.sees_node {
            return Ok(None);
        }
        let query = ClientQuery {
            search: Some(Search {
                text: question.name.as_str().into(),
                anywhere: false,
            }),
            connected: Some(true),
            limit: LOOKED_AT,
            ..ClientQuery::default()
        };
        let found = self.clients(&query).await?.clients;
        let mut others = found
            .iter()
            .filter(|one| *one.client_id == *question.name && one.tenant != question.tenant);
        Ok(others.find_map(|one| self.command_of_tenant(form::WHY, one.tenant, &[&question.name])))
    }
}
