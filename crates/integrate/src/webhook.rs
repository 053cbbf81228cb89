//! The webhook sink: HTTP requests with messages as JSON, one or several per request.

mod access;
mod answer;
mod format;
mod kind;
mod request;
mod secrets;
mod sending;
mod settings;
mod signing_key;

use std::sync::Arc;

use url::Url;

use crate::feed::{SinkMessages, deliver_batch};
use crate::outcome::Outcome;
use crate::secret::SecretsReceiver;
use crate::sink::{AccessRefused, Sink};
use crate::sink_message::SinkMessage;
use crate::sink_state::SinkState;
use access::Access;
use request::Target;

pub use format::Format;
pub(crate) use kind::WebhookKind;
pub use kind::{METHODS, NAME};
pub use settings::WebhookSettings;

/// A sink that sends HTTP requests.
#[derive(Debug)]
pub struct WebhookSink {
    settings: WebhookSettings,
    target: SinkState<Arc<Target>>,
    access: Access,
}

impl WebhookSink {
    /// A webhook with these settings and secrets.
    pub fn new(settings: WebhookSettings, secrets: SecretsReceiver) -> Self {
        Self {
            settings,
            target: SinkState::new(secrets),
            access: Access::default(),
        }
    }

    /// The target, with the current secrets.
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

/// Whether a URL has a user name or password in clear text. References to secrets do not count.
pub fn has_credentials(url: &str) -> bool {
    // Any text that is valid in all places of a secret.
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

/// Placeholder for a secret in [`has_credentials`].
const SECRET: &str = "martlet-secret";

/// Checks settings without their secrets, before the start.
///
/// # Errors
/// They are unusable; the reason, without values.
pub fn check(settings: &WebhookSettings) -> Result<(), String> {
    match settings.secret_names().next() {
        // Values with secrets are checked when they are read.
        Some(_) => Ok(()),
        None => Target::new(settings, &crate::SecretValues::new()).map(drop),
    }
}
