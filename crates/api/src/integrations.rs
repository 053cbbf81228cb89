//! Integrations: their states, what operators have them do, and their dead letters.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use martlet_broker::TenantId;
use martlet_control::integrations::{
    Chosen, CommandError, DeadLetter, DeadLetterHead, Failure, IntegrationError, IntegrationInfo,
    Integrations, OnReject, Operator, Order,
};
use martlet_control::principal::{Principal, Scope};
use martlet_control::star_warning_of;
use martlet_registry::{Remedies, Remedy};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, IntoResponses, ToSchema};

use crate::api::Api;
use crate::extensions::About;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::{self, Items, Page};
use crate::payload::shown;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::tenant::{InTenants, OfTenant};
use crate::time::at;

/// Dead letters that one request may name.
const IDS_MAX: usize = 1_000;

/// An integration.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct IntegrationView {
    /// Kind, such as `file`.
    #[schema(example = "file")]
    pub kind: String,
    /// Name, which no other integration of this kind and team has.
    #[schema(example = "audit")]
    pub name: String,
    /// Name among all of the node, as in metrics and `why`: `TEAM/NAME` if a team has added it,
    /// else the same.
    #[schema(example = "audit")]
    pub full_name: String,
    /// Client Identifier of its session.
    #[schema(example = "$integration/file/audit")]
    pub client_id: String,
    /// Team whose tenant's messages it takes; null: the common tenant.
    pub team: Option<String>,
    /// Topic Filters of the messages that it takes.
    pub filters: Vec<String>,
    /// Whether QoS 0 messages wait in its queue, too.
    pub keep_qos0: bool,
    /// Treatment of messages that it refuses: `dead-letter` or `stop`.
    pub on_reject: String,
    /// Which messages it delivers in order: those of one `publisher`, `user` or `topic`.
    #[serde(default)]
    #[schema(example = "publisher")]
    pub order: String,
    /// `starting`, `running`, `retrying`, `draining`, `paused`, `stopped` or `ended`.
    #[schema(example = "running")]
    pub state: String,
    /// Why it has stopped; null unless it is `stopped`.
    pub stopped_because: Option<String>,
    /// Since when it is paused; null unless it is `paused`.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_since: Option<String>,
    /// Current failure.
    pub failure: Option<FailureView>,
    /// Names of the secrets that it uses.
    pub secrets: Vec<String>,
    /// Why its secrets cannot be used: `secret_missing`, `secret_damaged`, `secret_unusable` (a
    /// signing key that is too short or not base64), `key_file_missing`, `key_file_exposed`,
    /// `key_file_unusable`, `key_file_wrong`, `tables_unavailable` or `secrets_not_read`; null if
    /// they can. `failure` has it in words.
    #[schema(example = "secret_missing")]
    pub secret_trouble: Option<String>,
    /// Last error, also after recovery.
    pub last_error: Option<LastErrorView>,
    /// Warning of the target although deliveries succeed, or about the filters; null if there is
    /// none.
    pub warning: Option<String>,
    /// Messages that wait for it, in its queue and in hand; null if unknown.
    pub lag: Option<u64>,
    /// Messages that it has taken from its queue and not settled.
    pub in_hand: u64,
    /// Time of receipt of the oldest message that is not delivered.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_received_at: Option<String>,
    /// Time of the last successful delivery.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub delivered_at: Option<String>,
    /// Messages delivered since the start of the node.
    pub delivered: u64,
    /// How many of these may have been delivered before.
    pub repeated: u64,
    /// How many of these were not sent, since they came from the other broker: its name is among
    /// the nodes that they have passed. Counted since the start of the node.
    #[serde(default)]
    pub skipped: u64,
    /// Messages of the other broker that the node has taken since its start, of a bridge.
    #[serde(default)]
    pub incoming: u64,
    /// Messages of the other broker that were dropped since the start of the node.
    #[serde(default)]
    pub incoming_dropped: u64,
    /// Messages refused since the start of the node.
    pub refused: u64,
    /// Attempts that failed since the start of the node, each for a batch.
    pub failed_attempts: u64,
    /// Dead letters stored since the start of the node.
    pub dead_letters: u64,
    /// Dead letters that are stored now; null while the tables do not answer.
    pub dead_letters_stored: Option<u64>,
    /// Dead letters that wait to be sent again.
    pub sending_again: u64,
}

/// Something that fails now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// The last error.
    pub error: String,
    /// Time of the first error since the last success.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<String>,
    /// Attempts that failed since then.
    pub attempts: u32,
}

/// An error and its time.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LastErrorView {
    /// The error.
    pub error: String,
    /// Time of the error.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<String>,
}

impl From<Failure> for FailureView {
    fn from(of: Failure) -> Self {
        Self {
            error: of.error,
            since: at(of.since_ms),
            attempts: of.attempts,
        }
    }
}

impl From<IntegrationInfo> for IntegrationView {
    fn from(of: IntegrationInfo) -> Self {
        let state = of.state;
        let counts = state.counts;
        let last_error = state.last_error.map(|(error, at_ms)| LastErrorView {
            error,
            at: at(at_ms),
        });
        let of_filters = || star_warning_of(of.filters.iter().map(|filter| &**filter));
        let warning = state.sink_health.or_else(of_filters);
        Self {
            kind: of.handle.kind().to_owned(),
            name: of.handle.own_name().to_owned(),
            full_name: of.handle.name().to_owned(),
            client_id: of.handle.client_id().to_owned(),
            team: Some(of.team.to_string()).filter(|team| !team.is_empty()),
            filters: of.filters.into_iter().map(Into::into).collect(),
            keep_qos0: of.keeps_qos0,
            on_reject: match of.on_reject {
                OnReject::DeadLetter => "dead-letter".to_owned(),
                OnReject::Stop => "stop".to_owned(),
            },
            order: of.order.word().to_owned(),
            state: state.activity.word().to_owned(),
            stopped_because: state.stopped_because,
            paused_since: state.paused_since_ms.and_then(at),
            failure: state.failure.map(Into::into),
            secrets: of.secrets.into_iter().map(Into::into).collect(),
            secret_trouble: of.secret_trouble.map(|trouble| trouble.cause().to_owned()),
            last_error,
            warning,
            lag: state.lag,
            in_hand: state.in_hand as u64,
            oldest_received_at: state.oldest_received_ms.and_then(at),
            delivered_at: state.delivered_ms.and_then(at),
            delivered: counts.delivered,
            repeated: counts.repeated,
            skipped: counts.skipped,
            incoming: counts.incoming,
            incoming_dropped: counts.incoming_dropped,
            refused: counts.refused,
            failed_attempts: counts.failed_attempts,
            dead_letters: counts.dead_letters,
            dead_letters_stored: of.dead_letters_stored,
            sending_again: state.sending_again as u64,
        }
    }
}

impl From<IntegrationError> for Problem {
    fn from(error: IntegrationError) -> Self {
        let kind = match &error {
            IntegrationError::Unknown(missing) => {
                return Self::of_error(ProblemKind::NotFound, missing);
            }
            IntegrationError::NotFound(_) => ProblemKind::NotFound,
            IntegrationError::Command(CommandError::NoAnswer) => ProblemKind::NoAnswer,
            IntegrationError::Command(CommandError::NotNow(_)) => ProblemKind::Conflict,
            IntegrationError::Damaged(..) => ProblemKind::Internal,
            IntegrationError::Command(_) | IntegrationError::Store(_) => ProblemKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

/// The integration that a request is about.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands in the document, and `PathOf` reads it")]
pub(crate) struct OneIntegration {
    /// Kind, such as `file`
    kind: String,
    /// Name, or `TEAM%2FNAME`; without a team, that of no team comes first
    name: String,
}

/// Answers to an order.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it stands in the document")]
pub(crate) enum Obeyed {
    /// The order is done, or has begun
    #[response(status = 204)]
    Done,
    /// There is none
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemView),
    /// The integration is in no state for that: there is nothing to skip, or it is not started yet
    #[response(status = 409, content_type = "application/problem+json")]
    NotNow(ProblemView),
    /// The integration did not answer in time
    #[response(status = 504, content_type = "application/problem+json")]
    NoAnswer(ProblemView),
}

/// Integrations
///
/// The integrations, each with its state: those of the configuration in its order, and then the
/// bridges that were added through the API. A caller that sees one team sees those of its tenant.
#[utoipa::path(get, path = "/api/v1/integrations", tag = "integrations", params(OfTenant),
    responses((status = 200, description = "The whole list", body = Items<IntegrationView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
) -> Json<Items<IntegrationView>> {
    let all = match api.integrations() {
        Some(all) => all.operated_in(tenant).list().await,
        None => Vec::new(),
    };
    Json(all.into_iter().map(Into::into).collect())
}

/// An integration
///
/// Its state, its counters and what fails.
#[utoipa::path(get, path = "/api/v1/integrations/{kind}/{name}", tag = "integrations",
    params(OfTenant, OneIntegration),
    responses(
        (status = 200, description = "The integration", body = IntegrationView),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf((kind, name)): PathOf<(String, String)>,
) -> Result<Json<IntegrationView>, Problem> {
    let found = operator(&api, tenant)?.one(&kind, &name).await?;
    Ok(Json(found.into()))
}

/// Pause an integration
///
/// It delivers nothing more until it is resumed, also after a restart. Messages wait in its queue.
#[utoipa::path(
    post,
    path = "/api/v1/integrations/{kind}/{name}/pause",
    tag = "integrations",
    params(OfTenant, OneIntegration),
    responses(Obeyed)
)]
pub(crate) async fn pause(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(named): PathOf<(String, String)>,
) -> Result<StatusCode, Problem> {
    obey(&api, tenant, &named, Order::Pause).await
}

/// Resume an integration
///
/// One that is paused, or has stopped. If it fails, it tries again now.
#[utoipa::path(
    post,
    path = "/api/v1/integrations/{kind}/{name}/resume",
    tag = "integrations",
    params(OfTenant, OneIntegration),
    responses(Obeyed)
)]
pub(crate) async fn resume(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(named): PathOf<(String, String)>,
) -> Result<StatusCode, Problem> {
    obey(&api, tenant, &named, Order::Resume).await
}

/// Skip the message that an integration stopped at
///
/// For one that has stopped because a message was refused (`on_reject = "stop"`). It goes on; if
/// the message is refused again, it becomes a dead letter.
#[utoipa::path(
    post,
    path = "/api/v1/integrations/{kind}/{name}/skip",
    tag = "integrations",
    params(OfTenant, OneIntegration),
    responses(Obeyed)
)]
pub(crate) async fn skip(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(named): PathOf<(String, String)>,
) -> Result<StatusCode, Problem> {
    obey(&api, tenant, &named, Order::Skip).await
}

/// Drain an integration
///
/// It delivers the messages that wait now, and pauses then. Its `state` is `paused` after that.
#[utoipa::path(
    post,
    path = "/api/v1/integrations/{kind}/{name}/drain",
    tag = "integrations",
    params(OfTenant, OneIntegration),
    responses(Obeyed)
)]
pub(crate) async fn drain(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf(named): PathOf<(String, String)>,
) -> Result<StatusCode, Problem> {
    obey(&api, tenant, &named, Order::Drain).await
}

/// Result of a test.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct IntegrationTested {
    /// Whether the target can be reached and written to.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
}

/// Test an integration
///
/// Asks whether its target can be reached now. No message is delivered. It waits for a delivery
/// that is under way.
#[utoipa::path(post, path = "/api/v1/integrations/{kind}/{name}/test", tag = "integrations",
    params(OfTenant, OneIntegration),
    responses(
        (status = 200, description = "Whether the target can be reached", body = IntegrationTested),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 504, description = "The integration did not answer in time", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn test(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf((kind, name)): PathOf<(String, String)>,
) -> Result<Json<IntegrationTested>, Problem> {
    let error = match operator(&api, tenant)?.test(&kind, &name).await {
        Ok(()) => None,
        Err(IntegrationError::Command(CommandError::Failed(why))) => Some(why),
        Err(error) => return Err(error.into()),
    };
    Ok(Json(IntegrationTested {
        ok: error.is_none(),
        error,
    }))
}

/// A message that an integration has refused, without its payload.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// Number of the message.
    pub id: u64,
    /// Reason of the last refusal.
    pub reason: String,
    /// Time of the last refusal.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub refused_at: Option<String>,
    /// Number of refusals.
    pub refusals: u32,
    /// Number of the message.
    #[schema(example = "68719476736")]
    pub message_id: String,
    /// Topic Name.
    pub topic: String,
    /// QoS of its PUBLISH.
    pub qos: u8,
    /// RETAIN of its PUBLISH.
    pub retain: bool,
    /// Time of receipt.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub received_at: Option<String>,
    /// Length of the payload.
    pub payload_bytes: u64,
}

/// A message that an integration has refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WholeDeadLetterView {
    /// All but the following.
    #[serde(flatten)]
    pub letter: DeadLetterView,
    /// Client Identifier of its publisher; null if unknown.
    pub client_id: Option<String>,
    /// User of its publisher.
    pub user: Option<String>,
    /// The publisher as a device of the registry; null if it is none.
    pub device: Option<String>,
    /// The payload.
    pub payload: String,
    /// How it stands there: `text` or `base64`.
    pub payload_encoding: String,
}

impl From<DeadLetterHead> for DeadLetterView {
    fn from(of: DeadLetterHead) -> Self {
        Self {
            id: of.id,
            reason: of.reason,
            refused_at: at(of.refused_ms),
            refusals: of.refusals,
            message_id: of.message_id.to_string(),
            topic: of.topic,
            qos: of.qos as u8,
            retain: of.retain,
            received_at: at(of.received_ms),
            payload_bytes: of.payload_bytes,
        }
    }
}

impl From<DeadLetter> for WholeDeadLetterView {
    fn from(of: DeadLetter) -> Self {
        let (payload, payload_encoding) = shown(&of.payload, true);
        Self {
            letter: of.head.into(),
            client_id: of.publisher.client_id,
            user: of.publisher.user,
            device: of.publisher.device,
            payload,
            payload_encoding,
        }
    }
}

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LetterParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Dead letters
///
/// Messages that the integration has refused, the oldest first, without their payloads. Those of an
/// integration that is not configured any more are there, too.
#[utoipa::path(get, path = "/api/v1/integrations/{kind}/{name}/dead-letters", tag = "integrations",
    params(OfTenant, LetterParams, OneIntegration),
    responses(
        (status = 200, description = "A page of the list", body = Page<DeadLetterView>),
        (status = 404, description = "No such integration", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn letters(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf((kind, name)): PathOf<(String, String)>,
    QueryOf(wanted): QueryOf<LetterParams>,
) -> Result<Json<Page<DeadLetterView>>, Problem> {
    let limit = page::limit(wanted.limit)?;
    let list = format!("dead letters {:?}", (tenant.map(|one| one.0), &kind, &name));
    let after: Option<u64> = api.cursors().key(&list, wanted.cursor.as_deref())?;
    let operator = operator(&api, tenant)?;
    let found = operator.dead_letters(&kind, &name, after, limit).await?;
    Ok(Json(Page {
        items: found.items.into_iter().map(Into::into).collect(),
        next: found.next.map(|id| api.cursors().after_key(&list, &id)),
        total: None,
    }))
}

/// A dead letter
///
/// With its payload: it needs the scope `messages:read` too.
#[utoipa::path(get, path = "/api/v1/integrations/{kind}/{name}/dead-letters/{id}",
    tag = "integrations",
    params(OfTenant, OneIntegration, ("id" = u64, Path, description = "Number of the dead letter")),
    responses(
        (status = 200, description = "The dead letter", body = WholeDeadLetterView),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn letter(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    Extension(principal): Extension<Principal>,
    PathOf((kind, name, id)): PathOf<(String, String, u64)>,
) -> Result<Json<WholeDeadLetterView>, Problem> {
    if !principal.scopes.has(Scope::MessagesRead) {
        let detail = principal.lacks(Scope::MessagesRead);
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    let operator = operator(&api, tenant)?;
    let found = operator.dead_letter(&kind, &name, id).await?;
    Ok(Json(found.into()))
}

/// Which dead letters are sent again: either.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendAgainBody {
    /// Numbers of dead letters, 1,000 at most.
    ids: Option<Vec<u64>>,
    /// All of the integration.
    all: Option<bool>,
}

/// How many dead letters are sent again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SendingAgain {
    /// Dead letters that wait to be sent again.
    pub sending: u64,
    /// There are more than can be sent at once: ask again when these are sent.
    pub has_more: bool,
}

/// Send dead letters again
///
/// Those that the target takes are removed; those that it refuses stay, with the new reason. They
/// are sent while the integration is paused, too. `sending_again` of the integration has how many
/// wait.
#[utoipa::path(post, path = "/api/v1/integrations/{kind}/{name}/dead-letters/send-again",
    tag = "integrations",
    params(OfTenant, OneIntegration),
    request_body = SendAgainBody,
    responses(
        (status = 202, description = "Waiting to be sent", body = SendingAgain),
        (status = 404, description = "No such integration or dead letter",
            body = ProblemView, content_type = "application/problem+json"),
        (status = 504, description = "The integration did not answer in time", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn send_again(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf((kind, name)): PathOf<(String, String)>,
    JsonBody(body): JsonBody<SendAgainBody>,
) -> Result<(StatusCode, Extension<About>, Json<SendingAgain>), Problem> {
    let (about, chosen) = match (body.ids, body.all) {
        (Some(ids), None) if (1..=IDS_MAX).contains(&ids.len()) => {
            (json!({ "ids": ids }), Chosen::These(ids))
        }
        (Some(_), None) => {
            let detail = format!("expected 1 to {IDS_MAX} numbers");
            return Err(Problem::of_body("/ids", detail));
        }
        (None, Some(true)) => (json!({ "all": true }), Chosen::All),
        _ => {
            let detail = "expected one of ids and all: true";
            return Err(Problem::of_body("", detail));
        }
    };
    let operator = operator(&api, tenant)?;
    let done = operator.send_again(&kind, &name, chosen).await?;
    let answer = SendingAgain {
        sending: done.sending,
        has_more: done.has_more,
    };
    Ok((StatusCode::ACCEPTED, Extension(About(about)), Json(answer)))
}

/// Drop a dead letter
///
/// The message is lost.
#[utoipa::path(delete, path = "/api/v1/integrations/{kind}/{name}/dead-letters/{id}",
    tag = "integrations",
    params(OfTenant, OneIntegration, ("id" = u64, Path, description = "Number of the dead letter")),
    responses(
        (status = 204, description = "Dropped"),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn drop_one(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf((kind, name, id)): PathOf<(String, String, u64)>,
) -> Result<StatusCode, Problem> {
    let chosen = Chosen::These(vec![id]);
    let operator = operator(&api, tenant)?;
    operator.drop_letters(&kind, &name, chosen).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// That all dead letters are meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AllLetters {
    /// `true`: all dead letters of the integration are dropped.
    all: bool,
}

/// How many dead letters were dropped.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DroppedLetters {
    /// Dead letters that were dropped.
    pub dropped: u64,
}

/// Drop all dead letters
///
/// The dead letters of one integration are removed. Their messages are lost.
#[utoipa::path(delete, path = "/api/v1/integrations/{kind}/{name}/dead-letters",
    tag = "integrations",
    params(OfTenant, AllLetters, OneIntegration),
    responses(
        (status = 200, description = "Number of dead letters that were dropped", body = DroppedLetters),
        (status = 404, description = "No such integration", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn drop_all(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    PathOf((kind, name)): PathOf<(String, String)>,
    QueryOf(wanted): QueryOf<AllLetters>,
) -> Result<(Extension<About>, Json<DroppedLetters>), Problem> {
    if !wanted.all {
        let detail = "expected true: all dead letters of the integration are dropped";
        return Err(Problem::of_query("all", detail));
    }
    let operator = operator(&api, tenant)?;
    let dropped = operator.drop_letters(&kind, &name, Chosen::All).await?;
    let about = Extension(About(json!({ "dropped": dropped })));
    Ok((about, Json(DroppedLetters { dropped })))
}

async fn obey(
    api: &Api,
    tenant: Option<TenantId>,
    (kind, name): &(String, String),
    order: Order,
) -> Result<StatusCode, Problem> {
    operator(api, tenant)?.order(kind, name, order).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn operator(api: &Api, tenant: Option<TenantId>) -> Result<Operator<'_>, Problem> {
    Ok(started(api)?.operated_in(tenant))
}

/// The integrations of the node.
///
/// # Errors
/// The node has none.
pub(crate) fn started(api: &Api) -> Result<&Integrations, Problem> {
    let all = api.integrations();
    all.ok_or_else(|| Problem::unavailable("the node has no integrations".to_owned()))
}

/// Ways to change the session of an integration instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// The integration can be paused.
    Pause,
    /// Whether the configuration decides.
    Configure(&'static str),
}

/// A session keeps the messages of an integration.
#[derive(Debug)]
struct KeptForIntegration {
    kind: String,
    name: String,
    instead: Instead,
}

impl std::fmt::Display for KeptForIntegration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, name, .. } = self;
        write!(
            f,
            "the session keeps the messages of the integration {kind}/{name}"
        )?;
        match self.instead {
            Instead::Pause => Ok(()),
            Instead::Configure(how) => write!(f, "; {how}"),
        }
    }
}

impl Remedies for KeptForIntegration {
    fn remedies(&self) -> Vec<Remedy> {
        match self.instead {
            Instead::Pause => {
                let (kind, name) = (self.kind.clone(), self.name.clone());
                vec![Remedy::PauseIntegration(kind, name)]
            }
            Instead::Configure(_) => Vec::new(),
        }
    }
}

/// The session keeps the messages of no integration: only its configuration and
/// `/api/v1/integrations` change those.
pub(crate) fn expect_no_integration(
    api: &Api,
    tenant: TenantId,
    client_id: &str,
    instead: Instead,
) -> Result<(), Problem> {
    let integrations = api.integrations();
    match integrations.and_then(|all| all.of_session(tenant, client_id)) {
        None => Ok(()),
        Some(found) => {
            let (kind, name) = (found.kind().to_owned(), found.name().to_owned());
            let kept = KeptForIntegration {
                kind,
                name,
                instead,
            };
            Err(Problem::of_error(ProblemKind::Conflict, &kept))
        }
    }
}
