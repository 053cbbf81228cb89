//! Warnings about Topic Filters with `*`.

use martlet_access::star_warning_of;
use martlet_integrate::bridge::{DEFAULT_QOS, TopicRule};

use super::load::Effective;
use martlet_settings::Value;

/// Warnings about the filters of integrations, rules and lists.
pub(super) fn warnings(effective: &Effective) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |place: &str, filters: &[&str]| {
        let why = star_warning_of(filters.iter().copied());
        found.extend(why.map(|why| format!("{place}: {why}")));
    };
    for table in &effective.sinks {
        for key in ["filters", "topics"] {
            let Some(sourced) = table.keys.get(key) else {
                continue;
            };
            let Value::Texts(texts) = &sourced.value else {
                continue;
            };
            // A topic of a bridge is a line that begins with its filter.
            let rules: Vec<Option<TopicRule>> = texts
                .iter()
                .map(|text| TopicRule::parse(text, DEFAULT_QOS).ok())
                .collect();
            let filters = texts.iter().zip(&rules).map(|(text, rule)| match rule {
                Some(rule) if key == "topics" => &*rule.filter,
                _ => text.as_str(),
            });
            let filters: Vec<&str> = filters.collect();
            let place = format!("{}: [[{}]]: {key}", sourced.source, table.section());
            look(&place, &filters);
        }
    }
    for table in &effective.rules {
        let topics = table
            .keys
            .get("topics")
            .and_then(|topics| topics.as_array());
        let topics = topics.into_iter().flatten();
        let topics: Vec<&str> = topics.filter_map(|topic| topic.as_str()).collect();
        look(&format!("{}: [[rules]]: topics", table.place), &topics);
    }
    for table in &effective.telemetry_rules {
        let topic = table.topic.as_deref().unwrap_or_default();
        let place = format!("{}: [[telemetry.rules]]: topic", table.source("topic"));
        look(&place, &[topic]);
    }
    let settings = effective.settings();
    for (key, list) in [
        (key!(topic_memory.filters), &settings.topic_memory.filters),
        (key!(messages.keep), &settings.messages.keep),
    ] {
        let filters: Vec<&str> = list.items().collect();
        look(&format!("{}: {key}", effective.source(key)), &filters);
    }
    found
}
