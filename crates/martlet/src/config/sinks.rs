//! Converts the tables `[[sinks.KIND]]` to integrations. They exist only in the file, so that
//! everybody who can write the configuration decides which files it writes.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use martlet_broker::{OnFull, PartQueueLimits};
use martlet_codec::{SubscriptionFilter, TopicFilter};
use martlet_control::integrations::{AllowedNetworks, ConfiguredSink, DeadLettersKept, Target};
use martlet_integrate::file::check_path;
use martlet_integrate::{
    ALL_TENANTS, Backoff, KINDS, MAX_ATTEMPTS, OnReject, Order, SOURCES, SecretValue, Settings,
    Surroundings, Table, TableValue, bridge, name_of_team,
};

use super::error::ConfigError;
use super::load::{Effective, SinkTable};
use super::schema::Value;
use super::sink_files::{OwnFiles, meet};

/// Longest name of a sink, in bytes.
const NAME_BYTES_MAX: usize = 64;

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
fn values_of(table: &SinkTable) -> Table {
    let values = table.keys.iter();
    values
        .map(|(key, sourced)| (key.clone(), value_of(&sourced.value)))
        .collect()
}

/// Converts values to a sink of this kind.
///
/// # Errors
/// A key is missing or invalid.
pub(super) fn sink_of(
    kind: &str,
    values: &Table,
    surroundings: &Surroundings<'_>,
) -> Result<ConfiguredSink, String> {
    let sources = SOURCES.iter().map(|(_, kind)| kind);
    let kinds = KINDS.iter().chain(sources).chain([&bridge::KIND]);
    let found = kinds.clone().find(|known| known.name == kind);
    let kind = found.ok_or_else(|| {
        let names: Vec<&str> = kinds.map(|known| known.name).collect();
        format!(
            "unknown kind {kind:?}, expected one of {}",
            names.join(", ")
        )
    })?;
    let mut sink = (kind.make)(values, surroundings, common(kind.name, values)?)?;
    let target = target_of(values);
    sink.settings.target = target.map(|url| Target::of(&url, surroundings.allowed));
    Ok(sink)
}

/// The URL of the target of an integration; none: it has none.
fn target_of(values: &Table) -> Option<String> {
    let url = values.text("url").map(str::to_owned);
    // The server of mails, whose address of IPv6 may have no brackets.
    let server = || {
        values
            .text("server")
            .map(|host| host.trim_matches(['[', ']']))
    };
    url.or_else(|| Some(format!("smtp://[{}]", server()?)))
}

fn value_of(value: &Value) -> TableValue {
    match value {
        Value::Integer(number) => TableValue::Number(*number),
        Value::Boolean(flag) => TableValue::Flag(*flag),
        Value::Text(text) => TableValue::Text(text.clone()),
        Value::Texts(texts) | Value::Headers(texts) => TableValue::Texts(texts.clone()),
        Value::Secret(text) => TableValue::Secret(SecretValue::new(text.text().to_owned())),
    }
}

/// A key with the team whose name this is, of integrations that teams have added: no key of the
/// configuration.
pub(crate) const OWNER: &str = "owner";

/// Checks the name of an integration.
///
/// # Errors
/// It is none; the reason in words.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    match is_name(name) {
        true => Ok(()),
        false => Err(format!(
            "`name` is {name:?}, expected letters, digits, -, _ and ., {NAME_BYTES_MAX} at most, \
             not - first, and neither . nor .."
        )),
    }
}

/// The settings that all kinds of sinks share.
fn common(kind: &'static str, table: &Table) -> Result<Settings, String> {
    let name = table.text("name").unwrap_or_default();
    check_name(name)?;
    let filters = table.texts("filters");
    // A bridge derives filters from its topics, and a source has none.
    let is_sink = KINDS.iter().any(|sink| sink.name == kind);
    if filters.is_empty() && is_sink {
        return Err("`filters` is missing, expected a list such as [\"plant/#\"]".to_owned());
    }
    for (at, filter) in filters.iter().enumerate() {
        check_filter(filter)?;
        if filters[..at].contains(filter) {
            return Err(format!("`filters` has {filter:?} twice; name it once"));
        }
    }
    if table.has("publish_as") && table.text("publish_as").is_none() {
        return Err(
            "`publish_as` is empty: name the user or device by whose rules messages are \
             published, or leave it out to publish as the node"
                .to_owned(),
        );
    }
    let order = Order::of_word(table.text("order").unwrap_or_default());
    let tenant = table.text("tenant").unwrap_or_default();
    if tenant == ALL_TENANTS && order.needs_one_queue() {
        return Err(
            "`order` is user or topic, for which the node has one queue, and a queue subscribes for \
             one tenant: set `tenant` to one team, or leave out `order`"
                .to_owned(),
        );
    }
    let on_full = match table.text("on_full") {
        Some("hold") => OnFull::Hold,
        _ => OnFull::DropOldest,
    };
    let filters = filters.iter().map(|filter| filter.as_str().into());
    Ok(Settings {
        tenant: tenant.into(),
        order,
        publish_as: table.text("publish_as").map(Into::into),
        keeps_qos0: table.flag("keep_qos0", false),
        on_reject: match table.text("on_reject") {
            Some("stop") => OnReject::Stop,
            _ => OnReject::DeadLetter,
        },
        max_attempts: {
            let attempts = table.number("max_attempts", u64::from(MAX_ATTEMPTS));
            u32::try_from(attempts).unwrap_or(u32::MAX)
        },
        backoff: backoff(table)?,
        queue: PartQueueLimits {
            // 0: determined at the start by the free space.
            bytes_max: table.number("max_bytes", 0),
            age_max_secs: u32::try_from(table.number("max_age_secs", 0)).unwrap_or(u32::MAX),
            on_full,
        },
        ..Settings::new(
            kind,
            &name_of_team(table.text(OWNER).unwrap_or_default(), name),
            filters.collect(),
        )
    })
}

fn backoff(table: &Table) -> Result<Backoff, String> {
    let default = Backoff::default();
    let pause = |key, default: Duration| {
        let millis = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(table.number(key, millis))
    };
    let first = pause("retry_first_ms", default.first);
    let longest = pause("retry_longest_ms", default.longest);
    if first > longest && table.has("retry_longest_ms") {
        return Err("`retry_first_ms` is more than `retry_longest_ms`".to_owned());
    }
    Ok(Backoff {
        first,
        longest: longest.max(first),
    })
}

/// Whether a name is valid in Client Identifiers, paths of the API and metrics.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_letter)
        && !name.starts_with('-')
        && ![".", ".."].contains(&name)
}

fn check_filter(filter: &str) -> Result<(), String> {
    if SubscriptionFilter::is_shared(filter) {
        return Err(format!(
            "`filters` has {filter:?}: a sink joins no share group; leave out $share and the group"
        ));
    }
    match TopicFilter::new(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "`filters` has {filter:?}, which is not a valid Topic Filter: {error}"
        )),
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
