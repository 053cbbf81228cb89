//! The broker's address as a URL, the argument of `-L`.
//!
//! Responsible for `mqtt[s]://[user[:password]@]host[:port][/topic]` as in mosquitto's clients, and
//! for `ws[s]://[user[:password]@]host[:port][/path]`, our extension. Does not resolve names.

use martlet_client::Password;

/// Transport of the Network Connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// MQTT directly over TCP.
    Mqtt,
    /// MQTT in WebSocket frames over TCP.
    WebSocket,
}

/// A parsed URL. For missing parts, other options apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerUrl {
    /// The transport.
    pub(crate) scheme: Scheme,
    /// Whether TLS is used.
    pub(crate) is_secure: bool,
    /// User name, percent-decoded.
    pub(crate) username: Option<String>,
    /// Password, percent-decoded.
    pub(crate) password: Option<Password>,
    /// Host name or address, IPv6 without its brackets.
    pub(crate) host: String,
    /// TCP port; the scheme's default if the URL has none.
    pub(crate) port: u16,
    /// The part after the host's `/`: the topic of `mqtt`, the path of `ws`.
    pub(crate) path: Option<String>,
}

/// Parses the argument of `-L`.
///
/// # Errors
/// A line for the user about the fault of the URL. It never contains the password.
pub(crate) fn parse(url: &str) -> Result<BrokerUrl, String> {
    let (scheme, is_secure, rest, default_port) = match url.split_once("://") {
        Some(("mqtt", rest)) => (Scheme::Mqtt, false, rest, 1883),
        Some(("mqtts", rest)) => (Scheme::Mqtt, true, rest, 8883),
        Some(("ws", rest)) => (Scheme::WebSocket, false, rest, 80),
        Some(("wss", rest)) => (Scheme::WebSocket, true, rest, 443),
        Some(("unix", path)) => {
            return Err(format!(
                "unsupported URL scheme; a Unix socket is named by --unix {path} instead of -L."
            ));
        }
        _ => return Err("unsupported URL scheme.".into()),
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path.to_owned())),
        None => (rest, None),
    };
    let (credentials, address) = match authority.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, authority),
    };
    let (username, password) = match credentials.map(|text| text.split_once(':').ok_or(text)) {
        None => (None, None),
        Some(Ok((name, password))) => (
            Some(decode(name)?),
            Some(Password(decode(password)?.into_bytes())),
        ),
        Some(Err(name)) => (Some(decode(name)?), None),
    };
    let (host, port) = host_and_port(address, default_port)?;
    Ok(BrokerUrl {
        scheme,
        is_secure,
        username,
        password,
        host,
        port,
        path,
    })
}

fn host_and_port(address: &str, default_port: u16) -> Result<(String, u16), String> {
    let invalid = || "Invalid URL for -L argument specified - host or port invalid.".to_owned();
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(invalid)?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(invalid()),
        }
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    if host.is_empty() {
        return Err("Invalid URL for -L argument specified - host missing.".into());
    }
    let port = match port {
        None => default_port,
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(invalid)?,
    };
    Ok((host.to_owned(), port))
}

/// Decodes percent-encoding. An invalid sequence is an error.
fn decode(text: &str) -> Result<String, String> {
    let invalid = || "Invalid URL for -L argument specified - bad % sequence.".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|hex| char::from(hex).to_digit(16));
        let (high, low) = (digit().ok_or_else(invalid)?, digit().ok_or_else(invalid)?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_mqtt_url_is_read() {
        let url = parse("mqtt://us%40er:p%3Aw@example.org:1999/a/b").unwrap();
        assert_eq!(url.scheme, Scheme::Mqtt);
        assert_eq!(url.username.as_deref(), Some("us@er"));
        assert_eq!(url.password, Some(Password(b"p:w".to_vec())));
        assert_eq!((url.host.as_str(), url.port), ("example.org", 1999));
        assert_eq!(url.path.as_deref(), Some("a/b"));
    }

    #[test]
    fn the_port_defaults_to_the_schemes_own() {
        assert_eq!(parse("mqtt://h/t").unwrap().port, 1883);
        assert_eq!(parse("ws://h").unwrap().port, 80);
        assert_eq!(parse("ws://[::1]:8080/mqtt").unwrap().host, "::1");
    }

    #[test]
    fn tls_schemes_are_encrypted_and_have_ports_of_their_own() {
        for (url, is_secure, port) in [
            ("mqtts://h/t", true, 8883),
            ("wss://h/t", true, 443),
            ("mqtt://h/t", false, 1883),
        ] {
            let url = parse(url).unwrap();
            assert_eq!((url.is_secure, url.port), (is_secure, port));
        }
    }

    #[test]
    fn broken_urls_are_refused_without_showing_the_password() {
        for url in [
            "h:1883",
            "mqx://h",
            "mqtt://",
            "mqtt://u:secret@h:0/t",
            "mqtt://[::1/t",
            "mqtt://u:secret@h:x/t",
            "mqtt://u:secret%zz@h/t",
            "mqtt://u:secret@h:70000/t",
        ] {
            assert!(!parse(url).unwrap_err().contains("secret"), "{url}");
        }
    }
}
