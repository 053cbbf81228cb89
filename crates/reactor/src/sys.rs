//! Queries to the operating system other than sockets: the limit of open files, the owner of a
//! port, random bytes. All in safe code.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;

/// Raises the soft limit of open files to the hard limit. Returns the limit now in force, or `None`
/// on systems without such a limit.
#[cfg(unix)]
pub(crate) fn raise_open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        Ok(()) => maximum,
        // Some systems report a hard limit that they do not grant.
        Err(_) => current,
    }
}

/// This system has no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_open_files_limit() -> Option<u64> {
    None
}

/// Number of descriptors that the process has open; `None` if the system does not report it.
pub(crate) fn open_descriptors() -> Option<u64> {
    let all = std::fs::read_dir("/proc/self/fd")
        .or_else(|_| std::fs::read_dir("/dev/fd"))
        .ok()?;
    // One of them belongs to this directory.
    Some((all.count() as u64).saturating_sub(1))
}

/// Number of the next file descriptor: at least this number of files is open. `None` if there are
/// no more descriptors.
#[cfg(unix)]
pub(crate) fn next_descriptor() -> Option<u64> {
    use std::os::fd::AsRawFd;
    let file = File::open("/dev/null").ok()?;
    u64::try_from(file.as_raw_fd()).ok()
}

/// The process that listens on `address`, as "name (pid 123)", if the system reports it.
pub fn port_owner(address: SocketAddr) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find_map(|table| listening_inode(&table, address))?;
    let link = format!("socket:[{inode}]");
    let holds_it = |pid: &str| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok();
        descriptors.into_iter().flatten().flatten().any(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == link.as_str())
        })
    };
    let pid = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            (name.bytes().all(|digit| digit.is_ascii_digit()) && holds_it(&name)).then_some(name)
        })?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", name.trim()))
}

/// Searches the text of `/proc/net/tcp` or `tcp6` for a socket that listens on the port of
/// `address`, on this address or on all addresses. Returns its inode.
fn listening_inode(table: &str, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    let port = format!("{:04X}", address.port());
    let own = format!("{}:{port}", proc_address(address));
    let found = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (&local, &state, &inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (ip, local_port) = local.split_once(':')?;
        let overlaps =
            local == own || ip.bytes().all(|digit| digit == b'0') || address.ip().is_unspecified();
        (state == LISTEN && local_port == port && overlaps).then_some(inode.parse().ok()?)
    });
    found.into_iter().next()
}

/// An address as printed in `/proc/net`: groups of four bytes, each in the machine's byte order.
fn proc_address(address: SocketAddr) -> String {
    let hex = |group: &[u8]| match *group {
        [a, b, c, d] => format!("{:08X}", u32::from_ne_bytes([a, b, c, d])),
        _ => String::new(),
    };
    match address {
        SocketAddr::V4(v4) => hex(&v4.ip().octets()),
        SocketAddr::V6(v6) => v6.ip().octets().chunks(4).map(hex).collect(),
    }
}

/// Random bytes of the system, read in larger portions.
#[derive(Debug)]
pub(crate) struct Entropy {
    source: File,
    portion: [u8; 1024],
    used: usize,
}

impl Entropy {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            source: File::open("/dev/urandom")?,
            portion: [0; 1024],
            used: 1024,
        })
    }

    /// Returns bytes that have not been returned before.
    pub(crate) fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        if self.portion.len() - self.used < N {
            self.source.read_exact(&mut self.portion)?;
            self.used = 0;
        }
        let mut bytes = [0; N];
        let fresh = &mut self.portion[self.used..self.used + N];
        bytes.copy_from_slice(fresh);
        fresh.fill(0);
        self.used += N;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when
   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 1111 1
   1: 0100007F:075C 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000 0 2222 1
   2: 00000000:075D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 3333 1
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_holder_of_a_port_is_found_in_the_kernels_table() {
        let inode = |address: &str| listening_inode(TABLE, address.parse().unwrap());
        assert_eq!(inode("127.0.0.1:1883"), Some(1111));
        assert_eq!(inode("127.0.0.2:1883"), None, "another address");
        assert_eq!(inode("0.0.0.0:1883"), Some(1111), "all addresses meet each");
        assert_eq!(inode("127.0.0.1:1884"), None, "connected, does not listen");
        assert_eq!(
            inode("127.0.0.1:1885"),
            Some(3333),
            "listens on all addresses"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_that_holds_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = port_owner(listener.local_addr().unwrap()).unwrap();
        assert!(
            owner.ends_with(&format!("(pid {})", std::process::id())),
            "{owner}"
        );
    }

    #[test]
    fn random_bytes_are_never_given_twice() {
        let mut entropy = Entropy::open().unwrap();
        let mut seen: Vec<[u8; 16]> = (0..200).map(|_| entropy.take().unwrap()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 200);
    }
}
