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
    budget: Budget,
}

/// Connections of one listener that may still be accepted. What is beyond it waits in the system's
/// queue, where it costs nothing: no handshake, no place.
#[derive(Debug)]
struct Budget {
    /// Per second; 0 is no limit.
    rate: u32,
    /// In this second.
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

    /// How many of `wanted` may be accepted now.
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

    /// When the next connection may be accepted; 0 is at once.
    fn due_ms(&self) -> u64 {
        match self.rate > 0 && self.left == 0 {
            true => (self.second + 1) * 1000,
            false => 0,
        }
    }
}

/// What accepting came to.
pub(crate) enum Accepted {
    /// A connection, from the listener with that number.
    Connection(Stream, Option<SocketAddr>, usize),
    /// There is no room for more files; accepting rests.
    Paused,
}

impl Door {
    /// Begins to listen for notices. With each listener come the connections per second that are
    /// accepted from it; 0 is no limit.
    pub(crate) fn new(poller: &Poller, listeners: Vec<(Listener, u32)>) -> io::Result<Self> {
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
        let waiting = self.listeners.iter().filter(|listening| listening.waiting);
        let due = waiting.map(|listening| listening.budget.due_ms());
        due.min().map(|due_ms| due_ms.max(self.paused_until_ms))
    }

    /// Accepts what waits, up to a bound.
    pub(crate) fn accept(&mut self, now_ms: u64, mut take: impl FnMut(Accepted)) {
        if now_ms < self.paused_until_ms {
            return;
        }
        for (number, listening) in self.listeners.iter_mut().enumerate() {
            for _ in 0..listening.budget.take(ACCEPTS_PER_TICK, now_ms) {
                if !listening.waiting {
                    break;
                }
                match listening.listener.accept() {
                    Ok((stream, address)) => {
                        listening.budget.spend();
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
