//! Deleting, restoring and removing a device.

use serde_json::json;

use super::DeviceRef;
use super::checks::{owned_by, too_many};
use super::fields::Device;
use super::find::find_device;
use crate::commands::cancel_of_device;
use crate::database::Work;
use crate::presence;
use crate::sql::Fault;
use crate::teams::team_seen;
use crate::users::is_user;
use crate::{Actor, Expected, Registry, RegistryError, Visibility};

impl Registry {
    /// Deletes a device: nobody sees it, and it can be restored.
    ///
    /// # Errors
    /// There is no such device, or it has another revision than expected.
    pub async fn delete_device(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        expected_revision: Expected,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let found =
                find_device(&mut work.all, work.engine, &actor.visibility, device, false).await?;
            expected_revision.check(&found.id, found.revision)?;
            set_deleted(&mut work, &found, "device.delete").await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Brings a deleted device back, as it was.
    ///
    /// # Errors
    /// There is no such device that is deleted, or its owner has too many others by now.
    pub async fn restore_device(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
    ) -> Result<Device, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = restore_one(&mut work, device).await;
        work.end(done).await
    }

    /// Removes a device for good, with all that belongs to it, whether it was deleted before or
    /// not. Its telemetry may be kept, under its number, which no other device gets.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn purge_device(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        keeps_telemetry: bool,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let (visibility, engine) = (&actor.visibility, work.engine);
            let found = match find_device(&mut work.all, engine, visibility, device, false).await {
                Err(Fault::Told(RegistryError::NotFound(_))) => {
                    find_device(&mut work.all, engine, visibility, device, true).await?
                }
                found => found?,
            };
            let deleted = sqlx::query("DELETE FROM devices WHERE number = $1").bind(found.number);
            deleted.execute(&mut *work.all).await?;
            if keeps_telemetry {
                let kept = sqlx::query("INSERT INTO kept_telemetry (device) VALUES ($1)");
                kept.bind(found.number).execute(&mut *work.all).await?;
            }
            presence::forget(&mut work, found.tenant, &found.id).await?;
            let changed = json!({ "number": found.number, "tenant": found.tenant });
            work.audit("device.remove", ("device", &found.id), &found.team, changed)
                .await
        };
        let done = done.await;
        work.end(done).await
    }
}

async fn set_deleted(work: &mut Work<'_>, device: &Device, action: &str) -> Result<(), Fault> {
    let sql = "UPDATE devices SET deleted_ms = $1, updated_ms = $1, revision = revision + 1 \
               WHERE number = $2";
    let query = sqlx::query(sql).bind(work.now_ms).bind(device.number);
    query.execute(&mut *work.all).await?;
    cancel_of_device(work, device).await?;
    let changed = json!({ "number": device.number });
    work.audit(action, ("device", &device.id), &device.team, changed)
        .await
}

async fn restore_one(work: &mut Work<'_>, device: DeviceRef<'_>) -> Result<Device, Fault> {
    let visibility = work.actor.visibility.clone();
    let mut found = find_device(&mut work.all, work.engine, &visibility, device, true).await?;
    // Its owner may have been removed.
    if !found.owner.is_empty() && !is_user(&mut work.all, &Visibility::All, &found.owner).await? {
        found.owner.clear();
    }
    if !found.team.is_empty() {
        team_seen(&mut work.all, &visibility, &found.team).await?;
    }
    if let (false, Some(most)) = (found.owner.is_empty(), work.devices_per_user_max) {
        let owned = owned_by(&mut work.all, &found.owner).await?;
        if u64::try_from(owned).unwrap_or(0) >= most {
            return Err(too_many(&found.owner, most).into());
        }
    }
    found.deleted_ms = 0;
    found.updated_ms = work.now_ms;
    found.revision += 1;
    let sql = "UPDATE devices SET deleted_ms = 0, updated_ms = $1, revision = $2, owner = $3 \
               WHERE number = $4";
    let query = sqlx::query(sql).bind(found.updated_ms).bind(found.revision);
    let query = query.bind(found.owner.clone()).bind(found.number);
    query.execute(&mut *work.all).await?;
    let changed = json!({ "number": found.number });
    work.audit(
        "device.restore",
        ("device", &found.id),
        &found.team,
        changed,
    )
    .await?;
    Ok(found)
}
