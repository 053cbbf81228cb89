//! Starts the reactors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use martlet_broker::RuleBook;
use martlet_control::backup::STORE;
use martlet_control::feed::PublishedKinds;
use martlet_control::{NodeInfo, OwnTopics, RestoreNote};
use martlet_reactor::{Descriptors, Durability, ReactorConfig, Running, StoreRoom};
use tracing::warn;

use super::authentication::ChainAuthenticator;
use super::options::ConfigOptions;
use super::store::check_restored;
use crate::config::{self, NodeConfig};

/// Most events that wait to be read.
const EVENT_CAPACITY: usize = 65_536;
/// Longest time that the start waits for integrations to be attached. Afterwards clients are
/// accepted in any case.
pub(super) const OPENED_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn start_reactor(
    node: &NodeConfig,
    authenticator: &ChainAuthenticator,
) -> anyhow::Result<Running> {
    if node.durability != Durability::Memory {
        check_restored(&node.data_dir)?;
    }
    let mut settings = node.settings.clone();
    settings.node_seed = random_u64()?;
    let mut config = ReactorConfig::new(Arc::new(settings));
    config.threads = node.threads;
    config.listeners = node.listeners.clone();
    config.memory_bytes = node.memory_bytes;
    config.event_capacity = EVENT_CAPACITY;
    config.authenticator = Arc::new(authenticator.clone());
    config.refused_name = martlet_certificates::take_refused_name;
    // Messages published before an integration is attached would not reach it.
    config.opens_later = !node.sinks.sinks.is_empty();
    config.rules = node
        .policy
        .clone()
        .map(|policy| policy as Arc<dyn RuleBook>);
    let (store, power_loss) = (node.data_dir.join(STORE), node.simulate_power_loss);
    let limits = &node.settings.limits;
    let room = StoreRoom {
        disk: limits.store_bytes,
        memory: node.memory_bytes,
        tenant_share: limits.team_share(),
    };
    config.store = martlet_reactor::open_store(&store, node.durability, room, power_loss)?;
    Ok(martlet_reactor::start(config)?)
}

/// Opens the listeners even if the integrations are not attached in time: clients do not wait for a
/// database that does not respond.
pub(super) fn open_listeners_at_last(
    running: &Arc<Running>,
    opened_by: Instant,
) -> tokio::task::JoinHandle<()> {
    let running = Arc::clone(running);
    tokio::spawn(async move {
        tokio::time::sleep_until(opened_by.into()).await;
        warn!("clients are accepted before all integrations are attached: see martlet health");
        running.open_listeners();
    })
}

pub(super) fn node_info(node: &NodeConfig, options: &ConfigOptions, running: &Running) -> NodeInfo {
    let listeners = running
        .local_addresses()
        .iter()
        .zip(&node.listeners)
        .map(|((_, address), listener)| {
            config::listener_url(address, &listener.transport, listener.tls.is_some())
        })
        .collect();
    let (durability, interval_ms) = match node.durability {
        Durability::Sync => ("sync", None),
        Durability::Interval { ms } => ("interval", Some(ms)),
        Durability::Memory => ("memory", None),
    };
    NodeInfo {
        version: env!("CARGO_PKG_VERSION"),
        listeners,
        data_dir: node.data_dir.display().to_string(),
        command_options: config::command_options(Some(&node.data_dir), options.config.as_deref()),
        durability,
        interval_ms,
        connections_max: connections_max(node, &running.descriptors()),
        anonymous_beyond_loopback: node.anonymous_beyond_loopback,
        limits: node.settings.limits.clone(),
        own_topics: OwnTopics {
            publishes_statistics: node.sys_interval_secs > 0,
            events: node
                .events_published
                .as_ref()
                .map_or_else(Vec::new, PublishedKinds::names),
            presence: node.presence_topic.clone(),
            publishes_presence: node.presence_topics.is_some(),
            received: Vec::new(),
        },
        restored: RestoreNote::read(&node.data_dir),
    }
}

/// Most connections permitted by the limits and the descriptors of the process.
pub(super) fn connections_max(node: &NodeConfig, descriptors: &Descriptors) -> u64 {
    u64::from(node.settings.limits.connections).min(descriptors.connections)
}

fn random_u64() -> anyhow::Result<u64> {
    let mut bytes = [0_u8; 8];
    let mut source = std::fs::File::open("/dev/urandom").context("no source of randomness")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("no source of randomness")?;
    Ok(u64::from_ne_bytes(bytes))
}
