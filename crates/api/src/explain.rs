//! Whether a client may do something, and what decides it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use martlet_broker::Actions;
use martlet_control::Control;
use martlet_control::explain::{Explained, Question};
use serde::Deserialize;

use crate::problem::Problem;

/// Who, and what.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    /// User name; without it, a client that has none.
    user: Option<String>,
    /// Client Identifier; without it, the user name.
    client_id: Option<String>,
    /// `publish`, `subscribe` or `receive`.
    action: String,
    /// Topic Name; a Topic Filter where it subscribes.
    topic: String,
}

pub(crate) async fn explain(
    State(control): State<Arc<Control>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Explained>, Problem> {
    let action = Actions::from_name(&asked.action).ok_or_else(|| {
        let why = format!("{:?} is no action", asked.action);
        Problem::bad_request(format!("{why}: expected publish, subscribe or receive"))
    })?;
    let question = Question {
        user: asked.user,
        client_id: asked.client_id,
        action,
        topic: asked.topic,
    };
    question.check().map_err(Problem::bad_request)?;
    Ok(Json(control.explain(&question).await?))
}
