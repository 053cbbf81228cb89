//! Selects the devices that a command lists.

use clap::Args;
use martlet_control::use_cases::PageOfDevices;
use martlet_registry::{Device, DeviceFilter, DeviceOrder, PageRequest};

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
