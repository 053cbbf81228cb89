//! Finding groups, by id or name.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::sql::{Fault, Sql, clean};
use crate::teams::name_of;
use crate::{NotFound, ObjectKind, ObjectName, Refused, Visibility};

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Id of the group.
    pub id: String,
    /// Unique in its team.
    pub name: String,
    /// For people.
    pub description: String,
    /// For people: `#2f6fed`.
    pub colour: String,
    /// The id of its team; empty is none, and any device may be in it.
    pub team: String,
    /// Devices that are in it.
    pub devices: u64,
    /// Raised with every change.
    pub revision: i64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it was last changed.
    pub updated_ms: i64,
}

pub(super) const SELECT: &str = "SELECT id, name, description, colour, team, revision, created_ms, \
                      updated_ms, (SELECT COUNT(*) FROM group_devices JOIN devices ON \
                      number = device WHERE group_id = device_groups.id AND deleted_ms = 0) \
                      AS devices FROM device_groups";

pub(super) fn read_group(row: &AnyRow) -> Result<Group, Fault> {
    let devices: i64 = row.try_get("devices")?;
    Ok(Group {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        colour: row.try_get("colour")?,
        team: row.try_get("team")?,
        devices: u64::try_from(devices).unwrap_or(0),
        revision: row.try_get("revision")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}

/// A group that these see, by its id, or else by its name, where that is one group's alone.
pub(crate) async fn find_group(
    on: &mut AnyConnection,
    visibility: &Visibility,
    text: &str,
) -> Result<Group, Fault> {
    one_of(candidates(on, visibility, text).await?, text)
}

/// Groups of this id or name that these see; the one of the id first.
pub(crate) async fn candidates(
    on: &mut AnyConnection,
    visibility: &Visibility,
    text: &str,
) -> Result<Vec<Group>, Fault> {
    let mut sql = Sql::short(SELECT);
    sql.push(" WHERE id = ").bind(clean(text));
    sql.push(" OR name = ").bind(clean(text));
    let rows = sql.all(on).await?;
    let groups: Result<Vec<_>, _> = rows.iter().map(read_group).collect();
    let mut groups = groups?;
    groups.retain(|group| visibility.sees(&group.team));
    groups.sort_by_key(|group| group.id != text);
    Ok(groups)
}

pub(super) fn one_of(groups: Vec<Group>, text: &str) -> Result<Group, Fault> {
    let is_one = groups.len() == 1 || groups.first().is_some_and(|group| group.id == text);
    match groups.into_iter().next() {
        Some(group) if is_one => Ok(group),
        Some(_) => Err(NotFound::SeveralGroups(text.to_owned()).into()),
        None => Err(NotFound::Object(ObjectKind::Group, text.to_owned()).into()),
    }
}

/// The id of a group that devices of a team may be in, by its id or name, and its team; of two of
/// one name the team's own.
pub(crate) async fn for_team(
    on: &mut AnyConnection,
    team: &str,
    text: &str,
) -> Result<Option<(String, String)>, Fault> {
    let sql = "SELECT id, team FROM device_groups WHERE (id = $1 OR name = $1) AND \
               (team = '' OR team = $2)";
    let query = sqlx::query_as::<_, (String, String)>(sql).bind(clean(text));
    let found = query.bind(team.to_owned()).fetch_all(on).await?;
    let found = found.into_iter();
    Ok(found.min_by_key(|(id, of)| (id != text, of != team)))
}

/// Why [`for_team`] has found no group: there is none that these see, or it is of another team.
/// `team` is the id of a team that is there; empty: none.
pub(crate) async fn none_for_team(
    on: &mut AnyConnection,
    visibility: &Visibility,
    team: &str,
    text: &str,
) -> Result<Refused, Fault> {
    if !candidates(on, visibility, text).await?.is_empty() {
        return Ok(Refused::GroupOfOtherTeam(text.to_owned()));
    }
    let team = match team {
        "" => None,
        team => Some(name_of(on, team).await?),
    };
    let name = text.to_owned();
    Ok(NotFound::GroupForDevice(ObjectName { name, team }).into())
}
