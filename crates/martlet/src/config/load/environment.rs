//! Variables of the environment and of `.env`.

use std::path::{Path, PathBuf};

use martlet_access::hash::CHEAP_HASHES;
use martlet_environment::{Parsed, parsed, variables};
use martlet_text_file::text_without_bom;

use super::check::parse_text;
use super::check::{Sourced, environment_name};
use super::effective::Effective;
use super::environment_file::{EnvironmentFile, place_of};
use crate::config::error::ConfigError;
use crate::config::file_access::read_environment_file;
use crate::config::nearest::{nearest, nearest_of};
use crate::config::regular_file;
use crate::config::schema::Key;
use martlet_settings::Takes;

/// Variable of commands that name no node: `off`: none is searched; a directory: only nodes with
/// data directories below it are found.
pub(crate) const FIND_NODES: &str = "MARTLET_FIND_NODES";

/// Variables of commands, tests and tools that are not configuration, and their meaning.
const NOT_CONFIGURATION: &[(&str, &str)] = &[
    ("MARTLET_BIN", "the program that tests start"),
    (FIND_NODES, "whether commands look for a running node"),
    (
        CHEAP_HASHES,
        "new hashes of passwords cost little (test builds)",
    ),
];

/// The meaning of a variable that is not configuration.
pub(crate) fn meaning_for_commands(name: &str) -> Option<&'static str> {
    let found = NOT_CONFIGURATION.iter().find(|(known, _)| *known == name);
    found.map(|(_, what)| *what)
}

/// Variables of the process, which take precedence, and of `.env` in the working directory.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<(String, String)>,
    /// The `.env` file, if there is one.
    pub(crate) file: Option<EnvironmentFile>,
}

pub(super) fn read_environment(
    environment: &[(String, String)],
    file: Option<&EnvironmentFile>,
    schema: &[Key],
    effective: &mut Effective,
) -> Result<(), ConfigError> {
    let names: Vec<(String, &Key)> = schema
        .iter()
        .map(|key| (environment_name(&key.path), key))
        .collect();
    for (name, text) in environment {
        if !name.starts_with("MARTLET_") || meaning_for_commands(name).is_some() {
            continue;
        }
        let place = place_of(file, name);
        if let Some(own) = name.strip_suffix("_FILE")
            && let Some((_, key)) = names.iter().find(|(known, _)| known == own)
            && key.takes == Takes::Secret
        {
            if environment.iter().any(|(known, _)| known == own) {
                return Err(ConfigError::Unusable(format!(
                    "{place}: {own} is set too; which of them is meant?"
                )));
            }
            effective.secret_files.push(PathBuf::from(text));
            let text = regular_file::read_named_text(Path::new(text)).map_err(|error| {
                ConfigError::Unusable(format!("{place}: cannot read {text}: {error}"))
            })?;
            let value = parse_text(
                key,
                text_without_bom(&text).trim_end_matches(['\n', '\r']),
                &place,
            )?;
            let source = place;
            effective.set(&key.path, Sourced { value, source })?;
            continue;
        }
        match names.iter().find(|(known, _)| known == name) {
            Some((_, key)) => {
                let value = parse_text(key, text, &place)?;
                let source = place;
                effective.set(&key.path, Sourced { value, source })?;
            }
            None => {
                let hint = nearest_name(schema, name);
                effective
                    .warnings
                    .push(format!("{place}: no such setting{}", nearest(&hint)));
            }
        }
    }
    Ok(())
}

/// The variable of a key that is most similar to an unknown one. The common prefix `MARTLET_` does
/// not count.
fn nearest_name(schema: &[Key], name: &str) -> Option<String> {
    let path = name.strip_prefix("MARTLET_").unwrap_or(name);
    let path = path.replace("__", ".").to_lowercase();
    let hint = nearest_of(schema.iter().map(|key| key.path.as_str()), &path);
    hint.map(|path| environment_name(&path))
}

/// Reads the environment of this process.
///
/// # Errors
/// Another user could have written `.env`, or it cannot be read.
pub(crate) fn environment() -> Result<Environment, ConfigError> {
    let (path, text) = read_environment_file()?.unzip();
    let text = text.unwrap_or_default();
    let Parsed {
        assignments,
        skipped,
    } = parsed(&text);
    let variables = variables(&assignments);
    // Variables that are not UTF-8 are skipped.
    let names = assignments.iter().map(|found| found.name.clone());
    let overridden = names.filter(|name| std::env::var(name).is_ok()).collect();
    let file = path.map(|path| EnvironmentFile {
        path,
        assignments,
        skipped,
        overridden,
    });
    Ok(Environment { variables, file })
}
