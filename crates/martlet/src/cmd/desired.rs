//! Options for desired values of devices and groups.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::cmd::admin::ask_with;

/// Change of desired values.
#[derive(Args, Debug)]
pub(crate) struct DesiredChange {
    /// Change desired values: a JSON object, in which null removes a value
    #[arg(long, value_name = "JSON", conflicts_with = "replace")]
    set: Option<String>,
    /// Replace all desired values by this JSON object
    #[arg(long, value_name = "JSON")]
    replace: Option<String>,
}

impl DesiredChange {
    /// Changes the desired values at this path of the API. Returns the response; `None` if there is
    /// nothing to change.
    ///
    /// # Errors
    /// The argument is not JSON, or the node refuses the change or does not respond.
    pub(crate) fn apply(&self, data_dir: &Path, target: &str) -> anyhow::Result<Option<String>> {
        let (method, option, text) = match (&self.set, &self.replace) {
            (Some(text), _) => ("PATCH", "--set", text),
            (None, Some(text)) => ("PUT", "--replace", text),
            (None, None) => return Ok(None),
        };
        let values: Value = serde_json::from_str(text)
            .with_context(|| format!("{option}: {text:?} is not JSON"))?;
        let body = values.to_string();
        ask_with(data_dir, method, target, &body, Duration::ZERO).map(Some)
    }
}
