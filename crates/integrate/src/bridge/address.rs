//! Address of another broker.

use std::net::Ipv6Addr;

use crate::networks::AllowedNetworks;

/// Address of the other broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or address.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// Whether to use TLS.
    pub tls: bool,
}

/// Checks the addresses in the configured `url`. Names are resolved and checked when the bridge
/// connects; `localhost` is known.
///
/// # Errors
/// The text is invalid, or an address in it is not permitted; the reason.
pub fn check_addresses(url: &str, allowed: &AllowedNetworks) -> Result<(), String> {
    for one in addresses(url)? {
        allowed.check_host(&one.host)?;
    }
    Ok(())
}

/// The addresses in `url`.
///
/// # Errors
/// There is none, or one is invalid; the reason.
pub(super) fn addresses(text: &str) -> Result<Vec<Address>, String> {
    let texts = text.split(',').map(str::trim);
    let all = texts.filter(|text| !text.is_empty()).map(address);
    let all = all.collect::<Result<Vec<_>, _>>()?;
    match all.first() {
        Some(_) => Ok(all),
        None => Err("`url` is missing, expected mqtt://HOST:PORT or mqtts://HOST:PORT".to_owned()),
    }
}

fn address(text: &str) -> Result<Address, String> {
    // The text may contain a password.
    let wrong =
        || "`url` is not a valid URL such as mqtt://HOST:1883 or mqtts://HOST:8883".to_owned();
    let (scheme, place) = text.split_once("://").ok_or_else(wrong)?;
    let (tls, default_port) = match scheme {
        "mqtt" | "tcp" => (false, 1883),
        "mqtts" | "ssl" | "tls" => (true, 8883),
        _ => return Err("`url` must begin with mqtt:// or mqtts://".to_owned()),
    };
    let place = place.strip_suffix('/').unwrap_or(place);
    if place.contains('@') {
        return Err("`url` has a user name: use `user` and `password`".to_owned());
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(inside) => {
            let (host, behind) = inside.split_once(']').ok_or_else(wrong)?;
            let host = ipv6(host).ok_or_else(wrong)?;
            (host, behind.strip_prefix(':'))
        }
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (place.to_owned(), None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None => default_port,
    };
    if host.is_empty() || host.contains(['/', '?', '#', ':']) && !place.starts_with('[') {
        return Err(wrong());
    }
    Ok(Address {
        host: host.into(),
        port,
        tls,
    })
}

/// An IPv6 address between brackets, as the resolver takes it: `fe80::1%eth0` for
/// `fe80::1%25eth0` (RFC 6874). None: it is no address.
fn ipv6(inside: &str) -> Option<String> {
    let (address, zone) = match inside.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (inside, None),
    };
    address.parse::<Ipv6Addr>().ok()?;
    match zone {
        Some("") => None,
        Some(zone) => Some(format!("{address}%{zone}")),
        None => Some(address.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let one = |text| addresses(text).map(|mut all| all.remove(0));
        let of = |host: &str, port, tls| Address {
            host: host.into(),
            port,
            tls,
        };
        assert_eq!(one("mqtt://a.example"), Ok(of("a.example", 1883, false)));
        assert_eq!(one("mqtts://a.example/"), Ok(of("a.example", 8883, true)));
        assert_eq!(one("mqtt://[::1]:1884"), Ok(of("::1", 1884, false)));
        for zone in ["mqtt://[fe80::1%25eth0]:1", "mqtt://[fe80::1%eth0]:1"] {
            assert_eq!(one(zone), Ok(of("fe80::1%eth0", 1, false)));
        }
        assert_eq!(
            addresses("mqtt://a:1, mqtts://b").map(|all| all.len()),
            Ok(2)
        );
        for bad in [
            "",
            "a:1883",
            "http://a",
            "mqtt://",
            "mqtt://u:pw@a",
            "mqtt://a:x",
            "mqtt://a/b",
            "mqtt://[a]:1",
            "mqtt://[fe80::1%25]",
        ] {
            let why = addresses(bad).expect_err(bad);
            assert!(!why.contains("pw"), "{why}");
        }
    }
}
