//! Forwarding to NATS, from variables of another program: a sink `nats/service-mqtt`.

use super::setting_names::SettingNames;
use super::variables::Variables;
use crate::config::error::ConfigError;
use crate::config::load::Effective;
use martlet_settings::Value;

/// Name of the sink.
const SINK: &str = "service-mqtt";
/// That program's default URL.
const URL: &str = "nats://localhost:4222";
/// Longest time limit of an acknowledgement in a sink, in seconds.
const TIMEOUT_SECS_MAX: u64 = 300;

/// Adds a sink for all messages if the variables contain NATS. The keys `nats.…` of all sources
/// have already been read.
///
/// # Errors
/// A value is invalid.
pub(crate) fn add_nats(
    variables: &Variables<'_>,
    effective: &mut Effective,
) -> Result<(), ConfigError> {
    let mut names = SettingNames {
        variables,
        effective,
    };
    names.nats()
}

impl SettingNames<'_> {
    fn nats(&mut self) -> Result<(), ConfigError> {
        let jetstream = self.switch("ENABLE_JETSTREAM")?;
        let (url, source) = match (self.get("NATS_URL"), jetstream) {
            (Some(url), _) => (url.to_owned(), "NATS_URL"),
            (None, Some(true)) => (URL.to_owned(), "ENABLE_JETSTREAM"),
            (None, _) => return Ok(()),
        };
        let timeout_secs = self.publish_timeout_secs()?;
        let source = self.place(source);
        if self.has_sink_of("nats", SINK) {
            self.warn(format!(
                "{source}: not used, the configuration has [[sinks.nats]] with the name {SINK:?}"
            ));
            return Ok(());
        }
        let url = match url.contains("://") {
            true => url,
            false => format!("nats://{url}"),
        };
        let preset = &self.effective.settings().nats;
        let filters = preset.filters.items().map(str::to_owned).collect();
        let mut keys = vec![
            ("name", Value::Text(SINK.to_owned())),
            ("filters", Value::Texts(filters)),
            ("tenant", Value::Text("*".to_owned())),
            ("url", Value::Text(url)),
            ("jetstream", Value::Boolean(jetstream.unwrap_or(true))),
            ("keep_qos0", Value::Boolean(true)),
            ("log_messages", Value::Boolean(preset.log_messages)),
            (
                "stream_max_age_secs",
                Value::Integer(preset.stream_max_age_secs),
            ),
            ("stream_max_bytes", Value::Integer(preset.stream_max_bytes)),
            ("content_type", Value::Text("application/json".to_owned())),
        ];
        keys.extend(timeout_secs.map(|secs| ("timeout_secs", Value::Integer(secs))));
        let what = format!("the sink nats/{SINK} may connect to loopback and private addresses");
        self.add_sink("nats", &source, &what, keys);
        Ok(())
    }

    fn publish_timeout_secs(&self) -> Result<Option<u64>, ConfigError> {
        let name = "PUBLISH_TIMEOUT_SEC";
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let secs = text.parse::<u64>().ok();
        let secs = secs.filter(|secs| (1..=TIMEOUT_SECS_MAX).contains(secs));
        secs.map(Some).ok_or_else(|| {
            let why = format!("is {text:?}, expected seconds from 1 to {TIMEOUT_SECS_MAX}");
            self.unusable(name, &why)
        })
    }
}
