//! Where the tables of users and devices are.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use martlet_control::shared_registry::TablesSettings;
use martlet_registry::{AuditKept, DatabaseUrl, FILE, Location, RegistryError};

use super::data_dir::data_dir;
use super::error::ConfigError;
use super::key;
use super::load::Effective;

/// What begins the path of a file, as other programs write it; the longest first.
const FILE_SCHEMES: &[&str] = &["sqlite://", "sqlite3://", "sqlite:", "file:"];

/// Where they are: by `registry.url`, or `martlet.db` in the data directory.
///
/// # Errors
/// It is the URL of no database that is understood.
pub(crate) fn location(effective: &Effective) -> Result<Location, ConfigError> {
    let url = effective.settings().registry.url.text().trim();
    if url.is_empty() {
        return Ok(file_in(&data_dir(effective)?, FILE));
    }
    location_of(url, effective).map_err(|why| {
        let source = effective.source(key!(registry.url));
        ConfigError::Unusable(format!("{source}: registry.url: {why}"))
    })
}

/// The place that a URL or a path names.
///
/// # Errors
/// It is the URL of no database that is understood. It may hold a password, and is not shown.
pub(super) fn location_of(url: &str, effective: &Effective) -> Result<Location, String> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let url =
            DatabaseUrl::parse(url).map_err(|error| RegistryError::from(error).to_string())?;
        return Ok(url.into());
    }
    let mut schemes = FILE_SCHEMES.iter();
    let path = schemes.find_map(|scheme| url.strip_prefix(scheme));
    let path = path.unwrap_or(url);
    if path.is_empty() || path.contains("://") || path.contains('?') {
        let why =
            "expected postgres://USER:PASSWORD@HOST/DATABASE, or the path of a file of SQLite";
        return Err(why.to_owned());
    }
    let directory = data_dir(effective).map_err(|error| error.to_string())?;
    Ok(file_in(&directory, path))
}

/// Found from wherever the node or a command is started, and told so that it is the same there.
fn file_in(data_dir: &Path, name: &str) -> Location {
    let path = data_dir.join(name);
    std::path::absolute(&path).unwrap_or(path).into()
}

/// How they are kept.
///
/// # Errors
/// As [`location`].
pub(crate) fn settings(effective: &Effective) -> Result<TablesSettings, ConfigError> {
    let settings = effective.settings();
    let most = settings.registry.max_devices_per_user;
    Ok(TablesSettings {
        location: location(effective)?,
        keeps_scram: settings.auth.scram,
        iotflow_base: super::http::iotflow_base(effective)?,
        devices_per_user_max: (most > 0).then_some(most),
        audit: AuditKept {
            days: settings.audit.keep_days,
            lines: settings.audit.keep_lines,
        },
    })
}

/// The file in the data directory that says by which tables its node goes: where they are, and
/// which ones.
const NOTED: &str = "registry";

/// As it stands there: `martlet.db` if they are in the data directory, wherever that is.
fn place(data_dir: &Path, location: &Location) -> String {
    match *location == file_in(data_dir, FILE) {
        true => FILE.to_owned(),
        false => location.to_string(),
    }
}

/// Has the data directory say by which tables its node goes, without a password.
///
/// # Errors
/// The disk does not take it.
pub(crate) fn note(data_dir: &Path, location: &Location, identity: Option<&str>) -> io::Result<()> {
    let path = data_dir.join(NOTED);
    let place = place(data_dir, location);
    let known = read(data_dir);
    let identity = match (&known, identity) {
        // They are not asked now.
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
    let mut file = options.open(&new)?;
    writeln!(file, "{place}\n{identity}")?;
    std::fs::rename(&new, &path)
}

/// Where the node that was last here had them, if not in its data directory.
pub(crate) fn noted(data_dir: &Path) -> Option<String> {
    let (place, _) = read(data_dir)?;
    (place != FILE).then_some(place)
}

/// Where the node that was last here had users and devices; none: nobody has used it.
pub(crate) fn noted_place(data_dir: &Path) -> Option<String> {
    read(data_dir).map(|(place, _)| place)
}

/// A start without those who were somebody would let in everybody: the tables are those that the
/// node went by before.
///
/// # Errors
/// They are others, or not there.
pub(crate) fn expect_noted(
    data_dir: &Path,
    location: &Location,
    identity: Option<&str>,
) -> Result<(), String> {
    let Some((before, known)) = read(data_dir) else {
        return Ok(());
    };
    if known.is_empty() {
        // Nobody was in them.
        return Ok(());
    }
    let note = data_dir.join(NOTED);
    let note = note.display();
    let own = place(data_dir, location);
    if before != own {
        return Err(format!(
            "the users and devices of this node were in {before}, and are to be in {location} now: \
             set registry.url as it was; or, if they are there from now on, remove {note}"
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

/// Place and identity; none: nothing is noted.
fn read(data_dir: &Path) -> Option<(String, String)> {
    let file = File::open(data_dir.join(NOTED)).ok()?;
    let mut text = String::new();
    // The longest path, and more.
    file.take(8_192).read_to_string(&mut text).ok()?;
    let mut lines = text.lines().map(str::trim);
    let place = lines.next().filter(|place| !place.is_empty())?;
    Some((
        place.to_owned(),
        lines.next().unwrap_or_default().to_owned(),
    ))
}
