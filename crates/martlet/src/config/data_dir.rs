//! The data directory, and the options by which commands find it.

use std::path::{Path, PathBuf};

use martlet_control::text::typed;

use super::error::ConfigError;
use super::load::Effective;

/// The path of the data directory. Creates nothing.
pub(crate) fn data_dir(effective: &Effective) -> Result<PathBuf, ConfigError> {
    let configured = &effective.settings().node.data_dir;
    if !configured.is_empty() {
        return Ok(PathBuf::from(configured));
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = variable("STATE_DIRECTORY") {
        return Ok(PathBuf::from(directory));
    }
    if let Some(state) = variable("XDG_STATE_HOME") {
        return Ok(PathBuf::from(state).join("martlet"));
    }
    match variable("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".local/state/martlet")),
        None => Err(ConfigError::Unusable(
            "no data directory: give --data-dir DIR, or set STATE_DIRECTORY, XDG_STATE_HOME or HOME"
                .to_owned(),
        )),
    }
}

/// Options by which commands find a node from any directory.
pub(crate) fn command_options(data_dir: Option<&Path>, config: Option<&Path>) -> String {
    let typed = |path: &Path| {
        let absolute = std::path::absolute(path);
        typed(&absolute.as_deref().unwrap_or(path).display().to_string())
    };
    let data_dir = data_dir.map(|directory| format!("--data-dir={}", typed(directory)));
    let config = config.map(|file| format!("-c {}", typed(file)));
    let all: Vec<String> = data_dir.into_iter().chain(config).collect();
    all.join(" ")
}

/// Returns the options by which commands find the node, followed by a space; empty if no data
/// directory is known.
pub(crate) fn options_of(effective: &Effective) -> String {
    let options = |directory: PathBuf| {
        let options = command_options(Some(&directory), effective.own_file.as_deref());
        format!("{options} ")
    };
    data_dir(effective).map(options).unwrap_or_default()
}
