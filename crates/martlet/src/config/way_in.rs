//! The options of `martlet pub` and `martlet sub` for a listener, for commands that are printed for
//! users to try.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use martlet_certificates::Facts;
use martlet_certificates::authority::CA_CERTIFICATE;
use martlet_control::text::typed;
use martlet_reactor::ListenAddress;

use super::load::{Effective, ListenerTable};
use super::resolve::parse_url;

/// Placeholder for the file of an unknown CA.
const UNKNOWN_CA: &str = "CA.crt";

/// The options for the listener with this URL, each preceded by a space; empty if the defaults of
/// clients are sufficient.
pub(crate) fn way_in(effective: &Effective, url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("mqtt", url));
    if scheme == "unix" {
        return format!(" --unix {}", typed(rest));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Ok(address) = authority.parse::<SocketAddr>() else {
        return String::new();
    };
    if scheme.starts_with("ws") && path != "/mqtt" {
        // Only a URL can contain a path.
        return format!(" -L {}", typed(url));
    }
    let is_secure = scheme.ends_with('s') && scheme != "ws";
    let certificate = match is_secure {
        true => certificate_of(effective, address),
        false => None,
    };
    let mut options = match host(address.ip(), certificate.as_deref()) {
        Some(host) => format!(" -h {}", typed(&host)),
        None => String::new(),
    };
    let usual = match scheme {
        "mqtt" => 1883,
        "mqtts" => 8883,
        "ws" => 80,
        _ => 443,
    };
    if address.port() != usual {
        options.push_str(&format!(" -p {}", address.port()));
    }
    if scheme.starts_with("ws") {
        options.push_str(" --ws");
    }
    if is_secure {
        let ca = certificate.as_deref().and_then(ca_of);
        let ca = ca.map_or_else(|| UNKNOWN_CA.to_owned(), |ca| ca.display().to_string());
        options.push_str(&format!(" --cafile {}", typed(&ca)));
    }
    options
}

/// The name by which a client reaches an address and finds the certificate valid; `None` for
/// localhost, which is the default of clients.
fn host(ip: IpAddr, certificate: Option<&Path>) -> Option<String> {
    let ip = ip.to_canonical();
    let everywhere = ip.is_unspecified();
    let is_usual = everywhere || ip == IpAddr::from([127, 0, 0, 1]);
    let facts = certificate.and_then(|path| Facts::of_file(path).ok());
    let names = facts.map(|facts| facts.names).unwrap_or_default();
    let has = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if names.is_empty() {
        return match everywhere {
            true => own_address(ip).map(|own| own.to_string()),
            false => (!is_usual).then(|| ip.to_string()),
        };
    }
    if is_usual && has("localhost") {
        return None;
    }
    if !everywhere && has(&ip.to_string()) {
        return Some(ip.to_string());
    }
    let name = names.iter().find(|name| !name.contains(['*', '/', '@']));
    Some(name.cloned().unwrap_or_else(|| ip.to_string()))
}

/// The address of this machine in its network. Nothing is sent.
fn own_address(everywhere: IpAddr) -> Option<IpAddr> {
    let reached = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        let own = socket.local_addr().ok()?.ip();
        (!own.is_loopback() && !own.is_unspecified()).then_some(own)
    };
    // Documentation addresses: only the route to them is looked up. `[::]` includes IPv4.
    let own = reached("0.0.0.0:0", "198.51.100.1:9");
    own.or_else(|| match everywhere.is_ipv6() {
        true => reached("[::]:0", "[2001:db8::1]:9"),
        false => None,
    })
}

/// The certificate of the listener with this address.
fn certificate_of(effective: &Effective, address: SocketAddr) -> Option<PathBuf> {
    let is_there = |table: &&ListenerTable| {
        let Some(url) = &table.url else {
            return false;
        };
        let addresses = parse_url(url, 0).map(|url| url.addresses);
        addresses.is_ok_and(|addresses| {
            addresses
                .iter()
                .filter_map(ListenAddress::socket)
                .any(|one| one.ip() == address.ip() && [0, address.port()].contains(&one.port()))
        })
    };
    let table = effective.listeners.iter().find(is_there);
    let own = table.and_then(|table| table.certificate.as_ref());
    let path = own.unwrap_or(&effective.settings().tls.certificate);
    // The command may be run in another directory.
    (!path.is_empty()).then(|| std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)))
}

/// The certificate of the issuer: `martlet cert` stores the CA next to it, and a self-signed
/// certificate is its own issuer.
fn ca_of(certificate: &Path) -> Option<PathBuf> {
    let facts = Facts::of_file(certificate).ok()?;
    let beside = certificate.with_file_name(CA_CERTIFICATE);
    let of_ca = Facts::of_file(&beside).ok();
    match of_ca.is_some_and(|ca| ca.subject == facts.issuer) {
        true => Some(beside),
        false => (facts.subject == facts.issuer).then(|| certificate.to_owned()),
    }
}
