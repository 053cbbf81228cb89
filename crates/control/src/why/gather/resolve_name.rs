//! The tenant and the client or user that a name stands for.

use martlet_broker::{Realm, TenantId};

use crate::control::{Control, ControlError};

impl Control {
    /// The tenant and the name of `name@team`, as in a login, if that is in this tenant or, without
    /// one, in any; none: the name is no such.
    fn qualified(&self, tenant: Option<TenantId>, name: &str) -> Option<(TenantId, String)> {
        let tables = self.tables()?;
        let (of, own) = tables.qualified(name)?;
        let of = TenantId(of);
        tenant
            .is_none_or(|tenant| tenant == of)
            .then(|| (of, own.to_owned()))
    }

    /// The name within a tenant: `name@team` stands for `name` there.
    pub fn own_name(&self, tenant: TenantId, name: String) -> String {
        let qualified = self.qualified(Some(tenant), &name);
        qualified.map_or(name, |(_, own)| own)
    }

    /// The user or device of a name, in this tenant or, without one, in any: `name@team` is one of
    /// the team, as in a login.
    pub fn resolve_user(&self, tenant: Option<TenantId>, name: String) -> (TenantId, String) {
        let qualified = self.qualified(tenant, &name);
        qualified.unwrap_or((tenant.unwrap_or_default(), name))
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
        Ok(match self.qualified(tenant, &client_id) {
            Some(of_team) if self.client(own_tenant, &client_id, 0).await?.is_none() => of_team,
            _ => (own_tenant, client_id),
        })
    }
}
