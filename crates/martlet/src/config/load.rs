//! Merges the sources of the configuration and records the source of each value.
//!
//! * `effective`: the effective configuration
//! * `sourced`, `table`: its values with their sources, and tables of lists
//! * `check`: checks of values against their keys
//! * `file`, `environment`, `environment_file`, `overlay`: the sources of values

mod check;
mod effective;
mod environment;
mod environment_file;
mod file;
mod overlay;
mod table;

pub(crate) use check::{DEFAULT_SOURCE, KeyValues, Sourced, environment_name};
pub(crate) use effective::{Effective, SinkTable};
pub(crate) use environment::{FIND_NODES, environment, meaning_for_commands};
pub(crate) use environment_file::{EnvironmentFile, origin_of, place_of};
pub(crate) use overlay::{HttpAddress, Overlay};
pub(crate) use table::{HttpListenerTable, ListenerTable, Table, TelemetryRuleTable};

use std::path::Path;

use crate::config::error::ConfigError;
use crate::config::file_access::unreadable_files;
use crate::config::schema::keys;
use crate::config::{database, mosquitto, seeds, stars};
use check::{known_key, parse_text};
use environment::read_environment;
use file::read_file;
use martlet_settings::{Takes, Value};

/// Merges the default values, the file, the environment and the command line, in increasing
/// precedence. `environment` is that of the process and of `.env`.
pub(crate) fn load(
    overlay: &Overlay,
    environment: &[(String, String)],
) -> Result<Effective, ConfigError> {
    let schema = keys();
    let mut effective = Effective::defaults();
    if let Some(path) = &overlay.file {
        read_file(path, schema, &mut effective)?;
        effective.files.push(path.clone());
        effective.own_file = Some(path.clone());
    }
    if let Some(path) = &overlay.mosquitto {
        mosquitto::read(path, &mut effective)?;
    }
    let env_file = overlay.environment_file.as_ref();
    let variables = seeds::Variables::new(environment, env_file);
    seeds::read(&variables, &mut effective, !overlay.listen.is_empty())?;
    read_environment(environment, env_file, schema, &mut effective)?;
    let given = overlay.values.iter().map(|given| (given, false));
    let usual = overlay.usual.iter().map(|usual| (usual, true));
    for ((path, text, option), is_usual) in given.chain(usual) {
        if is_usual && effective.is_set(path) {
            continue;
        }
        let place = format!("command line {option}");
        let key = known_key(schema, path, &place)?;
        if key.takes == Takes::Secret {
            return Err(ConfigError::Unusable(format!(
                "{place} {path}: other users of this machine can read command lines; put it into the \
                 configuration file or into the environment, as {}",
                environment_name(path)
            )));
        }
        let value = parse_text(key, text, &place)?;
        let source = place;
        effective.set(path, Sourced { value, source })?;
    }
    if !overlay.listen.is_empty() {
        let listeners = overlay.listen.iter().map(|url| listener_of(url));
        let before = std::mem::replace(
            &mut effective.listeners,
            listeners.collect::<Result<_, _>>()?,
        );
        effective.notes.extend(not_opened(&before, &overlay.listen));
    }
    seeds::add_nats(&variables, &mut effective)?;
    seeds::add_http_listeners(&variables, &overlay.http, &mut effective)?;
    database::adopt(environment, env_file, &mut effective)?;
    database::warn_of_unused_file(&mut effective)?;
    let stars = stars::warnings(&effective);
    effective.warnings.extend(stars);
    Ok(effective)
}

/// A note on listeners that are not opened because of `--listen`: those of the configuration, or
/// the default ones.
fn not_opened(before: &[ListenerTable], given: &[String]) -> Option<String> {
    let is_given = |schemes: [&str; 2]| {
        let mut given = given.iter().filter_map(|url| url.split_once("://"));
        given.any(|(scheme, _)| schemes.contains(&scheme))
    };
    let default = [
        (["mqtt", "mqtts"], "--listen mqtt://127.0.0.1:1883"),
        (["ws", "wss"], "--listen ws://127.0.0.1:9001/mqtt"),
    ];
    let missing = default.into_iter().filter(|(of, _)| !is_given(*of));
    let missing: Vec<&str> = missing.map(|(_, option)| option).collect();
    let rest = match before.first() {
        Some(first) => {
            let place = first.values().values().next();
            let place = place.map_or("", |sourced| &*sourced.source);
            format!(", not those of the configuration ({place})")
        }
        None if missing.is_empty() => return None,
        None => format!(
            "; to open the default ones too, add {}",
            missing.join(" and ")
        ),
    };
    Some(format!(
        "command line: only the listeners that are named are open{rest}"
    ))
}

fn listener_of(url: &str) -> Result<ListenerTable, ConfigError> {
    let source = "command line --listen".to_owned();
    let url = Sourced {
        value: Value::Text(url.to_owned()),
        source,
    };
    ListenerTable::of([("url".to_owned(), url)])
}

/// Result of reading only a Mosquitto file: its values, and a report for each line.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) effective: Effective,
    pub(crate) report: Vec<mosquitto::ReportLine>,
    /// The error, if the file cannot be used.
    pub(crate) error: Option<ConfigError>,
}

/// Reads only a Mosquitto file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn import_mosquitto(path: &Path) -> Result<Imported, ConfigError> {
    let mut effective = Effective::defaults();
    let (report, result) = mosquitto::read_all(path, &mut effective)?;
    let error = result.err().map(|error| {
        let mut all = match error {
            ConfigError::Several(all) => all,
            error => vec![error.to_string()],
        };
        let unreadable = unreadable_files(&effective);
        all.extend(unreadable.iter().map(ToString::to_string));
        match all.len() {
            1 => ConfigError::Unusable(all.remove(0)),
            _ => ConfigError::Several(all),
        }
    });
    Ok(Imported {
        effective,
        report,
        error,
    })
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
