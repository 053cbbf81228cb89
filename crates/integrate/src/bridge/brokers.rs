//! Which bridges connect to the same broker: what comes from there over a named connection does not
//! go back over another bridge. Before MQTT 5.0 nothing in a message says where it was.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::settings::Address;

/// The broker of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Host and port of each address.
    addresses: Vec<(Box<str>, u16)>,
    is_connection: bool,
}

impl Broker {
    /// The broker at these addresses. `is_connection`: the bridge to it is a named connection.
    pub(super) fn new(addresses: &[Address], is_connection: bool) -> Self {
        let addresses = addresses.iter();
        let addresses = addresses.map(|one| (one.host.to_ascii_lowercase().into(), one.port));
        Self {
            addresses: addresses.collect(),
            is_connection,
        }
    }
}

/// The brokers of all bridges of a node, by name of the bridge.
#[derive(Debug, Default)]
pub struct Brokers(RwLock<HashMap<Box<str>, Broker>>);

impl Brokers {
    /// The bridge of this name connects to this broker; none: it is no bridge.
    pub fn set(&self, bridge: &str, broker: Option<&Broker>) {
        if let Some(broker) = broker {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            all.insert(bridge.into(), broker.clone());
        }
    }

    /// Whether what comes over the named connection `from` is from a broker that the bridge `to`
    /// connects to. Of other bridges their topics and marks decide what goes where.
    pub fn is_same(&self, from: &str, to: &str) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (Some(from), Some(to)) = (all.get(from), all.get(to)) else {
            return false;
        };
        from.is_connection && from.addresses.iter().any(|one| to.addresses.contains(one))
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
        let of = |addresses: &[Address], is_connection| Broker::new(addresses, is_connection);
        all.set("hive", Some(&of(&[hive], true)));
        all.set(
            "up",
            Some(&of(&[other.clone(), address("hive.example", 1883)], false)),
        );
        all.set("side", Some(&of(&[other], false)));
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
}
