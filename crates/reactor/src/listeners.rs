//! Accepts connections, on the first reactor only. Accepted connections are distributed evenly to
//! the shards.
//!
//! The use of the connections is decided elsewhere.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::descriptors::Descriptors;
use crate::poll::{Listener, Poller, Stream};
use crate::stats::SocketCount;

/// Most connections accepted from one listener in one tick, so that a flood of connections does not
/// delay existing clients.
pub(crate) const ACCEPTS_PER_TICK: usize = 64;

/// How long accepting pauses when too few descriptors are left, unless a client socket is closed
/// earlier. Other parts of the process free descriptors as well.
const PAUSE_MS: u64 = 100;

/// The listeners of a node.
#[derive(Debug)]
pub(crate) struct Listeners {
    listeners: Vec<Listening>,
    descriptors: Descriptors,
    sockets: Arc<SocketCount>,
    /// While accepting is paused, the time of the next attempt.
    next_try_ms: u64,
    /// Whether other parts of the process have taken most of the reserve.
    are_few: bool,
    /// Whether connections are accepted. Until then they wait in the system's queue.
    is_open: bool,
}

#[derive(Debug)]
struct Listening {
    listener: Listener,
    /// Whether connections may be waiting.
    waiting: bool,
    budget: Budget,
}

/// Rate limit of one listener: connections that may still be accepted. Further ones wait in the
/// system's queue, where they need no handshake and no slot.
#[derive(Debug)]
struct Budget {
    /// Connections per second; 0 means no limit.
    rate: u32,
    /// Connections left in this second.
    left: u32,
    second: u64,
}

impl Budget {
    fn new(rate: u32) -> Self {
        Self {
            rate,
            left: rate,
            second: 0,
        }
    }

    /// Returns how many of `wanted` connections may be accepted now.
    fn take(&mut self, wanted: usize, now_ms: u64) -> usize {
        if self.rate == 0 {
            return wanted;
        }
        let second = now_ms / 1000;
        if second != self.second {
            (self.second, self.left) = (second, self.rate);
        }
        wanted.min(self.left as usize)
    }

    fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// When the next connection may be accepted; 0 means now.
    fn due_ms(&self) -> u64 {
        match self.rate > 0 && self.left == 0 {
            true => (self.second + 1) * 1000,
            false => 0,
        }
    }
}

/// Result of accepting.
pub(crate) enum Accepted {
    /// A connection, its peer's address, and the number of its listener.
    Connection(Stream, Option<SocketAddr>, usize),
    /// Too few descriptors are left: accepting is now paused.
    Paused,
}

impl Listeners {
    /// Registers the listeners with the poller. Each listener comes with its limit of connections
    /// per second; 0 means no limit.
    pub(crate) fn new(
        poller: &Poller,
        listeners: Vec<(Listener, u32)>,
        descriptors: Descriptors,
        sockets: Arc<SocketCount>,
        is_open: bool,
    ) -> io::Result<Self> {
        let mut all = Vec::with_capacity(listeners.len());
        for (number, (mut listener, accept_rate)) in listeners.into_iter().enumerate() {
            poller.add_listener(&mut listener, number)?;
            all.push(Listening {
                listener,
                waiting: true,
                budget: Budget::new(accept_rate),
            });
        }
        Ok(Self {
            listeners: all,
            descriptors,
            sockets,
            next_try_ms: 0,
            are_few: false,
            is_open,
        })
    }

    /// Starts to accept connections.
    pub(crate) fn open(&mut self) {
        self.is_open = true;
    }

    /// Notes that connections wait at this listener.
    pub(crate) fn notice(&mut self, number: usize) {
        if let Some(listening) = self.listeners.get_mut(number) {
            listening.waiting = true;
        }
    }

    /// When to accept next: 0 means now, `None` means not before a notice.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        if !self.is_open {
            return None;
        }
        let waiting = self.listeners.iter().filter(|listening| listening.waiting);
        let due = waiting.map(|listening| listening.budget.due_ms()).min()?;
        Some(match self.sockets.is_paused() {
            true => due.max(self.next_try_ms),
            false => due,
        })
    }

    /// Whether descriptors are left in addition to the reserve.
    fn has_room(&mut self) -> bool {
        if self.sockets.get() as u64 >= self.descriptors.connections {
            return false;
        }
        self.are_few = self.are_few && self.descriptors.are_few();
        !self.are_few
    }

    fn pause(&mut self, now_ms: u64, mut take: impl FnMut(Accepted)) {
        self.next_try_ms = now_ms + PAUSE_MS;
        if self.sockets.pause() {
            take(Accepted::Paused);
        }
    }

    /// Accepts waiting connections, up to a limit.
    pub(crate) fn accept(&mut self, now_ms: u64, mut take: impl FnMut(Accepted)) {
        if !self.is_open {
            return;
        }
        if self.sockets.is_paused() && now_ms < self.next_try_ms {
            return;
        }
        for number in 0..self.listeners.len() {
            let budget = &mut self.listeners[number].budget;
            for _ in 0..budget.take(ACCEPTS_PER_TICK, now_ms) {
                if !self.listeners[number].waiting {
                    break;
                }
                if !self.has_room() {
                    return self.pause(now_ms, take);
                }
                let listening = &mut self.listeners[number];
                match listening.listener.accept() {
                    Ok((stream, address)) => {
                        listening.budget.spend();
                        self.are_few = self.descriptors.are_few_after(stream.descriptor());
                        take(Accepted::Connection(stream, address, number));
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => listening.waiting = false,
                        // The peer has already disconnected; the next connection may be usable.
                        io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted => {}
                        // EMFILE, ENFILE, ENOMEM, and other errors that would only occur again.
                        _ => return self.pause(now_ms, take),
                    },
                }
            }
        }
        // All waiting connections have been accepted, or only rate limits of listeners hold them
        // back.
        self.sockets.resume();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_within_its_second_and_there_again_in_the_next() {
        let mut budget = Budget::new(3);
        let mut second = |from_ms: u64| {
            let mut accepted = 0;
            while budget.take(2, from_ms) > 0 {
                budget.spend();
                accepted += 1;
            }
            (accepted, budget.due_ms())
        };
        assert_eq!(second(5_100), (3, 6_000));
        assert_eq!(second(5_999), (0, 6_000));
        assert_eq!(second(6_000), (3, 7_000));
        assert_eq!(Budget::new(0).take(64, 1), 64);
        assert_eq!(Budget::new(0).due_ms(), 0);
    }
}
