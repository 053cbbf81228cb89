//! What is logged, which may be changed while the node runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use martlet_control::Control;
use martlet_control::logging::{Change, Levels, Logging};

use crate::extract::JsonBody;
use crate::problem::Problem;

/// Levels of the log
///
/// What is logged now: the level of everything, areas with a level of their own, clients of whom
/// everything is logged.
#[utoipa::path(get, path = "/api/v1/logs/levels", tag = "node",
    responses((status = 200, description = "What holds now", body = Levels)))]
pub(crate) async fn levels(State(control): State<Arc<Control>>) -> Result<Json<Levels>, Problem> {
    Ok(Json(logging(&control)?.levels()))
}

/// Change levels of the log
///
/// The level of everything; or of one area, for some minutes if they are named; or everything that
/// one client does.
#[utoipa::path(patch, path = "/api/v1/logs/levels", tag = "node", request_body = Change,
    responses((status = 200, description = "What holds now", body = Levels)))]
pub(crate) async fn change(
    State(control): State<Arc<Control>>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<Levels>, Problem> {
    let logging = logging(&control)?;
    logging
        .change(&change)
        .map(Json)
        .map_err(Problem::bad_request)
}

pub(crate) fn logging(control: &Control) -> Result<&Arc<Logging>, Problem> {
    let none = || Problem::unavailable("this node has no log".to_owned());
    control.logging().ok_or_else(none)
}
