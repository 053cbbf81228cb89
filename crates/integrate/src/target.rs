//! The hosts that an integration connects to, with the addresses that are known of them. Whether it
//! may connect to an address is up to `networks`.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::networks::{AllowedNetworks, known_addresses, look_up};

/// Time limit for the addresses of a name.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// The target of an integration.
#[derive(Clone, Debug)]
pub struct Target {
    hosts: Vec<TargetHost>,
    allowed: AllowedNetworks,
}

/// A host of a URL.
#[derive(Clone, Debug)]
struct TargetHost {
    text: String,
    /// Whether its addresses have to be looked up.
    is_name: bool,
    /// The known addresses; empty: none.
    addresses: Vec<IpAddr>,
}

impl TargetHost {
    fn of(text: &str) -> Self {
        let addresses = known_addresses(text);
        Self {
            // A secret is not known here.
            is_name: addresses.is_empty() && !text.is_empty() && !text.contains("${"),
            text: text.to_owned(),
            addresses,
        }
    }

    /// As it is now. A name without an address, or without an answer in time, has none: it is
    /// looked up again when the integration connects.
    async fn looked_up(&self) -> Self {
        let mut host = self.clone();
        if host.is_name {
            let found = tokio::time::timeout(LOOK_UP_WITHIN, look_up(&host.text, 0)).await;
            let found = found.ok().and_then(Result::ok).unwrap_or_default();
            host.addresses = found.iter().map(|address| address.ip()).collect();
        }
        host
    }
}

impl Target {
    /// The target of a URL, which may have several addresses, separated by commas. Names are not
    /// looked up.
    pub fn of(url: &str, allowed: &AllowedNetworks) -> Self {
        // URLs are read without tabs and line breaks.
        let url = url.replace(['\t', '\n', '\r'], "");
        let hosts = url.split(',').filter_map(|one| host_of(one.trim()));
        Self {
            hosts: hosts.map(TargetHost::of).collect(),
            allowed: allowed.clone(),
        }
    }

    /// The target with the addresses that its names have now.
    pub async fn looked_up(&self) -> Self {
        let hosts = self.hosts.iter().map(TargetHost::looked_up);
        Self {
            hosts: join_all(hosts).await,
            allowed: self.allowed.clone(),
        }
    }

    /// Whether it has a name whose addresses are not known.
    pub fn has_unknown_names(&self) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.any(|host| host.is_name && host.addresses.is_empty())
    }

    /// Why an integration may not connect to a host. `None`: it may, as far as the addresses are
    /// known.
    pub fn refused(&self) -> Option<String> {
        self.hosts.iter().find_map(|host| {
            let why = self.allowed.why_missed(&host.addresses)?;
            Some(match host.is_name {
                true => format!("{}: {why}", host.text),
                false => why,
            })
        })
    }

    /// Why an integration can connect to no host. `None`: it may connect to an address of one, or
    /// addresses are not known.
    pub fn refused_all(&self) -> Option<String> {
        let may_connect = |host: &TargetHost| {
            let mut addresses = host.addresses.iter();
            host.addresses.is_empty() || addresses.any(|address| self.allowed.permits(*address))
        };
        match self.hosts.iter().any(may_connect) {
            true => None,
            false => self.refused(),
        }
    }
}

/// The host of a URL.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let place = rest.split(['/', '?', '#']).next()?;
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    match place.strip_prefix('[') {
        Some(inside) => inside.split_once(']').map(|(host, _)| host),
        None => place.split(':').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_hosts_of_urls_are_refused_unless_their_network_is_listed() {
        let none = AllowedNetworks::default();
        let refused = |url: &str, allowed: &AllowedNetworks| Target::of(url, allowed).refused();
        let refused_all =
            |url: &str, allowed: &AllowedNetworks| Target::of(url, allowed).refused_all();
        for url in [
            "http://127.0.0.1:8000/a,b",
            "nats://u:p@10.0.0.1",
            "mqtts://[fd00::1]:8883",
            "mqtt://a.example, mqtt://192.168.0.1",
            "http://LOCALHOST:1/",
            "mqtt://localhost.:1883",
            "http://a.localhost/",
            "mqtt://127.1:1883",
            "mqtt://0x7f000001",
            "mqtt://[fe80::1%25eth0]:1883",
        ] {
            assert!(refused(url, &none).is_some(), "{url}");
            let all = refused_all(url, &none).is_some();
            assert_eq!(all, !url.contains("a.example"), "{url}");
        }
        for url in [
            "https://a.example/127.0.0.1",
            "http://1.1.1.1/",
            "${secret:url}",
            "http://${secret:host}:1/",
        ] {
            assert_eq!(refused(url, &none), None, "{url}");
            let unknown = Target::of(url, &none).has_unknown_names();
            assert_eq!(unknown, url.contains("a.example"), "{url}");
        }
        let some = AllowedNetworks::parse(["10.0.0.0/8", "::1"]).expect("networks");
        // The server may be at the other address.
        let local = "http://localhost/";
        let why = refused(local, &some).unwrap_or_default();
        assert!(why.starts_with("127.0.0.1 is a private"), "{why}");
        assert_eq!(refused_all(local, &some), None);
        let usual = AllowedNetworks::parse(["127.0.0.0/8"]).expect("a network");
        assert_eq!(refused(local, &usual), None);
        assert!(refused("http://[::1]/", &usual).is_some());
        let why = refused(local, &none).unwrap_or_default();
        let both = "127.0.0.1 and ::1 are private or special addresses: add 127.0.0.0/8 and ::1, ";
        assert!(why.starts_with(both), "{why}");
        assert_eq!(refused("nats://10.1.1.1:4222", &some), None);
    }
}
