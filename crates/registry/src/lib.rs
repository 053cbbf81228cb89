//! Users, teams, devices, their credentials, types and roles, in tables.
//!
//! The data plane never reads them. [`Snapshot`] has all that decides logins and rules, in memory,
//! and is read again when something has changed. SQL is written so that SQLite and PostgreSQL
//! understand it; where they differ, `sql` and `database` know.
//!
//! * `location`, `database`, `migrations`, `postgres`: where the tables are, transactions, bringing
//!   them to this version, the schema in PostgreSQL, and waiting for them where nothing is
//!   asynchronous
//! * `sql`, `page`, `writing`, `lines`: statements that are put together, lists by page,
//!   transactions that write, and rows as text
//! * `object`: objects of the tables, whose fields are declared once
//! * `error`: why the tables are not read or changed, and what helps
//! * `names`, `known`: which names objects may have, and the kind of account of a name
//! * `teams`, `members`, `membership`: teams and their members
//! * `users`, `api_keys`, `rule_sets`: users, their keys and rights
//! * `team_tokens`: what all devices of a team log in with
//! * `devices`, `device_lists`, `credentials`, `groups`, `configuration`, `provisioning`: devices
//! * `registration`: devices that register by a name, with their number as id
//! * `activity`, `inactivity`: when devices last sent something, and which are silent for too long
//! * `bans`, `presence`, `idempotency`: bans, connected clients, answers to earlier requests
//! * `commands`: commands to devices, and their states
//! * `firmware`, `rollouts`: firmware for devices, and bringing it to them in waves
//! * `message_log`: messages that other programs read and confirm
//! * `dead_letters`, `integrations`: messages that integrations refused, and their states
//! * `added_integrations`, `bridge_subscriptions`: integrations that were added by the API, and
//!   subscriptions at other brokers
//! * `secrets`: sealed secrets of other systems
//! * `rules`, `alarms`: rules about messages that were added by the API, and alarms
//! * `outbox`, `table_change`: messages that follow from changes, until they are published
//! * `audit`: the audit log, and which objects a caller sees
//! * `foreign`: databases of other systems, and the devices, webhooks, messages and
//!   telemetry in them
//! * `offline_queue`: queues that devices keep in SQLite
//! * `secret`: credentials that are made up, and the digests that are kept of them
//! * `changes`: what was changed since they were last read
//! * `snapshot`: the tables as they were when they were read
#![forbid(unsafe_code)]

mod activity;
mod added_integrations;
mod alarm_watches;
mod alarms;
mod api_keys;
mod audit;
mod bans;
mod bridge_subscriptions;
mod certificate_ends;
mod changes;
mod client_ids;
mod commands;
mod configuration;
mod credentials;
mod database;
mod dead_letters;
mod deleted;
mod deletions;
mod device_ids;
mod device_lists;
mod device_numbers;
mod devices;
mod error;
mod expected;
mod firmware;
mod foreign;
mod groups;
mod idempotency;
mod inactivity;
mod integrations;
mod lines;
mod location;
mod members;
mod message_log;
mod message_times;
mod migrations;
mod names;
mod object;
mod offline_queue;
mod outbox;
mod page;
mod postgres;
mod presence;
mod provisioning;
mod registration;
mod rollouts;
mod rule_sets;
mod rules;
mod secret;
mod secrets;
mod shared_map;
mod snapshot;
mod sql;
mod sqlite_file;
mod table_change;
mod team_tokens;
mod team_uses;
mod teams;
#[cfg(test)]
mod tests;
mod twins;
mod users;
mod writing;

pub use activity::{Activity, LastActivity};
pub use added_integrations::{ADDED_MAX, AddedIntegration};
pub use alarm_watches::AlarmWatchRow;
pub use alarms::{AlarmFilter, AlarmRow, AlarmsKept};
pub use api_keys::{ApiKey, ApiKeyBarred, ApiKeyChange, NewApiKey, may_be_api_key};
pub use audit::{Actor, AuditEntry, AuditFilter, AuditKept, AuditLine, NewAuditEntry, Visibility};
pub use bans::{AddedBan, Ban, BanKind, NewBan};
pub use bridge_subscriptions::BridgeSubscription;
pub use certificate_ends::CertificateEnd;
pub use client_ids::{ClientIds, TypeSettings};
pub use commands::{
    COMMAND_BYTES_MAX, COMMANDS_OPEN_MAX, Command, CommandAnswer, CommandFilter, CommandKey,
    CommandOutcome, CommandState, CommandStep, CommandUpdate, CommandsKept, FleetCommand,
    FleetReport, FleetTarget, NewCommand, new_command_id,
};
pub use configuration::{DataType, Setting};
pub use credentials::{
    Credential, CredentialKind, CredentialUse, NewCredential, ROTATION_GRACE, ROTATION_GRACE_MAX,
};
pub use database::{FILE, Registry, RegistrySettings, copy_of, wait};
pub use dead_letters::{DeadLetterCount, DeadLetterRow, DeadLettersKept, StoredDeadLetter};
pub use deletions::{DeletedAccount, TeamDeletion};
pub use device_ids::{RenamedDevice, is_reserved_id};
pub use device_lists::{DeviceCounts, DeviceFilter, DeviceOrder, KindCount, PartCounts};
pub use device_numbers::NumberedDevice;
pub use devices::{
    AddedDevice, Device, DeviceChange, DeviceRef, DeviceSecret, ExportedValue, FIRMWARE_VERSION,
    Import, NewDevice, ReportedVersion, RowOutcome, Status, is_device_id, reported_version,
};
pub use error::{
    Conflict, Exists, NotFound, ObjectKind, ObjectName, Refused, RegistryError, Remedies, Remedy,
};
pub use expected::Expected;
pub use firmware::{FIRMWARE_MAX, Firmware, FirmwareFilter, NewFirmware};
pub use foreign::microservice::{
    MicroserviceContents, MicroserviceMessage, MicroserviceWebhook, microservice_contents,
};
pub use foreign::rows::UnreadableRow;
pub use foreign::system::OtherSystem;
pub use foreign::telemetry::{
    IotFlowPayload, IotFlowRecord, iotflow_record_counts, iotflow_records,
};
pub use foreign::{
    Contents, ForeignSetting, ForeignTables, IotFlowDevice, IotFlowUser, ServiceMqttDevice,
    contents, has_accounts, iotflow_devices, service_mqtt_devices,
};
pub use groups::{Group, GroupChange, NewGroup};
pub use idempotency::Claim;
pub use inactivity::{
    INACTIVE_AFTER_MAX_SECS, INACTIVE_AFTER_MIN_SECS, InactiveDevice, InactivityCheck,
};
pub use integrations::IntegrationState;
pub use location::Location;
pub use martlet_database_url::DatabaseUrl;
pub use martlet_rollout as rollout;
pub use members::Member;
pub use message_log::{LoggedMessage, MessageLogQuery, MessagesKept};
pub use message_times::MessageTimes;
pub use names::AccountKind;
pub use object::{SettableField, one_of, read_time};
pub use offline_queue::{OfflineMessage, offline_messages};
pub use page::{Page, PageRequest};
pub use presence::Presence;
pub use provisioning::{
    NewProvisioningKey, Provisioned, ProvisioningKey, ProvisioningKeyRef, RepeatableRequest,
    may_be_provisioning_key,
};
pub use rollouts::{
    AdvancedRollout, NewRollout, ROLLOUT_DEVICES_MAX, ROLLOUTS_OPEN_MAX, Rollout, RolloutDevice,
    RolloutOrder, RolloutTarget,
};
pub use rule_sets::owner::{
    ADMINISTRATOR_ROLE, DEVICE_TYPE, NO_ROLE, Owner, RulesPlace, USER_ROLE,
};
pub use rule_sets::{RuleSet, beyond_own};
pub use rules::{RULES_MAX, RuleDevice, RulesStamp, StoredRule};
pub use secret::Secret;
pub use secrets::{SECRET_NAME_BYTES_MAX, SealedSecret, SecretHead, check_secret_name};
pub use snapshot::renew::{Changed, Renewed};
pub use snapshot::{GroupName, LoginNumbers, Snapshot, TeamTokenLogin, TeamTokenName};
pub use table_change::{MessagesOfChanges, OutboxRow, SilentDevice, TableChange};
pub use team_tokens::{AddedTeamToken, TeamToken};
pub use team_uses::{SharedObjects, TeamUse};
pub use teams::{NewTeam, PurgedTeam, Team, TeamChange};
pub use twins::{
    GroupTwin, TWIN_BYTES_MAX, TWIN_DEPTH_MAX, Twin, TwinChange, TwinReport, TwinValues, Values,
    values_of_json,
};
pub use users::{ApiRole, GivenPassword, NewUser, User, UserChange};

pub use martlet_access::{IOTFLOW, RuleLine, SERVICE_MQTT, check_password, with_keyword};

/// The tenant of all users and devices that are in no team with a tenant.
pub const COMMON_TENANT: u32 = 0;

/// Text of several lines that databases can keep.
fn check_text(what: &'static str, text: &str) -> Result<(), RegistryError> {
    let is_odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t' | '\r');
    match text.len() > 4_096 || text.chars().any(is_odd) {
        true => Err(Refused::Text(what).into()),
        false => Ok(()),
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
