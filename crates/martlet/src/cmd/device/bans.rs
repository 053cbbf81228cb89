//! Bans that refuse a device that is being added.

use martlet_control::text::{printable, typed};
use serde_json::Value;

use crate::cmd::door::Door;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::view::text;
use crate::config;
use crate::serve::program_name;

/// A line for each ban that refuses the device, with the command that removes it. Empty if there
/// is none.
pub(super) fn notes(door: &Door<'_>, node: &NodeOptions, device: &Value) -> String {
    let refuses = |ban: &&Value| {
        // Without a team of its own tenant, the User Name is the id.
        let is_there = match ban["team"].is_null() {
            true => device["user_name"] == device["id"],
            false => ban["team"] == device["team"],
        };
        is_there && ban["kind"] != "address" && ban["value"] == device["id"]
    };
    // The device is added; a note is no reason to fail.
    let bans = door.all("/api/v1/bans", &[]).unwrap_or_default();
    let bans = bans.iter().filter(refuses);
    bans.map(|ban| note(node, &text(device, "id"), ban))
        .collect()
}

fn note(node: &NodeOptions, id: &str, ban: &Value) -> String {
    let what = match ban["kind"] == "client_id" {
        true => "the client id",
        false => "the user",
    };
    let options = node.load().map_or_else(
        |_| String::new(),
        |effective| config::options_of(&effective),
    );
    format!(
        "Note: {what} {} is banned, so the device is refused. To remove the ban: {} ban rm {options}{}\n",
        printable(id),
        program_name(),
        typed(&text(ban, "id")),
    )
}
