//! People and programs: a name, a password that they may have chosen, a role.

use martlet_access::hash::{Kind, PasswordHash};
use martlet_access::scram::Verifier;
use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::page::Listed;
use crate::rule_sets::{check_new_name, expect_own_topics, is_builtin, unknown};
use crate::sql::{Fault, Sql, clean};
use crate::teams::{Home, expect_unqualified, forget_owner, home, team_seen};
use crate::{
    Actor, NO_ROLE, Owner, Page, PageRequest, Registry, RegistryError, Scope, USER_ROLE,
    check_text, expect_revision,
};

/// Role of a user in the API and the panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiRole {
    /// Everything.
    Administrator,
    /// To change devices, and what belongs to them.
    Operator,
    /// To look.
    Viewer,
    /// Nothing.
    None,
}

impl ApiRole {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Administrator,
        Self::Operator,
        Self::Viewer,
        Self::None,
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::None => "none",
        }
    }

    /// From how it is written.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// A user, as lists show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// What it may do as a client.
    pub role: String,
    /// What it may do with the API and the panel, of all teams.
    pub api_role: ApiRole,
    /// It is let in.
    pub enabled: bool,
    /// May be empty.
    pub email: String,
    /// May be empty.
    pub full_name: String,
    /// The id of the team in whose tenant it is when it connects; empty: the common one.
    pub team: String,
    /// That tenant.
    pub tenant: u32,
    /// Raised with every change.
    pub revision: i64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it was last changed.
    pub updated_ms: i64,
    /// When it was deleted; 0: it is there.
    pub deleted_ms: i64,
}

/// A user to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// User name.
    pub name: String,
    /// Its role as a client; none: everything that the topics of the caller permit, so
    /// [`USER_ROLE`], or [`NO_ROLE`] where that would be the topics of others.
    pub role: Option<String>,
    /// What it may do with the API and the panel.
    pub api_role: ApiRole,
    /// May be empty.
    pub email: String,
    /// May be empty.
    pub full_name: String,
    /// The team in whose tenant it is, by id or name; empty: the common one.
    pub team: String,
}

impl NewUser {
    /// One of this name, of whom nothing else is known.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            role: None,
            api_role: ApiRole::None,
            email: String::new(),
            full_name: String::new(),
            team: String::new(),
        }
    }
}

/// What is to be different about a user; none: it stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// What it may do as a client.
    pub role: Option<String>,
    /// What it may do with the API and the panel.
    pub api_role: Option<ApiRole>,
    /// It is let in.
    pub enabled: Option<bool>,
    /// May be empty.
    pub email: Option<String>,
    /// May be empty.
    pub full_name: Option<String>,
    /// The team in whose tenant it is, by id or name.
    pub team: Option<String>,
}

/// A user, as the gate knows them.
pub(crate) struct UserRow {
    pub(crate) user: User,
    pub(crate) password_hash: String,
    pub(crate) password_set_ms: i64,
    /// Empty is none.
    pub(crate) scram_verifier: String,
}

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
        let made = self.create_user(&Actor::local(), user, password).await;
        made.map(drop)
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
            let why = "the password is not hashed";
            return Err(RegistryError::Refused(why.to_owned()));
        }
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, user, hash, String::new()).await;
        work.end(done).await
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn set_password(&mut self, name: &str, password: &str) -> Result<(), RegistryError> {
        self.change_password(&Actor::local(), name, password).await
    }

    /// As [`Registry::set_password`], for a caller.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn change_password(
        &mut self,
        actor: &Actor,
        name: &str,
        password: &str,
    ) -> Result<(), RegistryError> {
        let (hash, verifier) = (new_hash(password)?, self.new_verifier(password)?);
        self.set_secrets(actor, name, &hash, verifier).await
    }

    /// Has a hash of the same password take the place of a weaker one. Who is connected stays.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn renew_hash(
        &mut self,
        name: &str,
        weaker: &PasswordHash,
        password: &[u8],
    ) -> Result<(), RegistryError> {
        let hash = PasswordHash::new(password, Kind::Argon2id);
        let hash = hash.map_err(|why| RegistryError::Refused(why.to_owned()))?;
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "UPDATE users SET password_hash = $1 WHERE name = $2 AND password_hash = $3";
            let query = sqlx::query(sql).bind(hash.text()).bind(name.to_owned());
            let done = query.bind(weaker.text()).execute(&mut *work.all).await?;
            match done.rows_affected() {
                0 => Ok(()),
                _ => {
                    work.audit("user.rehash", ("user", name), "", json!({}))
                        .await
                }
            }
        };
        let done = done.await;
        work.end(done).await
    }

    /// Gives a user a hash that was made elsewhere.
    ///
    /// # Errors
    /// There is no such user.
    pub async fn import_hash(
        &mut self,
        name: &str,
        hash: &PasswordHash,
    ) -> Result<(), RegistryError> {
        self.set_secrets(&Actor::local(), name, hash, String::new())
            .await
    }

    async fn set_secrets(
        &mut self,
        actor: &Actor,
        name: &str,
        hash: &PasswordHash,
        verifier: String,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let user = find_own(&mut work.all, &actor.scope, name, false).await?;
            let sql = "UPDATE users SET password_hash = $1, password_set_ms = $2, \
                       scram_verifier = $3, revision = revision + 1, updated_ms = $2 \
                       WHERE name = $4";
            let query = sqlx::query(sql).bind(hash.text()).bind(work.now_ms);
            let query = query.bind(verifier).bind(name.to_owned());
            query.execute(&mut *work.all).await?;
            work.audit("user.password", ("user", name), &user.team, json!({}))
                .await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Whether this is the user's password, for the panel: it is the same as for MQTT. Takes as
    /// long as the hash does; none: it is not, or the user is not let in.
    ///
    /// # Errors
    /// The database cannot be read, or the hash means nothing.
    pub async fn log_in(
        &mut self,
        name: &str,
        password: &str,
    ) -> Result<Option<User>, RegistryError> {
        let place = self.place().to_owned();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = user_row(on, name).await;
        let found = reading.end(found).await?;
        let Some(row) = found else {
            // As long as a wrong password takes.
            drop(new_hash("nobody"));
            return Ok(None);
        };
        let hash = PasswordHash::parse(&row.password_hash);
        let hash = hash.map_err(|expected| RegistryError::Damaged {
            place,
            what: format!("user {name}: expected {expected}"),
        })?;
        let is_in = hash.is_of(password.as_bytes()) && row.user.enabled;
        Ok(is_in.then_some(row.user))
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
        let changed = self.change_user(&Actor::local(), name, change, None).await;
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
        expected_revision: Option<i64>,
    ) -> Result<User, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change_one(&mut work, name, change, expected_revision).await;
        work.end(done).await
    }

    /// Deletes a user: it is gone for everybody, and can be restored.
    ///
    /// # Errors
    /// There is no such user, or it has another revision than expected.
    pub async fn delete_user(
        &mut self,
        actor: &Actor,
        name: &str,
        expected_revision: Option<i64>,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let user = find_own(&mut work.all, &actor.scope, name, false).await?;
            expect_revision(name, expected_revision, user.revision)?;
            let now_ms = work.now_ms;
            set_deleted(&mut work, &user, "user.delete", now_ms).await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Brings a deleted user back, as it was.
    ///
    /// # Errors
    /// There is no such deleted user, or the user's team is gone.
    pub async fn restore_user(&mut self, actor: &Actor, name: &str) -> Result<User, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let mut user = find_own(&mut work.all, &actor.scope, name, true).await?;
            team_seen(&mut work.all, &Scope::All, &user.team).await?;
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
            let user = match find_own(&mut work.all, &actor.scope, name, false).await {
                Err(Fault::Told(RegistryError::NotFound(_))) => {
                    find_own(&mut work.all, &actor.scope, name, true).await?
                }
                found => found?,
            };
            forget_owner(&mut work, name).await?;
            let gone = sqlx::query("DELETE FROM users WHERE name = $1").bind(name.to_owned());
            gone.execute(&mut *work.all).await?;
            work.audit("user.remove", ("user", name), &user.team, json!({}))
                .await
        };
        let done = done.await;
        work.end(done).await
    }

    /// All users, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn users(&mut self) -> Result<Vec<User>, RegistryError> {
        self.list_users(&Scope::All, false).await
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

    /// Whether a user is there, and not disabled, who may do everything.
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
        scope: &Scope,
        deleted: bool,
    ) -> Result<Vec<User>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT * FROM users WHERE ");
            conditions(&mut sql, scope, deleted);
            sql.push(" ORDER BY name");
            let rows = sql.all(on).await?;
            rows.iter().map(read_user).collect()
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
        scope: &Scope,
        deleted: bool,
        page: &PageRequest,
    ) -> Result<Page<User>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let from = |sql: &mut Sql| {
            sql.push(" FROM users WHERE ");
            conditions(sql, scope, deleted);
        };
        let listed = Listed {
            columns: "*",
            key: "name",
            read: read_user,
            name: |user: &User| &user.name,
        };
        let read = listed.page(on, engine, from, page).await;
        reading.end(read).await
    }

    /// A user.
    ///
    /// # Errors
    /// There is none.
    pub async fn user(&mut self, scope: &Scope, name: &str) -> Result<User, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find(on, scope, name, false).await;
        reading.end(found).await
    }

    /// A user who was deleted.
    ///
    /// # Errors
    /// There is none.
    pub async fn deleted_user(&mut self, scope: &Scope, name: &str) -> Result<User, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find(on, scope, name, true).await;
        reading.end(found).await
    }

    /// Of a password that is being set; empty where none is kept.
    fn new_verifier(&self, password: &str) -> Result<String, RegistryError> {
        if !self.with_scram {
            return Ok(String::new());
        }
        let verifier = Verifier::new(password.as_bytes());
        let verifier = verifier.map_err(|why| RegistryError::Refused(why.to_owned()))?;
        Ok(verifier.text())
    }
}

/// Which users these see: those that are there, or those that are deleted.
fn conditions(sql: &mut Sql, scope: &Scope, deleted: bool) {
    sql.push(match deleted {
        true => "deleted_ms > 0",
        false => "deleted_ms = 0",
    });
    if let Some(team) = scope.team() {
        sql.push(" AND name IN (SELECT user_name FROM team_members WHERE team = ");
        sql.bind(team.to_owned()).push(")");
    }
}

fn read_user(row: &AnyRow) -> Result<User, Fault> {
    let tenant: i64 = row.try_get("tenant")?;
    let api_role: String = row.try_get("api_role")?;
    Ok(User {
        name: row.try_get("name")?,
        role: row.try_get("role")?,
        api_role: ApiRole::from_word(&api_role).unwrap_or(ApiRole::None),
        enabled: row.try_get::<i64, _>("enabled")? != 0,
        email: row.try_get("email")?,
        full_name: row.try_get("full_name")?,
        team: row.try_get("team")?,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        revision: row.try_get("revision")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
        deleted_ms: row.try_get("deleted_ms")?,
    })
}

fn read_row(row: &AnyRow) -> Result<UserRow, Fault> {
    Ok(UserRow {
        user: read_user(row)?,
        password_hash: row.try_get("password_hash")?,
        password_set_ms: row.try_get("password_set_ms")?,
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

/// A user whom these see: theirs is the team that it is in.
async fn find(
    on: &mut AnyConnection,
    scope: &Scope,
    name: &str,
    deleted: bool,
) -> Result<User, Fault> {
    let mut sql = Sql::short("SELECT * FROM users WHERE name = ");
    sql.bind(clean(name)).push(" AND ");
    conditions(&mut sql, scope, deleted);
    let row = sql.first(on).await?;
    read_user(&row.ok_or_else(|| not_found(name))?)
}

/// A user whom the caller may change: a caller that sees one team only may change users who belong
/// to it, but no user who has a role in other teams.
async fn find_own(
    on: &mut AnyConnection,
    scope: &Scope,
    name: &str,
    deleted: bool,
) -> Result<User, Fault> {
    let user = find(on, scope, name, deleted).await?;
    let Some(team) = scope.team() else {
        return Ok(user);
    };
    let is_own = user.team == team && user.api_role == ApiRole::None;
    match is_own && !has_a_say_elsewhere(on, name, team).await? {
        true => Ok(user),
        false => Err(RegistryError::Refused(format!(
            "{name} is in the team, and changed only by callers that see all teams"
        ))
        .into()),
    }
}

/// Whether a user has a role in another team than this one.
pub(crate) async fn has_a_say_elsewhere(
    on: &mut AnyConnection,
    user: &str,
    team: &str,
) -> Result<bool, Fault> {
    let sql = "SELECT user_name FROM team_members WHERE user_name = $1 AND team <> $2 LIMIT 1";
    let query = sqlx::query_scalar::<_, String>(sql).bind(user.to_owned());
    let found = query.bind(team.to_owned()).fetch_optional(on).await?;
    Ok(found.is_some())
}

/// Who sees one team only gives nobody more than that: no role of all teams, and without a tenant
/// no topics of others.
async fn check_roles(work: &mut Work<'_>, user: &User) -> Result<(), Fault> {
    let Some(team) = work.actor.scope.team() else {
        return Ok(());
    };
    if user.team != team || user.api_role != ApiRole::None {
        let why = "users of a team belong to it, and have no role in others";
        return Err(RegistryError::Refused(why.to_owned()).into());
    }
    match user.tenant {
        0 => expect_own_topics(work, Owner::Role, &user.role).await,
        _ => Ok(()),
    }
}

fn not_found(name: &str) -> RegistryError {
    RegistryError::NotFound(format!(
        "there is no user {name} in the tables: GET /api/v1/users (martlet user ls) lists \
         them"
    ))
}

/// Whether this is a user whom the caller sees.
pub(crate) async fn is_user(
    on: &mut AnyConnection,
    scope: &Scope,
    name: &str,
) -> Result<bool, Fault> {
    match find(on, scope, name, false).await {
        Ok(_) => Ok(true),
        Err(Fault::Told(RegistryError::NotFound(_))) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// As [`is_user`], where there must be one.
pub(crate) async fn expect_user(
    on: &mut AnyConnection,
    scope: &Scope,
    name: &str,
) -> Result<(), Fault> {
    find(on, scope, name, false).await.map(drop)
}

async fn expect_role(work: &mut Work<'_>, role: &str) -> Result<(), Fault> {
    match is_builtin(&mut work.all, Owner::Role, role).await? {
        Some(_) => Ok(()),
        None => Err(RegistryError::Refused(unknown(Owner::Role, role)).into()),
    }
}

/// No device of this tenant has this name.
async fn expect_no_device(work: &mut Work<'_>, name: &str, tenant: i64) -> Result<(), Fault> {
    let sql = "SELECT id FROM devices WHERE id = $1 AND tenant = $2";
    let device = sqlx::query(sql).bind(name.to_owned()).bind(tenant);
    match device.fetch_optional(&mut *work.all).await? {
        None => Ok(()),
        Some(_) => Err(RegistryError::Exists(format!(
            "the name is taken: it is the user name of the device {name}"
        ))
        .into()),
    }
}

async fn insert(
    work: &mut Work<'_>,
    new: NewUser,
    hash: &PasswordHash,
    verifier: String,
) -> Result<User, Fault> {
    check_text("e-mail address", &new.email)?;
    check_text("full name", &new.full_name)?;
    let scope = work.actor.scope.clone();
    let own_team = scope.team();
    let own = own_team.filter(|_| new.team.is_empty());
    let team = own.map_or(new.team, str::to_owned);
    let Home { team, tenant } = home(&mut work.all, &scope, &team).await?;
    let role = new.role.unwrap_or_else(|| {
        let is_among_others = own_team.is_some() && tenant == 0;
        if is_among_others { NO_ROLE } else { USER_ROLE }.to_owned()
    });
    expect_role(work, &role).await?;
    expect_no_device(work, &new.name, tenant).await?;
    expect_unqualified(&mut work.all, tenant, &new.name).await?;
    let user = User {
        name: new.name,
        role,
        api_role: new.api_role,
        enabled: true,
        email: new.email,
        full_name: new.full_name,
        team,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        revision: 1,
        created_ms: work.now_ms,
        updated_ms: work.now_ms,
        deleted_ms: 0,
    };
    check_roles(work, &user).await?;
    let mut sql = work.sql(
        "INSERT INTO users (enabled, revision, deleted_ms, name, role, api_role, email, \
         full_name, team, password_hash, scram_verifier, tenant, password_set_ms, created_ms, \
         updated_ms) VALUES (1, 1, 0",
    );
    for text in [
        &*user.name,
        &user.role,
        user.api_role.word(),
        &user.email,
        &user.full_name,
        &user.team,
        &hash.text(),
        &verifier,
    ] {
        sql.push(", ").bind(text.to_owned());
    }
    for number in [tenant, work.now_ms, work.now_ms, work.now_ms] {
        sql.push(", ").bind(number);
    }
    sql.push(") ON CONFLICT DO NOTHING");
    let name = &user.name;
    if sql.execute(&mut work.all).await? == 0 {
        let why = match is_user(&mut work.all, &Scope::All, name).await? {
            true => format!(
                "{name} is there already: PUT /api/v1/users/{name}/password (martlet user passwd \
                 {name}) sets another password"
            ),
            false => format!(
                "{name} was deleted: POST /api/v1/users/{name}/restore (martlet user restore {name}) \
                 brings it back; martlet user rm --purge {name} removes it for good"
            ),
        };
        return Err(RegistryError::Exists(why).into());
    }
    work.set_in_use().await?;
    let changed = json!({ "role": user.role, "api_role": user.api_role.word() });
    work.audit("user.add", ("user", name), &user.team, changed)
        .await?;
    claim(work, &user).await?;
    if let Some(team) = scope.team() {
        let sql = "INSERT INTO team_members (team, user_name, role, created_ms) \
                   VALUES ($1, $2, $3, $4)";
        let query = sqlx::query(sql).bind(team.to_owned()).bind(name.clone());
        let query = query.bind(ApiRole::None.word()).bind(work.now_ms);
        query.execute(&mut *work.all).await?;
    }
    Ok(user)
}

async fn change_one(
    work: &mut Work<'_>,
    name: &str,
    change: UserChange,
    expected_revision: Option<i64>,
) -> Result<User, Fault> {
    let scope = work.actor.scope.clone();
    let old = find_own(&mut work.all, &scope, name, false).await?;
    expect_revision(name, expected_revision, old.revision)?;
    let mut new = old.clone();
    if let Some(role) = change.role {
        expect_role(work, &role).await?;
        new.role = role;
    }
    new.api_role = change.api_role.unwrap_or(old.api_role);
    new.enabled = change.enabled.unwrap_or(old.enabled);
    if let Some(email) = change.email {
        check_text("e-mail address", &email)?;
        new.email = email;
    }
    if let Some(full_name) = change.full_name {
        check_text("full name", &full_name)?;
        new.full_name = full_name;
    }
    if let Some(team) = change.team.filter(|team| *team != old.team) {
        let Home { team, tenant } = home(&mut work.all, &scope, &team).await?;
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
    let mut sql = work.sql("UPDATE users SET role = ");
    sql.bind(new.role.clone());
    sql.push(", api_role = ").bind(new.api_role.word());
    sql.push(", enabled = ").bind(i64::from(new.enabled));
    sql.push(", email = ").bind(new.email.clone());
    sql.push(", full_name = ").bind(new.full_name.clone());
    sql.push(", team = ").bind(new.team.clone());
    sql.push(", tenant = ").bind(i64::from(new.tenant));
    sql.push(", revision = ").bind(new.revision);
    sql.push(", updated_ms = ").bind(new.updated_ms);
    sql.push(" WHERE name = ").bind(name.to_owned());
    sql.execute(&mut work.all).await?;
    let mut changed = Map::new();
    let word = |enabled: bool| if enabled { "yes" } else { "no" };
    for (field, before, after) in [
        ("role", &*old.role, &*new.role),
        ("api_role", old.api_role.word(), new.api_role.word()),
        ("enabled", word(old.enabled), word(new.enabled)),
        ("email", &old.email, &new.email),
        ("full_name", &old.full_name, &new.full_name),
        ("team", &old.team, &new.team),
    ] {
        if before != after {
            changed.insert(field.to_owned(), json!([before, after]));
        }
    }
    let changed = Value::Object(changed);
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

/// Passwords of people are few and their hash is slow, whoever chose them.
fn new_hash(password: &str) -> Result<PasswordHash, RegistryError> {
    let refused = |why: &str| RegistryError::Refused(why.to_owned());
    if password.is_empty() {
        return Err(refused("the password is empty"));
    }
    PasswordHash::new(password.as_bytes(), Kind::Argon2id).map_err(refused)
}
