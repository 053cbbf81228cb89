//! Variables of the environment, and the file that sets them.

use std::path::PathBuf;

use super::effective::{Effective, Sourced};
use super::{ConfigError, nearest, nearest_of, parse_text};
use crate::config::file_access::read_environment_file;
use crate::config::schema::{Key, Kind};

/// Variables that tests and tools use and that configure nothing.
const NOT_CONFIGURATION: &[&str] = &["MARTLET_BIN"];

/// Variables of the process, over those of `.env` in the working directory.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<(String, String)>,
    /// The `.env`; none: there is no such file.
    pub(crate) file: Option<EnvironmentFile>,
}

/// A `.env` that was read.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentFile {
    /// From the root.
    pub(crate) path: PathBuf,
    /// Variables that it sets.
    pub(crate) names: Vec<String>,
    /// Variables whose value begins with a quote that is not closed, each with its line.
    pub(crate) unclosed: Vec<(usize, String)>,
}

/// `MARTLET_` + the key's path with `__` between its parts, in capitals. Of a secret, the same with
/// `_FILE` names the file that holds it.
pub(crate) fn environment_name(path: &str) -> String {
    format!("MARTLET_{}", path.replace('.', "__").to_uppercase())
}

pub(super) fn read_environment(
    environment: &[(String, String)],
    schema: &[Key],
    effective: &mut Effective,
) -> Result<(), ConfigError> {
    let names: Vec<(String, &Key)> = schema
        .iter()
        .map(|key| (environment_name(&key.path), key))
        .collect();
    for (name, text) in environment {
        if !name.starts_with("MARTLET_") || NOT_CONFIGURATION.contains(&name.as_str()) {
            continue;
        }
        let place = format!("environment {name}");
        if let Some(own) = name.strip_suffix("_FILE")
            && let Some((_, key)) = names.iter().find(|(known, _)| known == own)
            && key.kind == Kind::Secret
        {
            if environment.iter().any(|(known, _)| known == own) {
                return Err(ConfigError::Unusable(format!(
                    "{place}: {own} is set too; which of them is meant?"
                )));
            }
            effective.secret_files.push(PathBuf::from(text));
            let text = std::fs::read_to_string(text).map_err(|error| {
                ConfigError::Unusable(format!("{place}: cannot read {text}: {error}"))
            })?;
            let value = parse_text(key, text.trim_end_matches(['\n', '\r']), &place)?;
            let sourced = Sourced {
                value,
                source: place,
            };
            effective.values.insert(key.path.clone(), sourced);
            continue;
        }
        match names.iter().find(|(known, _)| known == name) {
            Some((_, key)) => {
                let value = parse_text(key, text, &place)?;
                effective.values.insert(
                    key.path.clone(),
                    Sourced {
                        value,
                        source: place,
                    },
                );
            }
            None => {
                let hint = nearest_of(names.iter().map(|(known, _)| known.as_str()), name);
                effective
                    .warnings
                    .push(format!("{place}: no such setting{}", nearest(&hint)));
            }
        }
    }
    Ok(())
}

/// The environment of this process.
///
/// # Errors
/// There is a `.env` that another user can have written, or that cannot be read.
pub(crate) fn environment() -> Result<Environment, ConfigError> {
    let (path, text) = read_environment_file()?.unzip();
    let text = text.unwrap_or_default();
    let mut variables = parse_env_file(&text);
    let unclosed = unclosed_quotes(&text);
    let names = variables.iter().map(|(name, _)| name.clone()).collect();
    let file = path.map(|path| EnvironmentFile {
        path,
        names,
        unclosed,
    });
    for (name, value) in std::env::vars_os() {
        if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
            variables.retain(|(known, _)| *known != name);
            variables.push((name, value));
        }
    }
    Ok(Environment { variables, file })
}

pub(super) fn parse_env_file(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), env_value(value.trim()).to_owned()))
        .collect()
}

/// Line and name of each variable whose value begins with a quote and has no second one. The value
/// is taken as it is written, with the quote.
pub(super) fn unclosed_quotes(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().map(str::trim).zip(1..);
    let lines = lines.filter(|(line, _)| !line.starts_with('#'));
    lines
        .filter_map(|(line, number)| {
            let (name, value) = line
                .strip_prefix("export ")
                .unwrap_or(line)
                .split_once('=')?;
            let value = value.trim();
            let quote = value
                .chars()
                .next()
                .filter(|first| matches!(first, '"' | '\''))?;
            (value.matches(quote).count() == 1).then(|| (number, name.trim().to_owned()))
        })
        .collect()
}

/// What stands in quotes, else what stands before a comment, as libraries that read such files have
/// it: a `#` within a word is a letter of it.
fn env_value(text: &str) -> &str {
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let (value, behind) = text.strip_prefix(quote)?.split_once(quote)?;
        let behind = behind.trim_start();
        (behind.is_empty() || behind.starts_with('#')).then_some(value)
    });
    if let Some(value) = quoted {
        return value;
    }
    if text.starts_with('#') {
        return "";
    }
    let comment = text.match_indices('#').find(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_some_and(char::is_whitespace)
    });
    comment.map_or(text, |(at, _)| text[..at].trim_end())
}
