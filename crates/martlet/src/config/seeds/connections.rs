//! Named connections to other brokers from the microservice's variables: each becomes a bridge.

use std::collections::BTreeMap;

use super::names::NAMES;
use super::setting_names::{SettingNames, authority};
use crate::config::error::ConfigError;
use martlet_integrate::bridge;
use martlet_settings::Value;

/// Prefix of the variables of all connections.
const BEGIN: &str = "MQTT_";
/// Words after the prefix that are not names of connections.
const NO_NAMES: &[&str] = &["BROKER", "DEFAULT", "TLS", "AUTH"];
/// Ping interval of that program, in seconds.
const KEEP_ALIVE_SECS: u64 = 30;
/// Longest pause of that program between attempts to connect, in seconds.
const RECONNECT_MAX_SECS: u64 = 60;

/// Suffixes of a connection's variables, and their meaning here.
pub(crate) const ENDS: &[(&str, &str)] = &[
    (
        HOST,
        "Host of another broker: the named connection of POST /publish and POST /subscribe, in lower case. A bridge of this name.",
    ),
    (
        "_PORT",
        "Its port; 1883 if it is not given, 8883 with MQTT_TLS_ENABLED.",
    ),
    ("_CLIENT_ID", "Client Identifier there, `client_id`."),
    (
        "_CLEAN_SESSION",
        "`clean_session`; false if it is not given.",
    ),
    (
        "_PREFIX",
        "Prefix that is added to the topics of messages from that broker, `prefix`. Not a variable of the other program.",
    ),
];
const HOST: &str = "_HOST";

/// Suffixes of variables that have no effect here.
pub(super) const IGNORED_ENDS: &[(&str, &str)] = &[
    (
        "_ENABLE_LOGGING",
        "the node logs always when a connection is made or lost (log.level)",
    ),
    (
        "_LOG_CHANNEL",
        "channels of the log are those of a Laravel application",
    ),
];

/// The connection of a variable with this suffix; `None` if it belongs to no connection.
pub(super) fn name_of<'a>(variable: &'a str, end: &str) -> Option<&'a str> {
    // Variables for the program's own broker and for clients are in the reference.
    let is_known = NAMES.iter().any(|(known, _)| *known == variable);
    let name = variable.strip_prefix(BEGIN)?.strip_suffix(end)?;
    let is_name = !is_known && !name.is_empty() && !NO_NAMES.contains(&name);
    is_name.then_some(name)
}

/// The meaning of a connection's variable; `None` if it belongs to no connection.
pub(super) fn meaning(variable: &str) -> Option<&'static str> {
    let mut ends = ENDS.iter();
    let found = ends.find(|(end, _)| name_of(variable, end).is_some());
    found.map(|(_, what)| *what)
}

/// Why a connection's variable has no effect; `None` if it has one, or belongs to no connection.
pub(super) fn ignored(variable: &str) -> Option<&'static str> {
    let mut ends = IGNORED_ENDS.iter();
    let found = ends.find(|(end, _)| name_of(variable, end).is_some());
    found.map(|(_, why)| *why)
}

/// Values shared by all connections.
struct Common {
    is_secure: bool,
    verifies: bool,
    ca_file: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

impl SettingNames<'_> {
    /// Adds a bridge for each connection, and sets the default one.
    ///
    /// # Errors
    /// A value is invalid.
    pub(super) fn connections(&mut self) -> Result<(), ConfigError> {
        let hosts = self.variables.all.iter();
        let hosts = hosts.filter_map(|(variable, host)| {
            let name = name_of(variable, HOST)?;
            Some((name.to_owned(), host.trim().to_owned()))
        });
        let hosts: BTreeMap<String, String> = hosts.filter(|(_, host)| !host.is_empty()).collect();
        self.warn_of_others(&hosts);
        if hosts.is_empty() {
            return self.default_connection();
        }
        let common = Common {
            is_secure: self.switch("MQTT_TLS_ENABLED")?.unwrap_or(false),
            verifies: self.switch("MQTT_TLS_VERIFY_PEER")?.unwrap_or(false),
            ca_file: self.get("MQTT_TLS_CA_FILE").map(str::to_owned),
            user: self.get("MQTT_AUTH_USERNAME").map(str::to_owned),
            password: self.get("MQTT_AUTH_PASSWORD").map(str::to_owned),
        };
        for (name, host) in &hosts {
            self.connection(name, host, &common)?;
        }
        if common.user.is_some() != common.password.is_some() {
            self.warn(
                "environment MQTT_AUTH_USERNAME and MQTT_AUTH_PASSWORD need each other: neither is \
                 used"
                    .to_owned(),
            );
        }
        if common.is_secure && !common.verifies {
            let place = self.place("MQTT_TLS_VERIFY_PEER");
            self.warn(format!(
                "{place} is not true: the certificates of other brokers are not checked, so an \
                 attacker on the network path can read and change messages"
            ));
        }
        self.default_connection()
    }

    /// Warns about variables of a connection without a host. Ports are ignored, because container
    /// systems set such variables for services.
    fn warn_of_others(&mut self, hosts: &BTreeMap<String, String>) {
        let all = self.variables.all.iter().map(|(variable, _)| variable);
        let others = all.filter_map(|variable| {
            let mut names = ENDS
                .iter()
                .filter(|(end, _)| ![HOST, "_PORT"].contains(end));
            let name = names.find_map(|(end, _)| name_of(variable, end))?;
            (!hosts.contains_key(name)).then(|| {
                let place = self.place(variable);
                format!("{place}: not used, {BEGIN}{name}{HOST} is not given")
            })
        });
        let others: Vec<String> = others.collect();
        self.effective.warnings.extend(others);
    }

    fn default_connection(&mut self) -> Result<(), ConfigError> {
        let variable = "MQTT_DEFAULT_CONNECTION";
        let Some(name) = self.get(variable).map(str::to_lowercase) else {
            return Ok(());
        };
        let key = key!(integrations.default_connection);
        self.set(key, Value::Text(name), variable)
    }

    fn connection(&mut self, upper: &str, host: &str, common: &Common) -> Result<(), ConfigError> {
        let variable = |end: &str| format!("{BEGIN}{upper}{end}");
        let name = upper.to_lowercase();
        let source = self.place(&variable(HOST));
        if name == "internal" {
            self.warn(format!("{source}: not used, `internal` is the node itself"));
            return Ok(());
        }
        if self.has_bridge(&name) {
            self.warn(format!(
                "{source}: not used, the configuration has [[bridges]] with the name {name:?}; with \
                 connection = true there, requests can name it"
            ));
            return Ok(());
        }
        if host.contains(['/', '@', ',', ' ']) {
            let why = "is not a valid host name or address; the port is in _PORT";
            return Err(self.unusable(&variable(HOST), why));
        }
        let port = self.port_of(&variable("_PORT"))?;
        let port = port.unwrap_or(if common.is_secure { 8883 } else { 1883 });
        let scheme = if common.is_secure { "mqtts" } else { "mqtt" };
        let url = format!("{scheme}://{}", authority(host, port));
        let mut keys = vec![
            ("name", Value::Text(name.clone())),
            ("connection", Value::Boolean(true)),
            ("url", Value::Text(url)),
            // The version of that program, which each broker supports.
            ("protocol", Value::Text("3.1.1".to_owned())),
            ("try_private", Value::Boolean(false)),
            ("notifications", Value::Boolean(false)),
            ("keep_alive_secs", Value::Integer(KEEP_ALIVE_SECS)),
            ("reconnect_max_secs", Value::Integer(RECONNECT_MAX_SECS)),
        ];
        for (end, key) in [("_CLIENT_ID", "client_id"), ("_PREFIX", "prefix")] {
            let text = self.variables.value(&variable(end));
            keys.extend(text.map(|text| (key, Value::Text(text.to_owned()))));
        }
        let clean = self.truth_of(&variable("_CLEAN_SESSION"))?;
        keys.extend(clean.map(|clean| ("clean_session", Value::Boolean(clean))));
        if common.is_secure {
            keys.push(("verify", Value::Boolean(common.verifies)));
            let file = common.ca_file.clone();
            keys.extend(file.map(|file| ("ca_file", Value::Text(file))));
        }
        // That program requires both.
        if let (Some(user), Some(password)) = (&common.user, &common.password) {
            keys.push(("user", Value::Text(user.clone())));
            keys.push(("password", Value::Secret(password.clone().into())));
        }
        let what = format!("the connection {name:?} may go to loopback and private addresses");
        self.add_sink(bridge::NAME, &source, &what, keys);
        Ok(())
    }

    fn port_of(&self, variable: &str) -> Result<Option<u16>, ConfigError> {
        let Some(text) = self.variables.value(variable) else {
            return Ok(None);
        };
        let port = text.parse().ok().filter(|port| *port > 0);
        port.map(Some).ok_or_else(|| {
            let why = format!("is {text:?}, expected a port from 1 to 65535");
            self.unusable(variable, &why)
        })
    }

    fn truth_of(&self, variable: &str) -> Result<Option<bool>, ConfigError> {
        self.variables
            .value(variable)
            .map(|text| self.variables.truth(variable, text))
            .transpose()
    }

    fn has_bridge(&self, name: &str) -> bool {
        let mut sinks = self.effective.sinks.iter();
        sinks.any(|sink| {
            let own = sink.keys.get("name").map(|name| &name.value);
            sink.kind == bridge::NAME && matches!(own, Some(Value::Text(own)) if own == name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_connections_are_told_from_others() {
        assert_eq!(name_of("MQTT_HIVEMQ_HOST", HOST), Some("HIVEMQ"));
        assert_eq!(name_of("MQTT_MY_SITE_HOST", HOST), Some("MY_SITE"));
        for other in [
            "MQTT_BROKER_HOST",
            "MQTT_TLS_HOST",
            "MQTT_AUTH_HOST",
            "MQTT_DEFAULT_HOST",
            "MQTT_HOST",
            "MQTT__HOST",
            "MQTT_HIVEMQ_PORT",
        ] {
            assert_eq!(name_of(other, HOST), None, "{other}");
        }
        // The port of a listener of the node.
        assert_eq!(name_of("MQTT_WEBSOCKET_PORT", "_PORT"), None);
        assert!(meaning("MQTT_HIVEMQ_CLIENT_ID").is_some());
        assert!(ignored("MQTT_HIVEMQ_LOG_CHANNEL").is_some());
        assert_eq!(ignored("MQTT_CLIENT_ID"), None);
    }
}
