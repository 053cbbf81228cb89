//! API keys of the configuration.

use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use martlet_control::directory::KeyDigest;
use martlet_control::principal::{Principal, PrincipalKind, Scopes};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::{Api, Settings};
use crate::extract::{KEY_PARAMETER, QueryOf};
use crate::page::{self, Page};
use crate::problem::Problem;
use crate::secret::{are_equal, digest_of};

/// The header that a key may be in.
pub(crate) const KEY_HEADER: &str = "x-api-key";

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

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn principal(&self) -> Principal {
        Principal {
            kind: PrincipalKind::ApiKey {
                id: self.name.clone(),
            },
            scopes: self.scopes,
            team: None,
        }
    }
}

impl Settings {
    /// Whose key it is. All are compared, each in a time that does not say where it differs.
    pub(crate) fn holder_of(&self, digest: &KeyDigest) -> Option<Principal> {
        let mut found = None;
        for key in &self.keys {
            if are_equal(&key.digest, digest) {
                found = Some(key.principal());
            }
        }
        found
    }
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
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii().to_vec())
}

/// An API key, without the key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    /// What it is called.
    #[schema(example = "deploy")]
    name: String,
    /// Where it is kept.
    #[schema(example = "configuration")]
    source: &'static str,
    /// What its holder may do.
    scopes: Vec<&'static str>,
}

/// Which keys.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// At most so many on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
}

/// API keys
///
/// Their names and what they permit; the keys themselves are shown to nobody.
#[utoipa::path(get, path = "/api/v1/keys", tag = "security", params(Wanted),
    responses((status = 200, description = "A page of them, by name", body = Page<KeyView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<axum::Json<Page<KeyView>>, Problem> {
    const LIST: &str = "keys";
    let limit = page::limit(wanted.limit)?;
    let after = wanted.cursor.as_deref();
    let after = after.map(|cursor| api.cursors().position(LIST, cursor));
    let after = after.transpose()?;
    let mut keys: Vec<&ApiKey> = api.settings.keys.iter().collect();
    keys.sort_by(|one, other| one.name.cmp(&other.name));
    let is_after = |key: &&&ApiKey| after.as_ref().is_none_or(|after| key.name > *after);
    let mut left = keys.iter().filter(is_after).peekable();
    let mut items = Vec::new();
    while items.len() < limit
        && let Some(key) = left.next()
    {
        items.push(KeyView {
            name: key.name.clone(),
            source: "configuration",
            scopes: key.scopes.names(),
        });
    }
    let last = items.last().filter(|_| left.peek().is_some());
    let next = last.map(|last: &KeyView| api.cursors().after(LIST, &last.name));
    let total = (wanted.total == Some(true)).then_some(keys.len() as u64);
    Ok(axum::Json(Page { items, next, total }))
}
