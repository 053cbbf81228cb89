//! The configuration file.

use std::path::Path;

use martlet_text_file::text_without_bom;
use toml::de::{DeArray, DeTable, DeValue};

use super::check::{KeyValues, Sourced};
use super::check::{known_key, unit_hint};
use super::effective::{Effective, SinkTable};
use super::table::{HttpListenerTable, ListenerTable, Table};
use crate::config::bridges::topic_line;
use crate::config::error::ConfigError;
use crate::config::mosquitto::is_keyword;
use crate::config::nearest::nearest_of;
use crate::config::regular_file;
use crate::config::rule_table::{RuleTable, keys_of};
use crate::config::rules::keys as rule_keys;
use crate::config::schema::{HttpListenerKeys, Key, ListenerKeys};
use crate::config::telemetry::tables as tables_of_telemetry;
use martlet_integrate::{KINDS, Kind};
use martlet_settings::{TableKeys, Takes, Value};

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> String {
        let line = self.text[..offset].matches('\n').count() + 1;
        format!("{} line {line}", self.path.display())
    }

    fn listener(&self, table: &toml::Spanned<DeValue<'_>>) -> Result<ListenerTable, ConfigError> {
        let place = self.place(table.span().start);
        let listener = self.listed::<ListenerKeys>("listeners", table)?;
        if listener.url.is_none() {
            let text =
                format!("{place}: a listener needs `url`, such as \"mqtt://127.0.0.1:1883\"");
            return Err(ConfigError::Unusable(text));
        }
        Ok(listener)
    }

    fn http_listener(
        &self,
        table: &toml::Spanned<DeValue<'_>>,
    ) -> Result<HttpListenerTable, ConfigError> {
        let place = self.place(table.span().start);
        let listener = self.listed::<HttpListenerKeys>("http_listeners", table)?;
        if listener.url.is_none() {
            let text =
                format!("{place}: an HTTP listener needs `url`, such as \"http://127.0.0.1:9091\"");
            return Err(ConfigError::Unusable(text));
        }
        Ok(listener)
    }

    /// Reads the tables `[[sinks.KIND]]`, or those of sources.
    pub(super) fn sinks(
        &self,
        section: &str,
        kinds: &DeTable<'_>,
    ) -> Result<Vec<SinkTable>, ConfigError> {
        let mut sinks = Vec::new();
        for (kind, tables) in kinds {
            let name = &**kind.get_ref();
            let place = self.place(kind.span().start);
            let mut all = KINDS.iter().filter(|known| known.section == section);
            let Some(known) = all.find(|known| known.name == Some(name)) else {
                return Err(unknown_kind(place, section, name));
            };
            let DeValue::Array(tables) = tables.get_ref() else {
                return Err(no_tables(place, &known.table(), tables.get_ref()));
            };
            sinks.extend(self.tables_of(known, tables)?);
        }
        Ok(sinks)
    }

    /// Reads the tables `[[bridges]]`.
    pub(super) fn bridges(&self, tables: &DeArray<'_>) -> Result<Vec<SinkTable>, ConfigError> {
        let bridges = KINDS.iter().filter(|known| known.section == "bridges");
        let bridges = bridges.map(|known| self.tables_of(known, tables));
        Ok(bridges.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Reads the tables of a kind of integration.
    fn tables_of(&self, known: &Kind, tables: &DeArray<'_>) -> Result<Vec<SinkTable>, ConfigError> {
        let section = known.table();
        let keys = (known.keys)();
        let tables = tables.iter().map(|table| {
            Ok(SinkTable {
                kind: known.kind.to_owned(),
                place: self.place(table.span().start),
                may_be_private: false,
                keys: self.table(&section, &keys, table)?,
            })
        });
        tables.collect()
    }

    /// Reads the tables `[[telemetry.NAME]]`. Returns false for another key.
    fn telemetry(
        &self,
        name: &str,
        place: &str,
        value: &DeValue<'_>,
        effective: &mut Effective,
    ) -> Result<bool, ConfigError> {
        let section = format!("telemetry.{name}");
        match (name, value) {
            ("rules", DeValue::Array(tables)) => {
                let rules = self.needing(&section, "topic", tables)?;
                effective.telemetry_rules.extend(rules);
            }
            ("retention", DeValue::Array(tables)) => {
                let retention = self.needing(&section, "type", tables)?;
                effective.telemetry_retention.extend(retention);
            }
            ("rules" | "retention", other) => {
                return Err(no_tables(place.to_owned(), &section, other));
            }
            (name, DeValue::Array(_)) => {
                let names = tables_of_telemetry().map(|(known, _)| known);
                let hint = nearest_of(names.into_iter(), name);
                return Err(ConfigError::UnknownKey {
                    place: place.to_owned(),
                    key: format!("[[{section}]]"),
                    hint: hint.map(|known| format!("[[telemetry.{known}]]")),
                });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads tables of a list, each with a required key.
    fn needing<T: TableKeys>(
        &self,
        section: &str,
        needed: &str,
        tables: &DeArray<'_>,
    ) -> Result<Vec<Table<T>>, ConfigError> {
        let tables = tables.iter().map(|table| {
            let found = self.listed::<T>(section, table)?;
            match found.values().contains_key(needed) {
                true => Ok(found),
                false => {
                    let place = self.place(table.span().start);
                    let text = format!("{place}: [[{section}]] needs `{needed}`");
                    Err(ConfigError::Unusable(text))
                }
            }
        });
        tables.collect()
    }

    /// Reads the tables `[[rules]]`. Their contents are checked after the whole configuration has
    /// been read.
    fn rules(&self, tables: &DeArray<'_>) -> Result<Vec<RuleTable>, ConfigError> {
        let tables = tables.iter().map(|table| {
            let place = self.place(table.span().start);
            match table.get_ref() {
                DeValue::Table(entries) => {
                    for key in entries.keys() {
                        self.check_name(rule_keys(), key)?;
                    }
                    Ok(RuleTable {
                        place,
                        keys: keys_of(entries),
                    })
                }
                other => Err(no_tables(place, "rules", other)),
            }
        });
        tables.collect()
    }

    /// Reads a table of a list with typed keys.
    fn listed<T: TableKeys>(
        &self,
        section: &str,
        table: &toml::Spanned<DeValue<'_>>,
    ) -> Result<Table<T>, ConfigError> {
        Table::of(self.table(section, &T::keys(), table)?)
    }

    /// Reads a table of a list and its keys.
    fn table(
        &self,
        section: &str,
        keys: &[martlet_settings::Key],
        table: &toml::Spanned<DeValue<'_>>,
    ) -> Result<KeyValues, ConfigError> {
        let DeValue::Table(entries) = table.get_ref() else {
            let place = self.place(table.span().start);
            return Err(no_tables(place, section, table.get_ref()));
        };
        let mut found = KeyValues::new();
        for (key, value) in entries {
            let place = self.place(key.span().start);
            let name = &**key.get_ref();
            self.check_name(keys.iter().map(|known| known.name), key)?;
            let Some(known) = keys.iter().find(|known| known.name == name) else {
                continue;
            };
            let value = self.value(known.takes, known.is_list, name, value, &place)?;
            found.insert(
                name.to_owned(),
                Sourced {
                    value,
                    source: place,
                },
            );
        }
        Ok(found)
    }

    /// Checks that a key is one of these.
    ///
    /// # Errors
    /// It is none, with the nearest one.
    fn check_name<'a>(
        &self,
        known: impl Iterator<Item = &'a str> + Clone,
        key: &toml::Spanned<std::borrow::Cow<'_, str>>,
    ) -> Result<(), ConfigError> {
        let name = &**key.get_ref();
        match known.clone().any(|known| known == name) {
            true => Ok(()),
            false => Err(ConfigError::UnknownKey {
                place: self.place(key.span().start),
                key: name.to_owned(),
                hint: nearest_of(known, name),
            }),
        }
    }

    /// Reads the topics of a bridge as lines.
    fn topics(&self, topics: &DeArray<'_>) -> Result<Vec<String>, ConfigError> {
        let lines = topics.iter().map(|topic| {
            topic_line(topic.get_ref()).map_err(|why| {
                let place = self.place(topic.span().start);
                ConfigError::Unusable(format!("{place}: topics: {why}"))
            })
        });
        lines.collect()
    }

    pub(super) fn value(
        &self,
        takes: Takes,
        is_list: bool,
        key: &str,
        value: &toml::Spanned<DeValue<'_>>,
        place: &str,
    ) -> Result<Value, ConfigError> {
        let written = self.text.get(value.span()).unwrap_or_default();
        let parsed = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(Value::Integer),
            DeValue::Boolean(flag) => Some(Value::Boolean(*flag)),
            DeValue::Array(topics) if takes == Takes::Topics => {
                Some(Value::Texts(self.topics(topics)?))
            }
            DeValue::String(text) if matches!(takes, Takes::Texts | Takes::Topics) => {
                Some(Value::Texts(vec![text.to_string()]))
            }
            DeValue::String(text) if takes == Takes::Headers => {
                Some(Value::Headers(vec![text.to_string()]))
            }
            DeValue::String(text) => Some(text_of(takes, text.to_string())),
            DeValue::Array(texts) if takes == Takes::Texts => texts_of(texts).map(Value::Texts),
            DeValue::Array(texts) if takes == Takes::Headers => texts_of(texts).map(Value::Headers),
            DeValue::Array(texts) if is_list => joined(texts).map(|text| text_of(takes, text)),
            _ => None,
        };
        let is_secret = matches!(takes, Takes::Secret | Takes::Headers);
        let got = match &parsed {
            Some(value) if !is_secret => value.to_string(),
            None if !is_secret => shortened(written),
            _ => "of another type".to_owned(),
        };
        let expected = match value.get_ref() {
            DeValue::Array(_) if is_list => "a list of texts without commas".to_owned(),
            _ if is_list => takes.expectation(true),
            _ => takes.expectation(false) + &unit_hint(key, takes, got.trim_matches('"')),
        };
        parsed
            .filter(|value| takes.fits(value))
            .ok_or_else(|| ConfigError::Value {
                place: place.to_owned(),
                key: key.to_owned(),
                got,
                expected,
            })
    }
}

pub(super) fn read_file(
    path: &Path,
    schema: &[Key],
    effective: &mut Effective,
) -> Result<(), ConfigError> {
    let text = regular_file::read_named_text(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let text = text_without_bom(&text);
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        text: syntax_error(text, &error),
    })?;
    let file = File { path, text };
    for (section, content) in table.get_ref() {
        let place = file.place(section.span().start);
        match (&**section.get_ref(), content.get_ref()) {
            ("listeners", DeValue::Array(tables)) => {
                for table in tables.iter() {
                    effective.listeners.push(file.listener(table)?);
                }
            }
            ("http_listeners", DeValue::Array(tables)) => {
                for table in tables.iter() {
                    effective.http_listeners.push(file.http_listener(table)?);
                }
            }
            (name @ ("sinks" | "sources"), DeValue::Table(kinds)) => {
                effective.sinks.extend(file.sinks(name, kinds)?);
            }
            ("bridges", DeValue::Array(tables)) => {
                effective.sinks.extend(file.bridges(tables)?);
            }
            ("rules", DeValue::Array(tables)) => {
                effective.rules.extend(file.rules(tables)?);
            }
            (name, table @ DeValue::Table(_)) if LISTS.contains(&name) => {
                return Err(no_tables(place, name, table));
            }
            (name, DeValue::Table(entries)) => {
                if !is_section(schema, name) {
                    return Err(unknown_section(schema, name, format!("[{name}]"), place));
                }
                for (key, value) in entries {
                    let place = file.place(key.span().start);
                    let entry = key.get_ref();
                    if name == "telemetry"
                        && file.telemetry(entry, &place, value.get_ref(), effective)?
                    {
                        continue;
                    }
                    let dotted = format!("{name}.{}", key.get_ref());
                    let known = known_key(schema, &dotted, &place)?;
                    let value = file.value(known.takes, known.is_list, &dotted, value, &place)?;
                    let source = place;
                    effective.set(&dotted, Sourced { value, source })?;
                }
            }
            (name, DeValue::Array(_)) if !is_known(schema, name) => {
                return Err(unknown_section(schema, name, format!("[[{name}]]"), place));
            }
            (name, _) => return Err(outside_sections(schema, name, place)),
        }
    }
    Ok(())
}

/// Names of lists of tables at the top of the file.
const LISTS: [&str; 4] = ["listeners", "http_listeners", "bridges", "rules"];

/// Names of tables of kinds of integrations, and the first kind of each.
const KINDS_OF: [(&str, &str); 2] = [("sinks", "sinks.file"), ("sources", "sources.nats")];

/// Whether there is a section, or a list of tables, of this name.
fn is_known(schema: &[Key], name: &str) -> bool {
    let is_kind = KINDS_OF.iter().any(|(known, _)| *known == name);
    is_section(schema, name) || LISTS.contains(&name) || is_kind
}

fn is_section(schema: &[Key], name: &str) -> bool {
    let mut all = schema.iter().filter_map(|key| key.path.split_once('.'));
    all.any(|(section, _)| section == name)
}

/// The error for a section or a list of tables that does not exist.
fn unknown_section(schema: &[Key], name: &str, key: String, place: String) -> ConfigError {
    let sections = schema.iter().filter_map(|key| key.path.split_once('.'));
    let sections = sections.map(|(section, _)| (section, format!("[{section}]")));
    let lists = LISTS.iter().map(|list| (*list, format!("[[{list}]]")));
    let kinds = KINDS_OF
        .iter()
        .map(|(name, kind)| (*name, format!("[[{kind}]]")));
    let all: Vec<(&str, String)> = sections.chain(lists).chain(kinds).collect();
    let nearest = nearest_of(all.iter().map(|(known, _)| *known), name);
    let mut all = all.into_iter();
    let found = nearest.and_then(|nearest| all.find(|(known, _)| *known == nearest));
    ConfigError::UnknownKey {
        place,
        key,
        hint: found.map(|(_, shown)| shown),
    }
}

/// The error for a key before the first section, or a section that is written as a value.
fn outside_sections(schema: &[Key], name: &str, place: String) -> ConfigError {
    if is_known(schema, name) {
        let expected = match name {
            name if LISTS.contains(&name) => format!("[[{name}]] tables"),
            "sinks" | "sources" => format!("[[{name}.KIND]] tables"),
            name => format!("a section, [{name}]"),
        };
        return ConfigError::Value {
            place,
            key: name.to_owned(),
            got: "a value".to_owned(),
            expected,
        };
    }
    // `packet_bytes` without a section belongs to a section that is missing above it.
    let mut whole = schema.iter().map(|key| &*key.path);
    let whole = whole.find(|path| path.split_once('.').is_some_and(|(_, key)| key == name));
    ConfigError::UnknownKey {
        place,
        key: name.to_owned(),
        hint: whole.map(str::to_owned),
    }
}

/// The value as written, if it is short.
fn shortened(written: &str) -> String {
    const SHOWN: usize = 60;
    let line = written.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < written.len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

fn text_of(takes: Takes, text: String) -> Value {
    match takes {
        Takes::Secret => Value::Secret(text.into()),
        _ => Value::Text(text),
    }
}

/// The error for a kind of sinks or sources that does not exist. Without a similar one, it lists
/// all.
fn unknown_kind(place: String, section: &str, name: &str) -> ConfigError {
    let all = KINDS.iter().filter(|known| known.section == section);
    let all: Vec<&str> = all.filter_map(|known| known.name).collect();
    let key = format!("[[{section}.{name}]]");
    match nearest_of(all.iter().copied(), name) {
        Some(kind) => ConfigError::UnknownKey {
            place,
            key,
            hint: Some(format!("[[{section}.{kind}]]")),
        },
        None => ConfigError::Unusable(format!(
            "{place}: unknown kind `{key}`; there are {}",
            all.join(", ")
        )),
    }
}

/// The error for a value where a list of tables is expected.
fn no_tables(place: String, section: &str, value: &DeValue<'_>) -> ConfigError {
    if matches!(value, DeValue::Table(_)) {
        return ConfigError::Unusable(format!(
            "{place}: [{section}] is one table, and there may be several: write [[{section}]]"
        ));
    }
    ConfigError::Value {
        place,
        key: section.to_owned(),
        got: "no table".to_owned(),
        expected: format!("[[{section}]] tables"),
    }
}

/// A list of texts; `None` if it contains other values.
fn texts_of(texts: &DeArray<'_>) -> Option<Vec<String>> {
    let texts = texts.iter().map(|text| match text.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    });
    texts.collect()
}

/// A list of texts joined by commas; `None` if it contains other values, or a text with several
/// values.
fn joined(texts: &DeArray<'_>) -> Option<String> {
    let texts = texts.iter().map(|text| match text.get_ref() {
        DeValue::String(text) if !text.contains(',') => Some(text.as_ref()),
        _ => None,
    });
    Some(texts.collect::<Option<Vec<&str>>>()?.join(","))
}

/// The place of a syntax error and what was expected. Only the part of the line before `=` is
/// shown, because the value may be a password.
fn syntax_error(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or(text);
    let line_at = before.rfind('\n').map_or(0, |end| end + 1);
    let number = before.matches('\n').count() + 1;
    let column = before[line_at..].chars().count() + 1;
    let line = text[line_at..].lines().next().unwrap_or_default();
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let named = match key.is_empty() {
        true => String::new(),
        false => format!(" ({key})"),
    };
    let message = error.message().replace("\\u{a}", "end of line");
    let first = line.split_whitespace().next().unwrap_or_default();
    let hint = match key.is_empty() && is_keyword(first) {
        true => "; a configuration file of Mosquitto is given with --mosquitto-conf FILE",
        false => "",
    };
    format!("line {number}, column {column}{named}: {message}{hint}")
}
