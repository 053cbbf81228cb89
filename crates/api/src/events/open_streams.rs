//! The open streams of events, and their limits: the number of streams of one caller, of one team
//! and of all, and the bytes that may wait for all readers together. Above the limit of bytes the
//! streams wait, and a stream whose reader does not read is ended.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use martlet_control::principal::{Principal, PrincipalKind, Scopes};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::info;

use crate::problem::Problem;

/// Streams at once.
const ALL_MAX: usize = 256;
/// Streams of one key, user or other caller.
const OF_CALLER_MAX: usize = 32;
/// Streams of all keys and users of one team.
const OF_TEAM_MAX: usize = 64;
/// Left for administrators and `admin.sock` by all others.
const FOR_ADMINISTRATORS: usize = 48;
/// Left for `admin.sock` by administrators, too.
const FOR_SOCKET: usize = 16;
/// Bytes that may wait for all readers, in sixteenths of `limits.memory_bytes`, and where that is
/// less: one reader that reads may be sent any event.
const PARTS: usize = 2;
const LEAST_BYTES: usize = 8 * 1024 * 1024;
/// Time without any progress after which a reader does not read.
const PATIENCE: Duration = Duration::from_millis(500);

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Mutex<StreamCounts>,
    /// Bytes that may wait for readers; 0: no limit is known.
    bytes_max: AtomicUsize,
    /// Less waits for a reader than before.
    freed: Notify,
}

#[derive(Debug, Default)]
struct StreamCounts {
    all: usize,
    of_caller: HashMap<String, usize>,
    of_team: HashMap<String, usize>,
    /// Number of the last stream.
    last: u64,
    readers: BTreeMap<u64, StreamBacklog>,
    /// Bytes that wait for readers.
    bytes: usize,
}

/// Lines that wait for one reader.
#[derive(Debug)]
struct StreamBacklog {
    bytes: usize,
    /// When some of it left last, or it came.
    since: Instant,
    slot: Arc<StreamSlot>,
}

/// State that a stream shares with the code that may end it.
#[derive(Debug, Default)]
struct StreamSlot {
    /// Chunks that leave next, of a stream of server-sent events.
    chunks: Mutex<VecDeque<Bytes>>,
    has_ended: AtomicBool,
    ended: Notify,
}

impl StreamSlot {
    fn chunks(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

/// A stream that is open, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Arc<Streams>,
    caller: String,
    team: Option<String>,
    number: u64,
    slot: Arc<StreamSlot>,
}

/// How many streams there may be when this caller opens one.
fn most(principal: &Principal) -> usize {
    let is_administrator = principal.team.is_none() && principal.scopes == Scopes::all();
    match principal.kind {
        PrincipalKind::Socket => ALL_MAX,
        _ if is_administrator => ALL_MAX - FOR_SOCKET,
        _ => ALL_MAX - FOR_ADMINISTRATORS,
    }
}

impl Streams {
    /// Opens a stream for a caller.
    ///
    /// # Errors
    /// A limit is reached; which one.
    pub(super) fn open(self: &Arc<Self>, principal: &Principal) -> Result<OpenStream, Problem> {
        let (caller, team) = (principal.to_string(), principal.team.clone());
        let mut open = self.lock();
        let count = |of: &HashMap<String, usize>, name: &str| of.get(name).copied().unwrap_or(0);
        let own = count(&open.of_caller, &caller);
        let of_team = team.as_deref().map_or(0, |team| count(&open.of_team, team));
        let is_socket = principal.kind == PrincipalKind::Socket;
        let why = match () {
            () if own >= OF_CALLER_MAX && !is_socket => {
                format!("{caller} has {OF_CALLER_MAX} streams of events open")
            }
            () if of_team >= OF_TEAM_MAX => {
                format!("the team has {OF_TEAM_MAX} streams of events open")
            }
            () if open.all >= most(principal) => {
                format!("{} streams of events are open", open.all)
            }
            () => {
                open.all += 1;
                *open.of_caller.entry(caller.clone()).or_default() += 1;
                if let Some(team) = &team {
                    *open.of_team.entry(team.clone()).or_default() += 1;
                }
                open.last += 1;
                let (number, slot) = (open.last, Arc::<StreamSlot>::default());
                let waiting = StreamBacklog {
                    bytes: 0,
                    since: Instant::now(),
                    slot: Arc::clone(&slot),
                };
                open.readers.insert(number, waiting);
                return Ok(OpenStream {
                    streams: Arc::clone(self),
                    caller,
                    team,
                    number,
                    slot,
                });
            }
        };
        let detail = format!("{why}, which is the limit; close one of them first");
        Err(Problem::unavailable(detail))
    }

    fn lock(&self) -> MutexGuard<'_, StreamCounts> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that wait for readers.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.lock().bytes
    }

    fn has_room(&self) -> bool {
        let max = self.bytes_max.load(Ordering::Relaxed);
        max == 0 || self.memory_bytes() < max
    }

    /// Ends readers that do not read, if there is no room. All of them: others wait.
    fn make_room(&self) {
        if !self.has_room() {
            while self.lock().end_one() {}
        }
        self.freed.notify_waiters();
    }

    /// Bounds what may wait for readers, by the part of the memory that one kind may take.
    pub(crate) fn set_bytes_max(&self, part: usize) {
        let max = part.saturating_mul(PARTS).max(LEAST_BYTES);
        self.bytes_max.store(max, Ordering::Relaxed);
    }
}

impl OpenStream {
    /// From now on this many bytes wait for the reader.
    pub(super) fn hold(&self, bytes: usize) {
        self.streams.lock().hold(self.number, bytes);
        self.streams.freed.notify_waiters();
    }

    /// The reader has taken some of it.
    pub(super) fn progress(&self) {
        if let Some(waiting) = self.streams.lock().readers.get_mut(&self.number) {
            waiting.since = Instant::now();
        }
    }

    /// Waits until there is room for what its reader gets next. While there is none, readers are
    /// ended that take nothing of what waits for them.
    pub(super) async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.streams.freed.notified());
            // Before it is looked, so that nothing that is freed meanwhile is missed.
            freed.as_mut().enable();
            if self.streams.has_room() {
                return;
            }
            if tokio::time::timeout(PATIENCE, freed).await.is_err() {
                self.streams.make_room();
            }
        }
    }

    /// Keeps what leaves next; it counts as what waits for the reader.
    pub(super) fn keep(&self, chunks: VecDeque<Bytes>) {
        if !self.has_ended() {
            let bytes = chunks.iter().map(Bytes::len).sum();
            *self.slot.chunks() = chunks;
            self.hold(bytes);
        }
    }

    /// Takes the next `most` bytes of that, and whether the chunk that they are of goes on.
    pub(super) fn pop(&self, most: usize) -> Option<(Bytes, bool)> {
        self.progress();
        let mut chunks = self.slot.chunks();
        let first = chunks.front_mut()?;
        if first.len() > most {
            // A copy: what is sent does not keep the whole.
            return Some((Bytes::copy_from_slice(&first.split_to(most)), true));
        }
        chunks.pop_front().map(|chunk| (chunk, false))
    }

    /// The stream was ended, because too much waited for readers.
    pub(super) fn has_ended(&self) -> bool {
        self.slot.has_ended()
    }

    /// Waits until that is so.
    pub(super) async fn ended(&self) {
        while !self.has_ended() {
            self.slot.ended.notified().await;
        }
    }
}

impl StreamCounts {
    fn hold(&mut self, number: u64, bytes: usize) {
        if let Some(waiting) = self.readers.get_mut(&number) {
            self.bytes = self.bytes - waiting.bytes + bytes;
            (waiting.bytes, waiting.since) = (bytes, Instant::now());
        }
    }

    /// Ends the reader that holds most, of those that take nothing of it. False if there is none.
    fn end_one(&mut self) -> bool {
        let is_silent = |one: &StreamBacklog| {
            !one.slot.has_ended() && one.bytes > 0 && one.since.elapsed() >= PATIENCE
        };
        let silent = self.readers.iter_mut().filter(|(_, one)| is_silent(one));
        let Some((number, one)) = silent.max_by_key(|(_, one)| one.bytes) else {
            return false;
        };
        info!(
            stream = number,
            bytes = one.bytes,
            all_bytes = self.bytes,
            "a stream of events was ended: its reader does not read, and events that wait for \
             readers use too much memory"
        );
        one.slot.has_ended.store(true, Ordering::Relaxed);
        one.slot.ended.notify_one();
        one.slot.chunks().clear();
        // What a WebSocket holds is dropped as soon as its task has its turn.
        self.bytes -= std::mem::take(&mut one.bytes);
        true
    }
}

fn give_back(of: &mut HashMap<String, usize>, name: &str) {
    if let Some(count) = of.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            of.remove(name);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        open.hold(self.number, 0);
        open.readers.remove(&self.number);
        self.streams.freed.notify_waiters();
        open.all -= 1;
        give_back(&mut open.of_caller, &self.caller);
        if let Some(team) = &self.team {
            give_back(&mut open.of_team, team);
        }
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::TenantId;
    use martlet_control::principal::Scope;

    use super::*;

    fn key(id: usize, team: Option<&str>, scopes: Scopes) -> Principal {
        Principal {
            kind: PrincipalKind::ApiKey {
                id: id.to_string(),
                name: id.to_string(),
            },
            scopes,
            team: team.map(str::to_owned),
            tenant: TenantId::default(),
        }
    }

    /// Opens streams of this caller until there is no place.
    fn fill(streams: &Arc<Streams>, principal: &Principal) -> Vec<OpenStream> {
        std::iter::from_fn(|| streams.open(principal).ok()).collect()
    }

    #[test]
    fn neither_a_key_nor_a_team_nor_all_others_take_every_stream() {
        let streams = Arc::new(Streams::default());
        let reads: Scopes = [Scope::EventsRead].into();
        let mut all = Vec::new();
        let one = fill(&streams, &key(0, Some("north"), reads));
        assert_eq!(one.len(), OF_CALLER_MAX);
        all.extend(one);
        for id in 1..9 {
            all.extend(fill(&streams, &key(id, Some("north"), reads)));
        }
        assert_eq!(all.len(), OF_TEAM_MAX, "whatever keys the team has");
        for id in 10..30 {
            all.extend(fill(&streams, &key(id, None, reads)));
        }
        assert_eq!(all.len(), ALL_MAX - FOR_ADMINISTRATORS);
        let by_administrators = fill(&streams, &key(40, None, Scopes::all()));
        assert_eq!(by_administrators.len(), OF_CALLER_MAX);
        let by_socket = fill(&streams, &Principal::socket());
        assert_eq!(by_socket.len(), FOR_SOCKET);
        drop((all, by_administrators, by_socket));
        let open = streams.lock();
        assert_eq!(open.all, 0);
        assert!(open.of_caller.is_empty() && open.of_team.is_empty());
        assert!(open.readers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_ended_and_who_reads_waits_for_room() {
        const PIECE: usize = 1024 * 1024;
        let streams = Arc::new(Streams::default());
        streams.set_bytes_max(0);
        let open = || streams.open(&Principal::socket()).unwrap();
        let keep = |place: &OpenStream, pieces: usize| {
            place.keep(vec![Bytes::from(vec![0; PIECE]); pieces].into());
        };
        let (large, small, reads, next) = (open(), open(), open(), open());
        next.room().await;
        keep(&large, 4);
        keep(&small, 1);
        keep(&reads, 6);
        let reading = async {
            loop {
                tokio::time::sleep(PATIENCE / 2).await;
                reads.pop(16);
            }
        };
        tokio::select! {
            () = next.room() => {}
            () = reading => {}
        }
        assert!(large.has_ended(), "it takes nothing");
        assert_eq!(large.pop(PIECE), None, "what it held is given back");
        assert!(small.has_ended() && !reads.has_ended());
        assert_eq!(streams.memory_bytes(), 6 * PIECE);
        drop((large, small, reads));
        assert_eq!(streams.memory_bytes(), 0);
    }
}
