//! `/webhooks` of the microservice: webhooks that are added, changed and removed while the node
//! runs. Each is an integration `webhook/ID` that was added by the API. Values of headers may be
//! secret, so each of them is a secret of the node, and no answer has it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::callers::Caller;
use martlet_control::integrations::{
    AddedChange, AddedError, AddedKind, SecretValue, VisibleIntegration, WEBHOOK_METHODS,
};
use martlet_control::principal::Scope;
use martlet_control::text::masked_target;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::form::{done, limit};
use crate::access::Access::Scoped;
use crate::access::Audited;
use crate::added::{NOTE, owner, seen};
use crate::api::Api;
use crate::compat::body::CompatBody;
use crate::compat::routes::CompatRoutes;
use crate::compat::time::Moment;
use crate::extract::{PathOf, QueryOf};
use crate::integrations::started;
use crate::problem::{Problem, ProblemKind};
use crate::registry::CalledBy;
use crate::secrets::{in_force, store};

const KIND: AddedKind = AddedKind::Webhook;
/// Longest time limit, and longest pause between attempts, seconds.
const SECS_MAX: u64 = 300;
/// Most attempts after the first one.
const RETRIES_MAX: u32 = 1_000;
/// Bytes of a name and of a URL, and headers, at most.
const NAME_MAX: usize = 256;
const URL_MAX: usize = 8_192;
const HEADERS_MAX: usize = 50;
/// Placeholder in answers for a value of a header, and in a change for its present value.
const HIDDEN: &str = "***";

pub(super) fn add_to(routes: CompatRoutes) -> CompatRoutes {
    let read = Scoped(Scope::IntegrationsRead);
    let write = Scoped(Scope::IntegrationsWrite);
    routes
        .add(read, Audited::Here, routes!(list))
        .add(write, Audited::Here, routes!(add))
        .add(read, Audited::Here, routes!(show))
        .add(write, Audited::Here, routes!(change))
        .add(write, Audited::Here, routes!(remove))
}

/// A webhook in a request. What is not there stays, or has its default.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = microservice::Webhook)]
struct WebhookBody {
    /// For people.
    name: Option<String>,
    /// Where messages are sent; needed when it is added.
    url: Option<String>,
    /// Method of the requests; default `POST`.
    method: Option<String>,
    /// Topic Filter of the messages; needed when it is added.
    topic_filter: Option<String>,
    /// Whether it is on, as by default.
    enabled: Option<bool>,
    /// Values of headers by name; `***` is the value that it has.
    headers: Option<BTreeMap<String, String>>,
    /// Time limit of a request, seconds; default 10.
    timeout: Option<u64>,
    /// Attempts after the first one; default 3.
    retry_count: Option<u32>,
    /// Pause between attempts, seconds; default 5.
    retry_delay: Option<u64>,
}

/// A webhook, as the notes of its settings have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Webhook {
    name: String,
    url: String,
    method: String,
    topic_filter: String,
    enabled: bool,
    /// Secrets with the values of headers, by name of the header.
    headers: BTreeMap<String, String>,
    timeout: u64,
    retry_count: u32,
    retry_delay: u64,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            method: "POST".to_owned(),
            topic_filter: String::new(),
            enabled: true,
            headers: BTreeMap::new(),
            timeout: 10,
            retry_count: 3,
            retry_delay: 5,
        }
    }
}

/// Values of headers that become secrets, by name of the secret.
type NewSecrets = Vec<(String, SecretValue)>;

/// A webhook of the microservice as an integration.
#[derive(Debug)]
pub struct MicroserviceIntegration {
    /// Body of `PUT /api/v1/webhooks/ID`.
    pub settings: Map<String, Value>,
    /// Secrets that it uses, by name.
    pub secrets: Vec<(String, SecretValue)>,
}

/// Integration that a webhook with this id becomes, which `body` describes as `POST /webhooks`
/// does.
///
/// # Errors
/// It cannot be used; the reason in words.
pub fn microservice_webhook(id: &str, body: Value) -> Result<MicroserviceIntegration, String> {
    let body = WebhookBody::deserialize(body).map_err(|error| error.to_string())?;
    let secrets = Webhook::default().changed(id, body);
    let (webhook, secrets) = secrets.map_err(|problem| problem.detail().to_owned())?;
    Ok(MicroserviceIntegration {
        settings: webhook.settings(),
        secrets,
    })
}

impl Webhook {
    /// The webhook with the changes of a request, and the new secrets.
    fn changed(mut self, id: &str, body: WebhookBody) -> Result<(Self, NewSecrets), Problem> {
        let set = |field: &mut String, value: Option<String>| {
            if let Some(value) = value {
                *field = value;
            }
        };
        set(&mut self.name, body.name);
        // What answers show in place of the URL that it has.
        let shown = masked_target(&self.url);
        set(&mut self.url, body.url.filter(|url| *url != shown));
        set(&mut self.topic_filter, body.topic_filter);
        set(
            &mut self.method,
            body.method.filter(|method| !method.is_empty()),
        );
        self.method = self.method.to_uppercase();
        self.enabled = body.enabled.unwrap_or(self.enabled);
        self.timeout = body.timeout.unwrap_or(self.timeout);
        self.retry_count = body.retry_count.unwrap_or(self.retry_count);
        self.retry_delay = body.retry_delay.unwrap_or(self.retry_delay);
        if self.url.is_empty() {
            return Err(Problem::bad_request("URL is required"));
        }
        if self.topic_filter.is_empty() {
            return Err(Problem::bad_request("Topic filter is required"));
        }
        self.check_sizes(body.headers.as_ref().map_or(0, BTreeMap::len))?;
        if !WEBHOOK_METHODS.contains(&&*self.method) {
            let methods = WEBHOOK_METHODS.join(", ");
            let why = format!("the method is {:?}, expected one of {methods}", self.method);
            return Err(invalid(&why));
        }
        if !(1..=SECS_MAX).contains(&self.timeout) || self.retry_delay > SECS_MAX {
            return Err(invalid(&format!(
                "timeout and retry_delay are seconds, expected at most {SECS_MAX}, and a timeout of \
                 at least 1"
            )));
        }
        if self.retry_count > RETRIES_MAX {
            return Err(invalid(&format!(
                "retry_count: expected at most {RETRIES_MAX}"
            )));
        }
        let mut secrets = NewSecrets::new();
        if let Some(headers) = body.headers {
            let before = std::mem::take(&mut self.headers);
            let mut number = 0;
            for (name, value) in headers {
                let kept = before.get(&name).filter(|_| value == HIDDEN);
                let secret = kept.cloned().unwrap_or_else(|| {
                    // None that is in use: the value of that changes at once.
                    let mut unused = || loop {
                        number += 1;
                        let secret = format!("webhook-{id}-{number}");
                        if !before.values().any(|used| *used == secret) {
                            return secret;
                        }
                    };
                    let secret = unused();
                    secrets.push((secret.clone(), SecretValue::new(value)));
                    secret
                });
                self.headers.insert(name, secret);
            }
        }
        Ok((self, secrets))
    }

    /// Whether its texts and this number of headers are small enough.
    fn check_sizes(&self, headers: usize) -> Result<(), Problem> {
        for (what, has, most) in [
            ("the name", self.name.len(), NAME_MAX),
            ("the URL", self.url.len(), URL_MAX),
        ] {
            if has > most {
                return Err(invalid(&format!("{what} has more than {most} bytes")));
            }
        }
        match headers > HEADERS_MAX {
            true => Err(invalid(&format!("it has more than {HEADERS_MAX} headers"))),
            false => Ok(()),
        }
    }

    /// The settings of its integration.
    fn settings(&self) -> Map<String, Value> {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, secret)| format!("{name}: ${{secret:{secret}}}"));
        let pause_ms = (self.retry_delay * 1_000).max(10);
        let settings = json!({
            "url": self.url,
            "method": self.method,
            "filters": [self.topic_filter],
            "headers": headers.collect::<Vec<_>>(),
            "format": "microservice",
            "keep_qos0": true,
            "timeout_secs": self.timeout,
            "max_attempts": self.retry_count + 1,
            "retry_first_ms": pause_ms,
            "retry_longest_ms": pause_ms,
            "enabled": self.enabled,
            "notes": { NOTE: self },
        });
        match settings {
            Value::Object(settings) => settings,
            _ => Map::new(),
        }
    }

    /// That of an integration; none: it was not added by these routes.
    fn of(seen: &VisibleIntegration) -> Option<Self> {
        let added = seen.added.as_ref()?;
        let settings: Value = serde_json::from_str(&added.settings).ok()?;
        serde_json::from_value(settings.get("notes")?.get(NOTE)?.clone()).ok()
    }
}

fn view(seen: &VisibleIntegration, webhook: &Webhook) -> Value {
    let added = seen.added.as_ref();
    let names = webhook.headers.keys();
    let headers: BTreeMap<&str, &str> = names.map(|name| (&**name, HIDDEN)).collect();
    json!({
        "id": seen.name,
        "name": webhook.name,
        "url": masked_target(&webhook.url),
        "method": webhook.method,
        "topic_filter": webhook.topic_filter,
        "enabled": webhook.enabled,
        "headers": headers,
        "timeout": webhook.timeout,
        "retry_count": webhook.retry_count,
        "retry_delay": webhook.retry_delay,
        "created_at": added.and_then(|one| Moment::of_tables(one.created_ms)),
        "updated_at": added.and_then(|one| Moment::of_tables(one.changed_ms)),
    })
}

/// Webhooks of these routes that the caller sees, the oldest first.
async fn all(api: &Api, caller: &Caller) -> Result<Vec<(VisibleIntegration, Webhook)>, Problem> {
    let all = seen(api, caller, None, KIND).await?.into_iter();
    let own = all.filter_map(|one| {
        let webhook = Webhook::of(&one)?;
        Some((one, webhook))
    });
    Ok(own.collect())
}

async fn one(
    api: &Api,
    caller: &Caller,
    id: &str,
) -> Result<(VisibleIntegration, Webhook), Problem> {
    let mut all = all(api, caller).await?.into_iter();
    all.find(|(seen, _)| seen.name == id)
        .ok_or_else(|| no_webhook(id))
}

/// Which webhooks are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WebhookParams {
    /// The most webhooks, from 1 on; default 100.
    limit: Option<String>,
}

/// Webhooks
///
/// Those that were added by these routes, the oldest first.
#[utoipa::path(get, path = "/webhooks",
    params(WebhookParams),
    responses((status = 200, description = "The webhooks", body = Value)))]
async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(wanted): QueryOf<WebhookParams>,
) -> Result<Json<Value>, Problem> {
    let limit = limit(wanted.limit.as_deref())?;
    let all = all(&api, &caller).await?;
    let views = all
        .iter()
        .take(usize::try_from(limit).unwrap_or(usize::MAX));
    let views: Vec<Value> = views.map(|(seen, webhook)| view(seen, webhook)).collect();
    Ok(Json(json!({
        "status": "success",
        "count": views.len(),
        "webhooks": views,
    })))
}

/// One webhook
#[utoipa::path(get, path = "/webhooks/{id}",
    params(("id" = String, Path, description = "Id of the webhook")),
    responses((status = 200, description = "The webhook", body = Value)))]
async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    let (seen, webhook) = one(&api, &caller, &id).await?;
    let webhook = view(&seen, &webhook);
    Ok(Json(json!({ "status": "success", "webhook": webhook })))
}

/// Add a webhook
#[utoipa::path(post, path = "/webhooks",
    request_body = WebhookBody,
    responses((status = 201, description = "The webhook", body = Value)))]
async fn add(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    CompatBody(body): CompatBody<WebhookBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let id = now.unwrap_or_default().as_nanos().to_string();
    let (webhook, secrets) = Webhook::default().changed(&id, body)?;
    write(&api, &caller, &id, &webhook, &Webhook::default(), secrets).await?;
    let (seen, webhook) = one(&api, &caller, &id).await?;
    let done = json!({
        "status": "success",
        "message": "Webhook created successfully",
        "webhook": view(&seen, &webhook),
    });
    Ok((StatusCode::CREATED, Json(done)))
}

/// Change a webhook
///
/// Members that are missing stay.
#[utoipa::path(put, path = "/webhooks/{id}",
    params(("id" = String, Path, description = "Id of the webhook")),
    request_body = WebhookBody,
    responses((status = 200, description = "The webhook", body = Value)))]
async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    CompatBody(body): CompatBody<WebhookBody>,
) -> Result<Json<Value>, Problem> {
    let (seen, before) = one(&api, &caller, &id).await?;
    let caller = in_team_of(caller, &seen);
    let (webhook, secrets) = before.clone().changed(&id, body)?;
    write(&api, &caller, &id, &webhook, &before, secrets).await?;
    let (seen, webhook) = one(&api, &caller, &id).await?;
    Ok(Json(json!({
        "status": "success",
        "message": "Webhook updated successfully",
        "webhook": view(&seen, &webhook),
    })))
}

/// Remove a webhook
#[utoipa::path(delete, path = "/webhooks/{id}",
    params(("id" = String, Path, description = "Id of the webhook")),
    responses((status = 200, description = "Removed", body = Value)))]
async fn remove(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    let (seen, webhook) = one(&api, &caller, &id).await?;
    let caller = in_team_of(caller, &seen);
    let removed = started(&api)?.remove_added(caller.actor.clone(), KIND, &id);
    removed.await?;
    forget(&api, &caller, webhook.headers.into_values()).await;
    Ok(done(format!("Webhook {id} deleted successfully")))
}

/// The caller as one of the team that has the webhook.
fn in_team_of(caller: Caller, seen: &VisibleIntegration) -> Caller {
    match seen.team.as_str() {
        "" => caller,
        team => caller.in_team(team.to_owned()),
    }
}

/// Writes a webhook with the secrets that it needs, and forgets those that it needs no more.
async fn write(
    api: &Api,
    caller: &Caller,
    id: &str,
    webhook: &Webhook,
    before: &Webhook,
    secrets: NewSecrets,
) -> Result<(), Problem> {
    let team = owner(api, caller, None).await?;
    let names: Vec<String> = secrets.iter().map(|(name, _)| name.clone()).collect();
    let written = async {
        for (name, value) in secrets {
            let set = store(api)?.set(caller.actor.clone(), team.clone(), name, value);
            set.await
                .map_err(|error| invalid(&format!("headers: {error}")))?;
        }
        in_force(api).await;
        let change = AddedChange {
            kind: KIND,
            name: id.to_owned(),
            team: team.clone(),
            settings: webhook.settings(),
        };
        let set = started(api)?.set_added(caller.actor.clone(), change);
        set.await.map_err(|error| match error {
            AddedError::Unusable(unusable) => invalid(&unusable.why),
            error => error.into(),
        })
    };
    if let Err(problem) = written.await {
        forget(api, caller, names.into_iter()).await;
        return Err(problem);
    }
    let used: Vec<&String> = webhook.headers.values().collect();
    let unused = before.headers.values();
    let unused = unused.filter(|secret| !used.contains(secret)).cloned();
    forget(api, caller, unused).await;
    Ok(())
}

/// Removes secrets of headers. One that stays is seen in the list of secrets.
async fn forget(api: &Api, caller: &Caller, secrets: impl Iterator<Item = String>) {
    let (Ok(store), Ok(team)) = (store(api), owner(api, caller, None).await) else {
        return;
    };
    for name in secrets {
        let _ = store.remove(caller.actor.clone(), team.clone(), name).await;
    }
}

fn invalid(why: &str) -> Problem {
    Problem::bad_request(format!("Invalid webhook: {why}"))
}

fn no_webhook(id: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("Webhook not found: {id:?}"))
}
