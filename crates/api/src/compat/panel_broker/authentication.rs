//! `POST /api/mqtt/auth`, where another broker checks the credentials of a client, as at the panel.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderValue;
use martlet_control::authentication::Elsewhere;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::api::Api;
use crate::compat::body::Members;
use crate::extensions::Unchanged;
use crate::problem::{Problem, ProblemKind};

/// Members of a request, each with what messages call it.
const MEMBERS: [(&str, &str); 3] = [
    ("client_id", "client id"),
    ("api_key", "api key"),
    ("api_secret", "api secret"),
];

/// Credentials of a client of another broker.
#[derive(Debug, ToSchema)]
#[schema(as = panel::Credentials)]
#[expect(
    dead_code,
    reason = "it stands in the document; each member has an error of its own"
)]
pub(super) struct Credentials {
    /// Client Identifier.
    client_id: String,
    /// User Name.
    api_key: String,
    /// Password.
    api_secret: String,
}

/// Numbers of a client that is accepted; 0: there is none.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = panel::Client)]
pub(super) struct Numbers {
    /// Number of its team.
    team_id: i64,
    /// Number of its token.
    api_token_id: i64,
    /// Number of the device.
    mqtt_client_id: i64,
}

/// Check the credentials of a client of another broker
#[utoipa::path(post, path = "/api/mqtt/auth",
    request_body = Credentials,
    responses((status = 200, description = "They are valid", body = Numbers)))]
pub(super) async fn authenticate(
    State(api): State<Api>,
    Members(members): Members,
) -> Result<(Extension<Unchanged>, Json<Numbers>), Problem> {
    let [client_id, key, secret] = texts_of(&members)?;
    let found = match api.control.authentication_chain() {
        Some(chain) => chain.check_elsewhere(client_id, key, secret).await,
        // No credentials are required here, so none are valid.
        None => Elsewhere::Refused,
    };
    match found {
        Elsewhere::Accepted(numbers) => {
            let numbers = Numbers {
                team_id: numbers.team,
                api_token_id: numbers.token,
                mqtt_client_id: numbers.device,
            };
            Ok((Extension(Unchanged), Json(numbers)))
        }
        Elsewhere::Refused => Err(Problem::new(
            ProblemKind::Unauthenticated,
            "Credentials Unauthorized",
        )),
        Elsewhere::Failed(why) => {
            tracing::warn!(why, "a client of another broker could not be checked");
            let detail = "the credentials cannot be checked now";
            Err(Problem::unavailable(detail.to_owned()))
        }
    }
}

/// The texts of a request, in the order of [`MEMBERS`].
fn texts_of(members: &Map<String, Value>) -> Result<[&str; 3], Problem> {
    let mut errors = Vec::new();
    let texts = MEMBERS.map(|(name, called)| match members.get(name) {
        Some(Value::String(text)) if !text.is_empty() => &**text,
        None | Some(Value::Null | Value::String(_)) => {
            errors.push((name, format!("The {called} field is required.")));
            ""
        }
        Some(_) => {
            errors.push((name, format!("The {called} field must be a string.")));
            ""
        }
    });
    let Some((_, first)) = errors.first() else {
        return Ok(texts);
    };
    let message = match errors.len() - 1 {
        0 => first.clone(),
        1 => format!("{first} (and 1 more error)"),
        more => format!("{first} (and {more} more errors)"),
    };
    let of_members = errors.iter();
    let of_members = of_members.map(|(name, text)| ((*name).to_owned(), json!([text])));
    let of_members: Map<String, Value> = of_members.collect();
    let problem = Problem::new(ProblemKind::Invalid, message);
    Err(problem.with_member("errors", of_members))
}

/// An error in the form of the panel, with its Content-Type.
pub(in crate::compat) fn error_answer(problem: &Problem) -> (HeaderValue, String) {
    let mut body = Map::new();
    body.insert("message".to_owned(), problem.detail().into());
    for (name, value) in &problem.extra().members {
        body.insert((*name).to_owned(), value.clone());
    }
    let content_type = HeaderValue::from_static("application/json");
    (content_type, Value::Object(body).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(body: Value) -> Value {
        let Value::Object(members) = body else {
            panic!("an object");
        };
        let problem = texts_of(&members).unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::Invalid);
        serde_json::from_str(&error_answer(&problem).1).unwrap()
    }

    #[test]
    fn members_that_are_wrong_are_told_as_the_panel_does() {
        let body = json!({ "client_id": "c", "api_key": "", "api_secret": 7 });
        let expected = json!({
            "message": "The api key field is required. (and 1 more error)",
            "errors": {
                "api_key": ["The api key field is required."],
                "api_secret": ["The api secret field must be a string."],
            },
        });
        assert_eq!(error_of(body), expected);
        let none = error_of(json!({}));
        assert_eq!(
            none["message"],
            "The client id field is required. (and 2 more errors)"
        );
        assert_eq!(none["errors"].as_object().unwrap().len(), 3);
    }

    #[test]
    fn members_that_are_right_are_taken() {
        let body = json!({ "client_id": "c", "api_key": "k", "api_secret": "s", "more": 1 });
        let members = body.as_object().unwrap();
        assert_eq!(texts_of(members).unwrap(), ["c", "k", "s"]);
    }
}
