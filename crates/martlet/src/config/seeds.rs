//! Variables of other programs that a node understands as those did: one that is set up by them
//! starts as it is. The names of Martlet's own keys are stronger.

use std::net::IpAddr;

use crate::config::load::{
    ConfigError, Effective, EnvironmentFile, SinkTable, Sourced, environment_name, place_of,
};
use crate::config::schema::{Value, key, keys};

mod connections;
mod http;
mod ignored;
mod listeners;
mod nats;
mod webhook;

pub(crate) use connections::ENDS as ENDS_OF_CONNECTIONS;
pub(crate) use http::{add_http_listeners, with_host};
pub(crate) use nats::add_nats;

/// Port of the panel's server of events.
const REVERB_PORT: u16 = 8080;

/// Each name, and what it means here.
pub(crate) const NAMES: &[(&str, &str)] = &[
    (
        "MQTT_BROKER_ENABLED",
        "`false`: `mqtt.enabled = false`, unless Martlet's own names say where it listens.",
    ),
    (
        "MQTT_BROKER_HOST",
        "Address to listen on; 127.0.0.1 if it is not given.",
    ),
    (
        "MQTT_BROKER_PORT",
        "Port of MQTT without TLS; 1883 if it is not given.",
    ),
    (
        "MQTT_HOST",
        "The same as MQTT_BROKER_HOST, where that is not given.",
    ),
    (
        "MQTT_PORT",
        "The same as MQTT_BROKER_PORT, where that is not given.",
    ),
    (
        "MQTT_WEBSOCKET_PORT",
        "Port of a WebSocket listener, `/mqtt`, without TLS.",
    ),
    (
        "MQTT_BROKER_TLS_ENABLED",
        "`true`: TLS at MQTT_BROKER_PORT + 1 and at 8883. The port without TLS stays open, with a \
         warning.",
    ),
    ("MQTT_BROKER_TLS_CERT_FILE", "`tls.certificate`"),
    ("MQTT_BROKER_TLS_KEY_FILE", "`tls.key`"),
    ("MQTT_BROKER_LOGGING_ENABLED", "`log.connections`"),
    (
        "MQTT_USE_TLS",
        "`true`: TLS at MQTT_TLS_PORT. The port without TLS stays open, with a warning, unless it \
         is the same. Beside MQTT_CA_CERTS or MQTT_TLS_INSECURE and without a certificate it is a \
         setting of clients, which the node ignores, with MQTT_BROKER_PORT if that is the port of \
         TLS.",
    ),
    ("MQTT_TLS_PORT", "8883 if it is not given."),
    ("MQTT_CA_CERTS", "See MQTT_USE_TLS."),
    ("MQTT_TLS_INSECURE", "See MQTT_USE_TLS."),
    (
        "MQTT_CERT_FILE_PATH",
        "With MQTT_USE_TLS: `tls.certificate`",
    ),
    ("MQTT_KEY_FILE_PATH", "With MQTT_USE_TLS: `tls.key`"),
    (
        "MQTT_BROKER_AUTH_ENABLED",
        "`true`: `auth.enabled = \"on\"`. `false`: `\"off\"`, and `mqtt.allow_anonymous = true`.",
    ),
    (
        "MQTT_BROKER_ALLOW_ANONYMOUS",
        "`mqtt.allow_anonymous`, where MQTT_BROKER_AUTH_ENABLED is not `false`.",
    ),
    ("MQTT_BROKER_CREDENTIALS", "`auth.credentials`"),
    (
        "DATABASE_URL",
        "`registry.url`, if it begins with postgres:// or sqlite: and the database is for Martlet: \
         [the database](database.md).",
    ),
    ("DATABASE_DSN", "The same, where DATABASE_URL is not given."),
    ("MAX_DEVICES_PER_USER", "`registry.max_devices_per_user`"),
    ("API_KEY_ENABLED", "`true`: the keys of API_KEYS are good."),
    (
        "API_KEYS",
        "With API_KEY_ENABLED: comma-separated keys of `http.api_keys`, each of which permits \
         everything; their names are api-key-1, api-key-2, …",
    ),
    (
        "IOTFLOW_ADMIN_TOKEN",
        "`http.admin_token`: an API key that permits everything, also shown as \
         `Authorization: admin TOKEN`.",
    ),
    (
        "REVERB_APP_KEY",
        "With REVERB_SERVER_HOST, REVERB_SERVER_PORT or REVERB_HOST: `events.push_url`, so that \
         events are pushed there.",
    ),
    (
        "REVERB_SERVER_HOST",
        "The host of that URL, where the panel's server listens; 0.0.0.0 is this machine.",
    ),
    (
        "REVERB_SERVER_PORT",
        "Its port, without TLS; 8080 if it is not given.",
    ),
    (
        "REVERB_HOST",
        "The host of that URL, where no REVERB_SERVER name is given: where browsers find the server.",
    ),
    ("REVERB_PORT", "Its port; 443 if it is not given."),
    (
        "REVERB_SCHEME",
        "`http` is `ws://`; `https`, and if it is not given, `wss://`.",
    ),
    (
        "HTTP_SERVER_PORT",
        "A further HTTP listener on all interfaces, with system 1 first (`http.compat`) and \
         `/metrics` as JSON. A port, :PORT or HOST:PORT.",
    ),
    ("PORT", "A further HTTP listener with system 3 first."),
    (
        "HOST",
        "The host of that listener; all interfaces if it is not given.",
    ),
    (
        "LISTEN_ADDR",
        "A further HTTP listener with system 4 first: HOST:PORT, or :PORT for all interfaces.",
    ),
    ("ALLOWED_ORIGINS", "`http.origins`"),
    (
        "LOG_LEVEL",
        "`log.level`; `warning` is `warn`, `critical` is `error`.",
    ),
    ("LOG_FORMAT", "`log.format`."),
    ("LOG_FILE", "`log.file`; its directory is made."),
    (
        "RATE_LIMIT_PER_MINUTE",
        "`http.rate`, a sixtieth of it, at least 1; without `RATE_LIMIT_BURST` also `http.burst`.",
    ),
    ("RATE_LIMIT_BURST", "`http.burst`."),
    (
        "MQTT_DEFAULT_CONNECTION",
        "`integrations.default_connection`, in lower case: the connection of requests that name no broker. `internal`, and if it is not given: the node itself.",
    ),
    (
        "MQTT_TLS_ENABLED",
        "`true`: TLS in all connections of MQTT_<NAME>_HOST.",
    ),
    (
        "MQTT_TLS_VERIFY_PEER",
        "`true`: the certificates of their brokers are checked. If it is not given they are not, with a warning.",
    ),
    (
        "MQTT_TLS_CA_FILE",
        "PEM file of the authorities of these certificates; those that the system trusts if it is not given.",
    ),
    (
        "MQTT_AUTH_USERNAME",
        "User name of all these connections. Needs MQTT_AUTH_PASSWORD.",
    ),
    (
        "MQTT_AUTH_PASSWORD",
        "Their password. `${secret:NAME}` refers to a secret of the node.",
    ),
    (
        "WEBHOOK_ENABLED",
        "`true`: the webhook `webhook/microservice` gets every message, QoS 0 too, in the form of the \
         microservice, see [webhooks](webhooks.md#formats). Needs no \
         `integrations.allow_private` for loopback and private addresses, which the start reports.",
    ),
    ("WEBHOOK_URL", "Where its requests go."),
    (
        "WEBHOOK_METHOD",
        "Their method: POST, PUT or PATCH; POST if it is not given.",
    ),
    (
        "WEBHOOK_TIMEOUT",
        "Time limit of a request, seconds; 10 if it is not given.",
    ),
    (
        "WEBHOOK_RETRY_COUNT",
        "Attempts of a message after the first one, while the receiver fails at it; 3 if it is not \
         given. Then the message is a dead letter. A receiver that cannot be reached is waited for.",
    ),
    (
        "WEBHOOK_RETRY_DELAY",
        "Longest pause between attempts, seconds; 5 if it is not given.",
    ),
    (
        "NATS_URL",
        "The sink `nats/service-mqtt` forwards every message of all tenants, QoS 0 too, to \
         `raw.<username>` there, see [NATS](nats.md). Needs no \
         `integrations.allow_private` for loopback and private addresses, which the start reports.",
    ),
    (
        "ENABLE_JETSTREAM",
        "`jetstream` of that sink; true if it is not given. `true` without NATS_URL: \
         nats://localhost:4222.",
    ),
    (
        "PUBLISH_TIMEOUT_SEC",
        "`timeout_secs` of that sink; 5 if it is not given.",
    ),
];

/// What a name that a node reads means.
fn meaning(name: &str) -> Option<&'static str> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    let found = found.map(|(_, what)| *what);
    found.or_else(|| connections::meaning(name))
}

/// Variables of the environment.
#[derive(Debug)]
pub(crate) struct Variables<'a> {
    all: &'a [(String, String)],
    /// The `.env` that some of them come from.
    file: Option<&'a EnvironmentFile>,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(all: &'a [(String, String)], file: Option<&'a EnvironmentFile>) -> Self {
        Self { all, file }
    }

    /// Where the value of a variable comes from.
    fn place(&self, name: &str) -> String {
        place_of(self.file, name)
    }

    fn unusable(&self, name: &str, why: &str) -> ConfigError {
        ConfigError::Unusable(format!("{} {why}", self.place(name)))
    }

    /// Whether the text of a variable is a word for true.
    fn truth(&self, name: &str, text: &str) -> Result<bool, ConfigError> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            other => {
                let why = format!("is {other:?}, expected true or false");
                Err(self.unusable(name, &why))
            }
        }
    }

    /// Without spaces around it; none: it is empty, or not meant for the node.
    ///
    /// A name that many programs have is meant if `.env` sets it, or if a name stands beside it
    /// that only one of these systems has.
    fn get(&self, name: &str) -> Option<&'a str> {
        let is_meant = !GENERIC.contains(&name)
            || self.file.is_some_and(|file| file.sets(name))
            || self.has_unique();
        self.value(name).filter(|_| is_meant)
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        let found = self.all.iter().find(|(known, _)| known == name);
        let value = found.map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// Whether there is a name that only one of these systems has.
    fn has_unique(&self) -> bool {
        let has = |name: &str| self.value(name).is_some();
        UNIQUE.iter().any(|name| has(name)) || (has("NATS_URL") && has("LISTEN_ADDR"))
    }

    /// What becomes of each variable that a node might read.
    pub(crate) fn report(&self) -> Vec<(&'a str, Use)> {
        let own: Vec<String> = keys()
            .iter()
            .map(|key| environment_name(&key.path))
            .collect();
        let mut all: Vec<(&str, Use)> = Vec::new();
        for (name, value) in self.all {
            let name = name.as_str();
            let is_own = own
                .iter()
                .any(|known| known == name.trim_end_matches("_FILE"))
                || own.iter().any(|known| known == name);
            let told = match meaning(name) {
                _ if is_own => Use::Read("a key of the configuration"),
                Some(_) if value.trim().is_empty() => Use::Ignored("it is empty"),
                Some(what) if self.get(name).is_some() => Use::Read(what),
                Some(_) => Use::Ignored(NOT_MEANT),
                None => match ignored::reason(name) {
                    Some(why) => Use::Ignored(why),
                    None if self.is_about_node(name) => Use::Unknown,
                    None => continue,
                },
            };
            all.push((name, told));
        }
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// Whether a name that nobody knows was meant for the node.
    fn is_about_node(&self, name: &str) -> bool {
        name.starts_with("MARTLET_")
            || name.starts_with("MQTT_")
            || self.file.is_some_and(|file| file.sets(name))
    }
}

/// What becomes of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is read, and means this.
    Read(&'static str),
    /// It has no effect, for this reason.
    Ignored(&'static str),
    /// No such name is known.
    Unknown,
}

/// Why a name of [`GENERIC`] does not count.
const NOT_MEANT: &str = "many programs have this name: it counts in .env, or beside a name that \
                         only one of these systems has";

/// Names that many programs have.
const GENERIC: &[&str] = &[
    "HOST",
    "PORT",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "LOG_FILE",
    "ALLOWED_ORIGINS",
    "RATE_LIMIT_PER_MINUTE",
    "RATE_LIMIT_BURST",
    "NATS_URL",
    "PUBLISH_TIMEOUT_SEC",
    "WEBHOOK_ENABLED",
    "WEBHOOK_URL",
    "WEBHOOK_METHOD",
    "WEBHOOK_TIMEOUT",
    "WEBHOOK_RETRY_COUNT",
    "WEBHOOK_RETRY_DELAY",
];

/// Names that only one of these systems has.
const UNIQUE: &[&str] = &[
    "MQTT_BROKER_CREDENTIALS",
    "MQTT_BROKER_AUTH_ENABLED",
    "MQTT_DEFAULT_CONNECTION",
    "HTTP_SERVER_PORT",
    "IOTFLOW_ADMIN_TOKEN",
    "IOTDB_HOST",
    "ENABLE_JETSTREAM",
];

/// Reads them. Listeners that they ask for are used where nothing else names any; `is_told` says
/// that the command line does.
pub(crate) fn read(
    variables: &Variables<'_>,
    effective: &mut Effective,
    is_told: bool,
) -> Result<(), ConfigError> {
    let mut names = SettingNames {
        variables,
        effective,
    };
    names.enabled(is_told)?;
    names.authentication()?;
    names.registry()?;
    names.api_keys()?;
    names.admin_token()?;
    names.reverb()?;
    names.log()?;
    names.http()?;
    names.webhook()?;
    names.connections()?;
    names.tell_of_unused();
    names.listeners()
}

struct SettingNames<'a> {
    variables: &'a Variables<'a>,
    effective: &'a mut Effective,
}

impl SettingNames<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(
            name.starts_with("MARTLET_") || NAMES.iter().any(|(known, _)| *known == name),
            "{name} is not in the reference"
        );
        self.variables.get(name)
    }

    /// Warns of addresses of other systems that are not used: nobody would miss the messages.
    fn tell_of_unused(&mut self) {
        for name in ["NATS_URL", "WEBHOOK_URL"] {
            if self.variables.value(name).is_some() && self.get(name).is_none() {
                let place = self.place(name);
                self.warn(format!(
                    "{place} is not used: {NOT_MEANT}; martlet config env lists what is read"
                ));
            }
        }
    }

    fn place(&self, name: &str) -> String {
        self.variables.place(name)
    }

    fn unusable(&self, name: &str, why: &str) -> ConfigError {
        self.variables.unusable(name, why)
    }

    fn warn(&mut self, warning: String) {
        self.effective.warnings.push(warning);
    }

    /// Whether the configuration has a sink of this kind and name.
    fn has_sink_of(&self, kind: &str, of: &str) -> bool {
        let mut sinks = self.effective.sinks.iter();
        sinks.any(|sink| {
            let name = sink.keys.get("name").map(|name| &name.value);
            sink.kind == kind && matches!(name, Some(Value::Text(name)) if name == of)
        })
    }

    /// Adds an integration of this kind with these keys, which variables name. It may connect to
    /// private addresses; `what` says so in the notes of the start.
    fn add_sink(
        &mut self,
        kind: &str,
        source: &str,
        what: &str,
        keys: impl IntoIterator<Item = (&'static str, Value)>,
    ) {
        self.effective.notes.push(format!("{source}: {what}"));
        let keys = keys.into_iter().map(|(key, value)| {
            let source = source.to_owned();
            (key.to_owned(), Sourced { value, source })
        });
        self.effective.sinks.push(SinkTable {
            kind: kind.to_owned(),
            place: source.to_owned(),
            may_be_private: true,
            keys: keys.collect(),
        });
    }

    fn switch(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.get(name)
            .map(|text| self.variables.truth(name, text))
            .transpose()
    }

    fn port(&self, name: &str) -> Result<Option<u16>, ConfigError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let port = text.parse().ok().filter(|port| *port > 0);
        port.map(Some).ok_or_else(|| {
            self.unusable(
                name,
                &format!("is {text:?}, expected a port from 1 to 65535"),
            )
        })
    }

    fn set(&mut self, key: &str, value: Value, name: &str) -> Result<(), ConfigError> {
        let source = self.place(name);
        self.effective.set(key, Sourced { value, source })
    }

    /// A node without its broker has no MQTT listeners; what is served by HTTP goes on.
    fn enabled(&mut self, is_told: bool) -> Result<(), ConfigError> {
        let name = "MQTT_BROKER_ENABLED";
        if self.switch(name)? != Some(false) {
            return Ok(());
        }
        if is_told || !self.effective.listeners.is_empty() {
            let place = self.place(name);
            self.warn(format!("{place}: not used, listeners are configured"));
            return Ok(());
        }
        self.set(key!(mqtt.enabled), Value::Boolean(false), name)
    }

    fn authentication(&mut self) -> Result<(), ConfigError> {
        let name = "MQTT_BROKER_AUTH_ENABLED";
        if let Some(enabled) = self.switch(name)? {
            let word = if enabled { "on" } else { "off" };
            self.set(key!(auth.enabled), Value::Text(word.to_owned()), name)?;
            if !enabled {
                // Said in words: everybody is let in.
                self.set(key!(mqtt.allow_anonymous), Value::Boolean(true), name)?;
            }
        }
        let name = "MQTT_BROKER_ALLOW_ANONYMOUS";
        if let Some(allow) = self.switch(name)?
            && self.switch("MQTT_BROKER_AUTH_ENABLED")? != Some(false)
        {
            self.set(key!(mqtt.allow_anonymous), Value::Boolean(allow), name)?;
        }
        let name = "MQTT_BROKER_CREDENTIALS";
        if let Some(users) = self.get(name) {
            let users = Value::Secret(users.to_owned().into());
            self.set(key!(auth.credentials), users, name)?;
        }
        Ok(())
    }

    /// Where the tables are: `database`.
    fn registry(&mut self) -> Result<(), ConfigError> {
        let name = "MAX_DEVICES_PER_USER";
        if let Some(text) = self.get(name) {
            let most = text
                .parse::<u64>()
                .ok()
                .filter(|most| *most <= 1_000_000_000);
            let most = most.ok_or_else(|| {
                self.unusable(name, &format!("is {text:?}, expected a number of devices"))
            })?;
            let key = key!(registry.max_devices_per_user);
            self.set(key, Value::Integer(most), name)?;
        }
        Ok(())
    }

    fn admin_token(&mut self) -> Result<(), ConfigError> {
        let name = "IOTFLOW_ADMIN_TOKEN";
        if let Some(token) = self.get(name) {
            let token = Value::Secret(token.to_owned().into());
            self.set(key!(http.admin_token), token, name)?;
        }
        Ok(())
    }

    fn api_keys(&mut self) -> Result<(), ConfigError> {
        let name = "API_KEYS";
        let keys = self.get(name).map(str::to_owned);
        if self.switch("API_KEY_ENABLED")? != Some(true) {
            if keys.is_some() {
                let place = self.place(name);
                self.warn(format!("{place}: not used, API_KEY_ENABLED is not true"));
            }
            return Ok(());
        }
        let keys = keys.unwrap_or_default();
        let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
        let mut named = Vec::new();
        for (at, key) in keys.enumerate() {
            if key.contains(':') {
                let why = format!("key {} has a colon in it, which no key here has", at + 1);
                return Err(self.unusable(name, &why));
            }
            named.push(format!("api-key-{}:{key}", at + 1));
        }
        if named.is_empty() {
            let why = "is true, and API_KEYS has none: nobody could use the API";
            return Err(self.unusable("API_KEY_ENABLED", why));
        }
        let value = Value::Secret(named.join(",").into());
        self.set(key!(http.api_keys), value, name)
    }

    /// Where the panel's own server listens is where events are pushed to; the other names are the
    /// way of browsers to it.
    fn reverb(&mut self) -> Result<(), ConfigError> {
        let Some(key) = self.get("REVERB_APP_KEY") else {
            return Ok(());
        };
        let server = ["REVERB_SERVER_HOST", "REVERB_SERVER_PORT"];
        if let Some(name) = server.into_iter().find(|name| self.get(name).is_some()) {
            // An address to bind to is every address of this machine.
            let host = self.get("REVERB_SERVER_HOST").unwrap_or("0.0.0.0");
            let is_everywhere = host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
            let host = if is_everywhere { "127.0.0.1" } else { host };
            let port = self.port("REVERB_SERVER_PORT")?.unwrap_or(REVERB_PORT);
            let url = format!("ws://{}/app/{key}", authority(host, port));
            return self.set(key!(events.push_url), Value::Text(url), name);
        }
        let Some(host) = self.get("REVERB_HOST") else {
            return Ok(());
        };
        let scheme = match self.get("REVERB_SCHEME") {
            Some("http") => "ws",
            None | Some("https") => "wss",
            Some(other) => {
                let why = format!("is {other:?}, expected http or https");
                return Err(self.unusable("REVERB_SCHEME", &why));
            }
        };
        let port = self.port("REVERB_PORT")?.unwrap_or(443);
        let url = format!("{scheme}://{}/app/{key}", authority(host, port));
        self.set(key!(events.push_url), Value::Text(url), "REVERB_HOST")
    }

    fn has_own(&self, key: &str) -> bool {
        self.get(&environment_name(key)).is_some()
    }
}

fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}
