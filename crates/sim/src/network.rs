//! The network: one link per connection, with two pipes. Bytes arrive late, in chunks of any size,
//! never out of order; a link may be cut at any byte, with or without a report to its ends.

use std::collections::VecDeque;

use martlet_broker::TransportEnd;

use crate::agenda::{Agenda, Due};
use crate::facts::ClientIndex;
use crate::node::LinkIndex;
use crate::random::Random;
use crate::store::Lsn;

/// Behaviour of a client's connections.
#[derive(Clone, Copy, Debug)]
pub struct LinkProfile {
    /// Latency of one way, microseconds.
    pub latency_us: u64,
    /// Maximum jitter added to it.
    pub jitter_us: u64,
    /// Percentage of writes that arrive in pieces.
    pub split_percent: u64,
    /// Bytes in transit to the client before the node has to wait.
    pub window: usize,
}

impl LinkProfile {
    /// Behaviour of all links after disturbances are over.
    pub const HEALED: Self = Self {
        latency_us: 500,
        jitter_us: 0,
        split_percent: 0,
        window: 256 * 1024,
    };
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    at_us: u64,
    len: usize,
    durable: Lsn,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    chunks: VecDeque<Chunk>,
    last_at_us: u64,
    end: Option<(u64, TransportEnd)>,
    /// Whether new data vanishes.
    black: bool,
}

/// The link of a connection.
#[derive(Debug)]
struct Link {
    client: ClientIndex,
    profile: LinkProfile,
    up: Pipe,
    down: Pipe,
}

/// All links so far.
#[derive(Debug)]
pub struct Network {
    links: Vec<Link>,
    random: Random,
}

/// Output of a pipe.
#[derive(Debug)]
pub enum Arrival {
    /// Bytes, and the last durable record when they were sent.
    Bytes(Vec<u8>, Lsn),
    /// The end of the stream.
    End(TransportEnd),
}

impl Network {
    /// No links.
    pub fn new(random: Random) -> Self {
        Self {
            links: Vec::new(),
            random,
        }
    }

    /// A new link; links are numbered like the sockets of the node.
    pub fn open(&mut self, client: ClientIndex, profile: LinkProfile, now_us: u64) -> LinkIndex {
        let pipe = || Pipe {
            last_at_us: now_us,
            ..Pipe::default()
        };
        self.links.push(Link {
            client,
            profile,
            up: pipe(),
            down: pipe(),
        });
        (self.links.len() - 1) as LinkIndex
    }

    /// The client of a link.
    pub fn client(&self, link: LinkIndex) -> ClientIndex {
        self.links[link as usize].client
    }

    /// Sends data of a client.
    pub fn send_up(&mut self, agenda: &mut Agenda, link: LinkIndex, bytes: &[u8]) {
        let Self { links, random } = self;
        let found = &mut links[link as usize];
        let profile = found.profile;
        found
            .up
            .send(agenda, random, &profile, bytes, 0, Due::Up(link));
    }

    /// Sends data of the node.
    pub fn send_down(&mut self, agenda: &mut Agenda, link: LinkIndex, bytes: &[u8], durable: Lsn) {
        let Self { links, random } = self;
        let found = &mut links[link as usize];
        let profile = found.profile;
        found
            .down
            .send(agenda, random, &profile, bytes, durable, Due::Down(link));
    }

    /// Closes a client's end; earlier data still arrives if `orderly`, else it is lost.
    pub fn close_up(&mut self, agenda: &mut Agenda, link: LinkIndex, orderly: bool) {
        let found = &mut self.links[link as usize];
        found.down = Pipe {
            black: true,
            ..Pipe::default()
        };
        let end = if orderly {
            TransportEnd::EndOfStream
        } else {
            found.up.cut(&mut self.random);
            TransportEnd::Error
        };
        let latency_us = found.profile.latency_us;
        found.up.close(agenda, latency_us, end, Due::Up(link));
    }

    /// The node sends no more, but still receives.
    pub fn finish_down(&mut self, agenda: &mut Agenda, link: LinkIndex) {
        let found = &mut self.links[link as usize];
        let latency_us = found.profile.latency_us;
        let end = TransportEnd::EndOfStream;
        found.down.close(agenda, latency_us, end, Due::Down(link));
    }

    /// The node has dropped its end: data in transit from it may be lost, unless the node finished
    /// before.
    pub fn drop_down(&mut self, agenda: &mut Agenda, link: LinkIndex) {
        let found = &mut self.links[link as usize];
        found.up = Pipe {
            black: true,
            ..Pipe::default()
        };
        if found.down.end.is_none() {
            found.down.cut(&mut self.random);
            let latency_us = found.profile.latency_us;
            let end = TransportEnd::Error;
            found.down.close(agenda, latency_us, end, Due::Down(link));
        }
    }

    /// The client vanishes without a report: data for it accumulates unanswered.
    pub fn vanish(&mut self, link: LinkIndex) {
        let Self { links, random } = self;
        let found = &mut links[link as usize];
        found.up.cut(random);
        found.up.black = true;
        found.down = Pipe {
            black: true,
            ..Pipe::default()
        };
    }

    /// Breaks the link at any byte in transit; both ends are notified, or neither.
    pub fn cut(&mut self, agenda: &mut Agenda, link: LinkIndex, half_open: bool) {
        let Self { links, random } = self;
        let found = &mut links[link as usize];
        let latency_us = found.profile.latency_us;
        for (pipe, due) in [
            (&mut found.up, Due::Up(link)),
            (&mut found.down, Due::Down(link)),
        ] {
            pipe.cut(random);
            if !half_open {
                pipe.close(agenda, latency_us, TransportEnd::Error, due);
            }
            pipe.black = true;
        }
    }

    /// Ends the disturbances of an existing link.
    pub fn heal(&mut self, link: LinkIndex) {
        self.links[link as usize].profile = LinkProfile::HEALED;
    }

    /// Data that has arrived at the node by now.
    pub fn take_up(&mut self, link: LinkIndex, now_us: u64) -> Option<Arrival> {
        self.links[link as usize].up.take(now_us)
    }

    /// Data that has arrived at the client by now.
    pub fn take_down(&mut self, link: LinkIndex, now_us: u64) -> Option<Arrival> {
        self.links[link as usize].down.take(now_us)
    }
}

impl Pipe {
    fn send(
        &mut self,
        agenda: &mut Agenda,
        random: &mut Random,
        profile: &LinkProfile,
        bytes: &[u8],
        durable: Lsn,
        due: Due,
    ) {
        if self.black || self.end.is_some() || bytes.is_empty() {
            return;
        }
        self.bytes.extend(bytes);
        let mut left = bytes.len();
        while left > 0 {
            let split = left > 1 && random.percent(profile.split_percent);
            let len = if split {
                random.between(1, left as u64 - 1) as usize
            } else {
                left
            };
            left -= len;
            let delay_us = profile.latency_us + random.below(profile.jitter_us + 1);
            let at_us = self.last_at_us.max(agenda.now_us() + delay_us);
            self.last_at_us = at_us;
            self.chunks.push_back(Chunk {
                at_us,
                len,
                durable,
            });
            agenda.enter(at_us, due);
        }
    }

    /// Cuts a pipe: only some of the bytes in transit arrive.
    fn cut(&mut self, random: &mut Random) {
        let mut kept = random.below(self.bytes.len() as u64 + 1) as usize;
        self.bytes.truncate(kept);
        for chunk in &mut self.chunks {
            chunk.len = chunk.len.min(kept);
            kept -= chunk.len;
        }
        self.chunks.retain(|chunk| chunk.len > 0);
    }

    fn close(&mut self, agenda: &mut Agenda, latency_us: u64, end: TransportEnd, due: Due) {
        if self.black || self.end.is_some() {
            return;
        }
        let at_us = self.last_at_us.max(agenda.now_us() + latency_us);
        self.end = Some((at_us, end));
        agenda.enter(at_us, due);
    }

    fn take(&mut self, now_us: u64) -> Option<Arrival> {
        if let Some(chunk) = self.chunks.pop_front_if(|chunk| chunk.at_us <= now_us) {
            let bytes = self.bytes.drain(..chunk.len).collect();
            return Some(Arrival::Bytes(bytes, chunk.durable));
        }
        let is_due = |end: &mut (u64, _)| self.chunks.is_empty() && end.0 <= now_us;
        let (_, end) = self.end.take_if(is_due)?;
        self.black = true;
        Some(Arrival::End(end))
    }
}
