//! Use cases: what callers do with devices, users, teams, keys, groups, rules and bans. The native
//! API, the routes of other systems and commands run the same use cases, and each words the outcome
//! in its way.
//!
//! A use case is a value: what is wanted. It checks the rights of the caller, and then reads or
//! changes the registry. [`SharedRegistry::run`] runs it in a node; a command runs it on the
//! registry that it has opened, with a caller that has all rights.
//!
//! * `use_case`: what each use case is, and how a node runs it
//! * `error`: errors of use cases
//! * `people`, `teams`, `team_tokens`, `api_keys`: people, and how they log in
//! * `devices`, `bulk`, `credentials`, `configuration`, `groups`, `provisioning`: devices
//! * `rule_sets`: types of devices, roles of users, and their rules
//! * `messages`: messages that other programs read and confirm
//! * `bans`, `audit`: bans, and the audit log
//!
//! [`SharedRegistry::run`]: crate::shared_registry::SharedRegistry::run

mod api_keys;
mod audit;
mod bans;
mod bulk;
mod configuration;
mod credentials;
mod devices;
mod error;
mod groups;
mod people;
mod provisioning;
mod rule_sets;
mod team_tokens;
mod teams;
#[cfg(test)]
mod tests;
mod use_case;

pub use api_keys::{AddApiKey, ChangeApiKey, ListApiKeys, RevokeApiKey};
pub use audit::ImportMessages;
pub use audit::ReadAuditLog;
pub use bans::{AddBan, FindBan, PageOfBans, RemoveBan, add_ban};
pub use bulk::{AddDevices, ExportNames, ReadExportNames, TryDevices};
pub use configuration::{
    CountActiveSettings, ReadConfiguration, RemoveConfiguration, SetConfiguration,
};
pub use credentials::{AddCredential, ListCredentials, RevokeCredential, RotateSecret};
pub use devices::{
    AddDevice, ChangeDevice, CountDevices, DeleteDevice, DeviceStatistics, FindDevice,
    FindDeviceOfSecret, ListDevicesFrom, PageOfDevices, PurgeDevice, ReadDeviceStatistics,
    RegisterDevice, RestoreDevice,
};
pub use error::{SelectorKind, UseCaseError};
pub use groups::{
    AddGroup, ChangeGroup, ChangeMembers, FindGroup, FindGroupId, GroupName, ListGroups,
    ReadGroupRules, RemoveGroup, SetGroupRules,
};
pub use people::{
    AddUser, ChangeUser, DeleteUser, FindUser, ImportUser, ListUsers, NewPassword, PageOfUsers,
    PurgeUser, RestoreUser, SetPassword, TeamsOfUsers,
};
pub use provisioning::{AddProvisioningKey, ListProvisioningKeys, RevokeProvisioningKey};
pub use rule_sets::{
    AddRuleSet, ChangeOneRule, ChangeRuleSet, CheckDeviceType, DeleteRuleSet, FindRuleSet,
    ListRuleSets, RuleChange,
};
pub use team_tokens::{AddTeamToken, ListTeamTokens, RestoreTeamToken, RevokeTeamToken};
pub use teams::{
    AddTeam, ChangeTeam, DeleteTeam, FindTeam, FindTeamId, ListMembers, ListTeamNames, ListTeams,
    PurgeTeam, RestoreTeam, SetMember,
};
pub use use_case::{UseCase, UseCaseEffect};
