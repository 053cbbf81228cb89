//! Lays the sources of configuration over each other and remembers where each value came from.
//!
//! * `effective`: the configuration in force
//! * `table`: tables of lists in it
//! * `file`, `environment`: two of the places that values come from

mod effective;
mod environment;
mod file;
mod table;

pub(crate) use effective::{DEFAULT_SOURCE, Effective, KeyValues, SinkTable, Sourced};
pub(crate) use environment::{EnvironmentFile, environment, environment_name, origin_of, place_of};
pub(crate) use table::{HttpListenerTable, ListenerTable, Table, TelemetryRuleTable};

use std::path::{Path, PathBuf};

use crate::config::file_access::unreadable_files;
use crate::config::schema::{Key, Kind, Value, keys};
use crate::config::{database, mosquitto, seeds};
use environment::read_environment;
use file::read_file;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// `--mosquitto-conf`.
    pub(crate) mosquitto: Option<PathBuf>,
    /// Key, value as text, and the option that says so.
    pub(crate) values: Vec<(String, String, &'static str)>,
    /// `--listen`, replacing all configured listeners.
    pub(crate) listen: Vec<String>,
    /// Further HTTP listeners.
    pub(crate) http: Vec<HttpAddress>,
    /// The `.env` that some of the variables come from.
    pub(crate) environment_file: Option<EnvironmentFile>,
}

/// An HTTP listener that an option or variable of another system asks for.
#[derive(Clone, Debug)]
pub(crate) struct HttpAddress {
    /// Number of the system, as in `http.compat`.
    pub(crate) system: &'static str,
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// Which option or variable.
    pub(crate) source: String,
}

/// Why a configuration is not accepted: which source, which key, what was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}{}", path.display(), beginning(.path))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: {text}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, column and what is wrong.
        text: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key `{key}`{}", nearest(.hint))]
    UnknownKey {
        /// Source and line.
        place: String,
        /// The key as written.
        key: String,
        /// The nearest known one.
        hint: Option<String>,
    },
    /// The value does not fit.
    #[error("{place}: `{key}` is {got}, expected {expected}")]
    Value {
        /// Source and line.
        place: String,
        /// Which key.
        key: String,
        /// The value as written.
        got: String,
        /// What would fit.
        expected: String,
    },
    /// Several of these at once.
    #[error("{} errors:\n  {}", .0.len(), .0.join("\n  "))]
    Several(Vec<String>),
    /// Values that do not go together, or cannot be used on this machine.
    #[error("{0}")]
    Unusable(String),
}

/// Where a path begins that is not whole.
fn beginning(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(directory) if path.is_relative() => {
            format!(
                "; it begins at the working directory, {}",
                directory.display()
            )
        }
        _ => String::new(),
    }
}

pub(super) fn nearest(hint: &Option<String>) -> String {
    hint.as_ref()
        .map(|known| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

/// Lays file, environment and command line over the defaults. `environment` is the process's, with
/// `.env` below it.
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
    for (path, text, option) in &overlay.values {
        let place = format!("command line {option}");
        let key = known_key(schema, path, &place)?;
        if key.kind == Kind::Secret {
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
        effective.listeners = listeners.collect::<Result<_, _>>()?;
    }
    seeds::add_nats(&variables, &mut effective)?;
    seeds::add_http_listeners(&variables, &overlay.http, &mut effective)?;
    database::adopt(environment, env_file, &mut effective)?;
    Ok(effective)
}

fn listener_of(url: &str) -> Result<ListenerTable, ConfigError> {
    let source = "command line --listen".to_owned();
    let url = Sourced {
        value: Value::Text(url.to_owned()),
        source,
    };
    ListenerTable::of([("url".to_owned(), url)])
}

fn known_key<'a>(schema: &'a [Key], path: &str, place: &str) -> Result<&'a Key, ConfigError> {
    schema
        .iter()
        .find(|key| key.path == path)
        .ok_or_else(|| ConfigError::UnknownKey {
            place: place.to_owned(),
            key: path.to_owned(),
            hint: nearest_of(schema.iter().map(|key| key.path.as_str()), path),
        })
}

fn parse_text(key: &Key, text: &str, place: &str) -> Result<Value, ConfigError> {
    let value = match key.kind {
        Kind::Integer { .. } | Kind::NoneOrAtLeast { .. } => {
            text.trim().parse().ok().map(Value::Integer)
        }
        Kind::Boolean => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
            _ => None,
        },
        Kind::Word(_) | Kind::Text => Some(Value::Text(text.to_owned())),
        Kind::Texts | Kind::Topics => Some(Value::Texts(vec![text.to_owned()])),
        Kind::Headers => Some(Value::Headers(vec![text.to_owned()])),
        Kind::Secret => Some(Value::Secret(text.to_owned().into())),
    };
    value
        .filter(|value| fits(key.kind, value))
        .ok_or_else(|| ConfigError::Value {
            place: place.to_owned(),
            key: key.path.clone(),
            got: format!("{text:?}"),
            expected: expectation(key.kind) + &unit_hint(&key.path, key.kind, text),
        })
}

/// For a number with a unit behind it: what the number counts, and how it is written without one.
fn unit_hint(path: &str, kind: Kind, text: &str) -> String {
    if !matches!(kind, Kind::Integer { .. } | Kind::NoneOrAtLeast { .. }) {
        return String::new();
    }
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let Ok(number) = number.parse::<u64>() else {
        return String::new();
    };
    let unit = unit.trim().to_ascii_lowercase();
    let (what, factor): (_, u64) = if path.contains("bytes") {
        let factor = match unit.trim_end_matches("ib").trim_end_matches('b') {
            "" if !unit.is_empty() => 1,
            "k" => 1 << 10,
            "m" => 1 << 20,
            "g" => 1 << 30,
            "t" => 1 << 40,
            _ => return String::new(),
        };
        ("bytes", factor)
    } else if path.ends_with("_secs") {
        let factor = match &*unit {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3_600,
            "d" | "day" | "days" => 86_400,
            _ => return String::new(),
        };
        ("seconds", factor)
    } else {
        return String::new();
    };
    let number = number.saturating_mul(factor);
    format!("; it is a number of {what}, without a unit: {number}")
}

/// What a file of Mosquitto's alone says, and what becomes of each line.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) effective: Effective,
    pub(crate) report: Vec<mosquitto::ReportLine>,
    /// What keeps the file from being used.
    pub(crate) error: Option<ConfigError>,
}

/// Reads a file of Mosquitto's alone.
///
/// # Errors
/// It cannot be read.
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

/// Stores a value, if the key takes it.
///
/// # Errors
/// It does not: what was expected. A value of another type is never stored as 0 or as nothing.
fn checked(
    key: &str,
    kind: Kind,
    sourced: &Sourced,
    store: impl FnOnce(&Value) -> bool,
) -> Result<(), ConfigError> {
    let value = &sourced.value;
    if fits(kind, value) && store(value) {
        return Ok(());
    }
    let is_secret = matches!(kind, Kind::Secret | Kind::Headers);
    Err(ConfigError::Value {
        place: sourced.source.clone(),
        key: key.to_owned(),
        got: match is_secret {
            true => "of another type".to_owned(),
            false => value.to_string(),
        },
        expected: expectation(kind),
    })
}

fn fits(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Integer { min, max }, Value::Integer(number)) => (min..=max).contains(number),
        (Kind::NoneOrAtLeast { min }, Value::Integer(number)) => *number == 0 || *number >= min,
        (Kind::Boolean, Value::Boolean(_)) => true,
        (Kind::Text, Value::Text(_)) | (Kind::Secret, Value::Secret(_)) => true,
        (Kind::Texts | Kind::Topics, Value::Texts(_)) | (Kind::Headers, Value::Headers(_)) => true,
        (Kind::Word(words), Value::Text(word)) => words.contains(&word.as_str()),
        _ => false,
    }
}

/// What a value of this kind is, in words.
pub(crate) fn expectation(kind: Kind) -> String {
    match kind {
        Kind::Integer { min, max: u64::MAX } => format!("a whole number of at least {min}"),
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Kind::NoneOrAtLeast { min } => format!("0, or a whole number of at least {min}"),
        Kind::Boolean => "true or false".to_owned(),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::Text => "text in quotes".to_owned(),
        Kind::Texts | Kind::Headers => "a list of texts, such as [\"a\", \"b\"]".to_owned(),
        Kind::Topics => {
            "a list of topics, such as [{ filter = \"a/#\", direction = \"out\" }]".to_owned()
        }
        Kind::Secret => "a secret: text in quotes".to_owned(),
    }
}

/// How like two names are, from 0 to 1. What they begin with alike counts for much, so within one
/// section only what follows it is compared: keys of a section are not alike by its name alone.
fn likeness(known: &str, name: &str) -> f64 {
    let of_section = known
        .split_once('.')
        .zip(name.split_once('.'))
        .filter(|((known, _), (name, _))| known == name);
    let (known, name) = of_section.map_or((known, name), |((_, known), (_, name))| (known, name));
    match strsim::normalized_damerau_levenshtein(known, name) {
        edits if edits < 0.4 => 0.0,
        _ => strsim::jaro_winkler(known, name),
    }
}

/// The known name most like a misspelt one, if any is near.
pub(super) fn nearest_of<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<String> {
    known
        .map(|candidate| (likeness(candidate, name), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
