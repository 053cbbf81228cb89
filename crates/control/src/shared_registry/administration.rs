//! Whether there is an administrator.

use martlet_registry::{ApiKey, Registry, RegistryError, Visibility};

use crate::principal::Scopes;
use crate::wall_clock::now_signed_ms;

/// Whether the node can be administered by the API: by a user, or by a key that belongs to no user.
pub(super) async fn can_be_administered(registry: &mut Registry) -> Result<bool, RegistryError> {
    if registry.has_administrator().await? {
        return Ok(true);
    }
    let now_ms = now_signed_ms();
    let keys = registry.api_keys(&Visibility::All).await?;
    Ok(keys.iter().any(|key| {
        let is_valid = key.revoked_ms == 0 && (key.expires_ms == 0 || key.expires_ms > now_ms);
        is_valid && key.owner.is_empty() && may_do_everything(key)
    }))
}

pub(super) fn may_do_everything(key: &ApiKey) -> bool {
    let scopes = key.scopes.iter();
    let scopes = scopes.filter_map(|scope| Scopes::parse(scope).ok());
    key.team.is_empty() && scopes.fold(Scopes::NONE, Scopes::or) == Scopes::all()
}
