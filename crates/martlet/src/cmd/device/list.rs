//! Selects the devices that a command lists, and their table.

use clap::Args;
use martlet_control::use_cases::PageOfDevices;
use martlet_registry::{Device, DeviceFilter, DeviceOrder, PageRequest};

use crate::cmd::columns::columns;
use crate::cmd::deleted::DeletedKept;
use crate::cmd::node_and_form::NodeAndForm;
use crate::cmd::tables;

#[derive(Args, Debug)]
pub(super) struct ListOptions {
    /// Only devices of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    pub(super) team: Option<String>,
    /// Only devices of this kind
    #[arg(long, value_name = "KIND")]
    pub(super) kind: Option<String>,
    /// Only deleted devices
    #[arg(long)]
    pub(super) deleted: bool,
    #[command(flatten)]
    pub(super) on: NodeAndForm,
}

/// The selected devices, by id.
pub(super) fn listed(options: &ListOptions) -> anyhow::Result<Vec<Device>> {
    let filter = DeviceFilter {
        kind: options.kind.clone(),
        deleted: options.deleted,
        ..DeviceFilter::default()
    };
    tables::read(&options.on.node, async |open| {
        let (mut all, mut request) = (Vec::new(), PageRequest::first(1_000));
        loop {
            let page = PageOfDevices {
                filter: filter.clone(),
                order: DeviceOrder::Id,
                page: request.clone(),
            };
            let page = open.run_in(options.team.as_deref(), page).await?;
            all.extend(page.items);
            request.cursor = page.next;
            if request.cursor.is_none() {
                return Ok(all);
            }
        }
    })
}

/// The devices as a table. It has a column of kinds if any of them has a kind. Of deleted devices,
/// it shows until when they are kept.
pub(super) fn table(devices: &[Device], deleted: Option<DeletedKept>) -> String {
    let third = if deleted.is_some() { "UNTIL" } else { "ONLINE" };
    let none = "There are no devices.";
    let fields = devices.iter().map(|device| {
        let status = match device.deleted_ms > 0 {
            true => "deleted",
            false => device.status.word(),
        };
        let online = match (&device.presence, deleted) {
            (_, Some(kept)) => kept.day(device.deleted_ms),
            (Some(presence), None) if presence.online => "yes".to_owned(),
            (Some(_), None) => "no".to_owned(),
            (None, None) => "never".to_owned(),
        };
        let name = match device.name == device.id {
            true => String::new(),
            false => device.name.clone(),
        };
        let first = [
            device.user_name.clone(),
            status.to_owned(),
            online,
            device.device_type.clone(),
        ];
        (
            first,
            device.kind.clone(),
            [device.credentials.to_string(), name],
        )
    });
    match devices.iter().any(|device| !device.kind.is_empty()) {
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
