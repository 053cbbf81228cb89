//! Settings that connections of one listener begin with.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use martlet_broker::ListenerPolicy;

use crate::config::{ListenerConfig, Transport};
use crate::tls::TlsSettings;
use crate::websocket::UpgradeRules;

/// Settings that connections of one listener begin with.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(super) policy: Arc<ListenerPolicy>,
    /// Networks of proxies that send the PROXY protocol; empty: none.
    pub(super) proxies: Vec<IpNet>,
    /// `None` without encryption.
    pub(super) tls: Option<TlsSettings>,
    /// `None` without WebSocket.
    pub(super) web: Option<Arc<UpgradeRules>>,
}

impl Entrance {
    pub(crate) fn new(config: &ListenerConfig) -> Self {
        let web = match &config.transport {
            Transport::Tcp => None,
            Transport::WebSocket { path, origins } => {
                let (path, origins) = (path.clone(), origins.clone());
                Some(Arc::new(UpgradeRules { path, origins }))
            }
        };
        Self {
            policy: Arc::clone(&config.policy),
            proxies: config.proxies.clone(),
            tls: config.tls.clone(),
            web,
        }
    }

    /// Whether PROXY headers from this address are trusted. Processes that connect to a Unix socket
    /// are always trusted.
    pub(super) fn trusts(&self, address: Option<SocketAddr>) -> bool {
        address.is_none_or(|address| {
            let ip = address.ip().to_canonical();
            self.proxies.iter().any(|proxies| proxies.contains(&ip))
        })
    }
}
