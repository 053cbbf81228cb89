//! Events that are kept in files.

use axum::Json;
use axum::extract::State;
use martlet_control::event_archive::{ArchiveError, ArchivePosition, ArchiveQuery};
use martlet_control::feed::Kinds;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::extract::QueryOf;
use crate::name_list::name_list;
use crate::page;
use crate::problem::Problem;
use crate::telemetry::time_of;
use crate::tenant::{InTenants, OfTenant};

/// Which events.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ArchiveParams {
    /// The first time: RFC 3339, a number of seconds or milliseconds since 1970, `now`, or a time
    /// before now such as `-90s`, `-30m`, `-24h`, `-7d` or `-2w`. Default: `-24h`.
    #[param(example = "-24h")]
    from: Option<String>,
    /// The first time that is not meant any more, written likewise. Default: no end.
    to: Option<String>,
    /// Kinds with commas between them, such as `connected,disconnected`. Default: all that are
    /// archived.
    kinds: Option<String>,
    /// Only events of this client.
    client: Option<String>,
    /// With a topic that this Topic Filter matches.
    topic: Option<String>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Archived events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArchivedEvents {
    /// The events, the oldest one first, as in a stream. There may be fewer than were asked for.
    items: Vec<Value>,
    /// The `cursor` of the next page; null: this is the last one.
    next: Option<String>,
}

/// Archived events
///
/// Events that are kept in files, by `events.archive_kinds`, `events.archive_days` and
/// `events.archive_bytes`. An event is there within a second.
#[utoipa::path(get, path = "/api/v1/events/archive", tag = "clients", params(ArchiveParams, OfTenant),
    responses((status = 200, description = "A page of the list", body = ArchivedEvents),
        (status = 409, description = "No events are archived")))]
pub(crate) async fn archive(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    QueryOf(wanted): QueryOf<ArchiveParams>,
) -> Result<Json<ArchivedEvents>, Problem> {
    let archive = api.event_archive().ok_or_else(|| {
        Problem::conflict(
            "the node archives no events: set events.archive_kinds and start it again".to_owned(),
        )
    })?;
    let of = format!("archive {tenant:?} {:?} {:?}", wanted.client, wanted.topic);
    let after = wanted.cursor.as_deref();
    let after = after.map(|cursor| api.cursors().position(&of, cursor));
    let after = after
        .transpose()?
        .map(|text| text.parse::<ArchivePosition>());
    let after = after.transpose();
    let ms = |name: &str, text: &str| {
        let micros = time_of(name, text)?;
        Ok::<u64, Problem>(u64::try_from(micros / 1_000).unwrap_or(0))
    };
    let kinds = wanted.kinds.as_deref();
    kinds.map(|text| name_list("kinds", text)).transpose()?;
    let kinds = kinds.map(Kinds::parse).transpose();
    let topic = wanted.topic;
    if topic
        .as_ref()
        .is_some_and(|text| martlet_codec::TopicFilter::new(text).is_err())
    {
        return Err(Problem::of_query("topic", "is not a valid Topic Filter"));
    }
    let query = ArchiveQuery {
        tenant,
        from_ms: ms("from", wanted.from.as_deref().unwrap_or("-24h"))?,
        until_ms: match wanted.to.as_deref() {
            Some(text) => ms("to", text)?,
            None => u64::MAX,
        },
        kinds: kinds
            .map_err(|error| Problem::of_query("kinds", error.to_string()))?
            .unwrap_or_else(Kinds::all),
        client: wanted.client,
        topic,
        limit: page::limit(wanted.limit)?,
        after: after
            .map_err(|()| Problem::of_query("cursor", "the cursor belongs to another list"))?,
    };
    let found = archive.read(query).await?;
    Ok(Json(ArchivedEvents {
        next: found
            .next
            .map(|next| api.cursors().after(&of, &next.to_string())),
        items: found.events,
    }))
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        tracing::error!(%error, "the event archive cannot be read");
        Self::unavailable("the event archive cannot be read now; the log shows why".to_owned())
    }
}
