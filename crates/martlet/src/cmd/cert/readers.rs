//! Finds out whether a node reads a revocation list.
//!
//! Responsible for querying the running node, or else the configuration with which it would start.
//! Does not change the list.

use std::path::{Path, PathBuf};

use martlet_certificates::ClientCertificates;
use martlet_control::text::typed;
use serde_json::Value;

use crate::cmd::admin;
use crate::cmd::node_options::NodeOptions;
use crate::config;

/// Result of the search.
pub(super) struct Reading {
    /// Whether the node reads the list; `None` if no node and no configuration was found.
    pub(super) is_read: Option<bool>,
    /// Result as text, with the next steps.
    pub(super) text: String,
}

/// Settings of a configuration about client certificates.
#[derive(Debug, Default)]
struct Trust {
    /// The revocation lists of the node and its listeners.
    lists: Vec<PathBuf>,
    /// Whether any listener requests certificates.
    asks: bool,
}

/// Determines whether a node reads this list.
pub(super) fn of(list: &Path, node: &NodeOptions) -> Reading {
    let beside = beside(list);
    let node = match &beside {
        Some(file) if !node.is_named() => &NodeOptions::of_file(file.clone()),
        _ => node,
    };
    let running = node.data_dir_anyway().ok();
    let running = running.filter(|data_dir| admin::may_ask(data_dir).is_ok_and(|may| may));
    if let Some(data_dir) = running
        && let Ok(trust) = of_running(&data_dir)
    {
        let place = format!("the running node of {}", data_dir.display());
        let then = format!(
            "martlet reload --data-dir {}",
            typed(&data_dir.display().to_string())
        );
        return report(list, &trust, &place, &then);
    }
    match node.load() {
        Ok(effective) if node.is_named() => {
            let place = match &effective.own_file {
                Some(file) => format!("a node that is started with {}", file.display()),
                None => "a node that is started with this configuration".to_owned(),
            };
            report(
                list,
                &of_configuration(&effective),
                &place,
                "start the node",
            )
        }
        _ => Reading {
            is_read: None,
            text: format!(
                "next: no running node was found; a node rejects these certificates only with \
                 --set tls.client_crl={} (-c FILE or --data-dir DIR names the node)",
                list.display()
            ),
        },
    }
}

/// The configuration that `martlet init` writes next to the directory of its authority.
pub(super) fn beside(list: &Path) -> Option<PathBuf> {
    let directory = std::path::absolute(list.parent()?).ok()?;
    let file = directory.parent()?.join("martlet.toml");
    file.is_file().then_some(file)
}

fn report(list: &Path, trust: &Trust, place: &str, then: &str) -> Reading {
    let found = |path: &Path| path.canonicalize().ok();
    let own = found(list);
    let is_listed = trust
        .lists
        .iter()
        .any(|path| path == list || found(path) == own);
    let absolute = std::path::absolute(list).unwrap_or_else(|_| list.to_owned());
    let text = match (is_listed, trust.asks) {
        (true, true) => format!("{place} reads this list by itself, within a second"),
        (_, false) => format!(
            "note: {place} requests no client certificates (client_certificates is off), so the \
             list has no effect there"
        ),
        (false, true) => format!(
            "WARNING: {place} does not read this list and still accepts these certificates: set \
             tls.client_crl = \"{}\", then {then}",
            absolute.display()
        ),
    };
    Reading {
        is_read: Some(is_listed && trust.asks),
        text,
    }
}

/// Settings of the running node.
fn of_running(data_dir: &Path) -> anyhow::Result<Trust> {
    let shown = admin::ask(data_dir, "GET", "/api/v1/config")?;
    let shown: Value = serde_json::from_str(&shown)?;
    let mut trust = Trust::default();
    let general = shown["values"].as_array().into_iter().flatten();
    for value in general {
        trust.add(value["key"].as_str().unwrap_or_default(), &value["value"]);
    }
    let own = shown["listeners"].as_array().into_iter().flatten();
    for (key, value) in own.filter_map(Value::as_object).flatten() {
        trust.add(key, &value["value"]);
    }
    Ok(trust)
}

/// Settings of a configuration.
fn of_configuration(effective: &config::Effective) -> Trust {
    let own = effective.listeners.iter();
    let own = own.filter_map(|table| table.client_certificates);
    let general = effective.settings().tls.client_certificates;
    Trust {
        lists: effective.paths(|tls| &tls.client_crl, |listener| &listener.client_crl),
        asks: own
            .chain([general])
            .any(|asked| asked != ClientCertificates::Off),
    }
}

impl Trust {
    fn add(&mut self, key: &str, value: &Value) {
        let text = value.as_str().unwrap_or_default();
        match key.strip_prefix("tls.").unwrap_or(key) {
            "client_crl" if !text.is_empty() => self.lists.push(PathBuf::from(text)),
            "client_certificates" => self.asks |= text != "off",
            _ => {}
        }
    }
}
