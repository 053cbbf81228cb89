//! The file of a version of firmware, in ranges, as it is read from the disk.

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::of_node::firmware_of;
use crate::api::Api;
use crate::extensions::OwnDevice;
use crate::extract::{PathOf, QueryOf};
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::range::{RangeAnswer, part_of};
use crate::registry::{CalledBy, OfTeam, within};

/// Bytes that are read at once.
const PIECE: u64 = 64 * 1024;

/// The file of a version of firmware
///
/// A device shows its secret in `X-API-Key`, and gets firmware for its type. Parts of the file are
/// asked for by `Range`, `If-Range` with the `ETag`; one of at most 64 KiB counts as a part of a
/// request in `http.rate`. A file that is elsewhere is answered with its URL in `Location`.
#[utoipa::path(get, path = "/api/v1/firmware/{name}/{version}/file", tag = "firmware",
    params(("name" = String, Path, description = "Name"),
        ("version" = String, Path, description = "Revision"), OfTeam),
    responses((status = 200, description = "The file", content_type = "application/octet-stream",
            body = Vec<u8>),
        (status = 206, description = "A part of the file", content_type = "application/octet-stream",
            body = Vec<u8>),
        (status = 304, description = "Not changed"),
        (status = 307, description = "Redirects to where the file is"),
        (status = 404, description = "No such version for this caller"),
        (status = 416, description = "The file has no byte of that range", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn file(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf((name, version)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let store = firmware_of(&api)?;
    let found = match own {
        Some(Extension(OwnDevice(device))) => store.for_device(&device, name, version).await?,
        None => {
            let visibility = within(&api, caller, of.team.as_deref()).await?.visibility();
            store.show(visibility, name, version).await?
        }
    };
    if !found.url.is_empty() {
        let location = [(header::LOCATION, found.url)];
        return Ok((StatusCode::TEMPORARY_REDIRECT, location).into_response());
    }
    let size = found.size;
    let etag = format!("\"{}\"", found.sha256);
    let whole = match part_of(&headers, size, &etag) {
        RangeAnswer::NotModified => {
            let tag = [(header::ETAG, etag)];
            return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
        }
        RangeAnswer::Unsatisfiable => {
            let detail = format!("the file has {size} bytes, and none of that range");
            let problem = Problem::new(ProblemKind::RangeNotSatisfiable, detail);
            let range = format!("bytes */{size}");
            return Ok((([(header::CONTENT_RANGE, range)]), problem).into_response());
        }
        RangeAnswer::Whole => None,
        RangeAnswer::Range(first, last) => Some((first, last)),
    };
    let mut file = store.open(&found).await?;
    let (first, last) = whole.unwrap_or((0, size - 1));
    let sought = file.seek(std::io::SeekFrom::Start(first)).await;
    sought.map_err(|error| {
        tracing::error!(%error, "a file of firmware cannot be read");
        Problem::unavailable("the file cannot be read now".to_owned())
    })?;
    let length = last - first + 1;
    let common = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, etag),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    let body = Body::from_stream(pieces(file, length));
    Ok(match whole {
        None => (common, body).into_response(),
        Some(_) => {
            let range = [(
                header::CONTENT_RANGE,
                format!("bytes {first}-{last}/{size}"),
            )];
            (StatusCode::PARTIAL_CONTENT, common, range, body).into_response()
        }
    })
}

/// The next `length` bytes of a file.
fn pieces(
    file: File,
    length: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or(0)];
        match file.read_exact(&mut piece).await {
            Ok(_) => {
                let left = left - piece.len() as u64;
                Some((Ok(Bytes::from(piece)), (file, left)))
            }
            // The answer has begun: it is cut off, so that no client takes it for complete.
            Err(error) => {
                tracing::warn!(%error, "a file of firmware is broken off");
                Some((Err(error), (file, 0)))
            }
        }
    })
}
