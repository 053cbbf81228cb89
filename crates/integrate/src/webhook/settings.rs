//! Settings of a webhook.

use std::time::Duration;

use super::format::Format;
use crate::each::deliver_within;
use crate::networks::AllowedNetworks;
use crate::secret::Template;

/// Settings of a webhook.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// URL of requests: http:// or https://.
    pub url: Template,
    /// Method, such as `POST`.
    pub method: String,
    /// Names and values of headers.
    pub headers: Vec<(String, Template)>,
    /// Time limit of a request, from the connection to the end of the answer.
    pub timeout: Duration,
    /// Maximum number of requests in flight, 1 or more.
    pub in_flight: usize,
    /// Form of the bodies.
    pub format: Format,
    /// Maximum number of messages of one request; 1: the body is a message, else a list of
    /// messages.
    pub batch_messages: usize,
    /// Whether messages of one publisher are sent one after the other.
    pub keeps_order: bool,
    /// Signing key of requests; `None`: they are not signed.
    pub signing_key: Option<Template>,
    /// Whether nothing is sent after a refused message: `on_reject` is `stop`.
    pub stops_at_refusal: bool,
    /// Private networks that are permitted for requests.
    pub allowed: AllowedNetworks,
}

impl WebhookSettings {
    /// Names of the secrets that the settings refer to.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter().map(|(_, value)| value);
        let all = headers.chain(self.signing_key.as_ref()).chain([&self.url]);
        all.flat_map(Template::names)
    }

    /// Time limit of one call of [`Sink::deliver`](crate::Sink::deliver).
    pub fn deliver_within(&self) -> Duration {
        deliver_within(self.timeout)
    }
}
