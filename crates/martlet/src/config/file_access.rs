//! Finds files of the configuration that other users of the machine could change or read.
//!
//! A `.env` is found by its name in the working directory, so it is used only if no other user can
//! have written it. All other files are named by the user who starts the node: a file that others
//! can change, or a secret that they can read, causes a warning.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use martlet_control::authentication::sources::Algorithm;
use martlet_control::text::typed;
use martlet_environment::read_file;

use super::error::ConfigError;
use super::load::Effective;
use super::regular_file;
use super::schema::shown;
use martlet_settings::{Value, masked_headers, refers_alone};

/// Mode bits for write access by others than the owner, and for read access by all users.
const OTHERS_WRITE: u32 = 0o022;
const ALL_READ: u32 = 0o004;

/// Absolute path and text of `.env` in the working directory; `None` if there is no such file.
///
/// # Errors
/// The file belongs to neither root nor the user of this process, others have write access, or it
/// cannot be read.
pub(super) fn read_environment_file() -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = Path::new(".env");
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match read_file(&path) {
        Ok(text) => Ok(text.map(|text| (path, text))),
        Err(why) => Err(ConfigError::Unusable(why)),
    }
}

/// Keys with locations of databases.
const DATABASES: &[&str] = &[key!(registry.url), key!(telemetry.url)];

/// Access that others must not have to a file.
#[derive(Clone, Copy, Debug, Default)]
struct Guarded {
    /// Whether it contains a secret, so that others must not read it. They must never have write
    /// access.
    is_secret: bool,
}

/// A sentence for each file of the configuration that others can change, and for each secret that
/// all users can read.
pub(crate) fn exposed_files(effective: &Effective) -> Vec<String> {
    let found = guarded(effective);
    let warnings = found.iter().filter_map(|(path, guarded)| {
        let mode = path.metadata().ok().filter(Metadata::is_file)?.mode() & 0o7777;
        let name = path.display();
        let typed = typed(&path.display().to_string());
        if mode & OTHERS_WRITE != 0 {
            return Some(format!(
                "other users of this machine may write to {name} (mode {mode:04o}), which \
                 configures the node: run chmod go-w{} {typed}",
                if guarded.is_secret { ",o-r" } else { "" }
            ));
        }
        (guarded.is_secret && mode & ALL_READ != 0).then(|| {
            format!(
                "all users of this machine may read {name} (mode {mode:04o}), which has secrets: \
                 run chmod o-r {typed}"
            )
        })
    });
    warnings.collect()
}

/// An unreadable file that the configuration names.
#[derive(Debug)]
pub(crate) struct UnreadableFile {
    /// The file and the error of the system.
    pub(crate) what: String,
    /// The place in the configuration that names it.
    place: Option<String>,
}

impl std::fmt::Display for UnreadableFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: cannot read {}", self.what),
            None => write!(f, "cannot read {}", self.what),
        }
    }
}

/// The place in the configuration that names a file.
fn place_of_file(effective: &Effective, path: &Path) -> Option<String> {
    let of_listeners = effective.listeners.iter();
    let of_listeners = of_listeners.flat_map(|table| table.values().values());
    let mut all = effective.values().values().chain(of_listeners);
    let named = all.find(|found| match &found.value {
        Value::Text(text) => Path::new(text) == path,
        _ => false,
    });
    named.map(|found| found.source.clone())
}

/// The unreadable files that the configuration names.
pub(crate) fn unreadable_files(effective: &Effective) -> Vec<UnreadableFile> {
    let found = guarded(effective);
    let warnings = found.keys().filter_map(|path| {
        let error = match path.metadata() {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => regular_file::open(path).err()?,
            Err(error) => error,
        };
        Some(UnreadableFile {
            what: format!("{}: {error}", path.display()),
            place: place_of_file(effective, path),
        })
    });
    warnings.collect()
}

/// All files that the configuration is read from, or names.
fn guarded(effective: &Effective) -> BTreeMap<PathBuf, Guarded> {
    let mut all: BTreeMap<PathBuf, Guarded> = BTreeMap::new();
    let mut add = |path: &Path, is_secret: bool| {
        if !path.as_os_str().is_empty() {
            all.entry(path.to_owned()).or_default().is_secret |= is_secret;
        }
    };
    for path in &effective.files {
        add(path, has_secret(effective, path));
    }
    for path in &effective.secret_files {
        add(path, true);
    }
    let settings = effective.settings();
    for (path, is_secret) in [
        (&settings.auth.password_file, true),
        (&settings.auth.acl_file, false),
        (&settings.tls.certificate, false),
        (&settings.tls.key, true),
        (&settings.tls.client_ca, false),
        (&settings.tls.client_crl, false),
        (&settings.http.tls_certificate, false),
        (&settings.http.tls_key, true),
        (&settings.events.push_ca_file, false),
    ] {
        add(Path::new(path), is_secret);
    }
    let keys = &settings.auth.jwt_keys;
    if !keys.contains("://") {
        add(Path::new(keys), is_symmetric(effective, keys));
    }
    for table in &effective.listeners {
        for (path, is_secret) in [
            (&table.password_file, true),
            (&table.acl_file, false),
            (&table.certificate, false),
            (&table.key, true),
            (&table.client_ca, false),
            (&table.client_crl, false),
        ] {
            if let Some(path) = path {
                add(Path::new(path), is_secret);
            }
        }
    }
    all
}

/// Whether the file contains a secret value.
fn has_secret(effective: &Effective, path: &Path) -> bool {
    let own = effective.environment_file.as_ref();
    let own = own.filter(|file| file.path == path);
    let is_of_env = |source: &str| {
        let name = source.strip_prefix("environment ");
        own.is_some_and(|own| name.is_some_and(|name| own.sets(name)))
    };
    let place = format!("{} line ", path.display());
    let values = effective.values().iter();
    let listeners = effective.listeners.iter().flat_map(|table| table.values());
    // The sender of e-mails is an address, which could be mistaken for a URL with a password.
    let sinks = effective.sinks.iter().flat_map(|sink| &sink.keys);
    let sinks = sinks.filter(|(key, _)| *key != "from");
    let mut from_here = values
        .chain(listeners)
        .chain(sinks)
        .filter(|(_, found)| found.source.starts_with(&place) || is_of_env(&found.source));
    from_here.any(|(key, found)| match &found.value {
        // The path of a file, or the URL of a database, which may have a password in it.
        Value::Secret(url) if DATABASES.contains(&&**key) => has_password(url.expose()),
        // A reference to a secret is not secret.
        Value::Secret(secret) => !secret.expose().is_empty() && !refers_alone(secret.expose()),
        Value::Headers(lines) => masked_headers(lines) != *lines,
        value => shown(value) != *value,
    })
}

/// Whether the location of a database has a password in it.
fn has_password(location: &str) -> bool {
    let user = location.rsplit_once('@').map_or("", |(user, _)| user);
    let user = user.split_once("://").map_or(user, |(_, user)| user);
    user.contains(':') || location.contains("password")
}

/// Whether a reader of the file could sign tokens with it. Public keys are not secret.
fn is_symmetric(effective: &Effective, path: &str) -> bool {
    use Algorithm::{HS256, HS384, HS512};
    if matches!(
        effective.settings().auth.jwt_algorithm,
        Some(HS256 | HS384 | HS512)
    ) {
        return true;
    }
    let bytes = regular_file::read(Path::new(path)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.contains("\"oct\"") || text.contains("PRIVATE KEY")
}
