//! The HTTP server on TCP.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tracing::error;

/// Opens the listener.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        let owner = martlet_reactor::port_owner(address);
        let owner = owner.map_or_else(String::new, |owner| format!(" (in use by {owner})"));
        format!(
            "http: cannot listen on {address}{owner}; choose another --http ADDR, or --http off"
        )
    })
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, routes: Router) {
    if let Err(error) = axum::serve(listener, routes).await {
        error!(%error, "the HTTP server ended");
    }
}
