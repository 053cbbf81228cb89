//! What the kinds of problems mean, for people who follow the link of one.

use crate::extract::PathOf;
use crate::problem::{Problem, ProblemKind, ProblemView};

/// What a kind of problem means
#[utoipa::path(get, path = "/problems/{kind}", tag = "documentation",
    params(("kind" = String, Path, description = "The last part of a problem's `type`",
        example = "forbidden")),
    responses(
        (status = 200, description = "What it means", content_type = "text/plain", body = String),
        (status = 404, description = "There is no such kind", body = ProblemView,
            content_type = "application/problem+json")))]
pub(crate) async fn explain(PathOf(kind): PathOf<String>) -> Result<String, Problem> {
    let mut all = ProblemKind::ALL.iter();
    let found = all.find(|known| known.slug() == kind);
    let found = found
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such kind of problem"))?;
    let (status, title, what) = (found.status().as_u16(), found.title(), found.what());
    Ok(format!("{title} ({status})\n{what}\n"))
}
