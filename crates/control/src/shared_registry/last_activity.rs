//! When devices were last active, for `why`.

use martlet_registry::LastActivity;

use super::SharedRegistry;

impl SharedRegistry {
    /// When a device was last active, as far as the tables have it: some seconds late.
    pub(crate) async fn last_activity(&self, tenant: u32, id: &str) -> Option<LastActivity> {
        let id = id.to_owned();
        let read = self.read(move |registry| {
            Box::pin(async move { registry.last_activity(tenant, &id).await })
        });
        read.await.ok().flatten()
    }
}
