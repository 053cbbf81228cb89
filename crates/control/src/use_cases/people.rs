//! Users, their rights and passwords.

use martlet_access::hash::PasswordHash;
use martlet_registry::{
    ApiRole, Expected, Member, NO_ROLE, NewUser, Page, PageRequest, Registry, USER_ROLE, User,
    UserChange,
};

use crate::callers::{Caller, rights};
use crate::principal::Scopes;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Longest password, in characters.
const PASSWORD_MAX: usize = 1024;

/// A password of a user.
#[derive(Clone)]
pub struct NewPassword(String);

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewPassword(..)")
    }
}

impl NewPassword {
    /// Checks a password that a person chooses.
    ///
    /// # Errors
    /// It is not strong enough or too long.
    pub fn chosen(password: String) -> Result<Self, UseCaseError> {
        martlet_registry::check_password(password.as_bytes()).map_err(UseCaseError::Password)?;
        match password.chars().count() > PASSWORD_MAX {
            true => {
                let why = "a password has 1,024 characters at most";
                Err(UseCaseError::Password(why.to_owned()))
            }
            false => Ok(Self(password)),
        }
    }

    /// A password that is not checked: it was generated, the command has checked it, or `--weak`
    /// was given.
    pub fn given(password: String) -> Self {
        Self(password)
    }
}

/// Checks that the caller has all rights of a user, and of the role for MQTT that the user gets: a
/// caller that sets a password can log in as that user.
async fn check_change(
    registry: &mut Registry,
    caller: &Caller,
    name: &str,
    role: Option<&str>,
) -> Result<(), UseCaseError> {
    let mut needed = rights::of_user(registry, caller, name).await?;
    if let Some(role) = role {
        needed = needed.or(rights::of_role(registry, caller, role).await?);
    }
    Ok(caller.check_scopes(needed)?)
}

/// Lists the users, by name.
#[derive(Debug)]
pub struct ListUsers {
    /// Only deleted users.
    pub deleted: bool,
}

impl UseCase for ListUsers {
    type Output = Vec<User>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<User>, UseCaseError> {
        Ok(registry
            .list_users(&caller.visibility(), self.deleted)
            .await?)
    }
}

/// Finds the teams that each of these users is in, with the roles in them.
#[derive(Debug)]
pub struct TeamsOfUsers {
    /// User names.
    pub names: Vec<String>,
}

impl UseCase for TeamsOfUsers {
    type Output = Vec<Vec<Member>>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<Vec<Member>>, UseCaseError> {
        let visibility = caller.visibility();
        let mut found = Vec::new();
        for name in self.names {
            let mut teams = registry.teams_of(&name).await?;
            teams.retain(|member| visibility.team().is_none_or(|team| team == member.team));
            found.push(teams);
        }
        Ok(found)
    }
}

/// Reads a page of the users, by name.
#[derive(Debug)]
pub struct PageOfUsers {
    /// Only deleted users.
    pub deleted: bool,
    /// Which page.
    pub page: PageRequest,
}

impl UseCase for PageOfUsers {
    type Output = Page<User>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Page<User>, UseCaseError> {
        let visibility = caller.visibility();
        Ok(registry
            .users_page(&visibility, self.deleted, &self.page)
            .await?)
    }
}

/// Finds a user.
#[derive(Debug)]
pub struct FindUser {
    /// User name.
    pub name: String,
}

impl UseCase for FindUser {
    type Output = User;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<User, UseCaseError> {
        Ok(registry.user(&caller.visibility(), &self.name).await?)
    }
}

/// Gives a new user the default role for MQTT, and checks that the caller has all rights that the
/// user gets.
async fn check_new(
    registry: &mut Registry,
    caller: &Caller,
    user: &mut NewUser,
) -> Result<(), UseCaseError> {
    caller.check_scopes(rights::of_api_role(user.api_role))?;
    // A viewer may not read messages by the API, and so not by MQTT either, unless the caller gives
    // a role.
    if user.role.is_none() && user.api_role == ApiRole::Viewer {
        user.role = Some(NO_ROLE.to_owned());
    }
    let default = caller.gives_topics().then_some(USER_ROLE);
    let mut needed = match user.role.as_deref().or(default) {
        Some(role) => rights::of_role(registry, caller, role).await?,
        None => Scopes::NONE,
    };
    if let (Some(role), false) = (user.team_role, user.team.is_empty()) {
        let (team, name) = (&*user.team, &*user.name);
        let of_member = rights::of_member(registry, caller, team, name, Some(role));
        needed = needed.or(of_member.await?);
    }
    Ok(caller.check_scopes(needed)?)
}

/// Adds a user. The caller needs all rights that the user gets.
#[derive(Debug)]
pub struct AddUser {
    /// The user. Without a role for MQTT, the user has no topics if it is a viewer or if a team
    /// without a tenant adds it, and the role [`USER_ROLE`] otherwise.
    pub user: NewUser,
    /// The user's password.
    pub password: NewPassword,
}

impl UseCase for AddUser {
    type Output = User;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<User, UseCaseError> {
        let Self { mut user, password } = self;
        check_new(registry, caller, &mut user).await?;
        let added = registry.create_user(&caller.actor, user, &password.0);
        Ok(added.await?)
    }
}

/// Adds a user whose password another system has hashed. The caller needs all rights that the user
/// gets.
#[derive(Debug)]
pub struct ImportUser {
    /// The user, as of [`AddUser`].
    pub user: NewUser,
    /// The hash. If it is the password itself, the registry hashes it.
    pub hash: PasswordHash,
}

impl UseCase for ImportUser {
    type Output = User;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<User, UseCaseError> {
        let Self { mut user, hash } = self;
        check_new(registry, caller, &mut user).await?;
        let actor = &caller.actor;
        Ok(match hash.is_plain() {
            true => registry.create_user(actor, user, &hash.text()).await?,
            false => registry.create_user_with_hash(actor, user, &hash).await?,
        })
    }
}

/// Changes a user. The caller needs all rights that the user has before and after.
#[derive(Debug)]
pub struct ChangeUser {
    /// User name.
    pub name: String,
    /// Changes of the user.
    pub change: UserChange,
    /// The revision that the user must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for ChangeUser {
    type Output = User;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<User, UseCaseError> {
        let Self {
            name,
            change,
            expected_revision,
        } = self;
        if let Some(role) = change.api_role {
            caller.check_scopes(rights::of_api_role(role))?;
        }
        check_change(registry, caller, &name, change.role.as_deref()).await?;
        let changed = registry.change_user(&caller.actor, &name, change, expected_revision);
        Ok(changed.await?)
    }
}

/// Sets another password of a user. The caller needs all rights of the user.
#[derive(Debug)]
pub struct SetPassword {
    /// User name.
    pub name: String,
    /// The new password.
    pub password: NewPassword,
}

impl UseCase for SetPassword {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self { name, password } = self;
        check_change(registry, caller, &name, None).await?;
        let changed = registry.change_password(&caller.actor, &name, &password.0);
        Ok(changed.await?)
    }
}

/// Deletes a user. It can be restored. The caller needs all rights of the user.
#[derive(Debug)]
pub struct DeleteUser {
    /// User name.
    pub name: String,
    /// The revision that the user must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for DeleteUser {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self {
            name,
            expected_revision,
        } = self;
        check_change(registry, caller, &name, None).await?;
        let deleted = registry.delete_user(&caller.actor, &name, expected_revision);
        Ok(deleted.await?)
    }
}

/// Removes a user for good, whether deleted before or not.
#[derive(Debug)]
pub struct PurgeUser {
    /// User name.
    pub name: String,
}

impl UseCase for PurgeUser {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        check_change(registry, caller, &self.name, None).await?;
        Ok(registry.purge_user(&caller.actor, &self.name).await?)
    }
}

/// Restores a deleted user.
#[derive(Debug)]
pub struct RestoreUser {
    /// User name.
    pub name: String,
}

impl UseCase for RestoreUser {
    type Output = User;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<User, UseCaseError> {
        check_change(registry, caller, &self.name, None).await?;
        Ok(registry.restore_user(&caller.actor, &self.name).await?)
    }
}
