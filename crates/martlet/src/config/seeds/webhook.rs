//! `WEBHOOK_ENABLED`, `WEBHOOK_URL` and so on of the MQTT microservice: a webhook for every
//! message.

use martlet_integrate::webhook::METHODS;

use super::setting_names::SettingNames;
use crate::config::error::ConfigError;
use martlet_settings::Value;

/// Name of the webhook.
const NAME: &str = "microservice";
/// Longest time limit and longest pause in seconds.
const SECS_MAX: u64 = 300;
/// Most attempts after the first one.
const RETRIES_MAX: u64 = 1_000;

impl SettingNames<'_> {
    /// Adds the webhook for every message, if it is enabled.
    ///
    /// # Errors
    /// A value is invalid, or the URL is missing.
    pub(super) fn webhook(&mut self) -> Result<(), ConfigError> {
        if self.switch("WEBHOOK_ENABLED")? != Some(true) {
            return Ok(());
        }
        let source = self.place("WEBHOOK_URL");
        let Some(url) = self.get("WEBHOOK_URL").map(str::to_owned) else {
            return Err(self.unusable("WEBHOOK_URL", "is missing, and WEBHOOK_ENABLED is true"));
        };
        if self.has_sink_of("webhook", NAME) {
            self.warn(format!(
                "{source}: not used, the configuration has [[sinks.webhook]] with the name {NAME:?}"
            ));
            return Ok(());
        }
        let method = self.get("WEBHOOK_METHOD").unwrap_or("POST").to_uppercase();
        if !METHODS.contains(&&*method) {
            let why = format!("is {method:?}, expected one of {}", METHODS.join(", "));
            return Err(self.unusable("WEBHOOK_METHOD", &why));
        }
        let timeout = self.number("WEBHOOK_TIMEOUT", 10, 1..=SECS_MAX)?;
        let retries = self.number("WEBHOOK_RETRY_COUNT", 3, 0..=RETRIES_MAX)?;
        let pause_ms = self.number("WEBHOOK_RETRY_DELAY", 5, 1..=SECS_MAX)? * 1_000;
        let keys = [
            ("name", Value::Text(NAME.to_owned())),
            ("filters", Value::Texts(vec!["#".to_owned()])),
            ("url", Value::Text(url)),
            ("method", Value::Text(method)),
            ("format", Value::Text("microservice".to_owned())),
            ("keep_qos0", Value::Boolean(true)),
            ("timeout_secs", Value::Integer(timeout)),
            ("max_attempts", Value::Integer(retries + 1)),
            ("retry_first_ms", Value::Integer(pause_ms)),
            ("retry_longest_ms", Value::Integer(pause_ms)),
        ];
        let what = format!("the sink webhook/{NAME} may connect to loopback and private addresses");
        self.add_sink("webhook", &source, &what, keys);
        Ok(())
    }

    fn number(
        &self,
        name: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            let why = format!("is {text:?}, expected a number from {least} to {most}");
            self.unusable(name, &why)
        })
    }
}
