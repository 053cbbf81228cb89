//! Accepting connections, on the first reactor only. Accepted ones are dealt out evenly.
//!
//! Knows nothing of what becomes of them.

use std::io;
use std::net::SocketAddr;

use crate::poll::{Listener, Poller, Stream};

/// Connections accepted from one listener in one tick at most, so that a flood of them does not
/// keep those that are there waiting.
const ACCEPTS_PER_TICK: usize = 64;

/// How long accepting rests when no file can be opened.
const PAUSE_MS: u64 = 100;

/// The listeners of a node.
#[derive(Debug)]
pub(crate) struct Door {
    listeners: Vec<Listening>,
    /// Nothing is accepted before that time.
    paused_until_ms: u64,
}

#[derive(Debug)]
struct Listening {
    listener: Listener,
    /// Connections may wait.
    waiting: bool,
}

/// What accepting came to.
pub(crate) enum Accepted {
    /// A connection, from the listener with that number.
    Connection(Stream, SocketAddr, usize),
    /// There is no room for more files; accepting rests.
    Paused,
}

impl Door {
    /// Begins to listen for notices.
    pub(crate) fn new(poller: &Poller, listeners: Vec<Listener>) -> io::Result<Self> {
        let mut all = Vec::with_capacity(listeners.len());
        for (number, mut listener) in listeners.into_iter().enumerate() {
            poller.add_listener(&mut listener, number)?;
            all.push(Listening {
                listener,
                waiting: true,
            });
        }
        Ok(Self {
            listeners: all,
            paused_until_ms: 0,
        })
    }

    /// Connections wait at this listener.
    pub(crate) fn notice(&mut self, number: usize) {
        if let Some(listening) = self.listeners.get_mut(number) {
            listening.waiting = true;
        }
    }

    /// When there is something to accept: 0 is at once, none is not before a notice.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.listeners
            .iter()
            .any(|listening| listening.waiting)
            .then_some(self.paused_until_ms)
    }

    /// Accepts what waits, up to a bound.
    pub(crate) fn accept(&mut self, now_ms: u64, mut take: impl FnMut(Accepted)) {
        if now_ms < self.paused_until_ms {
            return;
        }
        for (number, listening) in self.listeners.iter_mut().enumerate() {
            for _ in 0..ACCEPTS_PER_TICK {
                if !listening.waiting {
                    break;
                }
                match listening.listener.accept() {
                    Ok((stream, address)) => {
                        take(Accepted::Connection(stream, address, number));
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => listening.waiting = false,
                        // The peer has gone again; the next one may be fine.
                        io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted => {}
                        // EMFILE, ENFILE, ENOMEM and whatever else would only come again.
                        _ => {
                            self.paused_until_ms = now_ms + PAUSE_MS;
                            take(Accepted::Paused);
                            return;
                        }
                    },
                }
            }
        }
    }
}
