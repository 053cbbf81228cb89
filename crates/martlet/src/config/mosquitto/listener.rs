//! A listener in Mosquitto's configuration file.

use std::collections::BTreeMap;
use std::net::IpAddr;

use martlet_reactor::ANY_PATH;

use super::lines::Outcome;
use crate::config::error::ConfigError;
use crate::config::load::{Effective, ListenerTable, Sourced};
use martlet_settings::Value;

/// The lines about a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener {
    place: String,
    port: Option<u16>,
    /// Path of a Unix socket.
    path: Option<String>,
    host: Option<String>,
    /// Keywords with their values and places, as written.
    settings: BTreeMap<String, (String, String)>,
}

const MQTT_PORT: u16 = 1883;

const A_PORT: &str = "expected a port from 1 to 65535";
const LISTENER: &str = "expected listener PORT [ADDRESS], with a port from 1 to 65535";

/// Mosquitto has no list of trusted proxies, so all are trusted.
const ANY_PROXY: &str = "0.0.0.0/0, ::/0";

/// Lines that only state Mosquitto's defaults.
const DEFAULTS: &[(&str, &str)] = &[
    ("protocol", "mqtt"),
    ("max_connections", "-1"),
    ("max_qos", "2"),
    ("maximum_qos", "2"),
    ("require_certificate", "false"),
    ("use_identity_as_username", "false"),
    ("use_subject_as_username", "false"),
];

const ONE_CA: &str = "cafile and capath are one key here, client_ca: put all CAs into one of them";

impl Listener {
    /// Collects the lines before the first listener.
    pub(super) fn global() -> Self {
        Self::default()
    }

    /// Parses `listener PORT [ADDRESS]`.
    pub(super) fn begin(value: &str, place: &str) -> Result<Self, String> {
        let mut words = value.split_whitespace();
        let port = words.next().unwrap_or_default();
        let host = words.next().map(str::to_owned);
        if port == "0" {
            let path = host.filter(|path| path.starts_with('/'));
            let expected = "expected: listener 0 /ABSOLUTE/PATH, for a Unix socket";
            return Ok(Self {
                place: place.to_owned(),
                path: Some(path.ok_or(expected)?),
                ..Self::default()
            });
        }
        let number = port.parse().ok().filter(|port| *port > 0);
        let not_valid = || match port {
            "" => LISTENER.to_owned(),
            port => format!("{port:?} is not a port: {LISTENER}"),
        };
        Ok(Self {
            place: place.to_owned(),
            port: Some(number.ok_or_else(not_valid)?),
            host,
            ..Self::default()
        })
    }

    /// The default listeners. Without any listener line, Mosquitto listens on loopback and accepts
    /// anonymous clients there.
    pub(super) fn local(global: &Self) -> Vec<Self> {
        let on = |host: &str| Self {
            place: "mosquitto's default".to_owned(),
            port: Some(MQTT_PORT),
            host: Some(host.to_owned()),
            path: None,
            settings: global.settings.clone(),
        };
        vec![on("127.0.0.1"), on("::1")]
    }

    pub(super) fn has_address(&self) -> bool {
        self.path.is_some() || self.port.is_some() || self.host.is_some()
    }

    /// Places and keywords of lines about one listener that come before the first one and so have
    /// no effect, in the order of the file's keywords.
    pub(super) fn misplaced(&self, per_listener: bool) -> Vec<(&str, &str)> {
        let is_lost = |keyword: &str, value: &str| match keyword {
            "password_file" | "acl_file" => per_listener,
            // Without `per_listener_settings` they apply to all listeners; with it, these values
            // are the defaults of a listener.
            "allow_anonymous" => per_listener && value == "true",
            "allow_zero_length_clientid" => per_listener && value == "false",
            _ => !DEFAULTS.contains(&(keyword, value)),
        };
        let settings = self.settings.iter();
        let lost = settings.filter(|(keyword, (value, _))| is_lost(keyword, value));
        lost.map(|(keyword, (_, place))| (place.as_str(), keyword.as_str()))
            .collect()
    }

    /// Reads one of its lines.
    // Table: the keywords of a listener.
    pub(super) fn read(
        &mut self,
        keyword: &str,
        value: &str,
        place: &str,
    ) -> Result<(Outcome, String), ConfigError> {
        let error = |why: &str| ConfigError::Unusable(format!("{place}: {keyword}: {why}"));
        let switch = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(error("expected true or false")),
        };
        let mut outcome = Outcome::Mapped;
        let note = match keyword {
            "port" => {
                let port = value.parse().ok().filter(|port| *port > 0);
                self.port = Some(port.ok_or_else(|| error(A_PORT))?);
                self.place = place.to_owned();
                "a [[listeners]] table".to_owned()
            }
            "bind_address" => {
                self.host = Some(value.to_owned());
                self.place = place.to_owned();
                "in the listener's url".to_owned()
            }
            "protocol" => match value {
                "mqtt" | "websockets" => "in the listener's url".to_owned(),
                _ => return Err(error("expected mqtt or websockets")),
            },
            "socket_domain" => match value {
                "ipv4" | "ipv6" => "in the listener's url".to_owned(),
                _ => return Err(error("expected ipv4 or ipv6")),
            },
            "capath" if self.settings.contains_key("cafile") => return Err(error(ONE_CA)),
            "cafile" if self.settings.contains_key("capath") => return Err(error(ONE_CA)),
            "tls_version" => match value {
                "tlsv1.2" => "tls_version = \"1.2\": TLS 1.2 and 1.3 are supported".to_owned(),
                "tlsv1.3" => "tls_version = \"1.3\"".to_owned(),
                "tlsv1.1" | "tlsv1.0" | "tlsv1" => {
                    outcome = Outcome::Changed;
                    "TLS before 1.2 is insecure and not supported; 1.2 and 1.3 are".to_owned()
                }
                _ => return Err(error("expected tlsv1.3 or tlsv1.2")),
            },
            "max_connections" => {
                let places: i64 = value
                    .parse()
                    .map_err(|_| error("expected a whole number, -1 for no limit"))?;
                match places {
                    1.. => format!("max_connections = {places}"),
                    _ => "limits.connections is 1000000".to_owned(),
                }
            }
            "require_certificate" | "use_identity_as_username" | "use_subject_as_username" => {
                switch()?;
                "client_certificates and certificate_user_name".to_owned()
            }
            "allow_zero_length_clientid" => format!("allow_empty_client_id = {}", switch()?),
            "allow_anonymous" | "listener_allow_anonymous" => {
                format!("allow_anonymous = {}", switch()?)
            }
            "websockets_origin" => {
                if value.is_empty() || value.contains(',') {
                    return Err(error("expected one origin, such as https://panel.example"));
                }
                format!("one of origins: {value:?}")
            }
            "enable_proxy_protocol" => {
                if !["1", "2"].contains(&value) {
                    return Err(error("expected 1 or 2"));
                }
                outcome = Outcome::Changed;
                format!(
                    "proxy_from = {ANY_PROXY:?}: both versions are read, and every peer is \
                     trusted, as in Mosquitto; name the proxy's own address instead"
                )
            }
            "max_qos" | "maximum_qos" => {
                let qos: u8 = value.parse().map_err(|_| error("expected 0, 1 or 2"))?;
                if qos > 2 {
                    return Err(error("expected 0, 1 or 2"));
                }
                format!("max_qos = {qos}")
            }
            _ if value.is_empty() => return Err(error("expected a file")),
            "acl_file" => {
                outcome = Outcome::Changed;
                format!(
                    "acl_file = {value:?}: names of clients that are not authenticated are \
                     ignored, and names with / match no pattern"
                )
            }
            "certfile" => format!("certificate = {value:?}"),
            "keyfile" => format!("key = {value:?}"),
            "cafile" | "capath" => format!("client_ca = {value:?}"),
            "crlfile" => format!("client_crl = {value:?}"),
            _ => format!("{keyword} = {value:?}"),
        };
        let note = match DEFAULTS.contains(&(keyword, value)) {
            true => {
                outcome = Outcome::Default;
                format!("{note}: the default, the line changes nothing")
            }
            false => note,
        };
        let mut settings = (value.to_owned(), place.to_owned());
        if let Some((before, _)) = self
            .settings
            .get(keyword)
            .filter(|_| keyword == "websockets_origin")
        {
            settings.0 = format!("{before},{value}");
        }
        let keyword = match keyword {
            "maximum_qos" => "max_qos",
            _ => keyword,
        };
        self.settings.insert(keyword.to_owned(), settings);
        Ok((outcome, note))
    }

    /// Checks that certificate and key are both present or both missing.
    fn check_pair(&self) -> Result<(), ConfigError> {
        for (there, missing) in [("certfile", "keyfile"), ("keyfile", "certfile")] {
            if let Some((_, place)) = self.settings.get(there)
                && !self.settings.contains_key(missing)
            {
                let text = format!(
                    "{place}: {there}: the listener has no {missing}; TLS needs both: add \
                     `{missing} PATH` below this line"
                );
                return Err(ConfigError::Unusable(text));
            }
        }
        Ok(())
    }

    fn is(&self, keyword: &str) -> bool {
        self.settings
            .get(keyword)
            .is_some_and(|(value, _)| value == "true")
    }

    fn text(&self, keyword: &str) -> Option<&str> {
        self.settings.get(keyword).map(|(value, _)| value.as_str())
    }

    fn url(&self) -> String {
        if let Some(path) = &self.path {
            return format!("unix://{path}");
        }
        let is_secure =
            self.settings.contains_key("certfile") || self.settings.contains_key("keyfile");
        let is_web = self.text("protocol") == Some("websockets");
        let scheme = match (is_web, is_secure) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        let host = match (&self.host, self.text("socket_domain")) {
            (Some(host), _) => match host.parse::<IpAddr>() {
                Ok(IpAddr::V6(address)) => format!("[{address}]"),
                _ => host.clone(),
            },
            (None, Some("ipv4")) => "0.0.0.0".to_owned(),
            (None, _) => "[::]".to_owned(),
        };
        // Mosquitto accepts any path.
        let path = if is_web { ANY_PATH } else { "" };
        format!("{scheme}://{host}:{}{path}", self.port.unwrap_or(MQTT_PORT))
    }

    /// The listener as a table of our own file.
    // Table: the keys of a listener.
    pub(super) fn table(
        &self,
        global: &Self,
        per_listener: bool,
        is_local_only: bool,
    ) -> Result<ListenerTable, ConfigError> {
        let mut table = ListenerTable::default();
        let mut put = |key: &str, value: Value, place: &str| {
            let source = place.to_owned();
            table.set(key, Sourced { value, source })
        };
        put("url", Value::Text(self.url()), &self.place)?;
        let files = [
            ("certfile", "certificate"),
            ("keyfile", "key"),
            ("cafile", "client_ca"),
            ("capath", "client_ca"),
            ("crlfile", "client_crl"),
        ];
        let is_secure =
            self.settings.contains_key("certfile") || self.settings.contains_key("keyfile");
        self.check_pair()?;
        for (keyword, key) in files {
            if let Some((value, place)) = self.settings.get(keyword) {
                if !is_secure {
                    let text =
                        format!("{place}: {keyword}: the listener has no certfile and keyfile");
                    return Err(ConfigError::Unusable(text));
                }
                put(key, Value::Text(value.clone()), place)?;
            }
        }
        if let Some((_, place)) = self
            .settings
            .get("require_certificate")
            .filter(|_| !is_secure)
        {
            let text = format!(
                "{place}: require_certificate: the listener has no certfile and keyfile, so no \
                 client could present a certificate"
            );
            return Err(ConfigError::Unusable(text));
        }
        if is_secure {
            let requires = self.is("require_certificate");
            let word = if requires { "required" } else { "off" };
            let word = Value::Text(word.to_owned());
            put("client_certificates", word, &self.place)?;
            if requires {
                // As in Mosquitto.
                put("x509_version1", Value::Boolean(true), &self.place)?;
            }
            let field = match (
                self.is("use_identity_as_username"),
                self.is("use_subject_as_username"),
            ) {
                (true, _) => "common-name",
                (false, true) => "subject",
                (false, false) => "off",
            };
            if !requires && field != "off" {
                let keyword = match field {
                    "subject" => "use_subject_as_username",
                    _ => "use_identity_as_username",
                };
                let place = self.settings.get(keyword).map_or("", |(_, place)| place);
                let text = format!(
                    "{place}: {keyword}: without require_certificate true no client certificate is \
                     requested, so Mosquitto refuses all clients there; add it, or remove this line"
                );
                return Err(ConfigError::Unusable(text));
            }
            if field != "off" {
                let field = Value::Text(field.to_owned());
                put("certificate_user_name", field, &self.place)?;
                // If a listener has one of these keys, none of them is inherited.
                if !per_listener {
                    for key in ["password_file", "acl_file"] {
                        if let Some((value, place)) = global.settings.get(key) {
                            put(key, Value::Text(value.clone()), place)?;
                        }
                    }
                }
            }
        }
        if let Some((version, place)) = self.settings.get("tls_version").filter(|_| is_secure) {
            let version = if version == "tlsv1.3" { "1.3" } else { "1.2" };
            put("tls_version", Value::Text(version.to_owned()), place)?;
        }
        if self.text("protocol") == Some("websockets") {
            let (origins, place) = match self.settings.get("websockets_origin") {
                Some((origins, place)) => (origins.as_str(), place.as_str()),
                None => ("*", "mosquitto's default"),
            };
            put("origins", Value::Text(origins.to_owned()), place)?;
        }
        if let Some((_, place)) = self.settings.get("enable_proxy_protocol") {
            put("proxy_from", Value::Text(ANY_PROXY.to_owned()), place)?;
        }
        if let Some((places, place)) = self.settings.get("max_connections") {
            // -1 means no limit of its own.
            let places = places.parse().unwrap_or(0).min(u32::MAX.into());
            put("max_connections", Value::Integer(places), place)?;
        }
        if let Some((qos, place)) = self.settings.get("max_qos") {
            let qos = qos.parse().unwrap_or(2);
            put("max_qos", Value::Integer(qos), place)?;
        }
        let security = if per_listener { self } else { global };
        let own = self.settings.get("listener_allow_anonymous");
        let own = own.or_else(|| self.settings.get("allow_anonymous"));
        let anonymous = own.or_else(|| security.settings.get("allow_anonymous"));
        let (allowed, place) = match anonymous {
            Some((value, place)) => (value == "true", place.as_str()),
            None => (is_local_only, "mosquitto's default"),
        };
        put("allow_anonymous", Value::Boolean(allowed), place)?;
        if let Some((value, place)) = security.settings.get("allow_zero_length_clientid") {
            let allowed = Value::Boolean(value == "true");
            put("allow_empty_client_id", allowed, place)?;
        }
        if per_listener {
            for key in ["password_file", "acl_file"] {
                let (value, place) = match self.settings.get(key) {
                    Some((value, place)) => (value.clone(), place.as_str()),
                    // The listener has none and does not inherit the node's.
                    None => (String::new(), "mosquitto's default"),
                };
                put(key, Value::Text(value), place)?;
            }
        }
        Ok(table)
    }

    /// Sets values for all listeners, as in our own file.
    pub(super) fn put_security(&self, effective: &mut Effective) -> Result<(), ConfigError> {
        for (keyword, key) in [
            ("password_file", key!(auth.password_file)),
            ("acl_file", key!(auth.acl_file)),
        ] {
            if let Some((value, source)) = self.settings.get(keyword) {
                let sourced = Sourced {
                    value: Value::Text(value.clone()),
                    source: source.clone(),
                };
                effective.set(key, sourced)?;
            }
        }
        Ok(())
    }
}
