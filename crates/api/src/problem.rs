//! Errors as problem details (RFC 9457).

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use martlet_control::ControlError;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    /// What was asked for conflicts with what is there.
    pub(crate) fn conflict(detail: String) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            detail,
        }
    }

    /// What was asked for cannot be.
    pub(crate) fn bad_request(detail: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            detail,
        }
    }

    /// It cannot be done now.
    pub(crate) fn unavailable(detail: String) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail,
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: error.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, content_type, body.to_string()).into_response()
    }
}

/// No such route.
pub(crate) async fn not_found(uri: Uri) -> Problem {
    Problem {
        status: StatusCode::NOT_FOUND,
        detail: format!("there is no {}; there are {PATHS}", uri.path()),
    }
}

/// Paths that every door has.
const PATHS: &str = "/health/live, /health/ready and /metrics";
