//! Listeners of MQTT.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use martlet_broker::{Discovery, ListenerPolicy, Realm};
use martlet_certificates::{ClientCertificates, ServerFiles, server_config};
use martlet_codec::QoS;
use martlet_reactor::{ListenAddress, ListenerConfig, Origins, TlsSettings, Transport};

use super::options_of;
use super::url::{MQTT_PORT, Url, WEBSOCKET_PATH, WEBSOCKET_PORT, listener_url, parse_url};
use crate::config::authentication::Doors;
use crate::config::http::{HttpListener, iotflow_base};
use crate::config::load::{ConfigError, DEFAULT_SOURCE, Effective, ListenerTable};
use crate::config::schema::Value;

/// Owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Without an encrypted listener nobody can show a certificate: where the node asks for them, a
/// listener was lost, or is not what it was meant to be.
pub(super) fn no_certificates_are_asked_for(effective: &Effective) -> Result<(), ConfigError> {
    let is_off = |key: &&str| matches!(effective.text(key), "" | "off");
    let keys = ["tls.client_certificates", "tls.client_ca", "tls.client_crl"];
    let Some(key) = keys.iter().find(|key| !is_off(key)) else {
        return Ok(());
    };
    let is_declined = effective.source("tls.client_certificates") != DEFAULT_SOURCE;
    if is_declined && effective.text("tls.client_certificates") == "off" {
        return Ok(());
    }
    Err(ConfigError::Unusable(format!(
        "{}: `{key}` is set, and no listener is encrypted, so that no client can show a certificate: \
         use mqtts:// or wss://, or leave it out",
        effective.source(key)
    )))
}

pub(super) fn listeners(
    effective: &Effective,
    doors: &mut Doors<'_>,
    files: &mut Vec<PathBuf>,
    skipped: &mut Vec<String>,
) -> Result<Vec<ListenerConfig>, ConfigError> {
    if !effective.boolean("mqtt.enabled") {
        return Ok(Vec::new());
    }
    if effective.listeners.is_empty() {
        return default_listeners(effective, doors, skipped);
    }
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for table in &effective.listeners {
        for listener in configured_listener(effective, table, doors, files)? {
            let address = &listener.address;
            if let Some(known) = listeners
                .iter()
                .find(|known| overlap(&known.address, address))
            {
                let place = table.get("url").map_or("", |url| url.source.as_str());
                let text = match known.address == *address {
                    true => format!("{address} is listened on twice; name each address once"),
                    false => format!(
                        "{address} and {}, of another listener, overlap: one of them is every \
                         address of this machine; give one of them another port",
                        known.address
                    ),
                };
                return Err(ConfigError::Unusable(format!("{place}: {text}")));
            }
            listeners.push(listener);
        }
    }
    let named = |table: &ListenerTable| match table.get("name").map(|name| &name.value) {
        Some(Value::Text(name)) => Some(name.clone()),
        _ => None,
    };
    let mut names: Vec<String> = effective.listeners.iter().filter_map(named).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ConfigError::Unusable(format!(
            "two listeners have the name {:?}: give each its own",
            twice[0]
        )));
    }
    Ok(listeners)
}

/// Whether two listeners would want the same connections: `[::]` is every address of the machine,
/// `0.0.0.0` every one of IPv4.
pub(crate) fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
    let (Some(one), Some(other)) = (one.socket(), other.socket()) else {
        return one == other;
    };
    let is_part = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    // Port 0 is one that the system chooses.
    one.port() == other.port()
        && one.port() != 0
        && (one == other || is_part(one, other) || is_part(other, one))
}

/// Health and metrics have an address of their own.
pub(super) fn keep_apart(
    http: &HttpListener,
    listeners: &[ListenerConfig],
) -> Result<(), ConfigError> {
    let own = ListenAddress::Tcp(http.address);
    let mut listeners = listeners.iter();
    let Some(other) = listeners.find(|listener| overlap(&own, &listener.address)) else {
        return Ok(());
    };
    Err(ConfigError::Unusable(format!(
        "{}: {} of the HTTP server is where the listener {} is: give one of them another port, or \
         set http.listen to off",
        http.source, http.address, other.name
    )))
}

/// Loopback, both families, MQTT and WebSocket. A family that the machine lacks is left out.
fn default_listeners(
    effective: &Effective,
    doors: &mut Doors<'_>,
    skipped: &mut Vec<String>,
) -> Result<Vec<ListenerConfig>, ConfigError> {
    let families = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let websocket = Transport::WebSocket {
        path: WEBSOCKET_PATH.to_owned(),
        origins: Origins::All,
    };
    let mut listeners = Vec::new();
    for (port, transport) in [(MQTT_PORT, Transport::Tcp), (WEBSOCKET_PORT, websocket)] {
        for ip in families {
            let address = ListenAddress::Tcp(SocketAddr::new(ip, port));
            let name = listener_url(&address, &transport, false);
            let probe = std::net::UdpSocket::bind(SocketAddr::new(ip, 0));
            if probe.is_err_and(|error| error.kind() != std::io::ErrorKind::AddrInUse) {
                skipped.push(name);
                continue;
            }
            let realm = doors.realm_of(None, &name)?;
            let policy = Arc::new(policy(effective, None, name.clone(), true, realm));
            let transport = with_origins(&transport, None, policy.allow_anonymous);
            listeners.push(ListenerConfig {
                tls: None,
                address,
                accept_rate: 0,
                proxies: Vec::new(),
                transport,
                policy,
                name,
            });
        }
    }
    Ok(listeners)
}

/// With the origins that a listener names. One that names none, and lets in everybody of this
/// machine, lets in no pages of others: any page that its user visits could reach it.
fn with_origins(
    transport: &Transport,
    table: Option<&ListenerTable>,
    is_open_here: bool,
) -> Transport {
    let mut transport = transport.clone();
    if let Transport::WebSocket { origins, .. } = &mut transport {
        let said = table.and_then(|table| table.get("origins"));
        *origins = match said.map(|said| &said.value) {
            Some(Value::Text(text)) if text == "*" => Origins::All,
            Some(Value::Text(list)) if !list.is_empty() => {
                let all = list.split(',').map(|origin| origin.trim().to_owned());
                Origins::Listed(all.collect())
            }
            _ if is_open_here => Origins::Local,
            _ => Origins::All,
        };
    }
    transport
}

fn configured_listener(
    effective: &Effective,
    table: &ListenerTable,
    doors: &mut Doors<'_>,
    files: &mut Vec<PathBuf>,
) -> Result<Vec<ListenerConfig>, ConfigError> {
    let Some(url) = table.get("url") else {
        return Ok(Vec::new());
    };
    let Value::Text(text) = &url.value else {
        return Ok(Vec::new());
    };
    let unusable = |why: String| ConfigError::Unusable(format!("{}: {why}", url.source));
    let mode = socket_mode(table).map_err(|why| unusable(format!("{text}: {why}")))?;
    let Url {
        addresses,
        transport,
        is_secure,
    } = parse_url(text, mode).map_err(unusable)?;
    let proxies = proxies(table).map_err(|why| unusable(format!("{text}: {why}")))?;
    let accept_rate = number(table, "accept_rate");
    let tls = tls_of(effective, table, is_secure, files)
        .map_err(|why| ConfigError::Unusable(format!("{}: {text}: {why}", url.source)))?;
    let mut listeners = Vec::new();
    // All addresses of a name are one door.
    let mut realm = None;
    for address in addresses {
        let name = match table.get("name").map(|name| &name.value) {
            Some(Value::Text(name)) => name.clone(),
            _ => listener_url(&address, &transport, is_secure),
        };
        let loopback = address.is_local();
        let realm = match realm {
            Some(known) => known,
            None => *realm.insert(doors.realm_of(Some(table), &name)?),
        };
        let policy = policy(effective, Some(table), name.clone(), loopback, realm);
        let policy = with_applicants(effective, table, policy)
            .map_err(|why| ConfigError::Unusable(format!("{}: {text}: {why}", url.source)))?;
        let takes_applicants = policy.discovery.is_some() || policy.payload_api_key;
        let lets_in = policy.allow_anonymous
            || takes_applicants
            || realm.is_some_and(|realm| doors.knows_anybody(realm));
        if !loopback && !lets_in {
            return Err(ConfigError::Unusable(format!(
                "{}: {} can be reached from other machines, and nobody could connect, since no \
                 credentials are configured; add a user (martlet user add {}NAME), or listen on \
                 loopback, or add --allow-anonymous if everybody who can reach it may use it",
                url.source,
                listener_url(&address, &transport, is_secure),
                options_of(effective)
            )));
        }
        let is_open_here = loopback && policy.allow_anonymous;
        let transport = with_origins(&transport, Some(table), is_open_here);
        let policy = Arc::new(policy);
        listeners.push(ListenerConfig {
            tls: tls.clone(),
            address,
            accept_rate,
            proxies: proxies.clone(),
            transport,
            policy,
            name,
        });
    }
    Ok(listeners)
}

pub(super) fn policy(
    effective: &Effective,
    table: Option<&ListenerTable>,
    name: String,
    loopback: bool,
    realm: Option<Realm>,
) -> ListenerPolicy {
    let own = |key: &str| {
        table
            .and_then(|table| table.get(key))
            .map(|found| &found.value)
    };
    let switch = |key: &str, otherwise: bool| match own(key) {
        Some(Value::Boolean(value)) => *value,
        _ => otherwise,
    };
    let general = |key: &str| effective.boolean(&format!("mqtt.{key}"));
    let max_qos = match own("max_qos") {
        Some(Value::Integer(qos)) => *qos,
        _ => effective.integer("mqtt.max_qos"),
    };
    ListenerPolicy {
        name,
        realm: realm.unwrap_or_default(),
        number: 0,
        // Set at the start.
        mark: 0,
        connections_max: table.map_or(0, |table| number(table, "max_connections")),
        connect_timeout_secs: table.map_or(0, |table| number(table, "connect_timeout_secs")),
        // Configured credentials are required, on this machine too.
        allow_anonymous: switch(
            "allow_anonymous",
            (loopback && realm.is_none()) || general("allow_anonymous"),
        ),
        allow_empty_client_id: switch("allow_empty_client_id", general("allow_empty_client_id")),
        authenticate: realm.is_some(),
        maximum_qos: QoS::from_bits(max_qos as u8).unwrap_or(QoS::ExactlyOnce),
        retain_available: switch("retain_available", general("retain_available")),
        wildcard_subscription_available: switch(
            "wildcard_subscriptions",
            general("wildcard_subscriptions"),
        ),
        subscription_ids_available: switch(
            "subscription_identifiers",
            general("subscription_identifiers"),
        ),
        own: None,
        discovery: None,
        payload_api_key: false,
        shared_subscription_available: switch(
            "shared_subscriptions",
            general("shared_subscriptions"),
        ),
    }
}

/// The policy with what a listener says of clients without credentials of their own.
fn with_applicants(
    effective: &Effective,
    table: &ListenerTable,
    policy: ListenerPolicy,
) -> Result<ListenerPolicy, String> {
    let own = |key: &str| table.get(key).map(|found| &found.value);
    let discovery = match own("discovery") {
        Some(Value::Text(word)) => word.as_str(),
        _ => "off",
    };
    let payload_api_key = matches!(own("payload_api_key"), Some(Value::Boolean(true)));
    let key = match (discovery, payload_api_key) {
        ("off", false) => return Ok(policy),
        ("off", true) => "payload_api_key",
        _ => "discovery",
    };
    if !policy.authenticate {
        return Err(format!(
            "`{key}` is set, and clients are not authenticated: set auth.enabled to on"
        ));
    }
    if policy.realm != Realm::COMMON {
        return Err(format!(
            "`{key}` is for the devices of the tables, and this listener has credentials of its \
             own: leave out password_file, acl_file and certificate_user_name"
        ));
    }
    if discovery != "off" && policy.allow_anonymous {
        return Err(
            "`discovery` is set, and clients without credentials are anonymous clients here: set \
             allow_anonymous of the listener to false"
                .to_owned(),
        );
    }
    let base = iotflow_base(effective).map_err(|error| error.to_string())?;
    let limit = |key: &str| u32::try_from(effective.integer(key)).unwrap_or(u32::MAX);
    let discovery = (discovery != "off").then(|| {
        Arc::new(Discovery {
            key_in_payload: discovery == "payload",
            topics: [
                format!("{}/discovery/register/", base.as_str()).into(),
                "discovery/register/".into(),
            ]
            .into(),
            connections_max: limit("limits.discovery_connections"),
            lasts_secs: limit("limits.discovery_secs"),
        })
    });
    Ok(ListenerPolicy {
        discovery,
        payload_api_key,
        ..policy
    })
}

/// What a listener is encrypted with; none if it is not.
fn tls_of(
    effective: &Effective,
    table: &ListenerTable,
    is_secure: bool,
    files_read: &mut Vec<PathBuf>,
) -> Result<Option<TlsSettings>, String> {
    let path = |key: &str| {
        let from_table = table.get(key).map(|found| &found.value);
        let general = || Value::Text(effective.text(&format!("tls.{key}")).to_owned());
        match from_table.cloned().unwrap_or_else(general) {
            Value::Text(path) if !path.is_empty() => Some(PathBuf::from(path)),
            _ => None,
        }
    };
    let word = match table.get("client_certificates").map(|found| &found.value) {
        Some(Value::Text(word)) => word.as_str(),
        _ => effective.text("tls.client_certificates"),
    };
    if !is_secure {
        let own = [
            "certificate",
            "key",
            "client_ca",
            "client_crl",
            "x509_version1",
            "tls_version",
        ];
        let own = own.into_iter().find(|key| table.contains_key(*key));
        // No client can present a certificate there, so clients would be accepted without one.
        let asks = table.contains_key("client_certificates") && word != "off";
        return match own.or(asks.then_some("client_certificates")) {
            Some(key) => Err(format!(
                "`{key}` is for encrypted listeners: use mqtts:// or wss://, or leave it out"
            )),
            None => Ok(None),
        };
    }
    let (Some(certificate), Some(key)) = (path("certificate"), path("key")) else {
        return Err(
            "TLS needs a certificate and its key: set tls.certificate and tls.key, or \
             `certificate` and `key` of the listener"
                .to_owned(),
        );
    };
    let record_bytes = match table.get("tls_record_bytes").map(|found| &found.value) {
        Some(Value::Integer(bytes)) => u16::try_from(*bytes).ok(),
        _ => None,
    };
    let version = match table.get("tls_version").map(|found| &found.value) {
        Some(Value::Text(version)) => version.as_str(),
        _ => effective.text("tls.version"),
    };
    let files = ServerFiles {
        without_tls12: version == "1.3",
        certificate,
        key,
        client_ca: path("client_ca"),
        client_certificates: match word {
            "optional" => ClientCertificates::Optional,
            "required" => ClientCertificates::Required,
            _ => ClientCertificates::Off,
        },
        revoked: path("client_crl"),
        accepts_version1: match table.get("x509_version1").map(|found| &found.value) {
            Some(Value::Boolean(accepts)) => *accepts,
            _ => effective.boolean("tls.x509_version1"),
        },
        record_bytes,
    };
    // A CA that nobody is checked against: a line that was lost, and a door that is open.
    let is_said = table.contains_key("client_certificates")
        || effective.source("tls.client_certificates") != DEFAULT_SOURCE;
    if !is_said && (files.client_ca.is_some() || files.revoked.is_some()) {
        return Err(
            "client_ca or client_crl is set, and client_certificates is not: say required or \
             optional, or off if nobody is to show one"
                .to_owned(),
        );
    }
    let tls = server_config(&files).map_err(|error| error.to_string())?;
    let ServerFiles {
        certificate,
        key,
        client_ca,
        revoked,
        ..
    } = files;
    files_read.extend([certificate, key]);
    files_read.extend([client_ca, revoked].into_iter().flatten());
    Ok(Some(TlsSettings::new(tls.config, tls.clients)))
}

/// A number of a listener; 0 if it says none.
fn number(table: &ListenerTable, key: &str) -> u32 {
    match table.get(key).map(|found| &found.value) {
        Some(Value::Integer(number)) => u32::try_from(*number).unwrap_or(u32::MAX),
        _ => 0,
    }
}

/// Whose word on where clients come from is taken.
fn proxies(table: &ListenerTable) -> Result<Vec<IpNet>, String> {
    let Some(Value::Text(text)) = table.get("proxy_from").map(|found| &found.value) else {
        return Ok(Vec::new());
    };
    let networks = text.split(',').map(network);
    let all: Result<_, String> = networks.collect();
    all.map_err(|why| format!("proxy_from: {why}"))
}

/// A network, or an address as one.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let found = text.parse::<IpNet>().ok();
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    found
        .or_else(address)
        .ok_or_else(|| format!("{text:?} is no address or network such as 10.0.0.0/8"))
}

/// Mode of the file of a Unix socket.
fn socket_mode(table: &ListenerTable) -> Result<u32, String> {
    let Some(Value::Text(text)) = table.get("mode").map(|found| &found.value) else {
        return Ok(SOCKET_MODE);
    };
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("mode: {text:?} is no mode such as 0660"))
}
