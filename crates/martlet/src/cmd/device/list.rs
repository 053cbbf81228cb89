//! `martlet device ls`: which devices it lists, and their table.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cmd::columns::{columns, left_out};
use crate::cmd::deleted::DeletedKept;
use crate::cmd::door::Door;
use crate::cmd::listing;
use crate::cmd::node_options::NodeAndForm;
use crate::cmd::query::DEVICES;
use crate::cmd::view::text;

/// Status of a device.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum StatusName {
    Active,
    Inactive,
    Maintenance,
}

impl StatusName {
    /// The word for it in the API.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Maintenance => "maintenance",
        }
    }
}

/// Which devices.
#[derive(Args, Debug)]
pub(super) struct Selection {
    /// Only devices of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Only devices of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only deleted devices
    #[arg(long)]
    deleted: bool,
    /// Only devices of this type
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// Only devices with this status
    #[arg(long)]
    status: Option<StatusName>,
    /// Only devices with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only devices of this group, by id or name
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Only devices of this user
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Only devices that are connected (true) or are not (false)
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    online: Option<bool>,
    /// Only devices that are inactive (true) or are not (false)
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    inactive: Option<bool>,
    /// Only devices with this text in their id, name or description
    #[arg(long, short = 's', value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    pub(super) on: NodeAndForm,
}

/// Arguments of `martlet device ls`.
#[derive(Args, Debug)]
pub(super) struct ListDevices {
    #[command(flatten)]
    of: Selection,
    /// Order of the list
    #[arg(long, default_value = "id")]
    sort: Order,
    /// List the first N devices
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
}

/// An order of devices.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Id,
    Created,
    LastSeen,
}

impl Selection {
    /// Parameters of a request.
    pub(super) fn filters(&self) -> impl Iterator<Item = (&'static str, String)> {
        let all = [
            ("team", self.team.clone()),
            ("kind", self.kind.clone()),
            ("deleted", self.deleted.then(|| true.to_string())),
            ("type", self.device_type.clone()),
            ("status", self.status.map(|status| status.word().to_owned())),
            ("tag", self.tag.clone()),
            ("group", self.group.clone()),
            ("owner", self.owner.clone()),
            ("online", self.online.map(|it| it.to_string())),
            ("inactive", self.inactive.map(|it| it.to_string())),
            ("q", self.search.clone()),
        ];
        let given = all.into_iter();
        given.filter_map(|(name, value)| Some((name, value?)))
    }
}

/// The devices, as JSON or as a table.
pub(super) fn list(options: &ListDevices) -> anyhow::Result<String> {
    let on = &options.of.on;
    let sort = match options.sort {
        Order::Id => "id",
        Order::Created => "created",
        Order::LastSeen => "last_seen",
    };
    let filters: Vec<_> = options.of.filters().collect();
    let filters = filters.iter().map(|(name, value)| (*name, &**value));
    let filters: Vec<_> = filters.chain([("sort", sort)]).collect();
    let door = Door::of(&on.node)?;
    let limit = options.limit.map_or(usize::MAX, NonZeroUsize::get);
    let (all, total) = door.items(DEVICES, &filters, limit)?;
    if on.json && options.limit.is_some() {
        return listing::first_of(&all, total);
    }
    if on.json {
        return Ok(listing::items(all));
    }
    let kept = DeletedKept::of(&on.node)?;
    let text = table(&all, options.of.deleted.then_some(kept));
    Ok(text + &left_out(all.len(), total))
}

/// The devices as a table. It has a column of kinds if any of them has a kind. Of deleted devices,
/// it shows until when they are kept.
fn table(devices: &[Value], deleted: Option<DeletedKept>) -> String {
    let third = if deleted.is_some() { "UNTIL" } else { "ONLINE" };
    let none = "There are no devices.";
    let fields = devices.iter().map(|device| {
        let deleted_at = device["deleted_at"].as_str().and_then(|at| at.parse().ok());
        let status = match deleted_at {
            Some(_) => "deleted".to_owned(),
            None => text(device, "status"),
        };
        let online = match deleted {
            Some(kept) => deleted_at.map_or_else(String::new, |at: jiff::Timestamp| {
                kept.day(at.as_millisecond())
            }),
            None if device["online"] == true => "yes".to_owned(),
            None if device["online_changed_at"].is_null() => "never".to_owned(),
            None => "no".to_owned(),
        };
        let name = match device["name"] == device["id"] {
            true => String::new(),
            false => text(device, "name"),
        };
        let [user_name, of] = ["user_name", "type"].map(|member| text(device, member));
        let [kind, count] = ["kind", "credentials"].map(|member| text(device, member));
        ([user_name, status, online, of], kind, [count, name])
    });
    match devices.iter().any(|device| device["kind"] != "") {
        true => columns(
            [
                "DEVICE",
                "STATUS",
                third,
                "TYPE",
                "KIND",
                ">CREDENTIALS",
                "NAME",
            ],
            fields.map(|([id, status, online, of], kind, [count, name])| {
                [id, status, online, of, kind, count, name]
            }),
            none,
        ),
        false => columns(
            ["DEVICE", "STATUS", third, "TYPE", ">CREDENTIALS", "NAME"],
            fields.map(|([id, status, online, of], _, [count, name])| {
                [id, status, online, of, count, name]
            }),
            none,
        ),
    }
}
