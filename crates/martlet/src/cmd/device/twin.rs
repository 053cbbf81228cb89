//! `martlet device twin`: the desired and reported values of a device, from a running node.

use clap::Args;
use martlet_control::text::printable;
use serde_json::Value;

use crate::cmd::admin::{AdminOptions, ask};
use crate::cmd::desired::DesiredChange;
use crate::cmd::node_options::TeamOption;
use crate::cmd::query::encoded;

#[derive(Args, Debug)]
pub(super) struct TwinOptions {
    /// Id of the device
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    of: TeamOption,
    #[command(flatten)]
    pub(super) admin: AdminOptions,
    #[command(flatten)]
    change: DesiredChange,
}

/// Shows the twin of a device, after changing it if requested.
pub(super) fn run(options: &TwinOptions) -> anyhow::Result<String> {
    let id = encoded(&options.id);
    let query = options.of.query();
    let data_dir = options.admin.node.data_dir()?;
    let target = format!("/api/v1/devices/{id}/twin");
    let changed = options
        .change
        .apply(&data_dir, &format!("{target}/desired{query}"))?;
    let body = match changed {
        Some(body) => body,
        None => ask(&data_dir, "GET", &format!("{target}{query}"))?,
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
