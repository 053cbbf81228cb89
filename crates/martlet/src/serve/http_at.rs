//! An HTTP listener in messages for users.

use martlet_api::RouteSettings;

use super::http;

/// An HTTP listener in messages for users.
pub(super) struct HttpAt {
    pub(super) url: String,
    pub(super) address: std::net::SocketAddr,
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
}
