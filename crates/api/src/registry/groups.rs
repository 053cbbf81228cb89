//! Groups of devices, who is in them, and what those may do besides what their type permits.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::principal::{Scope as ScopeName, Scopes};
use martlet_registry::{DeviceRef, Group, GroupChange, NewGroup, Owner, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Asking;
use super::forms::{expected, expected_if_any, moment, page_of_all, version};
use super::rule_sets::{RuleLines, change_rules, lines, parse};
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::Problem;
use crate::time::Moment;

/// A group of devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupView {
    /// Its id.
    id: String,
    /// Unique in its team.
    name: String,
    /// For people.
    description: String,
    /// For people: `#2f6fed`.
    colour: String,
    /// The id of its team; empty is none.
    team: String,
    /// How many devices are in it.
    devices: u64,
    /// Raised with every change; the `ETag` is made of it.
    revision: i64,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// When it was last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Moment>,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            id: group.id,
            name: group.name,
            description: group.description,
            colour: group.colour,
            team: group.team,
            devices: group.devices,
            revision: group.revision,
            created_at: moment(group.created_ms),
            updated_at: moment(group.updated_ms),
        }
    }
}

fn answer(status: StatusCode, group: Group) -> Response {
    let tag = version(group.revision).header();
    (status, [tag], axum::Json(GroupView::from(group))).into_response()
}

/// Which groups.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GroupParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
    /// Only groups of this team, by id or name.
    team: Option<String>,
}

/// The team in which a group is looked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTeam {
    /// Look among the groups of this team, by id or name: needed where several teams have one of
    /// the name.
    team: Option<String>,
}

impl OfTeam {
    /// The group's id, where a team is named; else what names the group.
    ///
    /// # Errors
    /// There is no such team, or it has no such group.
    async fn group(&self, api: &Api, asking: &Asking, text: String) -> Result<String, Problem> {
        let Some(team) = &self.team else {
            return Ok(text);
        };
        let scope = Scope::Team(asking.team_id(api, team).await?);
        let found = api.tables()?.read(move |registry| {
            Box::pin(async move { registry.group_named(&scope, &text).await })
        });
        Ok(found.await?.id)
    }

    /// The group and the devices that come into it or leave it, those of the team that is named.
    ///
    /// # Errors
    /// There is no such team, group or device.
    async fn members(
        &self,
        api: &Api,
        asking: &Asking,
        text: String,
        ids: Vec<String>,
    ) -> Result<(String, Vec<MemberRef>), Problem> {
        let (Some(team), true) = (&self.team, asking.sees_all()) else {
            let text = self.group(api, asking, text).await?;
            return Ok((text, ids.into_iter().map(MemberRef::Id).collect()));
        };
        let team = asking.team_id(api, team).await?;
        let found = api.tables()?.read(move |registry| {
            Box::pin(async move {
                let group = registry.group_for_team(&team, &text).await?;
                let (scope, mut numbers) = (Scope::Team(team), Vec::new());
                for id in &ids {
                    let device = registry.device(&scope, DeviceRef::Id(id)).await?;
                    numbers.push(MemberRef::Number(device.number));
                }
                Ok((group.id, numbers))
            })
        });
        Ok(found.await?)
    }
}

/// A [`DeviceRef`] that has its text.
enum MemberRef {
    Id(String),
    Number(i64),
}

impl MemberRef {
    fn device(&self) -> DeviceRef<'_> {
        match self {
            Self::Id(id) => DeviceRef::Id(id),
            Self::Number(number) => DeviceRef::Number(*number),
        }
    }
}

/// Groups
#[utoipa::path(get, path = "/api/v1/groups", tag = "devices", params(GroupParams),
    responses((status = 200, description = "A page of them, by id", body = Page<GroupView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    asking: Asking,
    QueryOf(wanted): QueryOf<GroupParams>,
) -> Result<axum::Json<Page<GroupView>>, Problem> {
    let scope = asking.within(&api, wanted.team.as_deref()).await?.scope();
    let asked = (wanted.limit, wanted.cursor.as_deref(), wanted.total);
    let of = format!("groups {scope:?}");
    let found = api
        .tables()?
        .read(move |registry| Box::pin(async move { registry.groups(&scope).await }));
    let all: Vec<GroupView> = found.await?.into_iter().map(GroupView::from).collect();
    let page = page_of_all(&api, &of, all, |group| &group.id, asked)?;
    Ok(axum::Json(page))
}

/// A group to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGroupBody {
    /// Its name.
    name: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// For people: `#2f6fed`.
    #[serde(default)]
    colour: String,
    /// Its team, by id or name.
    team: Option<String>,
}

/// Add a group
#[utoipa::path(post, path = "/api/v1/groups", tag = "devices", request_body = NewGroupBody,
    responses((status = 201, description = "It is there", body = GroupView)))]
pub(crate) async fn create(
    State(api): State<Api>,
    asking: Asking,
    JsonBody(body): JsonBody<NewGroupBody>,
) -> Result<Response, Problem> {
    let new = NewGroup {
        name: body.name,
        description: body.description,
        colour: body.colour,
        team: body.team,
    };
    let made = api.tables()?.change(move |registry| {
        Box::pin(async move { registry.add_group(&asking.actor, new).await })
    });
    Ok(answer(StatusCode::CREATED, made.await?))
}

/// A group
#[utoipa::path(get, path = "/api/v1/groups/{id}", tag = "devices",
    params(("id" = String, Path, description = "Its id or name"), OfTeam),
    responses((status = 200, description = "The group", body = GroupView),
        (status = 404, description = "There is none")))]
pub(crate) async fn show(
    State(api): State<Api>,
    asking: Asking,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (scope, id) = (asking.scope(), of.group(&api, &asking, id).await?);
    let found = api
        .tables()?
        .read(move |registry| Box::pin(async move { registry.group_named(&scope, &id).await }));
    let found = found.await?;
    let version = version(found.revision);
    Ok(version.unless_known(&headers, axum::Json(GroupView::from(found))))
}

/// What is to be different; what is not named stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupChangeBody {
    /// Its name.
    name: Option<String>,
    /// For people.
    description: Option<String>,
    /// For people: `#2f6fed`.
    colour: Option<String>,
}

/// Change a group
#[utoipa::path(patch, path = "/api/v1/groups/{id}", tag = "devices",
    params(("id" = String, Path, description = "Its id or name"), OfTeam,
        ("If-Match" = String, Header, description = "The version that is changed, or *")),
    request_body = GroupChangeBody,
    responses((status = 200, description = "As it is now", body = GroupView),
        (status = 404, description = "There is none"),
        (status = 412, description = "It was changed meanwhile"),
        (status = 428, description = "`If-Match` is needed")))]
pub(crate) async fn change(
    State(api): State<Api>,
    asking: Asking,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<GroupChangeBody>,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let id = of.group(&api, &asking, id).await?;
    let change = GroupChange {
        name: body.name,
        description: body.description,
        colour: body.colour,
    };
    let changed = api.tables()?.change(move |registry| {
        Box::pin(async move {
            registry
                .change_group(&asking.actor, &id, change, expected)
                .await
        })
    });
    Ok(answer(StatusCode::OK, changed.await?))
}

/// Remove a group
///
/// With its rules; its devices stay.
#[utoipa::path(delete, path = "/api/v1/groups/{id}", tag = "devices",
    params(("id" = String, Path, description = "Its id or name"), OfTeam),
    responses((status = 204, description = "It is deleted"),
        (status = 404, description = "There is none"),
        (status = 412, description = "It was changed meanwhile")))]
pub(crate) async fn delete(
    State(api): State<Api>,
    asking: Asking,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let expected = expected_if_any(&headers)?;
    let id = of.group(&api, &asking, id).await?;
    let removed = api.tables()?.change(move |registry| {
        Box::pin(async move { registry.remove_group(&asking.actor, &id, expected).await })
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Devices that come into a group or leave it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Members {
    /// Ids of devices.
    #[schema(max_items = 10_000)]
    devices: Vec<String>,
}

/// Number of devices that were changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Moved {
    /// Devices whose membership has changed.
    changed: u64,
}

/// Put devices into a group
#[utoipa::path(post, path = "/api/v1/groups/{id}/devices", tag = "devices",
    params(("id" = String, Path, description = "The group's id or name"), OfTeam), request_body = Members,
    responses((status = 200, description = "How many were not in it before", body = Moved),
        (status = 404, description = "There is no such group or device")))]
pub(crate) async fn add_members(
    State(api): State<Api>,
    asking: Asking,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<Members>,
) -> Result<axum::Json<Moved>, Problem> {
    let (id, members) = of.members(&api, &asking, id, body.devices).await?;
    let added = api.tables()?.change(move |registry| {
        Box::pin(async move {
            let devices: Vec<_> = members.iter().map(MemberRef::device).collect();
            registry.add_to_group(&asking.actor, &id, &devices).await
        })
    });
    let changed = added.await?;
    Ok(axum::Json(Moved { changed }))
}

/// Take devices out of a group
#[utoipa::path(post, path = "/api/v1/groups/{id}/devices/remove", tag = "devices",
    params(("id" = String, Path, description = "The group's id or name"), OfTeam), request_body = Members,
    responses((status = 200, description = "How many were in it", body = Moved),
        (status = 404, description = "There is no such group or device")))]
pub(crate) async fn remove_members(
    State(api): State<Api>,
    asking: Asking,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<Members>,
) -> Result<axum::Json<Moved>, Problem> {
    let (id, members) = of.members(&api, &asking, id, body.devices).await?;
    let removed = api.tables()?.change(move |registry| {
        Box::pin(async move {
            let devices: Vec<_> = members.iter().map(MemberRef::device).collect();
            registry
                .remove_from_group(&asking.actor, &id, &devices)
                .await
        })
    });
    let changed = removed.await?;
    Ok(axum::Json(Moved { changed }))
}

/// Rules of a group
#[utoipa::path(get, path = "/api/v1/groups/{id}/rules", tag = "devices",
    params(("id" = String, Path, description = "The group's id or name"), OfTeam),
    responses((status = 200, description = "In their order", body = RuleLines,
        headers(("ETag" = String, description = "The group's version"))),
        (status = 404, description = "There is no such group")))]
pub(crate) async fn rules(
    State(api): State<Api>,
    asking: Asking,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Response, Problem> {
    let (scope, id) = (asking.scope(), of.group(&api, &asking, id).await?);
    let found = api
        .tables()?
        .read(move |registry| Box::pin(async move { registry.group_rules(&scope, &id).await }));
    let found = found.await?;
    let (tag, rules) = (version(found.revision).header(), lines(&found.rules));
    Ok(([tag], axum::Json(RuleLines { rules })).into_response())
}

/// Give a group other rules
///
/// They are rules like those of types: a caller that sees all teams may change those too, by
/// `acl:write`.
#[utoipa::path(put, path = "/api/v1/groups/{id}/rules", tag = "devices",
    params(("id" = String, Path, description = "The group's id or name"), OfTeam), request_body = RuleLines,
    responses((status = 200, description = "They are in force", body = RuleLines),
        (status = 404, description = "There is no such group"),
        (status = 412, description = "The group was changed meanwhile")))]
pub(crate) async fn set_rules(
    State(api): State<Api>,
    asking: Asking,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<RuleLines>,
) -> Result<axum::Json<RuleLines>, Problem> {
    let (rules, expected) = (parse(&body.rules)?, expected_if_any(&headers)?);
    let needed: Scopes = match asking.sees_all() {
        true => [ScopeName::AclWrite].into(),
        // All topics of their tenant, at the most.
        false => [ScopeName::MessagesRead, ScopeName::MessagesWrite].into(),
    };
    asking.expect_within(needed)?;
    let shown = lines(&rules);
    let id = of.group(&api, &asking, id).await?;
    let (of, given) = (id.clone(), rules.clone());
    let changed = change_rules(
        &api,
        asking,
        Owner::Group,
        of,
        given,
        move |registry, asking| {
            Box::pin(async move {
                registry
                    .change_rules(&asking.actor, Owner::Group, &id, &rules, (expected, None))
                    .await
            })
        },
    );
    changed.await?;
    Ok(axum::Json(RuleLines { rules: shown }))
}
