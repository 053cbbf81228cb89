//! Which events a caller wants.

use std::net::IpAddr;

use axum::http::request::Parts;
use martlet_broker::TenantId;
use martlet_control::feed::{self, Filter, Kinds, Panel, Sample};
use martlet_control::principal::{Principal, Scope};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::name_list::name_list;
use crate::problem::{Problem, ProblemKind};

/// Bytes of a payload that are included, at most.
const PAYLOAD_MAX: usize = 1 << 20;
/// Bytes of a payload in the panel's format, unless the caller asks for another number.
const PAYLOAD_PANEL: usize = 10_000;
/// Longest texts of a filter.
const TEXT_MAX: usize = 65_535;

/// Which events.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParams {
    /// For a page: begin at the event with this number.
    pub(super) from: Option<u64>,
    /// Otherwise: the last events, this number of them. Of a stream: of the events that are kept,
    /// before new ones.
    pub(super) tail: Option<usize>,
    /// For a page: the most events to return, at most 10000.
    #[param(default = 1000)]
    pub(super) limit: Option<usize>,
    /// For a page: seconds to wait while there is no event.
    #[param(maximum = 5)]
    pub(super) wait_secs: Option<u64>,
    /// Only events of this client; on a page of this user, too.
    pub(super) client: Option<String>,
    /// Only what was refused or lost.
    pub(super) trouble: Option<bool>,
    /// For a stream: kinds, separated by commas, such as `connected,disconnected`, or `all`.
    /// Without it: all but `packet`.
    kinds: Option<String>,
    /// For a stream: only clients whose identifier begins with this prefix.
    client_prefix: Option<String>,
    /// For a stream: only events of this user.
    user: Option<String>,
    /// For a stream: only events with a topic that this Topic Filter matches.
    topic: Option<String>,
    /// For a stream: only connections from this IP address.
    #[param(value_type = Option<String>, example = "192.0.2.1")]
    address: Option<IpAddr>,
    /// For a stream: one in this number of events of a kind, such as `packet:100,published:10`.
    sample: Option<String>,
    /// For a stream: bytes of each payload to include. It requires the scope `retained:read` too.
    #[param(minimum = 0, maximum = 1_048_576, default = 0)]
    payload: Option<usize>,
    /// For a stream: `events`, or `panel` for the names and fields of the MQTT Panel.
    format: Option<Format>,
    /// For a stream: resume after this event, as the header Last-Event-ID does.
    last_event_id: Option<String>,
}

/// In which form.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Martlet's own: [`FeedEvent`].
    #[default]
    Events,
    /// The MQTT Panel's.
    Panel,
}

/// Events that a stream is asked for, and their format.
#[derive(Debug)]
pub(super) struct EventRequest {
    pub(super) filter: Filter,
    pub(super) format: Format,
}

impl EventParams {
    /// As what a stream passes.
    pub(super) fn request(
        &self,
        principal: &Principal,
        tenant: Option<TenantId>,
    ) -> Result<EventRequest, Problem> {
        let of_page = [
            ("from", self.from.is_some()),
            ("limit", self.limit.is_some()),
            ("wait_secs", self.wait_secs.is_some()),
        ];
        if let Some((name, _)) = of_page.iter().find(|(_, is_there)| *is_there) {
            return Err(Problem::of_query(name, "is of pages alone"));
        }
        let format = self.format.unwrap_or_default();
        let is_panel = format == Format::Panel;
        for (name, list) in [("kinds", &self.kinds), ("sample", &self.sample)] {
            list.as_deref()
                .map(|text| name_list(name, text))
                .transpose()?;
        }
        let kinds = match self.kinds.as_deref().map(Kinds::parse) {
            Some(kinds) => kinds.map_err(|error| Problem::of_query("kinds", error.to_string()))?,
            None if is_panel => Panel::kinds(),
            None => Kinds::usual(),
        };
        let samples = self.sample.as_deref().map(Sample::parse).transpose();
        if let Some(topic) = &self.topic
            && !Filter::is_topic(topic)
        {
            return Err(Problem::of_query("topic", "is not a valid Topic Filter"));
        }
        for (name, text) in [
            ("client", &self.client),
            ("client_prefix", &self.client_prefix),
            ("user", &self.user),
            ("topic", &self.topic),
        ] {
            if text.as_ref().is_some_and(|text| text.len() > TEXT_MAX) {
                let detail = format!("has {TEXT_MAX} bytes at most");
                return Err(Problem::of_query(name, detail));
            }
        }
        let payload = self.payload.unwrap_or(match is_panel {
            true => PAYLOAD_PANEL,
            false => 0,
        });
        if payload > PAYLOAD_MAX {
            return Err(Problem::of_query(
                "payload",
                format!("is {PAYLOAD_MAX} at most"),
            ));
        }
        if payload > 0 && !principal.scopes.has(Scope::RetainedRead) {
            let lacks = principal.lacks(Scope::RetainedRead);
            let detail = format!("{lacks}, so payload must be 0");
            return Err(Problem::new(ProblemKind::Forbidden, detail));
        }
        Ok(EventRequest {
            filter: Filter {
                // The panel's frames have no room for it.
                tenant: tenant.or(is_panel.then(TenantId::default)),
                kinds,
                client: self.client.clone(),
                client_prefix: self.client_prefix.clone(),
                user: self.user.clone(),
                topic: self.topic.clone(),
                topics: Vec::new(),
                address: self.address,
                trouble: self.trouble.unwrap_or(false),
                samples: samples
                    .map_err(|why| Problem::of_query("sample", why))?
                    .unwrap_or_default(),
                payload_bytes: payload,
            },
            format,
        })
    }

    pub(super) fn start(&self, parts: &Parts) -> feed::From {
        let header = parts.headers.get("last-event-id");
        let header = header.and_then(|id| id.to_str().ok()).map(str::to_owned);
        match (header.or_else(|| self.last_event_id.clone()), self.tail) {
            (Some(id), _) => feed::From::After(id),
            (None, Some(tail)) => feed::From::Tail(tail),
            (None, None) => feed::From::Now,
        }
    }

    /// A page has no such parameters.
    pub(super) fn check_page(&self) -> Result<(), Problem> {
        let of_stream = [
            ("kinds", self.kinds.is_some()),
            ("client_prefix", self.client_prefix.is_some()),
            ("user", self.user.is_some()),
            ("topic", self.topic.is_some()),
            ("address", self.address.is_some()),
            ("sample", self.sample.is_some()),
            ("payload", self.payload.is_some()),
            ("format", self.format.is_some()),
            ("last_event_id", self.last_event_id.is_some()),
        ];
        let wrong_one = of_stream.iter().find(|(_, is_there)| *is_there);
        wrong_one.map_or(Ok(()), |(name, _)| {
            let detail = format!(
                "`{name}` applies to streams only: send Accept: text/event-stream, or use a WebSocket"
            );
            Err(Problem::of_query(name, detail))
        })
    }
}
