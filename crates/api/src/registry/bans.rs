//! Bans: clients, users and addresses that are refused.

use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::use_cases::{self, FindBan, PageOfBans, RemoveBan};
use martlet_registry::{Ban, BanKind, NewBan};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::forms::{moment, page_of, page_request, time, word};
use super::{CalledBy, within};
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::{Problem, ProblemKind};
use crate::time::Moment;
use crate::words;

/// A ban.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanView {
    /// Id of the ban.
    id: String,
    /// Kind of name that is banned: a Client Identifier, a user name, or an address or network.
    #[schema(schema_with = words::ban_kinds)]
    kind: &'static str,
    /// The banned name or address.
    value: String,
    /// The id of the team in whose tenant; null: in the common one, and of an address in all.
    team: Option<String>,
    /// Text for people; clients get it too.
    why: String,
    /// Caller that has added it.
    made_by: String,
    /// Whether it holds now.
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
            team: (!ban.team.is_empty()).then_some(ban.team),
            why: ban.why,
            made_by: ban.made_by,
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

/// Words for kinds of bans.
fn kinds() -> Vec<&'static str> {
    BanKind::ALL.into_iter().map(BanKind::word).collect()
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
    #[param(example = "client_id")]
    kind: Option<String>,
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
        let kind = params.kind.unwrap_or_default();
        let find = FindBan {
            kind: BanKind::from_word(&kind).ok_or_else(|| {
                let detail = format!("{kind:?} is not a kind of ban: {}", kinds().join(", "));
                Problem::bad_request(format!("kind: {detail}")).of_parameter("kind", detail)
            })?,
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

/// A ban to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BanBody {
    /// Kind of name that is banned: a Client Identifier, a user name, or an address or network.
    #[schema(schema_with = words::ban_kinds)]
    kind: String,
    /// Value of the ban. A caller that sees all teams, and names none, means a device or user of a
    /// team that has a tenant of its own by `NAME@TEAM`, as it connects.
    #[schema(example = "pump-7")]
    value: String,
    /// In the tenant of this team, by id or name; also as the query's `team`. Without it in that of
    /// the team that asks, else among the clients of all teams that have none, and addresses for
    /// all.
    team: Option<String>,
    /// Text for people; clients get it too.
    #[serde(default)]
    why: String,
    /// When it ends; default: never.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// Add a ban
///
/// Their connections end. A caller bans a user, and a Client Identifier that a user has a session
/// with, only if it has all rights of that user.
#[utoipa::path(post, path = "/api/v1/bans", tag = "clients", params(OfTeam), request_body = BanBody,
    responses((status = 201, description = "Banned", body = AddedBanView)))]
pub(crate) async fn add(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<BanBody>,
) -> Result<(StatusCode, axum::Json<AddedBanView>), Problem> {
    if let (Some(query), Some(body)) = (&of.team, &body.team)
        && query != body
    {
        let detail = format!("the query contains {query}");
        return Err(Problem::new(ProblemKind::Invalid, detail.clone()).of_field("/team", detail));
    }
    let new = NewBan {
        team: of.team.or(body.team),
        kind: word("/kind", &body.kind, BanKind::from_word, &kinds())?,
        value: body.value,
        why: body.why,
        until_ms: time("/until", body.until.as_deref())?,
    };
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
