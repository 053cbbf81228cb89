//! Reading users.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::user::User;
use crate::object::{Object as _, read_all, read_first, select, select_short};
use crate::page::Listed;
use crate::sql::{Fault, Sql, clean};
use crate::{
    ApiRole, NotFound, ObjectKind, Page, PageRequest, Refused, Registry, RegistryError, Visibility,
};

/// A user, as the gate knows them.
pub(crate) struct UserRow {
    pub(crate) user: User,
    pub(crate) password_hash: String,
    /// Empty is none.
    pub(crate) scram_verifier: String,
}

impl Registry {
    /// All users, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn users(&mut self) -> Result<Vec<User>, RegistryError> {
        self.list_users(&Visibility::All, false).await
    }

    /// Whether the node has an administrator, or had one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn is_claimed(&mut self) -> Result<bool, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let sql = "SELECT last FROM counters WHERE name = 'claimed'";
        let read = sqlx::query_scalar::<_, i64>(sql).fetch_one(on).await;
        let at_ms = reading.end(read).await?;
        Ok(at_ms > 0)
    }

    /// Whether there is a user with all rights that is not disabled.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn has_administrator(&mut self) -> Result<bool, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let sql = "SELECT COUNT(*) FROM users WHERE api_role = $1 AND enabled <> 0 \
                   AND deleted_ms = 0";
        let read = sqlx::query_scalar::<_, i64>(sql).bind(ApiRole::Administrator.word());
        let count = read.fetch_one(on).await;
        let count = reading.end(count).await?;
        Ok(count > 0)
    }

    /// Users by name: those that are there, or those that are deleted.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn list_users(
        &mut self,
        visibility: &Visibility,
        deleted: bool,
    ) -> Result<Vec<User>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = select::<User>(engine);
            sql.push(" WHERE ");
            conditions(&mut sql, visibility, deleted);
            sql.push(" ORDER BY name");
            read_all(sql, on).await
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A page of the same.
    ///
    /// # Errors
    /// The database cannot be read, or the cursor is none.
    pub async fn users_page(
        &mut self,
        visibility: &Visibility,
        deleted: bool,
        page: &PageRequest,
    ) -> Result<Page<User>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let from = |sql: &mut Sql| {
            sql.push(" FROM users WHERE ");
            conditions(sql, visibility, deleted);
        };
        let listed = Listed {
            key: "name",
            name: |user: &User| &user.name,
        };
        let read = listed.page(on, engine, from, page).await;
        reading.end(read).await
    }

    /// A user.
    ///
    /// # Errors
    /// There is none.
    pub async fn user(
        &mut self,
        visibility: &Visibility,
        name: &str,
    ) -> Result<User, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find(on, visibility, name, false).await;
        reading.end(found).await
    }

    /// A user that was deleted.
    ///
    /// # Errors
    /// There is none.
    pub async fn deleted_user(
        &mut self,
        visibility: &Visibility,
        name: &str,
    ) -> Result<User, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find(on, visibility, name, true).await;
        reading.end(found).await
    }
}

/// Which users these see: those that are there, or those that are deleted.
fn conditions(sql: &mut Sql, visibility: &Visibility, deleted: bool) {
    sql.push(match deleted {
        true => "deleted_ms > 0",
        false => "deleted_ms = 0",
    });
    if let Some(team) = visibility.team() {
        sql.push(" AND name IN (SELECT user_name FROM team_members WHERE team = ");
        sql.bind(team.to_owned()).push(")");
    }
}

fn read_row(row: &AnyRow) -> Result<UserRow, Fault> {
    Ok(UserRow {
        user: User::read(row)?,
        password_hash: row.try_get("password_hash")?,
        scram_verifier: row.try_get("scram_verifier")?,
    })
}

/// All users as the gate knows them.
pub(crate) async fn user_rows(on: &mut AnyConnection) -> Result<Vec<UserRow>, Fault> {
    let sql = "SELECT * FROM users WHERE deleted_ms = 0 ORDER BY name";
    let rows = sqlx::query(sql).fetch_all(on).await?;
    rows.iter().map(read_row).collect()
}

/// One of them.
pub(crate) async fn user_row(on: &mut AnyConnection, name: &str) -> Result<Option<UserRow>, Fault> {
    let sql = "SELECT * FROM users WHERE name = $1 AND deleted_ms = 0";
    let found = sqlx::query(sql).bind(clean(name));
    let found = found.fetch_optional(on).await?;
    found.as_ref().map(read_row).transpose()
}

/// A user that this caller sees, by its team.
pub(super) async fn find(
    on: &mut AnyConnection,
    visibility: &Visibility,
    name: &str,
    deleted: bool,
) -> Result<User, Fault> {
    let mut sql = select_short::<User>();
    sql.push(" WHERE name = ").bind(clean(name)).push(" AND ");
    conditions(&mut sql, visibility, deleted);
    if let Some(user) = read_first(sql, on).await? {
        return Ok(user);
    }
    let mut sql = Sql::short("SELECT name FROM users WHERE name = ");
    sql.bind(clean(name)).push(" AND ");
    conditions(&mut sql, visibility, !deleted);
    let is_other = sql.first(on).await?.is_some();
    Err(match (is_other, deleted) {
        (true, true) => NotFound::NotDeleted(ObjectKind::User, name.to_owned()),
        (true, false) => NotFound::Deleted(ObjectKind::User, name.into()),
        (false, _) => not_found(name),
    }
    .into())
}

/// A user that the caller may change. A caller that sees one team may change its users, but no user
/// with a role in other teams.
pub(super) async fn find_own(
    on: &mut AnyConnection,
    visibility: &Visibility,
    name: &str,
    deleted: bool,
) -> Result<User, Fault> {
    let user = find(on, visibility, name, deleted).await?;
    let Some(team) = visibility.team() else {
        return Ok(user);
    };
    let is_own = user.team == team && user.api_role == ApiRole::None;
    match is_own && !has_role_elsewhere(on, name, team).await? {
        true => Ok(user),
        false => Err(Refused::UserOfAll(name.to_owned()).into()),
    }
}

fn not_found(name: &str) -> NotFound {
    NotFound::Object(ObjectKind::User, name.to_owned())
}

/// Whether the caller sees this user.
pub(crate) async fn is_user(
    on: &mut AnyConnection,
    visibility: &Visibility,
    name: &str,
) -> Result<bool, Fault> {
    match find(on, visibility, name, false).await {
        Ok(_) => Ok(true),
        Err(Fault::Told(RegistryError::NotFound(_))) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// As [`is_user`], where there must be one.
pub(crate) async fn expect_user(
    on: &mut AnyConnection,
    visibility: &Visibility,
    name: &str,
) -> Result<(), Fault> {
    find(on, visibility, name, false).await.map(drop)
}

/// Whether a user has a role in another team than this one.
pub(crate) async fn has_role_elsewhere(
    on: &mut AnyConnection,
    user: &str,
    team: &str,
) -> Result<bool, Fault> {
    let sql = "SELECT user_name FROM team_members WHERE user_name = $1 AND team <> $2 LIMIT 1";
    let query = sqlx::query_scalar::<_, String>(sql).bind(user.to_owned());
    let found = query.bind(team.to_owned()).fetch_optional(on).await?;
    Ok(found.is_some())
}
