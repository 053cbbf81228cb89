//! Variables of other programs that a node understands like those programs, so that an existing
//! setup works unchanged. Martlet's own variables take precedence.

use std::net::IpAddr;

use crate::config::error::ConfigError;
use crate::config::load::Effective;
use crate::config::nearest::nearest;
use martlet_settings::Value;

mod connections;
mod http;
mod ignored;
mod listeners;
mod names;
mod nats;
mod report;
mod setting_names;
mod variables;
mod webhook;

pub(crate) use connections::ENDS as ENDS_OF_CONNECTIONS;
pub(crate) use http::{add_http_listeners, with_host};
pub(crate) use names::{GENERIC, NAMES, UNIQUE};
pub(crate) use nats::add_nats;
pub(crate) use report::Use;
pub(crate) use variables::Variables;

use names::NOT_MEANT;
use setting_names::{SettingNames, authority};

/// Port of the panel's event server.
const REVERB_PORT: u16 = 8080;

/// Reads the variables. Listeners that they request are used if no other source configures any;
/// `is_told` means that the command line does.
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
    names.telemetry()?;
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

impl SettingNames<'_> {
    /// Warns about addresses and limits of other systems that are not used, because nobody would
    /// notice the missing messages or limits, and about names that are probably misspelt.
    fn tell_of_unused(&mut self) {
        for (name, near) in self.variables.misspelt() {
            let place = self.place(name);
            self.warn(format!(
                "{place}: no such setting{}; martlet config env lists what is read",
                nearest(&Some(near))
            ));
        }
        for name in [
            "NATS_URL",
            "WEBHOOK_URL",
            "RATE_LIMIT_PER_MINUTE",
            "RATE_LIMIT_BURST",
        ] {
            let why = match self.get(name) {
                None => self.variables.value(name).map(|_| NOT_MEANT),
                // No warning is needed where it was switched off.
                Some(_) if self.get("WEBHOOK_ENABLED").is_none() => self.variables.why_off(name),
                Some(_) => None,
            };
            if let Some(why) = why {
                let place = self.place(name);
                let warning =
                    format!("{place} is not used: {why}; martlet config env lists what is read");
                self.effective.unused_addresses.push(warning);
            }
        }
    }

    /// Without its broker, a node has no MQTT listeners, but HTTP still works.
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
                // The variable explicitly permits anonymous clients.
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

    /// IoTFlow stores telemetry without being asked.
    fn telemetry(&mut self) -> Result<(), ConfigError> {
        match self.name_of_iotflow() {
            Some(name) => self.set(key!(telemetry.enabled), Value::Boolean(true), name),
            None => Ok(()),
        }
    }

    /// A variable that is set and that only IoTFlow has.
    fn name_of_iotflow(&self) -> Option<&'static str> {
        let names = ["IOTFLOW_ADMIN_TOKEN", "MAX_DEVICES_PER_USER"];
        names.into_iter().find(|name| self.get(name).is_some())
    }

    /// The location of the tables is in `database`.
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
            let why = "is true, but API_KEYS contains no key: no client could use the API";
            return Err(self.unusable("API_KEY_ENABLED", why));
        }
        let value = Value::Secret(named.join(",").into());
        self.set(key!(http.api_keys), value, name)
    }

    /// Events are pushed to the address where the panel's server listens. The other variables are
    /// for browsers.
    fn reverb(&mut self) -> Result<(), ConfigError> {
        let Some(key) = self.get("REVERB_APP_KEY") else {
            return Ok(());
        };
        let server = ["REVERB_SERVER_HOST", "REVERB_SERVER_PORT"];
        if let Some(name) = server.into_iter().find(|name| self.get(name).is_some()) {
            // The unspecified address includes every address of this machine.
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
}
