//! What is known of the configuration of a device that is asked about why it does not work.

use martlet_broker::TenantId;
use martlet_registry::{Twin, Visibility};

use super::Twins;
use super::message::topics_of;
use crate::control::Control;
use crate::text::typed;
use crate::wall_clock::unsigned;
use crate::why::facts::{DeviceTwin, Facts};

/// Values that are named.
const NAMED: usize = 5;

impl Twins {
    /// Adds it. `team`: the caller sees devices of this team alone. Where the tables cannot be
    /// read, health says so, and the rest is told.
    pub async fn complete(&self, control: &Control, team: Option<&str>, facts: &mut Facts) {
        let (device, tenant) = (facts.question.name.clone(), facts.question.tenant);
        let of_tenant = control.team_of_tenant(tenant);
        // A device is named within a team, or in the common tenant.
        let visibility = Visibility::of(team.or(of_tenant.as_deref()));
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.twin(&visibility, (&*device).into()).await })
        });
        let twin = read.await.ok().filter(|twin| twin.tenant == tenant.0);
        facts.twin = twin.map(|twin| self.recalled(control, &twin));
    }

    fn recalled(&self, control: &Control, twin: &Twin) -> DeviceTwin {
        let (topic, reports) = topics_of(&self.catalogue, &twin.device_type, &twin.device);
        let device = typed(&twin.device);
        let missing = twin.difference();
        DeviceTwin {
            version: twin.desired.version,
            desired_ms: unsigned(twin.desired.updated_ms),
            reported_ms: unsigned(twin.reported.updated_ms),
            missing: missing.keys().take(NAMED).cloned().collect(),
            misread: self.misread.of((twin.tenant, &twin.device)),
            topic,
            reports,
            show: control.command_of_tenant("device twin", TenantId(twin.tenant), &device),
        }
    }
}
