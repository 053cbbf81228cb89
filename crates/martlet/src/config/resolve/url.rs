//! URLs of listeners.

use std::net::ToSocketAddrs as _;
use std::path::PathBuf;

use martlet_reactor::{ListenAddress, Origins, Transport};

/// Default ports of MQTT, and of MQTT over WebSocket as used by brokers.
pub(super) const MQTT_PORT: u16 = 1883;

pub(super) const WEBSOCKET_PORT: u16 = 9001;

/// Default ports with TLS.
const MQTTS_PORT: u16 = 8883;

const SECURE_WEBSOCKET_PORT: u16 = 8084;

pub(super) const WEBSOCKET_PATH: &str = "/mqtt";

/// Address and transport of a listener.
pub(crate) struct Url {
    pub(crate) addresses: Vec<ListenAddress>,
    pub(crate) transport: Transport,
    pub(crate) is_secure: bool,
}

/// Parses `mqtt[s]://HOST[:PORT]`, `ws[s]://HOST[:PORT][/PATH]` or `unix:///PATH`. A name is
/// resolved to all its addresses. `mode` is that of a socket's file.
pub(crate) fn parse_url(text: &str, mode: u32) -> Result<Url, String> {
    let expected = "expected mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH, \
                    wss://HOST:PORT/PATH or unix:///PATH";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{text:?} is not a valid URL, {expected}"));
    };
    if scheme == "unix" {
        let path = PathBuf::from(rest);
        if !path.is_absolute() {
            return Err(format!(
                "{text:?} has no absolute path: unix:///run/martlet/mqtt.sock"
            ));
        }
        return Ok(Url {
            addresses: vec![ListenAddress::Unix { path, mode }],
            transport: Transport::Tcp,
            is_secure: false,
        });
    }
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (is_web, is_secure, default_port) = match scheme {
        "mqtt" | "tcp" => (false, false, MQTT_PORT),
        "mqtts" | "ssl" | "tls" => (false, true, MQTTS_PORT),
        "ws" => (true, false, WEBSOCKET_PORT),
        "wss" => (true, true, SECURE_WEBSOCKET_PORT),
        _ => return Err(format!("{text:?} has the scheme {scheme:?}, {expected}")),
    };
    let transport = match (is_web, path) {
        (false, "" | "/") => Transport::Tcp,
        (false, _) => {
            return Err(format!(
                "{text:?} has a path, which only ws:// and wss:// have"
            ));
        }
        (true, path) => {
            let path = if path.is_empty() {
                WEBSOCKET_PATH
            } else {
                path
            };
            let path = path.to_owned();
            let origins = Origins::All;
            Transport::WebSocket { path, origins }
        }
    };
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.contains(']') => authority.to_owned(),
        _ => format!("{authority}:{default_port}"),
    };
    let with_port = match with_port.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => with_port,
    };
    let found = with_port.to_socket_addrs().map_err(|error| {
        format!("{text:?}: {authority:?} is not a valid address: {error}, {expected}")
    })?;
    Ok(Url {
        addresses: found.map(ListenAddress::Tcp).collect(),
        transport,
        is_secure,
    })
}

/// The URL of an address, as users write it.
pub(crate) fn listener_url(
    address: &ListenAddress,
    transport: &Transport,
    is_secure: bool,
) -> String {
    let secure = if is_secure { "s" } else { "" };
    if let ListenAddress::Unix { path, .. } = address {
        return format!("unix://{}", path.display());
    }
    match transport {
        Transport::Tcp => format!("mqtt{secure}://{address}"),
        Transport::WebSocket { path, .. } => format!("ws{secure}://{address}{path}"),
    }
}
