//! Converts keys and values to the HTTP servers: their listeners and access rules.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use martlet_access::IotflowBase;
use martlet_api::{ApiKey, CompatApi, RouteSettings, Settings};
use martlet_certificates::{ClientCertificates, ServerFiles, server_config};
use martlet_control::iotflow::Catalogue;
use martlet_control::principal::Scopes;
use martlet_reactor::{ListenAddress, TlsSettings};

use crate::config::addresses::{network, overlap};
use crate::config::error::ConfigError;
use crate::config::load::{DEFAULT_SOURCE, Effective, HttpListenerTable};
use crate::config::schema::{MetricsForm, TlsVersion};

/// A listener of the HTTP server.
#[derive(Clone, Debug)]
pub(crate) struct HttpListener {
    pub(crate) address: SocketAddr,
    /// `None` without TLS.
    pub(crate) tls: Option<TlsSettings>,
    /// The routes that it serves.
    pub(crate) routes: RouteSettings,
    /// Whether it is a default, next to configured listeners or of another system: if its address
    /// is in use, the node starts without it.
    pub(crate) is_optional: bool,
    /// The key or option that configures it.
    pub(crate) source: String,
}

/// Limits of HTTP connections.
#[derive(Clone, Debug)]
pub(crate) struct HttpConnections {
    /// Limit for all listeners together.
    pub(crate) all: usize,
    pub(crate) of_address: usize,
    /// Whether an address may use at most half of the free connections. Off if the user has set a
    /// limit per address.
    pub(crate) leaves_half: bool,
    /// Addresses shared by many clients, which have no limit per address.
    pub(crate) proxies: Vec<IpNet>,
}

/// Lowest limit per address if there are few connections.
const OF_ADDRESS_MIN: usize = 8;

pub(super) fn connections(effective: &Effective, settings: &Settings) -> HttpConnections {
    let all = effective.settings().http.connections;
    let of_address = effective.settings().http.connections_per_address;
    HttpConnections {
        all,
        of_address: match of_address {
            0 => (all / 4).max(OF_ADDRESS_MIN),
            of_address => of_address,
        },
        leaves_half: of_address == 0,
        proxies: settings.trusted_proxies.clone(),
    }
}

/// Shortest key that cannot be guessed; shorter ones are accepted with a warning.
const KEY_BYTES_MIN: usize = 16;

/// The listeners; empty if HTTP is off.
pub(super) fn listeners(
    effective: &Effective,
    general: &RouteSettings,
    files: &mut Vec<PathBuf>,
) -> Result<Vec<HttpListener>, ConfigError> {
    let mut listeners: Vec<HttpListener> = Vec::new();
    let text = effective.settings().http.listen.as_str();
    let is_default = effective.source(key!(http.listen)) == DEFAULT_SOURCE;
    let tables = &effective.http_listeners;
    for one in text.split(',').filter(|_| text != "off") {
        let expected = "expected HOST:PORT such as 127.0.0.1:8080, or off";
        let unusable = || ConfigError::Unusable(format!("http.listen is {text:?}, {expected}"));
        let (addresses, tls) = opened(effective, one.trim(), key!(http.listen), files)?;
        if addresses.is_empty() {
            return Err(unusable());
        }
        for address in addresses {
            let listener = HttpListener {
                address,
                tls: tls.clone(),
                routes: general.clone(),
                is_optional: is_default && !tables.is_empty(),
                source: key!(http.listen).to_owned(),
            };
            add(&mut listeners, listener)?;
        }
    }
    for table in tables {
        let Some(url) = &table.url else {
            continue;
        };
        let source = table.source("url").to_owned();
        let routes = routes(table, general)?;
        let (addresses, tls) = opened(effective, url, &source, files)?;
        if addresses.is_empty() {
            return Err(ConfigError::Unusable(format!(
                "{source}: {url:?} is not a valid address, expected HOST:PORT such as \
                 127.0.0.1:9091"
            )));
        }
        for address in addresses {
            // A configured listener at the default address replaces the default one.
            listeners.retain(|known| !(known.is_optional && is_same(known.address, address)));
            let listener = HttpListener {
                address,
                tls: tls.clone(),
                routes: routes.clone(),
                is_optional: source == DEFAULT_SOURCE,
                source: source.clone(),
            };
            add(&mut listeners, listener)?;
        }
    }
    Ok(listeners)
}

/// Whether two listeners cannot both be opened.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    overlap(&ListenAddress::Tcp(one), &ListenAddress::Tcp(other))
}

fn add(listeners: &mut Vec<HttpListener>, new: HttpListener) -> Result<(), ConfigError> {
    let mut all = listeners.iter();
    if let Some(known) = all.find(|known| is_same(known.address, new.address)) {
        let why = match known.source == new.source && known.address == new.address {
            true => format!(
                "{}: {} is given twice; give each address once",
                new.source, new.address
            ),
            false => format!(
                "{}: {} is an address of the HTTP listener {} too, which {} requests; give one of \
                 them another port, or leave one out",
                new.source, new.address, known.address, known.source
            ),
        };
        return Err(ConfigError::Unusable(why));
    }
    listeners.push(new);
    Ok(())
}

/// Addresses and TLS of a listener; no addresses if it is disabled.
fn opened(
    effective: &Effective,
    text: &str,
    source: &str,
    files: &mut Vec<PathBuf>,
) -> Result<(Vec<SocketAddr>, Option<TlsSettings>), ConfigError> {
    let (scheme, address) = text.split_once("://").unwrap_or(("", text));
    if !matches!(scheme, "" | "http" | "https") {
        return Ok((Vec::new(), None));
    }
    // A name is resolved to all its addresses.
    let found = address.trim_end_matches('/').to_socket_addrs();
    let found: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
    let has_certificate = !effective.settings().http.tls_certificate.is_empty();
    let is_secure = scheme == "https" || (scheme.is_empty() && has_certificate);
    if found.is_empty() || !is_secure {
        return Ok((found, None));
    }
    let tls = tls(effective, source, files)?;
    Ok((found, Some(tls)))
}

/// The routes of a listener: its own settings, or else those of `http`.
fn routes(
    table: &HttpListenerTable,
    general: &RouteSettings,
) -> Result<RouteSettings, ConfigError> {
    let mut routes = general.clone();
    let unusable = |key: &str, why: String| {
        let source = table.source(key);
        ConfigError::Unusable(format!("{source}: {key}: {why}"))
    };
    if let Some(text) = &table.compat {
        let compat = compat(text);
        routes.compat = compat.map_err(|why| unusable("compat", why))?;
    }
    if let Some(text) = &table.open_routes {
        let open = open_routes(text);
        routes.open_routes = open.map_err(|why| unusable("open_routes", why))?;
    }
    routes.metrics_are_json = table.metrics == Some(MetricsForm::Json);
    Ok(routes)
}

fn tls(
    effective: &Effective,
    source: &str,
    read: &mut Vec<PathBuf>,
) -> Result<TlsSettings, ConfigError> {
    let (http, tls) = (&effective.settings().http, &effective.settings().tls);
    let own = (&http.tls_certificate, &http.tls_key);
    let (certificate, key) = match own.0.is_empty() && own.1.is_empty() {
        true => (&tls.certificate, &tls.key),
        false => own,
    };
    if certificate.is_empty() || key.is_empty() {
        return Err(ConfigError::Unusable(format!(
            "{source} requests https://, which needs a certificate and its key: set \
             http.tls_certificate and http.tls_key, or tls.certificate and tls.key"
        )));
    }
    let files = ServerFiles {
        without_tls12: tls.version == TlsVersion::V13,
        certificate: PathBuf::from(certificate),
        key: PathBuf::from(key),
        client_ca: None,
        client_certificates: ClientCertificates::Off,
        revoked: None,
        accepts_version1: false,
        record_bytes: None,
    };
    let tls = server_config(&files);
    let tls = tls.map_err(|error| ConfigError::Unusable(format!("{source}: {error}")))?;
    read.extend([files.certificate, files.key]);
    Ok(TlsSettings::new(tls.config, tls.clients))
}

/// The access rules.
pub(super) fn settings(
    effective: &Effective,
    warnings: &mut Vec<String>,
) -> Result<Settings, ConfigError> {
    let configured = effective.settings();
    let http = &configured.http;
    let keys = keys(http.api_keys.expose(), warnings);
    let token = admin_key(http.admin_token.expose(), warnings);
    let unusable = |key: &str, why: String| {
        ConfigError::Unusable(format!("{}: {key}: {why}", effective.source(key)))
    };
    let open_routes = open_routes(&http.open_routes);
    let compat = compat(&http.compat);
    let origins = http.origins.to_vec();
    if let Some(origin) = origins.iter().find(|origin| !is_origin(origin)) {
        let why =
            format!("{origin:?} is not a valid origin, expected one such as https://panel.example");
        return Err(unusable(key!(http.origins), why));
    }
    let proxies = http.trusted_proxies.items();
    let proxies: Result<Vec<IpNet>, String> = proxies.map(network).collect();
    let mut keys = keys.map_err(|why| unusable(key!(http.api_keys), why))?;
    keys.extend(token.map_err(|why| unusable(key!(http.admin_token), why))?);
    Ok(Settings {
        keys,
        routes: RouteSettings {
            open_routes: open_routes.map_err(|why| unusable(key!(http.open_routes), why))?,
            compat: compat.map_err(|why| unusable(key!(http.compat), why))?,
            metrics_are_json: false,
        },
        origins,
        hosts: http.hosts.to_vec(),
        trusted_proxies: proxies.map_err(|why| unusable(key!(http.trusted_proxies), why))?,
        body_bytes: http.body_bytes,
        rate: http.rate,
        burst: http.burst,
        device_requests_per_minute: configured.iotflow.requests_per_minute,
        device_requests_burst: configured.iotflow.requests_burst,
        online_secs: configured.presence.timeout_secs,
        iotflow: iotflow(effective)?,
        topic_memory: super::kept::topic_memory(effective)?,
        default_connection: configured.integrations.default_connection.clone(),
        log_file: Some(&configured.log.file)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
    })
}

/// The base of IoTFlow's topics.
pub(crate) fn iotflow_base(effective: &Effective) -> Result<IotflowBase, ConfigError> {
    let base = &effective.settings().iotflow.base;
    IotflowBase::parse(base).ok_or_else(|| {
        ConfigError::Unusable(format!(
            "{}: iotflow.base: {base:?} cannot begin topics: expected levels such as iotflow or \
             plant/iotflow, without + # % {{ and not $ first",
            effective.source(key!(iotflow.base))
        ))
    })
}

/// The catalogue of IoTFlow's topics.
fn iotflow(effective: &Effective) -> Result<Arc<Catalogue>, ConfigError> {
    let unusable = |key: &str, why: String| {
        ConfigError::Unusable(format!("{}: {key}: {why}", effective.source(key)))
    };
    let base = iotflow_base(effective)?;
    let catalogue = Catalogue::new(base.as_str(), &effective.settings().iotflow.topics);
    catalogue
        .map(Arc::new)
        .map_err(|why| unusable(key!(iotflow.topics), why))
}

/// The systems whose compatible routes are served.
fn compat(text: &str) -> Result<Vec<CompatApi>, String> {
    let mut all = Vec::new();
    for number in text.split(',').map(str::trim) {
        match CompatApi::of_number(number) {
            _ if text == "off" => {}
            Some(api) if !all.contains(&api) => all.push(api),
            Some(_) => return Err(format!("{number} occurs twice in {text:?}")),
            None => {
                return Err(format!(
                    "{number:?} is not known: expected 1, 2, 3, 4 or off"
                ));
            }
        }
    }
    Ok(all)
}

/// Routes that need no credentials.
fn open_routes(text: &str) -> Result<Vec<String>, String> {
    let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    let all: Vec<String> = all.map(str::to_owned).collect();
    match all.iter().find(|route| !is_route(route)) {
        Some(route) => Err(format!(
            "{route:?} is not a valid route, expected one such as POST /devices"
        )),
        None => Ok(all),
    }
}

fn is_route(text: &str) -> bool {
    text.split_once(' ').is_some_and(|(method, path)| {
        matches!(method, "GET" | "POST" | "PUT" | "PATCH" | "DELETE") && path.starts_with('/')
    })
}

fn is_origin(text: &str) -> bool {
    let place = text
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
    let is_bare = |(_, place): (&str, &str)| {
        !place.is_empty()
            && !place
                .trim_end_matches('/')
                .contains(['/', '?', '#', '@', ' '])
    };
    text == "*" || place.is_some_and(is_bare)
}

/// Name of the key made from `http.admin_token`.
const ADMIN_KEY: &str = "iotflow-admin";

/// The administrator's token as a key; `None` if there is no token.
fn admin_key(token: &str, warnings: &mut Vec<String>) -> Result<Option<ApiKey>, String> {
    if token.is_empty() {
        return Ok(None);
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token must be of visible ASCII characters".to_owned());
    }
    if token.len() < KEY_BYTES_MIN {
        warnings.push(format!(
            "the admin token (http.admin_token, IOTFLOW_ADMIN_TOKEN) has fewer than \
             {KEY_BYTES_MIN} characters and could be guessed: `openssl rand -hex 32` makes a \
             better one"
        ));
    }
    let key = ApiKey::new(ADMIN_KEY.to_owned(), token, Scopes::all());
    Ok(Some(key))
}

/// Parses the keys. Errors contain no part of a key.
fn keys(text: &str, warnings: &mut Vec<String>) -> Result<Vec<ApiKey>, String> {
    let mut keys: Vec<ApiKey> = Vec::new();
    let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    for (at, one) in all.enumerate() {
        let number = at + 1;
        let (name, rest) = one
            .split_once(':')
            .ok_or_else(|| format!("key {number} has no name: expected NAME:KEY[:SCOPES]"))?;
        let (key, scopes) = match rest.split_once(':') {
            Some((key, scopes)) => (key, Scopes::parse(scopes)),
            None => (rest, Ok(Scopes::all())),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!(
                "the name of key {number} must be of letters, digits, -, _ and ."
            ));
        }
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the key of {name} must be of visible ASCII characters"
            ));
        }
        // If a key contains a colon, its end would be parsed as a scope, so it is not shown.
        let scopes = scopes.map_err(|_| {
            format!(
                "the text after the key of {name} is not a list of scopes, such as \
                 clients:read+messages:write or viewer; a key contains no colon"
            )
        })?;
        if keys.iter().any(|known| known.name() == name) {
            return Err(format!("two keys have the name {name}"));
        }
        if key.len() < KEY_BYTES_MIN {
            warnings.push(format!(
                "the API key {name} has fewer than {KEY_BYTES_MIN} characters and could be guessed: \
                 `openssl rand -hex 32` makes a better one"
            ));
        }
        keys.push(ApiKey::new(name.to_owned(), key, scopes));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_name_and_what_it_permits() {
        let mut warnings = Vec::new();
        let text = "one:0123456789abcdef, two:short:viewer,three:0123456789abcdef:devices:write";
        let found = keys(text, &mut warnings).unwrap();
        let names: Vec<&str> = found.iter().map(ApiKey::name).collect();
        assert_eq!(names, ["one", "two", "three"]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(keys("", &mut warnings).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_without_it() {
        for text in [
            "s3cretkey",
            "one:s3:cretkey",
            "a b:s3cretkey",
            "one:s3 cretkey",
            "one:",
        ] {
            let error = keys(text, &mut Vec::new()).unwrap_err();
            assert!(
                !error.contains("s3") && !error.contains("cretkey"),
                "{error}"
            );
        }
        assert!(keys("a:x,a:y", &mut Vec::new()).is_err());
    }

    #[test]
    fn an_admin_token_is_a_key_and_a_short_one_is_warned_of() {
        let mut warnings = Vec::new();
        let key = admin_key("0123456789abcdef:x", &mut warnings).unwrap();
        assert_eq!(
            key.map(|key| key.name().to_owned()).as_deref(),
            Some(ADMIN_KEY)
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(admin_key("short", &mut warnings).unwrap().is_some());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(!warnings[0].contains("short"), "{warnings:?}");
        assert!(admin_key("", &mut warnings).unwrap().is_none());
        assert!(admin_key("a b", &mut warnings).is_err());
    }

    #[test]
    fn origins_are_those_of_browsers() {
        for good in ["*", "https://panel.example", "http://localhost:3000"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "panel.example",
            "https://",
            "https://a/b",
            "ftp://a",
            "https://u@a",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
