//! The first administrator: made with the link that the first start prints.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use martlet_control::directory::FirstAdministrator;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::extract::JsonBody;
use crate::guard::Asker;
use crate::problem::{Problem, ProblemKind};
use crate::registry::users::check_password;
use crate::secret::{are_equal, digest_of, random_text};

/// Name of the warning that the node has no administrator yet.
pub const UNCLAIMED: &str = "unclaimed";

/// How long the link is good for.
const VALID: Duration = Duration::from_secs(60 * 60);

/// The link's token, as far as the node knows it.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    made: Mutex<Option<([u8; 32], Instant)>>,
}

impl Setup {
    /// A new token; one that was made before is not good any more.
    pub(crate) fn make(&self) -> Option<String> {
        let token = random_text()?;
        *self.made() = Some((digest_of(token.as_bytes()), Instant::now()));
        Some(token)
    }

    fn is_good(&self, token: &str, now: Instant) -> bool {
        let made = *self.made();
        made.is_some_and(|(digest, at)| {
            are_equal(&digest, &digest_of(token.as_bytes()))
                && now.saturating_duration_since(at) < VALID
        })
    }

    fn use_up(&self) {
        *self.made() = None;
    }

    fn made(&self) -> MutexGuard<'_, Option<([u8; 32], Instant)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who the first administrator is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetupBody {
    /// What stands after `#` in the link that the node printed.
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
    /// What is different from now on.
    note: &'static str,
}

/// What the first user changes, as the page says before it.
const NOTE: &str = "From now on the API and MQTT ask for credentials: clients without them \
                    are refused, and those that are connected so are disconnected, unless \
                    mqtt.allow_anonymous permits them. Add devices and users for them.";

/// Make the first administrator
///
/// By the token of the link that the node printed when it started without one. It is valid once,
/// for an hour, and until the node has an administrator, such as an API key. From the first user
/// on, clients of MQTT need credentials, unless `mqtt.allow_anonymous` accepts them without.
#[utoipa::path(post, path = "/api/v1/setup", tag = "security", request_body = SetupBody,
    responses((status = 201, description = "They are there", body = SetupDone)))]
pub(crate) async fn make(
    State(api): State<Api>,
    JsonBody(body): JsonBody<SetupBody>,
) -> Result<(StatusCode, Extension<Asker>, axum::Json<SetupDone>), Problem> {
    let is_good = api.setup.is_good(&body.token, Instant::now());
    // There may be a key by now, which comes from the command line or the configuration.
    if !api.settings.keys.is_empty() || api.directory.is_claimed().await? {
        api.setup.use_up();
        return Err(Problem::conflict(
            "the node has or had an administrator: the link is no longer valid; martlet user add \
             NAME --api-role administrator, on the node's machine, adds another administrator"
                .to_owned(),
        ));
    }
    if !is_good {
        let detail = "the token is not valid, or not any more: start the node again for another";
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    check_password(&body.password)?;
    let made = api
        .directory
        .make_first_administrator(&body.name, &body.password);
    match made.await? {
        FirstAdministrator::Made(account) => {
            api.setup.use_up();
            api.control.health.withdraw(UNCLAIMED);
            let role = account.role.name();
            let name = account.name;
            let asker = Extension(Asker(format!("user:{name}")));
            let done = axum::Json(SetupDone {
                name,
                role,
                note: NOTE,
            });
            Ok((StatusCode::CREATED, asker, done))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_an_hour_and_until_it_is_used() {
        let setup = Setup::default();
        let now = Instant::now();
        assert!(!setup.is_good("", now));
        let token = setup.make().unwrap();
        assert!(setup.is_good(&token, now));
        assert!(!setup.is_good(&token, now + VALID + Duration::from_secs(1)));
        let newer = setup.make().unwrap();
        assert!(!setup.is_good(&token, now) && setup.is_good(&newer, now));
        setup.use_up();
        assert!(!setup.is_good(&newer, now));
    }
}
