//! Subscriptions: of all clients page by page, and of one, where they are made and ended.

use axum::extract::State;
use axum::http::StatusCode;
use martlet_broker::{NewSubscription, SubscriptionInfo, SubscriptionQuery, TenantId};
use martlet_codec::{
    QoS, ReasonCode, RetainHandling, SubscriptionFilter, SubscriptionOptions, TopicName,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::client_ids::{no_session, without_own_parts};
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::integrations::{Instead, expect_no_integration};
use crate::page::{self, Page};
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::tenant::{InTenant, OfTenant};

/// A subscription.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionView {
    /// Whose.
    pub client_id: String,
    /// Topic Filter, `$share/…` where it is a Shared Subscription.
    pub filter: String,
    /// ShareName of a Shared Subscription.
    pub share_name: Option<String>,
    /// The QoS granted.
    pub qos: u8,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Subscription Identifier.
    pub subscription_id: Option<u32>,
}

impl From<SubscriptionInfo> for SubscriptionView {
    fn from(found: SubscriptionInfo) -> Self {
        Self {
            client_id: (*found.client_id).to_owned(),
            share_name: found.share_name().map(str::to_owned),
            filter: found.filter.into(),
            qos: found.qos as u8,
            no_local: found.no_local,
            retain_as_published: found.retain_as_published,
            subscription_id: (found.subscription_id > 0).then_some(found.subscription_id),
        }
    }
}

/// Which subscriptions: all given conditions must be true.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubscriptionParams {
    /// Only subscriptions of this client.
    client_id: Option<String>,
    /// To exactly this Topic Filter, `$share/…` where it is a Shared Subscription.
    #[param(example = "devices/+/state")]
    filter: Option<String>,
    /// Only subscriptions with this ShareName.
    share_name: Option<String>,
    /// That match this Topic Name.
    #[param(example = "devices/7/state")]
    topic: Option<String>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
}

/// Subscriptions
///
/// The subscriptions of all clients, sorted by Client Identifier and Topic Filter. With `topic`,
/// those that would receive a message.
#[utoipa::path(get, path = "/api/v1/subscriptions", tag = "clients",
    params(SubscriptionParams, OfTenant),
    responses((status = 200, description = "A page of the list", body = Page<SubscriptionView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    QueryOf(params): QueryOf<SubscriptionParams>,
) -> Result<axum::Json<Page<SubscriptionView>>, Problem> {
    page_of(&api, tenant, params).await
}

/// How many of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClientSubscriptionParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
}

/// Subscriptions of a client
///
/// The subscriptions of the client, sorted by Topic Filter.
#[utoipa::path(get, path = "/api/v1/clients/{client_id}/subscriptions", tag = "clients",
    params(("client_id" = String, Path, description = "Client Identifier, percent-encoded"),
        ClientSubscriptionParams, OfTenant),
    responses(
        (status = 200, description = "A page of the list", body = Page<SubscriptionView>),
        (status = 404, description = "The client has no session", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn of_client(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(client_id): PathOf<String>,
    QueryOf(params): QueryOf<ClientSubscriptionParams>,
) -> Result<axum::Json<Page<SubscriptionView>>, Problem> {
    if api.control.client(tenant, &client_id, 0).await?.is_none() {
        return Err(no_session(&client_id));
    }
    let params = SubscriptionParams {
        client_id: Some(client_id),
        filter: None,
        share_name: None,
        topic: None,
        limit: params.limit,
        cursor: params.cursor,
        total: params.total,
    };
    page_of(&api, tenant, params).await
}

async fn page_of(
    api: &Api,
    tenant: TenantId,
    params: SubscriptionParams,
) -> Result<axum::Json<Page<SubscriptionView>>, Problem> {
    let SubscriptionParams {
        client_id,
        filter,
        share_name,
        topic,
        limit,
        cursor,
        total,
    } = params;
    if topic
        .as_deref()
        .is_some_and(|topic| TopicName::new(topic).is_err())
    {
        let problem = Problem::bad_request("topic is not a valid Topic Name");
        let detail = "is not a valid Topic Name: it is empty or has a wildcard";
        return Err(problem.of_parameter("topic", detail));
    }
    let list = format!(
        "subscriptions {:?}",
        (tenant.0, &client_id, &filter, &share_name, &topic)
    );
    let after: Option<(String, u32, String)> = api.cursors().key(&list, cursor.as_deref())?;
    let query = SubscriptionQuery {
        tenant: Some(tenant),
        without: without_own_parts(client_id.as_deref()),
        client_id: client_id.map(Into::into),
        filter: filter.map(Into::into),
        share_name: share_name.map(Into::into),
        topic: topic.map(Into::into),
        after: after.map(|(id, tenant, filter)| (id.into(), TenantId(tenant), filter.into())),
        limit: page::limit(limit)?,
    };
    let found = api.control.subscriptions(&query).await?;
    let last = found.subscriptions.last().filter(|_| found.more);
    let key = |last: &SubscriptionInfo| {
        let client_id = (*last.client_id).to_owned();
        (client_id, last.tenant.0, last.filter.clone())
    };
    let next = last.map(|last| api.cursors().after_key(&list, &key(last)));
    Ok(axum::Json(Page {
        items: found.subscriptions.into_iter().map(Into::into).collect(),
        next,
        total: (total == Some(true)).then_some(found.total as u64),
    }))
}

/// A subscription that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscriptionBody {
    /// Topic Filter, `$share/NAME/…` for a Shared Subscription.
    #[schema(example = "devices/+/state")]
    filter: String,
    /// The highest QoS that messages are sent with.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2, default = 0)]
    qos: u8,
    /// No Local: messages of its own are not sent to it.
    #[serde(default)]
    no_local: bool,
    /// Retain As Published: messages keep their RETAIN flag.
    #[serde(default)]
    retain_as_published: bool,
    /// Retain Handling: retained messages are sent now (0), if the subscription is new (1), or not
    /// (2).
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2, default = 0)]
    retain_handling: u8,
    /// Subscription Identifier.
    #[schema(minimum = 1, maximum = 268_435_455)]
    subscription_id: Option<u32>,
}

/// Outcome of a subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Granted {
    /// Topic Filter.
    filter: String,
    /// The QoS granted.
    qos: u8,
    /// The reason code of its SUBACK.
    reason_code: u8,
    /// Reason code in words.
    reason: &'static str,
}

/// Where the subscriptions of an integration come from.
const FILTERS: Instead = Instead::Configure("its filters are those of the configuration");

/// Subscription Identifiers are 28 bits (MQTT 5 section 3.8.2.1.2).
const SUBSCRIPTION_ID_MAX: u32 = 268_435_455;

/// Subscribe for a client
///
/// Connected or not, as if it had asked: its rules and the limits of its listener hold. Answered
/// when its SUBACK would come.
#[utoipa::path(post, path = "/api/v1/clients/{client_id}/subscriptions", tag = "clients",
    params(("client_id" = String, Path, description = "Client Identifier, percent-encoded")),
    request_body = SubscriptionBody,
    responses(
        (status = 200, description = "Subscribed", body = Granted),
        (status = 404, description = "The client has no session", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 409, description = "The configuration has it", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn subscribe(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(client_id): PathOf<String>,
    JsonBody(body): JsonBody<SubscriptionBody>,
) -> Result<axum::Json<Granted>, Problem> {
    expect_no_integration(&api, tenant, &client_id, FILTERS)?;
    let filter = body.filter.clone();
    let subscription = body.into_subscription()?;
    let answered = api.control.subscribe(tenant, &client_id, subscription);
    let reason = answered.await?.ok_or_else(|| no_session(&client_id))?;
    if !reason.is_error() {
        return Ok(axum::Json(Granted {
            filter,
            qos: reason as u8,
            reason_code: reason as u8,
            reason: reason.name(),
        }));
    }
    let detail = format!("the client is not subscribed: {reason}");
    match reason {
        ReasonCode::QuotaExceeded => Err(Problem::conflict(detail)),
        _ => Err(invalid("/filter", &detail)),
    }
}

impl SubscriptionBody {
    fn into_subscription(self) -> Result<NewSubscription, Problem> {
        if SubscriptionFilter::parse(&self.filter).is_err() {
            return Err(invalid("/filter", "it is not a valid Topic Filter"));
        }
        let qos = QoS::from_bits(self.qos).ok_or_else(|| invalid("/qos", "expected 0, 1 or 2"))?;
        let retain_handling = match self.retain_handling {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(invalid("/retain_handling", "expected 0, 1 or 2")),
        };
        // [MQTT-3.8.3-4]
        if self.no_local && self.filter.starts_with("$share/") {
            return Err(invalid("/no_local", "a Shared Subscription cannot have it"));
        }
        let subscription_id = match self.subscription_id {
            None => 0,
            Some(id @ 1..=SUBSCRIPTION_ID_MAX) => id,
            Some(_) => {
                let detail = format!("expected 1 to {SUBSCRIPTION_ID_MAX}");
                return Err(invalid("/subscription_id", &detail));
            }
        };
        Ok(NewSubscription {
            filter: self.filter.into(),
            options: SubscriptionOptions {
                qos,
                no_local: self.no_local,
                retain_as_published: self.retain_as_published,
                retain_handling,
            },
            subscription_id,
        })
    }
}

fn invalid(pointer: &str, detail: &str) -> Problem {
    Problem::of_body(pointer, detail)
}

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UnsubscribeParams {
    /// Topic Filter of the subscription, `$share/…` where it is a Shared Subscription.
    #[param(example = "devices/+/state")]
    filter: String,
}

/// Unsubscribe for a client
///
/// Connected or not, as if it had asked. Answered when its UNSUBACK would come.
#[utoipa::path(delete, path = "/api/v1/clients/{client_id}/subscriptions", tag = "clients",
    params(("client_id" = String, Path, description = "Client Identifier, percent-encoded"), UnsubscribeParams),
    responses(
        (status = 204, description = "Unsubscribed"),
        (status = 404, description = "The client has no session, or no such subscription",
            body = ProblemView, content_type = "application/problem+json"),
        (status = 409, description = "The configuration has it", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn unsubscribe(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(client_id): PathOf<String>,
    QueryOf(which): QueryOf<UnsubscribeParams>,
) -> Result<StatusCode, Problem> {
    expect_no_integration(&api, tenant, &client_id, FILTERS)?;
    let filter = &which.filter;
    let answered = api.control.unsubscribe(tenant, &client_id, filter);
    match answered.await?.ok_or_else(|| no_session(&client_id))? {
        ReasonCode::Success => Ok(StatusCode::NO_CONTENT),
        _ => {
            let detail = format!("the client {client_id:?} has no subscription to {filter:?}");
            let problem = Problem::new(ProblemKind::NotFound, detail);
            Err(problem.of_parameter("filter", "no such subscription"))
        }
    }
}
