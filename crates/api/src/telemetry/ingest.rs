//! Telemetry that devices send by HTTP, or other callers for them.

use std::io::Read as _;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use martlet_control::telemetry::{
    Decoder, Format, StoreError, TelemetryDevice, received_now, time_text,
};
use martlet_registry::Visibility;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::of_node::{device_of, telemetry_of};
use crate::api::Api;
use crate::body::large::SMALL_BYTES_MAX;
use crate::extensions::OwnDevice;
use crate::extract::{PathOf, QueryOf, reader_of, whole_body};
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::registry::{CalledBy, within};

/// Which device, and how its values are taken.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Sending {
    /// Only devices of this team, by id or name: needed by a caller that sees all teams, for
    /// devices of teams that have a tenant of their own.
    team: Option<String>,
    /// They are values of the past, such as those of another system: each needs a time, which it
    /// keeps however old it is, rules and alarms do not see them, and the device does not count as
    /// active. Not for the secret of a device.
    #[serde(default)]
    past: bool,
}

/// How much longer than `http.body_bytes` a compressed body may be when it is unpacked.
const UNPACKED: usize = 8;

/// Result of storing values.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct StoredView {
    /// Values that are stored and synced.
    pub stored: usize,
    /// How many of them got the time of receipt in place of their own, which was too far off.
    pub retimed: usize,
    /// Time of receipt, which values without a time have.
    #[schema(format = DateTime)]
    pub received_at: String,
    /// Members beside `values` or `data` that are not stored, the first 16.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ignored: Vec<String>,
}

/// Send telemetry
///
/// Stores values of a device. It answers when they are synced. The body is one of these, by its
/// Content-Type:
///
/// * `application/json`: an object of values, `{"data": {…}, "metadata": {…}, "timestamp": …}`,
///   `{"ts": …, "values": {…}}`, or an array of these
/// * `application/x-ndjson`: lines of such JSON
/// * `text/plain` or `application/vnd.influx.line-protocol`: InfluxDB line protocol
///
/// With `Content-Encoding: gzip` it is unpacked. The body is stored as a whole or rejected with a
/// reason. A device shows its secret in `X-API-Key`.
#[utoipa::path(post, path = "/api/v1/devices/{id}/telemetry", tag = "telemetry",
    params(("id" = String, Path, description = "Id of the device"), Sending),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 201, description = "Stored", body = StoredView),
        (status = 409, description = "The node stores no telemetry", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 422, description = "The body is invalid: nothing of it is stored",
            body = ProblemView, content_type = "application/problem+json"),
        (status = 503, description = "It cannot be stored now; send it again later", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn store(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<Sending>,
    request: Request,
) -> Result<(StatusCode, Json<StoredView>), Problem> {
    let telemetry = telemetry_of(&api)?;
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let own = own.map(|Extension(own)| own);
    if of.past && own.is_some() {
        let detail = "past=true needs an API key with the scope telemetry:write";
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    let device = device_of(&api, &caller, own.as_ref(), &id).await?;
    let decoder = decoder_of(telemetry.decoder(), request.headers())?;
    let decoder = match of.past {
        true => decoder.of_past(),
        false => decoder,
    };
    let received = received_now();
    let decode = move |payload: &Bytes| {
        let decoded = decoder.decode_whole(payload, received);
        (decoded, (decoder, payload.clone()))
    };
    let (decoded, (decoder, payload)) = read_payload(&api, request, decode).await?;
    let tenant = device.tenant;
    let path = || format!("POST /api/v1/devices/{id}/telemetry");
    let device = TelemetryDevice {
        number: device.number,
        tenant: device.tenant,
        id: device.id.into(),
        device_type: device.device_type.into(),
    };
    let stored = match decoded {
        Err(rejection) => Err(rejection.into()),
        Ok(decoded) if of.past => telemetry.store_past(&device, decoded, received).await,
        Ok(decoded) => telemetry.store(&device, decoded, received).await,
    };
    let stored = stored.map_err(|error| error.placed(&decoder, &payload, received));
    let stored = stored.map_err(|error: StoreError| match error.reason() {
        Some(reason) => {
            telemetry.reject(
                tenant,
                &path(),
                Some(&id),
                Some(&id),
                (reason, error.caller_text()),
            );
            Problem::from(error).recorded()
        }
        None => error.into(),
    })?;
    telemetry.stored(tenant, &id, path);
    let view = StoredView {
        stored: stored.values,
        retimed: stored.retimed,
        received_at: time_text(stored.received),
        ignored: stored.ignored,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// The decoder for a body of this Content-Type.
///
/// # Errors
/// There is none.
fn decoder_of(common: &Decoder, headers: &HeaderMap) -> Result<Decoder, Problem> {
    let essence = essence(headers);
    let format = match essence.as_str() {
        "" | "application/json" => Format::Json,
        _ if is_lines(headers) => Format::JsonLines,
        "text/plain" | "application/vnd.influx.line-protocol" => Format::Line,
        _ => {
            let detail = format!(
                "the Content-Type {essence:?} is not supported: send application/json, \
                 application/x-ndjson, or text/plain for line protocol"
            );
            return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
        }
    };
    let common = common.clone();
    Ok(Decoder { format, ..common })
}

/// The Content-Type without its parameters, in small letters.
fn essence(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE);
    let text = text
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Whether the body is lines of JSON by its Content-Type.
pub(crate) fn is_lines(headers: &HeaderMap) -> bool {
    [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
    ]
    .contains(&essence(headers).as_str())
}

/// Reads a body, and unpacks it first if it is compressed. A large one waits for a slot.
///
/// # Errors
/// Its compression is unknown, it is damaged, too long when it is unpacked, or found no slot.
pub(crate) async fn read_payload<T: Send + 'static>(
    api: &Api,
    request: Request,
    read: impl FnOnce(&Bytes) -> T + Send + 'static,
) -> Result<T, Problem> {
    let reader = reader_of(&request).unwrap_or_else(|| api.large_bodies.reader(Visibility::All));
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    let encoding = encoding.and_then(|value| value.to_str().ok());
    let encoding = encoding.unwrap_or_default().to_owned();
    let body = whole_body(request, api).await?;
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => reader.read(body.len(), move || read(&body)).await,
        "gzip" | "x-gzip" => {
            let most = api.settings.body_bytes.saturating_mul(UNPACKED);
            if let Some(payload) = small(&body, most)? {
                return Ok(read(&payload));
            }
            let work = move || unpacked(&body, most).map(|payload| read(&payload));
            reader.read(usize::MAX, work).await?
        }
        _ => {
            let detail = format!("the Content-Encoding {encoding:?} is not supported: send gzip");
            Err(Problem::new(ProblemKind::UnsupportedMediaType, detail))
        }
    }
}

/// A compressed body that is small when it is unpacked; none: it is large.
fn small(body: &[u8], bytes_max: usize) -> Result<Option<Bytes>, Problem> {
    if bytes_max > SMALL_BYTES_MAX && body.len() > SMALL_BYTES_MAX {
        return Ok(None);
    }
    match unpacked(body, bytes_max.min(SMALL_BYTES_MAX)) {
        Err(problem) if problem.kind() == ProblemKind::TooLarge && bytes_max > SMALL_BYTES_MAX => {
            Ok(None)
        }
        unpacked => unpacked.map(Some),
    }
}

fn unpacked(body: &[u8], bytes_max: usize) -> Result<Bytes, Problem> {
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut out = Vec::new();
    // One byte more shows that there is more.
    let mut reader = MultiGzDecoder::new(body).take(most.saturating_add(1));
    let read = reader.read_to_end(&mut out);
    read.map_err(|error| Problem::bad_request(format!("the body is not gzip: {error}")))?;
    match out.len() > bytes_max {
        true => {
            let detail = format!("the body is longer than {bytes_max} bytes when it is unpacked");
            Err(Problem::new(ProblemKind::TooLarge, detail))
        }
        false => Ok(out.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked_up_to_a_limit() {
        let body = packed(b"{\"a\": 1}");
        assert_eq!(&*unpacked(&body, 8).unwrap(), b"{\"a\": 1}");
        assert_eq!(
            unpacked(&body, 7).unwrap_err().kind(),
            ProblemKind::TooLarge
        );
        let bomb = packed(&vec![b' '; 10_000_000]);
        assert!(bomb.len() < 20_000);
        assert_eq!(
            unpacked(&bomb, 1_000).unwrap_err().kind(),
            ProblemKind::TooLarge
        );
        assert_eq!(
            unpacked(b"plain", 100).unwrap_err().kind(),
            ProblemKind::BadRequest
        );
        let cut = unpacked(&body[..body.len() - 9], 100);
        assert_eq!(cut.unwrap_err().kind(), ProblemKind::BadRequest);
    }

    #[test]
    fn the_content_type_decides_how_a_body_is_read() {
        let format = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            decoder_of(&Decoder::default(), &headers).map(|decoder| decoder.format)
        };
        assert_eq!(
            format("application/json; charset=utf-8").unwrap(),
            Format::Json
        );
        assert_eq!(format("application/x-ndjson").unwrap(), Format::JsonLines);
        assert_eq!(format("text/plain; charset=utf-8").unwrap(), Format::Line);
        let kind = format("application/xml").unwrap_err().kind();
        assert_eq!(kind, ProblemKind::UnsupportedMediaType);
    }
}
