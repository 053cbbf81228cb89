//! Certificates of devices that end soon.

use sqlx::Row as _;

use crate::sql::Fault;
use crate::{Registry, RegistryError};

/// A device whose certificates end soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateEnd {
    /// Number of its tenant.
    pub tenant: u32,
    /// Id of the device.
    pub device: String,
    /// When the last one of its certificates ends, milliseconds since the Unix epoch.
    pub ends_ms: i64,
}

impl Registry {
    /// Devices whose last certificate ends before a time, milliseconds since the Unix epoch, those
    /// that end first before the others; `limit` at most. Certificates whose end is not known never
    /// end.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn certificate_ends(
        &mut self,
        before_ms: i64,
        limit: u32,
    ) -> Result<Vec<CertificateEnd>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            // The terms are those of the index.
            let sql = "SELECT devices.tenant AS tenant, devices.id AS id, MAX(own.expires_ms) AS \
                       ends_ms FROM device_credentials AS own JOIN devices ON devices.number = \
                       own.device WHERE own.kind = 'certificate' AND own.revoked_ms = 0 AND \
                       own.expires_ms > 0 AND own.expires_ms < $1 AND devices.deleted_ms = 0 AND \
                       NOT EXISTS (SELECT 1 FROM device_credentials AS later WHERE later.device = \
                       own.device AND later.kind = 'certificate' AND later.revoked_ms = 0 AND \
                       (later.expires_ms = 0 OR later.expires_ms >= $1)) GROUP BY devices.tenant, \
                       devices.id ORDER BY ends_ms, devices.id LIMIT $2";
            let query = sqlx::query(sql).bind(before_ms).bind(i64::from(limit));
            let rows = query.fetch_all(on).await?;
            let ends = rows.iter().map(|row| {
                let tenant: i64 = row.try_get("tenant")?;
                Ok(CertificateEnd {
                    tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
                    device: row.try_get("id")?,
                    ends_ms: row.try_get("ends_ms")?,
                })
            });
            ends.collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}
