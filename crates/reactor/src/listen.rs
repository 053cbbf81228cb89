//! Binds listeners, and sets the options that connections inherit from them.
//!
//! One socket per address and never `SO_REUSEPORT`: a second node on the same port must fail and
//! must not take half of the connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use martlet_broker::Limits;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::config::{ListenAddress, ListenerConfig};
use crate::poll::{Listener, SocketFile};
use crate::start_error::StartError;
use crate::sys;

/// Length of the system's queue of connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// How much longer than a client may read nothing its TCP may leave sent bytes unacknowledged.
const UNACKNOWLEDGED_LONGER: Duration = Duration::from_secs(10);

/// How long the peer may leave sent bytes unacknowledged (`TCP_USER_TIMEOUT`), which detects
/// half-open connections. Linux counts a closed receive window too, though the peer answers: so it
/// is longer than `limits.output_stalled_secs`, which ends such a connection with its own cause.
/// None if that is without limit.
pub(crate) fn unacknowledged_max(limits: &Limits) -> Option<Duration> {
    let stalled = Duration::from_secs(limits.output_stalled_secs.into());
    (!stalled.is_zero()).then(|| stalled + UNACKNOWLEDGED_LONGER)
}

/// Opens the socket of one listener. Returns its actual address.
pub(crate) fn bind(
    config: &ListenerConfig,
    unacknowledged: Option<Duration>,
) -> Result<(Listener, ListenAddress), StartError> {
    let (listener, address) = (config.name.clone(), config.address.clone());
    let bound = match &config.address {
        ListenAddress::Tcp(address) => bind_tcp(*address, unacknowledged)
            .map(|(bound, address)| (bound, ListenAddress::Tcp(address))),
        ListenAddress::Unix { path, mode } => {
            bind_unix(path, *mode).map(|bound| (bound, address.clone()))
        }
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => {
            let owner = address.socket().and_then(sys::port_owner);
            let owner = owner.map_or_else(String::new, |owner| format!(" by {owner}"));
            StartError::AddressInUse {
                listener,
                address,
                owner,
            }
        }
        _ => StartError::Bind {
            listener,
            address,
            source,
        },
    })
}

/// Creates the socket's file. Replaces a socket left by a process that has ended, but no other
/// file.
fn bind_unix(path: &Path, mode: u32) -> io::Result<Listener> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if found.file_type().is_socket() => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            // Another process listens, or may listen.
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        },
        Ok(_) => {
            let why = "a file that is not a socket already exists there";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile(path.to_owned());
    // Set before any client can connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(Listener::unix(UnixListener::from(socket), file))
}

/// Time without a byte from a peer after which the system asks whether it is still there.
const PROBE_AFTER: Duration = Duration::from_secs(300);
/// Time between two such questions.
const PROBE_EVERY: Duration = Duration::from_secs(30);

fn bind_tcp(
    address: SocketAddr,
    unacknowledged: Option<Duration>,
) -> io::Result<(Listener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if let IpAddr::V6(ip) = address.ip() {
        // `[::]` includes all IPv4 addresses of the machine; any other address is only itself.
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    // On Windows the option would let two programs share a port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit these options on Linux, which saves system calls per connection.
    socket.set_tcp_nodelay(true)?;
    // A client with Keep Alive 0 that has lost its power would be connected for ever.
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(unacknowledged)?;
    #[cfg(not(target_os = "linux"))]
    let _ = unacknowledged;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((Listener::tcp(listener), address))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Transport;

    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(70));

    #[test]
    fn a_closed_window_is_the_limits_own_matter() {
        let of = |output_stalled_secs| {
            unacknowledged_max(&Limits {
                output_stalled_secs,
                ..Limits::default()
            })
        };
        assert_eq!(of(60), TIMEOUT);
        assert_eq!(of(0), None);
    }

    fn config(address: &str) -> ListenerConfig {
        ListenerConfig {
            address: ListenAddress::Tcp(address.parse().unwrap()),
            accept_rate: 0,
            proxies: Vec::new(),
            transport: Transport::Tcp,
            tls: None,
            policy: Arc::default(),
            name: "test".into(),
        }
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_address_and_process() {
        let (_held, address) = bind(&config("127.0.0.1:0"), TIMEOUT).unwrap();
        let error = bind(&config(&address.to_string()), TIMEOUT)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        if cfg!(target_os = "linux") {
            assert!(
                error.contains(&format!("(pid {})", std::process::id())),
                "{error}"
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_inherit_their_options() {
        let (listener, address) = bind(&config("127.0.0.1:0"), TIMEOUT).unwrap();
        let _client = std::net::TcpStream::connect(address.socket().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let socket = stream.options();
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), TIMEOUT);
        assert!(socket.nonblocking().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_AFTER);
    }

    #[test]
    fn the_unspecified_address_of_ipv6_takes_ipv4_too() {
        let Ok((listener, address)) = bind(&config("[::]:0"), TIMEOUT) else {
            return;
        };
        let port = address.socket().unwrap().port();
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_named_ipv6_address_leaves_the_port_of_ipv4_free() {
        let Ok((_listener, address)) = bind(&config("[::1]:0"), TIMEOUT) else {
            return;
        };
        let port = address.socket().unwrap().port();
        bind(&config(&format!("127.0.0.1:{port}")), TIMEOUT).unwrap();
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_goes_with_its_listener() {
        let directory = std::env::temp_dir().join(format!("martlet-unix-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("mqtt.sock");
        let mut config = config("127.0.0.1:0");
        let mode = 0o660;
        config.address = ListenAddress::Unix {
            path: path.clone(),
            mode,
        };
        let (listener, _) = bind(&config, TIMEOUT).unwrap();
        let found = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode);
        // A process that listens there keeps the socket.
        let error = bind(&config, TIMEOUT).unwrap_err().to_string();
        assert!(error.contains("mqtt.sock is in use"), "{error}");
        drop(listener);
        assert!(!path.exists());
        // A socket left by a killed process is replaced.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(bind(&config, TIMEOUT).unwrap());
        // A file that is no socket is kept.
        std::fs::write(&path, "data").unwrap();
        let error = format!("{:?}", bind(&config, TIMEOUT).unwrap_err());
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
