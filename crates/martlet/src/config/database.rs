//! `DATABASE_URL` and `DATABASE_DSN`: many programs use these variables for their own databases.
//! Such a database is used only if there is evidence that it is for Martlet.

use std::sync::Mutex;

use martlet_registry::{Contents, Location, OtherSystem, contents, wait};

use super::data_dir::data_dir;
use super::error::ConfigError;
use super::key;
use super::load::{DEFAULT_SOURCE, Effective, EnvironmentFile, Sourced, place_of};
use super::registry::{location_of, noted_place};
use super::schema::Value;

/// The variables; the first takes precedence.
pub(crate) const NAMES: [&str; 2] = ["DATABASE_URL", "DATABASE_DSN"];

/// Variables that only one of the systems with such databases uses: all names of a line together.
const TELLING: [&[&str]; 3] = [
    &["IOTFLOW_ADMIN_TOKEN"],
    &["ENABLE_JETSTREAM"],
    &["NATS_URL", "LISTEN_ADDR"],
];

/// Whether a variable affects the location of the tables.
pub(crate) fn is_about_database(name: &str) -> bool {
    NAMES.contains(&name) || TELLING.iter().any(|names| names.contains(&name))
}

/// Sets `registry.url` from one of the variables, if its database is for Martlet. Otherwise adds a
/// warning that contains the key to set.
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
    for name in NAMES {
        let Some(url) = get(name) else {
            continue;
        };
        let place = place_of(file, name);
        if !is_understood(url) {
            let warning =
                format!("{place}: not used, it begins with neither postgres:// nor sqlite:");
            effective.warnings.push(warning);
            continue;
        }
        let is_told = effective.settings().registry.adopt
            || TELLING
                .iter()
                .any(|names| names.iter().all(|name| get(name).is_some()));
        let location = location_of(url, effective)
            .map_err(|why| ConfigError::Unusable(format!("{place}: {why}")))?;
        match decide(&location, effective, is_told)? {
            Decision::Use(notice) => {
                effective.warnings.extend(notice);
                let sourced = Sourced {
                    value: Value::Secret(url.to_owned().into()),
                    source: place,
                };
                effective.set(key!(registry.url), sourced)?;
            }
            Decision::Leave(why) => {
                let warning = format!("{place}: {location} is not used: {why}");
                effective.warnings.push(warning);
            }
        }
        return Ok(());
    }
    Ok(())
}

/// Whether the URL is that of a supported kind of database.
fn is_understood(url: &str) -> bool {
    let known = ["postgres://", "postgresql://", "sqlite:", "sqlite3:"];
    known.iter().any(|scheme| url.starts_with(scheme))
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
            let key = "registry.adopt = true (MARTLET_REGISTRY__ADOPT=true) or registry.url";
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

/// Contents of a database. Cached, because a command reads the configuration several times.
fn look_into(location: &Location) -> Result<Contents, String> {
    static KNOWN: Mutex<Option<(Location, Result<Contents, String>)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(|broken| broken.into_inner());
    if let Some((place, found)) = &*known
        && place == location
    {
        return found.clone();
    }
    let found = wait(contents(location)).map_err(|error| error.to_string());
    *known = Some((location.clone(), found.clone()));
    found
}
