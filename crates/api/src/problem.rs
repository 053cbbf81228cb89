//! Errors as problem details (RFC 9457).

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use martlet_control::callers::CallersError;
use martlet_control::remedy::{Remedy, in_requests};
use martlet_control::{Control, ControlError};
use martlet_registry::{Remedies, Remedy as TableRemedy};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::connection::is_mqtt;
use crate::rate_limit::RateLimit;

/// Declares the closed list of problems: name, slug, status, title, what it means.
macro_rules! problems {
    ($( $name:ident $slug:literal $status:literal $title:literal $what:literal; )*) => {
        /// Kind of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemKind {
            $( #[doc = $what] $name, )*
        }

        impl ProblemKind {
            /// All there are.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            fn row(self) -> (&'static str, u16, &'static str, &'static str) {
                match self { $( Self::$name => ($slug, $status, $title, $what), )* }
            }
        }
    };
}

problems! {
    BadRequest "bad-request" 400 "Bad request" "The request cannot be understood.";
    Unauthenticated "unauthenticated" 401 "Not authenticated" "No credentials were sent, or they are not valid.";
    Forbidden "forbidden" 403 "Forbidden" "The caller may not do this.";
    NotFound "not-found" 404 "Not found" "No object has that path or name.";
    NoSubscriber "no-subscriber" 404 "No subscriber" "No client is subscribed to the Topic Name, so none can answer the request.";
    MethodNotAllowed "method-not-allowed" 405 "Method not allowed" "The path exists, with other methods: see Allow.";
    Timeout "timeout" 408 "Request timeout" "The request did not arrive in time.";
    Conflict "conflict" 409 "Conflict" "The request conflicts with the current state.";
    PreconditionFailed "precondition-failed" 412 "Precondition failed" "The object has changed: If-Match or If-None-Match does not match.";
    TooLarge "too-large" 413 "Content too large" "The body is longer than the node accepts.";
    UriTooLong "uri-too-long" 414 "URI too long" "The path and query are longer than the node accepts.";
    UnsupportedMediaType "unsupported-media-type" 415 "Unsupported media type" "The body must be application/json.";
    RangeNotSatisfiable "range-not-satisfiable" 416 "Range not satisfiable" "The file has no byte in the requested range.";
    Misdirected "misdirected" 421 "Misdirected request" "The Host of the request is not one of this node.";
    Invalid "invalid" 422 "Invalid content" "The body is readable, but a value is not valid.";
    PreconditionRequired "precondition-required" 428 "Precondition required" "Send If-Match with the version that you change, so that no change of another caller is lost.";
    RateLimited "rate-limited" 429 "Too many requests" "Too many requests; Retry-After is the time to wait before the next one.";
    HeadersTooLarge "headers-too-large" 431 "Request header fields too large" "The header is longer than the node accepts.";
    Internal "internal" 500 "Internal error" "The node is at fault; its log has the request's number.";
    Unavailable "unavailable" 503 "Unavailable" "It cannot be done now.";
    NoAnswer "no-answer" 504 "No answer in time" "An integration did not answer in time: it may do it later.";
    NoResponse "no-response" 504 "No response" "The request was published, and no client has answered it.";
}

impl ProblemKind {
    /// The last part of its type.
    pub fn slug(self) -> &'static str {
        self.row().0
    }

    /// The status it is answered with.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// In a sentence.
    pub fn what(self) -> &'static str {
        self.row().3
    }

    pub(crate) fn title(self) -> &'static str {
        self.row().2
    }

    /// The one that a bare status stands for.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let mut all = Self::ALL.iter().copied();
        let found = all.find(|kind| kind.status() == status);
        found.unwrap_or(match status.is_server_error() {
            true => Self::Internal,
            false => Self::BadRequest,
        })
    }
}

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where the fault is in the body, as a JSON Pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/password")]
    pub pointer: Option<String>,
    /// Name of the parameter of the query or the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "limit")]
    pub parameter: Option<String>,
    /// Error in the field.
    pub detail: String,
}

/// An error as problem details (RFC 9457), `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemView {
    /// Which kind of problem, as a path of this node that explains it.
    #[serde(rename = "type")]
    #[schema(example = "/problems/forbidden")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// Status of the answer.
    status: u16,
    /// Description of what happened, and what to do about it.
    detail: String,
    /// Description of what happened, if `detail` also has the field at fault or what to do about
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Remedies, the best first; `detail` has them in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remedies: Vec<Remedy>,
    /// Fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// Number of the request, as in `X-Request-Id` and in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// Parts that forms of other systems have beside kind and text of a problem.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// Short text about what is wrong; none: that of its kind.
    pub(crate) heading: Option<&'static str>,
    /// Members of the body.
    pub(crate) members: Vec<(&'static str, Value)>,
}

/// Parts of the detail of a problem.
#[derive(Clone, Debug, Default)]
struct DetailParts {
    /// Description of what happened, without the field at fault and without remedies.
    reason: String,
    /// Remedies, the best first.
    remedies: Vec<TableRemedy>,
}

/// An answer that is an error.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    /// The parts of the detail, if it has more than what happened.
    parts: Option<Box<DetailParts>>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Parts that forms of other systems have beside the rest.
    extra: Box<Extra>,
    /// The journal or another list has recorded it.
    is_recorded: bool,
    /// The limit of requests that refused the request.
    rate_limit: Option<RateLimit>,
}

impl Problem {
    /// A problem of this kind. `detail` is what happened.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            parts: None,
            errors: Vec::new(),
            headers: Vec::new(),
            extra: Box::default(),
            is_recorded: false,
            rate_limit: None,
        }
    }

    /// Marks it as recorded by another list: it needs no event.
    #[must_use]
    pub(crate) fn recorded(mut self) -> Self {
        self.is_recorded = true;
        self
    }

    /// Another list has recorded it.
    pub(crate) fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// With the limit of requests that refused the request.
    #[must_use]
    pub(crate) fn by_rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// The limit of requests that refused the request.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit
    }

    /// A problem of this kind, for an error that may know what helps.
    pub(crate) fn of_error(kind: ProblemKind, error: &dyn Remedies) -> Self {
        Self::new(kind, in_requests(error)).with_parts(error.to_string(), error.remedies())
    }

    /// A parameter of the query is at fault, for an error that may know what helps.
    pub(crate) fn of_query_error(name: &str, error: &dyn Remedies) -> Self {
        let problem = Self::of_query(name, in_requests(error));
        problem.with_parts(error.to_string(), error.remedies())
    }

    /// With what its detail consists of.
    fn with_parts(mut self, reason: String, remedies: Vec<TableRemedy>) -> Self {
        if reason != self.detail {
            self.parts = Some(Box::new(DetailParts { reason, remedies }));
        }
        self
    }

    /// With a heading of its own, for forms of other systems that have one.
    #[must_use]
    pub(crate) fn with_heading(mut self, heading: &'static str) -> Self {
        self.extra.heading = Some(heading);
        self
    }

    /// With a member of its own, for forms of other systems that have such.
    #[must_use]
    pub(crate) fn with_member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.extra.members.push((name, value.into()));
        self
    }

    /// Parts that forms of other systems have beside the rest.
    pub(crate) fn extra(&self) -> &Extra {
        &self.extra
    }

    /// A caller that sees one team only has named another team.
    pub(crate) fn sees_alone(team: &str) -> Self {
        let detail = format!("the caller sees only the team {team}");
        Self::new(ProblemKind::Forbidden, detail)
    }

    /// A parameter of the query is at fault.
    pub fn of_query(name: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let problem = Self::bad_request(format!("the query: {name}: {detail}"));
        problem
            .with_parts(detail.clone(), Vec::new())
            .of_parameter(name, detail)
    }

    /// A field of the body is at fault: where it is, as a JSON Pointer; empty is the body itself.
    pub fn of_body(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let text = match pointer {
            "" => format!("the body: {detail}"),
            pointer => format!("the body: {pointer}: {detail}"),
        };
        let problem = Self::new(ProblemKind::Invalid, text);
        problem
            .with_parts(detail.clone(), Vec::new())
            .of_field(pointer, detail)
    }

    /// Its detail for one of many objects of a body: the member that is at fault is named alone.
    pub(crate) fn detail_of_one(&self) -> String {
        match &*self.errors {
            [error] => match error.pointer.as_deref().and_then(|at| at.strip_prefix('/')) {
                Some(member) => format!("{member}: {}", error.detail),
                None => self.detail.clone(),
            },
            _ => self.detail.clone(),
        }
    }

    /// A parameter of the query or path is at fault.
    #[must_use]
    pub fn of_parameter(mut self, name: &str, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            pointer: None,
            parameter: Some(name.to_owned()),
            detail: detail.into(),
        });
        self
    }

    /// A field of the body is at fault.
    #[must_use]
    pub fn of_field(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            pointer: Some(pointer.into()),
            parameter: None,
            detail: detail.into(),
        });
        self
    }

    /// With a header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Kind of the problem.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Description of what is wrong.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Names the keys in its text by the variables of other programs that set them.
    pub(crate) fn name_keys(&mut self, control: &Control) {
        self.detail = control.with_variables(&self.detail).into_owned();
    }

    /// The request conflicts with the current state.
    pub(crate) fn conflict(detail: String) -> Self {
        Self::new(ProblemKind::Conflict, detail)
    }

    /// Problem with a request for something that cannot be.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::BadRequest, detail)
    }

    /// Problem with something that cannot be done now.
    pub(crate) fn unavailable(detail: String) -> Self {
        Self::new(ProblemKind::Unavailable, detail)
    }

    /// As it is sent. `node` has the options by which commands find the node.
    pub(crate) fn body(&self, request_id: Option<&str>, node: &str) -> String {
        let parts = self.parts.as_deref();
        let remedies = parts.map_or(&[][..], |parts| parts.remedies.as_slice());
        let view = ProblemView {
            kind: format!("/problems/{}", self.kind.slug()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            reason: parts.map(|parts| parts.reason.clone()),
            remedies: remedies
                .iter()
                .map(|one| Remedy::of_tables(one, node))
                .collect(),
            errors: self.errors.clone(),
            request_id: request_id.map(str::to_owned),
        };
        // Text and numbers alone: that cannot fail.
        serde_json::to_string(&view).unwrap_or_default()
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        Self::new(ProblemKind::Unavailable, error.to_string())
    }
}

impl From<CallersError> for Problem {
    fn from(error: CallersError) -> Self {
        let kind = match error {
            // That is no fault, and asking again does not help.
            CallersError::None => ProblemKind::Conflict,
            CallersError::Unavailable(_) => ProblemKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

/// Content type of problems.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, CONTENT_TYPE)];
        let mut answer = (self.kind.status(), content_type, self.body(None, "")).into_response();
        for (name, value) in &self.headers {
            answer.headers_mut().append(name.clone(), value.clone());
        }
        // The frame around all routes adds the request's number.
        answer.extensions_mut().insert(self);
        answer
    }
}

/// No such route. MQTT over WebSocket has a port of its own.
pub(crate) async fn not_found(headers: HeaderMap) -> Problem {
    if is_mqtt(&headers) {
        let detail = "this port is for HTTP: an MQTT client with WebSocket connects to a ws \
                      listener, such as port 9001; martlet status lists them";
        return Problem::new(ProblemKind::NotFound, detail);
    }
    nothing_there()
}

pub(crate) fn nothing_there() -> Problem {
    let detail = "unknown path; /docs/ lists the paths";
    Problem::new(ProblemKind::NotFound, detail)
}
