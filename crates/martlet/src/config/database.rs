//! `DATABASE_URL` and `DATABASE_DSN`: many programs use these variables for their own databases.
//! Such a database is used only if there is evidence that it is for Martlet.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use martlet_registry::{
    Contents, DatabaseUrl, FILE, Location, OtherSystem, RegistryError, contents, has_accounts, wait,
};
use tracing::warn;

use super::UNIQUE_VARIABLES;
use super::data_dir::data_dir;
use super::error::ConfigError;
use super::load::{DEFAULT_SOURCE, Effective, EnvironmentFile, Sourced, place_of};
use super::registry::{location_of, noted_place};
use super::schema::Enabled;
use martlet_settings::Value;

/// Pause between attempts to reach the database at the start.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The variables; the first takes precedence.
pub(crate) const NAMES: [&str; 2] = ["DATABASE_URL", "DATABASE_DSN"];

/// Variables that only one of the systems with such databases uses: all names of a line together.
const TELLING: [&[&str]; 8] = [
    &["IOTFLOW_ADMIN_TOKEN"],
    &["MAX_DEVICES_PER_USER"],
    &["ENABLE_JETSTREAM"],
    &["NATS_URL", "LISTEN_ADDR"],
    &["DATABASE_DSN", "LISTEN_ADDR"],
    &["DATABASE_DSN", "NATS_URL"],
    &["DATABASE_DSN", "PUBLISH_TIMEOUT_SEC"],
    &["DATABASE_URL", "DB_HOST", "DB_NAME"],
];

/// Variables of these systems for a database by its parts, which is not used.
const PARTS: [&str; 2] = ["DB_HOST", "DB_URI"];

/// Whether a variable affects the location of the tables.
pub(crate) fn is_about_database(name: &str) -> bool {
    NAMES.contains(&name) || TELLING.iter().any(|names| names.contains(&name))
}

/// Sets `registry.url` from one of the variables, if its database is for Martlet. Otherwise adds a
/// warning, which contains the key to set and which health shows.
pub(super) fn adopt(
    environment: &[(String, String)],
    file: Option<&EnvironmentFile>,
    effective: &mut Effective,
) -> Result<(), ConfigError> {
    if effective.source(key!(registry.url)) != DEFAULT_SOURCE {
        return tell_of_others(effective);
    }
    let get = |name: &str| {
        let found = environment.iter().find(|(known, _)| known == name);
        let value = found.map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    };
    let is_of_known_system = || {
        let mut telling = TELLING.iter();
        telling.any(|names| names.iter().all(|name| get(name).is_some()))
    };
    for name in NAMES {
        let Some(url) = get(name) else {
            continue;
        };
        let place = place_of(file, name);
        if !is_understood(url) {
            let warning = format!(
                "{place}: not used, it is neither postgres://…, host=… dbname=… nor sqlite:…"
            );
            effective.unused_addresses.push(warning);
            continue;
        }
        let is_told = effective.settings().registry.adopt || is_of_known_system();
        let location = location_of(url, effective)
            .map_err(|why| ConfigError::Unusable(format!("{place}: {why}")))?;
        match decide(&location, effective, is_told)? {
            Decision::Use(notice) => {
                effective.warnings.extend(notice);
                let sourced = Sourced {
                    value: Value::Secret(of_sqlalchemy(url).into()),
                    source: place,
                };
                effective.set(key!(registry.url), sourced)?;
            }
            Decision::Leave(why) => {
                let warning = format!("{place}: {location} is not used: {why}");
                effective.unused_addresses.push(warning);
            }
        }
        return Ok(());
    }
    let is_meant = is_of_known_system() || UNIQUE_VARIABLES.iter().any(|name| get(name).is_some());
    if let Some(name) = PARTS
        .into_iter()
        .find(|name| is_meant && get(name).is_some())
    {
        effective.unused_addresses.push(format!(
            "{}: the database is not used, users and devices are in martlet.db of the data \
             directory. To use one, set DATABASE_URL to postgres://USER:PASSWORD@HOST/NAME",
            place_of(file, name)
        ));
    }
    Ok(())
}

/// Warns about users and devices in `martlet.db` of the data directory if the tables are elsewhere:
/// nobody could log in as the administrator that `martlet init` has added there.
pub(super) fn warn_of_unused_file(effective: &mut Effective) -> Result<(), ConfigError> {
    let file = data_dir(effective)?.join(FILE);
    let location = super::registry::location(effective)?;
    if location.file() == std::path::absolute(&file).ok().as_deref() {
        return Ok(());
    }
    // A file that cannot be read may have some, too.
    if wait(has_accounts(&file)).unwrap_or(true) {
        let source = effective.source(key!(registry.url));
        effective.unused_addresses.push(format!(
            "the users and devices of {} are not used, such as an administrator of martlet init: \
             {source} says that they are in {location}. Add them there (martlet user add, martlet \
             device add with the same setting), or remove the setting",
            file.display()
        ));
    }
    Ok(())
}

/// The URL as Martlet has it. SQLAlchemy, as IoTFlow uses it, begins a relative path of a file with
/// three slashes, and another one with four.
fn of_sqlalchemy(url: &str) -> String {
    let path = url.strip_prefix("sqlite:///");
    path.map_or_else(|| url.to_owned(), |path| format!("sqlite:{path}"))
}

/// Whether the URL is that of a supported kind of database.
fn is_understood(url: &str) -> bool {
    let is_file = ["sqlite:", "sqlite3:"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    is_file || DatabaseUrl::parse(url).is_ok()
}

enum Decision {
    /// Use it, with a note about its other contents.
    Use(Option<String>),
    /// Do not use it, with the reason.
    Leave(String),
}

fn decide(
    location: &Location,
    effective: &Effective,
    is_told: bool,
) -> Result<Decision, ConfigError> {
    let directory = data_dir(effective)?;
    let noted = noted_place(&directory);
    // Without the database that it used before, a node could admit unknown clients.
    if noted
        .as_ref()
        .is_some_and(|noted| *noted == location.to_string())
    {
        return Ok(Decision::Use(None));
    }
    if let Some(noted) = noted {
        return Ok(Decision::Leave(format!(
            "the users and devices of this node are in {noted}. To use another, set registry.url"
        )));
    }
    let found = match look_into(location) {
        Ok(found) => found,
        // It is meant for Martlet. Another place would not have its users and devices.
        Err(_) if is_told => return Ok(Decision::Use(None)),
        Err(why) => {
            return Ok(Decision::Leave(format!(
                "it cannot be read ({why}), and this node has not used it before. Users and devices \
                 are kept in martlet.db of the data directory. To use it, set registry.url: the \
                 start fails then until it can be read"
            )));
        }
    };
    let notice = found.system.map(|system| import_line(location, system));
    let has_slot = match location {
        Location::File(_) => found.is_ours || !found.has_others,
        Location::Url(_) => true,
    };
    if found.is_ours || is_told && has_slot {
        return Ok(Decision::Use(notice));
    }
    let why = match is_told {
        true => "the file has tables of another program. Users and devices are kept in martlet.db \
                 of the data directory"
            .to_owned(),
        false => {
            let key = "registry.adopt = true or registry.url";
            format!(
                "it is not known to be for Martlet. Users and devices are kept in martlet.db of \
                 the data directory. To use it, set {key}"
            )
        }
    };
    let notice = notice.map_or_else(String::new, |notice| format!(". {notice}"));
    Ok(Decision::Leave(format!("{why}{notice}")))
}

/// A database in `registry.url` may also have tables of another system. This is reported until the
/// node has used the database.
fn tell_of_others(effective: &mut Effective) -> Result<(), ConfigError> {
    let location = super::registry::location(effective)?;
    let noted = noted_place(&data_dir(effective)?);
    if location.file().is_some() || noted.is_some_and(|noted| noted == location.to_string()) {
        return Ok(());
    }
    // Code that needs an unreachable database reports the error.
    let found = look_into(&location).ok();
    if let Some(system) = found.and_then(|found| found.system) {
        effective.warnings.push(import_line(&location, system));
    }
    Ok(())
}

fn import_line(location: &Location, system: OtherSystem) -> String {
    format!(
        "{location} has the tables of {system}, which are left as they are: martlet import {} \
         imports its devices",
        system.word()
    )
}

/// Waits until PostgreSQL of `registry.url` responds, at most `registry.wait_secs`: its server
/// often starts together with the node. Returns whether it did not respond before.
///
/// # Errors
/// It does not respond in this time.
pub(crate) fn wait_for_database(effective: &Effective) -> Result<bool, ConfigError> {
    let auth = &effective.settings().auth;
    let location = super::registry::location(effective)?;
    if location.file().is_some() || [auth.registry, auth.enabled].contains(&Enabled::Off) {
        return Ok(false);
    }
    if look_into(&location).is_ok() {
        return Ok(false);
    }
    let secs = effective.settings().registry.wait_secs;
    let until = Instant::now() + Duration::from_secs(secs);
    let mut is_late = false;
    while let Err(error) = look_again(&location)
        && error.is_unreachable()
    {
        if Instant::now() >= until {
            return Err(ConfigError::Unusable(format!(
                "{error} (the start has waited for {secs} s: registry.wait_secs)"
            )));
        }
        if !is_late {
            warn!("{error}; waiting for it, at most {secs} s (registry.wait_secs)");
        }
        is_late = true;
        std::thread::sleep(AGAIN_AFTER);
    }
    Ok(true)
}

/// Contents of a database, or why they cannot be read.
type Found = Result<Contents, String>;

/// The database that was read last.
static KNOWN: Mutex<Option<(Location, Found)>> = Mutex::new(None);

/// Contents of a database. Cached, because a command reads the configuration several times.
fn look_into(location: &Location) -> Found {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match known.filter(|(place, _)| place == location) {
        Some((_, found)) => found,
        None => look_again(location).map_err(|error| error.to_string()),
    }
}

/// Reads the contents of a database, not from the cache.
fn look_again(location: &Location) -> Result<Contents, RegistryError> {
    let found = wait(contents(location));
    let kept = found.as_ref().map(|found| *found);
    let kept = kept.map_err(ToString::to_string);
    *KNOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some((location.clone(), kept));
    found
}
