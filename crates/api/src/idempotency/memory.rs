//! Answers that are kept in memory, and how one is written into the tables.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

/// How long an answer is kept,
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// how many bytes all of them have, the oldest making room,
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// how many keys are known, with or without their answers,
const KEYS_MAX: usize = 20_000;
/// how many bytes each of them takes, approximately,
const ENTRY_BYTES: usize = 320;
/// In the tables longer ones are not kept: that the request was answered is.
pub(super) const WRITTEN_BYTES_MAX: usize = 64 * 1024;

/// Digest of a caller and a key, or of a request.
pub(super) type Digest = [u8; 32];

/// An answer that may be given again.
#[derive(Clone, Debug)]
pub(super) struct StoredAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    /// Names of what was in it and is not, with `, ` between them.
    pub(super) left_out: Option<HeaderValue>,
}

/// As in the tables, beside its status.
#[derive(Debug, Serialize, Deserialize)]
struct AnswerRow {
    headers: Vec<(String, String)>,
    /// None: it was too long.
    body: Option<String>,
    left_out: Option<String>,
}

/// State of a key when a request comes with it.
#[derive(Clone, Debug)]
pub(super) enum KeyState {
    /// Nothing: from now on the request is under way.
    New,
    /// Request that is under way already.
    UnderWay,
    /// Key that came with another request.
    Other,
    /// The answer to the same request.
    Answered(StoredAnswer),
    /// Request that was begun before; it is not known how it ended, or how it was answered.
    Lost,
}

/// In memory: they end with the process.
#[derive(Debug, Default)]
pub(crate) struct KeptInMemory(Mutex<Table>);

#[derive(Debug)]
struct Table {
    by_key: HashMap<Digest, KnownKey>,
    /// Keys by the team of their callers; empty: callers that see all teams.
    teams: HashMap<Arc<str>, OfTeam>,
    /// Bytes of all answers, approximately.
    bytes: usize,
    /// Most bytes of all answers.
    bytes_max: usize,
}

/// Keys of one team. Some of them are not known any more.
#[derive(Debug, Default)]
struct OfTeam {
    /// Number of keys that are known.
    count: usize,
    /// Bytes of the answers, approximately.
    bytes: usize,
    /// In the order in which they began.
    order: VecDeque<(Digest, Instant)>,
    /// Keys with an answer, in the order in which they were answered.
    answered: VecDeque<(Digest, Instant)>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            teams: HashMap::new(),
            bytes: 0,
            bytes_max: BYTES_MAX,
        }
    }
}

impl Table {
    fn add(&mut self, key: Digest, request: Digest, team: &str, begun: Instant) {
        let team: Arc<str> = team.into();
        let own = self.teams.entry(Arc::clone(&team)).or_default();
        own.count += 1;
        own.order.push_back((key, begun));
        let state = State::UnderWay;
        let entry = KnownKey {
            team,
            request,
            begun,
            state,
        };
        let team = Arc::clone(&entry.team);
        self.by_key.insert(key, entry);
        self.drop_unknown(&team);
        while self.by_key.len() > KEYS_MAX {
            let most = self.teams.iter().max_by_key(|(_, own)| own.count);
            let Some(team) = most.map(|(team, _)| Arc::clone(team)) else {
                break;
            };
            self.remove_oldest(&team);
        }
    }

    /// Drops what the lists of a team have of keys that are not known any more, once that is more
    /// than half of them: failed requests forget their keys.
    fn drop_unknown(&mut self, team: &str) {
        let Some(own) = self.teams.get_mut(team) else {
            return;
        };
        let by_key = &self.by_key;
        let is_known = |(key, begun): &(Digest, Instant)| {
            by_key.get(key).is_some_and(|entry| entry.begun == *begun)
        };
        for list in [&mut own.order, &mut own.answered] {
            if list.len() > 2 * own.count {
                list.retain(is_known);
            }
        }
    }

    /// Removes the keys of a team that are too old.
    fn remove_old(&mut self, team: &str, now: Instant) {
        let oldest = |table: &Self| {
            table
                .teams
                .get(team)?
                .order
                .front()
                .map(|(_, begun)| *begun)
        };
        while oldest(self).is_some_and(|begun| now.saturating_duration_since(begun) >= KEPT) {
            self.remove_oldest(team);
        }
    }

    /// Removes the oldest key of a team, or what is left of one that is not known any more.
    fn remove_oldest(&mut self, team: &str) {
        let own = self.teams.get_mut(team);
        let Some((oldest, begun)) = own.and_then(|own| own.order.pop_front()) else {
            return;
        };
        let is_it = |entry: &KnownKey| entry.begun == begun;
        if self.by_key.get(&oldest).is_some_and(is_it) {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Digest) {
        let Some(KnownKey { state, team, .. }) = self.by_key.remove(key) else {
            return;
        };
        self.uncount(&state, &team);
        if let Some(own) = self.teams.get_mut(&team) {
            own.count -= 1;
            if own.count == 0 {
                self.teams.remove(&team);
            }
        }
    }

    /// The key is known from now on, and its answer is not.
    fn drop_answer(&mut self, key: &Digest) {
        let Some(entry) = self.by_key.get_mut(key) else {
            return;
        };
        let state = std::mem::replace(&mut entry.state, State::Dropped);
        let team = Arc::clone(&entry.team);
        self.uncount(&state, &team);
    }

    fn uncount(&mut self, state: &State, team: &Arc<str>) {
        let State::Answered(answer) = state else {
            return;
        };
        let bytes = answer.memory_bytes();
        self.bytes -= bytes;
        if let Some(own) = self.teams.get_mut(team) {
            own.bytes -= bytes;
        }
    }

    fn answer(&mut self, key: &Digest, answer: StoredAnswer) {
        let Some(entry) = self.by_key.get_mut(key) else {
            return;
        };
        let (bytes, team) = (answer.memory_bytes(), Arc::clone(&entry.team));
        let begun = entry.begun;
        let old = std::mem::replace(&mut entry.state, State::Answered(answer));
        self.uncount(&old, &team);
        self.bytes += bytes;
        let own = self.teams.entry(team).or_default();
        own.bytes += bytes;
        own.answered.push_back((*key, begun));
        self.make_room();
    }

    /// The oldest answers of the team with most go.
    fn make_room(&mut self) {
        while self.bytes > self.bytes_max {
            let most = self.teams.values_mut().max_by_key(|own| own.bytes);
            let Some((oldest, begun)) = most.and_then(|own| own.answered.pop_front()) else {
                break;
            };
            let is_it = |entry: &KnownKey| entry.begun == begun;
            if self.by_key.get(&oldest).is_some_and(is_it) {
                self.drop_answer(&oldest);
            }
        }
    }
}

#[derive(Debug)]
struct KnownKey {
    team: Arc<str>,
    request: Digest,
    begun: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    UnderWay,
    Answered(StoredAnswer),
    /// Request that was answered; the answer made room for others.
    Dropped,
}

impl KeptInMemory {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the number of bytes that all answers take, approximately, at most.
    pub(crate) fn set_bytes_max(&self, bytes: usize) {
        let mut table = self.table();
        table.bytes_max = BYTES_MAX.min(bytes);
        table.make_room();
    }

    /// Approximate number of bytes of what is kept.
    pub(crate) fn memory_bytes(&self) -> usize {
        let table = self.table();
        table.bytes + table.by_key.len() * ENTRY_BYTES
    }

    pub(super) fn begin_at(
        &self,
        key: Digest,
        request: Digest,
        team: &str,
        now: Instant,
    ) -> KeyState {
        let mut table = self.table();
        table.remove_old(team, now);
        match table.by_key.get(&key) {
            Some(entry) if entry.request != request => KeyState::Other,
            Some(entry) => match &entry.state {
                State::Answered(answer) => KeyState::Answered(answer.clone()),
                State::UnderWay => KeyState::UnderWay,
                State::Dropped => KeyState::Lost,
            },
            None => {
                table.add(key, request, team, now);
                KeyState::New
            }
        }
    }

    pub(super) fn end(&self, key: Digest, answer: Option<StoredAnswer>) {
        let mut table = self.table();
        match answer {
            Some(answer) => table.answer(&key, answer),
            None => table.remove(&key),
        }
    }
}

impl StoredAnswer {
    /// Approximate number of bytes that it takes.
    fn memory_bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.as_str().len() + value.len() + 64);
        self.body.len() + headers.sum::<usize>()
    }

    pub(super) fn written(&self) -> (u16, String) {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = self.headers.iter();
        let body = std::str::from_utf8(&self.body).ok();
        let written = AnswerRow {
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: body
                .filter(|body| body.len() <= WRITTEN_BYTES_MAX)
                .map(str::to_owned),
            left_out: self.left_out.as_ref().map(text),
        };
        // Texts alone: that cannot fail.
        let text = serde_json::to_string(&written).unwrap_or_default();
        (self.status.as_u16(), text)
    }

    /// None: it was too long, or is none.
    pub(super) fn read(status: u16, text: &str) -> Option<Self> {
        let written: AnswerRow = serde_json::from_str(text).ok()?;
        let headers = written.headers.iter().map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        });
        Some(Self {
            status: StatusCode::from_u16(status).ok()?,
            headers: headers.collect::<Option<_>>()?,
            body: written.body?.into(),
            left_out: written.left_out.and_then(header_of),
        })
    }
}

pub(super) fn header_of(names: String) -> Option<HeaderValue> {
    HeaderValue::try_from(names).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::digest_of;

    /// Bytes of a long answer.
    const LONG: usize = 4 * 1024 * 1024;

    fn key(number: usize) -> Digest {
        digest_of(&number.to_be_bytes())
    }

    fn answer(bytes: usize) -> StoredAnswer {
        StoredAnswer {
            status: StatusCode::OK,
            headers: Vec::new(),
            body: Bytes::from(vec![0; bytes]),
            left_out: None,
        }
    }

    #[test]
    fn long_answers_make_the_oldest_go_and_none_is_given_by_another_request() {
        let (kept, now) = (KeptInMemory::default(), Instant::now());
        kept.set_bytes_max(10 * LONG);
        let begin = |team, number| kept.begin_at(key(number), key(9), team, now);
        for number in 0..20 {
            assert!(matches!(begin("north", number), KeyState::New));
            kept.end(key(number), Some(answer(LONG)));
        }
        assert!(kept.memory_bytes() <= 10 * LONG + 20 * ENTRY_BYTES);
        assert!(matches!(begin("north", 10), KeyState::Answered(_)));
        assert!(matches!(begin("north", 9), KeyState::Lost));
        // The team with most makes room for others, until both have the same.
        for number in 20..30 {
            begin("south", number);
            kept.end(key(number), Some(answer(LONG)));
        }
        for team in ["north", "south"] {
            let first = if team == "north" { 10 } else { 20 };
            let states = (first..first + 10).map(|number| begin(team, number));
            let is_there = states.map(|state| matches!(state, KeyState::Answered(_)));
            assert_eq!(
                is_there.collect::<Vec<_>>(),
                [[false; 5], [true; 5]].concat()
            );
        }
        kept.set_bytes_max(0);
        assert!(matches!(begin("south", 29), KeyState::Lost));
        assert_eq!(kept.memory_bytes(), 30 * ENTRY_BYTES);
        // It is longer than all that there is room for.
        begin("east", 31);
        kept.end(key(31), Some(answer(1)));
        assert!(matches!(begin("east", 31), KeyState::Lost));
        kept.end(key(31), None);
        assert!(!kept.table().teams.contains_key("east"));
    }

    #[test]
    fn failed_requests_leave_nothing() {
        let (kept, now) = (KeptInMemory::default(), Instant::now());
        kept.begin_at(key(0), key(9), "north", now);
        for number in 1..1_000 {
            kept.begin_at(key(number), key(9), "north", now);
            kept.end(key(number), None);
        }
        assert!(kept.table().teams["north"].order.len() <= 4);
    }

    #[test]
    fn answers_end_after_a_day_and_the_oldest_key_makes_room() {
        let (kept, now) = (KeptInMemory::default(), Instant::now());
        let begin = |number, request, now| kept.begin_at(key(number), key(request), "north", now);
        assert!(matches!(begin(0, 9, now), KeyState::New));
        assert!(matches!(begin(0, 9, now), KeyState::UnderWay));
        assert!(matches!(begin(0, 8, now), KeyState::Other));
        let tomorrow = now + KEPT;
        assert!(matches!(begin(0, 8, tomorrow), KeyState::New));
        kept.begin_at(key(1), key(9), "south", tomorrow);
        for number in 2..=KEYS_MAX {
            begin(number, 9, tomorrow);
        }
        assert!(kept.table().by_key.len() <= KEYS_MAX);
        // The team with most has lost its oldest key, the other one none.
        assert!(matches!(begin(0, 8, tomorrow), KeyState::New));
        let of_south = kept.begin_at(key(1), key(9), "south", tomorrow);
        assert!(matches!(of_south, KeyState::UnderWay));
    }
}
