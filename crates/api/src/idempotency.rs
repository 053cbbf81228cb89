//! `Idempotency-Key`: who sends a request again, because no answer came, gets the first answer and
//! changes nothing twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Limited};

use crate::api::Api;
use crate::problem::{Problem, ProblemKind};
use crate::secret::digest_of;

const HEADER: &str = "idempotency-key";
/// Says that an answer is one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, bytes.
const KEY_MAX: usize = 255;
/// How long an answer is kept,
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// how many, the oldest making room,
const ANSWERS_MAX: usize = 1_000;
/// how many bytes all of them have, likewise,
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// and how many one may have.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// By caller and key.
pub(crate) type Digest = [u8; 32];

/// An answer that may be given again.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

/// What is known of a key when a request comes with it.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Nothing: from now on the request is under way.
    New,
    /// The same request is under way.
    UnderWay,
    /// It came with another request.
    Other,
    /// The answer to the same request.
    Answered(Kept),
}

/// Where answers are kept.
pub(crate) trait Answers: Send + Sync {
    /// A request of this digest comes with the key.
    fn begin(&self, key: Digest, request: Digest) -> BoxFuture<'_, Known>;
    /// It is answered; none: it came to nothing, and may be sent again.
    fn end(&self, key: Digest, answer: Option<Kept>) -> BoxFuture<'_, ()>;
}

/// In memory: they end with the process.
#[derive(Debug, Default)]
pub(crate) struct KeptInMemory(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_key: HashMap<Digest, Entry>,
    /// In the order in which they began.
    order: VecDeque<(Digest, Instant)>,
    /// Of the bodies of all answers.
    bytes: usize,
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
        let answer = self.by_key.remove(key).and_then(|entry| entry.answer);
        self.bytes -= answer.map_or(0, |answer| answer.body.len());
    }

    fn answer(&mut self, key: &Digest, answer: Kept) {
        let Some(entry) = self.by_key.get_mut(key) else {
            return;
        };
        self.bytes += answer.body.len();
        entry.answer = Some(answer);
        while self.bytes > BYTES_MAX && !self.order.is_empty() {
            self.remove_oldest();
        }
    }
}

#[derive(Debug)]
struct Entry {
    request: Digest,
    begun: Instant,
    /// None while it is under way.
    answer: Option<Kept>,
}

impl KeptInMemory {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_at(&self, key: Digest, request: Digest, now: Instant) -> Known {
        let mut table = self.table();
        let table = &mut *table;
        while let Some((_, begun)) = table.order.front().copied() {
            let is_old = now.saturating_duration_since(begun) >= KEPT;
            if !is_old && table.order.len() < ANSWERS_MAX {
                break;
            }
            table.remove_oldest();
        }
        match table.by_key.get(&key) {
            Some(entry) if entry.request != request => Known::Other,
            Some(Entry {
                answer: Some(answer),
                ..
            }) => Known::Answered(answer.clone()),
            Some(_) => Known::UnderWay,
            None => {
                let entry = Entry {
                    request,
                    begun: now,
                    answer: None,
                };
                table.by_key.insert(key, entry);
                table.order.push_back((key, now));
                Known::New
            }
        }
    }
}

impl Answers for KeptInMemory {
    fn begin(&self, key: Digest, request: Digest) -> BoxFuture<'_, Known> {
        Box::pin(std::future::ready(self.begin_at(
            key,
            request,
            Instant::now(),
        )))
    }

    fn end(&self, key: Digest, answer: Option<Kept>) -> BoxFuture<'_, ()> {
        let mut table = self.table();
        match answer {
            Some(answer) => table.answer(&key, answer),
            None => table.remove(&key),
        }
        Box::pin(std::future::ready(()))
    }
}

/// Takes the entry back if the request is dropped before it is answered, as when its sender goes.
struct UnderWay {
    api: Api,
    key: Option<Digest>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // In memory it is done when it is called; elsewhere it has to be driven.
            let api = self.api.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { api.answers.end(key, None).await });
            }
        }
    }
}

/// Runs a request of this caller, or answers as it was answered before.
pub(crate) async fn run(api: Api, caller: &str, request: Request, next: Next) -> Response {
    match try_run(api, caller, request, next).await {
        Ok(answer) => answer,
        Err(problem) => axum::response::IntoResponse::into_response(problem),
    }
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
    let key = digest_of(&[caller.as_bytes(), b"\0", key.as_bytes()].concat());
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
    let digest = digest_of(&[head.as_bytes(), &body].concat());
    match api.answers.begin(key, digest).await {
        Known::New => {}
        Known::Answered(kept) => return Ok(replayed(kept)),
        Known::UnderWay => {
            let detail = "a request with this Idempotency-Key is under way";
            return Err(Problem::conflict(detail.to_owned()));
        }
        Known::Other => {
            let detail = "this Idempotency-Key came with another request before";
            return Err(Problem::new(ProblemKind::Invalid, detail));
        }
    }
    let mut under_way = UnderWay {
        api: api.clone(),
        key: Some(key),
    };
    let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (answer, kept) = keep(answer).await;
    under_way.key = None;
    api.answers.end(key, kept).await;
    Ok(answer)
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
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
    let (parts, body) = answer.into_parts();
    let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let detail = "the answer is too long to be kept for its Idempotency-Key";
            let problem = Problem::new(ProblemKind::Internal, detail);
            return (axum::response::IntoResponse::into_response(problem), None);
        }
    };
    let names = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];
    let headers = names.into_iter().filter_map(|name| {
        let value = parts.headers.get(&name)?.clone();
        Some((name, value))
    });
    let kept = Kept {
        status,
        headers: headers.collect(),
        body: body.clone(),
    };
    (Response::from_parts(parts, Body::from(body)), Some(kept))
}

fn replayed(kept: Kept) -> Response {
    let mut answer = Response::new(Body::from(kept.body));
    *answer.status_mut() = kept.status;
    answer.headers_mut().extend(kept.headers);
    answer
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_answers_make_the_oldest_go() {
        let (kept, now) = (KeptInMemory::default(), Instant::now());
        let key = |number: usize| digest_of(&number.to_be_bytes());
        let count = BYTES_MAX / ANSWER_BYTES_MAX + 1;
        for number in 0..count {
            kept.begin_at(key(number), key(9), now);
            let answer = Kept {
                status: StatusCode::OK,
                headers: Vec::new(),
                body: Bytes::from(vec![0; ANSWER_BYTES_MAX]),
            };
            kept.table().answer(&key(number), answer);
        }
        assert!(kept.table().bytes <= BYTES_MAX);
        let known = |number| kept.begin_at(key(number), key(9), now);
        assert!(matches!(known(count - 1), Known::Answered(_)));
        assert!(matches!(known(0), Known::New));
    }

    #[test]
    fn answers_end_after_a_day_and_the_oldest_makes_room() {
        let (kept, now) = (KeptInMemory::default(), Instant::now());
        let key = |number: usize| digest_of(&number.to_be_bytes());
        assert!(matches!(kept.begin_at(key(0), key(9), now), Known::New));
        assert!(matches!(
            kept.begin_at(key(0), key(9), now),
            Known::UnderWay
        ));
        assert!(matches!(kept.begin_at(key(0), key(8), now), Known::Other));
        let tomorrow = now + KEPT;
        assert!(matches!(
            kept.begin_at(key(0), key(8), tomorrow),
            Known::New
        ));
        for number in 1..=ANSWERS_MAX {
            kept.begin_at(key(number), key(9), tomorrow);
        }
        assert!(kept.table().by_key.len() <= ANSWERS_MAX);
        assert!(matches!(
            kept.begin_at(key(0), key(8), tomorrow),
            Known::New
        ));
    }
}
