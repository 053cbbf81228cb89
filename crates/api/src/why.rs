//! Why a client does not work.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use martlet_control::Control;
use martlet_control::why::{Question, Verdict};
use serde::Deserialize;

use crate::problem::Problem;

/// About whom, and what.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    /// Client Identifier, device or user name.
    name: String,
    /// Topic Name.
    topic: Option<String>,
}

pub(crate) async fn why(
    State(control): State<Arc<Control>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Verdict>, Problem> {
    let Asked { name, topic } = asked;
    let question = Question { name, topic };
    question.check().map_err(Problem::bad_request)?;
    Ok(Json(control.why(&question).await?))
}
