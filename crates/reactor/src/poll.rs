//! Readiness of sockets, waiting for it and being woken. All of `mio` is in this file.
//!
//! Edge-triggered: each socket is registered once, for reading and writing, when its reactor gets
//! it, and never again. So only the code that reads and writes knows whether a socket is
//! still ready; see `socket.rs` of `martlet_tick`.

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

/// A short read says that a socket has nothing more, and the next byte brings a new notice. Where
/// the system does not promise that, only `WouldBlock` says so.
pub(crate) const SHORT_READ_MEANS_EMPTY: bool = cfg!(unix);

/// Notices taken from the system at once.
const EVENTS_PER_WAIT: usize = 1024;

/// Tokens of sockets count from 0, those of listeners down from the one before last.
const WAKE: Token = Token(usize::MAX);

/// Waits for sockets.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: mio::Poll,
    events: mio::Events,
}

/// What a notice is about.
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

    /// The way to end a wait from another thread; one per poller.
    pub(crate) fn waker(&self) -> io::Result<Arc<Wakeup>> {
        let waker = mio::Waker::new(self.poll.registry(), WAKE)?;
        Ok(Arc::new(Wakeup {
            waker,
            sleeping: AtomicBool::new(false),
        }))
    }

    /// Waits for notices, at most for `timeout`; none: for ever. An interrupted wait returns no
    /// notices.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// The notices that the last wait brought.
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

    /// Gives notice of this socket under `key` until it is dropped or taken out.
    pub(crate) fn add(&self, stream: &mut Stream, key: u32) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream.0, Token(key as usize), interest)
    }

    /// Gives no more notice of this socket, which goes to another reactor.
    pub(crate) fn remove(&self, stream: &mut Stream) -> io::Result<()> {
        self.poll.registry().deregister(&mut stream.0)
    }

    /// Gives notice of connections that wait to be accepted.
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

/// Wakes one reactor; costs a system call only when that sleeps.
#[derive(Debug)]
pub(crate) struct Wakeup {
    waker: mio::Waker,
    sleeping: AtomicBool,
}

impl Wakeup {
    /// The reactor is about to sleep; it must look into its mailboxes once more after this.
    pub(crate) fn falls_asleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        // Together with the fence in `wake`: either the reactor sees the letter or the sender
        // sees that it sleeps.
        fence(Ordering::SeqCst);
    }

    /// The reactor is awake.
    pub(crate) fn is_awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Something has been put into a mailbox of the reactor.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            // Fails only when the reactor is gone.
            let _ = self.waker.wake();
        }
    }
}

/// An accepted connection; never blocks. To be read from and written to, a Unix socket is no other
/// thing than one of TCP, and there may be a million: so it is not told apart.
#[derive(Debug)]
pub(crate) struct Stream(mio::net::TcpStream);

impl Stream {
    /// Takes a Unix socket that does not block.
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

    /// Says to the peer that nothing more will come.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// The options of the socket, to be looked at.
    #[cfg(test)]
    pub(crate) fn options(&self) -> socket2::SockRef<'_> {
        socket2::SockRef::from(&self.0)
    }

    /// The number of its descriptor.
    pub(crate) fn descriptor(&self) -> u64 {
        u64::try_from(self.0.as_raw_fd()).unwrap_or(0)
    }

    /// Options that sockets do not inherit from their listener on this system.
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
        /// Goes with it.
        _file: SocketFile,
    },
}

/// The file of a Unix socket, removed when its listener is closed.
#[derive(Debug)]
pub(crate) struct SocketFile(pub(crate) PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Takes a listener that does not block.
    pub(crate) fn tcp(listener: net::TcpListener) -> Self {
        Self::Tcp(mio::net::TcpListener::from_std(listener))
    }

    /// Takes a listener that does not block.
    pub(crate) fn unix(listener: UnixListener, file: SocketFile) -> Self {
        Self::Unix {
            listener: mio::net::UnixListener::from_std(listener),
            _file: file,
        }
    }

    /// A connection that waits, and where it comes from, unless that is this machine.
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

/// Reads without the C library, whose calls are points where a thread may be cancelled: with more
/// than one thread that costs each call some atomic operations.
#[cfg(target_os = "linux")]
fn receive(stream: &mut mio::net::TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(stream, buffer, rustix::net::RecvFlags::empty())?.0)
}

/// As [`receive`].
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
