//! Ending the connections of banned clients.

use std::time::Duration;

use martlet_broker::{ClientQuery, Command, Search};
use martlet_codec::ReasonCode;
use martlet_registry::{Ban, BanKind};

use super::{Control, ControlError};

/// Connected clients that are listed at once when some are banned.
const CLIENTS_PER_PAGE: usize = 4_000;
/// Time after a ban at which the connected clients are checked again.
const BANNED_AGAIN: Duration = Duration::from_millis(500);

impl Control {
    /// Ends the connections of clients that are banned from now on.
    pub async fn end_banned(&self, bans: Vec<Ban>) {
        // A client that the former rules accept may come a moment later.
        for pause in [Duration::ZERO, BANNED_AGAIN] {
            tokio::time::sleep(pause).await;
            for ban in &bans {
                if let Err(error) = self.end_banned_by(ban).await {
                    tracing::warn!(%error, "banned clients may still be connected");
                }
            }
        }
    }

    async fn end_banned_by(&self, ban: &Ban) -> Result<(), ControlError> {
        let is_network = ban.kind == BanKind::Address && ban.value.contains('/');
        let search = (!is_network).then(|| Search {
            text: ban.value.as_str().into(),
            anywhere: false,
        });
        let mut query = ClientQuery {
            search,
            connected: Some(true),
            limit: CLIENTS_PER_PAGE,
            ..ClientQuery::default()
        };
        let policy = self.policy();
        loop {
            let page = self.clients(&query).await?;
            query.after = page.end;
            for client in page.clients {
                let address = client.address.map(|(address, _)| address);
                let (id, name) = (&client.client_id, client.user_name.as_deref());
                let why = policy
                    .as_ref()
                    .and_then(|policy| policy.banned(client.tenant, id, name, address));
                if why.is_some() {
                    self.send_to_all_shards(&Command::Disconnect {
                        request: 0,
                        tenant: client.tenant,
                        client_id: client.client_id,
                        reason: ReasonCode::Banned,
                    });
                }
            }
            if query.after.is_none() {
                return Ok(());
            }
        }
    }
}
