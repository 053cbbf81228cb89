//! Configuration from the command line.

use std::path::PathBuf;

use super::check::DEFAULT_SOURCE;
use super::environment_file::EnvironmentFile;

/// Configuration from the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// `--mosquitto-conf`.
    pub(crate) mosquitto: Option<PathBuf>,
    /// Key, value as text, and the option that sets it.
    pub(crate) values: Vec<(String, String, &'static str)>,
    /// Values likewise, for keys that nothing else sets.
    pub(crate) usual: Vec<(String, String, &'static str)>,
    /// `--listen`, replacing all configured listeners.
    pub(crate) listen: Vec<String>,
    /// Further HTTP listeners.
    pub(crate) http: Vec<HttpAddress>,
    /// The `.env` file that contains some of the variables.
    pub(crate) environment_file: Option<EnvironmentFile>,
}

/// An HTTP listener requested by an option or variable of another system.
#[derive(Clone, Debug)]
pub(crate) struct HttpAddress {
    /// Number of the system, as in `http.compat`.
    pub(crate) system: &'static str,
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// The option or variable.
    pub(crate) source: String,
}

impl HttpAddress {
    /// Returns the listener as the default of an option that is not given: the node starts without
    /// it if its address is in use.
    pub(crate) fn optional(self) -> Self {
        let source = DEFAULT_SOURCE.to_owned();
        Self { source, ..self }
    }
}
