//! Pages: the documentation of the API, and the first administrator's. Nothing on them is loaded
//! from another host.

use std::sync::Arc;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_swagger_ui::Config;

use crate::extract::PathOf;
use crate::problem::{Problem, ProblemKind, ProblemView, nothing_there};

/// Scripts and styles of this node alone. The documentation's program writes styles and pictures
/// into its own page.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'",
);

/// Files of Swagger UI that the page loads.
const FILES: [&str; 3] = [
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "favicon-32x32.png",
];

/// A page, or what a page loads.
pub(crate) fn page(content_type: &'static str, body: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, body).into_response()
}

/// `/docs`: relative links of the page need the slash.
pub(crate) async fn slash() -> Redirect {
    Redirect::permanent("/docs/")
}

/// `/`: leads browsers to the pages.
pub(crate) async fn root() -> Redirect {
    Redirect::temporary("/docs/")
}

/// `/docs/` and `/docs/index.html`.
pub(crate) async fn index() -> Response {
    page("text/html; charset=utf-8", include_str!("docs/index.html"))
}

/// Where a file is on other listeners.
pub(crate) async fn no_file() -> Problem {
    nothing_there()
}

/// Files that the pages load.
pub(crate) async fn file(PathOf(name): PathOf<String>) -> Result<Response, Problem> {
    match name.as_str() {
        "start.js" => {
            let script = include_str!("docs/start.js");
            return Ok(page("text/javascript; charset=utf-8", script));
        }
        name if FILES.contains(&name) => {}
        _ => return Err(nothing_there()),
    }
    let found = utoipa_swagger_ui::serve(&name, Arc::new(Config::default()));
    let Ok(Some(found)) = found else {
        return Err(nothing_there());
    };
    let content_type = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        _ => "image/png",
    };
    Ok(page(content_type, found.bytes.into_owned()))
}

/// `/setup`.
pub(crate) async fn setup() -> Response {
    page("text/html; charset=utf-8", include_str!("docs/setup.html"))
}

/// `/setup.js`.
pub(crate) async fn setup_script() -> Response {
    page(
        "text/javascript; charset=utf-8",
        include_str!("docs/setup.js"),
    )
}

/// Meaning of a kind of problem
#[utoipa::path(get, path = "/problems/{kind}", tag = "documentation",
    params(("kind" = String, Path, description = "The last part of a problem's `type`",
        example = "forbidden")),
    responses(
        (status = 200, description = "The meaning of the problem", content_type = "text/plain", body = String),
        (status = 404, description = "No such kind", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn explain(PathOf(kind): PathOf<String>) -> Result<String, Problem> {
    let mut all = ProblemKind::ALL.iter();
    let found = all.find(|known| known.slug() == kind);
    let found = found
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such kind of problem"))?;
    let (status, title, what) = (found.status().as_u16(), found.title(), found.what());
    Ok(format!("{title} ({status})\n{what}\n"))
}
