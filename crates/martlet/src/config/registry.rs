//! Location of the tables of users and devices.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use martlet_control::shared_registry::TablesSettings;
use martlet_registry::{AuditKept, DatabaseUrl, FILE, Location};
use martlet_text_file::owned;

use super::data_dir::data_dir;
use super::error::ConfigError;
use super::load::Effective;

/// Prefixes of file paths in other programs; the longest first.
const FILE_SCHEMES: &[&str] = &["sqlite://", "sqlite3://", "sqlite:", "file:"];

/// Location of the tables: `registry.url`, or `martlet.db` in the data directory.
///
/// # Errors
/// The URL is not that of a supported database.
pub(crate) fn location(effective: &Effective) -> Result<Location, ConfigError> {
    let url = effective.settings().registry.url.expose().trim();
    if url.is_empty() {
        return Ok(file_in(&data_dir(effective)?, FILE));
    }
    location_of(url, effective).map_err(|why| {
        let source = effective.source(key!(registry.url));
        ConfigError::Unusable(format!("{source}: registry.url: {why}"))
    })
}

/// Location given by a URL or a path.
///
/// # Errors
/// The URL is not that of a supported database. It may contain a password, so it is not shown.
pub(super) fn location_of(url: &str, effective: &Effective) -> Result<Location, String> {
    if let Ok(url) = DatabaseUrl::parse(url) {
        return Ok(url.into());
    }
    let mut schemes = FILE_SCHEMES.iter();
    let path = schemes.find_map(|scheme| url.strip_prefix(scheme));
    // Keywords with a mistake are no name of a file, and may have a password in them.
    let is_path = path.is_some() || !url.contains('=');
    let path = path.unwrap_or(url);
    if !is_path || path.is_empty() || path.contains("://") || path.contains('?') {
        let why = "expected postgres://USER:PASSWORD@HOST/DATABASE, host=HOST user=USER \
                   password=PASSWORD dbname=DATABASE, or the path of a file of SQLite \
                   (sqlite:PATH, if it has an =)";
        return Err(why.to_owned());
    }
    let directory = data_dir(effective).map_err(|error| error.to_string())?;
    Ok(file_in(&directory, path))
}

/// An absolute location, so that it is the same for a node or command started elsewhere.
fn file_in(data_dir: &Path, name: &str) -> Location {
    let path = data_dir.join(name);
    std::path::absolute(&path).unwrap_or(path).into()
}

/// Devices that one user may own; `None`: no limit.
pub(super) fn devices_per_user_max(effective: &Effective) -> Option<u64> {
    let most = effective.settings().registry.max_devices_per_user;
    (most > 0).then_some(most)
}

/// Settings of the tables.
///
/// # Errors
/// The same as for [`location`].
pub(crate) fn settings(effective: &Effective) -> Result<TablesSettings, ConfigError> {
    let settings = effective.settings();
    Ok(TablesSettings {
        location: location(effective)?,
        keeps_scram: settings.auth.scram,
        iotflow_base: super::http::iotflow_base(effective)?,
        devices_per_user_max: devices_per_user_max(effective),
        team_share: settings.limits.team_share(),
        audit: AuditKept {
            days: settings.audit.keep_days,
            lines: settings.audit.keep_lines,
        },
        deleted_kept_days: Some(settings.registry.deleted_keep_days).filter(|days| *days > 0),
    })
}

/// The file in the data directory that records the tables of its node: their location and identity.
const NOTED: &str = "registry";

/// The location in that file: `martlet.db` if the tables are in the data directory, wherever that
/// is.
fn place(data_dir: &Path, location: &Location) -> String {
    match *location == file_in(data_dir, FILE) {
        true => FILE.to_owned(),
        false => location.to_string(),
    }
}

/// Records in the data directory the tables of its node, without a password.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn note(data_dir: &Path, location: &Location, identity: Option<&str>) -> io::Result<()> {
    let path = data_dir.join(NOTED);
    let place = place(data_dir, location);
    let known = read(data_dir);
    let identity = match (&known, identity) {
        // The tables were not read this time.
        (Some((before, known)), None) if *before == place => known.clone(),
        (_, identity) => identity.unwrap_or_default().to_owned(),
    };
    if place == FILE && identity.is_empty() {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    if known.is_some_and(|known| known == (place.clone(), identity.clone())) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = owned::open(&new, &mut options)?;
    writeln!(file, "{place}\n{identity}")?;
    std::fs::rename(&new, &path)
}

/// Location recorded by the last node, if it is not in its data directory.
pub(crate) fn noted(data_dir: &Path) -> Option<String> {
    let (place, _) = read(data_dir)?;
    (place != FILE).then_some(place)
}

/// Location of users and devices recorded by the last node; `None` if no node has used the
/// directory.
pub(crate) fn noted_place(data_dir: &Path) -> Option<String> {
    read(data_dir).map(|(place, _)| place)
}

/// Checks that the tables are those that the node used before. A start without its former users
/// would admit all clients.
///
/// # Errors
/// The tables are different or missing.
pub(crate) fn expect_noted(
    data_dir: &Path,
    location: &Location,
    identity: Option<&str>,
) -> Result<(), String> {
    let Some((before, known)) = read(data_dir) else {
        return Ok(());
    };
    if known.is_empty() {
        // The former tables had no users.
        return Ok(());
    }
    let note = data_dir.join(NOTED);
    let note = note.display();
    let own = place(data_dir, location);
    if before != own {
        return Err(format!(
            "the users and devices of this node were in {before}, but are configured to be in \
             {location} now: set registry.url to its old value; or, to use the new database from \
             now on, remove {note}"
        ));
    }
    match identity {
        Some(identity) if identity == known => Ok(()),
        Some(_) => Err(format!(
            "{location} is not the database that this node used before: restore that one; or, to \
             use this one, remove {note}"
        )),
        None => Err(format!(
            "{location} has no users and devices, and had some: restore it from a backup; or, to \
             begin without, remove {note}"
        )),
    }
}

/// Location and identity; `None` if nothing is recorded.
fn read(data_dir: &Path) -> Option<(String, String)> {
    let file = File::open(data_dir.join(NOTED)).ok()?;
    let mut text = String::new();
    // More than the longest path.
    file.take(8_192).read_to_string(&mut text).ok()?;
    let mut lines = text.lines().map(str::trim);
    let place = lines.next().filter(|place| !place.is_empty())?;
    Some((
        place.to_owned(),
        lines.next().unwrap_or_default().to_owned(),
    ))
}
