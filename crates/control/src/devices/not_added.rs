//! Devices that were not added by a provisioning key: the journal has the reason, for questions
//! about the device.

use std::net::IpAddr;

use martlet_broker::{EventHead, Refusal, TenantId};
use martlet_registry::ProvisioningKey;

use super::{DeviceError, Devices};
use crate::event::{NodeEvent, NodeNotice, ShownKey};

impl Devices {
    /// Reports that a device was not added by HTTP: with this key, under this id if it has one.
    pub async fn report_not_added(
        &self,
        key: String,
        id: Option<&str>,
        from: Option<IpAddr>,
        error: &DeviceError,
    ) {
        let Some(cause) = error.refusal_cause() else {
            return;
        };
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.shown_provisioning_key(&key).await })
        });
        let key = read.await.ok().flatten();
        let why = match &key {
            Some(key) => format!("{error} (the key {})", key.name),
            None => "there is no such provisioning key".to_owned(),
        };
        let control = self.tables.control();
        let team = key.as_ref().map(|key| key.team.as_str());
        let tenant = team.and_then(|team| control.tenant_of_team(team));
        let head = EventHead::new(tenant.unwrap_or(TenantId(0)), id.unwrap_or_default());
        control.report_event(NodeNotice::new(
            head.with_address(from.map(|address| (address, 0))),
            NodeEvent::ProvisioningRefused {
                why: Refusal::operators_only(cause, why),
                key: key.as_ref().map(shown).map(Box::new),
            },
        ));
    }
}

fn shown(key: &ProvisioningKey) -> ShownKey {
    ShownKey {
        name: key.name.as_str().into(),
        device_type: key.device_type.as_str().into(),
        team: key.team.as_str().into(),
        id_pattern: key.id_pattern.as_str().into(),
    }
}
