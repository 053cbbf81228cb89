//! Where the tables of users and devices are.

use martlet_control::tables::TablesSettings;
use martlet_registry::{DatabaseUrl, FILE, Location};

use super::load::{ConfigError, Effective};
use super::resolve::data_dir;

/// What begins the path of a file, as other programs write it; the longest first.
const FILE_SCHEMES: &[&str] = &["sqlite://", "sqlite3://", "sqlite:", "file:"];

/// Where they are: by `registry.url`, or `martlet.db` in the data directory.
///
/// # Errors
/// It is the URL of no database that is understood.
pub(crate) fn location(effective: &Effective) -> Result<Location, ConfigError> {
    let url = effective.secret("registry.url").trim();
    if url.is_empty() {
        return Ok(data_dir(effective)?.join(FILE).into());
    }
    // It may hold a password, and is not shown.
    let unusable = |why: &str| {
        let source = effective.source("registry.url");
        ConfigError::Unusable(format!("{source}: registry.url: {why}"))
    };
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let url = DatabaseUrl::parse(url).map_err(|error| unusable(&error.to_string()))?;
        return Ok(url.into());
    }
    let mut schemes = FILE_SCHEMES.iter();
    let path = schemes.find_map(|scheme| url.strip_prefix(scheme));
    let path = path.unwrap_or(url);
    if path.is_empty() || path.contains("://") || path.contains('?') {
        let why =
            "expected postgres://USER:PASSWORD@HOST/DATABASE, or the path of a file of SQLite";
        return Err(unusable(why));
    }
    // Found from wherever the node or a command is started.
    Ok(data_dir(effective)?.join(path).into())
}

/// How they are kept.
///
/// # Errors
/// As [`location`].
pub(crate) fn settings(effective: &Effective) -> Result<TablesSettings, ConfigError> {
    let most = effective.integer("registry.max_devices_per_user");
    Ok(TablesSettings {
        location: location(effective)?,
        keeps_scram: effective.boolean("auth.scram"),
        devices_per_user_max: (most > 0).then_some(most),
    })
}
