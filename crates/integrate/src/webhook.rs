//! The webhook sink: one HTTP request for each message, with the message as JSON in its body.

mod answer;
mod request;
mod secrets;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;

use crate::kept::Kept;
use crate::networks::AllowedNetworks;
use crate::secret::{SecretsReceiver, Template};
use crate::sink::{Outcome, Sink, SinkMessage, by_publisher};
use request::Target;

pub use settings::KIND;

/// Time in which a call begins new requests. What is left comes again with the next call, so that
/// messages that were delivered are settled soon.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// Messages in a row, of several publishers, that the target fails at, after which a call ends: the
/// target itself may be at fault. One message alone holds up its publisher and no other.
const TROUBLES_MAX: usize = 3;

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
    /// Requests at once, 1 or more. Messages of one publisher are sent one after the other.
    pub in_flight: usize,
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
        BEGINS_WITHIN + self.timeout + Duration::from_secs(5)
    }
}

/// A sink that sends HTTP requests.
#[derive(Debug)]
pub struct WebhookSink {
    settings: WebhookSettings,
    target: Kept<Arc<Target>>,
}

impl WebhookSink {
    /// A webhook with these settings, which uses these secrets.
    pub fn new(settings: WebhookSettings, secrets: SecretsReceiver) -> Self {
        Self {
            settings,
            target: Kept::new(secrets),
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
        let target = match self.target().await {
            Ok(target) => target,
            Err(why) => return vec![Outcome::Failed(why)],
        };
        let until = Instant::now() + BEGINS_WITHIN;
        let (is_failing, troubles) = (AtomicBool::new(false), AtomicUsize::new(0));
        let stops_at_refusal = self.settings.stops_at_refusal;
        let (target, is_failing, troubles) = (&*target, &is_failing, &troubles);
        let lanes = stream::iter(by_publisher(batch)).map(|lane| async move {
            let mut outcomes = Vec::with_capacity(lane.len());
            for at in lane {
                let is_over = !outcomes.is_empty() && Instant::now() >= until;
                if is_over || is_failing.load(Ordering::Relaxed) {
                    break;
                }
                let outcome = target.send(&batch[at]).await;
                let (ends_lane, ends_call) = match &outcome {
                    Outcome::Failed(_) | Outcome::Later(..) => (true, true),
                    Outcome::FailedAtMessage(_) | Outcome::NoAnswer(_) => {
                        let before = troubles.fetch_add(1, Ordering::Relaxed);
                        (true, before + 1 >= TROUBLES_MAX)
                    }
                    Outcome::Refused(_) => (stops_at_refusal, stops_at_refusal),
                    Outcome::Done => {
                        troubles.store(0, Ordering::Relaxed);
                        (false, false)
                    }
                    Outcome::NotTried => (false, false),
                };
                outcomes.push((at, outcome));
                if ends_call {
                    is_failing.store(true, Ordering::Relaxed);
                }
                if ends_lane {
                    break;
                }
            }
            outcomes
        });
        let mut lanes = lanes.buffer_unordered(self.settings.in_flight.max(1));
        let mut outcomes = vec![Outcome::NotTried; batch.len()];
        while let Some(lane) = lanes.next().await {
            for (at, outcome) in lane {
                outcomes[at] = outcome;
            }
            if Instant::now() >= until {
                is_failing.store(true, Ordering::Relaxed);
            }
        }
        outcomes
    }

    async fn test(&mut self) -> Result<(), String> {
        self.target().await?.reach().await
    }
}

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
