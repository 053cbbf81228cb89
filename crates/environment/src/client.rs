//! Variables of the environment and of `.env` with the broker's address and the client's
//! credentials, under the names that device programs use. Options take precedence.

use std::path::PathBuf;

use martlet_client::Password;

/// Each name and its meaning.
pub const CLIENT_NAMES: &[(&str, &str)] = &[
    ("MQTT_BROKER_HOST", "Host to connect to."),
    ("MQTT_HOST", "The same, where that is not given."),
    ("MQTT_BROKER_PORT", "Port to connect to."),
    (
        "MQTT_PORT",
        "The same without TLS, where that is not given.",
    ),
    (
        "MQTT_TLS_PORT",
        "The same with TLS, where that is not given.",
    ),
    ("MQTT_USE_TLS", "`true`: TLS."),
    (
        "MQTT_TLS_INSECURE",
        "`true`: the server's certificate is not checked.",
    ),
    ("MQTT_CA_CERTS", "File of CAs that are trusted."),
    ("MQTT_CA_CERT_PATH", "The same, where that is not given."),
    ("MQTT_CERTFILE", "The client's certificate."),
    ("MQTT_CERT_FILE_PATH", "The same, where that is not given."),
    ("MQTT_KEYFILE", "Its key."),
    ("MQTT_KEY_FILE_PATH", "The same, where that is not given."),
    ("MQTT_USERNAME", "User name; with a password."),
    ("MQTT_PASSWORD", "Password; with a user name."),
    ("MQTT_CLIENT_ID", "Client Identifier."),
];

/// Values of the variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientEnvironment {
    /// `MQTT_BROKER_HOST` or `MQTT_HOST`.
    pub host: Option<String>,
    /// `MQTT_BROKER_PORT` or `MQTT_PORT`; with TLS `MQTT_TLS_PORT`.
    pub port: Option<u16>,
    /// `MQTT_USE_TLS`.
    pub use_tls: bool,
    /// `MQTT_TLS_INSECURE`: the server's certificate is not checked.
    pub insecure: bool,
    /// `MQTT_CA_CERTS` or `MQTT_CA_CERT_PATH`.
    pub ca_file: Option<PathBuf>,
    /// `MQTT_CERTFILE` or `MQTT_CERT_FILE_PATH`.
    pub certificate: Option<PathBuf>,
    /// `MQTT_KEYFILE` or `MQTT_KEY_FILE_PATH`.
    pub key: Option<PathBuf>,
    /// `MQTT_USERNAME`.
    pub username: Option<String>,
    /// `MQTT_PASSWORD`.
    pub password: Option<Password>,
    /// `MQTT_CLIENT_ID`.
    pub client_id: Option<String>,
}

impl ClientEnvironment {
    /// Reads the variables with `get`. Empty values are ignored.
    ///
    /// # Errors
    /// A line for the user: the variable and its expected value.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                debug_assert!(
                    CLIENT_NAMES.iter().any(|(known, _)| known == name),
                    "{name} is not in the reference"
                );
                let value = get(name).filter(|value| !value.is_empty())?;
                Some((*name, value))
            })
        };
        let text = |names: &[&'static str]| first(names).map(|(_, value)| value);
        let path = |names: &[&'static str]| text(names).map(PathBuf::from);
        let switch = |name: &'static str| match text(&[name]).map(|value| value.to_lowercase()) {
            None => Ok(false),
            Some(value) => match value.as_str() {
                "true" | "1" | "yes" | "on" => Ok(true),
                "false" | "0" | "no" | "off" => Ok(false),
                _ => Err(format!(
                    "environment {name} is {value:?}, expected true or false"
                )),
            },
        };
        let use_tls = switch("MQTT_USE_TLS")?;
        let ports: &[&'static str] = match use_tls {
            true => &["MQTT_BROKER_PORT", "MQTT_TLS_PORT"],
            false => &["MQTT_BROKER_PORT", "MQTT_PORT"],
        };
        let port = match first(ports) {
            None => None,
            Some((name, value)) => {
                let port = value.parse().ok().filter(|port| *port != 0);
                Some(port.ok_or_else(|| format!("environment {name}: invalid port {value}"))?)
            }
        };
        Ok(Self {
            host: text(&["MQTT_BROKER_HOST", "MQTT_HOST"]),
            port,
            use_tls,
            insecure: switch("MQTT_TLS_INSECURE")?,
            ca_file: path(&["MQTT_CA_CERTS", "MQTT_CA_CERT_PATH"]),
            certificate: path(&["MQTT_CERTFILE", "MQTT_CERT_FILE_PATH"]),
            key: path(&["MQTT_KEYFILE", "MQTT_KEY_FILE_PATH"]),
            username: text(&["MQTT_USERNAME"]),
            password: text(&["MQTT_PASSWORD"]).map(|text| Password(text.into_bytes())),
            client_id: text(&["MQTT_CLIENT_ID"]),
        })
    }

    /// User name and password, for programs that have no options for them.
    ///
    /// # Errors
    /// One of them is missing.
    pub fn credentials(&self) -> Result<(Option<String>, Option<Password>), String> {
        if self.username.is_some() != self.password.is_some() {
            return Err(
                "environment MQTT_USERNAME and MQTT_PASSWORD: expected both or none".into(),
            );
        }
        Ok((self.username.clone(), self.password.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<ClientEnvironment, String> {
        ClientEnvironment::read(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_device_programs_are_set_up_with_is_understood() {
        let found = read(&[
            ("MQTT_BROKER_HOST", "broker.example"),
            ("MQTT_BROKER_PORT", "8883"),
            ("MQTT_USE_TLS", "true"),
            ("MQTT_TLS_INSECURE", "false"),
            ("MQTT_CA_CERTS", "ca.crt"),
            ("MQTT_CERTFILE", "c.crt"),
            ("MQTT_KEYFILE", "c.key"),
            ("MQTT_USERNAME", "device"),
            ("MQTT_PASSWORD", "secret"),
            ("MQTT_CLIENT_ID", "device-7"),
        ])
        .unwrap();
        assert_eq!(
            (found.host.as_deref(), found.port),
            (Some("broker.example"), Some(8883))
        );
        assert!(found.use_tls && !found.insecure && found.password.is_some());
        assert_eq!(found.client_id.as_deref(), Some("device-7"));
        assert_eq!(
            read(&[("MQTT_HOST", "h"), ("MQTT_PORT", "7")])
                .unwrap()
                .port,
            Some(7)
        );
        let secure = read(&[("MQTT_USE_TLS", "TRUE"), ("MQTT_TLS_PORT", "8")]).unwrap();
        assert_eq!(secure.port, Some(8));
        assert_eq!(read(&[]).unwrap(), ClientEnvironment::default());
    }

    #[test]
    fn half_a_pair_and_nonsense_are_errors_without_secrets() {
        for pairs in [
            &[("MQTT_PASSWORD", "hunter2")][..],
            &[("MQTT_USERNAME", "u")],
            &[("MQTT_USE_TLS", "maybe")],
            &[("MQTT_BROKER_PORT", "x")],
        ] {
            let read = read(pairs).and_then(|found| found.credentials());
            let error = read.unwrap_err();
            assert!(
                error.contains("environment MQTT_") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
