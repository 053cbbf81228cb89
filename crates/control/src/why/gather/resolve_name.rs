//! The tenant and the client or user that a name stands for.

use martlet_broker::{Realm, TenantId};

use crate::control::{Control, ControlError};

impl Control {
    /// The name within a tenant: `name@team` stands for `name` there.
    pub fn own_name(&self, tenant: TenantId, name: String) -> String {
        let policy = self.policy();
        let tables = policy.as_ref().and_then(|policy| policy.tables());
        match tables.and_then(|tables| tables.qualified(&name)) {
            Some((of, own)) if of == tenant.0 => own.to_owned(),
            _ => name,
        }
    }

    /// The user or device of a name, in this tenant or, without one, in any: `name@team` is one of
    /// the team, as in a login.
    pub fn resolve_user(&self, tenant: Option<TenantId>, name: String) -> (TenantId, String) {
        let policy = self.policy();
        let tables = policy.as_ref().and_then(|policy| policy.tables());
        let qualified = tables.and_then(|tables| tables.qualified(&name));
        match qualified.filter(|(of, _)| tenant.is_none_or(|tenant| tenant.0 == *of)) {
            Some((of, own)) => (TenantId(of), own.to_owned()),
            None => (tenant.unwrap_or_default(), name),
        }
    }

    /// The tenant and name of a client or user that was named without a team: `name@team` is one of
    /// the team's tenant, as in a login; a user of the tables is in its own tenant, unless a client
    /// of the common tenant has that name.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn resolve_name(&self, name: &str) -> Result<(TenantId, String), ControlError> {
        let common = TenantId::default();
        let Some(policy) = self.policy() else {
            return Ok((common, name.to_owned()));
        };
        let (realm, own) = policy.tenant_of(Realm::COMMON, name);
        let is_client =
            realm != Realm::COMMON && own == name && self.client(common, name, 0).await?.is_some();
        Ok(match is_client {
            true => (common, name.to_owned()),
            false => (realm.tenant(), own.to_owned()),
        })
    }

    /// The client of a Client Identifier, in this tenant or, without one, in any: `id@team` is one
    /// of the team, as in a login, unless a client has that very Client Identifier.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn resolve_client(
        &self,
        tenant: Option<TenantId>,
        client_id: String,
    ) -> Result<(TenantId, String), ControlError> {
        let own_tenant = tenant.unwrap_or_default();
        let policy = self.policy();
        let tables = policy.as_ref().and_then(|policy| policy.tables());
        let qualified = tables.and_then(|tables| tables.qualified(&client_id));
        let qualified = qualified.filter(|(of, _)| tenant.is_none_or(|tenant| tenant.0 == *of));
        let Some((of, own)) = qualified else {
            return Ok((own_tenant, client_id));
        };
        match self.client(own_tenant, &client_id, 0).await? {
            Some(_) => Ok((own_tenant, client_id)),
            None => Ok((TenantId(of), own.to_owned())),
        }
    }
}
