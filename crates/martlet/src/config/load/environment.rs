//! Variables of the environment, and the file that sets them.

use std::path::PathBuf;

use martlet_environment::{lines, unclosed_quotes, variables};

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
    /// Variables that it sets, each with its line, in their order.
    pub(crate) lines: Vec<(usize, String)>,
    /// Those of them that the process has too: its values count.
    pub(crate) overridden: Vec<String>,
    /// Variables whose value begins with a quote that is not closed, each with its line.
    pub(crate) unclosed: Vec<(usize, String)>,
}

impl EnvironmentFile {
    /// Whether it sets this variable, whether or not the process has it too.
    pub(crate) fn sets(&self, name: &str) -> bool {
        self.lines.iter().any(|(_, known)| known == name)
    }
}

/// Where the value of a variable comes from: `PATH/.env line 3 NAME` or `environment NAME`.
pub(crate) fn place_of(file: Option<&EnvironmentFile>, name: &str) -> String {
    format!("{} {name}", origin_of(file, name))
}

/// The same without the name.
pub(crate) fn origin_of(file: Option<&EnvironmentFile>, name: &str) -> String {
    let found = file.and_then(|file| {
        let is_overridden = file.overridden.iter().any(|known| known == name);
        // The last line counts.
        let mut lines = file.lines.iter().rev();
        let (line, _) = lines.find(|(_, known)| known == name && !is_overridden)?;
        Some(format!("{} line {line}", file.path.display()))
    });
    found.unwrap_or_else(|| "environment".to_owned())
}

/// `MARTLET_` + the key's path with `__` between its parts, in capitals. Of a secret, the same with
/// `_FILE` names the file that holds it.
pub(crate) fn environment_name(path: &str) -> String {
    format!("MARTLET_{}", path.replace('.', "__").to_uppercase())
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
        if !name.starts_with("MARTLET_") || NOT_CONFIGURATION.contains(&name.as_str()) {
            continue;
        }
        let place = place_of(file, name);
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

/// The name of a key's variable that is nearest to one that is not known. That all begin with
/// `MARTLET_` makes none of them alike.
fn nearest_name(schema: &[Key], name: &str) -> Option<String> {
    let path = name.strip_prefix("MARTLET_").unwrap_or(name);
    let path = path.replace("__", ".").to_lowercase();
    let hint = nearest_of(schema.iter().map(|key| key.path.as_str()), &path);
    hint.map(|path| environment_name(&path))
}

/// The environment of this process.
///
/// # Errors
/// There is a `.env` that another user can have written, or that cannot be read.
pub(crate) fn environment() -> Result<Environment, ConfigError> {
    let (path, text) = read_environment_file()?.unzip();
    let text = text.unwrap_or_default();
    let lines = lines(&text);
    // Not UTF-8: it is left out.
    let has = |name: &String| std::env::var(name).is_ok();
    let names = lines.iter().map(|(_, name)| name);
    let overridden = names.filter(|name| has(name)).cloned().collect();
    let unclosed = unclosed_quotes(&text);
    let file = path.map(|path| EnvironmentFile {
        path,
        lines,
        overridden,
        unclosed,
    });
    let variables = variables(&text);
    Ok(Environment { variables, file })
}
