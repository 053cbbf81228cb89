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
    /// In the order in which they began.
    order: VecDeque<(Digest, Instant)>,
    /// Keys with an answer, in the order in which they were answered; some have none any more.
    answered: VecDeque<(Digest, Instant)>,
    /// Bytes of all answers, approximately, and of those of each caller.
    bytes: usize,
    of_caller: HashMap<Arc<str>, usize>,
    /// Most bytes of all answers. A caller may have half of it.
    bytes_max: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            order: VecDeque::new(),
            answered: VecDeque::new(),
            bytes: 0,
            of_caller: HashMap::new(),
            bytes_max: BYTES_MAX,
        }
    }
}

impl Table {
    fn remove_oldest(&mut self) {
        let Some((oldest, begun)) = self.order.pop_front() else {
            return;
        };
        let is_it = |entry: &KnownKey| entry.begun == begun;
        if self.by_key.get(&oldest).is_some_and(is_it) {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Digest) {
        if let Some(KnownKey { state, caller, .. }) = self.by_key.remove(key) {
            self.uncount(&state, &caller);
        }
    }

    /// The key is known from now on, and its answer is not.
    fn drop_answer(&mut self, key: &Digest) {
        let Some(entry) = self.by_key.get_mut(key) else {
            return;
        };
        let state = std::mem::replace(&mut entry.state, State::Dropped);
        let caller = Arc::clone(&entry.caller);
        self.uncount(&state, &caller);
    }

    fn uncount(&mut self, state: &State, caller: &Arc<str>) {
        let State::Answered(answer) = state else {
            return;
        };
        let bytes = answer.memory_bytes();
        self.bytes -= bytes;
        if let Some(own) = self.of_caller.get_mut(caller) {
            *own -= bytes;
            if *own == 0 {
                self.of_caller.remove(caller);
            }
        }
    }

    fn answer(&mut self, key: &Digest, answer: StoredAnswer) {
        let Some(entry) = self.by_key.get_mut(key) else {
            return;
        };
        let (bytes, caller) = (answer.memory_bytes(), Arc::clone(&entry.caller));
        let old = std::mem::replace(&mut entry.state, State::Answered(answer));
        self.answered.push_back((*key, entry.begun));
        self.uncount(&old, &caller);
        self.bytes += bytes;
        *self.of_caller.entry(Arc::clone(&caller)).or_default() += bytes;
        self.make_room(Some(&caller));
    }

    /// The oldest answers go: those of a caller with more than half, then those of all.
    fn make_room(&mut self, caller: Option<&Arc<str>>) {
        let own = |table: &Self| caller.and_then(|caller| table.of_caller.get(caller).copied());
        while own(self).is_some_and(|own| own > self.bytes_max / 2) {
            let of_caller = |entry: &KnownKey| caller == Some(&entry.caller);
            if !self.drop_oldest_answer(of_caller) {
                break;
            }
        }
        while self.bytes > self.bytes_max && self.drop_oldest_answer(|_| true) {}
    }

    /// Drops the oldest answer for which `is_it` holds. False if there is none.
    fn drop_oldest_answer(&mut self, is_it: impl Fn(&KnownKey) -> bool) -> bool {
        let by_key = &self.by_key;
        let entry = |(key, begun): &(Digest, Instant)| {
            let entry = by_key.get(key).filter(|entry| entry.begun == *begun)?;
            matches!(entry.state, State::Answered(_)).then_some(entry)
        };
        while self
            .answered
            .front()
            .is_some_and(|one| entry(one).is_none())
        {
            self.answered.pop_front();
        }
        let mut answered = self.answered.iter();
        let Some(at) = answered.position(|one| entry(one).is_some_and(&is_it)) else {
            return false;
        };
        let Some((oldest, _)) = self.answered.remove(at) else {
            return false;
        };
        self.drop_answer(&oldest);
        true
    }
}

#[derive(Debug)]
struct KnownKey {
    caller: Arc<str>,
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
        table.make_room(None);
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
        caller: &str,
        now: Instant,
    ) -> KeyState {
        let mut table = self.table();
        let table = &mut *table;
        while let Some((_, begun)) = table.order.front().copied() {
            let is_old = now.saturating_duration_since(begun) >= KEPT;
            if !is_old && table.order.len() < KEYS_MAX {
                break;
            }
            table.remove_oldest();
        }
        match table.by_key.get(&key) {
            Some(entry) if entry.request != request => KeyState::Other,
            Some(entry) => match &entry.state {
                State::Answered(answer) => KeyState::Answered(answer.clone()),
                State::UnderWay => KeyState::UnderWay,
                State::Dropped => KeyState::Lost,
            },
            None => {
                let entry = KnownKey {
                    caller: caller.into(),
                    request,
                    begun: now,
                    state: State::UnderWay,
                };
                table.by_key.insert(key, entry);
                table.order.push_back((key, now));
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
        let begin = |caller, number| kept.begin_at(key(number), key(9), caller, now);
        for number in 0..20 {
            assert!(matches!(begin("ann", number), KeyState::New));
            kept.end(key(number), Some(answer(LONG)));
        }
        assert!(kept.memory_bytes() <= 5 * LONG + 20 * ENTRY_BYTES);
        assert!(matches!(begin("ann", 19), KeyState::Answered(_)));
        assert!(matches!(begin("ann", 15), KeyState::Answered(_)));
        assert!(matches!(begin("ann", 14), KeyState::Lost));
        assert!(matches!(begin("ann", 0), KeyState::Lost));
        // Others do not push each other out before there is no room for all.
        for number in 20..25 {
            begin("bob", number);
            kept.end(key(number), Some(answer(LONG)));
        }
        assert!(matches!(begin("ann", 15), KeyState::Answered(_)));
        begin("eve", 25);
        kept.end(key(25), Some(answer(LONG)));
        assert!(matches!(begin("ann", 15), KeyState::Lost));
        assert!(matches!(begin("bob", 20), KeyState::Answered(_)));
        assert!(matches!(begin("eve", 25), KeyState::Answered(_)));
        kept.set_bytes_max(0);
        assert!(matches!(begin("eve", 25), KeyState::Lost));
        assert_eq!(kept.memory_bytes(), 26 * ENTRY_BYTES);
        assert!(kept.table().of_caller.is_empty());
        // It is longer than all that there is room for.
        begin("eve", 26);
        kept.end(key(26), Some(answer(1)));
        assert!(matches!(begin("eve", 26), KeyState::Lost));
    }

    #[test]
    fn answers_end_after_a_day_and_the_oldest_key_makes_room() {
        let (kept, now) = (KeptInMemory::default(), Instant::now());
        let begin = |number, request, now| kept.begin_at(key(number), key(request), "ann", now);
        assert!(matches!(begin(0, 9, now), KeyState::New));
        assert!(matches!(begin(0, 9, now), KeyState::UnderWay));
        assert!(matches!(begin(0, 8, now), KeyState::Other));
        let tomorrow = now + KEPT;
        assert!(matches!(begin(0, 8, tomorrow), KeyState::New));
        for number in 1..=KEYS_MAX {
            begin(number, 9, tomorrow);
        }
        assert!(kept.table().by_key.len() <= KEYS_MAX);
        assert!(matches!(begin(0, 8, tomorrow), KeyState::New));
    }
}
