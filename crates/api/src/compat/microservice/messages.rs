//! The message log of the microservice: messages that were published by `/publish` or that the
//! configuration keeps, until they are confirmed and deleted.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use martlet_broker::TenantId;
use martlet_control::message_log::{LoggedMessage, MessageLogQuery};
use martlet_control::principal::Scope;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::form::{done, limit};
use crate::access::Access::Scoped;
use crate::access::Audited;
use crate::api::Api;
use crate::compat::routes::CompatRoutes;
use crate::compat::time::Moment;
use crate::extract::{PathOf, QueryOf};
use crate::problem::{Problem, ProblemKind};
use crate::tenant::{InTenant, OfTenant};

/// Bytes of the messages of a list, at most; one message may be larger.
const LIST_BYTES: u64 = 32 * 1024 * 1024;

pub(super) fn add_to(routes: CompatRoutes) -> CompatRoutes {
    let read = Scoped(Scope::MessagesRead);
    let write = Scoped(Scope::MessagesWrite);
    routes
        .add(read, Audited::Here, routes!(list))
        .add(write, Audited::Here, routes!(delete_confirmed))
        .add(read, Audited::Here, routes!(show))
        .add(write, Audited::Here, routes!(delete_one))
        .add(write, Audited::Here, routes!(confirm))
}

/// Which messages are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct MessageParams {
    /// `true`: those that are confirmed; otherwise the others.
    confirmed: Option<String>,
    /// The most messages, from 1 on; default 100.
    limit: Option<String>,
}

/// Messages of the message log
#[utoipa::path(get, path = "/messages",
    params(OfTenant, MessageParams),
    responses((status = 200, description = "The messages", body = Value)))]
async fn list(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    QueryOf(query): QueryOf<MessageParams>,
) -> Result<Json<Value>, Problem> {
    let limit = limit(query.limit.as_deref())?;
    let query = MessageLogQuery {
        // As the microservice has it: whatever is not `true` is false.
        confirmed: query.confirmed.as_deref() == Some("true"),
        limit,
        bytes: LIST_BYTES,
    };
    let found = api.message_log()?.list(tenant.0, query).await?;
    let messages: Vec<Value> = found.into_iter().map(view).collect();
    Ok(Json(json!({
        "status": "success",
        "count": messages.len(),
        "messages": messages,
    })))
}

/// One message of the message log
#[utoipa::path(get, path = "/messages/{id}",
    params(OfTenant, ("id" = String, Path, description = "Id of the message")),
    responses((status = 200, description = "The message", body = Value)))]
async fn show(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(id): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    let found = api.message_log()?.get(tenant.0, &id).await?;
    let message = found.map(view).ok_or_else(|| no_message(&id))?;
    Ok(Json(json!({ "status": "success", "message": message })))
}

/// Confirm a message
#[utoipa::path(post, path = "/messages/{id}/confirm",
    params(OfTenant, ("id" = String, Path, description = "Id of the message")),
    responses((status = 200, description = "Confirmed", body = Value)))]
async fn confirm(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(id): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    match api.message_log()?.confirm(tenant.0, &id).await? {
        true => Ok(done(format!("Message {id} confirmed"))),
        false => Err(no_message(&id)),
    }
}

/// Delete a message
#[utoipa::path(delete, path = "/messages/{id}",
    params(OfTenant, ("id" = String, Path, description = "Id of the message")),
    responses((status = 200, description = "Deleted", body = Value)))]
async fn delete_one(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    PathOf(id): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    match api.message_log()?.delete(tenant.0, &id).await? {
        true => Ok(done(format!("Message {id} deleted"))),
        false => Err(no_message(&id)),
    }
}

/// Delete all confirmed messages
#[utoipa::path(delete, path = "/messages/confirmed",
    params(OfTenant),
    responses((status = 200, description = "How many were deleted", body = Value)))]
async fn delete_confirmed(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
) -> Result<Json<Value>, Problem> {
    let count = api.message_log()?.delete_confirmed(tenant.0).await?;
    Ok(Json(json!({
        "status": "success",
        "message": format!("{count} confirmed messages deleted"),
        "count": count,
    })))
}

fn no_message(id: &str) -> Problem {
    let detail = format!("Message not found: {id:?} is not in the message log");
    Problem::new(ProblemKind::NotFound, detail)
}

/// A payload that is JSON is shown as that, other text as text, and all else in Base64.
fn view(message: LoggedMessage) -> Value {
    let payload = match String::from_utf8(message.payload) {
        Ok(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Err(bytes) => Value::String(STANDARD.encode(bytes.as_bytes())),
    };
    let received_ms = i64::try_from(message.received_ms).unwrap_or_default();
    json!({
        "id": message.id,
        "topic": message.topic,
        "payload": payload,
        "qos": message.qos,
        "retained": message.retain,
        "timestamp": Moment::from_ms(received_ms),
        "confirmed": message.confirmed,
    })
}

/// Stores a message that `/publish` has published: at this node under this name, else at another
/// broker.
pub(super) async fn log(
    api: &Api,
    tenant: TenantId,
    message_id: Option<&str>,
    message: LoggedMessage,
) -> Result<(), Problem> {
    let log = api.message_log()?;
    let message = LoggedMessage {
        id: match message_id {
            Some(id) => log.id_of(&id),
            None => log.new_id(),
        },
        tenant: tenant.0,
        received_ms: u64::try_from(Moment::now().as_ms()).unwrap_or_default(),
        ..message
    };
    log.put(vec![message]).await.map_err(|error| {
        let detail = format!(
            "The message was published, and is not in the message log: {}",
            Problem::from(error).detail()
        );
        Problem::new(ProblemKind::Internal, detail)
    })
}
