//! `martlet device twin`: the values that a device is to have, and those that it has reported, of a
//! running node.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use martlet_control::text::printable;
use serde_json::Value;

use crate::cmd::admin::{AdminOptions, ask, ask_with, encoded};
use crate::cmd::node_options::TeamOption;

#[derive(Args, Debug)]
pub(super) struct TwinOptions {
    /// Id of the device
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    of: TeamOption,
    #[command(flatten)]
    pub(super) admin: AdminOptions,
    /// Change desired values: a JSON object, in which null removes a value
    #[arg(long, value_name = "JSON", conflicts_with = "replace")]
    set: Option<String>,
    /// Replace all desired values by this JSON object
    #[arg(long, value_name = "JSON")]
    replace: Option<String>,
}

/// Shows the twin of a device, after it was changed if that is wanted.
pub(super) fn run(options: &TwinOptions) -> anyhow::Result<String> {
    let id = encoded(&options.id);
    let query = options.of.query();
    let data_dir = options.admin.node.data_dir()?;
    let change = |method: &str, option: &str, text: &str| {
        let values: Value =
            serde_json::from_str(text).with_context(|| format!("{option}: {text:?} is no JSON"))?;
        let target = format!("/api/v1/devices/{id}/twin/desired{query}");
        let body = values.to_string();
        ask_with(&data_dir, (method, &target), &body, Duration::ZERO)
    };
    let body = match (&options.set, &options.replace) {
        (Some(text), _) => change("PATCH", "--set", text)?,
        (None, Some(text)) => change("PUT", "--replace", text)?,
        (None, None) => ask(
            &data_dir,
            "GET",
            &format!("/api/v1/devices/{id}/twin{query}"),
        )?,
    };
    if options.admin.json {
        return Ok(body);
    }
    let twin: Value = serde_json::from_str(&body)?;
    let mut text = String::new();
    for side in ["desired", "reported"] {
        let (values, version) = (&twin[side]["values"], &twin[side]["version"]);
        let line = format!("{side:<12} {values} (version {version})");
        text.push_str(&format!("{}\n", printable(&line)));
    }
    let difference = format!("difference   {}", twin["difference"]);
    text.push_str(&format!("{}\n", printable(&difference)));
    Ok(text)
}
