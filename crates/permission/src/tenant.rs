//! Tenants.

/// A space of topics and Client Identifiers. Different tenants are completely separate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);
