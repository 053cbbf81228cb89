//! A request of a webhook, signed as Standard Webhooks has it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, Method, Request, Response, Url};

use super::WebhookSettings;
use super::answer::{self, Body};
use super::format::Format;
use super::secrets;
use crate::masking::SecretTexts;
use crate::networks::AllowedNetworks;
use crate::secret::{SecretValue, SecretValues};
use crate::sink::{Outcome, SinkMessage};
use crate::words::error_words;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 1_024;
/// Time limit of a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Headers of Standard Webhooks.
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// What a key in the form of Standard Webhooks begins with.
pub(super) const KEY_PREFIX: &str = "whsec_";

/// Where requests go, with the values of all secrets.
pub(super) struct Target {
    client: Client,
    url: Url,
    method: Method,
    headers: HeaderMap,
    key: Option<hmac::Key>,
    format: Format,
    /// Whether bodies are lists of messages.
    is_list: bool,
    /// Secrets that no error and no dead letter may have.
    secrets: SecretTexts,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.url.host_str()).finish()
    }
}

impl Target {
    /// A target by settings and the values of their secrets.
    ///
    /// # Errors
    /// A setting is unusable; the reason does not repeat it.
    pub(super) fn new(settings: &WebhookSettings, values: &SecretValues) -> Result<Self, String> {
        let filled = |template: &crate::Template| template.fill(values).map_err(String::from);
        let secrets = secrets::all(settings, values)?;
        let url = Url::parse(filled(&settings.url)?.expose())
            .map_err(|error| format!("`url` is no URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("`url` has to begin with http:// or https://".to_owned());
        }
        // The client looks no name up for it.
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            settings.allowed.check(address)?;
        }
        let method = Method::from_bytes(settings.method.as_bytes())
            .map_err(|_| "`method` is no method of HTTP".to_owned())?;
        let mut headers = HeaderMap::new();
        let (format, is_list) = (settings.format, settings.batch_messages > 1);
        let content_type = HeaderValue::from_static(format.content_type(is_list));
        headers.insert(CONTENT_TYPE, content_type);
        for (name, value) in &settings.headers {
            let unusable = |what| format!("the {what} of the header {name:?} cannot be sent");
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable("name"))?;
            let value = HeaderValue::from_str(filled(value)?.expose());
            let mut value = value.map_err(|_| unusable("value"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let key = settings.signing_key.as_ref().map(filled).transpose()?;
        let client = Client::builder()
            .timeout(settings.timeout)
            .connect_timeout(CONNECT_WITHIN.min(settings.timeout))
            // Headers and signatures go where they were sent, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would connect to addresses that are not checked here.
            .no_proxy()
            .dns_resolver(Arc::new(Resolver(settings.allowed.clone())))
            .user_agent(format.user_agent())
            .build();
        let client = client.map_err(|error| words(error, &secrets))?;
        // A user name and a password in the URL become a header.
        let request = client.request(method.clone(), url).headers(headers).build();
        let request = request.map_err(|error| words(error, &secrets))?;
        Ok(Self {
            client,
            url: request.url().clone(),
            method,
            headers: request.headers().clone(),
            key: key.as_ref().map(key_of).transpose()?,
            format,
            is_list,
            secrets,
        })
    }

    /// Sends messages in one request. The outcome is that of all of them.
    pub(super) async fn send(&self, messages: &[SinkMessage]) -> Outcome {
        let body = match self.format.body(messages, self.is_list) {
            Ok(body) => body,
            Err(error) => return Outcome::Refused(format!("no JSON of it can be made: {error}")),
        };
        let id = match messages {
            [] => return Outcome::Done,
            [message] => format!("msg_{}", message.unique_id()),
            [first, .., last] => format!("msg_{}_{}", first.unique_id(), last.unique_id()),
        };
        let Some(headers) = self.headers_of(messages, &id, &body) else {
            return Outcome::Refused("its id or signature cannot be sent in a header".to_owned());
        };
        // Put together by hand: merging headers into those of a builder costs as much as the rest.
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        match self.client.execute(request).await {
            Ok(response) => self.outcome(response).await,
            Err(error) if error.is_connect() => Outcome::Failed(self.told(error)),
            // The target can be reached, and a message may be what ends or stops it.
            Err(error) if error.is_timeout() => Outcome::NoAnswer(self.told(error)),
            Err(error) => Outcome::FailedAtMessage(self.told(error)),
        }
    }

    /// The headers of a request with these messages, this id and body.
    fn headers_of(&self, messages: &[SinkMessage], id: &str, body: &[u8]) -> Option<HeaderMap> {
        let mut headers = self.headers.clone();
        for (name, value) in self.format.headers(messages) {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::try_from(value).ok()?,
            );
        }
        if let Some(key) = &self.key {
            let time = SystemTime::now().duration_since(UNIX_EPOCH);
            let time = time.map_or(0, |time| time.as_secs());
            let signature = HeaderValue::try_from(signature(key, id, time, body)).ok()?;
            headers.insert(TIMESTAMP, HeaderValue::from(time));
            headers.insert(SIGNATURE, signature);
        }
        headers.insert(ID, HeaderValue::from_str(id).ok()?);
        Some(headers)
    }

    async fn outcome(&self, response: Response) -> Outcome {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).cloned();
        let retry_after = retry_after.as_ref().and_then(|value| value.to_str().ok());
        let body = match status.is_success() {
            true => Body::default(),
            false => beginning(response).await,
        };
        answer::outcome(status, retry_after, &body, &self.secrets)
    }

    /// Whether the target answers at all.
    pub(super) async fn reach(&self) -> Result<(), String> {
        let mut request = Request::new(Method::HEAD, self.url.clone());
        if let Some(shown) = self.headers.get(AUTHORIZATION) {
            request.headers_mut().insert(AUTHORIZATION, shown.clone());
        }
        let sent = self.client.execute(request).await;
        sent.map(drop).map_err(|error| self.told(error))
    }

    /// An error without the URL, which may have a secret.
    fn told(&self, error: reqwest::Error) -> String {
        let happened = match () {
            () if error.is_timeout() => "the target did not answer in time (`timeout_secs`)",
            () if error.is_connect() => "the target cannot be reached",
            () => "the target ended the connection, or its answer is no HTTP",
        };
        format!("{happened}: {}", words(error, &self.secrets))
    }
}

/// Resolves names to permitted addresses.
struct Resolver(AllowedNetworks);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let permitted = allowed.resolve(name.as_str(), 0).await?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// Reads the beginning of an answer.
async fn beginning(mut response: Response) -> Body {
    let mut bytes = Vec::new();
    while bytes.len() <= ANSWER_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(part)) => bytes.extend_from_slice(&part),
            Ok(None) => break,
            Err(_) => {
                let is_cut = true;
                bytes.truncate(ANSWER_BYTES_MAX);
                return Body { bytes, is_cut };
            }
        }
    }
    let is_cut = bytes.len() > ANSWER_BYTES_MAX;
    bytes.truncate(ANSWER_BYTES_MAX);
    Body { bytes, is_cut }
}

/// An error with its causes, without the URL and without secrets.
fn words(error: reqwest::Error, secrets: &SecretTexts) -> String {
    secrets.mask_text(&error_words(&error.without_url()))
}

fn key_of(text: &SecretValue) -> Result<hmac::Key, String> {
    let bytes = match text.expose().strip_prefix(KEY_PREFIX) {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| "`signing_key` begins with whsec_, and is no base64 behind it")?,
        None => text.expose().as_bytes().to_vec(),
    };
    match bytes.len() {
        0..16 => Err("`signing_key` has fewer than 16 bytes, which can be guessed".to_owned()),
        _ => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
    }
}

/// The signature of Standard Webhooks: id, time in seconds and body.
fn signature(key: &hmac::Key, id: &str, time: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{time}.").as_bytes());
    context.update(body);
    format!("v1,{}", STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example of the reference implementation.
        let key = SecretValue::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let key = key_of(&key).expect("a key");
        let (id, time) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
        assert_eq!(
            signature(&key, id, time, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert!(key_of(&SecretValue::new("short".to_owned())).is_err());
    }
}
