//! An HTTP listener in messages for users.

use std::net::SocketAddr;

use martlet_api::RouteSettings;

use super::http;

/// An HTTP listener in messages for users.
pub(super) struct HttpAt {
    pub(super) url: String,
    pub(super) address: SocketAddr,
    pub(super) routes: RouteSettings,
}

impl HttpAt {
    pub(super) fn of(open: &http::OpenListener) -> Self {
        Self {
            url: open.url(),
            address: open.address,
            routes: open.routes.clone(),
        }
    }

    /// Whether a URL with an address of this machine leads to this listener.
    pub(super) fn is_at(&self, url: &str) -> bool {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let authority = authority.replace("localhost", "127.0.0.1");
        let Ok(address) = authority.parse::<SocketAddr>() else {
            return false;
        };
        let (own, ip) = (self.address.ip(), address.ip());
        let is_here = own == ip || own.is_unspecified() && ip.is_loopback();
        is_here && address.port() == self.address.port()
    }
}
