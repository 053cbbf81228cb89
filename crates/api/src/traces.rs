//! Traces: of a client, an address or a topic everything is logged for some minutes.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use martlet_broker::TenantId;
use martlet_control::Control;
use martlet_control::logging::{Subject, TRACE_MINUTES_MAX, Trace};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::extract::{JsonBody, QueryOf};
use crate::logs::logging;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::tenant::{InTenants, OfTenant};
use crate::time::at;

/// Default number of minutes.
const MINUTES: u32 = 10;

/// A trace that is to begin: of a client, an address or a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceBody {
    /// Client Identifier: all that the client does, its packets too. A caller that sees all teams
    /// may name one of a team that has a tenant of its own as it connects: `ID@TEAM`.
    #[schema(example = "sensor-7")]
    client: Option<String>,
    /// IP address: the same for all clients from there.
    #[schema(value_type = Option<String>, example = "192.0.2.7")]
    address: Option<IpAddr>,
    /// Topic Filter: messages published, delivered, refused and dropped.
    #[schema(example = "devices/7/#")]
    topic: Option<String>,
    /// Minutes that the trace lasts.
    #[schema(minimum = 1, maximum = 1440, default = 10)]
    minutes: Option<u32>,
}

/// Which trace: one of these.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TraceTarget {
    /// Client Identifier.
    client: Option<String>,
    /// IP address.
    #[param(value_type = Option<String>, example = "192.0.2.7")]
    address: Option<IpAddr>,
    /// Topic Filter.
    topic: Option<String>,
}

/// A trace.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TraceView {
    /// Client Identifier.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<String>,
    /// The tenant it is in, by its number; none is that of all teams that have none of their own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tenant: Option<u32>,
    /// IP address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// Topic Filter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// Until then; none: until it is ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<String>,
}

impl From<Trace> for TraceView {
    fn from((subject, until_ms): Trace) -> Self {
        let mut view = Self {
            client: None,
            tenant: None,
            address: None,
            topic: None,
            until: until_ms.and_then(at),
        };
        match subject {
            Subject::Client(tenant, client_id) => {
                view.client = Some(client_id.into());
                view.tenant = (tenant != TenantId::default()).then_some(tenant.0);
            }
            Subject::Address(address) => view.address = Some(address),
            Subject::Topic(filter) => view.topic = Some(filter.into()),
        }
        view
    }
}

impl TraceTarget {
    async fn subject(
        self,
        control: &Control,
        tenant: Option<TenantId>,
    ) -> Result<Subject, Problem> {
        let empty = |of: &str, expected: &str| {
            let detail = format!("{of} is empty: expected {expected}");
            Err(Problem::bad_request(detail).of_parameter(of, "empty"))
        };
        match (self.client, self.address, self.topic) {
            (Some(client_id), None, None) if client_id.is_empty() => empty(
                "client",
                "a Client Identifier, as `martlet client ls` shows them",
            ),
            (None, None, Some(filter)) if filter.is_empty() => {
                empty("topic", "a Topic Filter, such as devices/7/#")
            }
            (Some(client_id), None, None) => {
                let (tenant, client_id) = control.resolve_client(tenant, client_id).await?;
                Ok(Subject::Client(tenant, client_id.into()))
            }
            (None, Some(address), None) => Ok(Subject::Address(address.to_canonical())),
            (None, None, Some(filter)) => Ok(Subject::Topic(filter.into())),
            _ => Err(Problem::bad_request(
                "a trace is of one client, one address or one topic: name one of them",
            )),
        }
    }
}

/// All traces.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TracesView {
    /// Traces that are under way.
    pub items: Vec<TraceView>,
}

/// Traces
///
/// The clients, addresses and topics about which everything is logged now.
#[utoipa::path(get, path = "/api/v1/traces", tag = "node",
    responses((status = 200, description = "The whole list", body = TracesView)))]
pub(crate) async fn list(State(control): State<Arc<Control>>) -> Result<Json<TracesView>, Problem> {
    let traces = logging(&control)?.traces();
    Ok(Json(TracesView {
        items: traces.into_iter().map(Into::into).collect(),
    }))
}

/// Begin a trace
///
/// What it finds is written to the log, at level info for every level of the log; payloads are not.
/// Readers of `/api/v1/events` with `kinds=all` see it too. There are 100 traces at most. A new
/// request for an existing trace sets its time again.
#[utoipa::path(post, path = "/api/v1/traces", tag = "node",
    params(OfTenant), request_body = TraceBody,
    responses((status = 201, description = "The trace has begun", body = TraceView)))]
pub(crate) async fn begin(
    State(control): State<Arc<Control>>,
    InTenants(tenant): InTenants,
    JsonBody(body): JsonBody<TraceBody>,
) -> Result<(StatusCode, Json<TraceView>), Problem> {
    let minutes = body.minutes.unwrap_or(MINUTES);
    if !(1..=TRACE_MINUTES_MAX).contains(&minutes) {
        let detail = format!("expected 1 to {TRACE_MINUTES_MAX}");
        return Err(Problem::of_body("/minutes", detail));
    }
    let named = TraceTarget {
        client: body.client,
        address: body.address,
        topic: body.topic,
    };
    let subject = named.subject(&control, tenant).await?;
    let logging = logging(&control)?;
    logging
        .trace(subject.clone(), minutes)
        .map_err(Problem::conflict)?;
    let mut all = logging.traces().into_iter();
    let found = all.find(|(traced, _)| *traced == subject);
    let begun = found.unwrap_or((subject, None));
    Ok((StatusCode::CREATED, Json(begun.into())))
}

/// End a trace
///
/// Before its time.
#[utoipa::path(delete, path = "/api/v1/traces", tag = "node", params(OfTenant, TraceTarget),
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn end(
    State(control): State<Arc<Control>>,
    InTenants(tenant): InTenants,
    QueryOf(named): QueryOf<TraceTarget>,
) -> Result<StatusCode, Problem> {
    let subject = named.subject(&control, tenant).await?;
    match logging(&control)?.end_trace(&subject) {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            let detail = "there is no such trace";
            Err(Problem::new(ProblemKind::NotFound, detail))
        }
    }
}
