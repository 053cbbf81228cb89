//! The header of the PROXY protocol, versions 1 and 2, which contains the source address of a
//! connection. It comes before all other bytes, including TLS.
//!
//! Format: "The PROXY protocol", HAProxy Technologies, sections 2.1 and 2.2. Whether a proxy is
//! trusted is decided elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use martlet_broker::ProxyFault;

/// Longest header of version 1, its end of line included.
const TEXT_MAX: usize = 107;

/// First bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Length of the fixed part of version 2.
const FIXED: usize = 16;

/// Longest accepted header of version 2: addresses, and other fields of the proxy, which are
/// ignored.
const BINARY_MAX: usize = 4096;

const NONE: ProxyFault = ProxyFault::Missing;
const BROKEN: ProxyFault = ProxyFault::Malformed;

/// An incomplete header.
#[derive(Debug, Default)]
pub(crate) struct ProxyHeader {
    bytes: Vec<u8>,
}

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proxied {
    /// How many of the bytes received last belong to the header.
    pub(crate) taken: usize,
    /// Source address of the connection. `None`: the proxy itself connected, or the proxy sent no
    /// address.
    pub(crate) source: Option<SocketAddr>,
}

impl ProxyHeader {
    /// Memory use in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Processes received bytes. Returns `None` if the header is incomplete.
    ///
    /// # Errors
    /// The fault of the header.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
        let before = self.bytes.len();
        let room = BINARY_MAX - before;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some((length, source)) = parse(&self.bytes)? else {
            return Ok(None);
        };
        // The bytes received before were an incomplete header.
        let taken = length - before;
        Ok(Some(Proxied { taken, source }))
    }
}

/// Length of the header and the source address; `None` if the header is incomplete.
type Parsed = Option<(usize, Option<SocketAddr>)>;

fn parse(bytes: &[u8]) -> Result<Parsed, ProxyFault> {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    if begins(b"PROXY ") {
        parse_text(bytes)
    } else if begins(SIGNATURE) {
        parse_binary(bytes)
    } else {
        Err(NONE)
    }
}

/// `PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883\r\n`
fn parse_text(bytes: &[u8]) -> Result<Parsed, ProxyFault> {
    let bytes = &bytes[..bytes.len().min(TEXT_MAX)];
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < TEXT_MAX {
            true => Ok(None),
            false => Err(BROKEN),
        };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| BROKEN)?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family, from, _, port, _] => {
            let ip: IpAddr = from.parse().map_err(|_| BROKEN)?;
            if family != if ip.is_ipv4() { "TCP4" } else { "TCP6" } {
                return Err(BROKEN);
            }
            let port = port.parse().map_err(|_| BROKEN)?;
            Some(SocketAddr::new(ip, port))
        }
        _ => return Err(BROKEN),
    };
    Ok(Some((end + 2, source)))
}

fn parse_binary(bytes: &[u8]) -> Result<Parsed, ProxyFault> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > BINARY_MAX {
        return Err(ProxyFault::TooLong);
    }
    let Some(addresses) = bytes.get(FIXED..length) else {
        return Ok(None);
    };
    let source = match (command, family) {
        // LOCAL: a health check by the proxy itself.
        (0x20, _) => None,
        (0x21, 0x11) => {
            let (ip, rest) = addresses.split_first_chunk::<4>().ok_or(BROKEN)?;
            Some(SocketAddr::new(Ipv4Addr::from(*ip).into(), port(rest, 4)?))
        }
        (0x21, 0x21) => {
            let (ip, rest) = addresses.split_first_chunk::<16>().ok_or(BROKEN)?;
            Some(SocketAddr::new(Ipv6Addr::from(*ip).into(), port(rest, 16)?))
        }
        // Unix sockets, and connections without an address.
        (0x21, _) => None,
        _ => return Err(BROKEN),
    };
    Ok(Some((length, source)))
}

/// The source port, after `skipped` bytes of addresses.
fn port(rest: &[u8], skipped: usize) -> Result<u16, ProxyFault> {
    let ports = rest.get(skipped..skipped + 4).ok_or(BROKEN)?;
    Ok(u16::from_be_bytes([ports[0], ports[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
        ProxyHeader::default().receive(bytes)
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((addresses.len() as u16).to_be_bytes());
        header.extend(addresses);
        header
    }

    #[test]
    fn version_1_says_address_and_port_and_ends_at_its_line() {
        let found = of(b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883\r\n\x10\x0c").unwrap();
        let found = found.unwrap();
        assert_eq!(found.source, Some("192.0.2.1:56324".parse().unwrap()));
        assert_eq!(found.taken, 43);
        let found = of(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n").unwrap();
        let source = found.unwrap().source;
        assert_eq!(source, Some("[2001:db8::1]:1".parse().unwrap()));
        assert_eq!(of(b"PROXY UNKNOWN\r\n").unwrap().unwrap().source, None);
    }

    #[test]
    fn version_2_says_it_in_bytes_and_what_else_it_says_is_passed_over() {
        let mut addresses = vec![192, 0, 2, 1, 192, 0, 2, 9, 0xDC, 0x04, 0x07, 0x5B];
        addresses.extend([3, 0, 4, 1, 2, 3, 4]);
        let header = binary(0x21, 0x11, &addresses);
        let found = of(&[&header[..], b"MQTT"].concat()).unwrap().unwrap();
        assert_eq!(found.source, Some("192.0.2.1:56324".parse().unwrap()));
        assert_eq!(found.taken, header.len());
        let mut addresses = Ipv6Addr::LOCALHOST.octets().repeat(2);
        addresses.extend([0, 7, 0, 9]);
        let found = of(&binary(0x21, 0x21, &addresses)).unwrap().unwrap();
        assert_eq!(found.source, Some("[::1]:7".parse().unwrap()));
        assert_eq!(of(&binary(0x20, 0, b"")).unwrap().unwrap().source, None);
    }

    #[test]
    fn a_header_may_come_byte_by_byte() {
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883\r\n".to_vec();
        for header in [line, binary(0x21, 0x11, &[1; 12])] {
            let mut parser = ProxyHeader::default();
            let (last, first) = header.split_last().unwrap();
            for byte in first {
                assert_eq!(parser.receive(&[*byte]), Ok(None));
            }
            let found = parser.receive(&[*last, 0x10]).unwrap().unwrap();
            assert_eq!(found.taken, 1);
        }
    }

    #[test]
    fn what_is_none_is_refused_at_its_first_wrong_byte() {
        assert_eq!(of(&[0x10]), Err(NONE));
        assert_eq!(of(b"PROXZ"), Err(NONE));
        let said = [
            &b"PROXY TCP4 192.0.2.1 192.0.2.9 70000 1883\r\n"[..],
            b"PROXY TCP6 192.0.2.1 192.0.2.9 1 2\r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 \xff\r\n",
            b"PROXY ",
        ];
        for header in &said[..4] {
            assert_eq!(of(header), Err(BROKEN), "{header:?}");
        }
        assert_eq!(of(&[said[4], &[b'x'; 110]].concat()), Err(BROKEN));
        assert_eq!(of(&binary(0x31, 0x11, &[1; 12])), Err(BROKEN));
        assert_eq!(of(&binary(0x21, 0x11, &[1; 11])), Err(BROKEN));
        assert!(of(&binary(0x21, 0x11, &[1; 5000])).is_err());
    }
}
