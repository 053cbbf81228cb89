//! Rules about messages, and alarms.

use martlet_control::alarms::AlarmsKept;
use martlet_control::rules::{ConfiguredRule, Definition};
use serde_json::{Map, Value};

use super::error::ConfigError;
use super::load::Effective;

const MS_OF_SECOND: i64 = 1_000;
const MS_OF_DAY: i64 = 86_400_000;
/// Keys of a table in addition to those of the rule itself.
const NAME: &str = "name";
const TENANT: &str = "tenant";

/// Keys of a table.
pub(super) fn keys() -> impl Iterator<Item = &'static str> + Clone {
    Definition::keys().iter().copied().chain([NAME, TENANT])
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
/// A rule is invalid, or two have the same name.
pub(super) fn of(effective: &Effective) -> Result<RulesConfig, ConfigError> {
    let mut rules: Vec<ConfiguredRule> = Vec::new();
    for table in &effective.rules {
        let unusable = |why: String| {
            let place = &table.place;
            ConfigError::Unusable(format!("{place}: [[rules]]: {why}"))
        };
        let rule = rule(&table.keys).map_err(unusable)?;
        if rules.iter().any(|other| other.name == rule.name) {
            let why = format!("another rule {:?} exists above", rule.name);
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
