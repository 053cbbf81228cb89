//! Who is kept out.

use axum::extract::State;
use axum::http::StatusCode;
use martlet_registry::{Ban, BanKind, NewBan};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Asking, moment, page_of_all, time, word};
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::keys::Wanted;
use crate::page::Page;
use crate::problem::Problem;
use crate::time::Moment;

/// Somebody who is kept out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanView {
    /// Its id.
    id: String,
    /// By what.
    kind: &'static str,
    /// Whom.
    value: String,
    /// For people; clients are told it too.
    why: String,
    /// Who has done it.
    made_by: String,
    /// It holds now.
    holds: bool,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// When it ends; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Moment>,
}

impl From<Ban> for BanView {
    fn from(ban: Ban) -> Self {
        Self {
            kind: ban.kind.word(),
            holds: ban.holds(Moment::now().as_ms()),
            created_at: moment(ban.created_ms),
            until: moment(ban.until_ms),
            id: ban.id,
            value: ban.value,
            why: ban.why,
            made_by: ban.made_by,
        }
    }
}

/// Who is kept out
///
/// Those whose ban has ended too.
#[utoipa::path(get, path = "/api/v1/bans", tag = "clients", params(Wanted),
    responses((status = 200, description = "A page of them, by id", body = Page<BanView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    asking: Asking,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<axum::Json<Page<BanView>>, Problem> {
    let scope = asking.scope();
    let found = api
        .tables()?
        .read(move |registry| Box::pin(async move { registry.bans(&scope).await }));
    let all: Vec<BanView> = found.await?.into_iter().map(BanView::from).collect();
    let page = page_of_all(&api, "bans", all, |ban| &ban.id, wanted.asked())?;
    Ok(axum::Json(page))
}

/// Somebody to be kept out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BanBody {
    /// By what: a Client Identifier, a user name, or an address or network.
    #[schema(example = "client_id")]
    kind: String,
    /// Whom.
    #[schema(example = "pump-7")]
    value: String,
    /// For people; clients are told it too.
    #[serde(default)]
    why: String,
    /// When it ends; never, if nothing is said.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// Keep somebody out
///
/// Their connections end.
#[utoipa::path(post, path = "/api/v1/bans", tag = "clients", request_body = BanBody,
    responses((status = 201, description = "They are kept out", body = BanView)))]
pub(crate) async fn add(
    State(api): State<Api>,
    asking: Asking,
    JsonBody(body): JsonBody<BanBody>,
) -> Result<(StatusCode, axum::Json<BanView>), Problem> {
    let known: Vec<&str> = BanKind::ALL.iter().map(|kind| kind.word()).collect();
    let new = NewBan {
        kind: word("/kind", &body.kind, BanKind::from_word, &known)?,
        value: body.value,
        why: body.why,
        until_ms: time("/until", body.until.as_deref())?,
    };
    let made = api.tables()?.change(move |registry| {
        Box::pin(async move { registry.add_ban(&asking.actor, new).await })
    });
    Ok((StatusCode::CREATED, axum::Json(made.await?.into())))
}

/// Let somebody in again
#[utoipa::path(delete, path = "/api/v1/bans/{id}", tag = "clients",
    params(("id" = String, Path, description = "The ban's id")),
    responses((status = 204, description = "They are kept out no more"),
        (status = 404, description = "There is no such ban")))]
pub(crate) async fn remove(
    State(api): State<Api>,
    asking: Asking,
    PathOf(id): PathOf<String>,
) -> Result<StatusCode, Problem> {
    let removed = api.tables()?.change(move |registry| {
        Box::pin(async move { registry.remove_ban(&asking.actor, &id).await })
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}
