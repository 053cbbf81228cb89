//! The webhook sink: HTTP requests with messages as JSON in their bodies, one message or several.

mod access;
mod answer;
mod connections;
mod format;
mod request;
mod secrets;
mod sending;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::each::deliver_within;
use crate::feed::{SinkMessages, deliver_batch};
use crate::networks::AllowedNetworks;
use crate::outcome::Outcome;
use crate::secret::{SecretsReceiver, Template};
use crate::sink::{AccessRefused, Sink};
use crate::sink_message::SinkMessage;
use crate::sink_state::SinkState;
use access::Access;
use request::Target;

pub use format::Format;
pub use settings::{KIND, METHODS};

/// Settings of a webhook.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where requests go: http:// or https://.
    pub url: Template,
    /// Method, such as `POST`.
    pub method: String,
    /// Names and values of headers.
    pub headers: Vec<(String, Template)>,
    /// Time limit of a request, from the connection to the end of the answer.
    pub timeout: Duration,
    /// Requests at once, 1 or more.
    pub in_flight: usize,
    /// Form of the bodies.
    pub format: Format,
    /// Messages of one request, at most; 1: the body is a message, else a list of messages.
    pub batch_messages: usize,
    /// Whether messages of one publisher are sent one after the other.
    pub keeps_order: bool,
    /// Key that requests are signed with; none: they are not signed.
    pub signing_key: Option<Template>,
    /// Whether nothing is sent after a message that was refused: `on_reject` is `stop`.
    pub stops_at_refusal: bool,
    /// Private networks that requests may go to.
    pub allowed: AllowedNetworks,
}

impl WebhookSettings {
    /// Names of the secrets that the settings refer to.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter().map(|(_, value)| value);
        let all = headers.chain(self.signing_key.as_ref()).chain([&self.url]);
        all.flat_map(Template::names)
    }

    /// Longest time of one call of [`Sink::deliver`].
    pub fn deliver_within(&self) -> Duration {
        deliver_within(self.timeout)
    }
}

/// A sink that sends HTTP requests.
#[derive(Debug)]
pub struct WebhookSink {
    settings: WebhookSettings,
    target: SinkState<Arc<Target>>,
    access: Access,
}

impl WebhookSink {
    /// A webhook with these settings, which uses these secrets.
    pub fn new(settings: WebhookSettings, secrets: SecretsReceiver) -> Self {
        Self {
            settings,
            target: SinkState::new(secrets),
            access: Access::default(),
        }
    }

    /// The target, with the secrets as they are now.
    async fn target(&mut self) -> Result<Arc<Target>, String> {
        let settings = &self.settings;
        let make = |secrets: Arc<_>| async move { Target::new(settings, &secrets).map(Arc::new) };
        let target = self.target.take(make).await?;
        self.target.keep(Arc::clone(&target));
        Ok(target)
    }
}

impl Sink for WebhookSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        deliver_batch(batch, async |feed: &mut SinkMessages| self.send(feed).await).await
    }

    async fn deliver_from(&mut self, feed: &mut SinkMessages) {
        self.send(feed).await;
    }

    async fn test(&mut self) -> Result<(), String> {
        self.target().await?.reach().await
    }

    fn access_refused(&self) -> Option<AccessRefused> {
        self.access.refused()
    }
}

impl WebhookSink {
    async fn send(&mut self, feed: &mut SinkMessages) {
        let target = match self.target().await {
            Ok(target) => target,
            Err(why) => return feed.fail(why),
        };
        let (target, access) = (&*target, &self.access);
        let send = |messages: Vec<SinkMessage>| async move { target.send(&messages, access).await };
        sending::deliver(feed, &self.settings, send).await;
    }
}

/// Whether a URL has a user name or password in clear. A reference to a secret is none.
pub fn has_credentials(url: &str) -> bool {
    // Any text that may stand wherever a secret may.
    let mut filled = String::new();
    let mut rest = url;
    while let Some((before, behind)) = rest.split_once("${secret:") {
        filled.push_str(before);
        filled.push_str(SECRET);
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    filled.push_str(rest);
    let Ok(url) = Url::parse(&filled) else {
        return false;
    };
    let is_clear = |text: &str| !text.is_empty() && !text.contains(SECRET);
    match url.password() {
        Some(password) => is_clear(password),
        None => is_clear(url.username()),
    }
}

/// Stands for a secret in [`has_credentials`].
const SECRET: &str = "martlet-secret";

/// Whether settings without their secrets can be used, for a check before the start.
///
/// # Errors
/// They cannot; the reason in words, without values.
pub fn check(settings: &WebhookSettings) -> Result<(), String> {
    match settings.secret_names().next() {
        // What the secrets complete is known when they are read.
        Some(_) => Ok(()),
        None => Target::new(settings, &crate::SecretValues::new()).map(drop),
    }
}
