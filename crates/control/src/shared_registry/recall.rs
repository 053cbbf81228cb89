//! Facts of the tables about a client, for `why`.

use martlet_broker::TenantId;
use martlet_registry::{AccountKind, Credential, CredentialKind, DeletedAccount, Visibility};

use super::callers::account_named;
use super::{SharedRegistry, SharedRegistryError};
use crate::journal::restoring;
use crate::presence::ClientPresence;
use crate::remedy::{Command, form};
use crate::wall_clock::{now_signed_ms, unsigned};
use crate::why::Asked;

/// Entries of the tables about a user or device. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// The client was removed.
    pub(crate) deleted: Option<Deleted>,
    /// Devices of that id of teams that are deleted, as the User Names that they came with.
    pub(crate) deleted_with_teams: Vec<String>,
    /// The client has credentials, and none of them is good any more.
    pub(crate) spent: Option<Spent>,
    /// The client has a valid credential, and another one of it has ended: when.
    pub(crate) replaced_ms: Option<u64>,
    /// The device has no credential, and never had one.
    pub(crate) has_no_credential: bool,
    /// The command that gives it another credential.
    pub(crate) rotate: Option<Command>,
    /// The user has no rights in the API: when that last refused it, and the command that gives it
    /// some.
    pub(crate) no_api_role: Option<(u64, Option<Command>)>,
}

/// A user or device that was removed from the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// The user of the client, if it has another name than was asked about.
    pub(crate) user: Option<String>,
    /// Since when.
    pub(crate) at_ms: u64,
    /// The command that brings it back, or its team; none: it cannot be restored.
    pub(crate) command: Option<Command>,
    /// The team was deleted too, and is restored first: the name, and whether its members were
    /// deleted with it and come back with it.
    pub(crate) team: Option<(String, bool)>,
}

/// Credentials of a device, if all are revoked or have expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) count: usize,
    /// All were revoked.
    pub(crate) all_revoked: bool,
    /// None was.
    pub(crate) all_expired: bool,
    /// When the last of them ended.
    pub(crate) last_ms: u64,
    /// One is, or was, a certificate: then no other certificate will do.
    pub(crate) has_certificate: bool,
}

impl SharedRegistry {
    /// Whether a user logged in to the API since then, milliseconds since the Unix epoch, with the
    /// right password and without rights there.
    pub fn lacked_rights(&self, user: &str, since_ms: i64) -> bool {
        self.without_rights.of(user) >= Some(unsigned(since_ms))
    }

    /// Entries of the tables about the account of a client. Where they cannot be read, health
    /// reports it, and the rest is shown.
    pub(crate) async fn account(&self, asked: &Asked) -> Account {
        let (name, tenant) = (asked.question.name.clone(), asked.question.tenant);
        let user = asked.user.clone().filter(|user| *user != name);
        // A caller that sees one team gets nothing about another.
        let (is_known, sees_node) = (asked.is_registered, asked.question.sees_node);
        let found = self.read(move |registry| {
            Box::pin(async move {
                let mut deletion = match is_known {
                    true => None,
                    false => registry.deletion(tenant.0, &name).await?,
                };
                let mut of_user = None;
                if let (None, Some(user)) = (&deletion, user) {
                    deletion = registry.deletion(tenant.0, &user).await?;
                    of_user = deletion.is_some().then_some(user);
                }
                let deleted_with_teams = match is_known || deletion.is_some() || !sees_node {
                    true => Vec::new(),
                    false => registry.deleted_with_teams(&name).await?,
                };
                let credentials = registry.credentials_in(tenant.0, &name).await?;
                Ok((deletion, of_user, deleted_with_teams, credentials))
            })
        });
        let Ok((deletion, of_user, deleted_with_teams, credentials)) = found.await else {
            return Account::default();
        };
        let name = &asked.question.name;
        let rotate = self
            .control
            .command_of_tenant(form::DEVICE_ROTATE, tenant, &[name]);
        let has_none = asked.is_device && credentials.is_empty();
        let spent = spent(&credentials);
        Account {
            deleted: deletion.map(|mut deletion| {
                deletion.team = deletion.team.filter(|_| sees_node);
                let name = of_user.as_ref().unwrap_or(name);
                Deleted {
                    command: self.bringing_back(&deletion, tenant, name),
                    user: of_user,
                    at_ms: unsigned(deletion.at_ms),
                    team: deletion.team.map(|team| (team.name, team.brings_back)),
                }
            }),
            deleted_with_teams,
            replaced_ms: match spent {
                Some(_) => None,
                None => last_ended(&credentials),
            },
            spent,
            has_no_credential: has_none && !self.has_team_token(asked).await,
            rotate,
            no_api_role: self.no_api_role(asked).await,
        }
    }

    /// How often a user or device has logged in by its credentials.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub(crate) async fn logins(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<u64, SharedRegistryError> {
        let name = name.to_owned();
        let read = self.read(move |registry| {
            Box::pin(async move { registry.credentials_in(tenant.0, &name).await })
        });
        let uses = read.await?.into_iter().map(|one| one.uses);
        Ok(u64::try_from(uses.sum::<i64>()).unwrap_or(0))
    }

    /// When and how a client was last seen.
    pub(crate) async fn presence_of(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Option<ClientPresence> {
        let client_id = client_id.to_owned();
        let read = self.read(move |registry| {
            Box::pin(async move { registry.presence(tenant.0, &client_id).await })
        });
        read.await.ok().flatten().map(ClientPresence::from)
    }

    /// Entries of the tables about the name in the question: `device` or `user`.
    pub(crate) async fn has_idle(&self, asked: &Asked) -> Option<&'static str> {
        let (name, seen) = (asked.question.name.clone(), asked.visibility());
        let read = self.read(move |registry| {
            Box::pin(async move {
                if registry.device(&seen, (&*name).into()).await.is_ok() {
                    return Ok(Some("device"));
                }
                Ok(registry.user(&seen, &name).await.ok().map(|_| "user"))
            })
        });
        read.await.ok().flatten()
    }

    /// The team of a device has a token by which its devices may come.
    async fn has_team_token(&self, asked: &Asked) -> bool {
        let device = asked.question.name.clone();
        let of_tenant = self.control.team_of_tenant(asked.question.tenant);
        let seen = of_tenant.map_or_else(|| asked.visibility(), Visibility::Team);
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

    /// When the API last refused a user that has no rights there, and the command that gives it
    /// some.
    async fn no_api_role(&self, asked: &Asked) -> Option<(u64, Option<Command>)> {
        let name = &asked.question.name;
        let is_user = asked.registered_as.as_deref() == Some("user");
        let refused_ms = self.without_rights.of(name).filter(|_| is_user)?;
        let user = name.clone();
        let read = self
            .read(move |registry| Box::pin(async move { account_named(registry, &user).await }));
        // It has some by now.
        if !matches!(read.await, Ok(None)) {
            return None;
        }
        let command = self.control.command(form::USER_API_ROLE, &[name, "viewer"]);
        Some((refused_ms, command))
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
    })
}
