//! `Idempotency-Key`: who sends a request again, because no answer came, gets the first answer and
//! changes nothing twice.
//!
//! Answers are kept in memory and, where there are tables, in them too, so that they survive a
//! restart. In memory the oldest make room; that their requests were answered is known for longer,
//! so that none is carried out twice. What is shown once is kept nowhere: the same answer comes
//! without it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Limited};
use martlet_control::tables::Tables;
use martlet_registry::Claim;
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::problem::{Problem, ProblemKind};
use crate::secret::digest_of;
use crate::shown_once::WithoutSecrets;

const HEADER: &str = "idempotency-key";
/// Says that an answer is one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Names what is left out of such an answer, because it is shown once.
const LEFT_OUT: HeaderName = HeaderName::from_static("idempotency-left-out");
/// Longest key, bytes.
pub(crate) const KEY_MAX: usize = 255;
/// How long an answer is kept,
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// how many bytes all of them have, the oldest making room,
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// how many keys are known, with or without their answers,
const KEYS_MAX: usize = 20_000;
/// how many bytes each of them takes, approximately,
const ENTRY_BYTES: usize = 320;
/// and how many an answer may have.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// In the tables longer ones are not kept: that the request was answered is.
const WRITTEN_BYTES_MAX: usize = 64 * 1024;

/// Of a caller and a key, and of a request.
type Digest = [u8; 32];

/// An answer that may be given again.
#[derive(Clone, Debug)]
struct Kept {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// Names of what was in it and is not, with `, ` between them.
    left_out: Option<HeaderValue>,
}

/// As it stands in the tables, beside its status.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    headers: Vec<(String, String)>,
    /// None: it was too long.
    body: Option<String>,
    left_out: Option<String>,
}

/// What is known of a key when a request comes with it.
#[derive(Clone, Debug)]
enum Known {
    /// Nothing: from now on the request is under way.
    New,
    /// The same request is under way.
    UnderWay,
    /// It came with another request.
    Other,
    /// The answer to the same request.
    Answered(Kept),
    /// The same request was begun, and it is not known how it ended, or how it was answered.
    Lost,
}

/// In memory: they end with the process.
#[derive(Debug, Default)]
pub(crate) struct KeptInMemory(Mutex<Table>);

#[derive(Debug)]
struct Table {
    by_key: HashMap<Digest, Entry>,
    /// In the order in which they began.
    order: VecDeque<(Digest, Instant)>,
    /// Those with an answer, in the order in which they were answered; some have none any more.
    answered: VecDeque<(Digest, Instant)>,
    /// Of all answers, approximately, and of those of each caller.
    bytes: usize,
    of_caller: HashMap<Arc<str>, usize>,
    /// Of all answers at most; a caller may have half of it.
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
        let is_it = |entry: &Entry| entry.begun == begun;
        if self.by_key.get(&oldest).is_some_and(is_it) {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Digest) {
        if let Some(Entry { state, caller, .. }) = self.by_key.remove(key) {
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

    fn answer(&mut self, key: &Digest, answer: Kept) {
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

    /// The oldest answers go: those of a caller who has more than half, then those of anybody.
    fn make_room(&mut self, caller: Option<&Arc<str>>) {
        let own = |table: &Self| caller.and_then(|caller| table.of_caller.get(caller).copied());
        while own(self).is_some_and(|own| own > self.bytes_max / 2) {
            let of_caller = |entry: &Entry| caller == Some(&entry.caller);
            if !self.drop_oldest_answer(of_caller) {
                break;
            }
        }
        while self.bytes > self.bytes_max && self.drop_oldest_answer(|_| true) {}
    }

    /// Drops the oldest answer for which `is_it` holds. False if there is none.
    fn drop_oldest_answer(&mut self, is_it: impl Fn(&Entry) -> bool) -> bool {
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
struct Entry {
    caller: Arc<str>,
    request: Digest,
    begun: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    UnderWay,
    Answered(Kept),
    /// It was answered, and the answer made room for others.
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

    fn begin_at(&self, key: Digest, request: Digest, caller: &str, now: Instant) -> Known {
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
            Some(entry) if entry.request != request => Known::Other,
            Some(entry) => match &entry.state {
                State::Answered(answer) => Known::Answered(answer.clone()),
                State::UnderWay => Known::UnderWay,
                State::Dropped => Known::Lost,
            },
            None => {
                let entry = Entry {
                    caller: caller.into(),
                    request,
                    begun: now,
                    state: State::UnderWay,
                };
                table.by_key.insert(key, entry);
                table.order.push_back((key, now));
                Known::New
            }
        }
    }

    fn end(&self, key: Digest, answer: Option<Kept>) {
        let mut table = self.table();
        match answer {
            Some(answer) => table.answer(&key, answer),
            None => table.remove(&key),
        }
    }
}

/// A request's key: who asked, and both as a digest.
#[derive(Clone, Debug)]
struct Key {
    caller: String,
    digest: Digest,
    request: Digest,
}

impl Key {
    /// A request of this digest comes with the key.
    async fn begin(&self, api: &Api) -> Known {
        let known = api
            .answers
            .begin_at(self.digest, self.request, &self.caller, Instant::now());
        let is_lost = matches!(known, Known::Lost);
        let (Known::New | Known::Lost, Some(tables)) = (&known, tables(api)) else {
            return known;
        };
        let (caller, key, request) = self.words();
        let claimed = tables.note(move |registry| {
            Box::pin(async move { registry.claim(&caller, &key, &request).await })
        });
        let known = match claimed.await {
            // The memory knows that it was answered.
            Ok(Claim::New) | Err(_) if is_lost => return Known::Lost,
            // What is wrong with the tables is in health; the memory has it.
            Ok(Claim::New) | Err(_) => return Known::New,
            // Not here: it would be in memory.
            Ok(Claim::Pending) => Known::Lost,
            Ok(Claim::Different) => Known::Other,
            Ok(Claim::Answered { status, answer }) => match Kept::read(status, &answer) {
                Some(kept) => Known::Answered(kept),
                None => Known::Lost,
            },
        };
        match &known {
            Known::Answered(kept) => api.answers.end(self.digest, Some(kept.clone())),
            _ if is_lost => {}
            _ => api.answers.end(self.digest, None),
        }
        known
    }

    /// It is answered; none: it came to nothing, and may be sent again.
    async fn end(&self, api: &Api, answer: Option<Kept>) {
        if let Some(tables) = tables(api) {
            let (status, text) = answer.as_ref().map_or((0, String::new()), Kept::written);
            let (caller, key, request) = self.words();
            let written = tables.note(move |registry| {
                Box::pin(async move {
                    let answer = (status, text.as_str());
                    registry.answer(&caller, &key, &request, answer).await
                })
            });
            // As at its begin.
            let _ = written.await;
        }
        api.answers.end(self.digest, answer);
    }

    fn words(&self) -> (String, String, String) {
        (self.caller.clone(), hex(&self.digest), hex(&self.request))
    }
}

/// The tables, if they exist: they are not created for this.
fn tables(api: &Api) -> Option<Arc<Tables>> {
    let tables = api.tables().ok()?;
    tables.are_there().then(|| Arc::clone(tables))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Kept {
    /// Approximate number of bytes that it takes.
    fn memory_bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.as_str().len() + value.len() + 64);
        self.body.len() + headers.sum::<usize>()
    }

    fn written(&self) -> (u16, String) {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = self.headers.iter();
        let body = std::str::from_utf8(&self.body).ok();
        let written = Written {
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
    fn read(status: u16, text: &str) -> Option<Self> {
        let written: Written = serde_json::from_str(text).ok()?;
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

/// Runs a request of this caller, or answers as it was answered before.
pub(crate) async fn run(api: Api, caller: &str, request: Request, next: Next) -> Response {
    match try_run(api, caller, request, next).await {
        Ok(answer) => answer,
        Err(problem) => problem.into_response(),
    }
}

/// Digest of a request, which the tables keep. A body may have a password or a secret of another
/// system, so the digest is keyed with the Idempotency-Key, which they do not have.
fn digest_of_request(key: &str, head: &str, body: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(head.as_bytes());
    context.update(body);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.sign().as_ref());
    digest
}

async fn try_run(
    api: Api,
    caller: &str,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(key) = key_of(request.headers())? else {
        return Ok(next.run(request).await);
    };
    let (parts, body) = request.into_parts();
    // The frame has read it already, and bounded it.
    let body = body.collect().await;
    let body = body.map_err(|_| Problem::bad_request("the body cannot be read"))?;
    let body = body.to_bytes();
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let head = format!("{} {target}\0", parts.method);
    let key = Key {
        caller: caller.to_owned(),
        digest: digest_of(&[caller.as_bytes(), b"\0", key.as_bytes()].concat()),
        request: digest_of_request(&key, &head, &body),
    };
    // The caller may disconnect meanwhile: the request is completed, and its answer kept.
    let request = Request::from_parts(parts, Body::from(body));
    let done = tokio::spawn(async move {
        match key.begin(&api).await {
            Known::New => {}
            Known::Answered(kept) => return Ok(replayed(kept)),
            Known::UnderWay => {
                let detail = "a request with this Idempotency-Key is under way";
                return Err(Problem::conflict(detail.to_owned()));
            }
            Known::Lost => {
                let detail = "a request with this Idempotency-Key came before and is not carried \
                              out again; its answer is not kept any more, as it was too long, made \
                              room for later ones, or a restart of the node came between: look \
                              what became of it, and use another key";
                return Err(Problem::conflict(detail.to_owned()));
            }
            Known::Other => {
                let detail = "this Idempotency-Key came with another request before";
                return Err(Problem::new(ProblemKind::Invalid, detail));
            }
        }
        let answered = tokio::spawn(next.run(request)).await;
        let Ok(answer) = answered else {
            key.end(&api, None).await;
            let detail = "the request was broken off";
            return Err(Problem::new(ProblemKind::Internal, detail));
        };
        let (answer, kept) = keep(answer).await;
        key.end(&api, kept).await;
        Ok(answer)
    });
    let broken_off = |_| Problem::new(ProblemKind::Internal, "the request was broken off");
    done.await.map_err(broken_off)?
}

fn header_of(names: String) -> Option<HeaderValue> {
    HeaderValue::try_from(names).ok()
}

/// What its sender made up; none: nothing.
///
/// # Errors
/// It is none, or too long.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = headers.get_all(HEADER).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text.is_empty() || text.len() > KEY_MAX || all.next().is_some() {
        let detail = format!("Idempotency-Key: expected one of 1 to {KEY_MAX} ASCII characters");
        return Err(Problem::bad_request(detail));
    }
    Ok(Some(text.to_owned()))
}

/// The answer, and what is kept of it: nothing where the node was at fault, or busy.
async fn keep(answer: Response) -> (Response, Option<Kept>) {
    let status = answer.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return (answer, None);
    }
    let (mut parts, body) = answer.into_parts();
    let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let detail = format!(
                "the answer is longer than the {ANSWER_BYTES_MAX} bytes that are kept for an \
                 Idempotency-Key"
            );
            let problem = Problem::new(ProblemKind::Internal, detail);
            return (problem.into_response(), None);
        }
    };
    let names = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];
    let headers = names.into_iter().filter_map(|name| {
        let value = parts.headers.get(&name)?.clone();
        Some((name, value))
    });
    let (kept, left_out) = match parts.extensions.remove::<WithoutSecrets>() {
        Some(without) => (without.body, header_of(without.left_out)),
        None => (body.clone(), None),
    };
    let kept = Kept {
        status,
        headers: headers.collect(),
        body: kept,
        left_out,
    };
    (Response::from_parts(parts, Body::from(body)), Some(kept))
}

/// Says that the request was answered before.
pub(crate) fn replayed_header() -> (HeaderName, HeaderValue) {
    (REPLAYED, HeaderValue::from_static("true"))
}

fn replayed(kept: Kept) -> Response {
    let mut answer = Response::new(Body::from(kept.body));
    *answer.status_mut() = kept.status;
    answer.headers_mut().extend(kept.headers);
    answer.headers_mut().extend([replayed_header()]);
    if let Some(names) = kept.left_out {
        answer.headers_mut().insert(LEFT_OUT, names);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown_once::{JsonWithSecrets, ShownOnce};

    fn key(number: usize) -> Digest {
        digest_of(&number.to_be_bytes())
    }

    fn answer(bytes: usize) -> Kept {
        Kept {
            status: StatusCode::OK,
            headers: Vec::new(),
            body: Bytes::from(vec![0; bytes]),
            left_out: None,
        }
    }

    #[test]
    fn long_answers_make_the_oldest_go_and_none_is_given_by_another_request() {
        let (kept, now) = (KeptInMemory::default(), Instant::now());
        kept.set_bytes_max(10 * ANSWER_BYTES_MAX);
        let begin = |caller, number| kept.begin_at(key(number), key(9), caller, now);
        for number in 0..20 {
            assert!(matches!(begin("ann", number), Known::New));
            kept.end(key(number), Some(answer(ANSWER_BYTES_MAX)));
        }
        assert!(kept.memory_bytes() <= 5 * ANSWER_BYTES_MAX + 20 * ENTRY_BYTES);
        assert!(matches!(begin("ann", 19), Known::Answered(_)));
        assert!(matches!(begin("ann", 15), Known::Answered(_)));
        assert!(matches!(begin("ann", 14), Known::Lost));
        assert!(matches!(begin("ann", 0), Known::Lost));
        // Others do not push each other out before there is no room for all.
        for number in 20..25 {
            begin("bob", number);
            kept.end(key(number), Some(answer(ANSWER_BYTES_MAX)));
        }
        assert!(matches!(begin("ann", 15), Known::Answered(_)));
        begin("eve", 25);
        kept.end(key(25), Some(answer(ANSWER_BYTES_MAX)));
        assert!(matches!(begin("ann", 15), Known::Lost));
        assert!(matches!(begin("bob", 20), Known::Answered(_)));
        assert!(matches!(begin("eve", 25), Known::Answered(_)));
        kept.set_bytes_max(0);
        assert!(matches!(begin("eve", 25), Known::Lost));
        assert_eq!(kept.memory_bytes(), 26 * ENTRY_BYTES);
        assert!(kept.table().of_caller.is_empty());
        // It is longer than all that there is room for.
        begin("eve", 26);
        kept.end(key(26), Some(answer(1)));
        assert!(matches!(begin("eve", 26), Known::Lost));
    }

    #[test]
    fn answers_end_after_a_day_and_the_oldest_key_makes_room() {
        let (kept, now) = (KeptInMemory::default(), Instant::now());
        let begin = |number, request, now| kept.begin_at(key(number), key(request), "ann", now);
        assert!(matches!(begin(0, 9, now), Known::New));
        assert!(matches!(begin(0, 9, now), Known::UnderWay));
        assert!(matches!(begin(0, 8, now), Known::Other));
        let tomorrow = now + KEPT;
        assert!(matches!(begin(0, 8, tomorrow), Known::New));
        for number in 1..=KEYS_MAX {
            begin(number, 9, tomorrow);
        }
        assert!(kept.table().by_key.len() <= KEYS_MAX);
        assert!(matches!(begin(0, 8, tomorrow), Known::New));
    }

    #[tokio::test]
    async fn what_is_shown_once_is_not_kept() {
        #[derive(serde::Serialize)]
        struct Made {
            id: &'static str,
            secret: ShownOnce<&'static str>,
        }
        let made = Made {
            id: "a",
            secret: ShownOnce::new("s3cr3t"),
        };
        let (answer, kept) = keep(JsonWithSecrets(made).into_response()).await;
        let given = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(given, r#"{"id":"a","secret":"s3cr3t"}"#);
        let (status, written) = kept.unwrap().written();
        assert!(!written.contains("s3cr3t"), "{written}");
        let answer = replayed(Kept::read(status, &written).unwrap());
        assert_eq!(answer.headers()["idempotency-left-out"], "secret");
        let given = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(given, r#"{"id":"a","secret":null}"#);
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_for_the_tables_is_known_to_have_been_given() {
        let (_, kept) = keep("x".repeat(WRITTEN_BYTES_MAX + 1).into_response()).await;
        let (status, written) = kept.unwrap().written();
        assert!(written.len() < 1_000 && Kept::read(status, &written).is_none());
    }
}
