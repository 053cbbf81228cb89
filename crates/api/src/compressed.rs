//! Answers in JSON, compressed for callers that accept it.

use std::io::Write as _;

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Shorter answers stay as they are.
const FROM: u64 = 4 * 1024;
/// Longer answers are compressed by a thread that may be busy.
const INLINE_MAX: usize = 64 * 1024;

/// Compresses an answer if it is JSON of a known length, and its caller accepts gzip. An answer
/// with an ETag stays as it is: the tag is that of these bytes (RFC 9110, 8.8.3.3).
pub(crate) async fn compressed(request: &HeaderMap, mut answer: Response) -> Response {
    if !is_compressible(&answer) {
        return answer;
    }
    let vary = HeaderValue::from_name(header::ACCEPT_ENCODING);
    answer.headers_mut().append(header::VARY, vary);
    if !accepts_gzip(request) {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    // Its length is known, so that it is there as a whole.
    let Ok(whole) = to_bytes(body, usize::MAX).await else {
        return Response::from_parts(head, Body::empty());
    };
    let packed = match whole.len() <= INLINE_MAX {
        true => packed(&whole),
        false => {
            let whole = whole.clone();
            let packing = tokio::task::spawn_blocking(move || packed(&whole));
            packing.await.ok().flatten()
        }
    };
    let body = match packed {
        None => whole,
        Some(packed) => {
            let gzip = HeaderValue::from_static("gzip");
            head.headers.insert(header::CONTENT_ENCODING, gzip);
            head.headers.remove(header::CONTENT_LENGTH);
            Bytes::from(packed)
        }
    };
    Response::from_parts(head, Body::from(body))
}

fn is_compressible(answer: &Response) -> bool {
    let headers = answer.headers();
    let content_type = headers.get(header::CONTENT_TYPE);
    let is_json = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    is_json
        && answer.status() != StatusCode::PARTIAL_CONTENT
        && answer.body().size_hint().exact() >= Some(FROM)
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::ETAG)
}

/// Whether the caller accepts gzip (RFC 9110, 12.5.3). Without the header it may accept everything,
/// but most such callers do not unpack.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let fields = request.get_all(header::ACCEPT_ENCODING).iter();
    let fields = fields.filter_map(|field| field.to_str().ok());
    let mut codings = fields.flat_map(|field| field.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=");
        let weight = weight.and_then(|weight| weight.trim().parse::<f32>().ok());
        let is_refused = weight.is_some_and(|weight| weight <= 0.0);
        matches!(name.trim(), "gzip" | "x-gzip" | "*") && !is_refused
    })
}

/// None: it cannot be compressed.
fn packed(whole: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(whole.len() / 4), Compression::fast());
    encoder.write_all(whole).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn answer(bytes: usize) -> Response {
        let body = Body::from(vec![b'a'; bytes]);
        let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
        answer.body(body).expect("an answer")
    }

    async fn asked(accepted: &str, answer: Response) -> (Option<HeaderValue>, Vec<u8>) {
        let mut request = HeaderMap::new();
        let accepted = HeaderValue::from_str(accepted).expect("a header");
        request.insert(header::ACCEPT_ENCODING, accepted);
        let answer = compressed(&request, answer).await;
        let coding = answer.headers().get(header::CONTENT_ENCODING).cloned();
        let body = to_bytes(answer.into_body(), usize::MAX).await;
        (coding, body.expect("a body").to_vec())
    }

    #[tokio::test]
    async fn long_answers_are_compressed_for_who_accepts_it() {
        for bytes in [4096, INLINE_MAX + 1] {
            for accepted in ["gzip", "br, gzip;q=0.5", "*", "deflate , x-gzip"] {
                let (coding, body) = asked(accepted, answer(bytes)).await;
                assert_eq!(
                    coding.as_ref().map(HeaderValue::as_bytes),
                    Some(&b"gzip"[..])
                );
                assert!(body.len() < bytes / 10, "{}", body.len());
                let mut unpacked = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(&*body);
                decoder.read_to_end(&mut unpacked).expect("gzip");
                assert_eq!(unpacked, vec![b'a'; bytes]);
            }
        }
    }

    #[tokio::test]
    async fn others_stay_as_they_are() {
        for accepted in ["", "br", "gzip;q=0", "gzip; q=0.0, identity"] {
            assert_eq!(asked(accepted, answer(5_000)).await.0, None, "{accepted}");
        }
        assert_eq!(asked("gzip", answer(4_095)).await.0, None);
        for (name, value) in [
            (header::ETAG, "\"1\""),
            (header::CONTENT_ENCODING, "br"),
            (header::CONTENT_TYPE, "text/plain"),
        ] {
            let mut answer = answer(5_000);
            answer
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
            let (_, body) = asked("gzip", answer).await;
            assert_eq!(body.len(), 5_000);
        }
    }
}
