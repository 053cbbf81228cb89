//! The first administrator: made with the link that the first start prints.

pub(crate) mod token;

use std::time::Instant;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use martlet_control::callers::FirstAdministrator;
use martlet_control::use_cases::NewPassword;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::extensions::PrincipalName;
use crate::extract::JsonBody;
use crate::problem::{Problem, ProblemKind};
use token::UNCLAIMED;

/// The first administrator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetupBody {
    /// Text after `#` in the link that the node printed.
    #[schema(max_length = 1024)]
    token: String,
    /// User name.
    #[schema(example = "ada", max_length = 1024)]
    name: String,
    /// Their password.
    #[schema(format = Password, min_length = 10, max_length = 1024)]
    password: String,
}

/// The first administrator.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetupDone {
    /// User name.
    name: String,
    /// `administrator`.
    role: &'static str,
    /// Note about what is different from now on.
    note: &'static str,
}

/// Note about what the first user changes, as the page shows before.
const NOTE: &str = "From now on the API and MQTT require credentials: clients without credentials \
                    are refused, and connected ones are disconnected, unless mqtt.allow_anonymous \
                    permits them. Add devices and users for them.";

/// Make the first administrator
///
/// The request shows the token of the link that the node printed when it started without an
/// administrator. The token is valid once, for an hour, and until the node has an administrator,
/// such as an API key. From the first user on, clients of MQTT need credentials, unless
/// `mqtt.allow_anonymous` accepts them without.
#[utoipa::path(post, path = "/api/v1/setup", tag = "security", request_body = SetupBody,
    responses((status = 201, description = "Added", body = SetupDone)))]
pub(crate) async fn make(
    State(api): State<Api>,
    JsonBody(body): JsonBody<SetupBody>,
) -> Result<(StatusCode, Extension<PrincipalName>, axum::Json<SetupDone>), Problem> {
    let is_good = api.setup.is_good(&body.token, Instant::now());
    // There may be a key by now, which comes from the command line or the configuration.
    if !api.settings.keys.is_empty() || api.callers.is_claimed().await? {
        api.setup.use_up();
        return Err(Problem::conflict(
            "the node has or had an administrator: the link is no longer valid; martlet user add \
             NAME --api-role administrator, on the node's machine, adds another administrator"
                .to_owned(),
        ));
    }
    if !is_good {
        let detail = "the token is invalid or has expired: start the node again for another";
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    NewPassword::chosen(body.password.clone())?;
    let created = api
        .callers
        .make_first_administrator(&body.name, &body.password);
    match created.await? {
        FirstAdministrator::Made(account) => {
            api.setup.use_up();
            api.control.health.withdraw(UNCLAIMED);
            let role = account.role.name();
            let name = account.name;
            let principal_name = Extension(PrincipalName(format!("user:{name}")));
            let done = axum::Json(SetupDone {
                name,
                role,
                note: NOTE,
            });
            Ok((StatusCode::CREATED, principal_name, done))
        }
        FirstAdministrator::NotFirst => {
            api.setup.use_up();
            Err(Problem::conflict(
                "there is an administrator already".to_owned(),
            ))
        }
        FirstAdministrator::Refused(why) => Err(Problem::new(ProblemKind::Invalid, why)),
    }
}
