//! Rules about messages: those of the configuration are shown, others are added, changed and
//! removed here while the node runs, and each can be tried on messages.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use martlet_broker::TenantId;
use martlet_control::callers::Caller;
use martlet_control::message_log::MessageLogQuery;
use martlet_control::principal::{Scope, Scopes};
use martlet_control::rules::{
    Definition, RuleChange, RuleCounts, RuleError, Rules, TrialOutcome, TriedMessage, VisibleRule,
};
use martlet_control::star_warning_of;
use martlet_control::telemetry::StoreError;
use martlet_registry::{Expected, NotFound, ObjectKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::access::Access::Scoped;
use crate::added::{one_of_team, owner};
use crate::api::Api;
use crate::etag::Version;
use crate::etag::expected_if_any;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Items;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::registry::{CalledBy, moment, version, within};
use crate::route_list::Routes;
use crate::telemetry::telemetry_of;
use crate::time::Moment;

/// Seconds after which a trial may be asked for again, if others run.
const BUSY_SECS: &str = "5";

/// Messages that a rule is tried on at once, at most.
const TRIED_MAX: usize = 10_000;

/// Bytes of messages of the past, at most.
const PAST_BYTES_MAX: u64 = 8 << 20;

/// Adds these routes to the others.
pub(crate) fn add_to(routes: Routes) -> Routes {
    let (read, write) = (Scope::IntegrationsRead, Scope::IntegrationsWrite);
    routes
        .add_of_tables(Scoped(read), routes!(list))
        .add_of_tables(Scoped(write), routes!(create))
        .add_of_tables(Scoped(read), routes!(show))
        .add_of_tables(Scoped(write), routes!(set))
        .add_of_tables(Scoped(write), routes!(change))
        .add_of_tables(Scoped(write), routes!(remove))
        .add_unaudited(Scoped(read), routes!(test))
}

/// A rule of the configuration, or one that was added through the API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleView {
    /// Name, which no other rule of its team has.
    #[schema(example = "hot")]
    name: String,
    /// Id of the team whose messages it looks at, or its name in the configuration; null: the
    /// common tenant.
    team: Option<String>,
    /// Where it is from: `configuration`, which no route changes, or `api`.
    #[schema(example = "api")]
    origin: &'static str,
    /// Whether it acts.
    enabled: bool,
    /// Definition of the rule.
    #[schema(value_type = Object)]
    definition: Definition,
    /// Warning about the topics; null if there is none.
    warning: Option<String>,
    /// Counts since the start of the node; null: it is not in force, the node's log has the reason.
    counts: Option<RuleCounts>,
    /// Counts its changes.
    revision: Option<i64>,
    /// Time of its creation.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// Time of its last change.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Moment>,
    /// The user or key that changed it last.
    changed_by: Option<String>,
}

impl From<VisibleRule> for RuleView {
    fn from(of: VisibleRule) -> Self {
        let stored = of.stored;
        Self {
            name: of.name,
            team: Some(of.team).filter(|team| !team.is_empty()),
            origin: match stored {
                Some(_) => "api",
                None => "configuration",
            },
            enabled: of.definition.is_enabled(),
            warning: star_warning_of(of.definition.topics.iter().map(String::as_str)),
            definition: of.definition,
            counts: of.counts,
            revision: stored.as_ref().map(|one| one.revision),
            created_at: stored.as_ref().and_then(|one| moment(one.created_ms)),
            changed_at: stored.as_ref().and_then(|one| moment(one.changed_ms)),
            changed_by: stored.map(|one| one.changed_by),
        }
    }
}

/// The definition of a rule; see rules.md.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(value_type = Object, example = json!({
    "topics": ["plant/+/temperature"],
    "when": "payload > 80",
    "actions": [{ "publish": { "topic": "alerts/{{ levels[1] }}", "payload": "{{ payload }}" } }],
}))]
pub(crate) struct RuleBody(Map<String, Value>);

/// A rule to be added: as [`RuleBody`], with its name.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(value_type = Object, example = json!({
    "name": "hot",
    "topics": ["plant/+/temperature"],
    "when": "payload > 80",
    "actions": [{ "publish": { "topic": "alerts/{{ levels[1] }}" } }],
}))]
pub(crate) struct NamedRuleBody(Map<String, Value>);

/// The team whose rules are meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTeam {
    /// Team whose messages they look at, by id or name. Without it, those of the caller's team. A
    /// caller that sees all teams then lists those of all, adds one of the common tenant, and means
    /// that of the common tenant where several have the name.
    team: Option<String>,
}

impl From<RuleError> for Problem {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Definition(error) => {
                let key = error.key.replace(['.', '['], "/").replace(']', "");
                Self::of_body(&format!("/{key}"), error.why)
            }
            RuleError::Configured(why) => Self::new(ProblemKind::Conflict, why),
            RuleError::NotFound(why) => Self::new(ProblemKind::NotFound, why),
            RuleError::Trial(why) => Self::of_body("/definition", why),
            RuleError::Busy(why) => {
                let secs = HeaderValue::from_static(BUSY_SECS);
                Self::unavailable(why).with_header(header::RETRY_AFTER, secs)
            }
            RuleError::SharedRegistry(error) => error.into(),
        }
    }
}

/// The rules of the node.
///
/// # Errors
/// It is starting.
fn rules_of(api: &Api) -> Result<&Arc<Rules>, Problem> {
    let rules = api.rules();
    rules.ok_or_else(|| Problem::unavailable("the node is starting: try again".to_owned()))
}

fn definition_of(body: Map<String, Value>) -> Result<Definition, Problem> {
    let parsed = serde_json::from_value(Value::Object(body));
    parsed.map_err(|error| Problem::of_body("", error.to_string()))
}

/// A rule does only what its author may do.
fn expect_rights(caller: &Caller, definition: &Definition) -> Result<(), Problem> {
    use martlet_control::rules::ActionDefinition as Does;
    let needed = definition.actions.iter().filter_map(|action| match action {
        Does::Publish(_) => Some(Scope::MessagesWrite),
        Does::Command(_) => Some(Scope::DevicesWrite),
        Does::Telemetry(_) => Some(Scope::TelemetryWrite),
        Does::Webhook(_) | Does::Alarm(_) | Does::Stop => None,
    });
    Ok(caller.check_scopes(needed.collect::<Scopes>())?)
}

async fn seen(api: &Api, caller: &Caller, of: &OfTeam) -> Result<Vec<VisibleRule>, Problem> {
    let caller = within(api, caller.clone(), of.team.as_deref()).await?;
    Ok(rules_of(api)?.seen(caller.visibility()).await?)
}

async fn one(api: &Api, caller: &Caller, of: &OfTeam, name: &str) -> Result<VisibleRule, Problem> {
    let all = seen(api, caller, of).await?.into_iter();
    let mut named = all.filter(|one| one.name == name);
    let found = one_of_team(&mut named, "rule", name, |one| &one.team)?;
    found.ok_or_else(|| {
        let missing = NotFound::Object(ObjectKind::Rule, name.to_owned());
        Problem::of_error(ProblemKind::NotFound, &missing)
    })
}

fn version_of(view: &RuleView) -> Version {
    version(view.revision.unwrap_or(0))
}

/// Rules
///
/// Those of the configuration, and then those that were added through the API.
#[utoipa::path(get, path = "/api/v1/rules", tag = "rules", params(OfTeam),
    responses((status = 200, description = "All that the caller sees", body = Items<RuleView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<Items<RuleView>>, Problem> {
    let all = seen(&api, &caller, &of).await?;
    Ok(Json(all.into_iter().map(Into::into).collect()))
}

/// A rule
///
/// Its definition and its counters.
#[utoipa::path(get, path = "/api/v1/rules/{name}", tag = "rules",
    params(OfTeam, ("name" = String, Path, description = "Name")),
    responses(
        (status = 200, description = "The rule", body = RuleView),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
) -> Result<Response, Problem> {
    let view: RuleView = one(&api, &caller, &of, &name).await?.into();
    Ok(([version_of(&view).header()], Json(view)).into_response())
}

/// Adds or changes a rule.
async fn write(
    api: &Api,
    caller: &Caller,
    of: &OfTeam,
    name: String,
    definition: Definition,
    expected: Expected,
) -> Result<Response, Problem> {
    expect_rights(caller, &definition)?;
    let team = owner(api, caller, of.team.as_deref()).await?;
    let change = RuleChange {
        name: name.clone(),
        team,
        definition,
        expected,
    };
    let is_new = rules_of(api)?.set(caller.actor.clone(), change).await?;
    let view: RuleView = one(api, caller, of, &name).await?.into();
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, [version_of(&view).header()], Json(view)).into_response())
}

/// Add a rule
///
/// It is in force when this is answered. The caller needs the scopes of what the rule does:
/// `messages:write` to publish, `devices:write` for commands, `telemetry:write` for values.
#[utoipa::path(post, path = "/api/v1/rules", tag = "rules", request_body = NamedRuleBody,
    params(OfTeam),
    responses(
        (status = 201, description = "Added", body = RuleView),
        (status = 409, description = "A rule has this name", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(NamedRuleBody(mut body)): JsonBody<NamedRuleBody>,
) -> Result<Response, Problem> {
    let name = match body.remove("name") {
        Some(Value::String(name)) => name,
        _ => return Err(Problem::of_body("/name", "expected a text".to_owned())),
    };
    let definition = definition_of(body)?;
    write(&api, &caller, &of, name, definition, Expected::from(0)).await
}

/// Add or replace a rule
///
/// As adding one. With `If-Match`, the rule has to be of that version.
#[utoipa::path(put, path = "/api/v1/rules/{name}", tag = "rules", request_body = RuleBody,
    params(OfTeam, ("name" = String, Path, description = "Name: letters, digits, -, _ and ."),
        ("If-Match" = Option<String>, Header, description = "The revision that is to be replaced")),
    responses(
        (status = 200, description = "Changed", body = RuleView),
        (status = 201, description = "Added", body = RuleView),
        (status = 412, description = "Its revision is another one", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn set(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    headers: HeaderMap,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
    JsonBody(RuleBody(body)): JsonBody<RuleBody>,
) -> Result<Response, Problem> {
    let definition = definition_of(body)?;
    let expected = expected_if_any(&headers)?;
    write(&api, &caller, &of, name, definition, expected).await
}

/// Change a rule
///
/// Keys of the rule are replaced; null removes one. `{"enabled": false}` switches it off.
#[utoipa::path(patch, path = "/api/v1/rules/{name}", tag = "rules", request_body = RuleBody,
    params(OfTeam, ("name" = String, Path, description = "Name"),
        ("If-Match" = Option<String>, Header, description = "The revision that is to be changed")),
    responses(
        (status = 200, description = "Changed", body = RuleView),
        (status = 404, description = "Not found", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    headers: HeaderMap,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
    JsonBody(RuleBody(changes)): JsonBody<RuleBody>,
) -> Result<Response, Problem> {
    let before = one(&api, &caller, &of, &name).await?;
    let stored = before.stored.as_ref().ok_or_else(|| {
        let detail = format!("the rule {name:?} is one of the configuration: change it there");
        Problem::new(ProblemKind::Conflict, detail)
    })?;
    let expected = expected_if_any(&headers)?;
    // Keys that are not named stay as they were read.
    let expected = match expected.has(stored.revision) {
        true => Expected::from(stored.revision),
        false => expected,
    };
    let mut all = match serde_json::to_value(&before.definition) {
        Ok(Value::Object(all)) => all,
        _ => Map::new(),
    };
    for (key, value) in changes {
        match value {
            Value::Null => {
                all.remove(&key);
            }
            value => {
                all.insert(key, value);
            }
        }
    }
    let definition = definition_of(all)?;
    let of = OfTeam {
        team: Some(before.team).filter(|team| !team.is_empty()),
    };
    write(&api, &caller, &of, name, definition, expected).await
}

/// Remove a rule
///
/// One that was added through the API. Its alarms are cleared.
#[utoipa::path(delete, path = "/api/v1/rules/{name}", tag = "rules",
    params(OfTeam, ("name" = String, Path, description = "Name")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "No such object, or the configuration has it",
            body = ProblemView, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    PathOf(name): PathOf<String>,
) -> Result<StatusCode, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    rules_of(&api)?.remove(caller.actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A message that a rule is tried on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TriedBody {
    /// Topic Name.
    #[serde(default)]
    topic: String,
    /// Payload as text.
    #[serde(default)]
    payload: Option<String>,
    /// Payload as JSON.
    #[serde(default)]
    payload_json: Option<Value>,
    /// When it was received. Without it, each message is a second later than the one before, and
    /// the last one is received now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<String>,
    /// The device that has published it, or whose value it is.
    #[serde(default)]
    device: Option<String>,
    /// Key of a value of telemetry.
    #[serde(default)]
    key: Option<String>,
    /// The value.
    #[serde(default)]
    value: Option<Value>,
    /// Kind of an event, whose members `payload_json` has.
    #[serde(default)]
    event: Option<String>,
}

/// A rule and the messages that it is tried on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrialBody {
    /// Name of a rule that is there; not with `definition`.
    #[serde(default)]
    name: Option<String>,
    /// The definition of the rule; not with `name`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    definition: Option<Map<String, Value>>,
    /// Messages in their order, up to 10,000; not with `history`.
    #[serde(default)]
    messages: Vec<TriedBody>,
    /// Messages of the past; not with `messages`.
    #[serde(default)]
    history: Option<HistoryBody>,
}

/// Messages of the past: those of the message log, and for a rule about telemetry the stored values
/// of a device. 10,000 at most.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryBody {
    /// Time before now, seconds.
    #[schema(minimum = 1)]
    since_secs: u64,
    /// Id of a device; needed for a rule about telemetry.
    #[serde(default)]
    device: Option<String>,
}

/// Result of a rule for a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialView {
    /// Place of the message, from 0.
    message: usize,
    /// Topic of the message; of a value of telemetry its key.
    topic: String,
    /// When it was received.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Moment>,
    /// `matched`, `unmatched`, `missing` (a member), `failed`; null: the rule does not look at it.
    verdict: Option<&'static str>,
    /// Member that is missing, or why the rule has failed.
    why: Option<String>,
    /// Actions that would be done, and changes of alarms.
    #[schema(value_type = Vec<Object>)]
    actions: Vec<Value>,
}

impl TrialView {
    fn new(of: TrialOutcome, messages: &[TriedMessage]) -> Self {
        let message = messages.get(of.message);
        let topic = message.map(|message| match &message.value {
            Some((key, _)) => key.clone(),
            None => message.topic.clone(),
        });
        Self {
            message: of.message,
            topic: topic.unwrap_or_default(),
            at: message.and_then(|message| Moment::from_ms(message.time_ms)),
            verdict: of.verdict,
            why: of.why,
            actions: of.actions,
        }
    }
}

/// Try a rule
///
/// Returns what a rule would do with messages. Nothing is done.
#[utoipa::path(post, path = "/api/v1/rules/test", tag = "rules", request_body = TrialBody,
    params(OfTeam),
    responses((status = 200, description = "One item for each message",
        body = Items<TrialView>)))]
pub(crate) async fn test(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<TrialBody>,
) -> Result<Json<Items<TrialView>>, Problem> {
    if body.messages.len() > TRIED_MAX {
        let detail = format!(
            "{} messages, expected {TRIED_MAX} at most",
            body.messages.len()
        );
        return Err(Problem::of_body("/messages", detail));
    }
    let team = owner(&api, &caller, of.team.as_deref()).await?;
    let (name, definition, team) = match (body.name, body.definition) {
        (Some(name), None) => {
            let found = one(&api, &caller, &of, &name).await?;
            (name, found.definition, found.team)
        }
        (None, Some(definition)) => ("test".to_owned(), definition_of(definition)?, team),
        _ => {
            let detail = "expected one of `name` and `definition`";
            return Err(Problem::of_body("/definition", detail.to_owned()));
        }
    };
    let tenant = match team.as_str() {
        "" => TenantId::default(),
        team => api.control.tenant_of_team(team).ok_or_else(|| {
            let detail = format!("the team {team:?} has no tenant of its own, so no messages");
            Problem::new(ProblemKind::Conflict, detail)
        })?,
    };
    let messages: Vec<TriedMessage> = match &body.history {
        Some(history) => past(&api, &caller, tenant, &definition, history).await?,
        None => {
            let count = i64::try_from(body.messages.len()).unwrap_or(0);
            let first_ms = Moment::now().as_ms() - (count - 1).max(0) * 1_000;
            let messages = body.messages.into_iter().enumerate();
            messages
                .map(|(at, message)| tried(at, message, first_ms))
                .collect::<Result<_, _>>()?
        }
    };
    let messages: Arc<[TriedMessage]> = messages.into();
    let trial = rules_of(&api)?.trial(&name, tenant.0, definition, Arc::clone(&messages));
    let outcomes = trial.await?;
    let views = outcomes.into_iter();
    Ok(Json(
        views.map(|one| TrialView::new(one, &messages)).collect(),
    ))
}

/// Messages of the past that a rule may look at, the oldest first.
async fn past(
    api: &Api,
    caller: &Caller,
    tenant: TenantId,
    definition: &Definition,
    history: &HistoryBody,
) -> Result<Vec<TriedMessage>, Problem> {
    let now_ms = Moment::now().as_ms();
    let since_ms = i64::try_from(history.since_secs).unwrap_or(i64::MAX);
    let from_ms = now_ms.saturating_sub(since_ms.saturating_mul(1_000));
    if !definition.events.is_empty() {
        let detail = "events are not kept for long enough: give them in `messages`";
        return Err(Problem::of_body("/history", detail.to_owned()));
    }
    if let Some(key) = &definition.telemetry {
        caller.check_scopes([Scope::TelemetryRead].into())?;
        let device = history.device.as_deref().ok_or_else(|| {
            let detail = "expected the id of a device, whose values the rule is tested with";
            Problem::of_body("/history/device", detail.to_owned())
        })?;
        let of = ((tenant.0, device), key.as_str());
        let values = telemetry_of(api)?.past(of, from_ms, now_ms, TRIED_MAX);
        let values = match values.await {
            // Nothing is to be stored here.
            Err(StoreError::Refused { why, .. }) => {
                return Err(Problem::of_body("/history/device", why));
            }
            values => values?,
        };
        let tried = values.into_iter().map(|(time_ms, value)| TriedMessage {
            time_ms,
            device: Some(device.to_owned()),
            value: Some((key.clone(), value)),
            ..TriedMessage::default()
        });
        return Ok(tried.collect());
    }
    caller.check_scopes([Scope::MessagesRead].into())?;
    let log = api.message_log()?;
    let mut logged = Vec::new();
    for confirmed in [false, true] {
        let query = MessageLogQuery {
            confirmed,
            limit: TRIED_MAX as u32 / 2,
            bytes: PAST_BYTES_MAX,
        };
        let mut listed = log.list(tenant.0, query).await?;
        // The newest comes first there, and those of one millisecond keep their order.
        listed.reverse();
        logged.extend(listed);
    }
    logged.sort_by_key(|message| message.received_ms);
    let tried = logged.into_iter().map(|message| TriedMessage {
        topic: message.topic,
        payload: message.payload,
        time_ms: i64::try_from(message.received_ms).unwrap_or(i64::MAX),
        device: history.device.clone(),
        ..TriedMessage::default()
    });
    Ok(tried.filter(|one| one.time_ms >= from_ms).collect())
}

/// A message of a request; the one at 0 is received at `first_ms`, if it has no time.
fn tried(at: usize, message: TriedBody, first_ms: i64) -> Result<TriedMessage, Problem> {
    let time_ms = match &message.at {
        None => first_ms + i64::try_from(at).unwrap_or(0) * 1_000,
        Some(text) => Moment::parse(text).map(Moment::as_ms).ok_or_else(|| {
            let detail =
                format!("{text:?} is not a valid time, expected such as 2030-01-31T12:00:00Z");
            Problem::of_body(&format!("/messages/{at}/at"), detail)
        })?,
    };
    let payload = match (message.payload, message.payload_json) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(json)) => json.to_string().into_bytes(),
        (None, None) => Vec::new(),
    };
    Ok(TriedMessage {
        topic: message.topic,
        payload,
        time_ms,
        device: message.device,
        value: message.key.zip(message.value),
        event: message.event,
    })
}
