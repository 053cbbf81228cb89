//! Clients whose certificate names them: the handshake has proved that they have its key.

use std::any::Any;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use martlet_broker::{
    Authentication, CredentialMark, Identity, Proof, Refusal, RefusalCause, RevokedClients, Rules,
    Voucher,
};
use martlet_certificates::{NameFrom, ends_secs, user_name};
use martlet_registry::{COMMON_TENANT, Snapshot};

use super::registry::refused;
use super::{People, known, removed_vouchers, voucher_of};
use crate::authentication::policy::of_kind;
use crate::authentication::{CredentialSource, Knowledge, Looking, LookupResult, SlotRequest};
use crate::wall_clock::now_signed_ms;

/// A field of the client's certificate is its user name. The User Name of the CONNECT is ignored.
#[derive(Debug)]
pub struct CertificateNames {
    field: NameFrom,
    people: People,
    registry: Option<Arc<Snapshot>>,
    /// The tenant that the names belong to.
    tenant: u32,
    /// Names that the registry does not hold are unknown.
    is_strict: bool,
    /// No other source of its listener follows the registry.
    is_alone: bool,
}

impl CertificateNames {
    /// Names are in `field`. What those of the registry may do, and whether they are accepted,
    /// stands there.
    pub fn new(field: NameFrom, people: People, registry: Option<Arc<Snapshot>>) -> Self {
        Self {
            field,
            people,
            registry,
            tenant: COMMON_TENANT,
            is_strict: false,
            is_alone: false,
        }
    }

    /// Whether only users and devices of the registry are accepted. By default all are.
    #[must_use]
    pub fn of_registry_alone(self, is_strict: bool) -> Self {
        Self { is_strict, ..self }
    }

    /// Whether it follows the registry by itself: a listener with its own `certificate_user_name`
    /// has no other source that does.
    #[must_use]
    pub fn alone(self, is_alone: bool) -> Self {
        Self { is_alone, ..self }
    }

    /// The registry, if it follows it by itself.
    fn own_registry(&self) -> Option<&Arc<Snapshot>> {
        self.registry.as_ref().filter(|_| self.is_alone)
    }

    fn with(&self, tables: &Arc<Snapshot>, tenant: u32) -> Self {
        Self {
            field: self.field,
            people: self.people.clone(),
            registry: Some(Arc::clone(tables)),
            tenant,
            is_strict: self.is_strict,
            is_alone: self.is_alone,
        }
    }

    /// The name of a certificate in this tenant; none: it is unknown there. An authority for all
    /// tenants puts the tenant into the name. Only names of users are unique among tenants.
    fn name_in_tenant<'n>(&self, shown: &'n str) -> Option<&'n str> {
        if self.tenant == COMMON_TENANT {
            return Some(shown);
        }
        let registry = self.registry.as_ref()?;
        match registry.qualified(shown) {
            Some((tenant, name)) => (tenant == self.tenant).then_some(name),
            None => (registry.tenant_of(shown) == Some(self.tenant)).then_some(shown),
        }
    }

    /// When the credential ends that this certificate is, 0 for never; of a device of which none is
    /// registered any will do that names it.
    fn registered(
        &self,
        registry: &Snapshot,
        name: &str,
        request: &Authentication,
    ) -> Result<i64, Refusal> {
        let Some(certificate) = &request.certificate else {
            return Ok(0);
        };
        if !registry.has_certificates(self.tenant, name) {
            return Ok(0);
        }
        let (id, shown) = (&*request.client_id, fingerprint(certificate));
        let found = registry.check_certificate(self.tenant, name, id, &shown, now_signed_ms());
        found.unwrap_or(Ok(0))
    }

    fn voucher(&self) -> Voucher {
        voucher_of("certificates", &[format!("{:?}", self.field).as_bytes()])
    }

    fn rules(&self, name: &str) -> Arc<Rules> {
        let registry = self.registry.as_ref();
        let rules = registry.and_then(|registry| registry.rules_of(self.tenant, name));
        rules.map_or_else(|| self.people.rules_of(Some(name)), Arc::clone)
    }

    fn find(&self, request: &Authentication) -> LookupResult {
        let Some(certificate) = &request.certificate else {
            return LookupResult::Stranger;
        };
        match user_name(certificate, self.field) {
            Ok(shown) => {
                let registry = self.registry.as_ref();
                let Some(name) = self.name_in_tenant(&shown) else {
                    return LookupResult::Stranger;
                };
                let admitted =
                    registry.map(|known| known.admits(self.tenant, name, &request.client_id));
                if let Some(Err(refusal)) = admitted {
                    return refused(refusal);
                }
                if self.is_strict
                    && registry.is_none_or(|held| held.account_kind(self.tenant, name).is_none())
                {
                    let detail = format!(
                        "its certificate is valid, but {name} is neither a user nor a device of \
                         the tables"
                    );
                    let refusal =
                        Refusal::operators_only(RefusalCause::CertificateNameUnknown, detail);
                    return LookupResult::NotNow(refusal.about(name));
                }
                let credential_ends =
                    match registry.map(|known| self.registered(known, name, request)) {
                        Some(Err(refusal)) => return refused(refusal),
                        Some(Ok(ends_ms)) => ends_ms,
                        None => 0,
                    };
                let rules = self.rules(name);
                let LookupResult::Known(identity) = known(request, name.into(), rules) else {
                    return LookupResult::Stranger;
                };
                // As long as the certificate.
                let ends_secs = ends_secs(certificate).unwrap_or(1);
                let ends_ms = ends_secs.saturating_mul(1000).max(1);
                LookupResult::Known(Identity {
                    proof: Proof::Certificate,
                    expires_wall_ms: match u64::try_from(credential_ends) {
                        Ok(0) | Err(_) => ends_ms,
                        Ok(earlier) => ends_ms.min(earlier),
                    },
                    voucher: self.voucher(),
                    credential: CredentialMark::of_digest(&fingerprint(certificate)),
                    ..identity
                })
            }
            Err(error) => {
                let detail = format!("its certificate has no user name: {error}");
                let cause = RefusalCause::CertificateNamesNobody;
                LookupResult::Wrong(Refusal::operators_only(cause, detail))
            }
        }
    }
}

fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

impl CredentialSource for CertificateNames {
    fn name(&self) -> String {
        "client certificates".to_owned()
    }

    fn look<'a>(&'a self, request: &'a Authentication, _: &'a SlotRequest) -> Looking<'a> {
        Box::pin(std::future::ready(self.find(request)))
    }

    fn proves_devices(&self) -> bool {
        true
    }

    fn no_longer_valid(&self, next: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        let newer = of_kind::<Self>(next);
        let voucher = newer.map(Self::voucher);
        let mut removed = removed_vouchers(&[self.voucher()], voucher.as_slice());
        let registries = (self.own_registry(), newer.and_then(Self::own_registry));
        if let (Some(older), Some(newer)) = registries {
            removed.extend(older.no_longer_valid(self.tenant, newer));
        }
        removed
    }

    fn tables(&self) -> Option<&Arc<Snapshot>> {
        self.own_registry()
    }

    fn removed_from_tables(&self, newer: &Snapshot, names: &[Arc<str>]) -> Vec<RevokedClients> {
        let removed = |older: &Arc<Snapshot>| -> Vec<RevokedClients> {
            let names = names.iter();
            names
                .flat_map(|name| older.removed(self.tenant, newer, name))
                .collect()
        };
        self.own_registry().map_or_else(Vec::new, removed)
    }

    fn with_tables(&self, tables: &Arc<Snapshot>) -> Option<Arc<dyn CredentialSource>> {
        self.registry.as_ref()?;
        Some(Arc::new(self.with(tables, self.tenant)))
    }

    fn in_tenant(&self, tenant: u32) -> Option<Arc<dyn CredentialSource>> {
        // Only users and devices of the tenant are accepted.
        let registry = self.registry.as_ref()?;
        let of_tenant = self.with(registry, tenant).of_registry_alone(true);
        // There the registry is a source, too.
        Some(Arc::new(of_tenant.alone(false)))
    }

    fn name_shown(&self, request: &Authentication) -> Option<String> {
        user_name(request.certificate.as_ref()?, self.field).ok()
    }

    /// Anybody may have a certificate of that name.
    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        Some(self.rules(user_name))
    }

    fn knows(&self, user_name: &str) -> Knowledge {
        let held = self.registry.as_ref();
        let is_held = held.is_some_and(|held| held.account_kind(self.tenant, user_name).is_some());
        match self.is_strict && !is_held {
            true => Knowledge::No,
            false => Knowledge::ByProof,
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
