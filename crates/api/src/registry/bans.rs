//! Bans: clients, users and addresses that are refused.

use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::use_cases::{self, FindBan, PageOfBans, RemoveBan};
use martlet_registry::{Ban, BanKind, NewBan};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::forms::{page_of, page_request};
use super::{CalledBy, within};
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::{Problem, ProblemKind};
use crate::time::Moment;

/// A ban, and whether it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanView {
    #[serde(flatten)]
    ban: Ban,
    /// Whether it holds now.
    holds: bool,
}

impl From<Ban> for BanView {
    fn from(ban: Ban) -> Self {
        Self {
            holds: ban.holds(Moment::now().as_ms()),
            ban,
        }
    }
}

/// A ban that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddedBanView {
    #[serde(flatten)]
    view: BanView,
    /// Id of the ban of the same name that it replaces; null: there was none.
    replaced: Option<String>,
}

/// Which bans.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BanParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
    /// In the tenant of this team, by id or name.
    team: Option<String>,
    /// Bans that have ended too. They are kept for a day.
    #[serde(default)]
    ended: bool,
    /// The one ban of this name or address, in any spelling, or of `NAME@TEAM`; `kind` is needed.
    value: Option<String>,
    /// Kind of `value`: `client_id`, `user_name` or `address`.
    #[param(inline, required = false)]
    kind: Option<BanKind>,
}

/// List bans
///
/// Without `ended` only those that have not ended.
#[utoipa::path(get, path = "/api/v1/bans", tag = "clients", params(BanParams),
    responses((status = 200, description = "A page of the list, sorted by id", body = Page<BanView>),
        (status = 404, description = "No such ban, where `value` is given")))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<BanParams>,
) -> Result<axum::Json<Page<BanView>>, Problem> {
    if let Some(value) = params.value {
        let Some(kind) = params.kind else {
            let detail = "value needs kind, such as client_id";
            return Err(Problem::bad_request(detail).of_parameter("value", detail));
        };
        let find = FindBan {
            kind,
            value,
            team: params.team,
        };
        let found = api.run(caller, find).await?;
        return Ok(axum::Json(Page {
            total: params.total.map(|_| 1),
            items: vec![found.into()],
            next: None,
        }));
    }
    if params.kind.is_some() {
        let detail = "kind needs value, the name or address";
        return Err(Problem::bad_request(detail).of_parameter("kind", detail));
    }
    let caller = within(&api, caller, params.team.as_deref()).await?;
    let of = format!("bans {} {:?}", params.ended, caller.visibility());
    let paging = (params.limit, params.cursor.as_deref(), params.total);
    let page = page_request(&api, &of, paging)?;
    let page = api
        .run(
            caller,
            PageOfBans {
                page,
                with_ended: params.ended,
            },
        )
        .await?;
    Ok(axum::Json(page_of(&api, &of, page, BanView::from)))
}

/// Tenant of a ban.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTeam {
    /// In the tenant of this team, by id or name.
    team: Option<String>,
}

/// Add a ban
///
/// Their connections end. A caller bans a user, and a Client Identifier that a user has a session
/// with, only if it has all rights of that user.
#[utoipa::path(post, path = "/api/v1/bans", tag = "clients", params(OfTeam), request_body = NewBan,
    responses((status = 201, description = "Banned", body = AddedBanView)))]
pub(crate) async fn add(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(mut new): JsonBody<NewBan>,
) -> Result<(StatusCode, axum::Json<AddedBanView>), Problem> {
    if let (Some(query), Some(body)) = (&of.team, &new.team)
        && query != body
    {
        let detail = format!("the query contains {query}");
        return Err(Problem::new(ProblemKind::Invalid, detail.clone()).of_field("/team", detail));
    }
    new.team = of.team.or(new.team);
    let added = use_cases::add_ban(api.tables()?, caller, new).await?;
    let added = AddedBanView {
        view: added.ban.into(),
        replaced: added.replaced,
    };
    Ok((StatusCode::CREATED, axum::Json(added)))
}

/// Remove a ban
#[utoipa::path(delete, path = "/api/v1/bans/{id}", tag = "clients",
    params(("id" = String, Path, description = "Id of the ban")),
    responses((status = 204, description = "The ban is removed"),
        (status = 404, description = "No such ban")))]
pub(crate) async fn remove(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<StatusCode, Problem> {
    api.run(caller, RemoveBan { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}
