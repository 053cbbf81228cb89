//! Rules about messages, and alarms.

use martlet_control::alarms::AlarmsKept;
use martlet_control::rules::{ConfiguredRule, Definition};
use serde_json::{Map, Value};
use toml::de::{DeArray, DeTable, DeValue};

use super::load::{ConfigError, Effective};

const MS_OF_SECOND: i64 = 1_000;
const MS_OF_DAY: i64 = 86_400_000;
/// Keys of a table beside those of the rule itself.
const NAME: &str = "name";
const TENANT: &str = "tenant";

/// A table `[[rules]]`, as it is in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleTable {
    /// Where it begins: file and line.
    pub(crate) place: String,
    /// Its keys.
    pub(crate) keys: Map<String, Value>,
}

/// Settings of rules and alarms.
#[derive(Clone, Debug)]
pub(crate) struct RulesConfig {
    pub(crate) rules: Vec<ConfiguredRule>,
    pub(crate) watches_node: bool,
    pub(crate) trouble_ms: i64,
    pub(crate) lag_ms: u64,
    pub(crate) kept: AlarmsKept,
}

/// The settings.
///
/// # Errors
/// A rule says something that it may not, or two have one name.
pub(super) fn of(effective: &Effective) -> Result<RulesConfig, ConfigError> {
    let mut rules: Vec<ConfiguredRule> = Vec::new();
    for table in &effective.rules {
        let unusable = |why: String| {
            let place = &table.place;
            ConfigError::Unusable(format!("{place}: [[rules]]: {why}"))
        };
        let rule = rule(&table.keys).map_err(unusable)?;
        if rules.iter().any(|other| other.name == rule.name) {
            let why = format!("there is another rule {:?} above", rule.name);
            return Err(unusable(why));
        }
        rules.push(rule);
    }
    let alarms = &effective.settings().alarms;
    Ok(RulesConfig {
        rules,
        watches_node: alarms.watch_node,
        trouble_ms: i64::from(alarms.integration_after_secs) * MS_OF_SECOND,
        lag_ms: alarms.integration_lag_secs * 1_000,
        kept: AlarmsKept {
            age_ms: i64::from(alarms.kept_days) * MS_OF_DAY,
            alarms: alarms.kept.into(),
        },
    })
}

fn rule(keys: &Map<String, Value>) -> Result<ConfiguredRule, String> {
    let mut keys = keys.clone();
    let mut text = |key: &str| match keys.remove(key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("`{key}` is {other}, expected text in quotes")),
    };
    let (name, team) = (text(NAME)?, text(TENANT)?);
    if name.is_empty() {
        return Err(format!("it needs `{NAME}`"));
    }
    let named = |why: String| format!("{name:?}: {why}");
    let definition: Definition =
        serde_json::from_value(Value::Object(keys)).map_err(|error| named(error.to_string()))?;
    let rule = ConfiguredRule {
        name: name.clone(),
        team,
        definition,
    };
    rule.check().map_err(|error| named(error.to_string()))?;
    Ok(rule)
}

/// A table of the file as JSON.
pub(super) fn keys_of(table: &DeTable<'_>) -> Map<String, Value> {
    let entries = table.iter();
    entries
        .map(|(key, value)| (key.get_ref().to_string(), json_of(value.get_ref())))
        .collect()
}

fn array_of(array: &DeArray<'_>) -> Value {
    array.iter().map(|value| json_of(value.get_ref())).collect()
}

fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| number.as_str().into(), Value::from)
        }
        DeValue::Float(number) => {
            let parsed: Result<f64, _> = number.as_str().parse();
            parsed.map_or_else(|_| number.as_str().into(), Value::from)
        }
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(array) => array_of(array),
        DeValue::Table(table) => Value::Object(keys_of(table)),
    }
}
