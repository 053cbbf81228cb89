//! Listeners of MQTT.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use martlet_broker::{Discovery, ListenerPolicy, Realm};
use martlet_certificates::{ClientCertificates, ServerFiles, server_config};
use martlet_codec::QoS;
use martlet_reactor::{ListenAddress, ListenerConfig, Origins, TlsSettings, Transport};

use super::url::{MQTT_PORT, Url, WEBSOCKET_PATH, WEBSOCKET_PORT, listener_url, parse_url};
use crate::config::addresses::{network, overlap};
use crate::config::authentication::{PolicyReader, has_own_credentials, tables_unasked};
use crate::config::data_dir::options_of;
use crate::config::error::ConfigError;
use crate::config::http::{HttpListener, iotflow_base};
use crate::config::load::{DEFAULT_SOURCE, Effective, ListenerTable};
use crate::config::schema::{DiscoveryMode, ListenerKeys, TlsVersion};

/// Read and write for owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Rejects a configuration that requires client certificates but has no TLS listener, because no
/// client can present one. A listener was probably lost or misconfigured.
pub(super) fn no_certificates_are_asked_for(effective: &Effective) -> Result<(), ConfigError> {
    let tls = &effective.settings().tls;
    let is_off = tls.client_certificates == ClientCertificates::Off;
    let key = if !is_off {
        key!(tls.client_certificates)
    } else if effective.source(key!(tls.client_certificates)) != DEFAULT_SOURCE {
        // Client certificates are disabled explicitly.
        return Ok(());
    } else if !tls.client_ca.is_empty() {
        key!(tls.client_ca)
    } else if !tls.client_crl.is_empty() {
        key!(tls.client_crl)
    } else {
        return Ok(());
    };
    Err(ConfigError::Unusable(format!(
        "{}: `{key}` is set, but no listener is encrypted, so no client can present a certificate: \
         use mqtts:// or wss://, or leave it out",
        effective.source(key)
    )))
}

pub(super) fn listeners(
    effective: &Effective,
    reader: &mut PolicyReader<'_>,
    files: &mut Vec<PathBuf>,
    skipped: &mut Vec<String>,
) -> Result<Vec<ListenerConfig>, ConfigError> {
    if !effective.settings().mqtt.enabled {
        return Ok(Vec::new());
    }
    if effective.listeners.is_empty() {
        return default_listeners(effective, reader, skipped);
    }
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for table in &effective.listeners {
        for listener in configured_listener(effective, table, reader, files)? {
            let address = &listener.address;
            if let Some(known) = listeners
                .iter()
                .find(|known| overlap(&known.address, address))
            {
                let place = table.source("url");
                let text = match known.address == *address {
                    true => format!("{address} is given twice; give each address once"),
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
    let names = effective.listeners.iter();
    let mut names: Vec<&String> = names.filter_map(|table| table.name.as_ref()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ConfigError::Unusable(format!(
            "two listeners have the name {:?}: give each its own",
            twice[0]
        )));
    }
    Ok(listeners)
}

/// Checks that health and metrics have a separate address.
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

/// The default listeners: loopback, both families, MQTT and WebSocket. A family that the machine
/// does not support is skipped.
fn default_listeners(
    effective: &Effective,
    reader: &mut PolicyReader<'_>,
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
            let realm = reader.realm_of(None, &name)?;
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

/// Adds the origins configured for a listener. A listener without configured origins that accepts
/// anonymous clients of this machine rejects pages of other origins: otherwise any page that its
/// user visits could connect.
fn with_origins(
    transport: &Transport,
    table: Option<&ListenerTable>,
    is_open_here: bool,
) -> Transport {
    let mut transport = transport.clone();
    if let Transport::WebSocket { origins, .. } = &mut transport {
        let said = table.and_then(|table| table.origins.as_ref());
        *origins = match said {
            Some(list) if list.as_str() == "*" => Origins::All,
            Some(list) if !list.is_empty() => {
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
    reader: &mut PolicyReader<'_>,
    files: &mut Vec<PathBuf>,
) -> Result<Vec<ListenerConfig>, ConfigError> {
    let Some(text) = &table.url else {
        return Ok(Vec::new());
    };
    let source = table.source("url");
    let unusable = |why: String| ConfigError::Unusable(format!("{source}: {why}"));
    let mode = socket_mode(table).map_err(|why| unusable(format!("{text}: {why}")))?;
    let Url {
        addresses,
        transport,
        is_secure,
    } = parse_url(text, mode).map_err(unusable)?;
    let proxies = proxies(table).map_err(|why| unusable(format!("{text}: {why}")))?;
    let accept_rate = table.accept_rate.unwrap_or(0);
    let tls = tls_of(effective, table, is_secure, files)
        .map_err(|why| unusable(format!("{text}: {why}")))?;
    let mut listeners = Vec::new();
    // All addresses of a name have the same realm.
    let mut realm = None;
    for address in addresses {
        let name = match &table.name {
            Some(name) => name.clone(),
            None => listener_url(&address, &transport, is_secure),
        };
        let loopback = address.is_local();
        let realm = match realm {
            Some(known) => known,
            None => *realm.insert(reader.realm_of(Some(table), &name)?),
        };
        let policy = policy(effective, Some(table), name.clone(), loopback, realm);
        let policy = with_applicants(effective, table, policy)
            .map_err(|why| unusable(format!("{text}: {why}")))?;
        let takes_applicants = policy.discovery.is_some() || policy.payload_api_key;
        let lets_in = policy.allow_anonymous
            || takes_applicants
            || realm.is_some_and(|realm| reader.knows_anybody(realm));
        if !loopback && !lets_in {
            let url = listener_url(&address, &transport, is_secure);
            expect_credentials(effective, table, reader, &url)
                .map_err(|why| unusable(format!("{url} {why}")))?;
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

/// Warns that nobody has credentials for a listener that other machines can reach.
///
/// # Errors
/// Users and devices that are added later could not log in there either.
fn expect_credentials(
    effective: &Effective,
    table: &ListenerTable,
    reader: &mut PolicyReader<'_>,
    url: &str,
) -> Result<(), String> {
    let never = match has_own_credentials(table) {
        true => Some("the listener has credentials of its own, and nobody is in them".to_owned()),
        false => tables_unasked(effective),
    };
    if let Some(why) = never {
        return Err(format!(
            "can be reached from other machines, but no client could connect: {why}; configure \
             credentials, or listen on loopback, or add --allow-anonymous to permit access without \
             credentials"
        ));
    }
    let has_http = effective.settings().http.listen.as_str() != "off";
    let request = match has_http || !effective.http_listeners.is_empty() {
        true => ", or POST /api/v1/devices",
        false => "",
    };
    reader.warn_of_nobody(format!(
        "clients need credentials at {url}, and there are none yet: add a user (martlet user add \
         {options}NAME) or a device (martlet device add {options}ID{request}), or start with \
         --allow-anonymous to permit access without credentials",
        options = options_of(effective)
    ));
    Ok(())
}

pub(super) fn policy(
    effective: &Effective,
    table: Option<&ListenerTable>,
    name: String,
    loopback: bool,
    realm: Option<Realm>,
) -> ListenerPolicy {
    let none = ListenerKeys::default();
    let own: &ListenerKeys = table.map_or(&none, |table| table);
    let general = &effective.settings().mqtt;
    let max_qos = own.max_qos.unwrap_or(general.max_qos);
    ListenerPolicy {
        name,
        realm: realm.unwrap_or_default(),
        number: 0,
        // Set at the start.
        mark: 0,
        connections_max: own.max_connections.unwrap_or(0),
        connect_timeout_secs: own.connect_timeout_secs.unwrap_or(0),
        // If credentials are configured, they are also required for clients on this machine.
        allow_anonymous: own
            .allow_anonymous
            .unwrap_or((loopback && realm.is_none()) || general.allow_anonymous),
        allow_empty_client_id: own
            .allow_empty_client_id
            .unwrap_or(general.allow_empty_client_id),
        authenticate: realm.is_some(),
        maximum_qos: QoS::from_bits(max_qos).unwrap_or(QoS::ExactlyOnce),
        retain_available: own.retain_available.unwrap_or(general.retain_available),
        wildcard_subscription_available: own
            .wildcard_subscriptions
            .unwrap_or(general.wildcard_subscriptions),
        subscription_ids_available: own
            .subscription_identifiers
            .unwrap_or(general.subscription_identifiers),
        own: None,
        discovery: None,
        payload_api_key: false,
        shared_subscription_available: own
            .shared_subscriptions
            .unwrap_or(general.shared_subscriptions),
    }
}

/// The policy with the listener's settings for applicants.
fn with_applicants(
    effective: &Effective,
    table: &ListenerTable,
    policy: ListenerPolicy,
) -> Result<ListenerPolicy, String> {
    let mode = table.discovery.unwrap_or(DiscoveryMode::Off);
    let payload_api_key = table.payload_api_key.unwrap_or(false);
    let key = match (mode, payload_api_key) {
        (DiscoveryMode::Off, false) => return Ok(policy),
        (DiscoveryMode::Off, true) => "payload_api_key",
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
    if mode != DiscoveryMode::Off && policy.allow_anonymous {
        return Err(
            "`discovery` is set, and clients without credentials are anonymous clients here: set \
             allow_anonymous of the listener to false"
                .to_owned(),
        );
    }
    let base = iotflow_base(effective).map_err(|error| error.to_string())?;
    let limits = &effective.settings().limits;
    let discovery = (mode != DiscoveryMode::Off).then(|| {
        Arc::new(Discovery {
            key_in_payload: mode == DiscoveryMode::Payload,
            topics: [
                format!("{}/discovery/register/", base.as_str()).into(),
                "discovery/register/".into(),
            ]
            .into(),
            connections_max: limits.discovery_connections,
            lasts_secs: limits.discovery_secs,
        })
    });
    Ok(ListenerPolicy {
        discovery,
        payload_api_key,
        ..policy
    })
}

/// TLS settings of a listener; `None` without encryption.
fn tls_of(
    effective: &Effective,
    table: &ListenerTable,
    is_secure: bool,
    files_read: &mut Vec<PathBuf>,
) -> Result<Option<TlsSettings>, String> {
    let general = &effective.settings().tls;
    let own = table.client_certificates;
    let client_certificates = own.unwrap_or(general.client_certificates);
    if !is_secure {
        let own = [
            ("certificate", table.certificate.is_some()),
            ("key", table.key.is_some()),
            ("client_ca", table.client_ca.is_some()),
            ("client_crl", table.client_crl.is_some()),
            ("x509_version1", table.x509_version1.is_some()),
            ("tls_version", table.tls_version.is_some()),
        ];
        let own = own.into_iter().find(|(_, is_set)| *is_set);
        let own = own.map(|(key, _)| key);
        // No client can present a certificate there, so clients would be accepted without one.
        let asks = table
            .client_certificates
            .is_some_and(|asked| asked != ClientCertificates::Off);
        return match own.or(asks.then_some("client_certificates")) {
            Some(key) => Err(format!(
                "`{key}` is for encrypted listeners: use mqtts:// or wss://, or leave it out"
            )),
            None => Ok(None),
        };
    }
    let path = |own: &Option<String>, general: &String| {
        let path = own.as_ref().unwrap_or(general);
        (!path.is_empty()).then(|| PathBuf::from(path))
    };
    let certificate = path(&table.certificate, &general.certificate);
    let (Some(certificate), Some(key)) = (certificate, path(&table.key, &general.key)) else {
        return Err(
            "TLS needs a certificate and its key: set tls.certificate and tls.key, or \
             `certificate` and `key` of the listener"
                .to_owned(),
        );
    };
    let version = table.tls_version.unwrap_or(general.version);
    let files = ServerFiles {
        without_tls12: version == TlsVersion::V13,
        certificate,
        key,
        client_ca: path(&table.client_ca, &general.client_ca),
        client_certificates,
        revoked: path(&table.client_crl, &general.client_crl),
        accepts_version1: table.x509_version1.unwrap_or(general.x509_version1),
        record_bytes: table.tls_record_bytes,
    };
    // There is a CA but no client_certificates. A line of the file is probably lost; clients would
    // be accepted without a certificate.
    let is_said = table.client_certificates.is_some()
        || effective.source(key!(tls.client_certificates)) != DEFAULT_SOURCE;
    if !is_said && (files.client_ca.is_some() || files.revoked.is_some()) {
        return Err(
            "client_ca or client_crl is set, but client_certificates is not: set it to required or \
             optional, or to off if client certificates are not used"
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

/// Addresses of proxies that are trusted to send client addresses.
fn proxies(table: &ListenerTable) -> Result<Vec<IpNet>, String> {
    let Some(text) = &table.proxy_from else {
        return Ok(Vec::new());
    };
    let networks = text.split(',').map(network);
    let all: Result<_, String> = networks.collect();
    all.map_err(|why| format!("proxy_from: {why}"))
}

/// Mode of the file of a Unix socket.
fn socket_mode(table: &ListenerTable) -> Result<u32, String> {
    let Some(text) = &table.mode else {
        return Ok(SOCKET_MODE);
    };
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("mode: {text:?} is not a valid mode such as 0660"))
}
