//! People and programs: a name, a password that they may have chosen, a role.
//!
//! * `find`: reading users
//! * `passwords`: their passwords

mod find;
mod passwords;
mod user;

pub(crate) use find::{UserRow, expect_user, has_role_elsewhere, is_user, user_row, user_rows};

use martlet_access::hash::PasswordHash;
use serde_json::json;

use crate::database::Work;
use crate::members::insert_member;
use crate::names::check_new_name;
use crate::object::{details_of_change, details_of_new};
use crate::rule_sets::expect_own_topics;
use crate::rule_sets::owner::{is_builtin, unknown};
use crate::sql::Fault;
use crate::teams::{Home, expect_unqualified, forget_owner, home, team_seen};
use crate::{
    Actor, Exists, Expected, NO_ROLE, ObjectKind, Owner, Refused, Registry, RegistryError,
    USER_ROLE, Visibility,
};
use find::find_own;
use passwords::new_hash;
pub use user::{ApiRole, GivenPassword, NewUser, User, UserChange};

impl Registry {
    /// Adds a user.
    ///
    /// # Errors
    /// There is a user or a device of that name, or no such role.
    pub async fn add_user(
        &mut self,
        name: &str,
        role: &str,
        password: &str,
    ) -> Result<(), RegistryError> {
        let user = NewUser {
            role: Some(role.to_owned()),
            // An administrator of the broker administers the node.
            api_role: match role {
                "administrator" => ApiRole::Administrator,
                _ => ApiRole::None,
            },
            ..NewUser::new(name)
        };
        let created = self.create_user(&Actor::local(), user, password).await;
        created.map(drop)
    }

    /// As [`Registry::add_user`], for a caller. A caller that sees one team only adds the user to
    /// that team.
    ///
    /// # Errors
    /// There is a user or a device of that name, or no such role or team.
    pub async fn create_user(
        &mut self,
        actor: &Actor,
        user: NewUser,
        password: &str,
    ) -> Result<User, RegistryError> {
        check_new_name("user", &user.name)?;
        let (hash, verifier) = (new_hash(password)?, self.new_verifier(password)?);
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, user, &hash, verifier).await;
        work.end(done).await
    }

    /// As [`Registry::create_user`], with a hash of the password that was made elsewhere.
    ///
    /// # Errors
    /// As there; or it is no hash but the password itself.
    pub async fn create_user_with_hash(
        &mut self,
        actor: &Actor,
        user: NewUser,
        hash: &PasswordHash,
    ) -> Result<User, RegistryError> {
        check_new_name("user", &user.name)?;
        if hash.is_plain() {
            return Err(Refused::PlainPassword.into());
        }
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, user, hash, String::new()).await;
        work.end(done).await
    }

    /// Changes what a user is, as far as it is named.
    ///
    /// # Errors
    /// There is no such user or role.
    pub async fn set_user(
        &mut self,
        name: &str,
        role: Option<&str>,
        enabled: Option<bool>,
    ) -> Result<(), RegistryError> {
        let change = UserChange {
            role: role.map(str::to_owned),
            enabled,
            ..UserChange::default()
        };
        let changed = self
            .change_user(&Actor::local(), name, change, Expected::any())
            .await;
        changed.map(drop)
    }

    /// Changes a user; the answer is what it is then.
    ///
    /// # Errors
    /// There is no such user, it has another revision than expected, or there is no such role or
    /// team.
    pub async fn change_user(
        &mut self,
        actor: &Actor,
        name: &str,
        change: UserChange,
        expected_revision: Expected,
    ) -> Result<User, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change_one(&mut work, name, change, expected_revision).await;
        work.end(done).await
    }

    /// Deletes a user: nobody sees it, and it can be restored.
    ///
    /// # Errors
    /// There is no such user, or it has another revision than expected.
    pub async fn delete_user(
        &mut self,
        actor: &Actor,
        name: &str,
        expected_revision: Expected,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let user = find_own(&mut work.all, &actor.visibility, name, false).await?;
            expected_revision.check(name, user.revision)?;
            let now_ms = work.now_ms;
            set_deleted(&mut work, &user, "user.delete", now_ms).await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Brings a deleted user back, as it was.
    ///
    /// # Errors
    /// No such user was deleted, or the user's team was.
    pub async fn restore_user(&mut self, actor: &Actor, name: &str) -> Result<User, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let mut user = find_own(&mut work.all, &actor.visibility, name, true).await?;
            team_seen(&mut work.all, &Visibility::All, &user.team).await?;
            set_deleted(&mut work, &user, "user.restore", 0).await?;
            user.deleted_ms = 0;
            user.revision += 1;
            user.updated_ms = work.now_ms;
            Ok(user)
        };
        let done = done.await;
        work.end(done).await
    }

    /// Removes a user for good.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn remove_user(&mut self, name: &str) -> Result<(), RegistryError> {
        self.purge_user(&Actor::local(), name).await
    }

    /// As [`Registry::remove_user`], for a caller, whether the user was deleted before or not.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn purge_user(&mut self, actor: &Actor, name: &str) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let user = match find_own(&mut work.all, &actor.visibility, name, false).await {
                Err(Fault::Told(RegistryError::NotFound(_))) => {
                    find_own(&mut work.all, &actor.visibility, name, true).await?
                }
                found => found?,
            };
            forget_owner(&mut work, name).await?;
            let deleted = sqlx::query("DELETE FROM users WHERE name = $1").bind(name.to_owned());
            deleted.execute(&mut *work.all).await?;
            work.audit("user.remove", ("user", name), &user.team, json!({}))
                .await
        };
        let done = done.await;
        work.end(done).await
    }
}

/// Checks that a caller that sees one team gives no more than that: no role for all teams, and
/// without a tenant no topics of others.
async fn check_roles(work: &mut Work<'_>, user: &User) -> Result<(), Fault> {
    let Some(team) = work.actor.visibility.team() else {
        return Ok(());
    };
    if user.team != team || user.api_role != ApiRole::None {
        return Err(Refused::RoleElsewhere.into());
    }
    match user.tenant {
        0 => expect_own_topics(work, Owner::Role, &user.role).await,
        _ => Ok(()),
    }
}

async fn expect_role(work: &mut Work<'_>, role: &str) -> Result<(), Fault> {
    match is_builtin(&mut work.all, Owner::Role, role).await? {
        Some(_) => Ok(()),
        None => Err(Refused::from(unknown(Owner::Role, role)).into()),
    }
}

/// No device of this tenant has this name.
async fn expect_no_device(work: &mut Work<'_>, name: &str, tenant: i64) -> Result<(), Fault> {
    let sql = "SELECT id FROM devices WHERE id = $1 AND tenant = $2";
    let device = sqlx::query(sql).bind(name.to_owned()).bind(tenant);
    match device.fetch_optional(&mut *work.all).await? {
        None => Ok(()),
        Some(_) => Err(Exists::DeviceOfUserName(name.to_owned()).into()),
    }
}

async fn insert(
    work: &mut Work<'_>,
    mut new: NewUser,
    hash: &PasswordHash,
    verifier: String,
) -> Result<User, Fault> {
    let visibility = work.actor.visibility.clone();
    let own_team = visibility.team();
    let named = own_team
        .filter(|_| new.team.is_empty())
        .unwrap_or(&new.team);
    let Home { team, tenant } = home(&mut work.all, &visibility, named).await?;
    let role = new.role.take().unwrap_or_else(|| {
        let is_among_others = own_team.is_some() && tenant == 0;
        if is_among_others { NO_ROLE } else { USER_ROLE }.to_owned()
    });
    expect_role(work, &role).await?;
    expect_no_device(work, &new.name, tenant).await?;
    expect_unqualified(&mut work.all, tenant, &new.name).await?;
    let team_role = new.team_role;
    let user = User {
        role,
        team,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        revision: 1,
        created_ms: work.now_ms,
        updated_ms: work.now_ms,
        password_set_ms: work.now_ms,
        ..User::begun(new)
    };
    user.check_values()?;
    check_roles(work, &user).await?;
    let name = &user.name;
    let sql = "SELECT deleted_ms FROM users WHERE name = $1";
    let known = sqlx::query_scalar::<_, i64>(sql).bind(name.clone());
    match known.fetch_optional(&mut *work.all).await? {
        None => {}
        Some(0) => return Err(Exists::User(name.clone()).into()),
        Some(_) => {
            return Err(Exists::Deleted(ObjectKind::User, name.as_str().into()).into());
        }
    }
    let secrets = [
        ("password_hash", &*hash.text()),
        ("scram_verifier", &*verifier),
    ];
    work.insert(&user, &secrets).await?;
    work.set_in_use().await?;
    let details = details_of_new(&user).into();
    work.audit("user.add", ("user", name), &user.team, details)
        .await?;
    claim(work, &user).await?;
    match (team_role, own_team) {
        (Some(role), _) if !user.team.is_empty() => {
            let team = &user.team;
            insert_member(work, team, name, role).await?;
            let changed = json!({ "user": name, "role": role.word() });
            let of = ("team", &**team);
            work.audit("team.member", of, team, changed).await?;
        }
        (_, Some(team)) => insert_member(work, team, name, ApiRole::None).await?,
        _ => {}
    }
    Ok(user)
}

async fn change_one(
    work: &mut Work<'_>,
    name: &str,
    mut change: UserChange,
    expected_revision: Expected,
) -> Result<User, Fault> {
    let visibility = work.actor.visibility.clone();
    let old = find_own(&mut work.all, &visibility, name, false).await?;
    expected_revision.check(name, old.revision)?;
    let mut new = old.clone();
    let team = change.team.take();
    new.set_values(change)?;
    if new.role != old.role {
        expect_role(work, &new.role).await?;
    }
    if let Some(team) = team.filter(|team| *team != old.team) {
        let Home { team, tenant } = home(&mut work.all, &visibility, &team).await?;
        if tenant != i64::from(old.tenant) {
            expect_no_device(work, name, tenant).await?;
            expect_unqualified(&mut work.all, tenant, name).await?;
        }
        new.tenant = u32::try_from(tenant).unwrap_or(u32::MAX);
        new.team = team;
    }
    if new == old {
        return Ok(old);
    }
    check_roles(work, &new).await?;
    new.revision += 1;
    new.updated_ms = work.now_ms;
    work.update(&new, "name", name).await?;
    let changed = details_of_change(&old, &new).into();
    work.audit("user.change", ("user", name), &new.team, changed)
        .await?;
    claim(work, &new).await?;
    Ok(new)
}

/// Once the node has an administrator it counts as claimed, even if the user is removed.
async fn claim(work: &mut Work<'_>, user: &User) -> Result<(), Fault> {
    if user.api_role != ApiRole::Administrator {
        return Ok(());
    }
    let sql = "UPDATE counters SET last = $1 WHERE name = 'claimed' AND last = 0";
    let query = sqlx::query(sql).bind(work.now_ms);
    query.execute(&mut *work.all).await?;
    Ok(())
}

async fn set_deleted(
    work: &mut Work<'_>,
    user: &User,
    action: &str,
    deleted_ms: i64,
) -> Result<(), Fault> {
    let sql = "UPDATE users SET deleted_ms = $1, updated_ms = $2, revision = revision + 1 \
               WHERE name = $3";
    let query = sqlx::query(sql).bind(deleted_ms).bind(work.now_ms);
    query
        .bind(user.name.clone())
        .execute(&mut *work.all)
        .await?;
    work.audit(action, ("user", &user.name), &user.team, json!({}))
        .await
}
