//! Addresses that integrations may connect to: public ones, and permitted private networks. The
//! address that is connected to is the one that was checked; there is no second lookup that could
//! return another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::net::{TcpStream, lookup_host};
use url::Host;

/// Non-public networks, from the IANA special-purpose address registries.
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Private networks that integrations may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedNetworks(Arc<[IpNet]>);

/// Converts an IPv4 network in IPv6 notation, such as `::ffff:10.0.0.0/104`: addresses are
/// compared without that prefix.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(found) = network else {
        return network;
    };
    let (address, bits) = (found.addr().to_ipv4_mapped(), found.prefix_len());
    let of_v4 = address.zip(bits.checked_sub(96));
    let of_v4 = of_v4.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok());
    of_v4.map_or(network, IpNet::V4)
}

impl AllowedNetworks {
    /// All networks, for addresses that the operator of the node configures.
    #[must_use]
    pub fn all() -> Self {
        let (v4, v6) = (Ipv4Net::default(), Ipv6Net::default());
        Self(Arc::new([IpNet::V4(v4), IpNet::V6(v6)]))
    }

    /// Parses networks such as `10.1.0.0/16`; a single address is a network of one.
    ///
    /// # Errors
    /// A text is neither; it is returned.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let all = texts.into_iter().map(|text| {
            let network = text.parse::<IpNet>().ok();
            let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            network.map(unmapped).ok_or_else(|| text.to_owned())
        });
        Ok(Self(all.collect::<Result<Vec<_>, _>>()?.into()))
    }

    /// Connects to the first address of this host that is permitted and answers. `address` is
    /// `HOST:PORT`, with brackets around an IPv6 address.
    ///
    /// # Errors
    /// No address is permitted and answers; the reason.
    pub async fn connect(&self, address: &str) -> Result<TcpStream, String> {
        let (host, port) = address.rsplit_once(':').unwrap_or_default();
        let port = port.parse().map_err(|_| "expected HOST:PORT".to_owned())?;
        self.connect_to(host, port).await
    }

    /// Connects as [`AllowedNetworks::connect`], with a host and a port.
    ///
    /// # Errors
    /// As for [`AllowedNetworks::connect`].
    pub(crate) async fn connect_to(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let (permitted, refused) = self.addresses(host, port).await?;
        let mut why = refused.unwrap_or_default();
        for address in permitted {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) if why.is_empty() => why = format!("{address}: {error}"),
                Err(error) => why = format!("{address}: {error}; {why}"),
            }
        }
        Err(why)
    }

    /// The permitted addresses of a host: at least one.
    ///
    /// # Errors
    /// There is none; the reason.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let (permitted, why) = self.addresses(host, port).await?;
        match permitted.is_empty() {
            true => Err(why.unwrap_or_else(|| format!("{host} has no address"))),
            false => Ok(permitted),
        }
    }

    /// The permitted addresses of a host, and why others are not.
    async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(Vec<SocketAddr>, Option<String>), String> {
        let found = look_up(host, port).await?;
        let why = self.why_refused(found.iter().map(SocketAddr::ip));
        let permits = |address: &SocketAddr| self.permits(address.ip());
        Ok((found.into_iter().filter(permits).collect(), why))
    }

    /// Whether an integration may connect to this address.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address)) || is_public(address)
    }

    /// Why an integration may not connect to some of these addresses; `None`: it may to all.
    fn why_refused(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Option<String> {
        let addresses = addresses.into_iter().map(|address| address.to_canonical());
        let mut refused: Vec<IpAddr> = addresses.filter(|one| !self.permits(*one)).collect();
        refused.dedup();
        let shown: Vec<String> = refused.iter().map(IpAddr::to_string).collect();
        let shown = match &*shown {
            [] => return None,
            [one] => format!("{one} is a private or special address: add"),
            [all @ .., last] if all.len() < NAMED_MAX => {
                let all = all.join(", ");
                format!("{all} and {last} are private or special addresses: add")
            }
            all => {
                let (first, more) = (all[..NAMED_MAX].join(", "), all.len() - NAMED_MAX);
                format!("{first} and {more} more are private or special addresses: add")
            }
        };
        let loopback = refused.iter().map(|address| match address {
            IpAddr::V4(own) => own.is_loopback().then_some("127.0.0.0/8"),
            IpAddr::V6(own) => own.is_loopback().then_some("::1"),
        });
        let networks = match loopback.collect::<Option<Vec<&str>>>() {
            Some(own) => own.join(" and ") + ", this machine,",
            None if refused.len() == 1 => "its network".to_owned(),
            None => "their networks".to_owned(),
        };
        let them = if refused.len() == 1 { "it" } else { "them" };
        Some(format!(
            "{shown} {networks} to `integrations.allow_private` to permit {them}"
        ))
    }

    /// Checks that an integration may connect to this address.
    ///
    /// # Errors
    /// It may not; the reason.
    pub fn check(&self, address: IpAddr) -> Result<(), String> {
        self.why_refused([address]).map_or(Ok(()), Err)
    }

    /// Checks that an integration may connect to this host. A name is resolved when it connects,
    /// and is permitted until then; `localhost` is known (RFC 6761, 6.3).
    ///
    /// # Errors
    /// It may not, or would miss a server at one of its addresses; the reason.
    pub fn check_host(&self, host: &str) -> Result<(), String> {
        let known = known_addresses(host);
        self.why_missed(&known).map_or(Ok(()), Err)
    }

    /// Why an integration would miss a server at one of the addresses of its host. As nearly all
    /// servers have an address of IPv4, one of IPv6 beside it need not be permitted.
    pub(crate) fn why_missed(&self, addresses: &[IpAddr]) -> Option<String> {
        let is_v4 = |address: &IpAddr| address.to_canonical().is_ipv4();
        let has_v4 = addresses.iter().any(is_v4);
        let mut missed = addresses.iter().filter(|one| !self.permits(**one));
        match missed.any(|one| is_v4(one) || !has_v4) {
            true => self.why_refused(addresses.iter().copied()),
            false => None,
        }
    }
}

/// Addresses that a refusal names, at most.
const NAMED_MAX: usize = 4;

/// The addresses of a host, with this port.
pub(crate) async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if is_localhost(host) {
        return Ok(LOOPBACK.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let found = lookup_host((host, port)).await;
    let found = found.map_err(|error| format!("{host} has no address: {error}"))?;
    Ok(found.collect())
}

/// The addresses of a host that is an address itself, or `localhost`; of another name none.
pub(crate) fn known_addresses(host: &str) -> Vec<IpAddr> {
    // The zone of an address says by which interface it is reached.
    let bare = host.split_once('%').map_or(host, |(address, _)| address);
    // Also in the forms that resolvers take, such as 127.1 and 0x7f000001, and in letters that
    // URLs replace, such as fullwidth ones.
    let is_local = match (bare.parse(), Host::parse(host)) {
        (Ok(address), _) => return vec![address],
        (_, Ok(Host::Ipv4(address))) => return vec![address.into()],
        (_, Ok(Host::Domain(name))) => is_localhost(&name),
        _ => is_localhost(host),
    };
    match is_local {
        true => LOOPBACK.to_vec(),
        false => Vec::new(),
    }
}

/// Addresses of `localhost`, and of each name below it: no server is asked for them (RFC 6761,
/// 6.3).
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

fn is_localhost(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

fn is_public(address: IpAddr) -> bool {
    if let IpAddr::V6(address) = address
        && let Some(inner) = inner_v4(address)
    {
        return is_public(inner.into());
    }
    let networks = SPECIAL.iter().filter_map(|text| text.parse::<IpNet>().ok());
    let mut networks = networks;
    !networks.any(|network| network.contains(&address))
}

/// The IPv4 address embedded by a translator or tunnel: NAT64, IPv4-translated and 6to4.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] | [0, 0, 0, 0, 0xffff, 0] => Some(of(g, h)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_unless_their_network_is_listed() {
        let none = AllowedNetworks::default();
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "0.0.0.0",
            "100.100.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "::ffff:0:7f00:1",
            "2002:7f00:1::",
            "255.255.255.255",
        ] {
            let address: IpAddr = private.parse().expect("an address");
            assert!(!none.permits(address), "{private}");
        }
        for public in [
            "1.1.1.1",
            "2606:4700::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            let address: IpAddr = public.parse().expect("an address");
            assert!(none.permits(address), "{public}");
        }
        let some = AllowedNetworks::parse(["10.0.0.0/8", "::1"]).expect("networks");
        let refused = none.why_refused((0..9).map(|last| Ipv4Addr::new(10, 0, 0, last).into()));
        let refused = refused.unwrap_or_default();
        assert!(refused.contains("10.0.0.3 and 5 more are"), "{refused}");
        assert!(refused.contains("add their networks to"), "{refused}");
        for listed in ["10.9.9.9", "::ffff:10.9.9.9", "::1"] {
            let address: IpAddr = listed.parse().expect("an address");
            assert!(some.permits(address), "{listed}");
        }
        let other: IpAddr = "192.168.0.1".parse().expect("an address");
        assert!(!some.permits(other));
        assert_eq!(AllowedNetworks::parse(["lan"]), Err("lan".to_owned()));
    }

    #[tokio::test]
    async fn names_below_localhost_are_this_machine() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let port = listener.expect("a port").local_addr().expect("one").port();
        let allowed = |network: &str| AllowedNetworks::parse([network]).expect("a network");
        for host in ["localhost", "localhost.", "x.localhost"] {
            let found = allowed("127.0.0.1").resolve(host, port).await;
            assert_eq!(found.expect("an address").len(), 1, "{host}");
            // What is not permitted is told, since the receiver may be there.
            let refused = allowed("::1").connect_to(host, port).await;
            let why = refused.expect_err("nothing listens there");
            assert!(why.contains("add 127.0.0.0/8"), "{why}");
        }
    }
}
