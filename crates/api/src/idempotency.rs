//! `Idempotency-Key`: a request that is sent again because no answer came gets the first answer,
//! and changes nothing twice.
//!
//! Answers are kept in memory and, where there are tables, in them too, so that they survive a
//! restart. In memory the oldest make room; that their requests were answered is known for longer,
//! so that none is carried out twice. What is shown once is kept nowhere: the same answer comes
//! without it.

pub(crate) mod memory;

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::hmac;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Limited};
use martlet_control::principal::Principal;
use martlet_control::shared_registry::SharedRegistry;
use martlet_registry::Claim;

use crate::api::Api;
use crate::problem::{Problem, ProblemKind};
use crate::secret::digest_of;
use crate::shown_once::WithoutSecrets;
use memory::{Digest, KeyState, StoredAnswer, header_of};

const HEADER: &str = "idempotency-key";
/// Marks an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Names what is left out of such an answer, because it is shown once.
const LEFT_OUT: HeaderName = HeaderName::from_static("idempotency-left-out");
/// Longest key, bytes.
pub(crate) const KEY_MAX: usize = 255;
/// and how many an answer may have.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request's key: its caller, and both as a digest.
#[derive(Clone, Debug)]
struct Key {
    caller: String,
    /// Team of the caller; empty: the caller sees all teams.
    team: String,
    digest: Digest,
    request: Digest,
}

impl Key {
    /// A request of this digest comes with the key.
    async fn begin(&self, api: &Api) -> KeyState {
        let known = api
            .answers
            .begin_at(self.digest, self.request, &self.team, Instant::now());
        let is_lost = matches!(known, KeyState::Lost);
        let (KeyState::New | KeyState::Lost, Some(tables)) = (&known, tables(api)) else {
            return known;
        };
        let (caller, key, request) = self.words();
        let claimed = tables.note(move |registry| {
            Box::pin(async move { registry.claim(&caller, &key, &request).await })
        });
        let known = match claimed.await {
            // The memory knows that it was answered.
            Ok(Claim::New) | Err(_) if is_lost => return KeyState::Lost,
            // What is wrong with the tables is in health; the memory has it.
            Ok(Claim::New) | Err(_) => return KeyState::New,
            // Not here: it would be in memory.
            Ok(Claim::Pending) => KeyState::Lost,
            Ok(Claim::Different) => KeyState::Other,
            Ok(Claim::Answered { status, answer }) => match StoredAnswer::read(status, &answer) {
                Some(kept) => KeyState::Answered(kept),
                None => KeyState::Lost,
            },
        };
        match &known {
            KeyState::Answered(kept) => api.answers.end(self.digest, Some(kept.clone())),
            _ if is_lost => {}
            _ => api.answers.end(self.digest, None),
        }
        known
    }

    /// Ends the request with its answer; none: it came to nothing, and may be sent again.
    async fn end(&self, api: &Api, answer: Option<StoredAnswer>) {
        if let Some(tables) = tables(api) {
            let (status, text) = answer
                .as_ref()
                .map_or((0, String::new()), StoredAnswer::written);
            let (caller, key, request) = self.words();
            let written = tables.note(move |registry| {
                Box::pin(async move {
                    registry
                        .answer(&caller, &key, &request, status, &text)
                        .await
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
fn tables(api: &Api) -> Option<Arc<SharedRegistry>> {
    let tables = api.tables().ok()?;
    tables.are_there().then(|| Arc::clone(tables))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    let principal = parts.extensions.get::<Principal>();
    let team = principal.and_then(|principal| principal.team.clone());
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
        team: team.unwrap_or_default(),
        digest: digest_of(&[caller.as_bytes(), b"\0", key.as_bytes()].concat()),
        request: digest_of_request(&key, &head, &body),
    };
    // The caller may disconnect meanwhile: the request is completed, and its answer kept.
    let request = Request::from_parts(parts, Body::from(body));
    let done = tokio::spawn(async move {
        match key.begin(&api).await {
            KeyState::New => {}
            KeyState::Answered(kept) => return Ok(replayed(kept)),
            KeyState::UnderWay => {
                let detail = "a request with this Idempotency-Key is under way";
                return Err(Problem::conflict(detail.to_owned()));
            }
            KeyState::Lost => {
                let detail = "a request with this Idempotency-Key was received before and is not \
                              executed again; its answer is no longer stored, because it was too \
                              long, made room for later ones, or the node was restarted: check the \
                              result of that request, and use another key";
                return Err(Problem::conflict(detail.to_owned()));
            }
            KeyState::Other => {
                let detail = "this Idempotency-Key was used with another request before";
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

/// Key that the sender of a request made up; none: it has no key.
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
async fn keep(answer: Response) -> (Response, Option<StoredAnswer>) {
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
    let kept = StoredAnswer {
        status,
        headers: headers.collect(),
        body: kept,
        left_out,
    };
    (Response::from_parts(parts, Body::from(body)), Some(kept))
}

/// Marks that the request was answered before.
pub(crate) fn replayed_header() -> (HeaderName, HeaderValue) {
    (REPLAYED, HeaderValue::from_static("true"))
}

fn replayed(kept: StoredAnswer) -> Response {
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
    use crate::idempotency::memory::WRITTEN_BYTES_MAX;
    use crate::shown_once::{JsonWithSecrets, ShownOnce};

    #[tokio::test]
    async fn what_is_shown_once_is_not_kept() {
        #[derive(serde::Serialize)]
        struct Made {
            id: &'static str,
            secret: ShownOnce<&'static str>,
        }
        let created = Made {
            id: "a",
            secret: ShownOnce::new("s3cr3t"),
        };
        let (answer, kept) = keep(JsonWithSecrets(created).into_response()).await;
        let given = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(given, r#"{"id":"a","secret":"s3cr3t"}"#);
        let (status, written) = kept.unwrap().written();
        assert!(!written.contains("s3cr3t"), "{written}");
        let answer = replayed(StoredAnswer::read(status, &written).unwrap());
        assert_eq!(answer.headers()["idempotency-left-out"], "secret");
        let given = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(given, r#"{"id":"a","secret":null}"#);
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_for_the_tables_is_known_to_have_been_given() {
        let (_, kept) = keep("x".repeat(WRITTEN_BYTES_MAX + 1).into_response()).await;
        let (status, written) = kept.unwrap().written();
        assert!(written.len() < 1_000 && StoredAnswer::read(status, &written).is_none());
    }
}
