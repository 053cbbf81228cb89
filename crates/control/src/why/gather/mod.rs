//! Where the facts come from.
//!
//! * `identity`: the identity of a client
//! * `resolve_name`: the tenant and client of a name
//! * `session`: the session of a client
//! * `topic`: the permissions, subscribers and retained message of a topic

mod identity;
mod resolve_name;
mod session;
mod topic;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use martlet_broker::{
    ClientDetail, ClientQuery, EventKind, GroupDetail, Realm, TenantId, matches_shown,
};

use super::Question;
use super::admission::{is_one_too_many, was_there_then};
use super::facts::{Banned, Facts, Lockout, Presence};
use super::node::store_trouble;
use crate::authentication::Policy;
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::health::{RELOAD_FAILED, RESTART_PENDING};
use crate::integrations::Integrations;
use crate::journal::{AclFileOfListener, Entry, NamelessRules, Run, host};
use crate::remedy::form;
use crate::telemetry::Telemetry;
use crate::wall_clock::{now_ms, now_signed_ms};
use identity::Identified;
use session::session_of;
use topic::Actor;

/// Subscriptions of a client, or subscribers of a topic, that are looked at.
const SUBSCRIPTIONS_MAX: usize = 1_000;

/// The durability of a node that keeps messages in memory only.
const MEMORY: &str = "memory";

/// Clients of a user that are looked at.
const CLIENTS_MAX: usize = 16;

impl Control {
    /// The node was started with a configuration file.
    pub(crate) fn has_configuration(&self) -> bool {
        self.info.command_options.contains(" -c ")
    }

    /// Everything that is known of a client without asking the tables; of a user with several
    /// clients, of each of them. It may be an integration: its dead letters are counted in the
    /// tables.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub(crate) async fn facts(
        &self,
        integrations: Option<&Integrations>,
        telemetry: Option<&Telemetry>,
        question: &Question,
    ) -> Result<Facts, ControlError> {
        self.settle_events().await;
        let named = integrations.and_then(|all| Some((all, all.question_about(question)?)));
        let mut facts = match named {
            Some((all, question)) => self.facts_of_integration(all, telemetry, &question).await?,
            None => self.facts_of_client(telemetry, question).await?,
        };
        facts.named_in_topic = self.named_in_topic(&facts).await?;
        facts.taken_for_all = integrations.is_some_and(|all| all.take_for_all(question));
        for client in &mut facts.clients {
            client.taken_for_all = facts.taken_for_all;
        }
        Ok(facts)
    }

    async fn facts_of_client(
        &self,
        telemetry: Option<&Telemetry>,
        question: &Question,
    ) -> Result<Facts, ControlError> {
        let (tenant, name) = (question.tenant, &*question.name);
        let runs = self.journal.runs_of(tenant, name, &self.presence);
        let own = self.session(tenant, name).await?;
        let clients = match own {
            Some(_) if !self.has_several_clients(tenant, name) => Vec::new(),
            _ => self.clients_of(tenant, name, &runs).await?,
        };
        if let [client_id] = &*clients {
            let session = self.session_of_user(tenant, client_id, name).await?;
            let facts = self.facts_of(telemetry, question, client_id, session, runs);
            return facts.await;
        }
        let facts = self.facts_of(telemetry, question, name, own, runs.clone());
        let mut facts = facts.await?;
        for client_id in clients {
            let session = self.session_of_user(tenant, &client_id, name).await?;
            let runs = self.runs_of_client(tenant, &client_id, name, &runs);
            let facts_of_it = self.facts_of(telemetry, question, &client_id, session, runs);
            facts.clients.push(facts_of_it.await?);
        }
        Ok(facts)
    }

    /// It is a device whose type permits it several clients.
    pub(crate) fn has_several_clients(&self, tenant: TenantId, name: &str) -> bool {
        let policy = self.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        tables.is_some_and(|tables| tables.sessions_max(tenant.0, name) > 0)
    }

    /// Clients of a user: those that something happened to recently, then those that have a
    /// session, the connected ones first. Of a device, those that it was let in as: one, unless its
    /// type permits any Client Identifier; then also those that are one too many.
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
        let policy = self.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        let known = tables.and_then(|tables| tables.account_kind(tenant.0, name));
        if matches!(known, Some(martlet_registry::AccountKind::Device)) {
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

    // Table: the facts, each from its place.
    pub(super) async fn facts_of(
        &self,
        telemetry: Option<&Telemetry>,
        question: &Question,
        client_id: &str,
        session: Option<ClientDetail>,
        mut runs: Vec<Run>,
    ) -> Result<Facts, ControlError> {
        let tenant = question.tenant;
        let identified = self.identify(question, client_id, session.as_ref(), &runs);
        let Identified {
            policy,
            proved,
            mut facts,
        } = identified.await?;
        let is_connected = session
            .as_ref()
            .is_some_and(|session| session.info.connected);
        if facts.registered_as.is_none() && !is_connected {
            facts.namesakes.client_elsewhere = self.client_elsewhere(question).await?;
            if runs.is_empty() {
                facts.namesakes.refused_elsewhere = self.refused_elsewhere(question);
            }
        }
        let policy = policy.as_deref();
        let user = facts.user.as_deref();
        let presence = facts.presence.as_ref();
        let acl_file = presence.and_then(|presence| {
            let listener = presence.listener.as_deref()?;
            self.acl_file_of(policy?, tenant, listener)
        });
        let actor = Actor {
            tenant,
            client_id,
            user,
            acl_file: acl_file.as_ref(),
        };
        let mut groups_missing = self.reword_forbidden(&actor, &mut runs);
        let topic = self.topic_facts(question, &actor).await?;
        groups_missing.extend(topic.groups_missing);
        let groups = self.groups_of(tenant, session.as_ref()).await?;
        let address = address_of(&runs, presence);
        let at = address.and_then(|address| address.parse::<SocketAddr>().ok());
        // An address that was asked about may be one that nobody has connected from.
        let at = at
            .map(|address| address.ip())
            .or_else(|| question.name.parse().ok());
        let nameless = match address.and_then(host) {
            host if question.sees_node => self.journal.nameless_from(host),
            _ => Vec::new(),
        };
        let own = session.iter().flat_map(|session| &session.subscriptions);
        let own: Vec<&str> = own.map(|one| &*one.filter).collect();
        let refused_publishes = self.recently_refused(question, (client_id, user), &own);
        let unmatched = self.recently_unmatched(telemetry, tenant).await?;
        let own_publishers = self.publishers_of(tenant, user, &unmatched);
        let elsewhere = self.elsewhere(telemetry, question).await?;
        let own_name_rules = self.own_name_rules(&actor, &runs).await?;
        let unreadable = self
            .unreadable((tenant, client_id, user), &own, &unmatched)
            .await?;
        let forbidden = runs.iter().map(|run| &run.last).chain(&refused_publishes);
        let permitted_now = self.permitted_now(tenant, forbidden).await?;
        let runs = runs.into_iter();
        let (runs_of_parts, runs) =
            runs.partition(|run| is_part(&run.last.client_id) && !is_part(client_id));
        Ok(Facts {
            now_ms: now_ms(),
            restored: self.restored_recently(),
            has_no_configuration: question.sees_node && !self.has_configuration(),
            named_part: self.part_named(&question.name),
            reload_failed: self.warning(question, RELOAD_FAILED),
            restart_pending: self.warning(question, RESTART_PENDING),
            by_certificate: policy.is_some_and(|policy| {
                policy.takes_certificate_of(Realm::of_tenant(tenant), &question.name)
            }),
            banned: policy.and_then(|policy| self.banned(policy, (tenant, client_id, &proved), at)),
            locked_out: self.lockout_of(tenant, (&proved, client_id), at),
            will: self.will_of(tenant, client_id, session.as_ref()),
            absent: self.absent_of_topic(question).await?,
            retained: topic.retained,
            session: session.map(session_of),
            groups_missing,
            runs,
            runs_of_parts,
            permitted_now,
            nameless,
            lifted: policy.map_or_else(Vec::new, |policy| {
                lifted(policy, facts.from_address.iter().flatten())
            }),
            near_refused: self.near_refused(question, facts.registered_as.as_deref()),
            of_other_tenants: policy.map_or_else(Vec::new, |policy| {
                of_other_tenants(policy, facts.from_address.iter().flatten())
            }),
            near: topic.near,
            unmatched,
            own_publishers,
            elsewhere,
            own_name_rules,
            token_shown_by: self.journal.token_shown_by(tenant, client_id),
            unreadable,
            refused_publishes,
            listeners: self.info.listeners.clone(),
            server_certificates: self.server_certificates(),
            client_id_bytes: self.info.limits.client_id_bytes,
            rules: topic.rules,
            subscribers: topic.subscribers,
            subscriber_groups: topic.subscriber_groups,
            store: self
                .store_state()
                .and_then(|state| store_trouble(state, question.sees_node)),
            in_memory_since: (self.info.durability == MEMORY)
                .then(|| now_ms().saturating_sub(self.uptime().as_millis() as u64)),
            groups,
            session_expiry_max_secs: self.info.limits.session_expiry_max_secs,
            ..facts
        })
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
            nameless: NamelessRules(Arc::clone(&policy.realms.get(&realm)?.anonymous)),
            listener: is_own.then(|| listener.to_owned()),
        })
    }

    /// The share groups that a session is a member of.
    async fn groups_of(
        &self,
        tenant: TenantId,
        session: Option<&ClientDetail>,
    ) -> Result<Vec<GroupDetail>, ControlError> {
        let subscriptions = session.iter().flat_map(|session| &session.subscriptions);
        let filters = subscriptions.map(|one| &one.filter);
        self.groups_among(tenant, filters).await
    }

    /// The share groups of these subscriptions.
    async fn groups_among<'a>(
        &self,
        tenant: TenantId,
        filters: impl Iterator<Item = &'a Box<str>>,
    ) -> Result<Vec<GroupDetail>, ControlError> {
        let shared = filters.filter(|filter| filter.starts_with("$share/"));
        let shared: Arc<[Box<str>]> = shared.cloned().collect();
        match shared.is_empty() {
            true => Ok(Vec::new()),
            false => self.group_details(tenant, shared).await,
        }
    }

    /// The lockout of the user name of a client, or of an address, and how it is lifted.
    fn lockout_of(
        &self,
        tenant: TenantId,
        who: (&str, &str),
        address: Option<IpAddr>,
    ) -> Option<Lockout> {
        let locked = self.locked_out(tenant, who, address)?;
        let user = Some(who.0).filter(|_| locked.is_of_name);
        Some(Lockout {
            why: locked.why,
            accepted_secs: locked.accepted_for.map(|left| left.as_secs() + 1),
            worded: self.journal.lifting(tenant, user, address),
        })
    }

    fn banned(
        &self,
        policy: &Policy,
        (tenant, client_id, user): (TenantId, &str, &str),
        address: Option<IpAddr>,
    ) -> Option<Banned> {
        let tables = policy.tables_even_idle()?;
        let ban = tables.ban_of(tenant.0, client_id, user, address, now_signed_ms())?;
        Some(Banned {
            why: policy
                .banned(tenant, client_id, Some(user), address)?
                .into_detail()
                .into_owned(),
            command: self.command(form::BAN_RM, &[&ban.id]),
        })
    }

    pub(super) async fn session(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<Option<ClientDetail>, ControlError> {
        self.client(tenant, client_id, SUBSCRIPTIONS_MAX).await
    }
}

/// Parts of the node have Client Identifiers that no client is let in with.
fn is_part(client_id: &str) -> bool {
    client_id.starts_with('$')
}

/// A client of that Client Identifier was let in recently.
fn was_let_in(runs: &[Run], client_id: &str) -> bool {
    let mut came = runs
        .iter()
        .filter(|run| run.last.what == EventKind::Connected);
    came.any(|run| matches_shown(&run.last.client_id, client_id))
}

/// Numbers of the entries about a name that is unknown in its tenant, with the User Names of the
/// devices of that id in other tenants.
fn of_other_tenants<'a>(
    policy: &Policy,
    refused: impl Iterator<Item = &'a Entry>,
) -> Vec<(u64, Vec<String>)> {
    let Some(tables) = policy.tables() else {
        return Vec::new();
    };
    let unknown = refused.filter(|entry| entry.cause == Some(Cause::UnknownName));
    let names = unknown.filter_map(|entry| {
        let name = entry.user_name.as_deref()?;
        let names: Vec<String> = tables.devices_elsewhere(entry.tenant, name).collect();
        (!names.is_empty()).then_some((entry.seq, names))
    });
    names.collect()
}

/// Numbers of the entries that are for a ban that is over.
fn lifted<'a>(policy: &Policy, refused: impl Iterator<Item = &'a Entry>) -> Vec<u64> {
    let is_banned = |entry: &Entry| {
        let address = entry.address.as_deref().and_then(|at| at.parse().ok());
        let address = address.map(|address: SocketAddr| address.ip());
        let user = entry.user_name.as_deref();
        let tenant = TenantId(entry.tenant);
        policy
            .banned(tenant, &entry.client_id, user, address)
            .is_some()
    };
    let over = refused.filter(|entry| entry.cause == Some(Cause::Banned) && !is_banned(entry));
    over.map(|entry| entry.seq).collect()
}

/// Where a client comes from, as far as known: where it was refused last, if that was after it was
/// let in, else where it was connected. Others may have been refused with its name meanwhile.
fn address_of<'a>(runs: &'a [Run], presence: Option<&'a Presence>) -> Option<&'a str> {
    let came = runs.iter().rev().find(|run| match run.last.what {
        EventKind::Connected => true,
        EventKind::Refused => !was_there_then(runs, run),
        _ => false,
    });
    let address = came.and_then(|run| run.last.address.as_deref());
    let address = address.or_else(|| presence?.address.as_deref());
    address.or_else(|| {
        let mut latest = runs.iter().rev();
        latest.find_map(|run| run.last.address.as_deref())
    })
}
