//! Binding listeners, and the options that connections inherit from them.
//!
//! One socket per address and never `SO_REUSEPORT`: a second node on the same port must fail
//! instead of taking half the connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::ListenerConfig;
use crate::poll::Listener;
use crate::start::StartError;
use crate::sys;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// How long the peer may leave what was sent to it unacknowledged. Finds half-open peers long
/// before their Keep Alive does.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// Opens the socket of one listener. Answers with the address it really has.
pub(crate) fn bind(config: &ListenerConfig) -> Result<(Listener, SocketAddr), StartError> {
    match try_bind(config.address) {
        Ok(bound) => Ok(bound),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(StartError::AddressInUse {
            listener: config.name.clone(),
            address: config.address,
            owner: sys::port_owner(config.address)
                .map_or_else(String::new, |owner| format!(" by {owner}")),
        }),
        Err(source) => Err(StartError::Bind {
            listener: config.name.clone(),
            address: config.address,
            source,
        }),
    }
}

fn try_bind(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if let IpAddr::V6(ip) = address.ip() {
        // `[::]` is every address of the machine, IPv4 too; any other is exactly itself.
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    // On Windows the option would let two programs share a port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Linux hands both on to accepted sockets, which saves two system calls per connection.
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((Listener::new(listener), address))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Transport;

    fn config(address: &str) -> ListenerConfig {
        ListenerConfig {
            address: address.parse().unwrap(),
            transport: Transport::Tcp,
            tls: None,
            policy: Arc::default(),
            name: "test".into(),
        }
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_address_and_process() {
        let (_held, address) = bind(&config("127.0.0.1:0")).unwrap();
        let error = bind(&config(&address.to_string())).unwrap_err().to_string();
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
        let (listener, address) = bind(&config("127.0.0.1:0")).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let socket = stream.options();
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
        assert!(socket.nonblocking().unwrap());
    }

    #[test]
    fn the_unspecified_address_of_ipv6_takes_ipv4_too() {
        let Ok((listener, address)) = bind(&config("[::]:0")) else {
            return;
        };
        let _client = std::net::TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_named_ipv6_address_leaves_the_port_of_ipv4_free() {
        let Ok((_listener, address)) = bind(&config("[::1]:0")) else {
            return;
        };
        bind(&config(&format!("127.0.0.1:{}", address.port()))).unwrap();
    }
}
