//! Who is asked about, and how that client is: what every part of the node gets to know first.
//!
//! * `identity`: the identity of a client
//! * `lanes`: the sessions of the lanes of an integration as one
//! * `permits`: what rules permit, and what would permit the rest
//! * `resolve_name`: the tenant and client of a name

mod identity;
mod lanes;
pub(super) mod permits;
mod resolve_name;

use std::sync::Arc;

use martlet_broker::{ClientDetail, ClientQuery, GroupDetail, Realm, TenantId, matches_shown};
use martlet_registry::AccountKind;

use super::Question;
use super::asked::Asked;
use super::events::is_one_too_many;
use super::session::Session;
use super::topic::LEVELS_MAX;
use crate::authentication::Policy;
use crate::control::{Control, ControlError};
use crate::event_kind::EventKind;
use crate::integrations::Integrations;
use crate::journal::{AclFileOfListener, Run};
use crate::shared_registry::SharedRegistry;
use crate::telemetry::Telemetry;
use crate::wall_clock::unsigned;
use permits::Actor;

/// Subscriptions of a client, or subscribers of a topic, that are looked at.
const SUBSCRIPTIONS_MAX: usize = 1_000;

/// Clients of a user that are looked at.
const CLIENTS_MAX: usize = 16;

/// Who asks, and about what.
pub(crate) struct Inquirer<'a> {
    /// Question.
    pub(crate) question: &'a Question,
    /// The caller sees what is of this team alone.
    pub(crate) team: Option<&'a str>,
    /// Topic Filters of what devices publish for the node itself.
    pub(crate) received: &'a [String],
    /// Sinks that take messages for other systems.
    pub(crate) integrations: Option<&'a Integrations>,
    /// Values that devices send.
    pub(crate) telemetry: Option<&'a Telemetry>,
    /// Users, devices and the rest.
    pub(crate) tables: Option<&'a SharedRegistry>,
}

impl Control {
    /// The node was started with a configuration file.
    pub(crate) fn has_configuration(&self) -> bool {
        self.info.command_options.contains(" -c ")
    }

    /// The client, integration or other object that is asked about, and the clients of the name:
    /// several, if it is a user's with several clients; else that one.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub(crate) async fn asked(
        &self,
        who: &Inquirer<'_>,
    ) -> Result<(Asked, Vec<Asked>), ControlError> {
        self.settle_events().await;
        let integrations = who.integrations;
        let named = integrations.and_then(|all| Some((all, all.question_about(who.question)?)));
        if let Some((all, question)) = named {
            let question = &question;
            let who = Inquirer { question, ..*who };
            let asked = self.asked_of_integration(all, &who).await?;
            return Ok((asked.clone(), vec![asked]));
        }
        let (tenant, name) = (who.question.tenant, &*who.question.name);
        let runs = self.journal.runs_of(tenant, name, &self.presence);
        let own = self.session(tenant, name).await?;
        let clients = match own {
            Some(_) if !self.has_several_clients(tenant, name) => Vec::new(),
            _ => self.clients_of(tenant, name, &runs).await?,
        };
        if let [client_id] = &*clients {
            let session = self.session_of_user(tenant, client_id, name).await?;
            let asked = self.asked_of(who, client_id, session, runs).await?;
            return Ok((asked.clone(), vec![asked]));
        }
        let asked = self.asked_of(who, name, own, runs.clone()).await?;
        let mut each = Vec::new();
        for client_id in &clients {
            let session = self.session_of_user(tenant, client_id, name).await?;
            let runs = self.runs_of_client(tenant, client_id, name, &runs);
            let mut client = self.asked_of(who, client_id, session, runs).await?;
            client.devices_in_topic.retain(|id| !clients.contains(id));
            client.clients.clone_from(&clients);
            each.push(client);
        }
        if each.is_empty() {
            each.push(asked.clone());
        }
        Ok((asked, each))
    }

    /// Whether it is a device whose type permits it several clients.
    pub(crate) fn has_several_clients(&self, tenant: TenantId, name: &str) -> bool {
        let tables = self.tables();
        tables.is_some_and(|tables| tables.sessions_max(tenant.0, name) > 0)
    }

    /// Clients of a user: those that something happened to recently, then those that have a
    /// session, the connected ones first. Of a device, those that it was accepted as: one, unless
    /// its type permits any Client Identifier; then also those that are one too many.
    async fn clients_of(
        &self,
        tenant: TenantId,
        name: &str,
        runs: &[Run],
    ) -> Result<Vec<String>, ControlError> {
        let mut found: Vec<String> = Vec::new();
        let mut add = |client_id: &str| {
            // A part that publishes as the user is not one of the user's clients.
            let is_client = !client_id.is_empty() && !is_part(client_id);
            if is_client && !found.iter().any(|known| known == client_id) {
                found.push(client_id.to_owned());
            }
        };
        runs.iter().rev().for_each(|run| add(&run.last.client_id));
        let mut with_session: Vec<String> = Vec::new();
        for connected in [true, false] {
            let query = ClientQuery {
                tenant: Some(tenant),
                user: Some(name.into()),
                connected: Some(connected),
                limit: CLIENTS_MAX,
                ..ClientQuery::default()
            };
            let page = self.clients(&query).await?;
            page.clients.iter().for_each(|one| add(&one.client_id));
            let of_page = page.clients.iter();
            with_session.extend(of_page.map(|one| one.client_id.to_string()));
        }
        let known = self.account_kind(tenant, name);
        if matches!(known, Some(AccountKind::Device)) {
            found.retain(|client_id| {
                let mut sessions = with_session.iter();
                sessions.any(|one| **one == **client_id)
                    || was_let_in(runs, client_id)
                    || runs.iter().any(|run| {
                        is_one_too_many(run) && matches_shown(&run.last.client_id, client_id)
                    })
            });
            if found.is_empty() {
                found.push(name.to_owned());
            }
        }
        found.truncate(CLIENTS_MAX);
        Ok(found)
    }

    /// The session of a Client Identifier, unless it is another user's.
    async fn session_of_user(
        &self,
        tenant: TenantId,
        client_id: &str,
        name: &str,
    ) -> Result<Option<ClientDetail>, ControlError> {
        let session = self.session(tenant, client_id).await?;
        Ok(session.filter(|session| {
            let user = session.info.user_name.as_deref();
            client_id == name || user.is_none_or(|user| user == name)
        }))
    }

    /// The recent connections of one client of a user. Other users may have tried its Client
    /// Identifier.
    fn runs_of_client(
        &self,
        tenant: TenantId,
        client_id: &str,
        name: &str,
        of_user: &[Run],
    ) -> Vec<Run> {
        let mut runs = self.journal.runs_of(tenant, client_id, &self.presence);
        // If the client has the name of its user, the facts of its other clients are added.
        runs.retain(|run| {
            let user = run.last.user_name.as_deref();
            let of = &*run.last.client_id;
            user.is_none_or(|user| user == name) && (of.is_empty() || matches_shown(of, client_id))
        });
        for run in of_user {
            let is_known = runs
                .iter()
                .any(|known| known.last.seq == run.last.seq && known.last.what == run.last.what);
            if matches_shown(&run.last.client_id, client_id) && !is_known {
                runs.push(run.clone());
            }
        }
        runs.sort_by_key(|run| (run.last.at_ms, run.last.seq));
        runs
    }

    /// One client of the name: who it is, and how.
    async fn asked_of(
        &self,
        who: &Inquirer<'_>,
        client_id: &str,
        session: Option<ClientDetail>,
        mut runs: Vec<Run>,
    ) -> Result<Asked, ControlError> {
        let question = who.question;
        let tenant = question.tenant;
        let identified = self.identified(question, client_id, session.as_ref(), &runs);
        let asked = identified.await?;
        let policy = self.policy();
        let presence = asked.presence.as_ref();
        let acl_file = presence
            .zip(policy.as_deref())
            .and_then(|(presence, policy)| {
                self.acl_file_of(policy, tenant, &presence.listener_url)
            });
        let actor = Actor {
            tenant,
            client_id,
            user: asked.user.as_deref(),
            acl_file: acl_file.as_ref(),
        };
        let mut groups_missing = self.reword_forbidden(&actor, &mut runs);
        let (rules, missing) = match &question.topic {
            Some(topic) => {
                let is_filter = question.is_about_filter();
                let (rules, missing) = self.topic_rules(&actor, topic, is_filter).await?;
                (Some(rules), missing)
            }
            None => (None, Vec::new()),
        };
        groups_missing.extend(missing);
        let permitted_now = self.permitted_now(tenant, runs.iter().map(|run| &run.last));
        let permitted_now = permitted_now.await?;
        let (runs_of_parts, runs) = runs
            .into_iter()
            .partition(|run| is_part(&run.last.client_id) && !is_part(client_id));
        let mut asked = Asked {
            team: who.team.map(str::to_owned),
            received: who.received.to_vec(),
            session: session.map(Session::from),
            unmatched: self.recently_unmatched(who.telemetry, tenant).await?,
            devices_in_topic: self.devices_in_topic(question, &asked),
            rules,
            groups_missing,
            permitted_now,
            runs_of_parts,
            runs,
            ..asked
        };
        if let Some(tables) = who.tables {
            self.recall(tables, &mut asked).await;
        }
        Ok(asked.derived())
    }

    /// Adds what the tables have of the client.
    async fn recall(&self, tables: &SharedRegistry, asked: &mut Asked) {
        let tenant = asked.question.tenant;
        let device = asked.user.as_ref().unwrap_or(&asked.question.name);
        let active = tables.last_activity(tenant.0, device).await;
        asked.last_seen_ms = active
            .map(|active| unsigned(active.seen_ms))
            .filter(|ms| *ms > 0);
        if asked.registered_as.as_deref() == Some("device") {
            let (seen, device) = (asked.visibility(), &asked.question.name);
            asked.type_change = tables.type_change_of(&seen, tenant, device).await;
            asked.joined = tables.joined_by(&seen, device).await;
        }
        if !asked.is_of_another && asked.presence.is_none() {
            asked.presence = tables.presence_of(tenant, &asked.client_id).await;
        }
        for group in &mut asked.groups_missing {
            group.left_ms = tables.left(&group.id, &asked.client_id).await;
        }
    }

    /// Ids of other devices that are levels of the topic in the question.
    fn devices_in_topic(&self, question: &Question, asked: &Asked) -> Vec<String> {
        let tables = self.tables();
        let (Some(tables), Some(topic)) = (tables, &question.topic) else {
            return Vec::new();
        };
        let levels = topic.split('/').take(LEVELS_MAX);
        let devices = levels.filter(|level| {
            let is_own = [&*question.name, &*asked.client_id].contains(level);
            let is_user = asked.user.as_deref() == Some(level);
            !is_own && !is_user && tables.is_device(question.tenant.0, level)
        });
        devices.map(str::to_owned).collect()
    }

    /// The ACL file of a listener's clients; none: there is none.
    fn acl_file_of(
        &self,
        policy: &Policy,
        tenant: TenantId,
        listener: &str,
    ) -> Option<AclFileOfListener> {
        let facts = self.node_facts();
        let found = facts.listeners.iter().find(|one| one.url == listener)?;
        let is_own = found.realm != Realm::COMMON;
        let realm = match is_own {
            true => found.realm,
            false => Realm::of_tenant(tenant),
        };
        Some(AclFileOfListener {
            path: policy.realms.get(&realm)?.acl_file.clone()?,
            users: Arc::clone(&policy.realms.get(&realm)?.acl_users),
            nameless: Arc::clone(&policy.realms.get(&realm)?.anonymous),
            listener: is_own.then(|| listener.to_owned()),
        })
    }

    /// The share groups among these subscriptions.
    pub(crate) async fn groups_among<'a>(
        &self,
        tenant: TenantId,
        filters: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<GroupDetail>, ControlError> {
        let shared = filters.filter(|filter| filter.starts_with("$share/"));
        let shared: Arc<[Box<str>]> = shared.map(Box::from).collect();
        match shared.is_empty() {
            true => Ok(Vec::new()),
            false => self.group_details(tenant, shared).await,
        }
    }

    async fn session(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<Option<ClientDetail>, ControlError> {
        self.client(tenant, client_id, SUBSCRIPTIONS_MAX).await
    }
}

/// Parts of the node have Client Identifiers that no client is accepted with.
fn is_part(client_id: &str) -> bool {
    client_id.starts_with('$')
}

/// A client of that Client Identifier was accepted recently.
fn was_let_in(runs: &[Run], client_id: &str) -> bool {
    let mut came = runs
        .iter()
        .filter(|run| run.last.what == EventKind::Connected);
    came.any(|run| matches_shown(&run.last.client_id, client_id))
}
