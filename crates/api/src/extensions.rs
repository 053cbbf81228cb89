//! Extensions of requests and answers, by which the layers around a route share facts.

use axum::http::{HeaderMap, HeaderName};
use martlet_registry::Device;

use crate::secret::random_text;

/// The header that has the number of a request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest number of a request that is taken from its sender.
const REQUEST_ID_MAX: usize = 64;

/// The number of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    /// That of the sender, if it can stand in a log, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok());
        let is_sane = |id: &&str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(is_plain)
        };
        match given.filter(is_sane) {
            Some(given) => Self(given.to_owned()),
            None => {
                let mut id = random_text().unwrap_or_default();
                id.truncate(22);
                Self(id)
            }
        }
    }
}

/// The device whose secret a request has shown.
#[derive(Clone, Debug)]
pub(crate) struct OwnDevice(pub(crate) Box<Device>);

/// The name of the caller in log and audit log.
#[derive(Clone, Debug)]
pub(crate) struct PrincipalName(pub(crate) String);

/// Details of a request for the audit log: a JSON object about what the request was about.
#[derive(Clone, Debug)]
pub(crate) struct About(pub(crate) serde_json::Value);

/// The team, by id, whose people see in the audit log what a request has done, though the caller is
/// of another team or of none.
#[derive(Clone, Debug)]
pub(crate) struct AboutTeam(pub(crate) String);

/// Marks the answer of a request that has changed nothing, so that the audit log has no entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unchanged;
