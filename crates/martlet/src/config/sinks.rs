//! Converts the tables `[[sinks.KIND]]` to integrations. They exist only in the file, so that
//! everybody who can write the configuration decides which files it writes.

use std::path::Path;

use futures_util::future::join_all;
use martlet_control::integrations::{AllowedNetworks, ConfiguredSink, DeadLettersKept, Target};
use martlet_integrate::file::check_path;
use martlet_integrate::{KINDS, Surroundings};

use super::error::ConfigError;
use super::load::{Effective, SinkTable};
use super::sink_files::{OwnFiles, meet};
use martlet_settings::Values;

/// The integrations of a node.
#[derive(Clone, Debug)]
pub(crate) struct SinksConfig {
    pub(crate) sinks: Vec<ConfiguredSink>,
    pub(crate) dead_letters: DeadLettersKept,
    /// `integrations.allow_private`.
    pub(crate) allowed: AllowedNetworks,
    /// Whether queues of sinks that are no longer configured are removed. Not without a
    /// configuration file, since it was then probably forgotten.
    pub(crate) removes_others: bool,
    /// Targets of integrations, each after its place in the configuration.
    pub(crate) targets: Vec<(String, Target)>,
}

/// Resolves all sinks.
///
/// # Errors
/// A key is missing or invalid, two sinks have the same name or file, or one has a file of the
/// node.
pub(super) fn sinks(effective: &Effective, data_dir: &Path) -> Result<SinksConfig, ConfigError> {
    let allowed = allowed_networks(effective, &[])?;
    let allowed_or_private = allowed_networks(effective, PRIVATE)?;
    let own_files = OwnFiles::new(effective, data_dir);
    let mut sinks: Vec<(ConfiguredSink, &str)> = Vec::new();
    let mut targets = Vec::new();
    for table in &effective.sinks {
        let unusable = |why: String| {
            let (place, section) = (&table.place, table.section());
            ConfigError::Unusable(format!("{place}: [[{section}]]: {why}"))
        };
        let surroundings = Surroundings {
            data_dir,
            allowed: match table.may_be_private {
                true => &allowed_or_private,
                false => &allowed,
            },
            owner: "",
        };
        let values = values_of(table);
        let sink = sink_of(&table.kind, &values, &surroundings).map_err(unusable)?;
        let place = format!("{}: [[{}]]", table.place, table.section());
        targets.extend(sink.settings.target.clone().map(|target| (place, target)));
        if let Some(why) = sink.files().iter().find_map(|path| own_files.refuses(path)) {
            return Err(unusable(why));
        }
        for (other, place) in &sinks {
            if let Some(why) = clash(&sink, other) {
                return Err(unusable(format!("{why}, as the sink at {place}")));
            }
        }
        sinks.push((sink, &table.place));
    }
    Ok(SinksConfig {
        sinks: sinks.into_iter().map(|(sink, _)| sink).collect(),
        dead_letters: DeadLettersKept {
            letters: effective.settings().dead_letters.kept,
            bytes: effective.settings().dead_letters.kept_bytes,
        },
        allowed,
        removes_others: effective.own_file.is_some(),
        targets,
    })
}

/// Integrations that may not connect to an address of their target, one sentence each. Names are
/// looked up.
pub(crate) async fn refused_targets(config: &SinksConfig) -> Vec<String> {
    let targets = config.targets.iter().map(|(_, target)| target.looked_up());
    let found = join_all(targets).await;
    let refused = config.targets.iter().zip(&found);
    let refused = refused.filter_map(|((place, _), target)| {
        let (what, why) = match target.refused_all() {
            Some(why) => ("it will not connect", why),
            None => (
                "it will not connect to each address of its target",
                target.refused()?,
            ),
        };
        Some(format!("{place}: {what}: {why}"))
    });
    refused.collect()
}

/// Integrations that cannot write or connect at present because of their files, one sentence each.
/// They do not prevent the start: the node stores their messages until they can.
pub(crate) fn unusable_files(config: &SinksConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    for sink in &config.sinks {
        let name = &sink.settings.name;
        for why in sink
            .files()
            .iter()
            .filter_map(|path| check_path(path).err())
        {
            warnings.push(format!(
                "the sink {name:?} could not write now, so its messages wait until it can: {why}"
            ));
        }
        for path in sink.read_files() {
            // A directory of CAs can be opened like a file.
            if let Err(error) = std::fs::File::open(path) {
                let path = path.display();
                warnings.push(format!(
                    "the integration {name:?} could not connect now: {path} cannot be read: {error}"
                ));
            }
        }
    }
    warnings
}

/// A warning if the default connection of requests is not a configured integration.
pub(crate) fn unknown_default(effective: &Effective, config: &SinksConfig) -> Option<String> {
    let key = key!(integrations.default_connection);
    let name = effective
        .settings()
        .integrations
        .default_connection
        .as_str();
    let mut connections = config.sinks.iter().filter_map(ConfiguredSink::connection);
    if ["", "internal"].contains(&name) || connections.any(|one| one.name() == name) {
        return None;
    }
    let source = effective.source(key);
    Some(format!(
        "{source}: {key} is {name:?}, but that connection does not exist: requests that name no \
         broker will fail. Name a bridge with connection = true, set MQTT_{}_HOST, or use internal \
         for this node",
        name.to_uppercase()
    ))
}

/// Private networks of machines and containers. Link-local addresses are not included, because
/// cloud services that issue credentials have such addresses.
const PRIVATE: &[&str] = &[
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fc00::/7",
];

/// `integrations.allow_private` and further networks.
fn allowed_networks(effective: &Effective, more: &[&str]) -> Result<AllowedNetworks, ConfigError> {
    let texts = effective.settings().integrations.allow_private.items();
    AllowedNetworks::parse(texts.chain(more.iter().copied())).map_err(|text| {
        ConfigError::Unusable(format!(
            "integrations.allow_private has {text:?}, expected networks such as 10.1.0.0/16"
        ))
    })
}

/// The values of a table.
fn values_of(table: &SinkTable) -> Values {
    let values = table.keys.iter();
    let values = values.map(|(key, sourced)| (key.clone(), sourced.value.clone()));
    values.collect()
}

/// Converts values to an integration of this kind.
///
/// # Errors
/// A key is missing or invalid.
pub(super) fn sink_of(
    kind: &str,
    values: &Values,
    surroundings: &Surroundings<'_>,
) -> Result<ConfiguredSink, String> {
    match KINDS.iter().find(|known| known.kind == kind) {
        Some(known) => (known.make)(values, surroundings),
        None => {
            let names: Vec<&str> = KINDS.iter().map(|known| known.kind).collect();
            Err(format!(
                "unknown kind {kind:?}, expected one of {}",
                names.join(", ")
            ))
        }
    }
}

/// Why two sinks conflict, if they do.
fn clash(one: &ConfiguredSink, other: &ConfiguredSink) -> Option<String> {
    let (own, others) = (&one.settings, &other.settings);
    if (own.kind, &own.name) == (others.kind, &others.name) {
        return Some(format!(
            "it has the name {:?}, which only one {} sink of the node may have, of whatever team",
            own.name, own.kind
        ));
    }
    let mut files = one.files().iter();
    let path = files.find(|path| other.files().iter().any(|its| meet(path, its)))?;
    Some(format!("it writes the file {}", path.display()))
}

#[cfg(test)]
#[path = "sinks_tests.rs"]
mod tests;
