//! Converts keys to the authentication policy: the sources of credentials and the rules of each
//! listener.
//!
//! Files are read here, at the start and at each reload. A requested file is never skipped: if one
//! is unreadable or invalid, an error is returned and the former policy stays in force.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use martlet_access::{AclFile, PASSWORD_MIN, PasswordFile, Plain, Subscribing, credentials};
use martlet_broker::Realm;
use martlet_control::UserConfiguration;
use martlet_control::authentication::sources::{
    CertificateNames, Credentials, Hashing, Hook, HookSettings, KeySource, PasswordFileSource,
    People, RegistrySource, TokenKeys, TokenSettings, Tokens,
};
use martlet_control::authentication::{Chain, CredentialSource, Lockout, Policy};
use martlet_control::text::typed;
use martlet_registry::{COMMON_TENANT, Owner, RulesPlace, Snapshot};

use super::data_dir::options_of;
use super::error::ConfigError;
use super::load::{Effective, ListenerTable};
use super::regular_file;
use super::schema::Enabled;

/// Name of the warning about a listener at which logins are not checked against the tables.
pub(crate) const IGNORES_TABLES: &str = "listeners.ignore_tables";

/// Whether a listener has a key that gives it a separate realm.
pub(super) fn has_own_credentials(table: &ListenerTable) -> bool {
    table.password_file.is_some()
        || table.acl_file.is_some()
        || table.certificate_user_name.is_some()
}

/// Builds the authentication policy.
#[derive(Debug)]
pub(crate) struct PolicyReader<'a> {
    effective: &'a Effective,
    hashing: Hashing,
    /// The tables, if they are used.
    registry: Option<Arc<Snapshot>>,
    /// The tables, if no login is checked against them and they are not disabled.
    idle_tables: Option<Arc<Snapshot>>,
    /// Whether the tables have users or devices but are not used as a source.
    has_unasked: bool,
    realms: BTreeMap<Realm, Chain>,
    /// Files that were read.
    pub(crate) files: Vec<PathBuf>,
    /// Warnings about the contents of the files.
    pub(crate) warnings: Vec<String>,
    /// Places of passwords that could be guessed.
    pub(crate) weak_passwords: Vec<String>,
    /// Rules that give no client any rights.
    pub(crate) locked_out: Vec<String>,
}

/// A source by its name in `auth.order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Certificate,
    Credentials,
    Registry,
    PasswordFile,
    Token,
    Hook,
}

const KINDS: &[(&str, Kind)] = &[
    ("certificate", Kind::Certificate),
    ("credentials", Kind::Credentials),
    ("registry", Kind::Registry),
    ("password-file", Kind::PasswordFile),
    ("jwt", Kind::Token),
    ("hook", Kind::Hook),
];

/// The lockout for wrong credentials. It also applies to HTTP while no client has to log in.
pub(crate) fn lockout(effective: &Effective) -> Lockout {
    let auth = &effective.settings().auth;
    Lockout {
        failures: auth.lockout_failures,
        lasts: Duration::from_secs(auth.lockout_secs),
    }
}

/// One per process: a reload does not change which password matches which hash.
static HASHING: OnceLock<Hashing> = OnceLock::new();

/// User names known from files, for one listener or for all.
#[derive(Debug, Default)]
struct Users {
    names: Vec<String>,
    /// Places where they are listed.
    places: Vec<String>,
    /// Whether other sources may have further users.
    others: bool,
}

/// Whether the tables of users and devices were read before a configuration is resolved.
#[derive(Clone, Debug)]
pub(crate) enum TablesRead {
    /// They still have to be read.
    NotYet,
    /// They still have to be read; this is the former snapshot.
    After(Arc<Snapshot>),
    /// The snapshot of the tables; `None` if they are empty.
    Given(Option<Arc<Snapshot>>),
}

impl<'a> PolicyReader<'a> {
    pub(crate) fn new(effective: &'a Effective, tables: TablesRead) -> Result<Self, ConfigError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let hashing = HASHING.get_or_init(|| Hashing::new(cores()));
        let auth = &effective.settings().auth;
        let remembered = Duration::from_secs(auth.remember_secs);
        let mut reader = Self {
            effective,
            hashing: hashing.remembering(remembered),
            registry: None,
            idle_tables: None,
            has_unasked: false,
            files: Vec::new(),
            realms: BTreeMap::new(),
            warnings: Vec::new(),
            weak_passwords: Vec::new(),
            locked_out: Vec::new(),
        };
        reader.registry = reader.read_registry(tables)?;
        reader.warn_of_locked_tables();
        if auth.registry == Enabled::Auto
            && let Some(why) = tables_left_out(effective)
            && reader.registry.take().is_some()
        {
            reader.has_unasked = true;
            let warning = format!("users and devices of martlet.db are rejected: {why}");
            reader.warnings.push(warning);
        }
        if let Some(chain) = reader.chain(None)? {
            reader.realms.insert(Realm::COMMON, chain);
        }
        Ok(reader)
    }

    /// Realm of a listener, with its sources; `None` if authentication is off.
    pub(crate) fn realm_of(
        &mut self,
        table: Option<&ListenerTable>,
        name: &str,
    ) -> Result<Option<Realm>, ConfigError> {
        let Some(table) = table.filter(|table| has_own_credentials(table)) else {
            let is_common = self.realms.contains_key(&Realm::COMMON);
            return Ok(is_common.then_some(Realm::COMMON));
        };
        let Some(chain) = self.chain(Some(table))? else {
            return Ok(None);
        };
        let mut realm = Realm::numbered(crc32c_of(name));
        while [Realm::COMMON, Realm::OWN_RULES].contains(&realm) || self.realms.contains_key(&realm)
        {
            realm.0 = realm.0.wrapping_add(1);
        }
        self.realms.insert(realm, chain);
        Ok(Some(realm))
    }

    /// The tables, if no login is checked against them and they are not disabled.
    pub(crate) fn idle_tables(&self) -> Option<&Arc<Snapshot>> {
        self.idle_tables.as_ref()
    }

    /// Whether any client can have credentials in this realm.
    pub(crate) fn knows_anybody(&self, realm: Realm) -> bool {
        let chain = self.realms.get(&realm);
        chain.is_some_and(|chain| !chain.sources.is_empty())
    }

    /// Returns the whole policy, if a listener requires authentication.
    pub(crate) fn policy(self) -> Option<Arc<Policy>> {
        if self.realms.is_empty() {
            return None;
        }
        let auth = &self.effective.settings().auth;
        let mut policy = Policy::new(self.realms);
        policy.remembered = Duration::from_secs(auth.remember_secs);
        policy.refusal_remembered = Duration::from_secs(auth.refusal_remember_secs);
        policy.fake_verifier_key = self
            .registry
            .map(|tables| tables.key_for(b"made-up verifiers"));
        policy.idle_tables = self.idle_tables;
        policy.scram = auth.scram;
        policy.lockout = lockout(self.effective);
        Some(Arc::new(policy))
    }

    fn chain(&mut self, table: Option<&ListenerTable>) -> Result<Option<Chain>, ConfigError> {
        let enabled = self.effective.settings().auth.enabled;
        if enabled == Enabled::Off {
            return Ok(None);
        }
        let acl = self.acl_file(table)?.map(Arc::new);
        let people = People::new(acl.clone(), &super::http::iotflow_base(self.effective)?);
        let mut users = Users::default();
        let mut sources: Vec<Arc<dyn CredentialSource>> = Vec::new();
        for kind in self.order()? {
            let source: Option<Arc<dyn CredentialSource>> = match kind {
                Kind::Certificate => self.certificates(table, &people),
                Kind::Credentials | Kind::Registry | Kind::Token | Kind::Hook
                    if table.is_some() =>
                {
                    None
                }
                Kind::Registry => self.registry(),
                Kind::Token => self.tokens(&people)?,
                Kind::Hook => self.hook(&people)?,
                Kind::Credentials => self.credentials(&people, &mut users)?,
                Kind::PasswordFile => self.password_file(table, &people, &mut users)?,
            };
            let is_listed = matches!(kind, Kind::Credentials | Kind::PasswordFile);
            users.others |= source.is_some() && !is_listed && kind != Kind::Registry;
            sources.extend(source);
        }
        if let Some(acl) = &acl {
            self.warn_of_locked_out(acl, &users);
        }
        let has_acl = !self.acl_path(table).is_empty();
        // A listener with separate keys is never open because these are empty. Nor is a listener
        // open because its users are not checked anywhere.
        let is_bare = sources.is_empty() && !has_acl && !self.has_unasked;
        if is_bare && enabled != Enabled::On && table.is_none() {
            return Ok(None);
        }
        let anonymous = people.rules_of(None);
        let path = self.acl_path(table);
        Ok(Some(Chain {
            sources,
            anonymous,
            acl_file: (!path.is_empty()).then(|| path.into()),
            acl_users: acl
                .iter()
                .flat_map(|acl| acl.users())
                .map(Into::into)
                .collect(),
        }))
    }

    fn order(&self) -> Result<Vec<Kind>, ConfigError> {
        let mut order = Vec::new();
        for name in self.effective.settings().auth.order.split(',') {
            let name = name.trim();
            let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
                return Err(ConfigError::Unusable(format!(
                    "auth.order: unknown source {name:?}, expected some of {}",
                    known.join(", ")
                )));
            };
            if order.contains(kind) {
                let text = format!("auth.order names {name} twice");
                return Err(ConfigError::Unusable(text));
            }
            order.push(*kind);
        }
        for (name, kind) in KINDS {
            if !order.contains(kind) && self.is_configured(*kind) {
                return Err(ConfigError::Unusable(format!(
                    "{name} is configured, but not listed in auth.order: add it there, or remove \
                     its configuration"
                )));
            }
        }
        Ok(order)
    }

    fn is_configured(&self, kind: Kind) -> bool {
        let auth = &self.effective.settings().auth;
        match kind {
            Kind::Certificate => auth.certificate_user_name.is_some(),
            Kind::Credentials => !auth.credentials.expose().is_empty(),
            Kind::Registry => self.registry.is_some(),
            Kind::PasswordFile => !auth.password_file.is_empty(),
            Kind::Token => !auth.jwt_keys.is_empty(),
            Kind::Hook => !auth.hook_url.is_empty(),
        }
    }

    /// The ACL file of the listener if it has separate keys, otherwise of the node; empty if there
    /// is none.
    fn acl_path<'b>(&'b self, table: Option<&'b ListenerTable>) -> &'b str {
        match table {
            None => &self.effective.settings().auth.acl_file,
            Some(table) => table.acl_file.as_deref().unwrap_or_default(),
        }
    }

    fn certificates(
        &mut self,
        table: Option<&ListenerTable>,
        people: &People,
    ) -> Option<Arc<dyn CredentialSource>> {
        let field = match table {
            None => self.effective.settings().auth.certificate_user_name,
            Some(table) => table.certificate_user_name.flatten(),
        }?;
        let ignores = table.is_some_and(|table| table.ignore_tables == Some(true));
        let registry = self.registry.clone().filter(|_| !ignores);
        if ignores && self.registry.is_some() {
            self.warnings.push(format!(
                "{IGNORES_TABLES} is true for a listener with its own certificate_user_name: \
                 clients with a certificate are accepted there without a check of the tables of \
                 users and devices, including disabled and deleted devices"
            ));
        }
        // A user removed from the tables may still have a long-lived valid certificate.
        let has_acl = !self.acl_path(table).is_empty();
        let is_strict = registry.is_some() && !has_acl;
        let names = CertificateNames::new(field, people.clone(), registry);
        let names = names.alone(table.is_some());
        Some(Arc::new(names.of_registry_alone(is_strict)))
    }

    /// Reads the tables of the data directory, if any login depends on them. They are watched in
    /// any case, because the first user may be added at any time.
    fn read_registry(&mut self, read: TablesRead) -> Result<Option<Arc<Snapshot>>, ConfigError> {
        let auth = &self.effective.settings().auth;
        let is_wanted = auth.registry == Enabled::On;
        if [auth.registry, auth.enabled].contains(&Enabled::Off) {
            return Ok(None);
        }
        let location = super::registry::location(self.effective)?;
        let base = super::http::iotflow_base(self.effective)?;
        let load = |location| martlet_registry::wait(Snapshot::load_with(location, base.clone()));
        let read = match read {
            TablesRead::Given(given) => Ok(given),
            TablesRead::NotYet => load(&location).map(|loaded| loaded.map(Arc::new)),
            TablesRead::After(older) => load(&location)
                .map(|loaded| loaded.map(|tables| Arc::new(tables.with_uses_of(&older)))),
        };
        self.files.extend(location.file().map(Path::to_owned));
        let read = read.map_err(|error| ConfigError::Unusable(error.to_string()))?;
        match read {
            Some(snapshot) if is_wanted || snapshot.is_in_use() => Ok(Some(snapshot)),
            None if is_wanted => Err(ConfigError::Unusable(format!(
                "auth.registry is on, but no user or device exists: martlet user add {}NAME",
                options_of(self.effective)
            ))),
            idle => {
                self.idle_tables = idle;
                Ok(None)
            }
        }
    }

    fn registry(&self) -> Option<Arc<dyn CredentialSource>> {
        let snapshot = Arc::clone(self.registry.as_ref()?);
        Some(Arc::new(RegistrySource::new(
            snapshot,
            self.hashing.clone(),
        )))
    }

    fn credentials(
        &mut self,
        people: &People,
        known: &mut Users,
    ) -> Result<Option<Arc<dyn CredentialSource>>, ConfigError> {
        let text = self.effective.settings().auth.credentials.expose();
        if text.is_empty() {
            return Ok(None);
        }
        let users = credentials(text).map_err(|why| {
            let source = self.effective.source(key!(auth.credentials));
            ConfigError::Unusable(format!("{source}: auth.credentials: {why}"))
        })?;
        let place = self.effective.name_of(key!(auth.credentials));
        let short = users.iter().enumerate().filter(|(_, user)| user.is_short());
        let short: Vec<usize> = short.map(|(at, _)| at + 1).collect();
        self.warn_of_short(place, "entry", "entries", &short);
        known
            .names
            .extend(users.iter().map(|user| user.user_name.to_string()));
        known.places.push(place.to_owned());
        let credentials = Credentials::new(users, place.to_owned(), people.clone());
        Ok(Some(Arc::new(credentials)))
    }

    fn tokens(
        &mut self,
        people: &People,
    ) -> Result<Option<Arc<dyn CredentialSource>>, ConfigError> {
        let auth = &self.effective.settings().auth;
        let path = auth.jwt_keys.clone();
        if path.is_empty() {
            let asked = [
                (key!(auth.jwt_issuer), &auth.jwt_issuer),
                (key!(auth.jwt_audience), &auth.jwt_audience),
                (key!(auth.jwt_client_claim), &auth.jwt_client_claim),
            ];
            for (key, _) in asked.into_iter().filter(|(_, text)| !text.is_empty()) {
                let text = format!("{key} is set, but without auth.jwt_keys no token is accepted");
                self.warnings.push(text);
            }
            return Ok(None);
        }
        let unusable = |why: String| ConfigError::Unusable(format!("{path}: {why}"));
        let keys = if path.contains("://") {
            let refresh = Duration::from_secs(auth.jwt_refresh_secs);
            KeySource::fetched(&path, refresh, auth.jwt_algorithm)
                .map_err(|why| ConfigError::Unusable(format!("auth.jwt_keys: {why}")))?
        } else if path.starts_with("http:") || path.starts_with("https:") {
            // The value may contain a password, so it is not shown.
            let why = "auth.jwt_keys: expected https://HOST/… or a file".to_owned();
            return Err(ConfigError::Unusable(why));
        } else {
            let bytes = self.read(&path)?;
            let keys = TokenKeys::read(&bytes, auth.jwt_algorithm).map_err(unusable)?;
            KeySource::Read(Arc::new(keys))
        };
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let settings = TokenSettings {
            issuer: text(&auth.jwt_issuer),
            audience: text(&auth.jwt_audience),
            user_claim: text(&auth.jwt_user_claim).unwrap_or_else(|| "sub".to_owned()),
            client_claim: text(&auth.jwt_client_claim),
        };
        Ok(Some(Arc::new(Tokens::new(keys, settings, people.clone()))))
    }

    fn hook(&self, people: &People) -> Result<Option<Arc<dyn CredentialSource>>, ConfigError> {
        let auth = &self.effective.settings().auth;
        let url = &auth.hook_url;
        if url.is_empty() {
            return Ok(None);
        }
        let settings = HookSettings {
            url: url.clone(),
            form: auth.hook_form,
            timeout: Duration::from_millis(auth.hook_timeout_ms),
            at_once: auth.hook_concurrency,
        };
        let hook = Hook::new(settings, people.clone())
            .map_err(|why| ConfigError::Unusable(format!("auth.hook_url: {why}")))?;
        Ok(Some(Arc::new(hook)))
    }

    fn password_file(
        &mut self,
        table: Option<&ListenerTable>,
        people: &People,
        known: &mut Users,
    ) -> Result<Option<Arc<dyn CredentialSource>>, ConfigError> {
        let auth = &self.effective.settings().auth;
        let path = match table {
            None => auth.password_file.clone(),
            Some(table) => table.password_file.clone().unwrap_or_default(),
        };
        if path.is_empty() {
            return Ok(None);
        }
        let plain = match auth.plain_passwords {
            true => Plain::Accepted,
            false => Plain::Refused,
        };
        let bytes = self.read(&path)?;
        let file = PasswordFile::parse(&path, &bytes, plain)
            .map_err(|problem| ConfigError::Unusable(problem.to_string()))?;
        self.warnings.extend(file.warnings().iter().cloned());
        self.warn_of_short(&path, "line", "lines", file.short());
        known.names.extend(file.users().map(str::to_owned));
        known.places.push(path.clone());
        if file.users().next().is_none() {
            self.warn_of_no_users(&path);
        }
        let (people, hashing) = (people.clone(), self.hashing.clone());
        let renews = auth.renew_hashes;
        let source = PasswordFileSource::new(path, file, people, hashing);
        Ok(Some(Arc::new(source.renewing(renews))))
    }

    /// Warns about a password file that lets no client in.
    fn warn_of_no_users(&mut self, path: &str) {
        let but = match self.registry.is_some() {
            true => "; users and devices of the tables can log in",
            false => "",
        };
        let warning = format!(
            "the password file {path} has no users: no client can log in with it; add users with \
             `martlet passwd {} NAME`, or remove the setting password_file{but}",
            typed(path)
        );
        if !self.locked_out.contains(&warning) {
            self.locked_out.push(warning);
        }
    }

    /// Adds a warning about a listener for which nobody has credentials.
    pub(super) fn warn_of_nobody(&mut self, warning: String) {
        self.locked_out.push(warning);
    }

    /// Warns about an ACL file that gives no client any rights and thus locks out all clients,
    /// except those of the tables, which have separate rules.
    fn warn_of_locked_out(&mut self, acl: &AclFile, users: &Users) {
        let but = match self.registry.is_some() {
            true => "; users and devices of the tables have the rules of their roles and types",
            false => "",
        };
        let permitted = acl.permitted();
        let may = |name: &String| permitted.permits(Some(name));
        let warning = match acl.locks_out() {
            Some(warning) => format!("{warning}{but}"),
            None if users.others || users.names.is_empty() || users.names.iter().any(may) => return,
            None => format!(
                "the ACL file {} permits no user of {} anything: none of them may publish or \
                 receive; add lines under `user NAME` for these users{but}",
                acl.name(),
                users.places.join(", ")
            ),
        };
        if !self.locked_out.contains(&warning) {
            self.locked_out.push(warning);
        }
    }

    /// Warns about the rules of roles and types, if none of the users and devices has any rights.
    fn warn_of_locked_tables(&mut self) {
        let Some(tables) = &self.registry else {
            return;
        };
        let mut place = None;
        for tenant in std::iter::once(COMMON_TENANT).chain(tables.tenants()) {
            for name in tables.names(tenant) {
                let rules = tables.rules_of(tenant, name);
                if rules.is_some_and(|rules| rules.rules().iter().any(|rule| rule.allows)) {
                    return;
                }
                // Users that are not clients intentionally have no rights.
                let found = tables.rules_place(tenant, name);
                place = place.or(found.filter(|found| !found.is_builtin()));
            }
        }
        if let Some(RulesPlace { owner, name }) = place {
            let (what, command) = match owner {
                Owner::DeviceType => ("device type", "martlet device type"),
                _ => ("role", "martlet role"),
            };
            self.locked_out.push(format!(
                "no user or device of the tables may publish or receive anything: the rules of \
                 their roles and types permit nothing, such as those of the {what} {name}; \
                 {command} allow {name} 'topic readwrite TOPIC/#' permits something"
            ));
        }
    }

    /// Mentions places but no users, because these warnings appear in health.
    fn warn_of_short(&mut self, place: &str, one: &str, many: &str, numbers: &[usize]) {
        const SHOWN: usize = 10;
        let all: Vec<String> = numbers.iter().take(SHOWN).map(usize::to_string).collect();
        let more = match numbers.len().saturating_sub(SHOWN) {
            0 => String::new(),
            left => format!(" and {left} more"),
        };
        let (word, all) = (if numbers.len() == 1 { one } else { many }, all.join(", "));
        if !numbers.is_empty() {
            self.weak_passwords.push(format!(
                "{place} has passwords of fewer than {PASSWORD_MIN} characters, in {word} \
                 {all}{more}: they are easy to guess"
            ));
        }
    }

    fn acl_file(&mut self, table: Option<&ListenerTable>) -> Result<Option<AclFile>, ConfigError> {
        let path = self.acl_path(table).to_owned();
        if path.is_empty() {
            return Ok(None);
        }
        let bytes = self.read(&path)?;
        let text = String::from_utf8(bytes).map_err(|_| {
            ConfigError::Unusable(format!("{path}: not UTF-8, which topics and names are"))
        })?;
        let file = AclFile::parse(&path, &text, subscribing(self.effective));
        file.map(Some)
            .map_err(|problem| ConfigError::Unusable(problem.to_string()))
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, ConfigError> {
        let path = PathBuf::from(path);
        let bytes = regular_file::read(&path).map_err(|error| {
            let path = path.clone();
            ConfigError::Unreadable { path, error }
        })?;
        self.files.push(path);
        Ok(bytes)
    }
}

/// How subscriptions are checked if there is an ACL file.
pub(crate) fn subscribing(effective: &Effective) -> Subscribing {
    effective.settings().acl.subscribe
}

/// Returns where users are configured.
pub(crate) fn user_configuration(effective: &Effective) -> UserConfiguration {
    let absolute = |path: &str| {
        let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        path.display().to_string()
    };
    let own = effective.listeners.iter();
    let own = own.filter_map(|table| table.password_file.as_ref());
    let own = own.filter(|path| !path.is_empty());
    let auth = &effective.settings().auth;
    let users = credentials(auth.credentials.expose()).unwrap_or_default();
    UserConfiguration {
        order: auth.order.items().map(str::to_owned).collect(),
        credentials: place_of_credentials(effective),
        credential_users: users.iter().map(|one| one.user_name.to_string()).collect(),
        password_file: (!auth.password_file.is_empty()).then(|| absolute(&auth.password_file)),
        listener_password_files: own.map(|path| absolute(path)).collect(),
        tables_unasked: tables_unasked(effective),
        keeps_scram: auth.scram,
        devices_per_user_max: super::registry::devices_per_user_max(effective),
        tables: super::registry::location(effective)
            .ok()
            .map(|location| location.to_string()),
    }
}

/// Why users and devices of the tables are rejected; `None` if they are accepted.
pub(crate) fn tables_unasked(effective: &Effective) -> Option<String> {
    let listeners = &effective.listeners;
    let auth = &effective.settings().auth;
    if auth.enabled == Enabled::Off {
        return Some("auth.enabled is off, so clients are not authenticated".to_owned());
    }
    if auth.registry == Enabled::Off {
        return Some("auth.registry is off".to_owned());
    }
    if !listeners.is_empty() && listeners.iter().all(has_own_credentials) {
        return Some("each listener has credentials of its own".to_owned());
    }
    tables_left_out(effective)
}

/// The variable of another program that sets `auth.credentials`, or the place where it is set;
/// none: it is not set.
fn place_of_credentials(effective: &Effective) -> Option<String> {
    let key = key!(auth.credentials);
    if effective.settings().auth.credentials.expose().is_empty() {
        return None;
    }
    Some(match effective.name_of(key) {
        name if name == key => format!("{key} ({})", effective.source(key)),
        variable => format!("{variable} ({key})"),
    })
}

fn tables_left_out(effective: &Effective) -> Option<String> {
    let mut order = effective.settings().auth.order.items();
    let is_asked = order.any(|name| name == "registry");
    (!is_asked).then(|| "auth.order does not list registry".to_owned())
}

/// A name must give the same realm after a restart, because sessions store it.
fn crc32c_of(name: &str) -> u32 {
    crc32c::crc32c(name.as_bytes())
}
