//! The node and its tables, as a runner of an integration sees them.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use martlet_broker::{
    Actions, ClientQuery, Names, NewMessage, PartIdentity, PartLine, PartOutlet, PartSpec,
    RetainedPage, RetainedQuery, Search, TenantId, lane_of, may_publish,
};
use martlet_integrate::{
    ALL_TENANTS, Brokers, DeadLetterStore, Host, HostFuture, InputMemory, MemoryLender,
    PartSession, RequestTrouble, Response, SavedState, Settings, not_permitted,
};
use martlet_registry::{DeadLetterCount, DeadLettersKept, IntegrationState, Visibility};

use super::letters::Letters;
use crate::control::{Control, ControlError};
use crate::request::Requested;
use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::wall_clock::now_ms;

/// Time that the number of dead letters is waited for.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);
/// States as they stand in the tables.
const RUNNING: &str = "running";
const PAUSED: &str = "paused";
const STOPPED: &str = "stopped";

/// The publisher of requests that come from another system, where no user is named.
const REQUESTS: &str = "an integration";

/// Integrations may hold this many sixteenths of `limits.memory_bytes` of what other systems send.
const INPUT_PARTS: usize = 2;

/// Sessions that are looked at in one step.
const SESSIONS_PER_PAGE: usize = 1_000;

/// A session of an integration.
pub(super) struct IntegrationSession {
    pub(super) tenant: TenantId,
    pub(super) client_id: String,
    /// Messages in it, those included that are not settled.
    pub(super) messages: u64,
}

/// The Client Identifier of the part whose session this is.
pub(crate) fn part_of(client_id: &str) -> &str {
    lane_of(client_id).map_or(client_id, |(part, _)| part)
}

/// The node for its integrations.
pub(super) struct NodeHost {
    control: Arc<Control>,
    tables: Arc<SharedRegistry>,
    node: String,
    letters: Letters,
    brokers: Brokers,
    input: Arc<InputMemory>,
}

impl NodeHost {
    pub(super) fn new(
        control: Arc<Control>,
        tables: Arc<SharedRegistry>,
        node: &str,
        kept: DeadLettersKept,
    ) -> Self {
        let part = control.memory_part();
        let most = part.map_or(usize::MAX, |part| part.saturating_mul(INPUT_PARTS));
        let input = Arc::new(InputMemory::new(most, Lender(Arc::clone(&control))));
        // The counter does not keep what lends to it.
        let counted = Arc::downgrade(&input);
        let count = move || counted.upgrade().map_or(0, |input| input.bytes());
        control.show_borrowed("integrations", Box::new(count));
        Self {
            input,
            letters: Letters::new(Arc::clone(&tables), node, kept),
            control,
            tables,
            node: node.to_owned(),
            brokers: Brokers::default(),
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// The brokers that bridges connect to.
    pub(super) fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// Name of the node among those with the same tables.
    pub(super) fn name(&self) -> &str {
        &self.node
    }

    pub(super) fn letters(&self) -> &Letters {
        &self.letters
    }

    /// Sessions whose Client Identifiers begin with this.
    pub(super) async fn sessions_of(
        &self,
        prefix: &str,
    ) -> Result<Vec<IntegrationSession>, ControlError> {
        let mut query = ClientQuery {
            search: Some(Search {
                text: prefix.into(),
                anywhere: false,
            }),
            limit: SESSIONS_PER_PAGE,
            ..ClientQuery::default()
        };
        let mut found = Vec::new();
        loop {
            let page = self.control.clients(&query).await?;
            // The search finds user names too.
            let own = page.clients.into_iter();
            let own = own.filter(|one| one.client_id.starts_with(prefix));
            found.extend(own.map(|one| IntegrationSession {
                tenant: one.tenant,
                client_id: one.client_id.to_string(),
                messages: (one.queued + one.in_flight) as u64,
            }));
            if page.end.is_none() {
                return Ok(found);
            }
            query.after = page.end;
        }
    }

    /// Sessions that a part has in a tenant, as lanes or under its name, or has left.
    pub(super) async fn sessions_of_part(
        &self,
        tenant: TenantId,
        part: &str,
    ) -> Result<Vec<IntegrationSession>, ControlError> {
        let mut found = self.sessions_of(part).await?;
        found.retain(|one| one.tenant == tenant && part_of(&one.client_id) == part);
        Ok(found)
    }

    /// Number of stored dead letters of each integration that has some; none while the tables do
    /// not answer.
    pub(super) async fn letters_stored(&self) -> Option<Vec<DeadLetterCount>> {
        let node = self.node.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.dead_letter_counts(&node).await })
        });
        let read = tokio::time::timeout(COUNTED_WITHIN, read).await;
        read.ok()?.ok()
    }

    /// The tenants of all teams, also of those that were deleted and can be restored.
    pub(super) async fn tenants_of_teams(&self) -> Result<BTreeSet<TenantId>, String> {
        let read = self.tables.read(|registry| {
            Box::pin(async move {
                let mut teams = registry.teams(&Visibility::All, false).await?;
                teams.extend(registry.teams(&Visibility::All, true).await?);
                Ok(teams)
            })
        });
        let teams = read.await.map_err(|error| error.caller_text())?;
        Ok(teams.iter().map(|team| TenantId(team.tenant)).collect())
    }

    /// Whether the rules of a user or device permit it to publish to a topic.
    fn check_publish(
        &self,
        tenant: TenantId,
        name: &str,
        topic: &str,
    ) -> Result<(), RequestTrouble> {
        let principal = self.control.identity(tenant, name);
        let principal = principal.map_err(RequestTrouble::Busy)?;
        let names = Names {
            client_id: "",
            user_name: name,
        };
        let rules = &principal.identity.rules;
        match rules.topic(Actions::PUBLISH, topic, names).allowed {
            true => Ok(()),
            false => Err(RequestTrouble::Forbidden(not_permitted(name, topic))),
        }
    }

    /// Forgets that an integration was paused or has stopped.
    pub(super) async fn forget_state(
        &self,
        kind: &'static str,
        name: &str,
    ) -> Result<(), SharedRegistryError> {
        let (node, name) = (self.node.clone(), name.to_owned());
        let forgotten = self.tables.note(move |registry| {
            Box::pin(async move { registry.forget_integration_state(&node, kind, &name).await })
        });
        forgotten.await
    }

    /// Forgets the states of all integrations but these, so that one of the same name begins anew.
    pub(super) async fn forget_states(&self, kept: &[Settings]) -> Result<(), String> {
        if !self.tables.are_there() {
            return Ok(());
        }
        let node = self.node.clone();
        let kept = kept.iter();
        let kept = kept.map(|one| (one.kind.to_owned(), one.name.to_string()));
        let kept: Vec<(String, String)> = kept.collect();
        let done = self.tables.note(move |registry| {
            Box::pin(async move { registry.forget_integration_states(&node, &kept).await })
        });
        done.await.map_err(|error| error.caller_text())
    }
}

/// Lends of `limits.memory_bytes`.
struct Lender(Arc<Control>);

impl MemoryLender for Lender {
    fn borrow_memory(&self, bytes: usize) -> bool {
        self.0.borrow_memory(bytes)
    }

    fn return_memory(&self, bytes: usize) {
        self.0.return_memory(bytes);
    }
}

impl Host for NodeHost {
    fn attach(&self, spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        self.control.shards.attach(spec, outlet)
    }

    fn tenant(&self, name: &str) -> Option<TenantId> {
        match name {
            // The sessions of what takes messages of all tenants are the node's own.
            "" | ALL_TENANTS => Some(TenantId::default()),
            team => self.control.tenant_of_team(team),
        }
    }

    fn identity(&self, tenant: TenantId, name: &str) -> Result<PartIdentity, String> {
        self.control.identity(tenant, name)
    }

    fn team_of(&self, tenant: TenantId) -> Option<Arc<str>> {
        self.control.name_of_tenant(tenant).map(Into::into)
    }

    fn why_no_tenant(&self, team: &str) -> String {
        match self.control.user_configuration().tables_unasked {
            Some(why) => format!(
                "the tenant of the team {team:?} is unknown, because the tables of users and \
                 devices are not used: {why}"
            ),
            None => format!(
                "there is no team {team:?} with a tenant of its own (martlet team add {team} \
                 --own-tenant makes one)"
            ),
        }
    }

    fn is_same_broker(&self, from: &str, to: &str) -> bool {
        self.brokers.is_same(from, to)
    }

    fn look_up_brokers(&self) -> HostFuture<'_, ()> {
        Box::pin(self.brokers.look_up())
    }

    fn node(&self) -> &str {
        &self.node
    }

    fn packet_bytes_max(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.control.info.limits.packet_bytes)
    }

    fn input_memory(&self) -> Arc<InputMemory> {
        Arc::clone(&self.input)
    }

    fn shards(&self) -> u16 {
        self.control.shards.count()
    }

    fn sessions<'a>(
        &'a self,
        tenant: TenantId,
        part: &'a str,
    ) -> HostFuture<'a, Option<Vec<PartSession>>> {
        Box::pin(async move {
            let found = self.sessions_of_part(tenant, part).await.ok()?;
            let sessions = found.into_iter().map(|one| PartSession {
                client_id: one.client_id,
                messages: one.messages,
            });
            Some(sessions.collect())
        })
    }

    fn retained<'a>(&'a self, query: &'a RetainedQuery) -> HostFuture<'a, Option<RetainedPage>> {
        Box::pin(async move { self.control.retained(query).await.ok() })
    }

    fn saved_state<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
    ) -> HostFuture<'a, Result<SavedState, String>> {
        Box::pin(async move {
            let (node, kind, name) = (self.node.clone(), kind.to_owned(), name.to_owned());
            let read = self.tables.read(move |registry| {
                Box::pin(async move { registry.integration_state(&node, &kind, &name).await })
            });
            let found = read.await.map_err(|error| error.caller_text())?;
            Ok(match found {
                Some(found) if found.state == PAUSED => SavedState::Paused(found.since_ms),
                Some(found) if found.state == STOPPED => SavedState::Stopped(found.reason),
                _ => SavedState::Running,
            })
        })
    }

    fn save_state<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
        state: SavedState,
    ) -> HostFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let (node, kind, name) = (self.node.clone(), kind.to_owned(), name.to_owned());
            let (state, reason, since_ms) = match state {
                SavedState::Running => (RUNNING, String::new(), self.now_ms()),
                SavedState::Paused(since_ms) => (PAUSED, String::new(), since_ms),
                SavedState::Stopped(reason) => (STOPPED, reason, self.now_ms()),
            };
            let state = IntegrationState {
                state: state.to_owned(),
                reason,
                since_ms,
            };
            let written = self.tables.note(move |registry| {
                Box::pin(async move {
                    registry
                        .write_integration_state(&node, &kind, &name, &state)
                        .await
                })
            });
            written.await.map_err(|error| error.caller_text())
        })
    }

    fn dead_letters(&self) -> &dyn DeadLetterStore {
        &self.letters
    }

    fn request<'a>(
        &'a self,
        (tenant, publish_as): (TenantId, Option<&'a str>),
        message: NewMessage,
        timeout: Duration,
    ) -> HostFuture<'a, Result<Response, RequestTrouble>> {
        Box::pin(async move {
            if !may_publish(&message.topic) {
                let why = "no client may publish to topics of the node's own".to_owned();
                return Err(RequestTrouble::Forbidden(why));
            }
            if let Some(name) = publish_as {
                self.check_publish(tenant, name, &message.topic)?;
            }
            let by = publish_as.unwrap_or(REQUESTS);
            let requested = self.control.request(by, tenant, message, timeout);
            match requested.await {
                Ok(Requested::Answered(_, response)) => Ok(Response {
                    payload: response.payload,
                    content_type: response.content_type,
                }),
                Ok(Requested::Silent(..)) => Err(RequestTrouble::Silent),
                Ok(Requested::NoSubscriber(_)) => Err(RequestTrouble::NobodyThere),
                Ok(Requested::Refused(reason)) => {
                    let why = format!("the node rejects it: {}", reason.name());
                    Err(RequestTrouble::Refused(why))
                }
                Err(error) => Err(RequestTrouble::Busy(error.to_string())),
            }
        })
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without a source of randomness there is no jitter.
        let _ = rand::fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }
}
