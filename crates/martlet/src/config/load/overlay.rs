//! What the command line says.

use std::path::PathBuf;

use super::environment_file::EnvironmentFile;

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
