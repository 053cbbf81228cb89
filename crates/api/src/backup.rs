//! A backup as one long answer: the archive is made while it is sent.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use martlet_control::backup::BackupParts;
use martlet_control::telemetry::{Location, TelemetryCopy};
use martlet_control::{PinnedStore, backup};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use crate::api::{Api, BACKUPS_AT_ONCE};
use crate::extract::QueryOf;
use crate::problem::{Problem, ProblemKind, ProblemView};

/// Bytes sent at once, and how many such pieces wait for a slow reader.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 4;

/// Contents of a backup.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BackupParams {
    /// Also the key file that secrets of other systems are sealed with: with it the backup shows
    /// them to its reader. Default: false.
    with_key_file: Option<bool>,
}

/// A backup
///
/// Everything that the node holds, as of one moment, as an archive. One that breaks off is one
/// without its manifest, which its reader notices. Users, devices and telemetry in PostgreSQL are
/// not in it. Then the answer has the header `Martlet-Left-Out`; copy them with `pg_dump`. If the
/// file of telemetry is damaged, the header `Martlet-Damaged` says so: values may be missing.
#[utoipa::path(get, path = "/api/v1/backup", tag = "node", params(BackupParams),
    responses((status = 200, description = "The archive (tar)", content_type = "application/x-tar",
        body = Vec<u8>,
        headers(("Martlet-Left-Out" = String, description = "Parts that the archive lacks"),
            ("Martlet-Damaged" = String, description = "What is damaged"))),
        (status = 409, description = "The node has no key file to include", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 503, description = "Four backups are being read already", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn backup(
    State(api): State<Api>,
    QueryOf(wanted): QueryOf<BackupParams>,
) -> Result<Response, Problem> {
    let key_file = match wanted.with_key_file {
        Some(true) => Some(key_file(&api)?),
        _ => None,
    };
    let Ok(turn) = Arc::clone(&api.backups).try_acquire_owned() else {
        return Err(Problem::unavailable(format!(
            "{BACKUPS_AT_ONCE} backups are being read, which is as many as may be: wait for the end of one"
        )));
    };
    let left_out = left_out(&api);
    let control = Arc::clone(&api.control);
    let pinned = tokio::task::spawn_blocking(move || control.pin_store()).await;
    let pinned = pinned
        .map_err(|error| error.to_string())
        .and_then(|pinned| pinned)
        .map_err(Problem::unavailable)?;
    // After the store: what a queue has lost meanwhile is among the values then.
    let telemetry = match api.telemetry() {
        Some(telemetry) => {
            telemetry
                .copy_to(Path::new(&api.control.info.data_dir))
                .await?
        }
        None => None,
    };
    let damaged = telemetry.as_ref().and_then(damaged);
    let (sender, mut receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let parts = BackupParts {
            key_file: key_file.as_deref(),
            telemetry: telemetry.as_ref().and_then(TelemetryCopy::path),
        };
        make(&pinned, parts, sender);
    });
    let pieces = futures_util::stream::poll_fn(move |cx| {
        // Until the last piece is sent, or the connection ends.
        let _turn = &turn;
        receiver.poll_recv(cx)
    });
    let content_type = [(header::CONTENT_TYPE, "application/x-tar")];
    Ok((content_type, left_out, damaged, Body::from_stream(pieces)).into_response())
}

/// The key file of secrets, which has to be there.
fn key_file(api: &Api) -> Result<PathBuf, Problem> {
    let path = api.integrations().map(|all| all.secrets().key_file());
    match path.filter(|path| path.is_file()) {
        Some(path) => Ok(path.to_owned()),
        None => Err(Problem::new(
            ProblemKind::Conflict,
            "there is no key file of secrets: leave out with_key_file (--with-key-file)".to_owned(),
        )),
    }
}

/// Header about the parts that are not in the archive, if any.
fn left_out(api: &Api) -> Option<[(HeaderName, HeaderValue); 1]> {
    let tables = api
        .tables()
        .is_ok_and(|tables| tables.location().file().is_none());
    let telemetry = api.telemetry();
    let telemetry = telemetry.is_some_and(|one| matches!(one.location(), Location::Postgres(_)));
    let text = match (tables, telemetry) {
        (false, false) => return None,
        (true, false) => {
            "users and devices: they are in PostgreSQL; back that database up with pg_dump"
        }
        (false, true) => "telemetry: it is in PostgreSQL; back that database up with pg_dump",
        (true, true) => {
            "users, devices and telemetry: they are in PostgreSQL; back that up with pg_dump"
        }
    };
    let name = HeaderName::from_static("martlet-left-out");
    Some([(name, HeaderValue::from_static(text))])
}

/// Header about damage of the telemetry, if there is some.
fn damaged(copy: &TelemetryCopy) -> Option<[(HeaderName, HeaderValue); 1]> {
    let warning = HeaderValue::from_str(copy.warning()?).ok()?;
    Some([(HeaderName::from_static("martlet-damaged"), warning)])
}

fn make(pinned: &PinnedStore, parts: BackupParts<'_>, sender: mpsc::Sender<io::Result<Bytes>>) {
    let pieces = Pieces(sender.clone());
    let out = BufWriter::with_capacity(PIECE, pieces);
    if let Err(error) = backup::write_archive(&pinned.directory, &pinned.files, parts, out) {
        // The reader may be gone already.
        let _ = sender.blocking_send(Err(io::Error::other(error)));
    }
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(piece)).map_err(closed)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
