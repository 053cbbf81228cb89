//! The tables as they were when they were read: who is let in and what they may do, answered from
//! memory. Rules are shared by all who have the role or the type.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use martlet_access::hash::PasswordHash;
use martlet_access::scram::Verifier;
use martlet_access::{RuleLine, administrator_rules, default_rules, device_rules};
use martlet_broker::{Actions, Rule, Rules};

use crate::changes::{Changes, Seen};
use crate::database::{digest_key, is_in_use};
use crate::devices::{CredentialRow, DeviceRow};
use crate::rule_sets::{Owner, RuleSet};
use crate::secret::{Digest, DigestKey, is_same, read_digest};
use crate::users::UserRow;
use crate::{Registry, RegistryError, Status, now_ms};

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// These are not their credentials.
    Wrong(String),
    /// They are, or need not be looked at, and the client is not let in all the same.
    NotNow(String),
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A user's.
    User,
    /// A device's.
    Device,
}

/// All of what decides.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    /// Device and inode of the file; none: it was not there.
    file: Option<(u64, u64)>,
    seen: Seen,
    read_ms: i64,
    /// When the first credential ends that was good then.
    changes_ms: i64,
    in_use: bool,
    key: DigestKey,
    /// By role and by type, for users and devices to come.
    roles: Arc<RuleSets>,
    types: Arc<RuleSets>,
    users: HashMap<Arc<str>, Arc<UserEntry>>,
    devices: HashMap<Arc<str>, Arc<DeviceEntry>>,
    /// What nobody has who is not let in.
    closed: Arc<Rules>,
    /// Who is not known takes as long as who is.
    stranger: Option<PasswordHash>,
}

type RuleSets = HashMap<String, Arc<Rules>>;

/// What has become of the tables since they were read.
#[derive(Debug)]
pub enum Renewed {
    /// They are as they were.
    Same,
    /// Something is different about these users and devices, and nothing else.
    Changed(Arc<Snapshot>, Vec<Arc<str>>),
    /// They have to be read as a whole.
    Everything,
}

#[derive(Debug)]
struct UserEntry {
    hash: PasswordHash,
    password_set_ms: i64,
    scram: Option<Box<Verifier>>,
    enabled: bool,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct DeviceEntry {
    rules: Arc<Rules>,
    credentials: Box<[Credential]>,
    status: Status,
}

#[derive(Clone, Debug)]
struct Credential {
    digest: Digest,
    /// 0 is never.
    expires_ms: i64,
}

impl Credential {
    fn is_good(&self, now_ms: i64) -> bool {
        self.expires_ms == 0 || self.expires_ms > now_ms
    }
}

impl Snapshot {
    /// Reads the database at `path`; none if it is not there.
    ///
    /// # Errors
    /// It cannot be read, or means nothing in part.
    pub async fn load(path: &Path) -> Result<Option<Self>, RegistryError> {
        if !crate::database::is_there(path)? {
            return Ok(None);
        }
        let mut registry = Registry::open(path).await?;
        let snapshot = Self::read(&mut registry).await?;
        registry.close().await?;
        Ok(Some(snapshot))
    }

    /// Reads all tables as they are at one moment.
    ///
    /// # Errors
    /// They cannot be read, or mean nothing in part.
    pub async fn read(registry: &mut Registry) -> Result<Self, RegistryError> {
        let key = digest_key(registry).await?;
        // Before it is read: one that takes its place meanwhile is another.
        let file = file_of(registry.path());
        registry.begin_reading().await?;
        let read = Self::read_tables(registry, key, file).await;
        registry.end_reading().await?;
        read
    }

    /// Reads what has changed, which takes as long as that is much.
    ///
    /// # Errors
    /// The tables cannot be read, or mean nothing in part.
    pub async fn renew(&self) -> Result<Renewed, RegistryError> {
        if self.file.is_none() || self.file != file_of(&self.path) {
            return Ok(Renewed::Everything);
        }
        let mut registry = Registry::open(&self.path).await?;
        registry.begin_reading().await?;
        let renewed = self.read_changes(&mut registry).await;
        registry.end_reading().await?;
        registry.close().await?;
        renewed
    }

    async fn read_changes(&self, registry: &mut Registry) -> Result<Renewed, RegistryError> {
        let Changes::Of {
            users: changed_users,
            devices: changed_devices,
            seen,
        } = registry.changes_since(&self.seen).await?
        else {
            return Ok(Renewed::Everything);
        };
        if changed_users.is_empty() && changed_devices.is_empty() {
            return Ok(Renewed::Same);
        }
        let (mut users, mut devices) = (self.users.clone(), self.devices.clone());
        let mut changes_ms = self.changes_ms;
        let read_ms = now_ms();
        let mut names = Vec::new();
        for name in changed_users {
            let name: Arc<str> = name.into();
            match registry.user_row(&name).await? {
                Some(row) => users.insert(
                    Arc::clone(&name),
                    Arc::new(user_entry(row, &self.roles, &self.path)?),
                ),
                None => users.remove(&name),
            };
            names.push(name);
        }
        for id in changed_devices {
            let id: Arc<str> = id.into();
            match registry.device_row(&id).await? {
                None => devices.remove(&id),
                Some((row, credentials)) => {
                    let mut entry = device_entry(&row, &self.types, &self.path)?;
                    let credentials = credentials.iter();
                    let credentials = credentials.map(|row| credential(row, &self.path));
                    entry.credentials = credentials.collect::<Result<_, _>>()?;
                    let ends = entry.credentials.iter().map(|held| held.expires_ms);
                    changes_ms = ends
                        .filter(|ends| *ends > read_ms)
                        .fold(changes_ms, i64::min);
                    devices.insert(Arc::clone(&id), Arc::new(entry))
                }
            };
            names.push(id);
        }
        let newest = users.values().next().map(|user| &user.hash);
        let stranger = newest.map(|newest| self.stranger.as_ref().unwrap_or(newest).clone());
        let snapshot = Self {
            path: self.path.clone(),
            file: self.file,
            seen,
            read_ms,
            changes_ms,
            in_use: self.in_use,
            key: self.key.clone(),
            roles: Arc::clone(&self.roles),
            types: Arc::clone(&self.types),
            users,
            devices,
            closed: Arc::clone(&self.closed),
            stranger,
        };
        Ok(Renewed::Changed(Arc::new(snapshot), names))
    }

    async fn read_tables(
        registry: &mut Registry,
        key: DigestKey,
        file: Option<(u64, u64)>,
    ) -> Result<Self, RegistryError> {
        let path = registry.path().to_owned();
        let seen = registry.seen().await?;
        let roles = compiled(Owner::Role, registry.rule_sets(Owner::Role).await?, &path)?;
        let types = registry.rule_sets(Owner::DeviceType).await?;
        let types = compiled(Owner::DeviceType, types, &path)?;
        let mut users = HashMap::new();
        let mut stranger = None;
        for row in registry.user_rows().await? {
            let name: Arc<str> = row.user.name.as_str().into();
            let entry = user_entry(row, &roles, &path)?;
            stranger.get_or_insert_with(|| entry.hash.clone());
            users.insert(name, Arc::new(entry));
        }
        let mut devices: HashMap<Arc<str>, DeviceEntry> = HashMap::new();
        let take = |row: DeviceRow| {
            let entry = device_entry(&row, &types, &path)?;
            devices.insert(row.id.into(), entry);
            Ok(())
        };
        registry.each_device(take).await?;
        let read_ms = now_ms();
        let mut changes_ms = i64::MAX;
        let take = |row: CredentialRow| {
            let held = credential(&row, &path)?;
            if held.expires_ms > read_ms {
                changes_ms = changes_ms.min(held.expires_ms);
            }
            // Nearly all have one.
            if let Some(device) = devices.get_mut(&*row.device_id) {
                let mut all = std::mem::take(&mut device.credentials).into_vec();
                all.reserve_exact(1);
                all.push(held);
                device.credentials = all.into();
            }
            Ok(())
        };
        registry.each_credential(take).await?;
        let devices = devices.into_iter();
        Ok(Self {
            in_use: is_in_use(registry).await?,
            file,
            seen,
            key,
            read_ms,
            changes_ms,
            path,
            roles: Arc::new(roles),
            types: Arc::new(types),
            users,
            devices: devices.map(|(id, entry)| (id, Arc::new(entry))).collect(),
            closed: Arc::new(Rules::closed()),
            stranger,
        })
    }

    /// There is, or was, a user or a device.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// The file that was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When what it says is not so any more, by itself: a credential ends. Milliseconds since the
    /// Unix epoch.
    pub fn changes_at_ms(&self) -> Option<i64> {
        (self.changes_ms < i64::MAX).then_some(self.changes_ms)
    }

    /// Whose name this is; none: nobody's.
    pub fn known(&self, name: &str) -> Option<Known> {
        if self.devices.contains_key(name) {
            return Some(Known::Device);
        }
        self.users.contains_key(name).then_some(Known::User)
    }

    /// What somebody may do; none: nobody has that name. Who is not let in may do nothing.
    pub fn rules_of(&self, name: &str) -> Option<&Arc<Rules>> {
        if let Some(device) = self.devices.get(name) {
            let is_active = device.status == Status::Active;
            return Some(if is_active {
                &device.rules
            } else {
                &self.closed
            });
        }
        let user = self.users.get(name)?;
        Some(if user.enabled {
            &user.rules
        } else {
            &self.closed
        })
    }

    /// Whether a password is a user's; none: there is no such user. Takes as long as the hash does.
    /// The answer is a hash that ought to be renewed, if it is weak.
    ///
    /// # Errors
    /// It is not, or the user is not let in.
    pub fn check_user(
        &self,
        name: &str,
        client_id: &str,
        password: &[u8],
    ) -> Option<Result<Option<&PasswordHash>, Refusal>> {
        let user = self.users.get(name)?;
        if !user.hash.is_of(password) {
            let why = "the password is not that of the registry".to_owned();
            return Some(Err(Refusal::Wrong(why)));
        }
        Some(
            self.admits(name, client_id)
                .map(|()| user.hash.is_weak().then_some(&user.hash)),
        )
    }

    /// There are users, whose passwords take time.
    pub fn has_users(&self) -> bool {
        self.stranger.is_some()
    }

    /// Takes as long as a wrong password of a user does.
    pub fn pretend(&self, password: &[u8]) {
        if let Some(stranger) = &self.stranger {
            let _ = stranger.is_of(password);
        }
    }

    /// A secret of these tables for something else, the same after each start.
    pub fn key_for(&self, what: &[u8]) -> [u8; 32] {
        self.key.digest(what)
    }

    /// All users and devices, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let users = self.users.keys().map(|name| &**name);
        users.chain(self.devices.keys().map(|id| &**id))
    }

    /// The hash of a user's password, as text.
    pub fn hash_of(&self, name: &str) -> Option<String> {
        self.users.get(name).map(|user| user.hash.text())
    }

    /// What is kept of a user's password for SCRAM-SHA-256; none: there is no such user, or it is a
    /// device, which has no password.
    ///
    /// # Errors
    /// The user is not let in.
    pub fn scram(&self, name: &str, client_id: &str) -> Option<Result<Option<&Verifier>, Refusal>> {
        let user = self.users.get(name)?;
        Some(self.admits(name, client_id).map(|()| user.scram.as_deref()))
    }

    /// Whether a secret is a device's, and which Client Identifier it has; the answer is when the
    /// credential ends, 0 for never. Quick.
    ///
    /// # Errors
    /// It is not, or the device is not let in.
    pub fn check_device(
        &self,
        id: &str,
        client_id: &str,
        secret: &[u8],
        now_ms: i64,
    ) -> Option<Result<i64, Refusal>> {
        let device = self.devices.get(id)?;
        let digest = self.key.digest(secret);
        let mut found = None;
        for credential in &device.credentials {
            if is_same(&credential.digest, &digest) {
                found = Some(credential);
            }
        }
        let Some(credential) = found else {
            let why = format!("that is no credential of the device {id}");
            return Some(Err(Refusal::Wrong(why)));
        };
        if !credential.is_good(now_ms) {
            return Some(Err(Refusal::NotNow(format!(
                "this credential of the device {id} has expired"
            ))));
        }
        Some(self.admits(id, client_id).map(|()| credential.expires_ms))
    }

    /// Whether somebody who has proved a name is let in, by this Client Identifier.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, name: &str, client_id: &str) -> Result<(), Refusal> {
        if let Some(device) = self.devices.get(name) {
            if device.status != Status::Active {
                return Err(Refusal::NotNow(format!(
                    "device {name} is {}",
                    device.status
                )));
            }
            if client_id != name {
                return Err(Refusal::NotNow(format!(
                    "the Client Identifier of the device {name} must be {name}, which its topics \
                     go by; it is {client_id:?}"
                )));
            }
        } else if self.devices.contains_key(client_id) {
            // Else whoever comes first keeps the device out.
            return Err(Refusal::NotNow(format!(
                "the Client Identifier {client_id} is the device's of that id alone"
            )));
        } else if self.users.get(name).is_some_and(|user| !user.enabled) {
            return Err(Refusal::NotNow(format!("user {name} is disabled")));
        }
        Ok(())
    }

    /// Who may have been let in by these tables and would not be by newer ones, by what they proved
    /// then.
    pub fn no_longer_valid(&self, newer: &Self) -> Vec<&str> {
        let is_gone = |name: &&str| self.is_gone(newer, name);
        self.names().filter(is_gone).collect()
    }

    /// Whether that is so of this user or device.
    pub fn is_gone(&self, newer: &Self, name: &str) -> bool {
        self.is_user_gone(newer, name) || self.is_device_gone(newer, name)
    }

    fn is_user_gone(&self, newer: &Self, name: &str) -> bool {
        let Some(old) = self.users.get(name) else {
            return false;
        };
        let is_good = |new: &Arc<UserEntry>| {
            Arc::ptr_eq(old, new) || new.enabled && new.password_set_ms == old.password_set_ms
        };
        old.enabled && !newer.users.get(name).is_some_and(is_good)
    }

    fn is_device_gone(&self, newer: &Self, id: &str) -> bool {
        let Some(old) = self.devices.get(id) else {
            return false;
        };
        let is_good = |new: &Arc<DeviceEntry>| {
            let has = |credential: &Credential| {
                let mut all = new.credentials.iter();
                all.any(|new| new.digest == credential.digest && new.is_good(newer.read_ms))
            };
            let mut before = old.credentials.iter();
            new.status == Status::Active && before.all(|old| !old.is_good(self.read_ms) || has(old))
        };
        old.status == Status::Active && !newer.devices.get(id).is_some_and(is_good)
    }
}

fn file_of(path: &Path) -> Option<(u64, u64)> {
    let found = path.metadata().ok()?;
    Some((found.dev(), found.ino()))
}

fn damaged(path: &Path, what: String) -> RegistryError {
    RegistryError::Damaged {
        path: path.to_owned(),
        what,
    }
}

fn user_entry(row: UserRow, roles: &RuleSets, path: &Path) -> Result<UserEntry, RegistryError> {
    let name = row.user.name;
    let hash = PasswordHash::parse(&row.password_hash)
        .map_err(|expected| damaged(path, format!("user {name}: expected {expected}")))?;
    let rules = roles.get(&*row.user.role);
    let rules = rules.ok_or_else(|| damaged(path, format!("user {name} has no role")))?;
    let scram = match row.scram_verifier.as_str() {
        "" => None,
        text => Some(Box::new(Verifier::parse(text).map_err(|expected| {
            damaged(path, format!("user {name}: expected {expected}"))
        })?)),
    };
    Ok(UserEntry {
        scram,
        hash,
        password_set_ms: row.password_set_ms,
        enabled: row.user.enabled,
        rules: Arc::clone(rules),
    })
}

/// Without its credentials.
fn device_entry(
    row: &DeviceRow,
    types: &RuleSets,
    path: &Path,
) -> Result<DeviceEntry, RegistryError> {
    let rules = types.get(&*row.device_type);
    let rules = rules.ok_or_else(|| damaged(path, format!("device {} has no type", row.id)))?;
    Ok(DeviceEntry {
        rules: Arc::clone(rules),
        credentials: Box::default(),
        status: row.status,
    })
}

fn credential(row: &CredentialRow, path: &Path) -> Result<Credential, RegistryError> {
    let digest = read_digest(&row.digest)
        .ok_or_else(|| damaged(path, format!("a credential of {} is none", row.device_id)))?;
    Ok(Credential {
        digest,
        expires_ms: row.expires_ms,
    })
}

/// The rules of each, by name.
fn compiled(owner: Owner, sets: Vec<RuleSet>, path: &Path) -> Result<RuleSets, RegistryError> {
    let mut all = HashMap::new();
    for set in sets {
        let rules = match (owner, &*set.name) {
            (Owner::Role, "administrator") => administrator_rules(),
            (Owner::Role, "user") => default_rules(),
            (Owner::DeviceType, "device") => device_rules(),
            (_, name) => {
                let source = |number| format!("{} {name} rule {number}", owner.word());
                let rules = compile(&set.rules, source);
                Arc::new(rules.map_err(|why| RegistryError::Damaged {
                    path: path.to_owned(),
                    what: format!("{} {name}: {why}", owner.word()),
                })?)
            }
        };
        all.insert(set.name, rules);
    }
    Ok(all)
}

/// What no rule permits is forbidden, subscribing too.
fn compile(lines: &[RuleLine], source: impl Fn(usize) -> String) -> Result<Rules, String> {
    let rules = lines.iter().enumerate().map(|(number, line)| Rule {
        actions: line.actions,
        allows: line.allows,
        filter: line.filter.clone(),
        source: source(number + 1).into(),
    });
    Rules::compile(rules.collect(), Actions::NONE)
        .map_err(|error| format!("rule {}: {error}", error.rule + 1))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use martlet_broker::Names;

    use super::*;
    use crate::wait;

    /// A directory that is gone with the test.
    pub(crate) struct Place(PathBuf);

    impl Place {
        pub(crate) fn new(name: &str) -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("martlet-registry-{}-{number} {name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn db(&self) -> PathBuf {
            self.0.join(crate::FILE)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn rule(line: &str) -> RuleLine {
        RuleLine::parse(line).unwrap()
    }

    #[test]
    fn a_users_role_is_what_they_may_do() {
        let place = Place::new("users");
        let snapshot = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            assert!(!Snapshot::read(&mut registry).await?.is_in_use());
            let rules = [
                rule("topic deny a/secret"),
                rule("topic read a/#"),
                rule("pattern write own/%u/#"),
            ];
            registry.add_rule_set(Owner::Role, "reader", &rules).await?;
            let told = registry.rule_sets(Owner::Role).await?;
            assert_eq!(told[1].rules, rules);
            registry.add_user("ann", "reader", "secret").await?;
            registry.add_user("root", "administrator", "secret").await?;
            let again = registry.add_user("ann", "user", "other").await;
            assert!(
                again
                    .unwrap_err()
                    .to_string()
                    .contains("martlet user passwd ann")
            );
            let unknown = registry.add_user("bob", "nothing", "x").await;
            assert!(unknown.unwrap_err().to_string().contains("no role nothing"));
            let used = registry.remove_rule_set(Owner::Role, "reader").await;
            assert!(used.unwrap_err().to_string().starts_with("ann has"));
            Snapshot::read(&mut registry).await
        })
        .unwrap();
        assert!(snapshot.is_in_use());
        assert!(snapshot.check_user("ann", "c", b"secret").unwrap().is_ok());
        assert!(snapshot.check_user("ann", "c", b"Secret").unwrap().is_err());
        assert!(snapshot.check_user("bob", "c", b"x").is_none());
        let names = Names {
            client_id: "c",
            user_name: "ann",
        };
        let rules = snapshot.rules_of("ann").unwrap();
        assert!(rules.topic(Actions::RECEIVE, "a/b", names).allowed);
        assert!(!rules.topic(Actions::RECEIVE, "a/secret", names).allowed);
        assert!(rules.topic(Actions::PUBLISH, "own/ann/x", names).allowed);
        assert!(!rules.topic(Actions::PUBLISH, "own/bob/x", names).allowed);
        assert!(rules.filter("a/#", names).allowed && !rules.filter("#", names).allowed);
        let everything = snapshot.rules_of("root").unwrap();
        assert!(everything.filter("$SYS/#", names).allowed);
    }

    #[test]
    fn a_device_has_its_secrets_its_client_identifier_and_its_status() {
        let place = Place::new("devices");
        let (first, second, snapshot) = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            let first = registry.add_device("d1", None, "device").await?;
            let clash = registry.add_user("d1", "user", "x").await;
            assert!(clash.unwrap_err().to_string().contains("a device d1"));
            assert!(registry.add_device("a/b", None, "device").await.is_err());
            let second = registry.rotate("d1", Duration::from_secs(60)).await?;
            Ok((first, second, Snapshot::read(&mut registry).await?))
        })
        .unwrap();
        let check = |client_id: &str, secret: &Secret, now: i64| {
            let found = snapshot.check_device("d1", client_id, secret.text().as_bytes(), now);
            found.unwrap()
        };
        let now = now_ms();
        assert_eq!(check("d1", &second, now), Ok(0));
        let ends = check("d1", &first, now).unwrap();
        assert!((now..=now + 60_000).contains(&ends), "{ends} {now}");
        assert!(
            matches!(check("d1", &first, ends), Err(Refusal::NotNow(why)) if why.contains("has expired"))
        );
        assert!(
            matches!(check("d2", &second, now), Err(Refusal::NotNow(why)) if why.contains("Client Identifier"))
        );
        assert!(matches!(
            snapshot.admits("ann", "d1"),
            Err(Refusal::NotNow(_))
        ));
        assert_eq!(snapshot.admits("ann", "d2"), Ok(()));
        let wrong = snapshot.check_device("d1", "d1", b"guess", now).unwrap();
        assert!(matches!(wrong, Err(Refusal::Wrong(_))));
        assert!(snapshot.check_device("d2", "d2", b"guess", now).is_none());
    }

    use crate::Secret;

    #[test]
    fn who_is_not_let_in_any_more_is_named_and_nobody_else() {
        let place = Place::new("revoked");
        wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            for name in ["removed", "changed", "disabled", "renewed", "stays"] {
                registry.add_user(name, "user", "secret").await?;
            }
            for id in ["d-removed", "d-inactive", "d-rotated", "d-grace", "d-stays"] {
                registry.add_device(id, None, "device").await?;
            }
            let before = Snapshot::read(&mut registry).await?;
            registry.remove_user("removed").await?;
            registry.set_password("changed", "other").await?;
            registry.set_user("disabled", None, Some(false)).await?;
            let hash = before.users["renewed"].hash.clone();
            registry.renew_hash("renewed", &hash, b"secret").await?;
            registry
                .set_user("stays", Some("administrator"), None)
                .await?;
            registry.remove_device("d-removed").await?;
            let inactive = Some(Status::Inactive);
            registry
                .set_device("d-inactive", inactive, None, None)
                .await?;
            registry.rotate("d-rotated", Duration::ZERO).await?;
            registry.rotate("d-grace", Duration::from_secs(60)).await?;
            let after = Snapshot::read(&mut registry).await?;
            let mut gone = before.no_longer_valid(&after);
            gone.sort_unstable();
            let expected = [
                "changed",
                "d-inactive",
                "d-removed",
                "d-rotated",
                "disabled",
                "removed",
            ];
            assert_eq!(gone, expected);
            assert_eq!(after.no_longer_valid(&after), Vec::<&str>::new());
            assert!(after.users["renewed"].hash != hash);
            assert!(after.check_user("renewed", "c", b"secret").unwrap().is_ok());
            let why = after.check_user("disabled", "c", b"secret").unwrap();
            assert!(matches!(why, Err(Refusal::NotNow(_))));
            assert!(
                !after
                    .rules_of("d-inactive")
                    .unwrap()
                    .filter(
                        "d/d-inactive/#",
                        Names {
                            client_id: "d-inactive",
                            user_name: "d-inactive",
                        }
                    )
                    .allowed
            );
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn many_devices_are_read_together_and_none_is_left_out() {
        let place = Place::new("many");
        let (secrets, snapshot) = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            let mut secrets = Vec::new();
            for number in 0..500 {
                let id = format!("d {number} \u{e4}|;");
                let secret = registry.add_device(&id, None, "device").await?;
                secrets.push((id, secret));
            }
            Ok((secrets, Snapshot::read(&mut registry).await?))
        })
        .unwrap();
        assert_eq!(snapshot.names().count(), secrets.len());
        for (id, secret) in &secrets {
            let found = snapshot.check_device(id, id, secret.text().as_bytes(), now_ms());
            assert_eq!(found, Some(Ok(0)), "{id}");
        }
    }

    /// What two readings say of everybody.
    fn said(snapshot: &Snapshot) -> Vec<(String, bool, usize, bool)> {
        let mut names: Vec<_> = snapshot.names().map(str::to_owned).collect();
        names.sort_unstable();
        let said = |name: String| {
            let device = snapshot.devices.get(&*name);
            let is_let_in = snapshot.admits(&name, &name).is_ok();
            let rules = snapshot.rules_of(&name).unwrap().rules().len();
            let credentials = device.map_or(0, |device| device.credentials.len());
            let text = format!("{name} {:?} {rules}", snapshot.hash_of(&name));
            (text, is_let_in, credentials, snapshot.has_users())
        };
        names.into_iter().map(said).collect()
    }

    #[test]
    fn what_is_read_of_changes_is_what_is_read_of_everything() {
        let place = Place::new("changes");
        wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            for number in 0..5 {
                registry
                    .add_user(&format!("u{number}"), "user", "x")
                    .await?;
                let id = format!("d{number}");
                registry.add_device(&id, None, "device").await?;
            }
            let mut held = Arc::new(Snapshot::read(&mut registry).await?);
            assert!(matches!(held.renew().await?, Renewed::Same));
            for step in 0..12 {
                let mut expected = vec!["d1"];
                match step {
                    0 => drop(registry.rotate("d1", Duration::from_secs(60)).await?),
                    1 => {
                        let status = Some(Status::Inactive);
                        registry.set_device("d1", status, None, None).await?;
                    }
                    2 => registry.remove_device("d1").await?,
                    3 => drop(registry.add_device("d1", None, "device").await?),
                    4 => registry.set_password("u1", "other").await?,
                    5 => registry.set_user("u1", None, Some(false)).await?,
                    6 => registry.remove_user("u1").await?,
                    7 => registry.add_user("u1", "administrator", "y").await?,
                    // By hand, and two at once.
                    8 => {
                        let sql = "UPDATE users SET enabled = 0 WHERE name = 'u1'; \
                                   UPDATE devices SET status = 'maintenance' WHERE id = 'd1'";
                        let done = sqlx::raw_sql(sql).execute(&mut registry.connection).await;
                        done.map_err(crate::database::database_error(registry.path()))?;
                        expected = vec!["d1", "u1"];
                    }
                    _ => {
                        registry.remove_user(&format!("u{}", step - 7)).await?;
                        expected = vec!["u2", "u3", "u4"];
                        expected.retain(|name| *name == format!("u{}", step - 7));
                    }
                }
                if (4..8).contains(&step) {
                    expected = vec!["u1"];
                }
                let Renewed::Changed(newer, names) = held.renew().await? else {
                    panic!("{step}: everything");
                };
                let mut names: Vec<_> = names.iter().map(|name| &**name).collect();
                names.sort_unstable();
                assert_eq!(names, expected, "{step}");
                let whole = Snapshot::read(&mut registry).await?;
                assert_eq!(said(&newer), said(&whole), "{step}");
                // Who looks too early reads for nothing.
                assert!(newer.changes_ms <= whole.changes_ms, "{step}");
                let mut gone = held.no_longer_valid(&newer);
                let mut gone_of_whole = held.no_longer_valid(&whole);
                gone.sort_unstable();
                gone_of_whole.sort_unstable();
                assert_eq!(gone, gone_of_whole, "{step}");
                held = newer;
            }
            registry.add_rule_set(Owner::Role, "r", &[]).await?;
            assert!(matches!(held.renew().await?, Renewed::Everything));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn another_database_or_too_much_that_was_missed_is_read_as_a_whole() {
        let place = Place::new("others");
        wait(async {
            let failed = crate::database::database_error(&place.db());
            let mut registry = Registry::open(&place.db()).await?;
            registry.add_device("d", None, "device").await?;
            let held = Snapshot::read(&mut registry).await?;
            let forget = "DELETE FROM changes WHERE number = (SELECT MAX(number) FROM changes)";
            let done = sqlx::raw_sql(forget)
                .execute(&mut registry.connection)
                .await;
            done.map_err(&failed)?;
            assert!(matches!(held.renew().await?, Renewed::Everything));
            let held = Snapshot::read(&mut registry).await?;
            // As many changes as before, but others.
            registry.rotate("d", Duration::ZERO).await?;
            let other = Snapshot {
                seen: Seen::default(),
                ..held
            };
            assert!(matches!(other.renew().await?, Renewed::Everything));
            let held = Snapshot::read(&mut registry).await?;
            let mark = "UPDATE changes SET mark = 'another'";
            let done = sqlx::raw_sql(mark).execute(&mut registry.connection).await;
            done.map_err(&failed)?;
            assert!(matches!(held.renew().await?, Renewed::Everything));
            let held = Snapshot::read(&mut registry).await?;
            for _ in 0..2_100 {
                let done = sqlx::raw_sql("UPDATE devices SET name = 'x'");
                let done = done.execute(&mut registry.connection).await;
                done.map_err(&failed)?;
            }
            assert!(matches!(held.renew().await?, Renewed::Everything));
            let held = Snapshot::read(&mut registry).await?;
            registry.close().await?;
            let copy = place.db().with_extension("copy");
            std::fs::copy(place.db(), &copy).unwrap();
            std::fs::rename(&copy, place.db()).unwrap();
            assert!(matches!(held.renew().await?, Renewed::Everything));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_node_stays_closed_when_the_last_user_is_removed() {
        let place = Place::new("last");
        let snapshot = wait(async {
            let mut registry = Registry::open(&place.db()).await?;
            registry.add_user("one", "user", "secret").await?;
            registry.remove_user("one").await?;
            registry.close().await?;
            Snapshot::load(&place.db()).await
        });
        let snapshot = snapshot.unwrap().unwrap();
        assert!(snapshot.is_in_use() && snapshot.known("one").is_none());
    }
}
