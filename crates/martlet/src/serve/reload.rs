//! Reloads files while the node runs: certificates, revocation lists, passwords, ACLs.
//!
//! All files are reloaded, or none. If one is unreadable or invalid, the former settings stay in
//! force, and the log and health report it until a reload succeeds. A configuration without its
//! former protection, such as a truncated file, is not applied either: it needs a restart with that
//! configuration. Settings that apply only at the start, such as listeners and limits, are not
//! changed; differences are reported.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use martlet_broker::{Command, ListenerPolicy, Revocation, TenantId};
use martlet_control::authentication::{AuthenticationChain, Policy};
use martlet_control::health::{RELOAD_FAILED, RESTART_PENDING};
use martlet_control::integrations::Integrations;
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::text::printable;
use martlet_control::{Control, ReloadOf, Reloaded};
use martlet_reactor::{ListenerConfig, TlsSettings};
use martlet_registry::{Ban, Changed, RegistryError, Renewed, Snapshot};
use tracing::{debug, error, info, warn};

use super::announce::warn_of_files;
use super::authentication::{note_tables, tell_ignored};
use super::facts;
use super::options::ConfigOptions;
use crate::config::{self, ConfigError, Effective, HttpListener, NodeConfig, TablesRead, key};

/// Interval of checks for changed files.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Number of consecutive checks without further changes before files are read. Their writer has
/// then finished.
const SAME_LOOKS: u32 = 2;

/// Longest tick of a system clock.
const TICK: Duration = Duration::from_millis(20);

/// Name of users and devices in lists of changes.
const TABLES: &str = "tables";

/// State of reloading.
pub(super) struct Reload {
    options: ConfigOptions,
    started_with: Effective,
    /// The configuration that was last loaded successfully.
    held: Effective,
    chain: AuthenticationChain,
    control: Arc<Control>,
    /// Users and devices.
    tables: Arc<SharedRegistry>,
    integrations: Arc<Integrations>,
    /// Policies by listener.
    policies: Vec<(String, Arc<ListenerPolicy>)>,
    /// Settings of TLS by listener.
    tls: BTreeMap<String, TlsSettings>,
    files: Vec<PathBuf>,
    /// The listeners that were opened at the start, as text.
    open: Vec<String>,
    /// URLs of the HTTP listeners.
    http_urls: Vec<String>,
    /// State of the files at the last reload or attempt.
    seen: Vec<Option<Look>>,
    /// State of the write-ahead log of the tables at that time.
    log_seen: Option<Look>,
    /// Time of the last reload or attempt.
    tried: SystemTime,
    /// Whether the tables were missing or replaced at the last full reload. When they are back, a
    /// full reload follows.
    were_tables_lost: bool,
}

/// Users and devices that were removed from the tables, by tenant and name.
#[derive(Default)]
struct RemovedAccounts {
    devices: Vec<(u32, Arc<str>)>,
    users: Vec<(u32, Arc<str>)>,
}

impl RemovedAccounts {
    /// Compares two snapshots; only for these names, if any are given.
    fn between(older: &Snapshot, newer: &Snapshot, names: Option<&[Arc<str>]>) -> Self {
        Self {
            devices: older.removed_devices(newer, names),
            users: older.removed_users(newer, names),
        }
    }
}

/// Attributes that identify the state of a file, with symbolic links followed: Kubernetes replaces
/// a link in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// The file has not changed since this time, or shortly before it: file systems note the time
    /// of a change with the time of the last tick of the system.
    fn is_older_than(&self, time: SystemTime) -> bool {
        let since = time.checked_sub(TICK).unwrap_or(UNIX_EPOCH);
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (secs, nanos) = self.changed;
        let secs = u64::try_from(secs).unwrap_or_default();
        let nanos = u32::try_from(nanos).unwrap_or_default();
        (secs, nanos) < (since.as_secs(), since.subsec_nanos())
    }
}

/// A listener is identified by its name and address: several may have one name.
fn key(listener: &ListenerConfig) -> String {
    format!("{} {}", listener.name, listener.address)
}

fn key_of_http(listener: &HttpListener) -> String {
    format!("http {}", listener.address)
}

/// All listeners of a configuration, as text.
fn listeners_of(node: &NodeConfig) -> Vec<String> {
    let mqtt = node.listeners.iter();
    let mqtt = mqtt.map(|listener| match listener.name.is_empty() {
        true => listener.address.to_string(),
        false => format!("{} at {}", listener.name, listener.address),
    });
    let http = node.http.iter().map(key_of_http);
    mqtt.chain(http).collect()
}

/// Differences between the open listeners and the configured ones.
fn listeners_waiting(open: &[String], configured: &[String]) -> Vec<String> {
    let only = |these: &[String], others: &[String], what: &str| {
        let found = these.iter().filter(|one| !others.contains(one));
        let told = found.map(|one| format!("the listener {} {what}", printable(one)));
        told.collect::<Vec<_>>()
    };
    let mut all = only(configured, open, "is not open before a restart");
    all.extend(only(open, configured, "stays open until a restart"));
    all
}

/// The configuration that a node is started with.
#[derive(Clone, Copy)]
pub(super) struct Configured<'n> {
    pub(super) node: &'n NodeConfig,
    pub(super) effective: &'n Effective,
    pub(super) options: &'n ConfigOptions,
}

impl Reload {
    pub(super) fn new(
        of: Configured<'_>,
        chain: AuthenticationChain,
        control: Arc<Control>,
        tables: Arc<SharedRegistry>,
        integrations: Arc<Integrations>,
        http_urls: Vec<String>,
    ) -> Self {
        let Configured {
            node,
            effective,
            options,
        } = of;
        let policies = node.listeners.iter().enumerate().map(|(number, listener)| {
            let mut policy = ListenerPolicy::clone(&listener.policy);
            policy.number = u16::try_from(number).unwrap_or(u16::MAX);
            (key(listener), Arc::new(policy))
        });
        let tls = node.listeners.iter();
        let tls = tls.filter_map(|listener| Some((key(listener), listener.tls.clone()?)));
        let http = node.http.iter();
        let http = http.filter_map(|listener| Some((key_of_http(listener), listener.tls.clone()?)));
        let mut reload = Self {
            options: options.clone(),
            held: effective.clone(),
            started_with: effective.clone(),
            chain,
            control,
            tables,
            integrations,
            policies: policies.collect(),
            tls: tls.chain(http).collect(),
            files: node.files.clone(),
            open: listeners_of(node),
            http_urls,
            seen: Vec::new(),
            log_seen: None,
            tried: SystemTime::now(),
            were_tables_lost: false,
        };
        reload.seen = reload.look();
        reload.log_seen = reload.look_at_log();
        reload
    }

    /// Whether this is the database of users and devices.
    fn is_tables(&self, file: &Path) -> bool {
        self.tables.location().file() == Some(file)
    }

    /// Waits until a file has changed, or a credential has expired. Combines simultaneous changes:
    /// waits until no more follow. Also returns the reason.
    pub(super) async fn changed(&mut self) -> (ReloadOf, &'static str) {
        // Tables in a database server have no file, but their credentials expire too.
        if self.files.is_empty() && self.tables.location().file().is_some() {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let (mut last, mut same) = (None, 0);
        let mut log_waits = 0;
        loop {
            ticks.tick().await;
            if self.is_over() {
                return (ReloadOf::SharedRegistry, "a credential has expired");
            }
            // A write-ahead log that changes constantly must not delay reading other files.
            log_waits += u32::from(self.look_at_log() != self.log_seen);
            if log_waits > SAME_LOOKS {
                return (ReloadOf::SharedRegistry, "the tables have changed");
            }
            let look = self.look();
            same = match last.as_ref() == Some(&look) {
                true => same + 1,
                false => 0,
            };
            if look != self.seen && same >= SAME_LOOKS {
                let both = self.files.iter().zip(self.seen.iter().zip(&look));
                let mut changed = both.filter(|(_, (seen, now))| seen != now);
                let of = match changed.all(|(file, _)| self.is_tables(file)) {
                    true => ReloadOf::SharedRegistry,
                    false => ReloadOf::Everything,
                };
                return (of, "a file has changed");
            }
            last = Some(look);
        }
    }

    /// Whether a credential has expired that was valid at the last reload.
    fn is_over(&self) -> bool {
        let at_ms = self.chain.policy().changes_at_ms();
        let at = at_ms.and_then(|at_ms| u64::try_from(at_ms).ok());
        let at = at.map(|at| UNIX_EPOCH + Duration::from_millis(at));
        // A failing reload is not repeated for the same reason.
        at.is_some_and(|at| SystemTime::now() >= at && self.tried < at)
    }

    /// Reloads files.
    pub(super) async fn run(&mut self, of: ReloadOf, why: &str) -> Result<Reloaded, String> {
        let is_quick = of == ReloadOf::SharedRegistry && !self.were_tables_lost;
        let done = match is_quick {
            true => self.run_tables(why).await,
            false => None,
        };
        let done = match done {
            Some(done) => done,
            None => {
                let done = self.run_everything(of, why).await;
                self.integrations.retry().await;
                done
            }
        };
        // API keys and API users are not part of the chain's policy.
        self.tables.notify_changed();
        // When this is answered, no client receives messages that it may no longer receive.
        self.control.wait_until_all_reported().await;
        done
    }

    /// Applies changes of the tables. Returns `None` if a full reload is needed.
    async fn run_tables(&mut self, why: &str) -> Option<Result<Reloaded, String>> {
        // Taken before reading, so that later changes are detected next time.
        let look = self.look();
        self.log_seen = self.look_at_log();
        self.tried = SystemTime::now();
        let policy = self.chain.policy();
        let mut done = Reloaded::default();
        match policy.tables() {
            None if self.are_asked().await => return None,
            None => self.settle_idle_tables(None).await,
            Some(tables) => match self.tables.renew(tables).await {
                Ok(Renewed::Everything) => return None,
                Ok(Renewed::Same) => {}
                Ok(Renewed::Changed(changed)) => {
                    done.revoked = self.take_over(changed);
                    done.changed.push(TABLES.to_owned());
                    debug!(
                        revoked = done.revoked,
                        "changes in the tables were applied ({why})"
                    );
                }
                // A full reload reports the fault of a file.
                Err(_) if self.tables.location().file().is_some() => return None,
                Err(error) => {
                    if let Some(changed) = tables.without_ended() {
                        self.take_over(changed);
                    }
                    return Some(Err(error.to_string()));
                }
            },
        }
        let files = self.files.iter();
        let are_tables: Vec<bool> = files.map(|file| self.is_tables(file)).collect();
        for ((is_tables, seen), now) in are_tables.into_iter().zip(&mut self.seen).zip(look) {
            if is_tables {
                *seen = now;
            }
        }
        Some(Ok(done))
    }

    /// Whether the tables, which were not used before, are used now or may be.
    async fn are_asked(&self) -> bool {
        let is_wanted = self.control.user_configuration().tables_unasked.is_none();
        is_wanted && self.tables.are_in_use().await.unwrap_or(true)
    }

    /// Applies the changes. Returns the number of clients that are no longer accepted.
    fn take_over(&self, changed: Changed) -> usize {
        let Changed {
            tables,
            mut names,
            rules,
            bans,
        } = changed;
        names.sort_unstable();
        let policy = self.chain.policy();
        let older = policy.tables();
        let gone = older.map(|older| RemovedAccounts::between(older, &tables, Some(&names)));
        let (book, revocations) = self.chain.set_tables(&tables, &names);
        let command = match rules {
            true => Command::SetRules(book),
            false => Command::SetRulesOf {
                book,
                users: names.into(),
            },
        };
        let revoked = self.tell_shards(&command, revocations);
        self.end_banned(bans);
        self.end_sessions(gone.unwrap_or_default());
        revoked
    }

    /// Ends the sessions of removed devices and users, so that a later client with the same name
    /// does not resume them.
    fn end_sessions(&self, gone: RemovedAccounts) {
        if gone.devices.is_empty() && gone.users.is_empty() {
            return;
        }
        let control = Arc::clone(&self.control);
        tokio::spawn(async move {
            for (tenant, id) in gone.devices {
                if let Err(error) = control.end_session(TenantId(tenant), &id).await {
                    warn!(%error, device = &*id, "the session of a deleted device could not be ended");
                }
            }
            for (tenant, name) in gone.users {
                if let Err(error) = control.end_sessions_of(TenantId(tenant), &name).await {
                    warn!(%error, user_name = &*name, "the sessions of a deleted user could not be ended");
                }
            }
        });
    }

    /// Applies the bans and teams of tables that no login is checked against. `read` is their
    /// snapshot, if they were read.
    async fn settle_idle_tables(&self, read: Option<Arc<Snapshot>>) {
        let policy = self.chain.policy();
        if policy.tables().is_some() || self.control.user_configuration().tables_unasked.is_some() {
            return;
        }
        let read = match read {
            Some(read) => read,
            None => match self.tables.read_all().await {
                Ok(read) => Arc::new(read),
                // The snapshot in memory stays in force, and health reports the reason.
                Err(_) => return,
            },
        };
        let new = match &policy.idle_tables {
            Some(older) => read.new_bans(older),
            None => read.all_bans(),
        };
        let command = Command::CheckBans(read.has_bans());
        self.chain.set_idle_tables(Some(read));
        self.control.send_to_all_shards(&command);
        self.end_banned(new);
    }

    fn end_banned(&self, bans: Vec<Ban>) {
        if !bans.is_empty() {
            let control = Arc::clone(&self.control);
            tokio::spawn(async move { control.end_banned(bans).await });
        }
    }

    async fn run_everything(&mut self, of: ReloadOf, why: &str) -> Result<Reloaded, String> {
        let look = self.look();
        let changed = self.files_changed(&look);
        self.seen = look;
        self.log_seen = self.look_at_log();
        self.tried = SystemTime::now();
        let outcome = self.reload(of, changed).await;
        match &outcome {
            Ok(done) => {
                self.control.health.withdraw(RELOAD_FAILED);
                for line in &done.needs_restart {
                    warn!("reload: {line} has changed, which needs a restart");
                }
                for line in &done.listeners {
                    warn!("reload: {line}");
                }
                match done.needs_restart.as_slice() {
                    [] => self.control.health.withdraw(RESTART_PENDING),
                    keys => {
                        let text = format!(
                            "Changed since the start, and not in force before a restart: {}.",
                            keys.join(", ").trim_end_matches(',')
                        );
                        let listeners = done.listeners.iter().map(|line| format!(" {line};"));
                        let listeners: String = listeners.collect();
                        let text = format!("{text}{}", listeners.trim_end_matches(';'));
                        self.control.health.warn_as(RESTART_PENDING, text);
                    }
                }
                // Only the listeners know which clients a revocation list disconnects.
                let looked = match done.certificates {
                    0 => "",
                    _ => "; client certificates are checked again",
                };
                info!(
                    revoked_credentials = done.revoked,
                    "reloaded ({why}){looked}"
                );
            }
            Err(problem) => {
                error!("reload ({why}): {problem}; the settings before it remain in force");
                let text = format!(
                    "The last reload failed, and the settings before it remain in force: {problem}."
                );
                self.control.health.warn_logged_as(RELOAD_FAILED, text);
            }
        }
        outcome
    }

    /// Reads the tables of a database server, if they are used; a file is read with the others. A
    /// database that cannot be reached does not keep other files from being reloaded.
    async fn read_tables(&self, of: ReloadOf) -> Result<TablesRead, String> {
        let is_wanted = self.control.user_configuration().tables_unasked.is_none();
        if self.tables.location().file().is_some() || !is_wanted {
            return Ok(match self.tables_held() {
                Some(held) => TablesRead::After(held),
                None => TablesRead::NotYet,
            });
        }
        match self.tables.read_all().await {
            Ok(tables) => Ok(TablesRead::Given(Some(Arc::new(tables)))),
            Err(error) if of == ReloadOf::SharedRegistry => Err(error.caller_text()),
            Err(_) => Ok(TablesRead::Given(self.tables_held())),
        }
    }

    fn tables_held(&self) -> Option<Arc<Snapshot>> {
        self.chain.policy().tables().cloned()
    }

    /// Files that have changed since the last reload or attempt.
    fn files_changed(&self, look: &[Option<Look>]) -> Vec<String> {
        let both = self.files.iter().zip(self.seen.iter().zip(look));
        let changed = both.filter(|(_, (seen, now))| seen != now);
        changed
            .map(|(file, _)| file.display().to_string())
            .collect()
    }

    /// Keys whose values differ from the last successful load.
    fn keys_changed(&self, effective: &Effective) -> Vec<String> {
        let changed = effective.values().iter().filter(|(key, sourced)| {
            let held = self.held.values().get(*key);
            held.is_none_or(|held| held.value != sourced.value)
        });
        let mut keys: Vec<String> = changed.map(|(key, _)| key.clone()).collect();
        if effective.listeners_differ(&self.held) {
            keys.push("[[listeners]]".to_owned());
        }
        keys
    }

    async fn reload(&mut self, of: ReloadOf, mut changed: Vec<String>) -> Result<Reloaded, String> {
        let effective = self.options.load().map_err(|error| format!("{error:#}"))?;
        let tables = self.read_tables(of).await?;
        let resolved = self.with_started_base(&effective);
        let resolved = resolved.map_err(|error| error.to_string())?;
        let node = config::resolve_with(&resolved, tables).map_err(|error| error.to_string())?;
        if node.tables.location != *self.tables.location() {
            return Err("registry.url has changed; that needs a restart".to_owned());
        }
        let lost = self.tables_lost(node.policy.as_ref());
        self.were_tables_lost = lost.is_some();
        if let Some(why) = lost {
            return Err(why.to_string());
        }
        if self.is_asking() && node.policy.is_none() {
            return Err(
                "clients would no longer need credentials: restart the node to apply that"
                    .to_owned(),
            );
        }
        if let Some(lost) = effective.lost_protection(&self.held) {
            return Err(format!(
                "the change removes or weakens {lost}: restart the node to apply it"
            ));
        }
        let held = self.chain.policy();
        if let Some(path) = node
            .policy
            .as_ref()
            .and_then(|new| held.emptied_password_file(new))
        {
            return Err(format!(
                "the password file {path} is empty, as after an interrupted copy: write it again; to \
                 remove all users, leave a line that begins with #"
            ));
        }
        drop(held);
        for warning in warn_of_files(&effective, &node, &self.control) {
            warn!("{warning}");
        }
        // A key that needs a restart is reported only as such.
        let needs_restart = self.needs_restart(&effective);
        let keys = self.keys_changed(&effective).into_iter();
        let keys = keys.filter(|key| !needs_restart.contains(key));
        let (keys, as_at_start): (Vec<_>, Vec<_>) = keys.partition(|key| is_read_again(key));
        changed.extend(keys);
        let mut done = Reloaded {
            changed,
            needs_restart,
            as_at_start,
            listeners: listeners_waiting(&self.open, &listeners_of(&node)),
            ..Reloaded::default()
        };
        for listener in &node.listeners {
            if let (Some(now), Some(new)) = (self.tls.get(&key(listener)), &listener.tls) {
                now.replace(new);
                done.certificates += 1;
            }
        }
        for listener in &node.http {
            if let (Some(now), Some(new)) = (self.tls.get(&key_of_http(listener)), &listener.tls) {
                now.replace(new);
                done.certificates += 1;
            }
        }
        if done.certificates > 0 {
            self.control.recheck_certificates();
        }
        let urls = &self.control.info.listeners;
        let facts = facts::of(&node, &effective, urls, &self.http_urls);
        self.control.set_node_facts(facts);
        let anonymous = node.lets_anonymous_in();
        if let Some(policy) = node.policy {
            let both = policy.tables().zip(self.tables_held());
            let gone = both
                .as_ref()
                .map(|(newer, older)| RemovedAccounts::between(older, newer, None));
            let bans = both.map_or_else(Vec::new, |(newer, older)| newer.new_bans(&older));
            let revocations = self.chain.set_policy(Arc::clone(&policy));
            done.revoked = self.tell_shards(&Command::SetRules(policy), revocations);
            self.end_banned(bans);
            self.end_sessions(gone.unwrap_or_default());
        }
        self.settle_idle_tables(node.idle_tables.clone()).await;
        self.ask_at(&node.listeners);
        self.control.set_anonymous(anonymous);
        tell_ignored(&self.control, &node.warnings);
        for warning in node.warnings {
            warn!("{warning}");
        }
        self.control.set_user_configuration(node.user_configuration);
        let identity = self.tables_held().map(|tables| tables.identity());
        note_tables(&node.data_dir, self.tables.location(), identity);
        self.held = effective;
        let known = self.files.iter().map(PathBuf::as_path);
        let known = known.zip(self.seen.iter().copied()).collect();
        self.seen = seen_of(&node.files, &known, self.tried);
        self.files = node.files;
        Ok(done)
    }

    /// Whether the tables are missing or replaced. Then their users and devices stay accepted, and
    /// no session ends.
    fn tables_lost(&self, policy: Option<&Arc<Policy>>) -> Option<RegistryError> {
        let held = self.tables_held()?;
        let place = self.tables.location().to_string();
        match policy.and_then(|policy| policy.tables()) {
            Some(newer) if newer.is_of_same_tables(&held) => None,
            Some(_) => Some(RegistryError::Others { place }),
            None => (!self.tables.are_there()).then_some(RegistryError::Gone { place }),
        }
    }

    /// Whether any listener requires authentication.
    fn is_asking(&self) -> bool {
        self.policies.iter().any(|(_, policy)| policy.authenticate)
    }

    /// Requires authentication at listeners where it was off and is now on, and disconnects their
    /// current clients.
    fn ask_at(&mut self, listeners: &[ListenerConfig]) {
        let mut has_changed = false;
        for listener in listeners {
            let (key, new) = (key(listener), &listener.policy);
            let mut all = self.policies.iter_mut();
            let Some((_, now)) = all.find(|(known, _)| *known == key) else {
                continue;
            };
            if new.authenticate && !now.authenticate {
                let now = Arc::make_mut(now);
                (now.authenticate, now.realm) = (true, new.realm);
                now.allow_anonymous = new.allow_anonymous;
                has_changed = true;
            }
        }
        if has_changed {
            let asking = self.policies.iter().map(|(_, policy)| policy);
            let asking = asking.filter(|policy| policy.authenticate).cloned();
            self.control
                .send_to_all_shards(&Command::Ask(asking.collect()));
            info!("authentication is required now; clients without it were disconnected");
        }
    }

    /// Sends the new rules to the shards, then the revocations. Returns the number of revocations.
    fn tell_shards(&self, rules: &Command, revocations: Vec<Revocation>) -> usize {
        self.control.send_to_all_shards(rules);
        let revoked = revocations.len();
        if revoked > 0 {
            self.control
                .send_to_all_shards(&Command::Revoke(revocations.into()));
        }
        revoked
    }

    /// The configuration with IoTFlow's topics as at the start, because rules and catalogue must
    /// agree.
    fn with_started_base(&self, effective: &Effective) -> Result<Effective, ConfigError> {
        const KEY: &str = key!(iotflow.base);
        let mut resolved = effective.clone();
        if let Some(base) = self.started_with.values().get(KEY) {
            resolved.set(KEY, base.clone())?;
        }
        Ok(resolved)
    }

    /// Keys whose changes apply only at the next start.
    fn needs_restart(&self, effective: &Effective) -> Vec<String> {
        let old = self.started_with.values();
        let changed = effective.values().iter().filter(|(key, sourced)| {
            !is_read_again(key) && old.get(*key).is_none_or(|old| old.value != sourced.value)
        });
        let mut all: Vec<String> = changed.map(|(key, _)| key.clone()).collect();
        if effective.listeners_differ(&self.started_with) {
            all.push("[[listeners]]".to_owned());
        }
        if effective.http_listeners_differ(&self.started_with) {
            all.push("[[http_listeners]]".to_owned());
        }
        all.extend(effective.changed_integrations(&self.started_with));
        if effective.telemetry_differs(&self.started_with) {
            all.push("[[telemetry.rules]], [[telemetry.retention]]".to_owned());
        }
        if effective.rules_differ(&self.started_with) {
            all.push("[[rules]]".to_owned());
        }
        all
    }

    fn look(&self) -> Vec<Option<Look>> {
        self.files.iter().map(|file| look_at(file)).collect()
    }

    /// State of the write-ahead log of the tables. While the node has the tables open, changes by
    /// other programs appear only there.
    fn look_at_log(&self) -> Option<Look> {
        let mut log = self.tables.location().file()?.as_os_str().to_owned();
        log.push("-wal");
        look_at(Path::new(&log))
    }
}

/// The states in which a reload that began at this time has read these files. It has looked at the
/// known ones before it read them: what has changed since then is read again. Of a file that the
/// configuration names since this reload, only whether it has changed since then is known.
fn seen_of(
    files: &[PathBuf],
    known: &BTreeMap<&Path, Option<Look>>,
    began: SystemTime,
) -> Vec<Option<Look>> {
    let seen = files.iter().map(|file| match known.get(file.as_path()) {
        Some(seen) => *seen,
        None => look_at(file).filter(|look| look.is_older_than(began)),
    });
    seen.collect()
}

/// Whether changes of this key apply without a restart.
fn is_read_again(key: &str) -> bool {
    let beginnings = ["auth.", "tls.", "http.tls_"];
    beginnings
        .iter()
        .any(|beginning| key.starts_with(beginning))
}

fn look_at(path: &Path) -> Option<Look> {
    let found = std::fs::metadata(path).ok()?;
    Some(Look {
        device: found.dev(),
        inode: found.ino(),
        bytes: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_files_are_read_is_read_again() {
        let directory = std::env::temp_dir().join(format!("martlet-reload-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let [held, new, late] = ["held", "new", "late"].map(|name| directory.join(name));
        std::fs::write(&held, "1").unwrap();
        std::fs::write(&new, "1").unwrap();
        let looks = |files: &[PathBuf]| files.iter().map(|file| look_at(file)).collect::<Vec<_>>();
        let before = look_at(&held);
        let known = BTreeMap::from([(held.as_path(), before)]);
        let began = SystemTime::now() + 2 * TICK;

        // Nothing has changed since the reload began.
        let files = [held.clone(), new.clone()];
        assert_eq!(seen_of(&files, &known, began), looks(&files));

        std::fs::write(&held, "22").unwrap();
        std::fs::write(&late, "1").unwrap();
        let files = [held.clone(), late.clone()];
        let seen = seen_of(&files, &known, SystemTime::now());
        assert_eq!(seen, [before, None]);
        assert_ne!(seen, looks(&files));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
