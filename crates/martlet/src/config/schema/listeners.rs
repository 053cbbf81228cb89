//! Keys of listeners.

use super::{Kind, SWITCH};

/// Keys of one `[[http_listeners]]` table, with what they mean.
pub(crate) const HTTP_LISTENER_KEYS: &[(&str, Kind, &str)] = &[
    (
        "url",
        Kind::Text,
        "Address to listen on: http://HOST:PORT, https://HOST:PORT or HOST:PORT, as in http.listen. A name stands for all its addresses.",
    ),
    (
        "compat",
        Kind::Text,
        "As http.compat, for this listener: whose routes are served, the first one's where two systems have a path.",
    ),
    (
        "open_routes",
        Kind::Text,
        "As http.open_routes, for this listener.",
    ),
    (
        "metrics",
        Kind::Word(&["prometheus", "json"]),
        "Form of /metrics where the request names none: prometheus (default), or json, the one of system 1.",
    ),
];

/// Keys of one `[[listeners]]` table, with what they mean.
pub(crate) const LISTENER_KEYS: &[(&str, Kind, &str)] = &[
    (
        "url",
        Kind::Text,
        "Address to listen on: mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH or unix:///PATH. The path /* matches any path.",
    ),
    (
        "name",
        Kind::Text,
        "Name in logs; the URL if none is given.",
    ),
    (
        "allow_anonymous",
        SWITCH,
        "As mqtt.allow_anonymous, for this listener.",
    ),
    (
        "discovery",
        Kind::Word(DISCOVERY),
        "Whether devices may register here by MQTT with a provisioning key, on discovery/register/ID and IOTFLOW_BASE/discovery/register/ID. off (default); password: the key is the password of the CONNECT; payload: as password, and clients without credentials may put the key into the registration. Needs allow_anonymous = false.",
    ),
    (
        "payload_api_key",
        SWITCH,
        "Whether a message may name its device by api_key in a JSON payload, as firmware of system 3 does: it is then published by that device's rules, without the key. Clients without credentials are accepted, and may publish only such messages, unless allow_anonymous gives them more.",
    ),
    (
        "max_connections",
        Kind::Integer {
            min: 0,
            max: 0xFFFF_FFFF,
        },
        "Clients that are connected by this listener, at most; 0: only limits.connections applies.",
    ),
    (
        "accept_rate",
        Kind::Integer {
            min: 0,
            max: 1_000_000,
        },
        "Connections that are accepted per second, at most, so that handshakes leave time for other clients; more connections wait in the system's queue. 0: no limit.",
    ),
    (
        "connect_timeout_secs",
        Kind::Integer { min: 0, max: 3_600 },
        "As limits.connect_timeout_secs, for this listener: TLS handshake, WebSocket request and CONNECT together. 0: the value of the node.",
    ),
    (
        "proxy_from",
        Kind::Text,
        "Comma-separated addresses or networks of proxies, such as 10.0.0.0/8, that say in the PROXY protocol (version 1 or 2) where a client comes from. Each connection has to begin with the PROXY protocol then; a connection from another address is refused.",
    ),
    (
        "mode",
        Kind::Text,
        "For unix:///PATH: mode of the socket's file; a user who may write to the file may connect. Default: 0660.",
    ),
    (
        "allow_empty_client_id",
        SWITCH,
        "As mqtt.allow_empty_client_id, for this listener.",
    ),
    (
        "max_qos",
        Kind::Integer { min: 0, max: 2 },
        "As mqtt.max_qos, for this listener.",
    ),
    (
        "retain_available",
        SWITCH,
        "As mqtt.retain_available, for this listener.",
    ),
    (
        "wildcard_subscriptions",
        SWITCH,
        "As mqtt.wildcard_subscriptions, for this listener.",
    ),
    (
        "subscription_identifiers",
        SWITCH,
        "As mqtt.subscription_identifiers, for this listener.",
    ),
    (
        "shared_subscriptions",
        SWITCH,
        "As mqtt.shared_subscriptions, for this listener.",
    ),
    (
        "password_file",
        Kind::Text,
        "As auth.password_file, for this listener. A listener with one of these three keys has credentials and rules of its own: those of the node do not apply there.",
    ),
    (
        "acl_file",
        Kind::Text,
        "As auth.acl_file, for this listener.",
    ),
    (
        "certificate_user_name",
        Kind::Word(CERTIFICATE_FIELDS),
        "As auth.certificate_user_name, for this listener. Where the tables of users and devices are in use they decide here too: a client that is disabled or deleted there is refused, and so is, without an acl_file, a client that is unknown there.",
    ),
    (
        "ignore_tables",
        SWITCH,
        "With certificate_user_name of this listener: the tables of users and devices are not checked here, so that certificates of disabled, deleted and unknown devices are accepted. Start, config check and health warn about it.",
    ),
    (
        "certificate",
        Kind::Text,
        "For mqtts:// and wss://: PEM file with the server's certificate, then those of its CAs.",
    ),
    (
        "key",
        Kind::Text,
        "For mqtts:// and wss://: PEM file with the certificate's private key.",
    ),
    (
        "client_certificates",
        Kind::Word(&["off", "optional", "required"]),
        "Whether clients have to present a certificate; a certificate that is presented has to be valid. Required where client_ca is set.",
    ),
    (
        "tls_version",
        Kind::Word(TLS_VERSIONS),
        "As tls.version, for this listener.",
    ),
    (
        "client_ca",
        Kind::Text,
        "PEM file with the CAs whose client certificates are accepted, or a directory of such files.",
    ),
    (
        "client_crl",
        Kind::Text,
        "PEM file with revocation lists of those CAs.",
    ),
    (
        "x509_version1",
        SWITCH,
        "As tls.x509_version1, for this listener.",
    ),
    (
        "tls_record_bytes",
        Kind::Integer {
            min: 64,
            max: 16_384,
        },
        "Longest TLS record that is sent, for clients with little memory.",
    ),
    (
        "origins",
        Kind::Text,
        "Comma-separated origins whose pages may open a WebSocket, or *: all. Default: all; but only pages of this machine, such as http://localhost:3000, at a listener on loopback that accepts clients without credentials. A client that sends no origin, such as a device, is accepted.",
    ),
];

/// How devices may register on a listener.
const DISCOVERY: &[&str] = &["off", "password", "payload"];

/// What is spoken at least.
pub(super) const TLS_VERSIONS: &[&str] = &["1.2", "1.3"];

/// Fields of a certificate that may name its user.
pub(super) const CERTIFICATE_FIELDS: &[&str] = &[
    "off",
    "common-name",
    "san-dns",
    "san-uri",
    "san-email",
    "subject",
];

/// Name and meaning of each key of a listener.
pub(crate) fn listener_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    LISTENER_KEYS.iter().map(|&(name, _, what)| (name, what))
}

/// Name and meaning of each key of an HTTP listener.
pub(crate) fn http_listener_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    HTTP_LISTENER_KEYS
        .iter()
        .map(|&(name, _, what)| (name, what))
}
