//! The name of a tenant.

/// Whose topics and client identifiers these are; those of different tenants never meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);
