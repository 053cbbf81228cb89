//! Messages of a stream read through the JetStream API: their headers are text in JSON there, so
//! headers that the client cannot read do not end the connection.

use async_nats::StatusCode;
use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::connection::NatsConnection;
use crate::words::error_words;

#[derive(Serialize)]
struct GetRequest<'a> {
    seq: u64,
    next_by_subj: &'a str,
}

#[derive(Deserialize)]
struct GetResponse {
    message: RawMessage,
}

/// A message of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct RawMessage {
    #[serde(rename = "seq")]
    pub(super) sequence: u64,
    pub(super) subject: String,
    #[serde(rename = "hdrs", default)]
    headers: Option<String>,
    time: String,
}

impl RawMessage {
    /// The first message of a stream whose subject matches the filter, with this or a higher
    /// sequence number.
    ///
    /// # Errors
    /// JetStream does not answer; the reason.
    pub(super) async fn next(
        connection: &NatsConnection,
        stream: &str,
        sequence: u64,
        filter: &str,
    ) -> Result<Option<Self>, String> {
        let asked = GetRequest {
            seq: sequence,
            next_by_subj: if filter.is_empty() { ">" } else { filter },
        };
        let subject = format!("STREAM.MSG.GET.{stream}");
        let answer = connection.jetstream.request(subject, &asked).await;
        let cannot = |error: &dyn std::error::Error| {
            let why = connection.masked(&error_words(error));
            format!("$JS.API.STREAM.MSG.GET.{stream} fails: {why}")
        };
        match answer.map_err(|error| cannot(&error))? {
            Response::Ok(GetResponse { message }) => Ok(Some(message)),
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                Ok(None)
            }
            Response::Err { error } => Err(cannot(&error)),
        }
    }

    /// Whether the client library can read its headers.
    pub(super) fn is_readable(&self) -> bool {
        let Some(headers) = &self.headers else {
            return true;
        };
        STANDARD
            .decode(headers)
            .is_ok_and(|headers| can_be_read(&headers))
    }

    /// Returns the headers; `None` if the client library cannot read them.
    pub(super) fn headers(&self) -> Option<HeaderMap> {
        let Some(headers) = &self.headers else {
            return Some(HeaderMap::new());
        };
        let headers = STANDARD.decode(headers).ok()?;
        if !can_be_read(&headers) {
            return None;
        }
        let mut read = HeaderMap::new();
        for line in std::str::from_utf8(&headers).ok()?.lines() {
            if let Some((name, value)) = line.split_once(':')
                && let Ok(name) = name.parse::<HeaderName>()
            {
                read.insert(name, HeaderValue::from(value.trim()));
            }
        }
        Some(read)
    }

    /// When the server received it, milliseconds since the Unix epoch.
    pub(super) fn received_ms(&self) -> Option<u64> {
        let at: jiff::Timestamp = self.time.parse().ok()?;
        u64::try_from(at.as_millisecond()).ok()
    }
}

/// Whether the client library can read these headers, by its own rules.
fn can_be_read(headers: &[u8]) -> bool {
    let Ok(headers) = std::str::from_utf8(headers) else {
        return false;
    };
    let mut lines = headers.lines();
    let Some(status) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")) else {
        return false;
    };
    let status = status.trim();
    let status = status.split_once(' ').map_or(status, |(code, _)| code);
    if !status.is_empty() && status.parse::<StatusCode>().is_err() {
        return false;
    }
    let mut is_first = true;
    lines.filter(|line| !line.is_empty()).all(|line| {
        let continues = !is_first && line.starts_with(char::is_whitespace);
        is_first = false;
        let name = line.split_once(':').map(|(name, _)| name);
        continues || name.is_some_and(|name| name.parse::<HeaderName>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_a_message_are_read() {
        let message = |headers: Option<&[u8]>| RawMessage {
            sequence: 1,
            subject: "a".to_owned(),
            headers: headers.map(|headers| STANDARD.encode(headers)),
            time: String::new(),
        };
        let none = message(None).headers();
        assert!(none.is_some_and(|headers| headers.is_empty()));
        assert!(
            message(Some(b"NATS/1.0\r\nfoo\r\n\r\n"))
                .headers()
                .is_none()
        );
        let read = message(Some(b"NATS/1.0\r\nKV-Operation: DEL\r\nA:b:c\r\n\r\n")).headers();
        let read = read.expect("they can be read");
        let value = |name: &str| read.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(value("KV-Operation").as_deref(), Some("DEL"));
        assert_eq!(value("A").as_deref(), Some("b:c"));
    }

    #[test]
    fn headers_that_the_client_cannot_read_are_known() {
        for good in [
            &b"NATS/1.0\r\n\r\n"[..],
            b"NATS/1.0\r\nA: b\r\n more\r\nC:\r\n\r\n",
            b"NATS/1.0 404 No Messages\r\n\r\n",
        ] {
            assert!(can_be_read(good), "{}", good.escape_ascii());
        }
        for bad in [
            &b"NATS/1.0\r\nX-Name: Jos\xe9\r\n\r\n"[..],
            b"NATS/1.0\r\nX Name: a\r\n\r\n",
            b"NATS/1.0\r\nfoo\r\n\r\n",
            b"NATS/1.0 many\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
        ] {
            assert!(!can_be_read(bad), "{}", bad.escape_ascii());
        }
    }
}
