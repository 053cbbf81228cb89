//! Bans that refuse a device that is being added.

use jiff::Timestamp;
use martlet_control::text::{printable, typed};
use martlet_control::use_cases::ListBans;
use martlet_registry::{Ban, BanKind, Device};

use crate::cmd::node_options::NodeOptions;
use crate::cmd::tables;
use crate::config;
use crate::serve::program_name;

/// A line for each ban that refuses the device, with the command that removes it. Empty if there
/// is none.
pub(super) fn notes(node: &NodeOptions, device: &Device) -> String {
    let now_ms = Timestamp::now().as_millisecond();
    let refuses = |ban: &Ban| {
        ban.kind != BanKind::Address
            && (ban.tenant, &ban.value) == (device.tenant, &device.id)
            && ban.holds(now_ms)
    };
    // The device is added; a note is no reason to fail.
    let bans = tables::run(node, ListBans { with_ended: false }).unwrap_or_default();
    let bans = bans.into_iter().filter(refuses);
    bans.map(|ban| note(node, device, &ban)).collect()
}

fn note(node: &NodeOptions, device: &Device, ban: &Ban) -> String {
    let what = match ban.kind {
        BanKind::ClientId => "the client id",
        BanKind::UserName => "the user",
        BanKind::Address => "the address",
    };
    let options = node.load().map_or_else(
        |_| String::new(),
        |effective| config::options_of(&effective),
    );
    format!(
        "Note: {what} {} is banned, so the device is refused. To remove the ban: {} ban rm {options}{}\n",
        printable(&device.id),
        program_name(),
        typed(&ban.id),
    )
}
