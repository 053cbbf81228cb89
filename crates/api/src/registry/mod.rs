//! Devices, users, teams, keys and the rest: what the tables hold.
//!
//! A handler reads what is asked for, makes one call into the tables and answers. Whose objects a
//! caller sees is in the [`Asking`] that goes along with each call; the tables themselves keep
//! people of one team from another's.
//!
//! * `devices`, `bulk`, `names`, `credentials`, `configuration`, `groups`, `provisioning`: devices
//! * `commands`: commands to devices and groups
//! * `twin`: values that a device is to have, and those that it reports
//! * `rule_sets`: types of devices, roles of users, and what they may do
//! * `users`, `teams`, `keys`: people, and what they come with
//! * `rights`: what a caller may grant, change and end
//! * `bans`, `audit`: who is kept out, and who changed what

mod asking;
mod audit;
mod bans;
mod bulk;
mod commands;
mod configuration;
mod credentials;
mod devices;
mod groups;
pub(crate) mod keys;
mod names;
mod provisioning;
mod rights;
mod rule_sets;
mod team_tokens;
mod teams;
mod twin;
pub(crate) mod users;

use axum::http::HeaderMap;
use martlet_control::devices::DeviceError;
use martlet_control::principal::Scope::{
    AclRead, AclWrite, AuditRead, ClientsRead, ClientsWrite, DevicesRead, DevicesWrite, KeysRead,
    KeysWrite, UsersRead, UsersWrite,
};
use martlet_control::tables::TablesError;
use martlet_registry::{PageRequest, RegistryError};
use serde::Serialize;
use utoipa_axum::routes;

use crate::access::Access::{Open, Scoped, ScopedOrOfDevice, ScopedOrOfTeam};
use crate::api::Api;
use crate::etag::Version;
use crate::page::{self, Page};
use crate::problem::{Problem, ProblemKind};
use crate::route_list::Routes;
use crate::time::Moment;

pub(crate) use asking::Asking;
pub use bulk::{DeviceRow, devices_of_json, devices_of_table, json_of_device, table_of_devices};
pub(crate) use commands::TIME_SECS as COMMAND_TIME_SECS;
pub(crate) use devices::{OfTeam, expect_type, group_id};
pub use names::ExportNames;

/// Adds these routes to the others.
// Table: routes and their handlers.
pub(crate) fn add_to(routes: Routes) -> Routes {
    routes
        .add_of_tables(Scoped(DevicesRead), routes!(devices::list))
        .add_of_tables(Scoped(DevicesWrite), routes!(devices::create))
        .add_of_tables(Scoped(DevicesRead), routes!(devices::summary))
        .add_of_tables(Scoped(DevicesWrite), routes!(bulk::add))
        .add_of_tables(Scoped(DevicesWrite), routes!(bulk::import))
        .add_of_tables(Scoped(DevicesRead), routes!(bulk::export))
        .add_of_tables(Scoped(DevicesRead), routes!(devices::show))
        .add_of_tables(Scoped(DevicesWrite), routes!(devices::change))
        .add_of_tables(Scoped(DevicesWrite), routes!(devices::delete))
        .add_of_tables(Scoped(DevicesWrite), routes!(devices::restore))
        .add_of_tables(Scoped(DevicesWrite), routes!(devices::purge))
        .add_of_tables(Scoped(DevicesRead), routes!(credentials::list))
        .add_of_tables(Scoped(DevicesWrite), routes!(credentials::add))
        .add_of_tables(Scoped(DevicesWrite), routes!(credentials::rotate))
        .add_of_tables(Scoped(DevicesWrite), routes!(credentials::revoke))
        .add_of_tables(Scoped(DevicesRead), routes!(configuration::list))
        .add_of_tables(Scoped(DevicesWrite), routes!(configuration::set))
        .add_of_tables(Scoped(DevicesWrite), routes!(configuration::remove))
        .add_of_tables(ScopedOrOfDevice(DevicesRead), routes!(twin::show))
        .add_unaudited(ScopedOrOfDevice(DevicesWrite), routes!(twin::report))
        .add_of_tables(Scoped(DevicesWrite), routes!(twin::merge, twin::replace))
        .add_of_tables(Scoped(DevicesRead), routes!(commands::list))
        .add_of_tables(Scoped(DevicesWrite), routes!(commands::send))
        .add_of_tables(Scoped(DevicesRead), routes!(commands::show))
        .add_of_tables(Scoped(DevicesWrite), routes!(commands::cancel))
        .add_of_tables(Scoped(DevicesWrite), routes!(commands::retry))
        .add_of_tables(Scoped(DevicesRead), routes!(commands::of_group))
        .add_of_tables(Scoped(DevicesWrite), routes!(commands::send_to_group))
        .add_of_tables(Scoped(DevicesRead), routes!(commands::devices_of_group))
        .add_of_tables(Scoped(DevicesWrite), routes!(commands::send_to_many))
        .add_of_tables(Scoped(DevicesRead), routes!(commands::to_many))
        .add_of_tables(Scoped(DevicesRead), routes!(commands::devices_of_many))
        .add_of_tables(Scoped(DevicesRead), routes!(groups::list))
        .add_of_tables(Scoped(DevicesWrite), routes!(groups::create))
        .add_of_tables(Scoped(DevicesRead), routes!(groups::show))
        .add_of_tables(Scoped(DevicesWrite), routes!(groups::change))
        .add_of_tables(Scoped(DevicesWrite), routes!(groups::delete))
        .add_of_tables(Scoped(DevicesWrite), routes!(groups::add_members))
        .add_of_tables(Scoped(DevicesWrite), routes!(groups::remove_members))
        .add_of_tables(Scoped(DevicesRead), routes!(twin::show_of_group))
        .add_of_tables(
            Scoped(DevicesWrite),
            routes!(twin::merge_of_group, twin::replace_of_group),
        )
        .add_of_tables(Scoped(DevicesRead), routes!(groups::rules))
        .add_of_tables(Scoped(DevicesWrite), routes!(groups::set_rules))
        .add_of_tables(Scoped(KeysRead), routes!(provisioning::list))
        .add_of_tables(Scoped(KeysWrite), routes!(provisioning::create))
        .add_of_tables(Scoped(KeysWrite), routes!(provisioning::revoke))
        .add_of_tables(Open, routes!(provisioning::provision))
        .add_of_tables(
            ScopedOrOfTeam(AclRead, DevicesRead),
            routes!(rule_sets::types),
        )
        .add_of_tables(Scoped(AclWrite), routes!(rule_sets::create_type))
        .add_of_tables(
            ScopedOrOfTeam(AclRead, DevicesRead),
            routes!(rule_sets::show_type),
        )
        .add_of_tables(
            Scoped(AclWrite),
            routes!(rule_sets::set_type, rule_sets::change_type),
        )
        .add_of_tables(Scoped(AclWrite), routes!(rule_sets::delete_type))
        .add_of_tables(
            ScopedOrOfTeam(AclRead, UsersRead),
            routes!(rule_sets::roles),
        )
        .add_of_tables(Scoped(AclWrite), routes!(rule_sets::create_role))
        .add_of_tables(
            ScopedOrOfTeam(AclRead, UsersRead),
            routes!(rule_sets::show_role),
        )
        .add_of_tables(Scoped(AclWrite), routes!(rule_sets::set_role))
        .add_of_tables(Scoped(AclWrite), routes!(rule_sets::delete_role))
        .add_of_tables(Scoped(UsersRead), routes!(users::list))
        .add_of_tables(Scoped(UsersWrite), routes!(users::create))
        .add_of_tables(Scoped(UsersRead), routes!(users::show))
        .add_of_tables(Scoped(UsersWrite), routes!(users::change))
        .add_of_tables(Scoped(UsersWrite), routes!(users::set_password))
        .add_of_tables(Scoped(UsersWrite), routes!(users::delete))
        .add_of_tables(Scoped(UsersWrite), routes!(users::restore))
        .add_of_tables(Scoped(UsersWrite), routes!(users::purge))
        .add_of_tables(Scoped(UsersRead), routes!(teams::list))
        .add_of_tables(Scoped(UsersWrite), routes!(teams::create))
        .add_of_tables(Scoped(UsersRead), routes!(teams::show))
        .add_of_tables(Scoped(UsersWrite), routes!(teams::change))
        .add_of_tables(Scoped(UsersWrite), routes!(teams::delete))
        .add_of_tables(Scoped(UsersWrite), routes!(teams::restore))
        .add_of_tables(Scoped(UsersWrite), routes!(teams::purge))
        .add_of_tables(Scoped(UsersRead), routes!(teams::members))
        .add_of_tables(Scoped(UsersWrite), routes!(teams::set_member))
        .add_of_tables(Scoped(UsersWrite), routes!(teams::remove_member))
        .add_of_tables(Scoped(KeysRead), routes!(team_tokens::list))
        .add_of_tables(Scoped(KeysWrite), routes!(team_tokens::create))
        .add_of_tables(Scoped(KeysWrite), routes!(team_tokens::revoke))
        .add_of_tables(Scoped(KeysWrite), routes!(team_tokens::restore))
        .add_of_tables(Scoped(KeysRead), routes!(keys::list))
        .add_of_tables(Scoped(KeysWrite), routes!(keys::create))
        .add_of_tables(Scoped(KeysWrite), routes!(keys::change))
        .add_of_tables(Scoped(KeysWrite), routes!(keys::revoke))
        .add_of_tables(Scoped(ClientsRead), routes!(bans::list))
        .add_of_tables(Scoped(ClientsWrite), routes!(bans::add))
        .add_of_tables(Scoped(ClientsWrite), routes!(bans::remove))
        .add_of_tables(Scoped(AuditRead), routes!(audit::list))
}

impl From<DeviceError> for Problem {
    fn from(error: DeviceError) -> Self {
        let kind = match &error {
            DeviceError::Refused(_) => ProblemKind::Invalid,
            DeviceError::NotFound(_) => ProblemKind::NotFound,
            DeviceError::Exists(_) | DeviceError::NameTaken(_) | DeviceError::LimitReached(_) => {
                ProblemKind::Conflict
            }
            DeviceError::Stale(_) => ProblemKind::PreconditionFailed,
            DeviceError::Unavailable(_) => ProblemKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<TablesError> for Problem {
    fn from(error: TablesError) -> Self {
        let kind = match &error {
            TablesError::Registry(RegistryError::Refused(_)) => ProblemKind::Invalid,
            TablesError::Registry(RegistryError::NotFound(_)) => ProblemKind::NotFound,
            TablesError::Registry(
                RegistryError::Exists(_)
                | RegistryError::NameTaken(_)
                | RegistryError::LimitReached(_),
            ) => ProblemKind::Conflict,
            TablesError::Registry(RegistryError::Stale { .. }) => ProblemKind::PreconditionFailed,
            _ => ProblemKind::Unavailable,
        };
        Self::new(kind, error.told())
    }
}

/// The version of what its keeper counts.
pub(crate) fn version(revision: i64) -> Version {
    Version::of_number(u64::try_from(revision).unwrap_or(0))
}

/// The revision that `If-Match` names; none: any will do, by `*`.
///
/// # Errors
/// It names none (428), or what no revision is (412).
pub(crate) fn expected(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let asked = headers.get(axum::http::header::IF_MATCH);
    let Some(asked) = asked.map(|asked| asked.to_str().unwrap_or_default().trim()) else {
        let detail = "say by If-Match which version is to be changed: its ETag, or *";
        return Err(Problem::new(ProblemKind::PreconditionRequired, detail));
    };
    if asked == "*" {
        return Ok(None);
    }
    let tag = asked
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match tag.and_then(|tag| tag.parse().ok()) {
        Some(revision) => Ok(Some(revision)),
        None => {
            let detail = "If-Match names no version of it: read it again";
            Err(Problem::new(ProblemKind::PreconditionFailed, detail))
        }
    }
}

/// As [`expected`], where it need not be said.
pub(crate) fn expected_if_any(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    match headers.contains_key(axum::http::header::IF_MATCH) {
        true => expected(headers),
        false => Ok(None),
    }
}

/// When, if ever; 0 is never.
pub(crate) fn moment(ms: i64) -> Option<Moment> {
    Moment::from_ms(ms).filter(|_| ms > 0)
}

/// Which page of a list, which `of` names with its filters.
pub(crate) fn page_request(
    api: &Api,
    of: &str,
    wanted: (Option<usize>, Option<&str>, Option<bool>),
) -> Result<PageRequest, Problem> {
    let (limit, cursor, total) = wanted;
    let cursor = cursor.map(|cursor| api.cursors().position(of, cursor));
    Ok(PageRequest {
        limit: page::limit(limit)?,
        cursor: cursor.transpose()?,
        with_total: total == Some(true),
    })
}

/// A page as it is answered.
pub(crate) fn page_of<T, V>(
    api: &Api,
    of: &str,
    page: martlet_registry::Page<T>,
    view: impl Fn(T) -> V,
) -> Page<V> {
    Page {
        items: page.items.into_iter().map(view).collect(),
        next: page.next.map(|next| api.cursors().after(of, &next)),
        total: page.total,
    }
}

/// A page of a list that is short enough to be read whole, in the order of `key`, which no two of
/// them share.
pub(crate) fn page_of_all<V: Serialize>(
    api: &Api,
    of: &str,
    mut all: Vec<V>,
    key: impl Fn(&V) -> &str,
    wanted: (Option<usize>, Option<&str>, Option<bool>),
) -> Result<Page<V>, Problem> {
    let request = page_request(api, of, wanted)?;
    let total = request.with_total.then_some(all.len() as u64);
    all.sort_by(|one, other| key(one).cmp(key(other)));
    if let Some(after) = request.cursor {
        all.retain(|one| *key(one) > *after);
    }
    let has_more = all.len() > request.limit;
    all.truncate(request.limit);
    let last = all.last().filter(|_| has_more);
    Ok(Page {
        next: last.map(|last| api.cursors().after(of, key(last))),
        items: all,
        total,
    })
}

/// Reads RFC 3339; nothing is never.
///
/// # Errors
/// It is no time.
pub(crate) fn time(pointer: &str, text: Option<&str>) -> Result<i64, Problem> {
    let Some(text) = text else {
        return Ok(0);
    };
    let parsed = Moment::parse(text).map(Moment::as_ms);
    parsed.filter(|ms| *ms > 0).ok_or_else(|| {
        let detail = format!("{text:?} is no time, expected such as 2030-01-31T12:00:00Z");
        Problem::of_body(pointer, detail)
    })
}

/// A word of a closed list.
///
/// # Errors
/// It is none.
pub(crate) fn word<T>(
    pointer: &str,
    text: &str,
    read: impl Fn(&str) -> Option<T>,
    known: &[&str],
) -> Result<T, Problem> {
    read(text).ok_or_else(|| Problem::of_body(pointer, none_of(text, known)))
}

/// The same of a query parameter.
///
/// # Errors
/// It is none.
pub(crate) fn word_of_query<T>(
    name: &str,
    text: &str,
    read: impl Fn(&str) -> Option<T>,
    known: &[&str],
) -> Result<T, Problem> {
    read(text).ok_or_else(|| Problem::of_query(name, none_of(text, known)))
}

fn none_of(text: &str, known: &[&str]) -> String {
    format!("{text:?} is none of {}", known.join(", "))
}
