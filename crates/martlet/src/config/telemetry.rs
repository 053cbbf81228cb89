//! Settings for the storage of telemetry.

use martlet_control::telemetry::{
    DEVICE, DecodeLimits, Decoder, FILE, Format, Holder, KeyTemplate, Location, Settings,
    TelemetryKept, TelemetryRule, TelemetrySettings, TopicTemplate, TypeKept,
};

use super::data_dir::data_dir;
use super::error::ConfigError;
use super::load::{Effective, TelemetryRuleTable};
use super::registry::location_of;
use super::schema::{PayloadFormat, RetentionKeys, TelemetryRuleKeys};
use martlet_settings::{Key, TableKeys as _};

const SECOND: i64 = 1_000_000;
const MS_OF_DAY: u64 = 86_400_000;

/// The lists of tables of `[telemetry]`, with their keys.
pub(crate) fn tables() -> [(&'static str, Vec<Key>); 2] {
    [
        ("rules", TelemetryRuleKeys::keys()),
        ("retention", RetentionKeys::keys()),
    ]
}

/// The settings; `None` if telemetry is off. The configuration is checked in any case.
pub(crate) fn of(effective: &Effective) -> Result<Option<TelemetrySettings>, ConfigError> {
    let telemetry = &effective.settings().telemetry;
    let common = decoder(effective);
    let rules = effective.telemetry_rules.iter();
    let mut rules: Vec<TelemetryRule> = rules
        .map(|table| rule(table, &common))
        .collect::<Result<_, _>>()?;
    if rules.is_empty() {
        rules = default_rules(effective, &common)?;
    }
    let settings = TelemetrySettings {
        rules,
        location: location(effective)?,
        storage: Settings {
            keys_per_device_max: telemetry.keys_per_device,
            series_max: telemetry.series,
            tenant_share: effective.settings().limits.team_share(),
            text_bytes_max: common.limits.text_bytes,
            file_bytes_max: Some(telemetry.file_bytes).filter(|max| *max > 0),
            ..Settings::default()
        },
        decoder: common,
        kept: kept(effective),
        measures_subscribers: telemetry.subscriber_latency,
    };
    Ok(telemetry.enabled.then_some(settings))
}

/// The decoding of payloads, unless a rule has other settings.
fn decoder(effective: &Effective) -> Decoder {
    let telemetry = &effective.settings().telemetry;
    Decoder {
        missing_time: telemetry.missing_time,
        skew: telemetry.skew,
        ahead_max: micros(telemetry.skew_ahead_secs),
        behind_max: micros(telemetry.skew_behind_secs),
        limits: DecodeLimits {
            values: telemetry.message_values,
            key_bytes: telemetry.key_bytes,
            text_bytes: telemetry.text_bytes,
            ..DecodeLimits::default()
        },
        ..Decoder::default()
    }
}

/// Converts seconds to µs; `None` means no limit.
fn micros(secs: u64) -> Option<i64> {
    let micros = i64::try_from(secs)
        .ok()
        .and_then(|secs| secs.checked_mul(SECOND));
    micros.filter(|micros| *micros > 0)
}

fn rule(table: &TelemetryRuleTable, common: &Decoder) -> Result<TelemetryRule, ConfigError> {
    let unusable = |key: &str, why: String| {
        let place = table.source(key);
        ConfigError::Unusable(format!("{place}: [[telemetry.rules]]: {key}: {why}"))
    };
    let topic = TopicTemplate::parse(table.topic.as_deref().unwrap_or_default());
    let topic = topic.map_err(|why| unusable("topic", why))?;
    let key = match &table.key {
        None => KeyTemplate::default(),
        Some(key) => KeyTemplate::parse(key, &topic).map_err(|why| unusable("key", why))?,
    };
    let format = match table.format {
        Some(PayloadFormat::Line) => Format::Line,
        Some(PayloadFormat::Value) => Format::Value,
        Some(PayloadFormat::Json) | None => Format::Json,
    };
    if format != Format::Value && !key.has_key() {
        let why = "expected {key} in it: the values of a message would have one key".to_owned();
        return Err(unusable("key", why));
    }
    let decoder = Decoder {
        format,
        time_member: table.time_member.clone(),
        time_unit: table.time_unit.unwrap_or_default(),
        missing_time: table.missing_time.unwrap_or(common.missing_time),
        is_of_past: false,
        skew: table.skew.unwrap_or(common.skew),
        ahead_max: table.skew_ahead_secs.map_or(common.ahead_max, micros),
        behind_max: table.skew_behind_secs.map_or(common.behind_max, micros),
        flatten: table.flatten.unwrap_or(false),
        ignore: table.ignore.clone().unwrap_or_default(),
        limits: common.limits,
        holders: &[],
    };
    Ok(TelemetryRule {
        topic,
        key,
        decoder,
    })
}

/// The nested format of system 5: its values have the keys of the flat format.
const HOLDERS: &[Holder] = &[
    Holder {
        name: "telemetry",
        prefix: "",
    },
    Holder {
        name: "detection",
        prefix: "detection_",
    },
];

/// Rules for the topics of systems 3 and 5.
fn default_rules(
    effective: &Effective,
    common: &Decoder,
) -> Result<Vec<TelemetryRule>, ConfigError> {
    let base = super::http::iotflow_base(effective)?;
    let iotflow = (
        format!("{}/devices/{{{DEVICE}}}/telemetry/#", base.as_str()),
        common.clone(),
    );
    // The payload also contains the device, and the time a second time.
    let ignored = ["device_id", "datetime"].map(str::to_owned);
    let tls_guide = (
        format!("device/data/{{{DEVICE}}}"),
        Decoder {
            ignore: ignored.into(),
            holders: HOLDERS,
            ..common.clone()
        },
    );
    let rules = [iotflow, tls_guide].into_iter().map(|(topic, decoder)| {
        let topic = TopicTemplate::parse(&topic).map_err(ConfigError::Unusable)?;
        Ok(TelemetryRule {
            topic,
            key: KeyTemplate::default(),
            decoder,
        })
    });
    rules.collect()
}

fn location(effective: &Effective) -> Result<Location, ConfigError> {
    let key = key!(telemetry.url);
    let unusable =
        |why: String| ConfigError::Unusable(format!("{}: {key}: {why}", effective.source(key)));
    let url = effective.settings().telemetry.url.expose().trim();
    if url.is_empty() {
        let path = data_dir(effective)?.join(FILE);
        return Ok(Location::File(std::path::absolute(&path).unwrap_or(path)));
    }
    match location_of(url, effective).map_err(unusable)? {
        martlet_registry::Location::File(path) => Ok(Location::File(path)),
        martlet_registry::Location::Url(url) => Ok(Location::Postgres(url)),
    }
}

fn kept(effective: &Effective) -> TelemetryKept {
    let age_ms = |days: u64| (days > 0).then_some(days * MS_OF_DAY);
    let telemetry = &effective.settings().telemetry;
    let types = effective.telemetry_retention.iter().map(|table| TypeKept {
        device_type: table.device_type.clone().unwrap_or_default(),
        age_ms: age_ms(table.keep_days.unwrap_or(telemetry.keep_days)),
        bytes: table.keep_bytes.filter(|bytes| *bytes > 0),
    });
    TelemetryKept {
        age_ms: age_ms(telemetry.keep_days),
        bytes: Some(telemetry.keep_bytes).filter(|bytes| *bytes > 0),
        types: types.collect(),
    }
}
