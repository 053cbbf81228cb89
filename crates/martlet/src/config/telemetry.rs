//! What is stored of what devices measure.

use martlet_control::telemetry::{
    DEVICE, DecodeLimits, Decoder, FILE, Format, Holder, KeyTemplate, Location, MissingTime, Rule,
    Settings, Skew, TelemetryKept, TelemetrySettings, TimeUnit, TopicTemplate, TypeKept,
};

use super::load::{ConfigError, Effective, ListenerTable};
use super::registry::location_of;
use super::resolve::data_dir;
use super::schema::{Kind, TELEMETRY_RETENTION_KEYS, TELEMETRY_RULE_KEYS, Value};

const SECOND: i64 = 1_000_000;
const MS_OF_DAY: u64 = 86_400_000;

/// A key of a table: its name, what it takes, what it means.
pub(crate) type TableKey = (&'static str, Kind, &'static str);

/// The lists of tables of `[telemetry]`, with their keys.
pub(crate) fn tables() -> [(&'static str, &'static [TableKey]); 2] {
    [
        ("rules", TELEMETRY_RULE_KEYS),
        ("retention", TELEMETRY_RETENTION_KEYS),
    ]
}

/// The settings; none: telemetry is off. What is configured is checked in any case.
pub(crate) fn of(effective: &Effective) -> Result<Option<TelemetrySettings>, ConfigError> {
    let common = decoder(effective);
    let rules = effective.telemetry_rules.iter();
    let mut rules: Vec<Rule> = rules
        .map(|table| rule(table, &common))
        .collect::<Result<_, _>>()?;
    if rules.is_empty() {
        rules = default_rules(effective, &common)?;
    }
    let settings = TelemetrySettings {
        rules,
        location: location(effective)?,
        storage: Settings {
            keys_per_device_max: size(effective, "telemetry.keys_per_device"),
            series_max: effective.integer("telemetry.series"),
            text_bytes_max: common.limits.text_bytes,
            file_bytes_max: Some(effective.integer("telemetry.file_bytes")).filter(|max| *max > 0),
            ..Settings::default()
        },
        decoder: common,
        kept: kept(effective),
        measures_subscribers: effective.boolean("telemetry.subscriber_latency"),
    };
    Ok(effective.boolean("telemetry.enabled").then_some(settings))
}

fn size(effective: &Effective, key: &str) -> usize {
    usize::try_from(effective.integer(key)).unwrap_or(usize::MAX)
}

/// How payloads are decoded unless a rule says otherwise.
fn decoder(effective: &Effective) -> Decoder {
    Decoder {
        missing_time: missing_time(effective.text("telemetry.missing_time")),
        skew: skew(effective.text("telemetry.skew")),
        ahead_max: micros(effective.integer("telemetry.skew_ahead_secs")),
        behind_max: micros(effective.integer("telemetry.skew_behind_secs")),
        limits: DecodeLimits {
            values: size(effective, "telemetry.message_values"),
            key_bytes: size(effective, "telemetry.key_bytes"),
            text_bytes: size(effective, "telemetry.text_bytes"),
            ..DecodeLimits::default()
        },
        ..Decoder::default()
    }
}

fn missing_time(word: &str) -> MissingTime {
    match word {
        "reject" => MissingTime::Reject,
        _ => MissingTime::Received,
    }
}

fn skew(word: &str) -> Skew {
    match word {
        "reject" => Skew::Reject,
        "keep" => Skew::Keep,
        _ => Skew::Received,
    }
}

/// Seconds as µs; none: no limit.
fn micros(secs: u64) -> Option<i64> {
    let micros = i64::try_from(secs)
        .ok()
        .and_then(|secs| secs.checked_mul(SECOND));
    micros.filter(|micros| *micros > 0)
}

fn rule(table: &ListenerTable, common: &Decoder) -> Result<Rule, ConfigError> {
    let text = |key: &str| table.get(key).map(|found| found.value.text());
    let unusable = |key: &str, why: String| {
        let place = table.get(key).map_or("", |found| found.source.as_str());
        ConfigError::Unusable(format!("{place}: [[telemetry.rules]]: {key}: {why}"))
    };
    let topic = TopicTemplate::parse(text("topic").unwrap_or_default());
    let topic = topic.map_err(|why| unusable("topic", why))?;
    let key = match text("key") {
        None => KeyTemplate::default(),
        Some(key) => KeyTemplate::parse(key, &topic).map_err(|why| unusable("key", why))?,
    };
    let format = match text("format") {
        Some("line") => Format::Line,
        Some("value") => Format::Value,
        _ => Format::Json,
    };
    if format != Format::Value && !key.has_key() {
        let why = "expected {key} in it: the values of a message would have one key".to_owned();
        return Err(unusable("key", why));
    }
    let secs = |key: &str, common: Option<i64>| match table.get(key).map(|found| &found.value) {
        Some(Value::Integer(secs)) => micros(*secs),
        _ => common,
    };
    let decoder = Decoder {
        format,
        time_unit: time_unit(text("time_unit").unwrap_or_default()),
        missing_time: text("missing_time").map_or(common.missing_time, missing_time),
        skew: text("skew").map_or(common.skew, skew),
        ahead_max: secs("skew_ahead_secs", common.ahead_max),
        behind_max: secs("skew_behind_secs", common.behind_max),
        flatten: matches!(
            table.get("flatten").map(|found| &found.value),
            Some(Value::Boolean(true))
        ),
        ignore: match table.get("ignore").map(|found| &found.value) {
            Some(Value::Texts(names)) => names.clone(),
            _ => Vec::new(),
        },
        limits: common.limits,
        holders: &[],
    };
    Ok(Rule {
        topic,
        key,
        decoder,
    })
}

fn time_unit(word: &str) -> TimeUnit {
    match word {
        "s" => TimeUnit::Seconds,
        "ms" => TimeUnit::Millis,
        "us" => TimeUnit::Micros,
        "ns" => TimeUnit::Nanos,
        _ => TimeUnit::Auto,
    }
}

/// The nested form of system 5: its values have the keys of the flat form.
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

/// Topics of systems 3 and 5.
fn default_rules(effective: &Effective, common: &Decoder) -> Result<Vec<Rule>, ConfigError> {
    let base = super::http::iotflow_base(effective)?;
    let iotflow = (
        format!("{}/devices/{{{DEVICE}}}/telemetry/#", base.as_str()),
        common.clone(),
    );
    // The payload names the device, and its time twice.
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
        Ok(Rule {
            topic,
            key: KeyTemplate::default(),
            decoder,
        })
    });
    rules.collect()
}

fn location(effective: &Effective) -> Result<Location, ConfigError> {
    let key = "telemetry.url";
    let unusable =
        |why: String| ConfigError::Unusable(format!("{}: {key}: {why}", effective.source(key)));
    let url = effective.secret(key).trim();
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
    let days = effective.integer("telemetry.keep_days");
    let number = |table: &ListenerTable, key: &str| match table.get(key).map(|one| &one.value) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    let types = effective.telemetry_retention.iter().map(|table| TypeKept {
        device_type: table
            .get("type")
            .map_or("", |one| one.value.text())
            .to_owned(),
        age_ms: age_ms(number(table, "keep_days").unwrap_or(days)),
        bytes: number(table, "keep_bytes").filter(|bytes| *bytes > 0),
    });
    TelemetryKept {
        age_ms: age_ms(days),
        bytes: Some(effective.integer("telemetry.keep_bytes")).filter(|bytes| *bytes > 0),
        types: types.collect(),
    }
}
