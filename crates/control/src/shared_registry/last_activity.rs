//! When devices were last active, for `why`.

use martlet_registry::LastActivity;

use super::SharedRegistry;
use crate::why::facts::{Facts, NamedStanding};

impl SharedRegistry {
    /// Adds when the device that was asked about, and those that the topic names, sent their last
    /// messages.
    pub(super) async fn recall_messages(&self, facts: &mut Facts) {
        let tenant = facts.question.tenant.0;
        let own = facts.user.as_ref().unwrap_or(&facts.question.name);
        let own = self.last_activity(tenant, own).await;
        facts.last_message_ms = own.and_then(|active| nonzero(active.message_ms));
        facts.last_seen_ms = own.and_then(|active| nonzero(active.seen_ms));
        for one in &mut facts.named_in_topic {
            if !one.is_device {
                continue;
            }
            let active = self.last_activity(tenant, &one.client_id).await;
            let Some(active) = active else { continue };
            one.last_message_ms = nonzero(active.message_ms);
            if let (NamedStanding::NeverConnected, Some(seen_ms)) =
                (one.standing, nonzero(active.seen_ms))
            {
                one.standing = NamedStanding::Away(Some(seen_ms));
            }
        }
    }

    async fn last_activity(&self, tenant: u32, id: &str) -> Option<LastActivity> {
        let id = id.to_owned();
        let read = self.read(move |registry| {
            Box::pin(async move { registry.last_activity(tenant, &id).await })
        });
        read.await.ok().flatten()
    }
}

fn nonzero(ms: i64) -> Option<u64> {
    u64::try_from(ms).ok().filter(|ms| *ms > 0)
}
