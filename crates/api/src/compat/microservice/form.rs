//! Common parts of requests to these routes and of their answers.

use axum::Json;
use serde_json::{Value, json};

use crate::problem::Problem;

/// Default number of items of a list.
const LIMIT_DEFAULT: u32 = 100;

/// `limit` of a list, as the microservice reads it.
///
/// # Errors
/// It is no whole number from 1 on.
pub(super) fn limit(text: Option<&str>) -> Result<u32, Problem> {
    match text {
        None | Some("") => Ok(LIMIT_DEFAULT),
        Some(text) => match text.parse() {
            Ok(limit @ 1..) => Ok(limit),
            _ => Err(Problem::bad_request("Invalid limit parameter")),
        },
    }
}

/// The answer to what was done.
pub(super) fn done(message: String) -> Json<Value> {
    Json(json!({ "status": "success", "message": message }))
}
