//! Rights of what the registry has: a caller grants, changes and ends only what has no right that
//! the caller lacks.
//!
//! [`Caller::check_scopes`] is the rule. The functions here compute the rights of a key, a user, a
//! role, a membership or a team. A use case reads them with the connection that then makes the
//! change, so that nothing comes between.

use martlet_broker::{Actions, TenantId};
use martlet_registry::{
    ADMINISTRATOR_ROLE, ApiKey, ApiRole, Owner, Registry, RegistryError, RuleLine, Visibility,
    beyond_own,
};

use crate::callers::Caller;
use crate::principal::{Role, Scope, Scopes};

/// Rights of a role for the API and the panel.
pub(crate) fn of_api_role(role: ApiRole) -> Scopes {
    Role::from_name(role.word()).map_or(Scopes::NONE, Role::scopes)
}

/// Rights that are written as scopes and roles, such as those of a key.
pub(crate) fn of_names(names: &[String]) -> Scopes {
    let scopes = names.iter().filter_map(|name| Scopes::parse(name).ok());
    scopes.fold(Scopes::NONE, Scopes::or)
}

/// Scopes of a member of a team, at most. A team that does not exist may own a tenant.
async fn most_of_team(registry: &mut Registry, team: &str) -> Result<Scopes, RegistryError> {
    match registry.team(&Visibility::All, team).await {
        Ok(team) => Ok(Scopes::of_team(TenantId(team.tenant))),
        Err(RegistryError::NotFound(_)) => Ok(Scopes::of_any_team()),
        Err(error) => Err(error),
    }
}

/// Rights of a key, whatever its owner.
async fn of_key(registry: &mut Registry, key: &ApiKey) -> Result<Scopes, RegistryError> {
    let rights = of_names(&key.scopes);
    match &*key.team {
        "" => Ok(rights),
        team => Ok(rights.and(most_of_team(registry, team).await?)),
    }
}

/// A key of the tables with its rights; none if the caller sees no such key.
pub(crate) async fn key(
    registry: &mut Registry,
    caller: &Caller,
    id: &str,
) -> Result<Option<(ApiKey, Scopes)>, RegistryError> {
    let keys = registry.api_keys(&caller.visibility()).await?;
    let Some(key) = keys.into_iter().find(|key| key.id == id) else {
        return Ok(None);
    };
    let rights = of_key(registry, &key).await?;
    Ok(Some((key, rights)))
}

/// Rights of the user in whose name a key is; a key of one's own needs no more than it opens.
pub(crate) async fn of_owner(
    registry: &mut Registry,
    caller: &Caller,
    owner: &str,
) -> Result<Scopes, RegistryError> {
    if owner.is_empty() || caller.user() == Some(owner) {
        return Ok(Scopes::NONE);
    }
    of_user(registry, caller, owner).await
}

/// Rights of a user, there or deleted: by the roles for the API, in teams and for MQTT. None if the
/// caller sees no such user.
pub(crate) async fn of_user(
    registry: &mut Registry,
    caller: &Caller,
    name: &str,
) -> Result<Scopes, RegistryError> {
    let visibility = caller.visibility();
    let found = [
        registry.user(&visibility, name).await,
        registry.deleted_user(&visibility, name).await,
    ];
    let mut rights = Scopes::NONE;
    for user in found {
        let user = match user {
            Err(RegistryError::NotFound(_)) => continue,
            user => user?,
        };
        let of_role = of_role(registry, caller, &user.role).await?;
        rights = rights.or(of_api_role(user.api_role)).or(of_role);
        for member in registry.teams_of(name).await? {
            let most = most_of_team(registry, &member.team).await?;
            rights = rights.or(of_api_role(member.role).and(most));
        }
    }
    Ok(rights)
}

/// The API rights that correspond to a role for MQTT: to publish and to receive on topics that are
/// not its holder's own, see [`of_rules`]. The administrator's role corresponds to all rights.
pub(crate) async fn of_role(
    registry: &mut Registry,
    caller: &Caller,
    role: &str,
) -> Result<Scopes, RegistryError> {
    let set = match registry.rule_set(Owner::Role, role).await {
        // The call itself returns that error.
        Err(RegistryError::NotFound(_)) => return Ok(Scopes::NONE),
        found => found?,
    };
    Ok(match (set.beyond_own(Owner::Role), set.is_builtin) {
        (Some(_), true) if role == ADMINISTRATOR_ROLE => caller.scopes_of_everything(),
        (Some(_), true) => [Scope::MessagesRead, Scope::MessagesWrite].into(),
        _ => of_rules(caller, Owner::Role, &set.rules),
    })
}

/// Rights that rules come to: to publish and to receive on topics that are not their holder's own.
///
/// A caller that may name users decides which names `%u` stands for. In a role that it gives, `%u`
/// and `%c` are therefore any name, as `+` is. A team without a tenant is the exception: it has no
/// rights to messages at all, and the roles that it gives are those with `%u` in each filter.
pub(crate) fn of_rules(caller: &Caller, owner: Owner, rules: &[RuleLine]) -> Scopes {
    let names_users = caller.scopes.has(Scope::UsersWrite) && caller.gives_topics();
    let of_rule = |rule: &RuleLine| {
        let is_one_of = |some: Actions| rule.actions.has(some);
        let reads = is_one_of(Actions::SUBSCRIBE) || is_one_of(Actions::RECEIVE);
        let both = [
            reads.then_some(Scope::MessagesRead),
            is_one_of(Actions::PUBLISH).then_some(Scope::MessagesWrite),
        ];
        both.into_iter().flatten()
    };
    match owner == Owner::Role && names_users {
        true => {
            let allowing = rules.iter().filter(|rule| rule.allows);
            allowing.flat_map(of_rule).collect()
        }
        false => beyond_own(owner, rules).flat_map(of_rule).collect(),
    }
}

/// Rights of everything that goes and comes with a team: its devices, its keys and what people may
/// do in it. It is named by id or name, and is there or deleted.
pub(crate) async fn of_team(
    registry: &mut Registry,
    caller: &Caller,
    team: &str,
) -> Result<Scopes, RegistryError> {
    let mut rights: Scopes = [Scope::DevicesWrite, Scope::KeysWrite].into();
    let visibility = caller.visibility();
    for deleted in [false, true] {
        let found = registry.team_and_roles(&visibility, team, deleted);
        let (team, roles) = match found.await {
            Err(RegistryError::NotFound(_)) => continue,
            found => found?,
        };
        let most = Scopes::of_team(TenantId(team.tenant));
        let of_members = roles.into_iter().map(of_api_role);
        let keys = registry.api_keys(&visibility).await?.into_iter();
        let keys = keys.filter(|key| key.team == team.id && key.revoked_ms == 0);
        let of_keys = keys.map(|key| of_names(&key.scopes));
        let all = of_members.chain(of_keys).fold(Scopes::NONE, Scopes::or);
        rights = rights.or(all.and(most));
    }
    Ok(rights)
}

/// Rights of a membership in a team; if `role` is given, of that role too.
pub(crate) async fn of_member(
    registry: &mut Registry,
    caller: &Caller,
    team: &str,
    user: &str,
    role: Option<ApiRole>,
) -> Result<Scopes, RegistryError> {
    let team = registry.team_named(&caller.visibility(), team).await?;
    let members = registry.members(&caller.visibility(), &team.id).await?;
    let before = members.into_iter().find(|member| member.user == user);
    let roles = [before.map(|member| member.role), role].into_iter();
    let rights = roles.flatten().map(of_api_role);
    let most = Scopes::of_team(TenantId(team.tenant));
    Ok(rights.fold(Scopes::NONE, Scopes::or).and(most))
}
