//! Variables of other programs that a node understands as those did: one that is set up by them
//! starts as it is. The names of Martlet's own keys are stronger.

use std::net::IpAddr;

use crate::config::load::{ConfigError, Effective, ListenerTable, Sourced};
use crate::config::schema::Value;

const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// Each name, and what it means here.
pub(crate) const NAMES: &[(&str, &str)] = &[
    (
        "MQTT_BROKER_ENABLED",
        "`false`: no node starts, unless Martlet's own names say where it listens.",
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
    (
        "MQTT_USE_TLS",
        "`true`: TLS at MQTT_TLS_PORT. The port without TLS stays open, with a warning.",
    ),
    ("MQTT_TLS_PORT", "8883 if it is not given."),
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
        "REVERB_APP_KEY",
        "With REVERB_HOST: `events.push_url`, so that events are pushed there.",
    ),
    ("REVERB_HOST", "The host of that URL."),
    ("REVERB_PORT", "Its port; 443 if it is not given."),
    (
        "REVERB_SCHEME",
        "`http` is `ws://`; `https`, and if it is not given, `wss://`.",
    ),
];

/// Reads them. Listeners that they ask for are used where nothing else names any; `is_told` says
/// that the command line does.
pub(crate) fn read(
    environment: &[(String, String)],
    effective: &mut Effective,
    is_told: bool,
) -> Result<(), ConfigError> {
    let mut names = Names {
        environment,
        effective,
    };
    names.enabled(is_told)?;
    names.authentication()?;
    names.registry()?;
    names.api_keys()?;
    names.reverb()?;
    names.listeners()
}

struct Names<'a> {
    environment: &'a [(String, String)],
    effective: &'a mut Effective,
}

impl Names<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(
            name.starts_with("MARTLET_") || NAMES.iter().any(|(known, _)| *known == name),
            "{name} is not in the reference"
        );
        let found = self.environment.iter().find(|(known, _)| known == name);
        let value = found.map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    fn switch(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "yes" | "on") => Ok(Some(true)),
            Some("false" | "0" | "no" | "off") => Ok(Some(false)),
            Some(other) => Err(unusable(
                name,
                &format!("is {other:?}, expected true or false"),
            )),
        }
    }

    fn port(&self, name: &str) -> Result<Option<u16>, ConfigError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let port = text.parse().ok().filter(|port| *port > 0);
        port.map(Some).ok_or_else(|| {
            unusable(
                name,
                &format!("is {text:?}, expected a port from 1 to 65535"),
            )
        })
    }

    fn set(&mut self, key: &str, value: Value, name: &str) {
        let source = format!("environment {name}");
        let sourced = Sourced { value, source };
        self.effective.values.insert(key.to_owned(), sourced);
    }

    /// If the broker is switched off, no port is opened, least of all the default ones.
    fn enabled(&mut self, is_told: bool) -> Result<(), ConfigError> {
        let name = "MQTT_BROKER_ENABLED";
        if self.switch(name)? != Some(false) {
            return Ok(());
        }
        if is_told || !self.effective.listeners.is_empty() {
            let warning = format!("environment {name}: not used, listeners are configured");
            self.effective.warnings.push(warning);
            return Ok(());
        }
        Err(unusable(
            name,
            "is false, and a node is nothing without its broker: take it out or set it to true, or \
             do not start the node",
        ))
    }

    fn authentication(&mut self) -> Result<(), ConfigError> {
        let name = "MQTT_BROKER_AUTH_ENABLED";
        if let Some(enabled) = self.switch(name)? {
            let word = if enabled { "on" } else { "off" };
            self.set("auth.enabled", Value::Text(word.to_owned()), name);
            if !enabled {
                // Said in words: everybody is let in.
                self.set("mqtt.allow_anonymous", Value::Boolean(true), name);
            }
        }
        let name = "MQTT_BROKER_ALLOW_ANONYMOUS";
        if let Some(allow) = self.switch(name)?
            && self.switch("MQTT_BROKER_AUTH_ENABLED")? != Some(false)
        {
            self.set("mqtt.allow_anonymous", Value::Boolean(allow), name);
        }
        let name = "MQTT_BROKER_CREDENTIALS";
        if let Some(users) = self.get(name) {
            let users = Value::Secret(users.to_owned().into());
            self.set("auth.credentials", users, name);
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
                unusable(name, &format!("is {text:?}, expected a number of devices"))
            })?;
            self.set("registry.max_devices_per_user", Value::Integer(most), name);
        }
        Ok(())
    }

    fn api_keys(&mut self) -> Result<(), ConfigError> {
        let name = "API_KEYS";
        let keys = self.get(name).map(str::to_owned);
        if self.switch("API_KEY_ENABLED")? != Some(true) {
            if keys.is_some() {
                let warning = "environment API_KEYS: not used, API_KEY_ENABLED is not true";
                self.effective.warnings.push(warning.to_owned());
            }
            return Ok(());
        }
        let keys = keys.unwrap_or_default();
        let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
        let mut named = Vec::new();
        for (at, key) in keys.enumerate() {
            if key.contains(':') {
                let why = format!("key {} has a colon in it, which no key here has", at + 1);
                return Err(unusable(name, &why));
            }
            named.push(format!("api-key-{}:{key}", at + 1));
        }
        if named.is_empty() {
            let why = "is true, and API_KEYS has none: nobody could use the API";
            return Err(unusable("API_KEY_ENABLED", why));
        }
        let value = Value::Secret(named.join(",").into());
        self.set("http.api_keys", value, name);
        Ok(())
    }

    fn reverb(&mut self) -> Result<(), ConfigError> {
        let (Some(key), Some(host)) = (self.get("REVERB_APP_KEY"), self.get("REVERB_HOST")) else {
            return Ok(());
        };
        let scheme = match self.get("REVERB_SCHEME") {
            Some("http") => "ws",
            None | Some("https") => "wss",
            Some(other) => {
                let why = format!("is {other:?}, expected http or https");
                return Err(unusable("REVERB_SCHEME", &why));
            }
        };
        let port = self.port("REVERB_PORT")?.unwrap_or(443);
        let url = format!("{scheme}://{}/app/{key}", authority(host, port));
        self.set("events.push_url", Value::Text(url), "REVERB_HOST");
        Ok(())
    }

    fn listeners(&mut self) -> Result<(), ConfigError> {
        let is_secure = self.switch("MQTT_BROKER_TLS_ENABLED")? == Some(true);
        let use_tls = self.switch("MQTT_USE_TLS")? == Some(true);
        let names = [
            "MQTT_BROKER_HOST",
            "MQTT_BROKER_PORT",
            "MQTT_WEBSOCKET_PORT",
        ];
        let named = names.iter().find(|name| self.get(name).is_some());
        let tls = [
            (is_secure, "MQTT_BROKER_TLS_ENABLED"),
            (use_tls, "MQTT_USE_TLS"),
        ];
        let switched = tls.iter().find(|(is_on, _)| *is_on).map(|(_, name)| name);
        let Some(name) = named.or(switched) else {
            return Ok(());
        };
        if !self.effective.listeners.is_empty() {
            let warning = format!("environment {name}: not used, [[listeners]] are configured");
            self.effective.warnings.push(warning);
            return Ok(());
        }
        let host = self
            .get("MQTT_BROKER_HOST")
            .unwrap_or("127.0.0.1")
            .to_owned();
        let port = self.port("MQTT_BROKER_PORT")?.unwrap_or(MQTT_PORT);
        let mut urls = vec![(format!("mqtt://{}", authority(&host, port)), *name)];
        if let Some(web) = self.port("MQTT_WEBSOCKET_PORT")? {
            let url = format!("ws://{}/mqtt", authority(&host, web));
            urls.push((url, "MQTT_WEBSOCKET_PORT"));
        }
        if let Some((_, name)) = tls.iter().find(|(is_on, _)| *is_on) {
            let warning = format!(
                "environment {name}: {host}:{port} stays open without TLS, as this name has it, and \
                 passwords can be read on their way there; for TLS alone name listeners: --listen \
                 mqtts://HOST:8883, or [[listeners]]"
            );
            self.effective.warnings.push(warning);
        }
        if is_secure {
            let files = ("MQTT_BROKER_TLS_CERT_FILE", "MQTT_BROKER_TLS_KEY_FILE");
            self.tls_files("MQTT_BROKER_TLS_ENABLED", files)?;
            for port in [port.checked_add(1).unwrap_or(MQTTS_PORT), MQTTS_PORT] {
                let url = format!("mqtts://{}", authority(&host, port));
                if !urls.iter().any(|(known, _)| *known == url) {
                    urls.push((url, "MQTT_BROKER_TLS_ENABLED"));
                }
            }
        }
        if use_tls {
            if !is_secure {
                let files = ("MQTT_CERT_FILE_PATH", "MQTT_KEY_FILE_PATH");
                self.tls_files("MQTT_USE_TLS", files)?;
            }
            let port = self.port("MQTT_TLS_PORT")?.unwrap_or(MQTTS_PORT);
            let url = format!("mqtts://{}", authority(&host, port));
            if !urls.iter().any(|(known, _)| *known == url) {
                urls.push((url, "MQTT_USE_TLS"));
            }
        }
        self.effective.listeners = urls.iter().map(|(url, name)| listener(url, name)).collect();
        Ok(())
    }

    /// TLS that is switched on needs its files.
    fn tls_files(&mut self, switch: &str, files: (&str, &str)) -> Result<(), ConfigError> {
        for (name, key) in [(files.0, "tls.certificate"), (files.1, "tls.key")] {
            match self.get(name).map(str::to_owned) {
                Some(file) => self.set(key, Value::Text(file), name),
                // Martlet's own name may say it.
                None if !self.effective.text(key).is_empty() || self.has_own(key) => {}
                None => {
                    let why = format!("is true, and {name} names no file");
                    return Err(unusable(switch, &why));
                }
            }
        }
        Ok(())
    }

    fn has_own(&self, key: &str) -> bool {
        self.get(&super::load::environment_name(key)).is_some()
    }
}

fn unusable(name: &str, why: &str) -> ConfigError {
    ConfigError::Unusable(format!("environment {name} {why}"))
}

fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

fn listener(url: &str, name: &str) -> ListenerTable {
    let url = Sourced {
        value: Value::Text(url.to_owned()),
        source: format!("environment {name}"),
    };
    ListenerTable::from([("url".to_owned(), url)])
}
