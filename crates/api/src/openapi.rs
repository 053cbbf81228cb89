//! The document that describes the API, made from the routes.

pub(crate) mod document;

use utoipa::OpenApi;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Content, ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};

use crate::access::Access;
use crate::compat::system::CompatApi;
use crate::idempotency;
use crate::keys::KEY_HEADER;
use crate::problem::{ProblemKind, ProblemView};
use crate::words;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Martlet",
        description = "The HTTP API of a Martlet node.\n\nErrors are problem details (RFC 9457). \
            Lists are returned in pages: `next` of a page is the `cursor` of the next one. Times \
            are RFC 3339 in UTC with six digits after the second, except where a name ends in \
            `_ms` or `_secs`. A write with an `Idempotency-Key` may be sent again within a day, \
            also after a restart where there are tables: it is executed once, and the first answer \
            is returned again, with `Idempotency-Replayed: true`. Values that are shown only once, \
            such as secrets, are then `null`, and are named in `Idempotency-Left-Out`: generate a \
            new one.\n\nRoutes of other systems (`http.compat`) have a tag for each system. Their \
            answers and errors are those of that system.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemView, crate::events::Format)),
    tags(
        (name = "health", description = "Probes and metrics, open to everybody"),
        (name = "node", description = "The node as a whole"),
        (name = "clients", description = "Sessions, and what they do"),
        (name = "messages", description = "Publishing, and retained messages"),
        (name = "integrations", description = "Messages for other systems, and those that were refused"),
        (name = "rules", description = "Rules about messages"),
        (name = "alarms", description = "Alarms of devices and of the node"),
        (name = "devices", description = "Devices, their credentials, groups and configuration"),
        (name = "telemetry", description = "Values that devices send"),
        (name = "commands", description = "Commands to devices and to groups of them"),
        (name = "firmware", description = "Firmware for devices, and rollouts of it"),
        (name = "people", description = "Users and teams"),
        (name = "permissions", description = "What devices of a type and users with a role may do"),
        (name = "security", description = "Keys, sessions of the panel, the first administrator"),
        (name = "documentation", description = "The documentation")
    )
)]
pub(crate) struct Base;

/// Adds the ways in which callers authenticate.
pub(crate) fn with_schemes(document: &mut utoipa::openapi::OpenApi, compat: &[CompatApi]) {
    let components = document.components.get_or_insert_default();
    let key = |value| SecurityScheme::ApiKey(value);
    let schemes = [
        (
            "key",
            key(ApiKey::Header(ApiKeyValue::with_description(
                KEY_HEADER,
                "An API key, or the secret of a device",
            ))),
        ),
        (
            "bearer",
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some("An API key, or the secret of a device"))
                    .build(),
            ),
        ),
        (
            "query",
            key(ApiKey::Query(ApiKeyValue::with_description(
                "api_key",
                "An API key, for callers that can send no header",
            ))),
        ),
        (
            "session",
            key(ApiKey::Cookie(ApiKeyValue::with_description(
                "martlet",
                "A session of the panel; over TLS the cookie is `__Host-martlet`",
            ))),
        ),
    ];
    for (name, scheme) in schemes {
        components.add_security_scheme(name, scheme);
    }
    if compat.contains(&CompatApi::IotFlow) {
        let admin = ApiKeyValue::with_description(
            "Authorization",
            "`admin KEY`, where KEY is an API key: on routes of IoTFlow alone",
        );
        components.add_security_scheme(ADMIN_SCHEME, key(ApiKey::Header(admin)));
    }
}

/// The way in which administrators of IoTFlow authenticate.
pub(crate) const ADMIN_SCHEME: &str = "admin";

/// Writes `{*topic}` of the router, which may have slashes in it, as `{topic}` for readers.
pub(crate) fn with_plain_paths(document: &mut utoipa::openapi::OpenApi) {
    let all = std::mem::take(&mut document.paths.paths);
    let plain = all
        .into_iter()
        .map(|(path, item)| (path.replace("{*", "{"), item));
    document.paths.paths = plain.collect();
}

/// Lists the scopes that keys may be given: the tables keep them as words.
pub(crate) fn with_scopes(document: &mut utoipa::openapi::OpenApi) {
    let components = document.components.get_or_insert_default();
    for name in ["NewApiKey", "ApiKeyChange"] {
        if let Some(RefOr::T(Schema::Object(schema))) = components.schemas.get_mut(name) {
            schema
                .properties
                .insert("scopes".to_owned(), words::scopes().into());
        }
    }
}

/// Beginning of native paths, but for probes and metrics.
const NATIVE: &str = "/api/v1";

/// A body of a native `POST` whose members may all be left out may be left out itself.
pub(crate) fn with_optional_bodies(document: &mut utoipa::openapi::OpenApi) {
    const SCHEMAS: &str = "#/components/schemas/";
    let schemas = document.components.as_ref().map(|all| &all.schemas);
    let needs_nothing = |schema: &RefOr<Schema>| {
        let named = match schema {
            RefOr::T(schema) => Some(schema),
            RefOr::Ref(named) => {
                let name = named.ref_location.strip_prefix(SCHEMAS);
                match name.and_then(|name| schemas?.get(name)) {
                    Some(RefOr::T(schema)) => Some(schema),
                    _ => None,
                }
            }
        };
        matches!(named, Some(Schema::Object(object)) if object.required.is_empty())
    };
    let paths = document.paths.paths.iter_mut();
    for (_, item) in paths.filter(|(path, _)| path.starts_with(NATIVE)) {
        let body = item
            .post
            .as_mut()
            .and_then(|post| post.request_body.as_mut());
        let Some(RefOr::T(body)) = body else {
            continue;
        };
        let mut contents = body.content.values();
        let is_optional = contents.all(|content| match content {
            RefOr::T(content) => content.schema.as_ref().is_some_and(needs_nothing),
            RefOr::Ref(_) => false,
        });
        if is_optional {
            body.required = Some(Required::False);
        }
    }
}

/// Adds the access rule and the possible errors to every operation of a path.
pub(crate) fn declare(path: &str, item: &mut PathItem, access: Access) {
    for (method, operation) in operations(item) {
        operation.operation_id = Some(id_of(method, path));
        let is_write = method != "get";
        let kinds = kinds_of(operation, access, is_write);
        declare_access(operation, access, is_write);
        declare_problems(operation, kinds);
    }
}

/// Declares a path of another system likewise. All its errors are `error`; none: problem details.
/// The answer to a request that is sent again has an error as problem details, too.
pub(crate) fn declare_of_system(
    path: &str,
    item: &mut PathItem,
    access: Access,
    error: Option<Response>,
) {
    let Some(error) = error else {
        return declare(path, item, access);
    };
    for (method, operation) in operations(item) {
        operation.operation_id = Some(id_of(method, path));
        let is_write = method != "get";
        declare_access(operation, access, is_write);
        let mut error = ResponseBuilder::from(error.clone());
        if is_write && access != Access::Open {
            error = error.content(PROBLEM_TYPE, problem_content());
        }
        let all = &mut operation.responses.responses;
        all.insert("default".to_owned(), error.build().into());
    }
}

/// Gives every operation of a path this tag alone, and an id that begins with it: paths of other
/// systems differ from native ones by `/api/v1` alone.
pub(crate) fn tag(item: &mut PathItem, tag: &str) {
    let prefix = tag.to_lowercase().replace([' ', '-'], "_");
    for (_, operation) in operations(item) {
        operation.tags = Some(vec![tag.to_owned()]);
        if let Some(id) = &mut operation.operation_id {
            id.insert_str(0, &format!("{prefix}_"));
        }
    }
}

/// Adds a way in which callers authenticate to every operation of a path that is not open.
pub(crate) fn accept(item: &mut PathItem, scheme: &str) {
    for (_, operation) in operations(item) {
        if let Some(security) = operation.security.as_mut().filter(|all| !all.is_empty()) {
            security.push(requirement(scheme));
        }
    }
}

/// An error of another system: as JSON an object with these members, else a text.
pub(crate) fn error_of(members: &[&str], content_types: &[&str]) -> Response {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let mut response = ResponseBuilder::new().description("An error, in the form of the system");
    for content_type in content_types {
        let schema = match *content_type {
            "application/json" => members.iter().fold(ObjectBuilder::new(), |object, member| {
                object.property(*member, text()).required(*member)
            }),
            _ => text(),
        };
        let content = ContentBuilder::new().schema(Some(schema)).build();
        response = response.content(*content_type, content);
    }
    response.build()
}

/// The operations of a path, each with its method.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn requirement(scheme: &str) -> SecurityRequirement {
    SecurityRequirement::new(scheme, Vec::<String>::new())
}

/// Makes the id that programs generated from the document call an operation by: `get_acl_explain`.
fn id_of(method: &str, path: &str) -> String {
    let path = path.strip_prefix(NATIVE).unwrap_or(path);
    let words = path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let mut words = words.filter(|word| !word.is_empty()).collect::<Vec<_>>();
    if words.is_empty() {
        words.push("root");
    }
    format!("{method}_{}", words.join("_"))
}

/// Kinds of the problems that an operation may answer with.
fn kinds_of(operation: &Operation, access: Access, is_write: bool) -> Vec<ProblemKind> {
    use ProblemKind::{
        BadRequest, Conflict, Forbidden, HeadersTooLarge, Invalid, Misdirected, RateLimited,
        Timeout, TooLarge, Unauthenticated, Unavailable, UnsupportedMediaType, UriTooLong,
    };
    let mut kinds = vec![BadRequest, Timeout, TooLarge, UriTooLong, Misdirected];
    kinds.extend([RateLimited, HeadersTooLarge, Unavailable]);
    if is_write {
        kinds.extend([Forbidden, Conflict, Invalid]);
    }
    if operation.request_body.is_some() {
        kinds.extend([UnsupportedMediaType, Invalid, Unauthenticated]);
    }
    if access != Access::Open {
        kinds.extend([Unauthenticated, Forbidden]);
    }
    kinds
}

/// Adds the access rule, and the header with which a write may be sent again.
fn declare_access(operation: &mut Operation, access: Access, is_write: bool) {
    let schemes: &[&str] = match access {
        Access::Open => &[],
        Access::OfDevice => &["key", "bearer"],
        _ => &["key", "bearer", "query", "session"],
    };
    let mut security: Vec<_> = schemes.iter().map(|name| requirement(name)).collect();
    if let Access::ScopedOrLocal(_) = access {
        security.push(SecurityRequirement::default());
    }
    operation.security = Some(security);
    // Without authentication there is no caller whose keys these are.
    if is_write && access != Access::Open {
        let parameters = operation.parameters.get_or_insert_default();
        parameters.push(idempotency_key().into());
    }
    let (scope, rule) = match access {
        Access::Open | Access::Known => return,
        Access::OfDevice => (None, "For a device, with its secret as the key.".to_owned()),
        Access::Scoped(scope) | Access::ScopedOrOfDevice(scope) => {
            (Some(scope), format!("Scope: `{scope}`."))
        }
        Access::ScopedOrLocal(scope) => {
            let rule = format!("Scope: `{scope}`; none on the machine of the node.");
            (Some(scope), rule)
        }
        Access::ScopedOrOfTeam(scope, of_team) => {
            let rule = format!("Scope: `{scope}`. Of who sees one team only: `{of_team}`.");
            (Some(scope), rule)
        }
    };
    if let Some(scope) = scope {
        let more = ExtensionsBuilder::new()
            .add("x-scope", scope.name())
            .build();
        operation.extensions.get_or_insert_default().merge(more);
    }
    let description = operation.description.get_or_insert_default();
    if !description.is_empty() {
        description.push_str("\n\n");
    }
    description.push_str(&rule);
}

/// Adds the errors: problem details.
fn declare_problems(operation: &mut Operation, kinds: Vec<ProblemKind>) {
    let all = &mut operation.responses.responses;
    // The errors that a route declares are problems too.
    for (status, response) in all.iter_mut() {
        if let RefOr::T(response) = response
            && status.starts_with('4')
            && response.content.is_empty()
        {
            *response = match problem(&response.description) {
                RefOr::T(problem) => problem,
                RefOr::Ref(_) => continue,
            };
        }
    }
    let is_of_telemetry = operation
        .tags
        .as_ref()
        .is_some_and(|tags| tags.iter().any(|tag| tag == TELEMETRY));
    if is_of_telemetry {
        let off = "The node stores no telemetry: `telemetry.enabled`";
        all.entry("409".to_owned()).or_insert_with(|| problem(off));
    }
    for kind in kinds {
        let status = kind.status().as_u16().to_string();
        all.entry(status).or_insert_with(|| problem(kind.what()));
    }
    let any = "Any other error, as problem details (RFC 9457)";
    all.entry("default".to_owned())
        .or_insert_with(|| problem(any));
}

/// Tag of the routes that need telemetry to be on.
const TELEMETRY: &str = "telemetry";

/// The header with which a write may be sent again.
fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(idempotency::KEY_MAX));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Made up by the caller for this one request: sent again with the same key, it is done \
             once, and has the same answer. With another request it is refused (422).",
        ))
        .schema(Some(schema))
        .build()
}

/// Content-Type of problem details.
const PROBLEM_TYPE: &str = "application/problem+json";

fn problem(what: &str) -> RefOr<Response> {
    ResponseBuilder::new()
        .description(what)
        .content(PROBLEM_TYPE, problem_content())
        .build()
        .into()
}

fn problem_content() -> Content {
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build()
}
