//! API keys of the configuration.

use axum::http::{HeaderMap, Uri, header};
use martlet_broker::TenantId;
use martlet_control::principal::{Principal, PrincipalKind, Scopes};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::secret::{are_equal, digest_of};

/// SHA-256 of a key: keys are long and random, so nothing slower is needed.
type KeyDigest = [u8; 32];

/// The header that a key may be in.
pub(crate) const KEY_HEADER: &str = "x-api-key";

/// The parameter of the query that a key may be in; no handler's.
pub(crate) const KEY_PARAMETER: &str = "api_key";

/// A key, as far as the node knows it.
#[derive(Clone, Debug)]
pub struct ApiKey {
    name: String,
    digest: KeyDigest,
    scopes: Scopes,
}

impl ApiKey {
    /// With what its holder may do.
    pub fn new(name: String, key: &str, scopes: Scopes) -> Self {
        Self {
            name,
            digest: digest_of(key.as_bytes()),
            scopes,
        }
    }

    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rights of its holder.
    pub(crate) fn scopes(&self) -> Scopes {
        self.scopes
    }

    fn principal(&self) -> Principal {
        Principal {
            kind: PrincipalKind::ApiKey {
                id: self.name.clone(),
                name: self.name.clone(),
            },
            scopes: self.scopes,
            team: None,
            tenant: TenantId::default(),
        }
    }
}

/// Finds the principal of a key. All keys are compared, each in a time that does not show where it
/// differs.
pub(crate) fn holder_of(keys: &[ApiKey], digest: &KeyDigest) -> Option<Principal> {
    let mut found = None;
    for key in keys {
        if are_equal(&key.digest, digest) {
            found = Some(key.principal());
        }
    }
    found
}

/// The key that a request shows: in `X-API-Key`, in the query, or as a bearer.
pub(crate) fn shown(headers: &HeaderMap, uri: &Uri) -> Option<Vec<u8>> {
    if let Some(value) = headers.get(KEY_HEADER) {
        return Some(value.as_bytes().to_vec());
    }
    let query = uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    if let Some((_, key)) = pairs.find(|(name, _)| name == KEY_PARAMETER) {
        return Some(key.as_bytes().to_vec());
    }
    as_bearer(headers)
}

/// The key that a request shows in `X-API-Key`, or as a bearer.
pub(crate) fn shown_by_header(headers: &HeaderMap) -> Option<Vec<u8>> {
    match headers.get(KEY_HEADER) {
        Some(value) => Some(value.as_bytes().to_vec()),
        None => as_bearer(headers),
    }
}

fn as_bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii().to_vec())
}

/// The key that a request shows as `Authorization: admin KEY`, as clients of one system do.
pub(crate) fn shown_as_admin(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("admin ".len())?;
    scheme
        .eq_ignore_ascii_case(b"admin ")
        .then(|| key.trim_ascii().to_vec())
}

/// Which of a short list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
}

impl PageParams {
    /// As pages are asked for.
    pub(crate) fn paging(&self) -> (Option<usize>, Option<&str>, Option<bool>) {
        (self.limit, self.cursor.as_deref(), self.total)
    }
}
