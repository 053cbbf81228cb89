//! A backup as one long answer: the archive is made while it is sent.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use martlet_control::{PinnedStore, backup};
use tokio::sync::mpsc;

use crate::api::Api;
use crate::problem::Problem;

/// Bytes sent at once, and how many such pieces wait for a slow reader.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 4;

/// A backup
///
/// Everything that the node holds, as of one moment, as an archive. One that breaks off is one
/// without its manifest, which its reader notices. Users and devices in PostgreSQL are not in it:
/// then `Martlet-Left-Out` says so, and `pg_dump` has a copy of those.
#[utoipa::path(get, path = "/api/v1/backup", tag = "node",
    responses((status = 200, description = "The archive (tar)", content_type = "application/x-tar",
        body = Vec<u8>,
        headers(("Martlet-Left-Out" = String, description = "What is not in it, if anything")))))]
pub(crate) async fn backup(State(api): State<Api>) -> Result<Response, Problem> {
    let left_out = left_out(&api);
    let control = Arc::clone(&api.control);
    let pinned = tokio::task::spawn_blocking(move || control.pin_store()).await;
    let pinned = pinned
        .map_err(|error| error.to_string())
        .and_then(|pinned| pinned)
        .map_err(Problem::unavailable)?;
    let (sender, mut receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || make(&pinned, sender));
    let pieces = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let content_type = [(header::CONTENT_TYPE, "application/x-tar")];
    Ok((content_type, left_out, Body::from_stream(pieces)).into_response())
}

/// What is not in the archive, if anything.
fn left_out(api: &Api) -> Option<[(HeaderName, HeaderValue); 1]> {
    let tables = api.tables().ok()?;
    if tables.location().file().is_some() {
        return None;
    }
    let text = "users and devices: they are in PostgreSQL; back that database up with pg_dump";
    let name = HeaderName::from_static("martlet-left-out");
    Some([(name, HeaderValue::from_static(text))])
}

fn make(pinned: &PinnedStore, sender: mpsc::Sender<io::Result<Bytes>>) {
    let pieces = Pieces(sender.clone());
    let out = BufWriter::with_capacity(PIECE, pieces);
    if let Err(error) = backup::write_archive(&pinned.directory, &pinned.files, out) {
        // The reader may be gone already.
        let _ = sender.blocking_send(Err(io::Error::other(error)));
    }
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(piece)).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
