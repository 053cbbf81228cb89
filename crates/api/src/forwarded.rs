//! Address of origin of a request that a proxy has passed on: `X-Forwarded-For`, as far as the
//! proxy is trusted.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

use crate::connection::{HttpConnection, ListenerKind};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The connection as it was before trusted proxies: the last address in their headers that is not
/// their own. Addresses before that one may be forged.
pub(crate) fn behind(
    proxies: &[IpNet],
    connection: HttpConnection,
    headers: &HeaderMap,
) -> HttpConnection {
    let is_proxy = |address: IpAddr| is_proxy(proxies, Some(address));
    let peer = connection.peer.map(|peer| peer.to_canonical());
    let (ListenerKind::Tcp { is_secure, .. }, Some(mut from)) = (connection.listener, peer) else {
        return connection;
    };
    let lines = headers.get_all(FORWARDED_FOR).iter();
    let values: Vec<&str> = lines
        .flat_map(|line| line.to_str().unwrap_or_default().split(','))
        .collect();
    for address in values.into_iter().rev().map(parse) {
        if !is_proxy(from) {
            break;
        }
        // A word that is no address ends what is known.
        let Some(address) = address else {
            break;
        };
        from = address;
    }
    // A client from elsewhere does not count as local because the proxy is.
    let is_loopback = connection.is_loopback() && from.is_loopback();
    HttpConnection {
        listener: ListenerKind::Tcp {
            is_loopback,
            is_secure,
        },
        peer: Some(from),
    }
}

/// Whether the address belongs to a trusted proxy. The client behind a proxy may be on any machine.
pub(crate) fn is_proxy(proxies: &[IpNet], address: Option<IpAddr>) -> bool {
    let address = address.map(|address| address.to_canonical());
    address.is_some_and(|address| proxies.iter().any(|proxies| proxies.contains(&address)))
}

/// Some proxies write the port too.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let with_port = || text.parse::<SocketAddr>().ok().map(|found| found.ip());
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    address.or_else(with_port).map(|found| found.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, lines: &[&str]) -> (String, bool) {
        let proxies: Vec<IpNet> = ["10.0.0.0/8", "127.0.0.1/32"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let connection = HttpConnection {
            listener: ListenerKind::Tcp {
                is_loopback: true,
                is_secure: false,
            },
            peer: Some(peer.parse().unwrap()),
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let found = behind(&proxies, connection, &headers);
        (found.peer.unwrap().to_string(), found.is_loopback())
    }

    #[test]
    fn the_last_that_is_no_proxy_is_the_one() {
        let far = |address: &str| (address.to_owned(), false);
        assert_eq!(from("127.0.0.1", &["192.0.2.7"]), far("192.0.2.7"));
        assert_eq!(
            from("127.0.0.1", &["6.6.6.6, 192.0.2.7, 10.1.1.1"]),
            far("192.0.2.7")
        );
        assert_eq!(
            from("127.0.0.1", &["6.6.6.6", "192.0.2.7:4242"]),
            far("192.0.2.7")
        );
        assert_eq!(from("127.0.0.1", &["[2001:db8::1]:80"]), far("2001:db8::1"));
        assert_eq!(from("::ffff:10.0.0.1", &["192.0.2.7"]), far("192.0.2.7"));
    }

    #[test]
    fn whoever_is_no_proxy_is_not_believed() {
        assert_eq!(
            from("192.0.2.9", &["127.0.0.1"]),
            ("192.0.2.9".to_owned(), false)
        );
        assert_eq!(from("127.0.0.1", &[]), ("127.0.0.1".to_owned(), true));
        assert_eq!(
            from("127.0.0.1", &["6.6.6.6, unknown"]),
            ("127.0.0.1".to_owned(), true)
        );
    }
}
