//! MQTT listeners from variables of other programs.

use std::net::{ToSocketAddrs as _, UdpSocket};

use super::setting_names::{SettingNames, authority};
use crate::config::error::ConfigError;
use crate::config::load::{ListenerTable, Sourced};
use martlet_settings::Value;

const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// Variables for the host and port of the listener without TLS, by precedence.
const HOSTS: [&str; 2] = ["MQTT_BROKER_HOST", "MQTT_HOST"];
const PORTS: [&str; 2] = ["MQTT_BROKER_PORT", "MQTT_PORT"];

/// Variables of Service-MQTT.
const SERVICE_MQTT: [&str; 5] = [
    "LISTEN_ADDR",
    "DATABASE_DSN",
    "ENABLE_JETSTREAM",
    "NATS_URL",
    "PUBLISH_TIMEOUT_SEC",
];

/// Listeners that the variables request.
#[derive(Default)]
struct Listeners {
    /// URLs, each with its variable.
    urls: Vec<(String, &'static str)>,
}

impl Listeners {
    fn add(&mut self, scheme: &str, authority: &str, path: &str, name: &'static str) {
        let url = format!("{scheme}://{authority}{path}");
        if !self.urls.iter().any(|(known, _)| *known == url) {
            self.urls.push((url, name));
        }
    }
}

/// Listeners with TLS.
struct Tls {
    /// Their ports.
    ports: Vec<u16>,
    name: &'static str,
}

impl SettingNames<'_> {
    pub(super) fn listeners(&mut self) -> Result<(), ConfigError> {
        let tls = self.tls()?;
        let web = self
            .get("MQTT_WEBSOCKET_PORT")
            .map(|_| "MQTT_WEBSOCKET_PORT");
        let named = self.first(&HOSTS).or(self.first(&PORTS)).or(web);
        let Some(name) = named.or(tls.as_ref().map(|tls| tls.name)) else {
            return Ok(());
        };
        if !self.effective.listeners.is_empty() {
            let place = self.place(name);
            let warning = format!("{place}: not used, [[listeners]] are configured");
            self.warn(warning);
            return Ok(());
        }
        let host = self.host();
        let port = self.plain_port(tls.as_ref())?;
        let mut listeners = Listeners::default();
        if let Some(port) = port {
            listeners.add("mqtt", &authority(&host, port), "", name);
        }
        if let Some(port) = self.port("MQTT_WEBSOCKET_PORT")? {
            let authority = authority(&host, port);
            // A client may use any path there, as with Mosquitto.
            listeners.add("ws", &authority, "/*", "MQTT_WEBSOCKET_PORT");
        } else {
            let place = self.place(name);
            self.effective.notes.push(format!(
                "{place}: only the listeners that are named are open; for WebSocket set \
                 MQTT_WEBSOCKET_PORT=9001"
            ));
        }
        if let Some(tls) = tls {
            for port in tls.ports {
                listeners.add("mqtts", &authority(&host, port), "", tls.name);
            }
            if let Some(port) = port {
                let place = self.place(tls.name);
                self.warn(format!(
                    "{place}: {host}:{port} is open without TLS too, as this variable demands, and \
                     passwords can be read on their way there; for TLS alone name listeners: \
                     --listen mqtts://HOST:8883, or [[listeners]]"
                ));
            }
        }
        let urls = listeners.urls.iter();
        let listeners = urls.map(|(url, name)| listener(url, self.place(name)));
        self.effective.listeners = listeners.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The first of these variables that is set.
    fn first(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.get(name).is_some())
    }

    /// The host to listen on. Device programs use this variable for the name of their broker; a
    /// value that is not an address of this machine is for them. Service-MQTT had no variable for
    /// it and listened on all interfaces.
    fn host(&mut self) -> String {
        const HERE: &str = "127.0.0.1";
        const EVERYWHERE: &str = "0.0.0.0";
        let Some(name) = self.first(&HOSTS) else {
            // Beside a port also a name that other programs use.
            let is_set = |name: &&str| self.variables.value(name).is_some();
            return match SERVICE_MQTT.iter().any(is_set) {
                true => EVERYWHERE.to_owned(),
                false => HERE.to_owned(),
            };
        };
        let host = self.get(name).unwrap_or(HERE).to_owned();
        if is_of_this_machine(&host) {
            return host;
        }
        let place = self.place(name);
        self.warn(format!(
            "{place}: {host} is not an address of this machine, so it is treated as a setting of \
             clients; the node listens on {HERE}"
        ));
        HERE.to_owned()
    }

    /// The port without TLS; `None` if the given port is one with TLS.
    fn plain_port(&self, tls: Option<&Tls>) -> Result<Option<u16>, ConfigError> {
        let Some(name) = self.first(&PORTS) else {
            return Ok(Some(MQTT_PORT));
        };
        let port = self.port(name)?.unwrap_or(MQTT_PORT);
        match tls {
            Some(tls) => Ok(Some(port).filter(|port| !tls.ports.contains(port))),
            // Clients configured for TLS would send their passwords unencrypted to this port.
            None if self.is_clients_tls()? && port == self.tls_port()? => Ok(Some(MQTT_PORT)),
            None => Ok(Some(port)),
        }
    }

    fn tls_port(&self) -> Result<u16, ConfigError> {
        Ok(self.port("MQTT_TLS_PORT")?.unwrap_or(MQTTS_PORT))
    }

    /// The ports with TLS, if it is enabled. Sets its files.
    fn tls(&mut self) -> Result<Option<Tls>, ConfigError> {
        if self.switch("MQTT_BROKER_TLS_ENABLED")? == Some(true) {
            let name = "MQTT_BROKER_TLS_ENABLED";
            let files = ("MQTT_BROKER_TLS_CERT_FILE", "MQTT_BROKER_TLS_KEY_FILE");
            self.tls_files(name, files)?;
            let plain = match self.first(&PORTS) {
                Some(name) => self.port(name)?.unwrap_or(MQTT_PORT),
                None => MQTT_PORT,
            };
            let mut ports = vec![plain.checked_add(1).unwrap_or(MQTTS_PORT), MQTTS_PORT];
            if self.switch("MQTT_USE_TLS")? == Some(true) {
                ports.push(self.tls_port()?);
            }
            return Ok(Some(Tls { ports, name }));
        }
        if self.switch("MQTT_USE_TLS")? != Some(true) {
            return Ok(None);
        }
        if self.is_clients_tls()? {
            let ports = match self.first(&PORTS) {
                Some(name) if self.port(name)? == Some(self.tls_port()?) => {
                    format!(" and {name}")
                }
                _ => String::new(),
            };
            let place = self.place("MQTT_USE_TLS");
            self.warn(format!(
                "{place}: it is treated as a setting of clients, because the environment contains \
                 no server certificate; the node ignores it{ports}. For TLS set tls.certificate \
                 and tls.key, or MQTT_CERT_FILE_PATH and MQTT_KEY_FILE_PATH"
            ));
            return Ok(None);
        }
        let files = ("MQTT_CERT_FILE_PATH", "MQTT_KEY_FILE_PATH");
        self.tls_files("MQTT_USE_TLS", files)?;
        Ok(Some(Tls {
            ports: vec![self.tls_port()?],
            name: "MQTT_USE_TLS",
        }))
    }

    /// Whether MQTT_USE_TLS is a setting for clients: it comes with settings to verify a server,
    /// and without a server's certificate.
    fn is_clients_tls(&self) -> Result<bool, ConfigError> {
        let is_clients = self
            .first(&["MQTT_CA_CERTS", "MQTT_TLS_INSECURE"])
            .is_some();
        let has_certificate = self.get("MQTT_CERT_FILE_PATH").is_some()
            || !self.effective.settings().tls.certificate.is_empty()
            || self.has_own(key!(tls.certificate));
        let is_on = self.switch("MQTT_USE_TLS")? == Some(true);
        Ok(is_on && is_clients && !has_certificate)
    }

    /// Checks that enabled TLS has its files.
    fn tls_files(&mut self, switch: &str, files: (&str, &str)) -> Result<(), ConfigError> {
        let tls = &self.effective.settings().tls;
        let (certificate, key) = (tls.certificate.is_empty(), tls.key.is_empty());
        for (name, key, is_empty) in [
            (files.0, key!(tls.certificate), certificate),
            (files.1, key!(tls.key), key),
        ] {
            match self.get(name).map(str::to_owned) {
                Some(file) => self.set(key, Value::Text(file), name)?,
                // The file may be given by Martlet's own variable.
                None if !is_empty || self.has_own(key) => {}
                None => {
                    let why = format!("is true, and {name} names no file");
                    return Err(self.unusable(switch, &why));
                }
            }
        }
        Ok(())
    }
}

/// Whether this is an address of this machine, so that it can be listened on.
fn is_of_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, 0).to_socket_addrs();
    { addresses.into_iter().flatten() }.any(|address| UdpSocket::bind(address).is_ok())
}

fn listener(url: &str, source: String) -> Result<ListenerTable, ConfigError> {
    let url = Sourced {
        value: Value::Text(url.to_owned()),
        source,
    };
    ListenerTable::of([("url".to_owned(), url)])
}
