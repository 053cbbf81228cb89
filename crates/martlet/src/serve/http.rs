//! The HTTP server on TCP.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tracing::error;

/// Opens the listener.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("http: cannot listen on {address}; choose another --http ADDR, or --http off")
    })
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, routes: Router) {
    if let Err(error) = axum::serve(listener, routes).await {
        error!(%error, "the HTTP server ended");
    }
}
