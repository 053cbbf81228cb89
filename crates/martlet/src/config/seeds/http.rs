//! HTTP listeners and the log, from variables of other programs.

use super::names::GENERIC;
use super::setting_names::{SettingNames, authority};
use super::variables::Variables;
use crate::config::error::ConfigError;
use crate::config::load::{Effective, HttpAddress, HttpListenerTable, Sourced};
use martlet_settings::Value;

/// Adds a listener for each variable and option that requests one, with the routes of its system
/// first. An option overrides the variable of its system.
///
/// # Errors
/// An address is invalid.
pub(crate) fn add_http_listeners(
    variables: &Variables<'_>,
    options: &[HttpAddress],
    effective: &mut Effective,
) -> Result<(), ConfigError> {
    let mut all = options.to_vec();
    for (system, names) in [
        ("1", &["HTTP_SERVER_PORT"][..]),
        ("3", &["PORT"]),
        ("4", &["LISTEN_ADDR"]),
    ] {
        let is_told = options.iter().any(|option| option.system == system);
        let mut names = names.iter().filter(|_| !is_told);
        let Some((name, text)) = names.find_map(|name| Some((name, variables.get(name)?))) else {
            continue;
        };
        let host = variables.get("HOST").filter(|_| *name == "PORT");
        let address = with_host(text, host).ok_or_else(|| {
            variables.unusable(
                name,
                &format!("is {text:?}, expected a port, :PORT or HOST:PORT"),
            )
        })?;
        let source = variables.place(name);
        all.push(HttpAddress {
            system,
            address,
            source,
        });
    }
    for address in all {
        let table = table(&address, effective)?;
        effective.http_listeners.push(table);
    }
    Ok(())
}

/// Converts `PORT`, `:PORT` or `HOST:PORT` to `HOST:PORT`; without a host it means all interfaces.
pub(crate) fn with_host(text: &str, host: Option<&str>) -> Option<String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Some(authority(host.unwrap_or("0.0.0.0"), port));
    }
    let (host, port) = text.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| text.to_owned())
}

fn table(address: &HttpAddress, effective: &Effective) -> Result<HttpListenerTable, ConfigError> {
    let others = effective.settings().http.compat.split(',').map(str::trim);
    let others = others.filter(|number| *number != address.system && *number != "off");
    let is_known = martlet_api::CompatApi::of_number(address.system).is_some();
    let own = is_known.then_some(address.system);
    let compat: Vec<&str> = own.into_iter().chain(others).collect();
    let compat = match compat.is_empty() {
        true => "off".to_owned(),
        false => compat.join(","),
    };
    let mut all = vec![("url", address.address.clone()), ("compat", compat)];
    // Its own listener had only these metrics.
    if address.system == "1" {
        all.push(("metrics", "json".to_owned()));
    }
    let sourced = |text| Sourced {
        value: Value::Text(text),
        source: address.source.clone(),
    };
    let all = all.into_iter();
    HttpListenerTable::of(all.map(|(key, text)| (key.to_owned(), sourced(text))))
}

/// Most requests per minute, and at once.
const REQUESTS_MAX: u64 = 1_000_000;

impl SettingNames<'_> {
    pub(super) fn log(&mut self) -> Result<(), ConfigError> {
        let name = "LOG_LEVEL";
        if let Some(text) = self.get(name) {
            let word = text.to_ascii_lowercase();
            let level = match word.as_str() {
                "warning" => Some("warn"),
                "critical" | "fatal" => Some("error"),
                "error" | "warn" | "info" | "debug" | "trace" | "off" => Some(word.as_str()),
                _ => None,
            };
            let level = level.map(|level| Value::Text(level.to_owned()));
            self.set_if(name, key!(log.level), level)?;
        }
        let name = "LOG_FORMAT";
        if let Some(text) = self.get(name) {
            let word = text.to_ascii_lowercase();
            let is_known = ["text", "json"].contains(&word.as_str());
            let format = is_known.then_some(Value::Text(word));
            self.set_if(name, key!(log.format), format)?;
        }
        if let Some(file) = self.get("LOG_FILE").map(str::to_owned) {
            self.set(key!(log.file), Value::Text(file), "LOG_FILE")?;
            self.effective.log_directory_of = Some(self.place("LOG_FILE"));
        }
        let name = "MQTT_BROKER_LOGGING_ENABLED";
        if let Some(is_on) = self.switch(name)? {
            self.set(key!(log.connections), Value::Boolean(is_on), name)?;
        }
        Ok(())
    }

    pub(super) fn http(&mut self) -> Result<(), ConfigError> {
        if let Some(origins) = self.get("ALLOWED_ORIGINS").map(str::to_owned) {
            self.set(key!(http.origins), Value::Text(origins), "ALLOWED_ORIGINS")?;
        }
        for (name, key) in [
            ("RATE_LIMIT_PER_MINUTE", key!(iotflow.requests_per_minute)),
            ("RATE_LIMIT_BURST", key!(iotflow.requests_burst)),
        ] {
            let Some(text) = self.get(name) else {
                continue;
            };
            let count = text.parse::<u64>().ok();
            if let Some(count) = count.filter(|count| *count <= REQUESTS_MAX) {
                self.set(key, Value::Integer(count), name)?;
                continue;
            }
            let why = format!("is {text:?}, expected a number of requests, {REQUESTS_MAX} at most");
            if self.name_of_iotflow().is_some() {
                return Err(self.unusable(name, &why));
            }
            // It may be meant for another program. No limit is in force, which health shows.
            let warning = format!("{} is not used: it {why}", self.place(name));
            self.effective.unused_addresses.push(warning);
        }
        Ok(())
    }

    /// Sets a key. An invalid value is skipped with a warning, because many programs use these
    /// variables.
    fn set_if(&mut self, name: &str, key: &str, value: Option<Value>) -> Result<(), ConfigError> {
        debug_assert!(GENERIC.contains(&name), "{name} has one meaning");
        match value {
            Some(value) => self.set(key, value, name),
            None => {
                let place = self.place(name);
                self.warn(format!(
                    "{place}: not used, its value is not valid for {key}"
                ));
                Ok(())
            }
        }
    }
}
