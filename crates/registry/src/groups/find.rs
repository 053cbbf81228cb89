//! The fields of groups, and finding groups by id or name.

use sqlx::AnyConnection;

use crate::names::check_new_name;
use crate::object::{object, read_all, select_short, unchecked};
use crate::sql::{Fault, clean};
use crate::teams::name_of;
use crate::{NotFound, ObjectKind, ObjectName, Refused, RegistryError, Visibility, check_text};

object! {
    /// A group of devices.
    Group in "device_groups";
    /// A group to be added.
    #[derive(Default)]
    new NewGroup
    kept {
        /// Id of the group.
        id ("id"): String, [];
        /// Raised with every change; the `ETag` is made of it.
        revision ("revision"): i64, [Changed];
    }
    times {
        /// When it was added.
        created_ms as "created_at", [];
        /// When it was last changed.
        updated_ms as "updated_at", [Changed];
    }
    derived {
        /// Number of devices in the group.
        devices: u64 = "SELECT COUNT(*) FROM group_devices JOIN devices ON number = device WHERE \
                        group_id = device_groups.id AND deleted_ms = 0";
    }
    given {
        /// Id of its team; empty: no team, and devices of all teams may be in it. A request may
        /// name the team by its id or name.
        team ("team"): String, new Option<String>,
            check unchecked, [];
    }
    /// Changes of a group; fields that are not named stay.
    change GroupChange set {
        /// Name of the group, unique in its team.
        name ("name"): String, new String,
            check check_name, [Audited];
        /// Description, for people.
        description ("description"): String, new #[serde(default)] String,
            check check_description, [];
        /// Colour, for people: `#2f6fed`.
        colour ("colour"): String, new #[serde(default)] String,
            check check_colour, [];
    }
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    check_new_name("group", name)
}

fn check_description(text: &str) -> Result<(), RegistryError> {
    check_text("description", text)
}

fn check_colour(colour: &str) -> Result<(), RegistryError> {
    let is_colour =
        |digits: &str| digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    match colour.is_empty() || colour.strip_prefix('#').is_some_and(is_colour) {
        true => Ok(()),
        false => Err(Refused::Colour(colour.to_owned()).into()),
    }
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
    let mut sql = select_short::<Group>();
    sql.push(" WHERE id = ").bind(clean(text));
    sql.push(" OR name = ").bind(clean(text));
    let mut groups: Vec<Group> = read_all(sql, on).await?;
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
