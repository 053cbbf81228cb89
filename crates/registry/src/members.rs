//! Members of teams: their rights on the objects of a team.

use serde_json::json;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::Work;
use crate::sql::{Fault, clean};
use crate::teams::find_named;
use crate::users::{expect_user, has_role_elsewhere};
use crate::{Actor, ApiRole, Refused, Registry, RegistryError, Team, Visibility};

/// A member of a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The team's id.
    pub team: String,
    /// The user.
    pub user: String,
    /// Role, which decides what they may do with the team's objects.
    pub role: ApiRole,
    /// Since when.
    pub created_ms: i64,
}

impl Registry {
    /// The members of a team, which is named by its id or name; in the order of their names.
    ///
    /// # Errors
    /// There is no such team.
    pub async fn members(
        &mut self,
        visibility: &Visibility,
        team: &str,
    ) -> Result<Vec<Member>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let team = find_named(&mut *on, visibility, team, false).await?.id;
            let sql = "SELECT team_members.* FROM team_members JOIN users ON name = user_name \
                       WHERE team_members.team = $1 AND deleted_ms = 0 ORDER BY user_name";
            let rows = sqlx::query(sql).bind(team).fetch_all(on).await?;
            rows.iter().map(read_member).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A team, there or deleted, by its id or name; with the roles that people have in it.
    ///
    /// # Errors
    /// There is none.
    pub async fn team_and_roles(
        &mut self,
        visibility: &Visibility,
        text: &str,
        deleted: bool,
    ) -> Result<(Team, Vec<ApiRole>), RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let team = find_named(&mut *on, visibility, text, deleted).await?;
            let sql = "SELECT * FROM team_members WHERE team = $1";
            let rows = sqlx::query(sql).bind(team.id.clone()).fetch_all(on).await?;
            let roles = rows.iter().map(|row| Ok(read_member(row)?.role));
            let roles: Result<_, Fault> = roles.collect();
            Ok((team, roles?))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// The teams of a user.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn teams_of(&mut self, user: &str) -> Result<Vec<Member>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT team_members.* FROM team_members JOIN teams ON id = team WHERE \
                       user_name = $1 AND deleted_ms = 0 ORDER BY name";
            let rows = sqlx::query(sql).bind(clean(user)).fetch_all(on);
            rows.await?.iter().map(read_member).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Adds a user to a team, in this role; none: removes the user.
    ///
    /// # Errors
    /// There is no such team or user.
    pub async fn set_member(
        &mut self,
        actor: &Actor,
        team: &str,
        user: &str,
        role: Option<ApiRole>,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set_one_member(&mut work, team, user, role).await;
        work.end(done).await
    }
}

fn read_member(row: &AnyRow) -> Result<Member, Fault> {
    let role: String = row.try_get("role")?;
    Ok(Member {
        team: row.try_get("team")?,
        user: row.try_get("user_name")?,
        role: ApiRole::from_word(&role).unwrap_or(ApiRole::None),
        created_ms: row.try_get("created_ms")?,
    })
}

async fn set_one_member(
    work: &mut Work<'_>,
    team: &str,
    user: &str,
    role: Option<ApiRole>,
) -> Result<(), Fault> {
    let team = find_named(&mut work.all, &work.actor.visibility, team, false).await?;
    let team = &*team.id;
    expect_user(&mut work.all, &Visibility::All, user).await?;
    if let (Some(own), Some(_)) = (work.actor.visibility.team().map(str::to_owned), role) {
        // The role in one team decides what a user sees: another team cannot take the user over.
        let sql = "SELECT name FROM users WHERE name = $1 AND team = $2 AND api_role = 'none'";
        let query = sqlx::query_scalar::<_, String>(sql).bind(user.to_owned());
        let at_home = query
            .bind(own.clone())
            .fetch_optional(&mut *work.all)
            .await?;
        if at_home.is_none() || has_role_elsewhere(&mut work.all, user, &own).await? {
            return Err(Refused::MemberOfAll(user.to_owned()).into());
        }
    }
    let deleted = sqlx::query("DELETE FROM team_members WHERE team = $1 AND user_name = $2");
    let deleted = deleted.bind(team.to_owned()).bind(user.to_owned());
    deleted.execute(&mut *work.all).await?;
    if let Some(role) = role {
        insert_member(work, team, user, role).await?;
    }
    let changed = json!({ "user": user, "role": role.map(ApiRole::word) });
    work.audit("team.member", ("team", team), team, changed)
        .await
}

/// Makes a user a member of the team of this id. It must not be one yet.
pub(crate) async fn insert_member(
    work: &mut Work<'_>,
    team: &str,
    user: &str,
    role: ApiRole,
) -> Result<(), Fault> {
    let sql = "INSERT INTO team_members (team, user_name, role, created_ms) \
               VALUES ($1, $2, $3, $4)";
    let query = sqlx::query(sql).bind(team.to_owned()).bind(user.to_owned());
    let query = query.bind(role.word()).bind(work.now_ms);
    query.execute(&mut *work.all).await?;
    Ok(())
}
