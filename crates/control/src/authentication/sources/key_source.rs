//! Where the keys of tokens come from: a file that was read, or a server that has them (JWKS),
//! which is asked again now and then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode};
use martlet_integrate::{AllowedNetworks, HttpTarget, NoAnswer};
use martlet_text_file::without_bom;
use tokio::sync::Mutex as Turn;
use url::Url;

use super::{Algorithm, TokenKeys};

/// Time that a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest set of keys that is read, in bytes.
const SET_BYTES_MAX: usize = 1024 * 1024;

/// Shortest time between two fetches because of unknown keys.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Time for which keys remain valid while their server does not answer.
const HOLDS: Duration = Duration::from_secs(86_400);

/// Keys.
#[derive(Debug)]
pub enum KeySource {
    /// Keys of a file.
    Read(Arc<TokenKeys>),
    /// Keys of a server.
    Fetched(Box<Fetched>),
}

/// Keys of a server.
#[derive(Debug)]
pub struct Fetched {
    url: Url,
    http: HttpTarget,
    /// Time after which the keys are fetched again.
    refresh: Duration,
    /// Algorithm of keys that do not name one.
    algorithm: Option<Algorithm>,
    held: Mutex<CachedKeys>,
    /// Held while the keys are fetched, so that there is one fetch at a time.
    turn: Turn<()>,
}

#[derive(Debug, Default)]
struct CachedKeys {
    /// With the time they came.
    keys: Option<(Arc<TokenKeys>, Instant)>,
    /// Sets that were replaced since revoked clients were last requested.
    replaced: Vec<Arc<TokenKeys>>,
    /// They came before the files were read again: the server is asked when a token comes.
    is_due: bool,
    /// When it was last asked.
    last_request: Option<Instant>,
    /// And what was wrong with the answer.
    failure: Option<String>,
}

impl KeySource {
    /// Keys of a server, which are fetched again after `refresh`. They are first fetched when a
    /// token comes. `algorithm` applies to keys without one.
    ///
    /// # Errors
    /// The URL is none, or its answer could be anybody's.
    pub fn fetched(
        url: &str,
        refresh: Duration,
        algorithm: Option<Algorithm>,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && is_local) {
            return Err(
                "expected https://: keys from an unencrypted connection cannot be trusted"
                    .to_owned(),
            );
        }
        // The operator names the server, wherever it is. Redirects are not followed.
        let http = HttpTarget::new(url.as_str(), &AllowedNetworks::all(), TIMEOUT)?;
        Ok(Self::Fetched(Box::new(Fetched {
            url,
            http,
            refresh,
            algorithm,
            held: Mutex::default(),
            turn: Turn::default(),
        })))
    }

    /// Keys of the same server hold on until it has answered, as they do while it does not.
    pub(super) fn inherit(&self, older: &Self) {
        if let (Self::Fetched(newer), Self::Fetched(older)) = (self, older)
            && (&newer.url, newer.algorithm) == (&older.url, older.algorithm)
        {
            let (keys, replaced) = {
                let mut held = older.held();
                (held.keys.clone(), std::mem::take(&mut held.replaced))
            };
            let mut held = newer.held();
            (held.is_due, held.keys) = (keys.is_some(), keys);
            held.replaced = replaced;
        }
    }

    /// The keys in force. Where none of them `will_do`, there may be new ones.
    ///
    /// # Errors
    /// There are none: the server has never answered, or not for long.
    pub(super) async fn get(
        &self,
        will_do: impl Fn(&TokenKeys) -> bool,
    ) -> Result<Arc<TokenKeys>, String> {
        match self {
            Self::Read(keys) => Ok(Arc::clone(keys)),
            Self::Fetched(fetched) => fetched.get(will_do).await,
        }
    }
}

impl Fetched {
    async fn get(&self, will_do: impl Fn(&TokenKeys) -> bool) -> Result<Arc<TokenKeys>, String> {
        if self.is_fetch_due(&will_do) {
            let _turn = self.turn.lock().await;
            // Another task may have fetched them meanwhile.
            if self.is_fetch_due(&will_do) {
                self.ask().await;
            }
        }
        let held = self.held();
        match &held.keys {
            Some((keys, came)) if came.elapsed() < HOLDS => Ok(Arc::clone(keys)),
            _ => {
                let why = held.failure.as_deref().unwrap_or("not requested yet");
                Err(format!("no keys from {}: {why}", self.shown_url()))
            }
        }
    }

    fn is_fetch_due(&self, will_do: impl Fn(&TokenKeys) -> bool) -> bool {
        let held = self.held();
        let is_due = match &held.keys {
            None => true,
            Some((keys, came)) => held.is_due || came.elapsed() >= self.refresh || !will_do(keys),
        };
        let since = held.last_request.map(|last_request| last_request.elapsed());
        is_due && since.is_none_or(|since| since >= ASK_AGAIN.min(self.refresh))
    }

    async fn ask(&self) {
        self.held().last_request = Some(Instant::now());
        let answer = self.fetch().await;
        let mut held = self.held();
        match answer {
            Ok(keys) => {
                let older = held.keys.replace((Arc::new(keys), Instant::now()));
                held.replaced.extend(older.map(|(keys, _)| keys));
                (held.failure, held.is_due) = (None, false);
            }
            Err(why) => {
                tracing::warn!("cannot fetch token keys from {}: {why}", self.shown_url());
                held.failure = Some(why);
            }
        }
    }

    async fn fetch(&self) -> Result<TokenKeys, String> {
        let mut headers = self.http.headers();
        let agent = concat!("martlet/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let request = self.http.request(Method::GET, headers, Vec::new());
        let answer = self.http.fetch(request, SET_BYTES_MAX).await;
        let (head, body) = answer.map_err(|error| match error {
            NoAnswer::Late => format!("no answer within {} s", TIMEOUT.as_secs()),
            error => error.to_string(),
        })?;
        if head.status != StatusCode::OK {
            return Err(format!("it answered {}", head.status));
        }
        let body = body.ok_or("the answer is longer than 1 MiB, or has ended early")?;
        let mut text = without_bom(&body).iter();
        if text.find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err("the answer is not a set of keys (JWKS)".to_owned());
        }
        TokenKeys::of_server(&body, self.algorithm)
    }

    /// The keys in force, if there are any; the server is asked if it is time to. With the sets
    /// that these took the place of since this was last called.
    pub(super) async fn refresh(&self) -> (Option<Arc<TokenKeys>>, Vec<Arc<TokenKeys>>) {
        let has_keys = self.held().keys.is_some();
        if has_keys && self.is_fetch_due(|_| true) {
            let _turn = self.turn.lock().await;
            if self.is_fetch_due(|_| true) {
                self.ask().await;
            }
        }
        let mut held = self.held();
        let replaced = std::mem::take(&mut held.replaced);
        (
            held.keys.as_ref().map(|(keys, _)| Arc::clone(keys)),
            replaced,
        )
    }

    /// The keys that it gave last.
    pub(super) fn keys(&self) -> Option<Arc<TokenKeys>> {
        self.held().keys.as_ref().map(|(keys, _)| Arc::clone(keys))
    }

    /// Without what may be secret in it.
    fn shown_url(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{}://{host}{}", self.url.scheme(), self.url.path())
    }

    /// With all that is in it: not for logs.
    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, CachedKeys> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
