//! The HTTP request that opens a WebSocket connection (RFC 6455 section 4.2) and its answer.
//!
//! Checks a whole request head and builds the response. Buffering and deadlines are handled
//! elsewhere. MQTT requires that the client offers the subprotocol `mqtt` and that the server names
//! it [MQTT-6.0.0-3] [MQTT-6.0.0-4]. Cookies are ignored: they are never used for authentication
//! here.

use std::net::IpAddr;

use httparse::{EMPTY_HEADER, Header, Request, Status};
use martlet_broker::WebSocketFault;

use crate::config::{ANY_PATH, Origins};

/// Longest request head, in bytes.
pub(crate) const HEAD_LEN_MAX: usize = 8 * 1024;

/// Most headers in a request.
const HEADERS_MAX: usize = 64;

/// Supported subprotocols, most common first. Clients of MQTT 3.1 send `mqttv3.1`.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Appended to the client's key before it is hashed (RFC 6455 section 1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Requirements of a listener for requests that open a WebSocket connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpgradeRules {
    /// The only accepted path, or [`ANY_PATH`].
    pub(crate) path: String,
    /// Origins that may connect. Clients other than browsers send no origin and are accepted.
    pub(crate) origins: Origins,
}

/// A refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRequest {
    /// HTTP status code.
    pub(crate) status: u16,
    /// The fault of the request.
    pub(crate) fault: WebSocketFault,
}

const fn refuse(status: u16, fault: WebSocketFault) -> BadRequest {
    BadRequest { status, fault }
}

/// An accepted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acceptance {
    /// Length of the request; frames follow.
    pub(crate) head_len: usize,
    /// Value of `Sec-WebSocket-Accept` in the response.
    accept: String,
    /// The negotiated subprotocol.
    subprotocol: &'static str,
}

/// Checks the received part of a request. Returns `None` while it is incomplete and has no fault.
pub(crate) fn read_request(
    bytes: &[u8],
    rules: &UpgradeRules,
) -> Result<Option<Acceptance>, BadRequest> {
    // An MQTT packet or a TLS record on this port is rejected at once, without waiting for the
    // deadline.
    if bytes
        .first()
        .is_some_and(|first| !first.is_ascii_alphabetic())
    {
        return Err(refuse(400, WebSocketFault::NotHttp));
    }
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let head = &bytes[..bytes.len().min(HEAD_LEN_MAX)];
    match request.parse(head) {
        Ok(Status::Complete(head_len)) => {
            let (accept, subprotocol) = judge(&request, rules)?;
            Ok(Some(Acceptance {
                head_len,
                accept,
                subprotocol,
            }))
        }
        Ok(Status::Partial) if bytes.len() < HEAD_LEN_MAX => Ok(None),
        Ok(Status::Partial) => Err(refuse(431, WebSocketFault::HeadTooLong)),
        Err(httparse::Error::TooManyHeaders) => Err(refuse(431, WebSocketFault::TooManyHeaders)),
        Err(_) => Err(refuse(400, WebSocketFault::Malformed)),
    }
}

fn judge(
    request: &Request<'_, '_>,
    rules: &UpgradeRules,
) -> Result<(String, &'static str), BadRequest> {
    let headers = &*request.headers;
    if request.method != Some("GET") {
        return Err(refuse(405, WebSocketFault::NotGet));
    }
    if request.version != Some(1) {
        return Err(refuse(400, WebSocketFault::HttpVersion));
    }
    let path = request.path.and_then(|target| target.split('?').next());
    if rules.path != ANY_PATH && path != Some(rules.path.as_str()) {
        return Err(refuse(404, WebSocketFault::UnknownPath));
    }
    if only(headers, "Host")?.is_none() {
        return Err(refuse(400, WebSocketFault::NoHost));
    }
    if only(headers, "Transfer-Encoding")?.is_some()
        || only(headers, "Content-Length")?.is_some_and(|length| length != "0")
    {
        return Err(refuse(400, WebSocketFault::HasBody));
    }
    if !tokens(headers, "Upgrade").any(|token| token.eq_ignore_ascii_case("websocket"))
        || !tokens(headers, "Connection").any(|token| token.eq_ignore_ascii_case("upgrade"))
    {
        return Err(refuse(400, WebSocketFault::NotWebSocket));
    }
    if only(headers, "Sec-WebSocket-Version")? != Some("13") {
        return Err(refuse(426, WebSocketFault::Version));
    }
    let key = only(headers, "Sec-WebSocket-Key")?.unwrap_or_default();
    if !is_key(key) {
        return Err(refuse(400, WebSocketFault::Key));
    }
    let origin = only(headers, "Origin")?;
    match (origin, &rules.origins) {
        (None, _) | (_, Origins::All) => {}
        (Some(origin), Origins::Local) if is_local(origin) => {}
        (Some(origin), Origins::Listed(all)) if is_listed(all, origin) => {}
        (Some(_), Origins::Local | Origins::Listed(_)) => {
            return Err(refuse(403, WebSocketFault::OriginNotAllowed));
        }
    }
    // [MQTT-6.0.0-3]
    let subprotocol = tokens(headers, "Sec-WebSocket-Protocol")
        .find_map(|offered| SUBPROTOCOLS.into_iter().find(|known| *known == offered))
        .ok_or(refuse(400, WebSocketFault::NoSubprotocol))?;
    Ok((accept_of(key), subprotocol))
}

fn is_listed(all: &[String], origin: &str) -> bool {
    all.iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// Whether an origin (RFC 6454 section 6.2) is on this machine, for example
/// `http://localhost:3000`.
fn is_local(origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    let ip = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

/// The value of a header that may occur at most once.
fn only<'a>(headers: &[Header<'a>], name: &str) -> Result<Option<&'a str>, BadRequest> {
    let mut values = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(refuse(400, WebSocketFault::HeaderTwice));
    }
    let value = core::str::from_utf8(first.value);
    value
        .map(|value| Some(value.trim()))
        .map_err(|_| refuse(400, WebSocketFault::HeaderNotUtf8))
}

/// The elements of a comma-separated list, which may span several headers.
fn tokens<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .filter_map(|header| core::str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether the value is 16 bytes in base64: 22 characters and two padding characters.
fn is_key(key: &str) -> bool {
    let Some(letters) = key.strip_suffix("==") else {
        return false;
    };
    letters.len() == 22 && letters.bytes().all(|letter| BASE64.contains(&letter))
}

fn accept_of(key: &str) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(ACCEPT_SUFFIX);
    base64(&hash.digest().bytes())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let letter = BASE64[(group >> (18 - 6 * index)) as usize & 0x3F];
            text.push(if index <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

impl Acceptance {
    /// Appends the response that accepts the request.
    pub(crate) fn append_response(&self, out: &mut Vec<u8>) {
        // [MQTT-6.0.0-4]
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            self.accept, self.subprotocol
        );
        out.extend_from_slice(response.as_bytes());
    }
}

impl BadRequest {
    /// Appends the response that refuses the request.
    pub(crate) fn append_response(&self, out: &mut Vec<u8>) {
        let (reason, header) = match self.status {
            403 => ("Forbidden", ""),
            404 => ("Not Found", ""),
            405 => ("Method Not Allowed", "Allow: GET\r\n"),
            426 => (
                "Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            ),
            431 => ("Request Header Fields Too Large", ""),
            _ => ("Bad Request", ""),
        };
        let response = format!(
            "HTTP/1.1 {} {reason}\r\n{header}Connection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n{}\n",
            self.status,
            self.fault.text().len() + 1,
            self.fault.text()
        );
        out.extend_from_slice(response.as_bytes());
    }
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
