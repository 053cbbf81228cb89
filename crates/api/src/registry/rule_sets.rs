//! Types of devices and roles of users: which topics they may use.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use martlet_control::callers::Caller;
use martlet_control::use_cases::{
    AddRuleSet, ChangeOneRule, ChangeRuleSet, DeleteRuleSet, FindRuleSet, ListRuleSets, RuleChange,
};
use martlet_registry::{ClientIds, Owner, RuleLine, RuleSet, TypeSettings, with_keyword};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::CalledBy;
use super::forms::{page_of_all, version};
use crate::api::Api;
use crate::etag::expected;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::keys::PageParams;
use crate::page::Page;
use crate::problem::{Problem, ProblemKind};

/// Rules, as they stand in ACL files.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleLines {
    /// The first that matches decides, and what none matches is forbidden: `topic` or `pattern`,
    /// then `read`, `write`, `readwrite` or `deny`, then a Topic Filter, in patterns with `%c` for
    /// the Client Identifier and `%u` for the user name.
    #[schema(example = json!(["pattern readwrite d/%c/#"]))]
    pub(super) rules: Vec<String>,
}

pub(super) fn lines(rules: &[RuleLine]) -> Vec<String> {
    rules.iter().map(RuleLine::to_string).collect()
}

pub(super) fn parse(lines: &[String]) -> Result<Vec<RuleLine>, Problem> {
    let parse = |(at, line): (usize, &String)| {
        RuleLine::parse(line).map_err(|why| {
            let problem = Problem::new(ProblemKind::Invalid, why.clone());
            problem.of_field(format!("/rules/{at}"), why)
        })
    };
    lines.iter().enumerate().map(parse).collect()
}

/// A type of devices or a role of users.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleSetView {
    /// Name of the type or role.
    name: String,
    /// Whether it comes with the program and stays as it is.
    built_in: bool,
    /// All that a client may do is permitted, topics that begin with `$` too; `rules` is empty
    /// then.
    permits_all: bool,
    /// Rules that hold, in their order; of what is built in they are the program's.
    rules: Vec<String>,
    /// For device types: `id`, the id of the device, or `any` Client Identifier but the ids of
    /// other devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'static str>,
    /// For device types: sessions that a device may have at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_sessions: Option<u32>,
    /// For device types: seconds without a message after which a device is inactive; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive_after_secs: Option<u32>,
    /// Raised with every change; the `ETag` is made of it.
    revision: i64,
}

impl RuleSetView {
    fn of(owner: Owner, set: RuleSet) -> Self {
        let rules = set.in_force(owner);
        let client_ids = (owner == Owner::DeviceType).then_some(set.client_ids);
        Self {
            client_id: client_ids.map(ClientIds::word),
            max_sessions: client_ids.map(ClientIds::sessions_max),
            inactive_after_secs: (owner == Owner::DeviceType).then_some(set.inactive_after_secs),
            name: set.name,
            built_in: set.is_builtin,
            permits_all: rules.is_none(),
            rules: lines(&rules.unwrap_or_default()),
            revision: set.revision,
        }
    }
}

/// One to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRuleSet {
    /// Name of the type or role.
    name: String,
    /// As of [`RuleLines`].
    #[serde(default)]
    rules: Vec<String>,
    /// For a device type: which Client Identifiers its devices may use. Without it: `id`.
    #[schema(example = "any")]
    client_id: Option<String>,
    /// For a device type with `client_id` `any`: sessions that a device may have. Without it: 10.
    max_sessions: Option<u32>,
    /// For a device type: after how many seconds without a message its devices are inactive: 10 to
    /// 31622400; 0: never.
    inactive_after_secs: Option<u32>,
}

/// All rules that it is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleSetChange {
    /// As of [`RuleLines`].
    rules: Vec<String>,
    /// For a device type: which Client Identifiers its devices may use. Without it, nothing
    /// changes.
    #[schema(example = "any")]
    client_id: Option<String>,
    /// For a device type with `client_id` `any`: sessions that a device may have.
    max_sessions: Option<u32>,
}

/// Changes of a type; what is not named stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TypeChange {
    /// All rules that it is to have, as of [`RuleLines`].
    rules: Option<Vec<String>>,
    /// Which Client Identifiers its devices may use.
    #[schema(example = "any")]
    client_id: Option<String>,
    /// With `client_id` `any`: sessions that a device may have.
    max_sessions: Option<u32>,
    /// After how many seconds without a message its devices are inactive: 10 to 31622400; 0: never.
    #[schema(example = 600)]
    inactive_after_secs: Option<u32>,
}

/// A rule that is put first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneRule {
    /// The rule, with or without `topic` or `pattern` before it.
    #[schema(example = "read a/#")]
    rule: String,
}

/// A type or role after a change of one rule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedRules {
    #[serde(flatten)]
    view: RuleSetView,
    /// `false`: the rule was the first one already.
    changed: bool,
}

/// Settings of a type: which Client Identifiers its devices may use, and after how many seconds
/// they are inactive, if that is given.
fn settings(
    owner: Owner,
    client_id: Option<&str>,
    max_sessions: Option<u32>,
    inactive_after_secs: Option<u32>,
) -> Result<TypeSettings, Problem> {
    let field = match (client_id, max_sessions, inactive_after_secs) {
        (None, None, None) => return Ok(TypeSettings::default()),
        (Some(_), _, _) => "/client_id",
        (None, Some(_), _) => "/max_sessions",
        (None, None, Some(_)) => "/inactive_after_secs",
    };
    let of_clients = client_id.is_some() || max_sessions.is_some();
    let read = match owner {
        Owner::DeviceType if of_clients => {
            ClientIds::from_words(client_id.unwrap_or("any"), max_sessions).map(Some)
        }
        Owner::DeviceType => Ok(None),
        Owner::Role | Owner::Group => Err("it is of device types alone".to_owned()),
    };
    let read = read.map_err(|why| {
        Problem::new(ProblemKind::Invalid, why.clone()).of_field(field.to_owned(), why)
    });
    Ok(TypeSettings {
        client_ids: read?,
        inactive_after_secs,
    })
}

async fn list_of(
    api: &Api,
    caller: Caller,
    owner: Owner,
    params: &PageParams,
) -> Result<Json<Page<RuleSetView>>, Problem> {
    let shown = api.run(caller, ListRuleSets { owner }).await?.into_iter();
    let all: Vec<RuleSetView> = shown.map(|set| RuleSetView::of(owner, set)).collect();
    let page = page_of_all(api, owner.word(), all, |set| &set.name, params.paging())?;
    Ok(Json(page))
}

async fn answer_of(
    api: &Api,
    caller: Caller,
    owner: Owner,
    name: String,
    status: StatusCode,
) -> Result<Response, Problem> {
    let found = api.run(caller, FindRuleSet { owner, name }).await?;
    let tag = version(found.revision).header();
    Ok((status, [tag], Json(RuleSetView::of(owner, found))).into_response())
}

async fn create_of(
    api: &Api,
    caller: Caller,
    owner: Owner,
    body: NewRuleSet,
) -> Result<Response, Problem> {
    let name = body.name;
    let add = AddRuleSet {
        owner,
        name: name.clone(),
        rules: parse(&body.rules)?,
        settings: settings(
            owner,
            body.client_id.as_deref(),
            body.max_sessions,
            body.inactive_after_secs,
        )?,
    };
    api.run(caller.clone(), add).await?;
    answer_of(api, caller, owner, name, StatusCode::CREATED).await
}

async fn set_of(
    api: &Api,
    caller: Caller,
    owner: Owner,
    name: String,
    headers: HeaderMap,
    body: RuleSetChange,
) -> Result<Response, Problem> {
    let change = ChangeRuleSet {
        owner,
        name: name.clone(),
        rules: Some(parse(&body.rules)?),
        expected_revision: expected(&headers)?,
        settings: settings(owner, body.client_id.as_deref(), body.max_sessions, None)?,
    };
    api.run(caller.clone(), change).await?;
    answer_of(api, caller, owner, name, StatusCode::OK).await
}

async fn delete_of(
    api: &Api,
    caller: Caller,
    owner: Owner,
    name: String,
) -> Result<StatusCode, Problem> {
    api.run(caller, DeleteRuleSet { owner, name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The routes of one kind.
async fn change_one_of(
    api: &Api,
    caller: Caller,
    owner: Owner,
    name: String,
    rule: RuleLine,
    change: RuleChange,
) -> Result<Json<ChangedRules>, Problem> {
    let one = ChangeOneRule {
        owner,
        name,
        rule,
        change,
    };
    let (changed, set) = api.run(caller, one).await?;
    let view = RuleSetView::of(owner, set);
    Ok(Json(ChangedRules { view, changed }))
}

/// Puts a rule first, so that it decides.
async fn put_first_of(
    api: &Api,
    caller: Caller,
    owner: Owner,
    name: String,
    body: &OneRule,
) -> Result<Json<ChangedRules>, Problem> {
    let rule = RuleLine::parse(&with_keyword(&body.rule))
        .map_err(|why| Problem::new(ProblemKind::Invalid, why.clone()).of_field("/rule", why))?;
    change_one_of(api, caller, owner, name, rule, RuleChange::First).await
}

/// Removes a rule; the others stay in their order.
async fn remove_of(
    api: &Api,
    caller: Caller,
    owner: Owner,
    name: String,
    which: &WhichRule,
) -> Result<Json<ChangedRules>, Problem> {
    let rule = RuleLine::parse_known(&with_keyword(&which.rule))
        .map_err(|why| Problem::bad_request(format!("rule: {why}")).of_parameter("rule", why))?;
    let missing = format!("the {} {name} has no rule \"{rule}\"", owner.word());
    let changed = change_one_of(api, caller, owner, name, rule, RuleChange::Removed).await?;
    match changed.0.changed {
        true => Ok(changed),
        false => Err(Problem::new(ProblemKind::NotFound, missing)),
    }
}

/// A rule of a type or role.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichRule {
    /// The rule, with or without `topic` or `pattern` before it.
    #[param(example = "read a/#")]
    rule: String,
}

macro_rules! routes_of {
    ($owner:expr, $path:literal, $one:literal, $rules:literal,
     $list:ident $list_title:literal, $create:ident $create_title:literal,
     $show:ident $show_title:literal, $set:ident $set_title:literal,
     $delete:ident $delete_title:literal, $first:ident $first_title:literal,
     $remove:ident $remove_title:literal) => {
        #[doc = $list_title]
        #[utoipa::path(get, path = $path, tag = "permissions", params(PageParams),
            responses((status = 200, description = "A page of the list, sorted by name",
                body = Page<RuleSetView>)))]
        pub(crate) async fn $list(
            State(api): State<Api>,
            CalledBy(caller): CalledBy,
            QueryOf(params): QueryOf<PageParams>,
        ) -> Result<Json<Page<RuleSetView>>, Problem> {
            list_of(&api, caller, $owner, &params).await
        }

        #[doc = $create_title]
        #[utoipa::path(post, path = $path, tag = "permissions", request_body = NewRuleSet,
            responses((status = 201, description = "Added", body = RuleSetView)))]
        pub(crate) async fn $create(
            State(api): State<Api>,
            CalledBy(caller): CalledBy,
            JsonBody(body): JsonBody<NewRuleSet>,
        ) -> Result<Response, Problem> {
            create_of(&api, caller, $owner, body).await
        }

        #[doc = $show_title]
        #[utoipa::path(get, path = $one, tag = "permissions",
            params(("name" = String, Path, description = "Name")),
            responses((status = 200, description = "The rules", body = RuleSetView),
                (status = 404, description = "Not found")))]
        pub(crate) async fn $show(
            State(api): State<Api>,
            CalledBy(caller): CalledBy,
            PathOf(name): PathOf<String>,
        ) -> Result<Response, Problem> {
            answer_of(&api, caller, $owner, name, StatusCode::OK).await
        }

        #[doc = $set_title]
        #[utoipa::path(put, path = $one, tag = "permissions",
            params(("name" = String, Path, description = "Name"),
                ("If-Match" = String, Header, description = "The revision that is to be changed, or *")),
            request_body = RuleSetChange,
            responses((status = 200, description = "The current state", body = RuleSetView),
                (status = 404, description = "Not found"),
                (status = 412, description = "Its revision is not the one in If-Match"),
                (status = 428, description = "The header If-Match is required")))]
        pub(crate) async fn $set(
            State(api): State<Api>,
            CalledBy(caller): CalledBy,
            PathOf(name): PathOf<String>,
            headers: HeaderMap,
            JsonBody(body): JsonBody<RuleSetChange>,
        ) -> Result<Response, Problem> {
            set_of(&api, caller, $owner, name, headers, body).await
        }

        #[doc = $delete_title]
        #[utoipa::path(delete, path = $one, tag = "permissions",
            params(("name" = String, Path, description = "Name")),
            responses((status = 204, description = "Deleted"),
                (status = 404, description = "Not found"),
                (status = 409, description = "In use")))]
        pub(crate) async fn $delete(
            State(api): State<Api>,
            CalledBy(caller): CalledBy,
            PathOf(name): PathOf<String>,
        ) -> Result<StatusCode, Problem> {
            delete_of(&api, caller, $owner, name).await
        }

        #[doc = $first_title]
        ///
        /// The other rules stay in their order.
        #[utoipa::path(post, path = $rules, tag = "permissions",
            params(("name" = String, Path, description = "Name")), request_body = OneRule,
            responses((status = 200, description = "The current state", body = ChangedRules),
                (status = 404, description = "Not found")))]
        pub(crate) async fn $first(
            State(api): State<Api>,
            CalledBy(caller): CalledBy,
            PathOf(name): PathOf<String>,
            JsonBody(body): JsonBody<OneRule>,
        ) -> Result<Json<ChangedRules>, Problem> {
            put_first_of(&api, caller, $owner, name, &body).await
        }

        #[doc = $remove_title]
        ///
        /// The other rules stay in their order.
        #[utoipa::path(delete, path = $rules, tag = "permissions",
            params(("name" = String, Path, description = "Name"), WhichRule),
            responses((status = 200, description = "The current state", body = ChangedRules),
                (status = 404, description = "No such rule, type or role")))]
        pub(crate) async fn $remove(
            State(api): State<Api>,
            CalledBy(caller): CalledBy,
            PathOf(name): PathOf<String>,
            QueryOf(which): QueryOf<WhichRule>,
        ) -> Result<Json<ChangedRules>, Problem> {
            remove_of(&api, caller, $owner, name, &which).await
        }
    };
}

/// When devices of a type are inactive. Types that come with the program have it too
#[utoipa::path(patch, path = "/api/v1/device-types/{name}", tag = "permissions",
    params(("name" = String, Path, description = "Name"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or *")),
    request_body = TypeChange,
    responses((status = 200, description = "The current state", body = RuleSetView),
        (status = 404, description = "Not found"),
        (status = 412, description = "Its revision is not the one in If-Match"),
        (status = 428, description = "The header If-Match is required")))]
pub(crate) async fn change_type(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(name): PathOf<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<TypeChange>,
) -> Result<Response, Problem> {
    let change = ChangeRuleSet {
        owner: Owner::DeviceType,
        name: name.clone(),
        rules: body.rules.as_deref().map(parse).transpose()?,
        settings: settings(
            Owner::DeviceType,
            body.client_id.as_deref(),
            body.max_sessions,
            body.inactive_after_secs,
        )?,
        expected_revision: expected(&headers)?,
    };
    api.run(caller.clone(), change).await?;
    answer_of(&api, caller, Owner::DeviceType, name, StatusCode::OK).await
}

routes_of!(
    Owner::DeviceType, "/api/v1/device-types", "/api/v1/device-types/{name}",
    "/api/v1/device-types/{name}/rules",
    types "Types of devices", create_type "Add a type of devices",
    show_type "A type of devices", set_type "Give a type of devices other rules",
    delete_type "Remove a type of devices", put_type_rule "Put a rule of a type of devices first",
    remove_type_rule "Remove a rule of a type of devices"
);

routes_of!(
    Owner::Role, "/api/v1/roles", "/api/v1/roles/{name}", "/api/v1/roles/{name}/rules",
    roles "Roles of users", create_role "Add a role of users",
    show_role "A role of users", set_role "Give a role of users other rules",
    delete_role "Remove a role of users", put_role_rule "Put a rule of a role first",
    remove_role_rule "Remove a rule of a role"
);
