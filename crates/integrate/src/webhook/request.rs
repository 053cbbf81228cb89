//! A request of a webhook, signed according to Standard Webhooks.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use hyper::Method;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};

use super::access::Access;
use super::answer;
use super::format::Format;
use super::secrets;
use super::settings::WebhookSettings;
use super::signing_key::{key_of, signature};
use crate::http::{Answer, HttpTarget, NoAnswer};
use crate::masking::SecretTexts;
use crate::outcome::Outcome;
use crate::secret::SecretValues;
use crate::sink_message::SinkMessage;

/// Headers of Standard Webhooks.
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// The target of requests, with the values of all secrets.
pub(super) struct Target {
    http: HttpTarget,
    method: Method,
    headers: HeaderMap,
    key: Option<hmac::Key>,
    format: Format,
    /// Whether bodies are lists of messages.
    is_list: bool,
    /// Secrets that must not appear in errors or dead letters.
    secrets: SecretTexts,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.http).finish()
    }
}

impl Target {
    /// Creates a target from settings and the values of their secrets.
    ///
    /// # Errors
    /// A setting is unusable; the reason does not repeat it.
    pub(super) fn new(settings: &WebhookSettings, values: &SecretValues) -> Result<Self, String> {
        let filled = |template: &crate::Template| template.fill(values).map_err(String::from);
        let secrets = secrets::all(settings, values)?;
        let url = filled(&settings.url)?;
        let http = HttpTarget::new(url.expose(), &settings.allowed, settings.timeout)?;
        let method = Method::from_bytes(settings.method.as_bytes())
            .map_err(|_| "`method` is not an HTTP method".to_owned())?;
        let mut headers = http.headers();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
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
        if !headers.contains_key(USER_AGENT) {
            let name = HeaderValue::from_static(format.user_agent());
            headers.insert(USER_AGENT, name);
        }
        Ok(Self {
            http,
            method,
            headers,
            key: key.as_ref().map(key_of).transpose()?,
            format,
            is_list,
            secrets,
        })
    }

    /// Sends messages in one request, and updates the access state from the answer. The outcome
    /// applies to all of them.
    pub(super) async fn send(&self, messages: &[SinkMessage], access: &Access) -> Outcome {
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
        let request = self.http.request(self.method.clone(), headers, body);
        match self.http.send(request).await {
            Ok(answer) => {
                access.answered(answer.head.status);
                self.outcome(&answer)
            }
            Err(error @ NoAnswer::NotConnected(_)) => Outcome::Failed(self.told(&error)),
            // The target is reachable; a message may make it fail or hang.
            Err(error @ NoAnswer::Late) => Outcome::NoAnswer(self.told(&error)),
            Err(error @ (NoAnswer::Broken(_) | NoAnswer::Endless)) => {
                Outcome::FailedAtMessage(self.told(&error))
            }
        }
    }

    /// Headers of a request with these messages, this id and body.
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

    fn outcome(&self, answer: &Answer) -> Outcome {
        let Answer { head, body } = answer;
        let retry_after = head.headers.get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok());
        let is_for_good = self.format != Format::Microservice;
        answer::outcome(head.status, is_for_good, retry_after, body, &self.secrets)
    }

    /// Whether the target answers at all.
    pub(super) async fn reach(&self) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        for name in [HOST, ACCEPT, USER_AGENT, AUTHORIZATION] {
            if let Some(value) = self.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let request = self.http.request(Method::HEAD, headers, Vec::new());
        let sent = self.http.send(request).await;
        sent.map(drop).map_err(|error| self.told(&error))
    }

    /// Text of an error, without secrets.
    fn told(&self, error: &NoAnswer) -> String {
        self.secrets.mask_text(&error.to_string())
    }
}
