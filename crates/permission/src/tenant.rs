//! The name of a tenant.

/// A space of topics and Client Identifiers. Those of different tenants never meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);
