//! Where the facts come from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use martlet_broker::{
    Actions, ClientDetail, ClientQuery, EventKind, GroupLosses, Limit, Names, Realm, Rules,
    SessionRules, SubscriptionQuery, TenantId, is_asked_for,
};
use martlet_codec::{TopicFilter, TopicName};

use super::Question;
use super::door::was_there_then;
use super::facts::{
    Banned, Facts, Lockout, Meant, Namesakes, NearSubscriber, NotStored, Presence, Session,
    StoreTrouble, Subscriber, TopicRules,
};
use crate::authentication::{Policy, Standing};
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::explain;
use crate::journal::{Entry, Lacking, Run, Way, host, mend_of_limit};
use crate::store::StoreState;
use crate::text::typed;
use crate::wall_clock::{now_ms, now_signed_ms};

/// Subscriptions of a client, or subscribers of a topic, that are looked at.
const SUBSCRIPTIONS_MAX: usize = 1_000;
const SUBSCRIBERS_MAX: usize = 20;

/// Clients of a user that are looked at.
const CLIENTS_MAX: usize = 16;

/// Filters of a client's permissions that are named, at most.
const PERMITTED_MAX: usize = 4;

/// Who a client is.
struct Identified {
    /// The policy that says so.
    policy: Option<Arc<Policy>>,
    /// The user that it comes as.
    user: Option<String>,
    /// The name that it proves, or would.
    proved: String,
    known_as: Option<&'static str>,
    by_team_token: bool,
    namesakes: Namesakes,
    standing: Option<Standing>,
    standing_way: Option<Way>,
    presence: Option<Presence>,
    is_of_another: bool,
    from_address: Option<Vec<Entry>>,
}

/// What holds for the topic that was asked about.
#[derive(Default)]
struct TopicFacts {
    /// What the client may do with it.
    rules: Option<TopicRules>,
    /// Who is subscribed to it; none: a Topic Filter was asked about.
    subscribers: Option<Vec<Subscriber>>,
    /// Clients whose subscriptions nearly match it, while nobody is subscribed.
    near: Vec<NearSubscriber>,
}

impl Control {
    /// Everything that is known of a client without asking the tables; of a user with several
    /// clients, of each of them.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn facts(&self, question: &Question) -> Result<Facts, ControlError> {
        self.settle_events().await;
        if let Some(question) = self.integration_meant(question) {
            return self.facts_of_integration(&question).await;
        }
        let (tenant, name) = (question.tenant, &*question.name);
        let runs = self.journal.runs_of(tenant, name, &self.presence);
        let own = self.session(tenant, name).await?;
        let clients = match own {
            Some(_) => Vec::new(),
            None => self.clients_of(tenant, name, &runs).await?,
        };
        if let [client_id] = &*clients {
            let session = self.session_of_user(tenant, client_id, name).await?;
            return self.facts_of(question, client_id, session, runs).await;
        }
        let mut facts = self.facts_of(question, name, own, runs.clone()).await?;
        for client_id in clients {
            let session = self.session_of_user(tenant, &client_id, name).await?;
            let runs = self.runs_of_client(tenant, &client_id, name, &runs);
            let facts_of_it = self.facts_of(question, &client_id, session, runs).await?;
            facts.clients.push(facts_of_it);
        }
        Ok(facts)
    }

    /// Clients of a user: those that something happened to recently, then those that have a
    /// session, the connected ones first. A device has one.
    async fn clients_of(
        &self,
        tenant: TenantId,
        name: &str,
        runs: &[Run],
    ) -> Result<Vec<String>, ControlError> {
        let mut found: Vec<String> = Vec::new();
        let mut add = |client_id: &str| {
            if !client_id.is_empty() && !found.iter().any(|known| known == client_id) {
                found.push(client_id.to_owned());
            }
        };
        runs.iter().rev().for_each(|run| add(&run.last.client_id));
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
        }
        let policy = self.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        let known = tables.and_then(|tables| tables.known(tenant.0, name));
        if matches!(known, Some(martlet_registry::Known::Device)) {
            found = vec![name.to_owned()];
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

    /// What became of one client of a user. Other users may have tried its Client Identifier.
    fn runs_of_client(
        &self,
        tenant: TenantId,
        client_id: &str,
        name: &str,
        of_user: &[Run],
    ) -> Vec<Run> {
        let mut runs = self.journal.runs_of(tenant, client_id, &self.presence);
        runs.retain(|run| {
            run.last
                .user_name
                .as_deref()
                .is_none_or(|user| user == name)
        });
        for run in of_user {
            let is_known = runs
                .iter()
                .any(|known| known.last.seq == run.last.seq && known.last.what == run.last.what);
            if is_asked_for(&run.last.client_id, client_id) && !is_known {
                runs.push(run.clone());
            }
        }
        runs.sort_by_key(|run| (run.last.at_ms, run.last.seq));
        runs
    }

    /// Who a client is, by the tables, its session and what became of it recently.
    async fn identify(
        &self,
        question: &Question,
        client_id: &str,
        session: Option<&ClientDetail>,
        runs: &[Run],
    ) -> Result<Identified, ControlError> {
        let (tenant, name) = (question.tenant, &*question.name);
        let policy = self.policy();
        let user = session.and_then(|session| session.info.user_name.clone());
        let mut latest = runs
            .iter()
            .rev()
            .filter(|run| is_asked_for(&run.last.client_id, client_id));
        let user = user.or_else(|| latest.find_map(|run| run.last.user_name.clone()));
        let proved = user.clone().unwrap_or_else(|| name.to_owned());
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        let known = tables.and_then(|tables| tables.known(tenant.0, name));
        let is_of_another = client_id != name && {
            let whose = self.presence.user_of(tenant, client_id);
            let session = self.session(tenant, client_id).await?;
            let whose = whose.or_else(|| session?.info.user_name);
            whose.is_some_and(|whose| whose != name)
        };
        let presence = self.presence(tenant, client_id);
        let presence = presence.filter(|_| !is_of_another);
        let was_seen = session.is_some() || presence.is_some() || !runs.is_empty();
        let is_anonymous = was_seen && user.is_none() && known.is_none() && {
            let listener = presence.as_ref();
            self.accepts_anonymous(listener.map(|presence| &*presence.listener_url))
        };
        let token = |key: &str| tables.and_then(|tables| tables.team_token_named(tenant.0, key));
        let by_team_token = token(&proved).is_some();
        // Of the key alone nothing is said about a client.
        let is_key_alone = client_id == name && token(name).is_some_and(|token| !token.is_revoked);
        let standing = policy.as_deref().map(|policy| match is_anonymous {
            true => Standing::Unproved,
            false if is_key_alone => Standing::Known,
            false => policy.standing(Realm::of_tenant(tenant), &proved, client_id),
        });
        let namesakes = tables.filter(|_| known.is_none() && token(name).is_none());
        let mut namesakes = namesakes
            .map(|tables| Namesakes::of(question, tables))
            .unwrap_or_default();
        let mut standing_way = None;
        if let Some(Standing::Barred(why)) = &standing {
            namesakes.add = self.journal.adding(tenant, why, name);
            standing_way = self.journal.way_in(tenant, client_id, &proved, why);
        }
        let known_as = match known {
            Some(martlet_registry::Known::User) => Some("user"),
            Some(martlet_registry::Known::Device) => Some("device"),
            None if token(name).is_some() => Some("team token"),
            // A file or the configuration has it.
            None if standing == Some(Standing::Known) && proved == name => Some("user"),
            None => None,
        };
        let is_address =
            !was_seen && known.is_none() && question.sees_node && name.parse::<IpAddr>().is_ok();
        Ok(Identified {
            policy,
            user,
            proved,
            known_as,
            by_team_token,
            namesakes,
            standing,
            standing_way,
            presence: presence.map(Presence::from),
            is_of_another,
            from_address: is_address.then(|| self.journal.refused_from(&host_of(name))),
        })
    }

    pub(super) async fn facts_of(
        &self,
        question: &Question,
        client_id: &str,
        session: Option<ClientDetail>,
        runs: Vec<Run>,
    ) -> Result<Facts, ControlError> {
        let tenant = question.tenant;
        let identified = self
            .identify(question, client_id, session.as_ref(), &runs)
            .await?;
        let Identified {
            policy,
            user,
            proved,
            known_as,
            by_team_token,
            namesakes,
            standing,
            standing_way,
            presence,
            is_of_another,
            from_address,
        } = identified;
        let policy = policy.as_deref();
        let who = (tenant, client_id, user.as_deref());
        let topic = self.topic_asked_about(question, who).await?;
        let groups = self.groups_of(tenant, session.as_ref()).await?;
        let address = address_of(&runs, presence.as_ref());
        let at = address.and_then(|address| address.parse::<SocketAddr>().ok());
        let at = at.map(|address| address.ip());
        let nameless = match address.and_then(host) {
            host if question.sees_node => self.journal.nameless_from(host),
            _ => Vec::new(),
        };
        let own = session.iter().flat_map(|session| &session.subscriptions);
        let own: Vec<&str> = own.map(|one| &*one.filter).collect();
        let refused_publishes = self.recently_refused(question, &own);
        let unmatched = self.recently_unmatched(tenant).await?;
        let unmatched_in_common = match question.sees_node && tenant != TenantId(0) {
            true => self.recently_unmatched(TenantId(0)).await?,
            false => Vec::new(),
        };
        let unreadable = self.unreadable(who, &own, &unmatched).await?;
        let forbidden = runs.iter().map(|run| &run.last).chain(&refused_publishes);
        let permitted_now = self.permitted_now(tenant, forbidden).await?;
        let mut integrations = self.integrations_of(question, client_id);
        self.count_letters(&mut integrations).await;
        Ok(Facts {
            question: question.clone(),
            now_ms: now_ms(),
            known_as: known_as.map(str::to_owned),
            user: user.clone(),
            namesakes,
            by_team_token,
            deleted: None,
            spent: None,
            replaced_ms: None,
            by_certificate: policy.is_some_and(|policy| {
                policy.takes_certificate_of(Realm::of_tenant(tenant), &question.name)
            }),
            not_stored: self.not_stored_of(tenant, client_id),
            banned: policy.and_then(|policy| self.banned(policy, (tenant, client_id, &proved), at)),
            locked_out: self.lockout_of(tenant, (&proved, client_id), at),
            standing,
            standing_way,
            session: session.map(session_of),
            presence,
            is_of_another,
            client_id: client_id.to_owned(),
            runs,
            permitted_now,
            nameless,
            from_address,
            near: topic.near,
            unmatched,
            unmatched_in_common,
            unreadable,
            refused_publishes,
            listeners: self.info.listeners.clone(),
            rules: topic.rules,
            subscribers: topic.subscribers,
            store: self
                .store_state()
                .and_then(|state| store_trouble(state, question.sees_node)),
            groups,
            integrations,
            clients: Vec::new(),
        })
    }

    /// What holds for the topic of a question, as far as it has one.
    async fn topic_asked_about(
        &self,
        question: &Question,
        who: (TenantId, &str, Option<&str>),
    ) -> Result<TopicFacts, ControlError> {
        let Some(topic) = &question.topic else {
            return Ok(TopicFacts::default());
        };
        let is_filter = question.is_about_filter();
        let rules = Some(self.topic_rules(who, topic, is_filter).await?);
        let subscribers = match is_filter {
            true => None,
            false => Some(self.subscribers_of(question.tenant, topic).await?),
        };
        let near = match subscribers.as_ref().is_some_and(Vec::is_empty) {
            true => self.near_subscribers_of(question, topic).await?,
            false => Vec::new(),
        };
        Ok(TopicFacts {
            rules,
            subscribers,
            near,
        })
    }

    /// Payloads of a client that are not stored as telemetry.
    fn not_stored_of(&self, tenant: TenantId, client_id: &str) -> Vec<NotStored> {
        let Some(telemetry) = self.telemetry() else {
            return Vec::new();
        };
        let rejected = telemetry.rejected_of(tenant.0, client_id).into_iter();
        let not_stored = rejected.map(|one| NotStored {
            at_ms: one.at_ms,
            topic: one.topic,
            reason: one.reason,
            detail: one.detail,
            count: one.count,
        });
        not_stored.collect()
    }

    /// What the share groups have lost that a session is a member of.
    async fn groups_of(
        &self,
        tenant: TenantId,
        session: Option<&ClientDetail>,
    ) -> Result<Vec<GroupLosses>, ControlError> {
        let subscriptions = session.iter().flat_map(|session| &session.subscriptions);
        let shared = subscriptions.filter(|one| one.filter.starts_with("$share/"));
        let filters: Arc<[Box<str>]> = shared.map(|one| one.filter.clone()).collect();
        match filters.is_empty() {
            true => Ok(Vec::new()),
            false => self.group_losses(tenant, filters).await,
        }
    }

    /// A listener lets clients in that have no credentials; where it is not known which one it is,
    /// any does.
    fn accepts_anonymous(&self, url: Option<&str>) -> bool {
        let facts = self.node_facts();
        let mut mqtt = facts.listeners.iter().filter(|one| one.protocol == "mqtt");
        let found = url.and_then(|url| mqtt.clone().find(|one| one.url == url));
        match found {
            Some(listener) => !listener.needs_credentials,
            None => mqtt.any(|one| !one.needs_credentials),
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
            way: self.journal.lifting(tenant, user, address),
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
        let mut command = "martlet ban rm ".to_owned();
        if !self.info.command_options.is_empty() {
            command.push_str(&format!("{} ", self.info.command_options));
        }
        command.push_str(&typed(&ban.id));
        Some(Banned {
            why: policy
                .banned(tenant, client_id, Some(user), address)?
                .into_detail()
                .into_owned(),
            command: Some(command),
        })
    }

    pub(super) async fn session(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<Option<ClientDetail>, ControlError> {
        self.client(tenant, client_id, SUBSCRIPTIONS_MAX).await
    }

    /// The name in a tenant of who is asked about there: `name@team` is one by that name too.
    pub fn own_name(&self, tenant: TenantId, name: String) -> String {
        let policy = self.policy();
        let tables = policy.as_ref().and_then(|policy| policy.tables());
        match tables.and_then(|tables| tables.qualified(&name)) {
            Some((of, own)) if of == tenant.0 => own.to_owned(),
            _ => name,
        }
    }

    /// The user or device that is meant by a name of a tenant, or of none that was named:
    /// `name@team` is one of the team's, as at the door.
    pub fn user_meant(&self, tenant: Option<TenantId>, name: String) -> (TenantId, String) {
        let policy = self.policy();
        let tables = policy.as_ref().and_then(|policy| policy.tables());
        let qualified = tables.and_then(|tables| tables.qualified(&name));
        match qualified.filter(|(of, _)| tenant.is_none_or(|asked| asked.0 == *of)) {
            Some((of, own)) => (TenantId(of), own.to_owned()),
            None => (tenant.unwrap_or_default(), name),
        }
    }

    /// Whom who asks means, who names no team: `name@team` is one in the team's tenant, as at the
    /// door, and a user of the tables is where they are, unless a client of the common tenant has
    /// that name.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn whom(&self, name: &str) -> Result<(TenantId, String), ControlError> {
        let common = TenantId::default();
        let Some(policy) = self.policy() else {
            return Ok((common, name.to_owned()));
        };
        let (realm, own) = policy.tenant_of(Realm::COMMON, name);
        let is_client =
            realm != Realm::COMMON && own == name && self.client(common, name, 0).await?.is_some();
        Ok(match is_client {
            true => (common, name.to_owned()),
            false => (realm.tenant(), own.to_owned()),
        })
    }

    /// The client that is meant by a Client Identifier of a tenant, or of none that was named:
    /// `id@team` is one of the team's, as at the door, unless a client is called just that.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn client_meant(
        &self,
        tenant: Option<TenantId>,
        client_id: String,
    ) -> Result<(TenantId, String), ControlError> {
        let asked = tenant.unwrap_or_default();
        let policy = self.policy();
        let tables = policy.as_ref().and_then(|policy| policy.tables());
        let qualified = tables.and_then(|tables| tables.qualified(&client_id));
        let qualified = qualified.filter(|(of, _)| tenant.is_none_or(|asked| asked.0 == *of));
        let Some((of, own)) = qualified else {
            return Ok((asked, client_id));
        };
        match self.client(asked, &client_id, 0).await? {
            Some(_) => Ok((asked, client_id)),
            None => Ok((TenantId(of), own.to_owned())),
        }
    }

    /// Who is subscribed to a topic, with whether they are connected.
    async fn subscribers_of(
        &self,
        tenant: TenantId,
        topic: &str,
    ) -> Result<Vec<Subscriber>, ControlError> {
        let query = SubscriptionQuery {
            tenant: Some(tenant),
            topic: Some(topic.into()),
            limit: SUBSCRIBERS_MAX,
            ..SubscriptionQuery::default()
        };
        let mut subscribers: Vec<Subscriber> = Vec::new();
        for one in self.subscriptions(&query).await?.subscriptions {
            let session = self.client(one.tenant, &one.client_id, 0).await?;
            subscribers.push(Subscriber {
                client_id: one.client_id.to_string(),
                filter: one.filter.into_string(),
                qos: one.qos as u8,
                connected: session
                    .as_ref()
                    .is_some_and(|session| session.info.connected),
                drops: session.map_or_else(Vec::new, |session| {
                    let drops = session.drops.iter().zip(session.dropped_at);
                    drops
                        .map(|((reason, count), at)| (*reason, *count, at))
                        .collect()
                }),
            });
        }
        Ok(subscribers)
    }

    async fn topic_rules(
        &self,
        (tenant, client_id, user): (TenantId, &str, Option<&str>),
        topic: &str,
        is_filter: bool,
    ) -> Result<TopicRules, ControlError> {
        let question = |action| explain::Question {
            tenant,
            user: user.or(Some(client_id)).map(str::to_owned),
            client_id: Some(client_id.to_owned()),
            action,
            topic: topic.to_owned(),
        };
        let session = self.session_rules(tenant, client_id).await?;
        // Nobody publishes to a Topic Filter.
        let (publish, receive) = match is_filter {
            true => (Actions::SUBSCRIBE, Actions::SUBSCRIBE),
            false => (Actions::PUBLISH, Actions::RECEIVE),
        };
        let (publish, receive) = (
            self.explain(&question(publish)).await?,
            self.explain(&question(receive)).await?,
        );
        let names = Names {
            client_id,
            user_name: user.unwrap_or(client_id),
        };
        let rules = self.rules_of(tenant, session.as_ref(), user.unwrap_or(client_id));
        let has_own_rules = session
            .as_ref()
            .is_some_and(|session| session.has_own_rules);
        let mend = |action| match has_own_rules {
            true => Way {
                text: "give it a token that permits it, or have the hook's answer permit it"
                    .to_owned(),
                command: None,
            },
            false => self.journal.permitting(
                tenant,
                &Lacking {
                    client_id,
                    user: user.or(Some(client_id)),
                    action,
                    topic,
                },
            ),
        };
        let all = |action| {
            let rules = rules.as_deref();
            rules.map_or_else(Vec::new, |rules| permitted(rules, names, action))
        };
        let meant = |action| {
            let rules = rules.as_deref()?;
            meant(rules, names, action, topic)
        };
        Ok(TopicRules {
            publish,
            receive,
            meant: meant(Actions::PUBLISH),
            meant_receive: meant(Actions::RECEIVE),
            permitted: all(Actions::PUBLISH),
            readable: all(Actions::RECEIVE),
            mend_publish: mend("publish"),
            mend_receive: mend(match is_filter {
                true => "subscribe",
                false => "receive",
            }),
        })
    }

    /// What was refused by a rule and would not be by those of now, as numbers of entries.
    async fn permitted_now(
        &self,
        tenant: TenantId,
        entries: impl Iterator<Item = &Entry>,
    ) -> Result<Vec<u64>, ControlError> {
        let mut permitted = Vec::new();
        for entry in entries {
            let Some(action) = action_forbidden(entry) else {
                continue;
            };
            let question = explain::Question {
                tenant,
                user: entry.user_name.clone(),
                client_id: Some(entry.client_id.clone()),
                action,
                topic: entry.topic.clone().unwrap_or_default(),
            };
            // A topic that was cut is none.
            if question.check().is_ok()
                && self.explain(&question).await?.outcome == explain::Outcome::Permitted
            {
                permitted.push(entry.seq);
            }
        }
        Ok(permitted)
    }

    /// Those of the session, else those of the tables and files.
    fn rules_of(
        &self,
        tenant: TenantId,
        session: Option<&SessionRules>,
        user: &str,
    ) -> Option<Arc<Rules>> {
        use martlet_broker::RuleBook as _;
        if let Some(session) = session {
            return session.rules.clone();
        }
        let policy = self.policy()?;
        Some(policy.rules_of(Realm::of_tenant(tenant), Some(user)))
    }
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

/// What an entry says that a rule forbade; none: no rule did.
fn action_forbidden(entry: &Entry) -> Option<Actions> {
    if entry.cause != Some(Cause::NotPermitted) {
        return None;
    }
    match entry.what {
        EventKind::PublishRefused => Some(Actions::PUBLISH),
        EventKind::SubscribeRefused => Some(Actions::SUBSCRIBE),
        EventKind::Dropped | EventKind::MessagesLost => Some(Actions::RECEIVE),
        _ => None,
    }
}

/// The rule that permits an action on this topic of another name.
fn meant(rules: &Rules, names: Names<'_>, action: Actions, topic: &str) -> Option<Meant> {
    let topic = TopicName::new(topic).ok()?;
    let mut all = rules.rules().iter();
    all.find_map(|rule| {
        let is_template = rule.filter.contains("%c") || rule.filter.contains("%u");
        if !rule.allows || !rule.actions.has(action) || !is_template {
            return None;
        }
        let anybody: Vec<&str> = rule
            .filter
            .split('/')
            .map(|level| match level.contains("%c") || level.contains("%u") {
                true => "+",
                false => level,
            })
            .collect();
        let anybody = anybody.join("/");
        if !TopicFilter::new(&anybody).ok()?.matches(topic) {
            return None;
        }
        let own = substituted(&rule.filter, names);
        let mut differing = rule
            .filter
            .split('/')
            .zip(own.split('/'))
            .zip(topic.levels());
        let instead = differing.find(|((rule, own), level)| rule != own && own != level)?;
        Some(Meant {
            place: rule.source.to_string(),
            instead: instead.1.to_owned(),
            filter: own,
        })
    })
}

/// Filters with which rules permit that action.
fn permitted(rules: &Rules, names: Names<'_>, action: Actions) -> Vec<String> {
    let is_wanted = |rule: &&martlet_broker::Rule| rule.allows && rule.actions.has(action);
    let filters = rules.rules().iter().filter(is_wanted);
    let filters = filters.map(|rule| substituted(&rule.filter, names));
    filters.take(PERMITTED_MAX).collect()
}

/// An address as it stands before its port.
fn host_of(address: &str) -> String {
    match address.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => address.to_owned(),
    }
}

fn substituted(filter: &str, names: Names<'_>) -> String {
    filter
        .replace("%c", names.client_id)
        .replace("%u", names.user_name)
}

/// What is wrong with the message store, told to who sees the whole node or to who does not.
fn store_trouble(state: StoreState, sees_node: bool) -> Option<StoreTrouble> {
    let told = |why: String| match sees_node {
        true => why,
        false => "the operator of the node knows more".to_owned(),
    };
    if let Some((_, error)) = state.failing {
        return Some(StoreTrouble::Failing(told(error)));
    }
    if let Some(why) = state.low {
        let limit = match state.is_at_limit {
            true => Limit::StoreBytes,
            false => Limit::DiskFull,
        };
        let mend = mend_of_limit(limit).filter(|_| sees_node);
        return Some(StoreTrouble::Full {
            why: match sees_node {
                true => why,
                false => "the message store is full".to_owned(),
            },
            mend: mend.map(|way| way.text),
        });
    }
    state.behind.then_some(StoreTrouble::Slow)
}

/// Since when the first message waits for the acknowledgement of others, of a connected client.
fn waiting_since_ms(found: &ClientDetail) -> Option<u64> {
    let info = &found.info;
    let received_ms = found.queue.first()?.head.as_ref()?.received_wall_ms;
    let waits = info.connected && info.in_flight > 0;
    waits.then(|| received_ms.max(info.connected_at_ms))
}

pub(super) fn session_of(found: ClientDetail) -> Session {
    let subscriptions = found.subscriptions.iter();
    let subscriptions = subscriptions.map(|one| (one.filter.to_string(), one.qos as u8));
    let info = &found.info;
    let left_ms = found.left_ms;
    Session {
        client_id: info.client_id.clone(),
        connected: info.connected,
        since_ms: match info.connected {
            true => Some(info.connected_at_ms),
            false => left_ms,
        },
        keep_alive_secs: info.keep_alive_secs,
        session_expiry_secs: info.session_expiry_secs,
        queued: info.queued,
        in_flight: info.in_flight,
        waiting_since_ms: waiting_since_ms(&found),
        expired: info.expired,
        waits_for_store: found
            .connection
            .as_ref()
            .is_some_and(|connection| connection.waits_for_store || connection.answers_gated > 0),
        queue_full: found.queue_full,
        drops: found.drops.clone(),
        dropped_at: found.dropped_at.clone(),
        expired_at: found.expired_at,
        subscriptions: subscriptions.collect(),
    }
}
