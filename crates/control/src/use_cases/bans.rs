//! Bans: clients, users and addresses that are refused.

use std::sync::Arc;

use martlet_broker::TenantId;
use martlet_registry::{AddedBan, Ban, BanKind, NewBan, Page, PageRequest, Registry};

use crate::callers::{Caller, rights};
use crate::principal::Scopes;
use crate::shared_registry::SharedRegistry;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::teams::FindTeamId;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};
use crate::wall_clock::now_signed_ms;

/// Reads a page of the bans, by id.
#[derive(Debug)]
pub struct PageOfBans {
    /// Which page.
    pub page: PageRequest,
    /// Whether bans that have ended are listed too, which are kept for a day.
    pub with_ended: bool,
}

impl UseCase for PageOfBans {
    type Output = Page<Ban>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Page<Ban>, UseCaseError> {
        let lasting_at_ms = (!self.with_ended).then(now_signed_ms);
        let visibility = caller.visibility();
        let page = registry.bans_page(&visibility, lasting_at_ms, &self.page);
        Ok(page.await?)
    }
}

/// Finds a ban by what it was added with.
#[derive(Debug)]
pub struct FindBan {
    /// Kind of name that the ban refuses.
    pub kind: BanKind,
    /// The name or address; or `NAME@TEAM`, a name in the tenant of that team.
    pub value: String,
    /// Id or name of the team whose ban it is.
    pub team: Option<String>,
}

impl UseCase for FindBan {
    type Output = Ban;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Ban, UseCaseError> {
        let Self { kind, value, team } = self;
        let visibility = caller.visibility();
        let found = registry.ban_named(&visibility, kind, &value, team.as_deref());
        Ok(found.await?)
    }
}

/// Adds a ban. The caller needs all rights of the users that it refuses.
#[derive(Debug)]
pub struct AddBan {
    /// The ban.
    pub ban: NewBan,
    /// Names of users that it refuses, as far as they are known.
    pub users: Vec<String>,
}

impl UseCase for AddBan {
    type Output = AddedBan;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<AddedBan, UseCaseError> {
        let mut needed = Scopes::NONE;
        for user in &self.users {
            needed = needed.or(rights::of_user(registry, caller, user).await?);
        }
        caller.check_scopes(needed)?;
        Ok(registry.add_ban(&caller.actor, self.ban).await?)
    }
}

/// Removes a ban.
#[derive(Debug)]
pub struct RemoveBan {
    /// Id of the ban.
    pub id: String,
}

impl UseCase for RemoveBan {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        Ok(registry.remove_ban(&caller.actor, &self.id).await?)
    }
}

/// Adds a ban in a node, which knows the users of connected clients.
///
/// # Errors
/// As of [`AddBan`]; or the node does not answer.
pub async fn add_ban(
    tables: &Arc<SharedRegistry>,
    caller: Caller,
    ban: NewBan,
) -> Result<AddedBan, UseCaseError> {
    if let (false, Some(team)) = (caller.sees_all(), &ban.team) {
        let team = team.clone();
        tables.run(caller.clone(), FindTeamId { team }).await?;
    }
    let users = refused_users(tables, &caller, &ban).await?;
    tables.run(caller, AddBan { ban, users }).await
}

/// Names of users that a ban may refuse. A ban of an address has none: an address belongs to no
/// user.
async fn refused_users(
    tables: &SharedRegistry,
    caller: &Caller,
    ban: &NewBan,
) -> Result<Vec<String>, UseCaseError> {
    let control = tables.control();
    let tenant_of = |team: &str| control.tenant_of_team(team);
    let of_team = ban.team.as_deref().or(caller.actor.visibility.team());
    let own = of_team.and_then(tenant_of).unwrap_or_default();
    // `NAME@TEAM` is a name in the tenant of that team.
    let qualified = ban.value.rsplit_once('@');
    let qualified = qualified.and_then(|(name, team)| Some((tenant_of(team)?, name)));
    let meant = [Some((own, &*ban.value)), qualified];
    let meant: Vec<(TenantId, &str)> = meant.into_iter().flatten().collect();
    let mut users = Vec::new();
    for (tenant, name) in meant {
        match ban.kind {
            BanKind::Address => {}
            BanKind::UserName => users.push(name.to_owned()),
            BanKind::ClientId => {
                let found = control.client(tenant, name, 0).await?;
                users.extend(found.and_then(|client| client.info.user_name));
            }
        }
    }
    Ok(users)
}
