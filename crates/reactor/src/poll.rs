//! Readiness of sockets: waiting for it, and wakeups. `mio` is used in this file only.
//!
//! Edge-triggered: each socket is registered for reading and writing once, when its reactor gets
//! it. So only the code that reads and writes keeps track of whether a socket is still ready; see
//! `socket.rs` of `martlet_tick`.

use std::io::{self, IoSlice, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use martlet_tick::Notice;
use mio::{Interest, Token};

/// On these systems, a short read means that the socket is empty, and the next byte brings a new
/// notice. On others, only `WouldBlock` means that.
pub(crate) const SHORT_READ_MEANS_EMPTY: bool = cfg!(unix);

/// Most notices taken from the system at once.
const EVENTS_PER_WAIT: usize = 1024;

/// Tokens of sockets count up from 0. Tokens of listeners count down from the one below this.
const WAKE: Token = Token(usize::MAX);

/// Waits for sockets.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: mio::Poll,
    events: mio::Events,
}

/// Subject of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notified {
    /// A socket, by the key that it was registered with.
    Socket(u32),
    /// A listener, by its number.
    Listener(usize),
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: mio::Poll::new()?,
            events: mio::Events::with_capacity(EVENTS_PER_WAIT),
        })
    }

    /// Returns the handle to end a wait from another thread; one per poller.
    pub(crate) fn waker(&self) -> io::Result<Arc<Wakeup>> {
        let waker = mio::Waker::new(self.poll.registry(), WAKE)?;
        Ok(Arc::new(Wakeup {
            waker,
            sleeping: AtomicBool::new(false),
        }))
    }

    /// Waits for notices for at most `timeout`; `None` means no limit. An interrupted wait returns
    /// no notices.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Returns the notices of the last wait.
    pub(crate) fn notices(&self) -> impl Iterator<Item = (Notified, Notice)> {
        self.events
            .iter()
            .filter(|event| event.token() != WAKE)
            .map(|event| {
                let notice = Notice {
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    read_closed: event.is_read_closed() || event.is_error(),
                    broken: event.is_error() || event.is_write_closed(),
                };
                (source_of(event.token()), notice)
            })
    }

    /// Registers this socket under `key` until it is dropped or removed.
    pub(crate) fn add(&self, stream: &mut Stream, key: u32) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream.0, Token(key as usize), interest)
    }

    /// Removes this socket, which moves to another reactor.
    pub(crate) fn remove(&self, stream: &mut Stream) -> io::Result<()> {
        self.poll.registry().deregister(&mut stream.0)
    }

    /// Registers a listener for notices of waiting connections.
    pub(crate) fn add_listener(&self, listener: &mut Listener, number: usize) -> io::Result<()> {
        let token = Token(usize::MAX - 1 - number);
        let registry = self.poll.registry();
        match listener {
            Listener::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            Listener::Unix { listener, .. } => {
                registry.register(listener, token, Interest::READABLE)
            }
        }
    }
}

fn source_of(token: Token) -> Notified {
    match u32::try_from(token.0) {
        Ok(key) => Notified::Socket(key),
        Err(_) => Notified::Listener(usize::MAX - 1 - token.0),
    }
}

/// Wakes one reactor. Costs a system call only if the reactor sleeps.
#[derive(Debug)]
pub(crate) struct Wakeup {
    waker: mio::Waker,
    sleeping: AtomicBool,
}

impl Wakeup {
    /// Call this before the reactor sleeps. Afterwards, the reactor must check its mailboxes once
    /// more.
    pub(crate) fn falls_asleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `wake`: either the reactor sees the message, or the sender sees
        // that the reactor sleeps.
        fence(Ordering::SeqCst);
    }

    /// Call this when the reactor is awake.
    pub(crate) fn is_awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Wakes the reactor after something was put into one of its mailboxes.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            // Fails only when the reactor has ended.
            let _ = self.waker.wake();
        }
    }
}

/// An accepted connection, non-blocking. Reading and writing is the same for Unix sockets and TCP
/// sockets, and there may be a million connections, so the type is not stored.
#[derive(Debug)]
pub(crate) struct Stream(mio::net::TcpStream);

impl Stream {
    /// Wraps a non-blocking Unix socket.
    pub(crate) fn unix(socket: std::os::unix::net::UnixStream) -> Self {
        let socket = net::TcpStream::from(OwnedFd::from(socket));
        Self(mio::net::TcpStream::from_std(socket))
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| receive(&mut self.0, buffer))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| send(&mut self.0, bytes))
    }

    pub(crate) fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| self.0.write_vectored(parts))
    }

    /// Shuts down the sending direction.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Access to the options of the socket.
    #[cfg(test)]
    pub(crate) fn options(&self) -> socket2::SockRef<'_> {
        socket2::SockRef::from(&self.0)
    }

    /// The number of the file descriptor.
    pub(crate) fn descriptor(&self) -> u64 {
        u64::try_from(self.0.as_raw_fd()).unwrap_or(0)
    }

    /// Sets the options that sockets do not inherit from their listener on this system.
    pub(crate) fn set_options(&self) -> io::Result<()> {
        if cfg!(target_os = "linux") {
            Ok(())
        } else {
            self.0.set_nodelay(true)
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::write_vectored(self, parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(mio::net::TcpListener),
    Unix {
        listener: mio::net::UnixListener,
        /// The socket's file, removed with the listener.
        _file: SocketFile,
    },
}

/// File of a Unix socket. Removed when its listener is closed.
#[derive(Debug)]
pub(crate) struct SocketFile(pub(crate) PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The file may have been removed already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Wraps a non-blocking listener.
    pub(crate) fn tcp(listener: net::TcpListener) -> Self {
        Self::Tcp(mio::net::TcpListener::from_std(listener))
    }

    /// Wraps a non-blocking listener.
    pub(crate) fn unix(listener: UnixListener, file: SocketFile) -> Self {
        Self::Unix {
            listener: mio::net::UnixListener::from_std(listener),
            _file: file,
        }
    }

    /// Accepts a waiting connection. Returns its peer's address, or `None` for a Unix socket.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => listener
                .accept()
                .map(|(stream, address)| (Stream(stream), Some(address))),
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::unix(stream.into()), None))
            }
        }
    }
}

/// Reads without the C library. Its calls are cancellation points; in a program with several
/// threads, each such call costs some atomic operations.
#[cfg(target_os = "linux")]
fn receive(stream: &mut mio::net::TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(stream, buffer, rustix::net::RecvFlags::empty())?.0)
}

/// Writes without the C library, as in [`receive`].
#[cfg(target_os = "linux")]
fn send(stream: &mut mio::net::TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(
        stream,
        bytes,
        rustix::net::SendFlags::NOSIGNAL,
    )?)
}

#[cfg(not(target_os = "linux"))]
fn receive(stream: &mut mio::net::TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    io::Read::read(stream, buffer)
}

#[cfg(not(target_os = "linux"))]
fn send(stream: &mut mio::net::TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(bytes)
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
