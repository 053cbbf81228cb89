//! Teams: they decide which objects a user sees. A team may own a tenant: then its topics and
//! Client Identifiers are its own.
//!
//! * `delete`: deleting, restoring and removing a team

mod delete;

pub use delete::PurgedTeam;
pub(crate) use delete::forget_owner;

use sqlx::AnyConnection;

use crate::database::Work;
use crate::names::check_new_name;
use crate::object::{
    details_of_change, details_of_new, object, read_all, read_first, select_short,
};
use crate::secret;
use crate::sql::{Fault, clean};
use crate::{
    Actor, Exists, Expected, NotFound, ObjectKind, Refused, Registry, RegistryError, Visibility,
    check_text,
};

object! {
    /// A team.
    Team in "teams";
    /// A team to be added.
    #[derive(Default)]
    new NewTeam {
        /// Whether it has a tenant of its own, permanently: its devices and topics are separate
        /// from all others.
        #[serde(default)]
        owns_tenant: bool;
    }
    kept {
        /// Id of the team.
        id ("id"): String, [];
        /// 0 is shared by all teams that own none; others are never used again.
        tenant ("tenant"): u32, [Audited];
        /// Raised with every change; the `ETag` is made of it.
        revision ("revision"): i64, [Changed];
    }
    times {
        /// When it was added.
        created_ms as "created_at", [];
        /// When it was last changed.
        updated_ms as "updated_at", [Changed];
        /// When it was deleted; null: it is not deleted.
        deleted_ms as "deleted_at", [];
    }
    /// Changes of a team; fields that are not named stay.
    change TeamChange set {
        /// Name of the team, unique among those that are there or can be restored.
        name ("name"): String, new String,
            check check_name, [Audited];
        /// Description, for people.
        description ("description"): String, new #[serde(default)] String,
            check check_description, [];
    }
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    check_new_name("team", name)
}

fn check_description(text: &str) -> Result<(), RegistryError> {
    check_text("description", text)
}

impl Registry {
    /// Adds a team.
    ///
    /// # Errors
    /// There is one of that name, or the caller sees one team only.
    pub async fn add_team(&mut self, actor: &Actor, team: NewTeam) -> Result<Team, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, team).await;
        work.end(done).await
    }

    /// Changes a team, which is named by its id or name, as in the calls below.
    ///
    /// # Errors
    /// There is none, or it has another revision than expected.
    pub async fn change_team(
        &mut self,
        actor: &Actor,
        id: &str,
        change: TeamChange,
        expected_revision: Expected,
    ) -> Result<Team, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change_one(&mut work, id, change, expected_revision).await;
        work.end(done).await
    }

    /// Teams by name: those that are there, or those that are deleted.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn teams(
        &mut self,
        visibility: &Visibility,
        deleted: bool,
    ) -> Result<Vec<Team>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = select_short::<Team>();
            sql.push(match deleted {
                false => " WHERE deleted_ms = 0 ORDER BY name",
                true => " WHERE deleted_ms > 0 ORDER BY name",
            });
            let mut teams: Vec<Team> = read_all(sql, on).await?;
            teams.retain(|team| visibility.sees(&team.id));
            Ok(teams)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A team.
    ///
    /// # Errors
    /// There is none.
    pub async fn team(&mut self, visibility: &Visibility, id: &str) -> Result<Team, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find(on, visibility, id, false).await;
        reading.end(found).await
    }

    /// A team by its id, or else by its name.
    ///
    /// # Errors
    /// There is none.
    pub async fn team_named(
        &mut self,
        visibility: &Visibility,
        text: &str,
    ) -> Result<Team, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find_named(on, visibility, text, false).await;
        reading.end(found).await
    }
}

pub(crate) async fn find(
    on: &mut AnyConnection,
    visibility: &Visibility,
    id: &str,
    deleted: bool,
) -> Result<Team, Fault> {
    let missing = || NotFound::Object(ObjectKind::Team, id.to_owned());
    if !visibility.sees(id) || id.contains('\0') {
        return Err(missing().into());
    }
    let mut sql = select_short::<Team>();
    sql.push(" WHERE id = ").bind(id.to_owned());
    let team: Team = read_first(sql, on).await?.ok_or_else(missing)?;
    match (team.deleted_ms > 0) == deleted {
        true => Ok(team),
        false => Err(missing().into()),
    }
}

/// A team that these see, by its id, or else by its name; one that is there, or one that is
/// deleted.
pub(crate) async fn named(
    on: &mut AnyConnection,
    visibility: &Visibility,
    text: &str,
    deleted: bool,
) -> Result<Option<Team>, Fault> {
    let mut sql = select_short::<Team>();
    sql.push(" WHERE id = ").bind(clean(text));
    sql.push(" OR name = ").bind(clean(text));
    let mut teams: Vec<Team> = read_all(sql, on).await?;
    teams.retain(|team| visibility.sees(&team.id) && (team.deleted_ms > 0) == deleted);
    Ok(teams.into_iter().min_by_key(|team| team.id != text))
}

/// As [`named`], where there must be one.
pub(crate) async fn find_named(
    on: &mut AnyConnection,
    visibility: &Visibility,
    text: &str,
    deleted: bool,
) -> Result<Team, Fault> {
    if let Some(team) = named(on, visibility, text, deleted).await? {
        return Ok(team);
    }
    let is_other = named(on, visibility, text, !deleted).await?.is_some();
    Err(match (is_other, deleted) {
        (true, true) => NotFound::NotDeleted(ObjectKind::Team, text.to_owned()),
        (true, false) => NotFound::Deleted(ObjectKind::Team, text.into()),
        (false, _) => NotFound::Object(ObjectKind::Team, text.to_owned()),
    }
    .into())
}

/// The receiver of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    /// The team's id; empty is none.
    pub(crate) team: String,
    /// The tenant that what is the team's is in.
    pub(crate) tenant: i64,
}

/// Which of these teams, which all have an object of this kind and name, is meant: that of no team,
/// or the only one that these see.
///
/// # Errors
/// They see none, or several.
pub(crate) fn team_seen_of_several(
    visibility: &Visibility,
    mut teams: Vec<String>,
    kind: &str,
    name: &str,
) -> Result<String, NotFound> {
    teams.retain(|team| visibility.sees(team));
    if teams.len() > 1 && teams.iter().all(|team| !team.is_empty()) {
        return Err(NotFound::OfSeveralTeams(kind.to_owned(), name.to_owned()));
    }
    let missing = || NotFound::Added(kind.to_owned(), name.to_owned());
    // The empty one is the first.
    teams.into_iter().min().ok_or_else(missing)
}

/// The team that is meant by an id or a name, or none by nothing.
pub(crate) async fn home(
    on: &mut AnyConnection,
    visibility: &Visibility,
    text: &str,
) -> Result<Home, Fault> {
    let (team, tenant) = match (text, visibility.team()) {
        ("", None) => (String::new(), 0),
        _ => {
            let found = find_named(on, visibility, text, false).await?;
            (found.id, i64::from(found.tenant))
        }
    };
    Ok(Home { team, tenant })
}

/// Finds the team likewise; none: these do not see such a team.
pub(crate) async fn home_if_any(
    on: &mut AnyConnection,
    visibility: &Visibility,
    text: &str,
) -> Result<Option<Home>, Fault> {
    match home(on, visibility, text).await {
        Ok(home) => Ok(Some(home)),
        Err(Fault::Told(RegistryError::NotFound(_))) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The name of a team that is there.
pub(crate) async fn name_of(on: &mut AnyConnection, team: &str) -> Result<String, Fault> {
    let query = sqlx::query_scalar("SELECT name FROM teams WHERE id = $1").bind(team.to_owned());
    Ok(query.fetch_one(on).await?)
}

/// The tenant of a team that is there, by its id; that of none is the common one.
pub(crate) async fn team_seen(
    on: &mut AnyConnection,
    visibility: &Visibility,
    team: &str,
) -> Result<i64, Fault> {
    match (team, visibility.team()) {
        ("", None) => Ok(0),
        _ => Ok(i64::from(find(on, visibility, team, false).await?.tenant)),
    }
}

/// The largest number of a tenant: realms have a bit of their own beside it.
const TENANT_MAX: i64 = (1 << 31) - 1;

fn expect_all(actor: &Actor) -> Result<(), RegistryError> {
    match actor.visibility {
        Visibility::All => Ok(()),
        Visibility::Team(_) => Err(Refused::TeamsOfAll.into()),
    }
}

async fn insert(work: &mut Work<'_>, new: NewTeam) -> Result<Team, Fault> {
    expect_all(&work.actor)?;
    let owns_tenant = new.owns_tenant;
    let mut team = Team {
        id: secret::new_id()?,
        revision: 1,
        created_ms: work.now_ms,
        updated_ms: work.now_ms,
        ..Team::begun(new)
    };
    team.check_values()?;
    expect_free(work, &team.name, "").await?;
    if owns_tenant {
        expect_no_names_of(work, &team.name).await?;
        team.tenant = u32::try_from(free_tenant(work).await?).unwrap_or(u32::MAX);
    }
    work.insert(&team, &[]).await?;
    let details = details_of_new(&team).into();
    work.audit("team.add", ("team", &team.id), &team.id, details)
        .await?;
    Ok(team)
}

/// An unused number. It is random, so that after restoring a backup it is not the number of a later
/// team, whose messages the store may still have.
async fn free_tenant(work: &mut Work<'_>) -> Result<i64, Fault> {
    loop {
        let number = secret::random_number()? & TENANT_MAX;
        let sql = "SELECT id FROM teams WHERE tenant = $1";
        let query = sqlx::query_scalar::<_, String>(sql).bind(number);
        if number > 0 && query.fetch_optional(&mut *work.all).await?.is_none() {
            return Ok(number);
        }
    }
}

/// A team that is about to own a tenant: from then on `NAME@TEAM` is a name in it, which must not
/// exist in the common one.
async fn expect_no_names_of(work: &mut Work<'_>, team: &str) -> Result<(), Fault> {
    if team.contains('@') {
        return Err(Refused::TeamNameWithAt.into());
    }
    let end = i64::try_from(team.chars().count() + 1).unwrap_or(i64::MAX);
    let sql = "SELECT id FROM devices WHERE tenant = 0 AND \
               substr(id, length(id) - CAST($1 AS INTEGER) + 1) = $2 UNION ALL \
               SELECT name FROM users WHERE tenant = 0 AND \
               substr(name, length(name) - CAST($1 AS INTEGER) + 1) = $2 LIMIT 1";
    let query = sqlx::query_scalar::<_, String>(sql);
    let query = query.bind(end).bind(format!("@{team}"));
    match query.fetch_optional(&mut *work.all).await? {
        None => Ok(()),
        Some(taken) => Err(Exists::NameInTenant(taken, team.to_owned()).into()),
    }
}

/// Checks that no name in the common tenant stands for a user or device in the tenant of a team.
pub(crate) async fn expect_unqualified(
    on: &mut AnyConnection,
    tenant: i64,
    name: &str,
) -> Result<(), Fault> {
    let Some((bare, team)) = name.rsplit_once('@').filter(|_| tenant == 0) else {
        return Ok(());
    };
    let sql = "SELECT id FROM teams WHERE name = $1 AND tenant > 0";
    let query = sqlx::query_scalar::<_, String>(sql).bind(team.to_owned());
    match query.fetch_optional(on).await? {
        None => Ok(()),
        Some(_) => {
            let [name, bare, team] = [name, bare, team].map(str::to_owned);
            Err(Refused::NameInTenant(name, bare, team).into())
        }
    }
}

async fn expect_free(work: &mut Work<'_>, name: &str, own_id: &str) -> Result<(), Fault> {
    let sql = "SELECT deleted_ms FROM teams WHERE name = $1 AND id <> $2";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(name.to_owned());
    let found = query.bind(own_id.to_owned()).fetch_optional(&mut *work.all);
    let why = match found.await? {
        None => return Ok(()),
        Some(0) => Exists::Named(ObjectKind::Team, name.to_owned()),
        Some(_) => Exists::DeletedTeam(name.to_owned()),
    };
    Err(why.into())
}

async fn change_one(
    work: &mut Work<'_>,
    id: &str,
    change: TeamChange,
    expected_revision: Expected,
) -> Result<Team, Fault> {
    let old = find_named(&mut work.all, &work.actor.visibility, id, false).await?;
    expected_revision.check("the team", old.revision)?;
    let mut team = old.clone();
    team.set_values(change)?;
    if team.name != old.name {
        if team.tenant > 0 {
            return Err(Refused::NameOfTenant(old.name).into());
        }
        expect_free(work, &team.name, &team.id).await?;
    }
    team.revision += 1;
    team.updated_ms = work.now_ms;
    work.update(&team, "id", &team.id).await?;
    let changed = details_of_change(&old, &team).into();
    work.audit("team.change", ("team", &team.id), &team.id, changed)
        .await?;
    Ok(team)
}
