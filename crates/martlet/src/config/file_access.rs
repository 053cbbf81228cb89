//! Which files of the configuration other users of the machine could change or read.
//!
//! A `.env` is found by its name in the working directory, so it is obeyed only if nobody else can
//! have written it. All other files are named by the user who starts the node: a file that others
//! can change, or a secret that they can read, causes a warning.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use martlet_control::text::typed;
use rustix::fs::OFlags;

use super::load::{ConfigError, Effective, ListenerTable};
use super::schema::Value;
use super::{masking, regular_file};

/// Modes that let others than the owner write, and let everybody read.
const OTHERS_WRITE: u32 = 0o022;
const ALL_READ: u32 = 0o004;

/// Path, from the root, and text of `.env` in the working directory; none: there is no such file.
///
/// # Errors
/// It belongs to neither root nor the user of this process, others may write to it, or it cannot
/// be read.
pub(super) fn read_environment_file() -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = Path::new(".env");
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match read_own(&path) {
        Ok(text) => Ok(text.map(|text| (path, text))),
        Err(why) => Err(ConfigError::Unusable(why)),
    }
}

fn read_own(path: &Path) -> Result<Option<String>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    // A link of another user would choose the file that is read.
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => return Ok(None),
        Ok(found) => check_owner(path, &found)?,
        // There is none, or this user may not look into the directory.
        Err(_) => return Ok(None),
    }
    // To open a pipe would wait for its writer.
    let mut options = OpenOptions::new();
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = options.read(true).custom_flags(flags).open(path);
    let mut file: File = opened.map_err(unreadable)?;
    // What is checked is what is read, whatever has the name by now.
    let found = file.metadata().map_err(unreadable)?;
    if found.is_dir() {
        return Ok(None);
    }
    check_owner(path, &found)?;
    if !found.is_file() {
        return Err(format!("{} is refused: it is no file", path.display()));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(format!(
            "{} is refused: other users may write to it (mode {:04o}), and it could give them the \
             node; chmod go-w {} keeps them out",
            path.display(),
            found.mode() & 0o7777,
            typed(&path.display().to_string())
        ));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(Some(text))
}

fn check_owner(path: &Path, found: &Metadata) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    match found.uid() {
        owner if owner == own || owner == 0 => Ok(()),
        owner => Err(format!(
            "{} is refused: it belongs to the user {owner}, and this process runs as the user \
             {own}; a .env has to belong to that user or to root. Remove it, or start in another \
             directory",
            path.display()
        )),
    }
}

/// What others must not do with a file.
#[derive(Clone, Copy, Debug, Default)]
struct Guarded {
    /// It has a secret, so they must not read it. Nobody may ever change one.
    is_secret: bool,
}

/// A sentence for each file of the configuration that others can change, and for each secret that
/// all users can read.
pub(crate) fn exposed_files(effective: &Effective) -> Vec<String> {
    let found = guarded(effective);
    let told = found.iter().filter_map(|(path, guarded)| {
        let mode = path.metadata().ok().filter(Metadata::is_file)?.mode() & 0o7777;
        let name = path.display();
        let typed = typed(&path.display().to_string());
        if mode & OTHERS_WRITE != 0 {
            return Some(format!(
                "other users of this machine may write to {name} (mode {mode:04o}), which decides \
                 about the node: chmod go-w{} {typed} keeps them out",
                if guarded.is_secret { ",o-r" } else { "" }
            ));
        }
        (guarded.is_secret && mode & ALL_READ != 0).then(|| {
            format!(
                "all users of this machine may read {name} (mode {mode:04o}), which has secrets: \
                 chmod o-r {typed} keeps them out"
            )
        })
    });
    told.collect()
}

/// A sentence for each file that the configuration names and that cannot be read.
pub(crate) fn unreadable_files(effective: &Effective) -> Vec<String> {
    let found = guarded(effective);
    let told = found.keys().filter_map(|path| {
        let error = match path.metadata() {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => regular_file::open(path).err()?,
            Err(error) => error,
        };
        Some(format!("cannot read {}: {error}", path.display()))
    });
    told.collect()
}

/// Every file that the configuration is read from, or names.
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
    for (key, is_secret) in [
        ("auth.password_file", true),
        ("auth.acl_file", false),
        ("tls.certificate", false),
        ("tls.key", true),
        ("tls.client_ca", false),
        ("tls.client_crl", false),
        ("http.tls_certificate", false),
        ("http.tls_key", true),
        ("events.push_ca_file", false),
    ] {
        add(Path::new(effective.text(key)), is_secret);
    }
    let keys = effective.text("auth.jwt_keys");
    if !keys.contains("://") {
        add(Path::new(keys), is_symmetric(effective, keys));
    }
    let of_listener = |table: &ListenerTable, key: &str| match table.get(key) {
        Some(found) => match &found.value {
            Value::Text(path) => PathBuf::from(path),
            _ => PathBuf::new(),
        },
        None => PathBuf::new(),
    };
    for table in &effective.listeners {
        for (key, is_secret) in [
            ("password_file", true),
            ("acl_file", false),
            ("certificate", false),
            ("key", true),
            ("client_ca", false),
            ("client_crl", false),
        ] {
            add(&of_listener(table, key), is_secret);
        }
    }
    all
}

/// Whether a value in the file is one that is not shown to everybody.
fn has_secret(effective: &Effective, path: &Path) -> bool {
    let own = effective.environment_file.as_ref();
    let own = own.filter(|file| file.path == path);
    let is_of_env = |source: &str| {
        let name = source.strip_prefix("environment ");
        own.is_some_and(|own| name.is_some_and(|name| own.names.iter().any(|own| own == name)))
    };
    let place = format!("{} line ", path.display());
    let values = effective.values.values();
    let listeners = effective.listeners.iter().flat_map(|table| table.values());
    let sinks = effective.sinks.iter().flat_map(|sink| sink.keys.values());
    let mut from_here = values
        .chain(listeners)
        .chain(sinks)
        .filter(|found| found.source.starts_with(&place) || is_of_env(&found.source));
    from_here.any(|found| match &found.value {
        // A reference to a secret is none.
        Value::Secret(secret) => !secret.text().is_empty() && !masking::refers_alone(secret.text()),
        Value::Headers(lines) => masking::headers(lines) != *lines,
        shown => shown.shown() != *shown,
    })
}

/// Whether who reads the file could sign tokens by it. A public key, or a set of them, is for
/// everybody.
fn is_symmetric(effective: &Effective, path: &str) -> bool {
    if effective.text("auth.jwt_algorithm").starts_with("HS") {
        return true;
    }
    let bytes = regular_file::read(Path::new(path)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.contains("\"oct\"") || text.contains("PRIVATE KEY")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("martlet-access-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_environment_file_is_read_only_if_nobody_else_can_have_written_it() {
        let directory = directory("env");
        let path = directory.join(".env");
        assert_eq!(read_own(&path), Ok(None));
        std::fs::write(&path, "A=1\n").unwrap();
        for mode in [0o600, 0o640, 0o644] {
            chmod(&path, mode);
            assert_eq!(read_own(&path), Ok(Some("A=1\n".to_owned())), "{mode:o}");
        }
        for mode in [0o620, 0o602, 0o666] {
            chmod(&path, mode);
            let why = read_own(&path).unwrap_err();
            let shown = path.display().to_string();
            assert!(
                why.contains(&shown) && why.contains("may write to it"),
                "{why}"
            );
        }
        chmod(&path, 0o600);
        let own = directory.join("own");
        std::fs::rename(&path, &own).unwrap();
        symlink(&own, &path).unwrap();
        assert_eq!(read_own(&path), Ok(Some("A=1\n".to_owned())));
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(read_own(&path).unwrap_err().ends_with("it is no file"));
        std::fs::remove_file(&path).unwrap();
        // As virtual environments of Python are called.
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read_own(&path), Ok(None));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_owner_of_an_environment_file_is_this_user_or_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = directory("owner");
        let path = directory.join(".env");
        std::fs::write(&path, "A=1\n").unwrap();
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        let why = read_own(&path).unwrap_err();
        assert!(why.contains("belongs to the user 12345"), "{why}");
        // A link that another user has created.
        std::fs::rename(&path, directory.join("x")).unwrap();
        std::os::unix::fs::chown(directory.join("x"), Some(0), None).unwrap();
        symlink(directory.join("x"), &path).unwrap();
        std::os::unix::fs::lchown(&path, Some(12_345), None).unwrap();
        assert!(read_own(&path).unwrap_err().contains("belongs to the user"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
