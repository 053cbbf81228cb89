//! Facts of the tables about a client, for `why`.

use martlet_broker::TenantId;
use martlet_registry::{
    AccountKind, Credential, CredentialKind, DeletedAccount, Presence, Visibility,
};

use super::SharedRegistry;
use super::callers::account_named;
use crate::journal::restoring;
use crate::presence::ClientPresence;
use crate::remedy::{Command, form};
use crate::wall_clock::{now_signed_ms, unsigned};
use crate::why::facts::{
    Deleted, Facts, IdleInTables, NoApiRole, NoCredential, Spent, TeamDeletion,
};

/// Word for a device.
const DEVICE: &str = "device";

/// Word for a user.
const USER: &str = "user";

impl SharedRegistry {
    /// Whether a user logged in to the API since then, milliseconds since the Unix epoch, with the
    /// right password and without rights there.
    pub fn lacked_rights(&self, user: &str, since_ms: i64) -> bool {
        self.without_rights.of(user) >= Some(unsigned(since_ms))
    }

    /// Adds it. `team`: the caller sees what is of this team alone. Where the tables cannot be
    /// read, health reports it, and the rest is shown.
    pub(crate) async fn complete(&self, team: Option<&str>, facts: &mut Facts) {
        self.recall_messages(facts).await;
        let (name, client_id) = (facts.question.name.clone(), facts.client_id.clone());
        let tenant = facts.question.tenant.0;
        let is_known = facts.registered_as.is_some();
        let visibility = Visibility::of(team);
        if facts.is_device() {
            self.recall_changes(&visibility, facts).await;
        }
        self.recall_rights(facts).await;
        self.recall_idle(&visibility, facts).await;
        let user = facts.user.clone().filter(|user| *user != name);
        // A caller that sees one team gets nothing about another.
        let sees_node = facts.question.sees_node;
        let found = self.read(move |registry| {
            Box::pin(async move {
                let mut deletion = match is_known {
                    true => None,
                    false => registry.deletion(tenant, &name).await?,
                };
                let mut of_user = None;
                if let (None, Some(user)) = (&deletion, user) {
                    deletion = registry.deletion(tenant, &user).await?;
                    of_user = deletion.is_some().then_some(user);
                }
                let deleted_with_teams = match is_known || deletion.is_some() || !sees_node {
                    true => Vec::new(),
                    false => registry.deleted_with_teams(&name).await?,
                };
                let credentials = registry.credentials_in(tenant, &name).await?;
                let presence = registry.presence(tenant, &client_id).await?;
                Ok(Recalled {
                    deletion,
                    of_user,
                    deleted_with_teams,
                    presence,
                    credentials,
                })
            })
        });
        let Ok(found) = found.await else {
            facts.tables_fail = sees_node;
            return;
        };
        let control = &self.control;
        facts.namesakes.deleted = found.deleted_with_teams;
        facts.deleted = found.deletion.map(|mut deletion| {
            deletion.team = deletion.team.filter(|_| sees_node);
            let name = found.of_user.as_ref().unwrap_or(&facts.question.name);
            let command = self.bringing_back(&deletion, TenantId(tenant), name);
            Deleted {
                user: found.of_user,
                at_ms: unsigned(deletion.at_ms),
                command,
                team: deletion.team.map(|team| TeamDeletion {
                    name: team.name,
                    brings_back: team.brings_back,
                }),
            }
        });
        facts.spent = spent(&found.credentials);
        let has_none =
            facts.registered_as.as_deref() == Some(DEVICE) && found.credentials.is_empty();
        let has_none = has_none && !self.has_team_token(&visibility, facts).await;
        facts.no_credential = has_none.then(|| NoCredential {
            command: control.command_of_tenant(
                form::DEVICE_ROTATE,
                TenantId(tenant),
                &[&facts.question.name],
            ),
        });
        let uses = found.credentials.iter().map(|one| one.uses);
        facts.logins = u64::try_from(uses.sum::<i64>()).unwrap_or(0);
        facts.replaced_ms = match &facts.spent {
            Some(_) => None,
            None => last_ended(&found.credentials),
        };
        if let Some(spent) = facts.spent.as_mut() {
            spent.command = control.command_of_tenant(
                form::DEVICE_ROTATE,
                TenantId(tenant),
                &[&facts.question.name],
            );
        }
        let written = found
            .presence
            .map(|presence| ClientPresence::from(presence).into());
        let written = written.filter(|_| !facts.is_of_another);
        facts.presence = facts.presence.take().or(written);
        self.recall_left(&facts.client_id, &mut facts.groups_missing)
            .await;
        for client in &mut facts.clients {
            self.recall_left(&client.client_id, &mut client.groups_missing)
                .await;
        }
    }
}

impl SharedRegistry {
    /// Adds that the tables have the name, while no login is checked against them.
    async fn recall_idle(&self, visibility: &Visibility, facts: &mut Facts) {
        let Some(why) = self.control.user_configuration().tables_unasked else {
            return;
        };
        if facts.registered_as.is_some() {
            return;
        }
        let (name, seen) = (facts.question.name.clone(), visibility.clone());
        let read = self.read(move |registry| {
            Box::pin(async move {
                if registry.device(&seen, (&*name).into()).await.is_ok() {
                    return Ok(Some(DEVICE));
                }
                Ok(registry.user(&seen, &name).await.ok().map(|_| USER))
            })
        });
        let what = read.await.ok().flatten();
        facts.idle_in_tables = what.map(|what| IdleInTables { what, why });
    }

    /// The team of a device has a token by which its devices may come.
    async fn has_team_token(&self, visibility: &Visibility, facts: &Facts) -> bool {
        let device = facts.question.name.clone();
        let of_tenant = self.control.team_of_tenant(facts.question.tenant);
        let seen = of_tenant.map_or_else(|| visibility.clone(), Visibility::Team);
        let read = self.read(move |registry| {
            Box::pin(async move {
                let device = registry.device(&seen, (&*device).into()).await?;
                if device.team.is_empty() {
                    return Ok(false);
                }
                let tokens = registry.team_tokens(&seen, &device.team).await?;
                Ok(tokens.iter().any(|token| token.revoked_ms == 0))
            })
        });
        read.await.unwrap_or(false)
    }

    /// Adds that the API has refused a user without rights there.
    async fn recall_rights(&self, facts: &mut Facts) {
        let name = &facts.question.name;
        let is_user = facts.registered_as.as_deref() == Some(USER);
        let Some(refused_ms) = self.without_rights.of(name).filter(|_| is_user) else {
            return;
        };
        let user = name.clone();
        let read = self
            .read(move |registry| Box::pin(async move { account_named(registry, &user).await }));
        // It has some by now.
        if !matches!(read.await, Ok(None)) {
            return;
        }
        let command = self.control.command(form::USER_API_ROLE, &[name, "viewer"]);
        facts.no_api_role = Some(NoApiRole {
            refused_ms,
            command,
        });
    }

    /// The command that brings it back, or else its team, which has to be there first.
    fn bringing_back(
        &self,
        deletion: &DeletedAccount,
        tenant: TenantId,
        name: &str,
    ) -> Option<Command> {
        if let Some(team) = &deletion.team {
            return self.control.command(form::TEAM_RESTORE, &[&team.id]);
        }
        let form = restoring(deletion.kind? == AccountKind::Device);
        self.control.command_of_tenant(form, tenant, &[name])
    }
}

/// Facts that the tables have of a client.
struct Recalled {
    deletion: Option<DeletedAccount>,
    /// The user name, if the client itself is not gone but its user.
    of_user: Option<String>,
    deleted_with_teams: Vec<String>,
    presence: Option<Presence>,
    credentials: Vec<Credential>,
}

/// When the last of them ended that has; none: none has.
fn last_ended(credentials: &[Credential]) -> Option<u64> {
    let now_ms = now_signed_ms();
    let ended = credentials.iter().map(ended_ms);
    let ended = ended.filter(|ms| *ms > 0 && *ms <= now_ms).max()?;
    u64::try_from(ended).ok()
}

/// When a credential ends or has ended; 0: never.
fn ended_ms(one: &Credential) -> i64 {
    match (one.revoked_ms, one.expires_ms) {
        (0, expires_ms) => expires_ms,
        (revoked_ms, 0) => revoked_ms,
        (revoked_ms, expires_ms) => revoked_ms.min(expires_ms),
    }
}

/// Fault of credentials, if none is good any more.
fn spent(credentials: &[Credential]) -> Option<Spent> {
    let now_ms = now_signed_ms();
    let is_revoked = |one: &Credential| one.revoked_ms > 0;
    if credentials.iter().any(|one| one.is_good(now_ms)) {
        return None;
    }
    let last_ms = credentials.iter().map(ended_ms).max()?;
    let mut kinds = credentials.iter().map(|one| one.kind);
    Some(Spent {
        count: credentials.len(),
        all_revoked: credentials.iter().all(is_revoked),
        all_expired: !credentials.iter().any(is_revoked),
        last_ms: u64::try_from(last_ms).unwrap_or(0),
        has_certificate: kinds.any(|kind| kind == CredentialKind::Certificate),
        command: None,
    })
}
