//! Authentication of API callers by the tables.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use martlet_broker::TenantId;
use martlet_registry::{
    Actor, ApiKey, ApiRole, AuditLine, NewAuditEntry, NewUser, Registry, RegistryError, User,
    Visibility,
};
use tokio::runtime::Handle;

use super::SharedRegistry;
use super::administration::may_do_everything;
use super::error::{SharedRegistryError, is_fault};
use crate::callers::{Account, AuditEntry, Callers, CallersError, FirstAdministrator, Looked};
use crate::principal::{Principal, PrincipalKind, Role, Scopes};
use crate::wall_clock::now_signed_ms;

impl From<SharedRegistryError> for CallersError {
    fn from(error: SharedRegistryError) -> Self {
        Self::Unavailable(error.caller_text())
    }
}

/// The least that a password of the panel has: it is tried from anywhere.
const PASSWORD_MIN: usize = 10;

impl Callers for Arc<SharedRegistry> {
    fn api_key<'a>(&'a self, key: &'a [u8]) -> Looked<'a, Option<Principal>> {
        Box::pin(async move {
            let Ok(text) = std::str::from_utf8(key).map(str::to_owned) else {
                return Ok(None);
            };
            let kept = self.known.key(key, now_signed_ms());
            let found = self.read(move |registry| {
                Box::pin(async move {
                    let Some(key) = registry.api_key_of(&text, now_signed_ms()).await? else {
                        return Ok(None);
                    };
                    let tenant = match &*key.team {
                        "" => TenantId::default(),
                        team => tenant_of(registry, team).await?,
                    };
                    let most = match &*key.owner {
                        "" => Scopes::all(),
                        owner => scopes_of(registry, owner, &key.team).await?,
                    };
                    Ok(Some((key, tenant, most)))
                })
            });
            let principal = |(key, tenant, most): (ApiKey, TenantId, Scopes)| {
                self.notes.use_key(&key.id);
                let names = key.scopes.iter();
                let scopes = names.filter_map(|name| Scopes::parse(name).ok());
                let scopes = scopes.fold(Scopes::NONE, Scopes::or).and(most);
                let team = (!key.team.is_empty()).then_some(key.team);
                let principal = Principal {
                    kind: PrincipalKind::ApiKey {
                        id: key.id,
                        name: key.name,
                    },
                    scopes: match team {
                        Some(_) => scopes.and(Scopes::of_team(tenant)),
                        None => scopes,
                    },
                    team,
                    tenant,
                };
                (principal, key.expires_ms)
            };
            let lookup = async {
                let found = found.await?.map(principal);
                self.known.remember_key(key, found.clone());
                Ok(found.map(|(principal, _)| principal))
            };
            self.or_kept(kept, lookup).await
        })
    }

    fn check_password<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> Looked<'a, Option<Account>> {
        Box::pin(async move {
            let (own, runtime) = (Self::clone(self), Handle::current());
            let (name, password) = (name.to_owned(), password.to_owned());
            let noting = Self::clone(self);
            // The hash takes long, and must not hold up others.
            let checked = tokio::task::spawn_blocking(move || {
                runtime.block_on(own.read_by(&own.passwords, move |registry| {
                    Box::pin(async move {
                        let Some(user) = registry.log_in(&name, &password).await? else {
                            return Ok(None);
                        };
                        let account = account(registry, user).await?;
                        if account.is_none() {
                            noting.without_rights.add(&name);
                        }
                        Ok(account)
                    })
                }))
            });
            let checked = checked.await.unwrap_or(Err(SharedRegistryError::BrokenOff));
            Ok(checked?)
        })
    }

    fn account<'a>(&'a self, name: &'a str) -> Looked<'a, Option<Account>> {
        Box::pin(async move {
            let of = name.to_owned();
            let found = self
                .read(move |registry| Box::pin(async move { account_named(registry, &of).await }));
            let lookup = async {
                let found = found.await?;
                self.known.remember_account(name, found.clone());
                Ok(found)
            };
            self.or_kept(self.known.account(name), lookup).await
        })
    }

    fn is_claimed(&self) -> Looked<'_, bool> {
        Box::pin(async move {
            if self.is_claimed.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let found = self.read(|registry| {
                Box::pin(async move {
                    Ok(registry.is_claimed().await? || has_administrators_key(registry).await?)
                })
            });
            let found = found.await?;
            if found {
                self.is_claimed.store(true, Ordering::Relaxed);
            }
            Ok(found)
        })
    }

    fn has_administrator(&self) -> Looked<'_, bool> {
        Box::pin(async move {
            if self.had_administrator.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let found = self.read(|registry| Box::pin(registry.has_administrator()));
            let found = found.await?;
            if found {
                self.had_administrator.store(true, Ordering::Relaxed);
            }
            Ok(found)
        })
    }

    fn make_first_administrator<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> Looked<'a, FirstAdministrator> {
        Box::pin(async move {
            if password.chars().count() < PASSWORD_MIN {
                let why = format!("the password needs {PASSWORD_MIN} characters or more");
                return Ok(FirstAdministrator::Refused(why));
            }
            let (name, password) = (name.to_owned(), password.to_owned());
            let created = self.change(move |registry| {
                Box::pin(async move { make_first(registry, &name, &password).await })
            });
            Ok(created.await?)
        })
    }

    fn audit(&self, entry: AuditEntry) -> Looked<'_, ()> {
        Box::pin(async move {
            let by = match entry.principal.split_once(':') {
                Some(("key", _)) => "api key",
                Some(("user", _)) => "session",
                Some(("device", _)) => "device",
                _ if entry.principal == "admin.sock" => "admin.sock",
                _ => "nothing",
            };
            let actor = Actor {
                who: entry.principal,
                by: by.to_owned(),
                address: entry.address.unwrap_or_default(),
                request_id: entry.request_id,
                visibility: Visibility::All,
            };
            let (at_ms, is_soon) = (entry.at_ms, entry.is_soon);
            let outcome = match entry.status {
                status @ 500.. => format!("status {status}"),
                _ => "done".to_owned(),
            };
            let (method, path) = entry.action.split_once(' ').unwrap_or_default();
            let entry = NewAuditEntry {
                team: entry.team.unwrap_or_default(),
                action: format!("http.{}", method.to_ascii_lowercase()),
                object_kind: "route".to_owned(),
                object_id: path.to_owned(),
                changed: entry.changed,
                outcome,
            };
            let line = AuditLine {
                actor,
                at_ms,
                entry,
            };
            let written = self.write_line(line, is_soon).await;
            written.map_err(CallersError::Unavailable)
        })
    }
}

fn role_of(role: ApiRole) -> Option<Role> {
    match role {
        ApiRole::Administrator => Some(Role::Administrator),
        ApiRole::Operator => Some(Role::Operator),
        ApiRole::Viewer => Some(Role::Viewer),
        ApiRole::None => None,
    }
}

/// Rights of a user who logs in: by a role for all teams, or else by the role in the first of their
/// teams. None: no rights.
async fn account(registry: &mut Registry, user: User) -> Result<Option<Account>, RegistryError> {
    if !user.enabled || user.deleted_ms > 0 {
        return Ok(None);
    }
    // Another user of the name is not this one, though its revision is the same.
    let created = u64::try_from(user.created_ms).unwrap_or(0) << 20;
    let generation = created.wrapping_add(u64::try_from(user.revision).unwrap_or(0));
    let name = user.name;
    if let Some(role) = role_of(user.api_role) {
        return Ok(Some(Account {
            name,
            role,
            team: None,
            tenant: TenantId::default(),
            generation,
        }));
    }
    let teams = registry.teams_of(&name).await?;
    let first = teams.into_iter().find_map(|member| {
        let role = role_of(member.role)?;
        Some((role, member.team))
    });
    let Some((role, team)) = first else {
        return Ok(None);
    };
    Ok(Some(Account {
        name,
        role,
        tenant: tenant_of(registry, &team).await?,
        team: Some(team),
        generation,
    }))
}

/// Rights of the owner of a key: by a role for all teams, or by the role in the key's team. Without
/// either a key has no rights.
async fn scopes_of(
    registry: &mut Registry,
    owner: &str,
    team: &str,
) -> Result<Scopes, RegistryError> {
    let user = registry.user(&Visibility::All, owner).await?;
    let own = role_of(user.api_role).map_or(Scopes::NONE, Role::scopes);
    let of_team = registry.teams_of(owner).await?.into_iter();
    let of_team = of_team.filter(|member| member.team == team);
    let of_team = of_team.filter_map(|member| role_of(member.role));
    Ok(of_team.fold(own, |all, role| all.or(role.scopes())))
}

/// The tenant that is a team's own; the common one, if it owns none.
async fn tenant_of(registry: &mut Registry, team: &str) -> Result<TenantId, RegistryError> {
    let team = registry.team(&Visibility::All, team).await?;
    Ok(TenantId(team.tenant))
}

/// As [`account`], by name.
pub(super) async fn account_named(
    registry: &mut Registry,
    name: &str,
) -> Result<Option<Account>, RegistryError> {
    match registry.user(&Visibility::All, name).await {
        Ok(user) => account(registry, user).await,
        Err(RegistryError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// There is, or was, a key that may do everything.
async fn has_administrators_key(registry: &mut Registry) -> Result<bool, RegistryError> {
    let keys = registry.api_keys(&Visibility::All).await?;
    Ok(keys.iter().any(may_do_everything))
}

/// Kind of a caller's name, as in the audit log.
pub fn by_what(kind: &PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Socket => "admin.sock",
        PrincipalKind::ApiKey { .. } => "api key",
        PrincipalKind::User { .. } => "session",
        PrincipalKind::Device { .. } => "device",
        PrincipalKind::Anonymous => "nothing",
    }
}

async fn make_first(
    registry: &mut Registry,
    name: &str,
    password: &str,
) -> Result<FirstAdministrator, RegistryError> {
    if registry.has_administrator().await? {
        return Ok(FirstAdministrator::NotFirst);
    }
    let actor = Actor {
        who: format!("user:{name}"),
        by: "setup link".to_owned(),
        address: String::new(),
        request_id: String::new(),
        visibility: Visibility::All,
    };
    let user = NewUser {
        api_role: ApiRole::Administrator,
        ..NewUser::new(name)
    };
    let created = registry.create_user(&actor, user, password).await;
    let created = match created {
        Err(RegistryError::Exists(why)) => {
            // A user of MQTT. The holder of the link cannot take it over.
            return Ok(FirstAdministrator::Refused(format!(
                "{why}: choose another name"
            )));
        }
        Err(error) if !is_fault(&error) => {
            return Ok(FirstAdministrator::Refused(error.to_string()));
        }
        created => created?,
    };
    match account(registry, created).await? {
        Some(account) => Ok(FirstAdministrator::Made(account)),
        None => Ok(FirstAdministrator::NotFirst),
    }
}
