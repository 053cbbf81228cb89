//! Devices, users, teams, keys and the rest: what the tables hold.
//!
//! A handler reads what is asked for, runs a use case of `control` and answers. Whose objects a
//! caller sees is in the [`Caller`] that goes along with each use case; the tables themselves keep
//! people of one team from another's.
//!
//! * `devices`, `bulk`, `credentials`, `configuration`, `groups`, `provisioning`: devices
//! * `commands`: commands to devices and groups
//! * `twin`: values that a device is to have, and those that it reports
//! * `rule_sets`: types of devices, roles of users, and their rules
//! * `users`, `teams`, `keys`: users, teams and keys
//! * `bans`, `audit`: bans and the audit log
//! * `forms`: what requests and answers have in common
//! * `called_by`, `errors`: the caller of a request, and errors of use cases as problems
//!
//! [`Caller`]: martlet_control::callers::Caller

mod audit;
mod bans;
mod bulk;
mod called_by;
mod commands;
mod configuration;
mod credentials;
mod devices;
mod errors;
mod forms;
mod groups;
pub(crate) mod keys;
mod provisioning;
mod rule_sets;
mod shares;
mod team_tokens;
mod teams;
mod twin;
pub(crate) mod users;

use martlet_control::principal::Scope::{
    AclRead, AclWrite, AuditRead, ClientsRead, ClientsWrite, DevicesRead, DevicesWrite, KeysRead,
    KeysWrite, UsersRead, UsersWrite,
};
use utoipa_axum::routes;

use crate::access::Access::{Open, Scoped, ScopedOrOfDevice, ScopedOrOfTeam};
use crate::route_list::Routes;

pub(crate) use called_by::{CalledBy, team_id, within};
pub(crate) use commands::TIME_SECS as COMMAND_TIME_SECS;
pub(crate) use devices::{OfTeam, expect_type, group_id};
pub(crate) use forms::{moment, page_of, page_request, version, word_of_query};
pub use shares::ShareView;
pub(crate) use shares::shares_in;

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
            Scoped(AclWrite),
            routes!(rule_sets::put_type_rule, rule_sets::remove_type_rule),
        )
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
        .add_of_tables(
            Scoped(AclWrite),
            routes!(rule_sets::put_role_rule, rule_sets::remove_role_rule),
        )
        .add_of_tables(Scoped(UsersRead), routes!(users::list))
        .add_of_tables(Scoped(UsersWrite), routes!(users::create))
        .add_of_tables(Scoped(UsersRead), routes!(users::show))
        .add_of_tables(Scoped(UsersWrite), routes!(users::change))
        .add_of_tables(Scoped(UsersWrite), routes!(users::set_password))
        .add_of_tables(Scoped(UsersWrite), routes!(users::delete))
        .add_of_tables(Scoped(UsersWrite), routes!(users::restore))
        .add_of_tables(Scoped(UsersWrite), routes!(users::purge))
        .add_of_tables(Scoped(UsersRead), routes!(teams::list))
        .add_of_tables(Scoped(UsersRead), routes!(shares::list))
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
