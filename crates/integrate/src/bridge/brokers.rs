//! Which bridges connect to the same broker: messages that come from there over a named connection
//! must not go back over another bridge. Before MQTT 5.0 a message has no data about its path.
//!
//! Brokers are the same if they share an address, configured or resolved: `localhost` equals
//! 127.0.0.1.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::address::Address;

/// Time limit of a name lookup.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);
/// Time after which a failed lookup is repeated.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The broker of a bridge. Clones share the resolved addresses.
#[derive(Clone, Debug)]
pub struct BrokerAddresses {
    /// Host and port of each address.
    addresses: Vec<(Box<str>, u16)>,
    is_connection: bool,
    resolved: Arc<RwLock<Resolved>>,
}

/// Current and earlier addresses of a broker's names, since the start.
#[derive(Debug, Default)]
struct Resolved {
    found: HashSet<SocketAddr>,
    /// Time of the last failed lookup.
    failed_at: Option<Instant>,
}

impl Resolved {
    fn is_due(&self) -> bool {
        let failed_at = self.failed_at;
        self.found.is_empty() && failed_at.is_none_or(|at| at.elapsed() >= AGAIN_AFTER)
    }
}

impl BrokerAddresses {
    /// The broker at these addresses. `is_connection`: its bridge is a named connection.
    pub(super) fn new(addresses: &[Address], is_connection: bool) -> Self {
        let addresses = addresses.iter();
        let addresses = addresses.map(|one| (one.host.to_ascii_lowercase().into(), one.port));
        Self {
            addresses: addresses.collect(),
            is_connection,
            resolved: Arc::default(),
        }
    }

    /// Records the resolved addresses of its names.
    pub(super) fn has(&self, found: &[SocketAddr]) {
        let canonical = found
            .iter()
            .map(|one| SocketAddr::new(one.ip().to_canonical(), one.port()));
        let mut resolved = self
            .resolved
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        resolved.found.extend(canonical);
        resolved.failed_at = resolved.found.is_empty().then(Instant::now);
    }

    fn is_due(&self) -> bool {
        let resolved = self.resolved.read();
        resolved.unwrap_or_else(PoisonError::into_inner).is_due()
    }

    async fn look_up(&self) {
        let mut found = Vec::new();
        for (host, port) in &self.addresses {
            let looked_up = timeout(LOOK_UP_WITHIN, lookup_host((&**host, *port))).await;
            // A name that is not found now is resolved when the bridge connects.
            found.extend(looked_up.into_iter().flatten().flatten());
        }
        self.has(&found);
    }

    /// Whether both have an address in common, as far as their names are resolved.
    pub fn is_same(&self, other: &Self) -> bool {
        if self
            .addresses
            .iter()
            .any(|one| other.addresses.contains(one))
        {
            return true;
        }
        if Arc::ptr_eq(&self.resolved, &other.resolved) {
            return true;
        }
        let (own, others) = (self.resolved.read(), other.resolved.read());
        let own = own.unwrap_or_else(PoisonError::into_inner);
        let others = others.unwrap_or_else(PoisonError::into_inner);
        !own.found.is_disjoint(&others.found)
    }
}

impl fmt::Display for BrokerAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addresses.first() {
            Some((host, port)) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Some((host, port)) => write!(f, "{host}:{port}"),
            None => Ok(()),
        }
    }
}

/// The brokers of all bridges of a node, by name of the bridge.
#[derive(Debug, Default)]
pub struct Brokers(RwLock<HashMap<Box<str>, BrokerAddresses>>);

impl Brokers {
    /// Sets the broker of the bridge of this name; `None`: it is not a bridge.
    pub fn set(&self, bridge: &str, broker: Option<&BrokerAddresses>) {
        if let Some(broker) = broker {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            all.insert(bridge.into(), broker.clone());
        }
    }

    /// Resolves names of brokers without known addresses.
    pub async fn look_up(&self) {
        let due: Vec<BrokerAddresses> = {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let due = all.values().filter(|broker| broker.is_due());
            due.cloned().collect()
        };
        for broker in due {
            broker.look_up().await;
        }
    }

    /// Whether messages from the named connection `from` come from a broker that the bridge `to`
    /// connects to. For other bridges, their topics and marks decide.
    pub fn is_same(&self, from: &str, to: &str) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (Some(from), Some(to)) = (all.get(from), all.get(to)) else {
            return false;
        };
        from.is_connection && from.is_same(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_over_a_named_connection_is_kept_from_going_back() {
        let address = |host: &str, port| Address {
            host: host.into(),
            port,
            tls: false,
        };
        let (hive, other) = (address("Hive.example", 1883), address("hive.example", 1884));
        let all = Brokers::default();
        let of =
            |addresses: &[Address], is_connection| BrokerAddresses::new(addresses, is_connection);
        all.set("hive", Some(&of(&[hive], true)));
        all.set(
            "up",
            Some(&of(&[other.clone(), address("hive.example", 1883)], false)),
        );
        let side = of(&[other], false);
        all.set("side", Some(&side));
        all.set("file", None);
        assert!(all.is_same("hive", "up"));
        for (from, to) in [
            ("hive", "side"),
            ("up", "side"),
            ("up", "hive"),
            ("file", "up"),
        ] {
            assert!(!all.is_same(from, to), "{from} {to}");
        }
    }

    #[tokio::test]
    async fn brokers_with_an_address_in_common_are_the_same() {
        let address = |host: &str, port| Address {
            host: host.into(),
            port,
            tls: false,
        };
        let all = Brokers::default();
        for (name, host, port) in [
            ("hive", "127.0.0.1", 1883),
            ("up", "localhost", 1883),
            ("mapped", "::ffff:127.0.0.1", 1883),
            ("side", "localhost", 1884),
            ("away", "no such name", 1883),
        ] {
            let broker = BrokerAddresses::new(&[address(host, port)], name == "hive");
            all.set(name, Some(&broker));
        }
        all.look_up().await;
        let same = |to| all.is_same("hive", to);
        assert!(same("up") && same("mapped") && !same("side") && !same("away"));
        // A name may resolve to another address when the bridge connects.
        let known = all.0.read().expect("no panic")["side"].clone();
        known.has(&["127.0.0.1:1883".parse().expect("an address")]);
        assert!(all.is_same("hive", "side"));
    }
}
