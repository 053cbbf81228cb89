//! Firmware for devices: what there is of it. The files are in the data directory of a node, or
//! elsewhere; the tables have their size, digest and signature.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::devices::expect_type;
use crate::page::{Cursor, page_of};
use crate::sql::{Engine, Fault, Sql, clean, signed, unsigned};
use crate::{
    Actor, Conflict, Exists, NotFound, Page, PageRequest, Refused, Registry, RegistryError,
    Visibility,
};

/// Versions of firmware of one team, or of those that are of no team, at most.
pub const FIRMWARE_MAX: i64 = 1_000;
/// Bytes of a name or a version.
const NAME_BYTES_MAX: usize = 128;
/// Bytes of a signature in Base64.
const SIGNATURE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a URL.
const URL_BYTES_MAX: usize = 2_048;
/// Bytes of a file, at most, wherever it is: 1 TiB.
const SIZE_MAX: u64 = 1 << 40;

const COLUMNS: &str = "number, team, name, version, device_type, size, sha256, signature, \
                       verified, url, added_by, created_ms";

/// A version of firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Names it in the tables.
    pub number: i64,
    /// The id of its team; empty: none.
    pub team: String,
    /// Name of the firmware.
    pub name: String,
    /// Version of the firmware, as devices report it.
    pub version: String,
    /// Type of the devices that it is for.
    pub device_type: String,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: String,
    /// Base64; empty: none was given.
    pub signature: String,
    /// The node has verified the signature.
    pub is_verified: bool,
    /// Where the file is; empty: in the data directory of the node.
    pub url: String,
    /// The caller that added it, as in the audit log.
    pub added_by: String,
    /// When it was added, milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// A version of firmware to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewFirmware {
    /// Name of the firmware: 1 to 128 letters, digits and `.`, `_`, `-`, `+`.
    pub name: String,
    /// Version of the firmware, likewise.
    pub version: String,
    /// Type of the devices that it is for.
    pub device_type: String,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: String,
    /// Base64; empty: none.
    pub signature: String,
    /// The signature was verified.
    pub is_verified: bool,
    /// Where the file is; empty: in the data directory of the node.
    pub url: String,
}

/// Which firmware is listed; none is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirmwareFilter {
    /// Only artefacts of this name.
    pub name: Option<String>,
    /// For devices of this type.
    pub device_type: Option<String>,
}

impl NewFirmware {
    /// Refuses what cannot be a version of firmware.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), RegistryError> {
        let refused = |why: Refused| Err(RegistryError::from(why));
        for (what, text) in [("name", &self.name), ("version", &self.version)] {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
            let is_dots = text.bytes().all(|byte| byte == b'.');
            if is_dots || text.len() > NAME_BYTES_MAX || !text.bytes().all(is_plain) {
                return refused(Refused::FirmwareName(what, text.clone(), NAME_BYTES_MAX));
            }
        }
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return refused(Refused::FirmwareHash);
        }
        if self.signature.len() > SIGNATURE_BYTES_MAX {
            return refused(Refused::FirmwareSignature(SIGNATURE_BYTES_MAX));
        }
        if self.size == 0 {
            return refused(Refused::EmptyFirmware);
        }
        if self.size > SIZE_MAX {
            return refused(Refused::FirmwareSize(SIZE_MAX));
        }
        let is_url = self.url.starts_with("https://") || self.url.starts_with("http://");
        let is_plain = self.url.len() <= URL_BYTES_MAX
            && !self.url.chars().any(|one| one.is_control() || one == ' ');
        match self.url.is_empty() || is_url && is_plain {
            true => Ok(()),
            false => refused(Refused::FirmwareUrl(URL_BYTES_MAX)),
        }
    }
}

impl Registry {
    /// Adds a version of firmware to the caller's team.
    ///
    /// # Errors
    /// There is such a version, there are too many, there is no such type of devices, or something
    /// about it cannot be.
    pub async fn add_firmware(
        &mut self,
        actor: &Actor,
        new: NewFirmware,
    ) -> Result<Firmware, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = add(&mut work, new).await;
        work.end(done).await
    }

    /// Firmware by name, the newest version first.
    ///
    /// # Errors
    /// The database cannot be read, or the cursor is none.
    pub async fn list_firmware(
        &mut self,
        visibility: &Visibility,
        filter: &FirmwareFilter,
        page: &PageRequest,
    ) -> Result<Page<Firmware>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS).push(" FROM firmware WHERE 1 = 1");
            for (column, value) in [
                (" AND team = ", visibility.team()),
                (" AND name = ", filter.name.as_deref()),
                (" AND device_type = ", filter.device_type.as_deref()),
            ] {
                if let Some(value) = value {
                    sql.push(column).bind(clean(value));
                }
            }
            if let Some(cursor) = Cursor::of(page)? {
                sql.push(" AND (name > ").bind(cursor.text.clone());
                sql.push(" OR (name = ").bind(cursor.text);
                sql.push(" AND number < ").bind(cursor.number).push("))");
            }
            sql.push(" ORDER BY name, number DESC LIMIT ");
            sql.bind(page.rows_to_read());
            let rows = sql.all(on).await?;
            let items: Result<Vec<Firmware>, Fault> = rows.iter().map(read_row).collect();
            Ok(page_of(page, items?, None, |one| Cursor {
                text: one.name.clone(),
                number: one.number,
            }))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A version of firmware.
    ///
    /// # Errors
    /// There is none, or several teams have it and the caller names none.
    pub async fn firmware(
        &mut self,
        visibility: &Visibility,
        name: &str,
        version: &str,
    ) -> Result<Firmware, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let found = find(reading.connection(), engine, visibility, name, version).await;
        reading.end(found).await
    }

    /// A version of firmware that a device may load: it is for devices of its type, and of its team
    /// or of no team. That of its team comes first.
    ///
    /// # Errors
    /// There is none.
    pub async fn firmware_for(
        &mut self,
        team: &str,
        device_type: &str,
        name: &str,
        version: &str,
    ) -> Result<Firmware, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS).push(" FROM firmware WHERE name = ");
            sql.bind(clean(name)).push(" AND version = ");
            sql.bind(clean(version)).push(" AND device_type = ");
            sql.bind(clean(device_type)).push(" AND team IN ('', ");
            sql.bind(clean(team)).push(") ORDER BY team DESC LIMIT 1");
            match sql.first(on).await? {
                Some(row) => read_row(&row),
                None => {
                    let (name, version) = (name.to_owned(), version.to_owned());
                    Err(NotFound::FirmwareForType(name, version).into())
                }
            }
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Deletes a version of firmware. Returns it, and whether another version has the same file.
    ///
    /// # Errors
    /// There is none, or a rollout that has not ended needs it.
    pub async fn remove_firmware(
        &mut self,
        actor: &Actor,
        name: &str,
        version: &str,
    ) -> Result<(Firmware, bool), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = remove(&mut work, name, version).await;
        work.end(done).await
    }

    /// Digests of all files in data directories.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn firmware_files(&mut self) -> Result<Vec<String>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let sql = "SELECT DISTINCT sha256 FROM firmware WHERE url = ''";
        let read = sqlx::query_scalar(sql).fetch_all(on).await;
        reading.end(read.map_err(Fault::from)).await
    }

    /// Bytes of all files in data directories, and of those of one team: a file that several
    /// versions have counts once.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn firmware_bytes(&mut self, team: &str) -> Result<(u64, u64), RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM (SELECT DISTINCT \
                       sha256, size FROM firmware WHERE url = '') AS files";
            let all: i64 = sqlx::query_scalar(sql).fetch_one(&mut *on).await?;
            let sql = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM (SELECT DISTINCT \
                       sha256, size FROM firmware WHERE url = '' AND team = $1) AS files";
            let query = sqlx::query_scalar(sql).bind(team.to_owned());
            let own: i64 = query.fetch_one(on).await?;
            Ok((unsigned(all), unsigned(own)))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

/// A version of firmware that the caller sees.
pub(crate) async fn find(
    on: &mut AnyConnection,
    engine: Engine,
    visibility: &Visibility,
    name: &str,
    version: &str,
) -> Result<Firmware, Fault> {
    let mut sql = Sql::new(engine, "SELECT ");
    sql.push(COLUMNS).push(" FROM firmware WHERE name = ");
    sql.bind(clean(name)).push(" AND version = ");
    sql.bind(clean(version));
    if let Some(team) = visibility.team() {
        sql.push(" AND team = ").bind(clean(team));
    }
    sql.push(" ORDER BY team LIMIT 2");
    let rows = sql.all(on).await?;
    match rows.as_slice() {
        [] => Err(NotFound::Firmware(name.to_owned(), version.to_owned()).into()),
        // That of no team, or the only one.
        [row] => read_row(row),
        [row, ..] if row.try_get::<String, _>("team")?.is_empty() => read_row(row),
        _ => Err(Refused::FirmwareOfTeams(name.to_owned(), version.to_owned()).into()),
    }
}

/// A version of firmware by its number; none: it was deleted.
pub(crate) async fn by_number(
    on: &mut AnyConnection,
    engine: Engine,
    number: i64,
) -> Result<Option<Firmware>, Fault> {
    let mut sql = Sql::new(engine, "SELECT ");
    sql.push(COLUMNS).push(" FROM firmware WHERE number = ");
    sql.bind(number);
    sql.first(on).await?.as_ref().map(read_row).transpose()
}

fn read_row(row: &AnyRow) -> Result<Firmware, Fault> {
    Ok(Firmware {
        number: row.try_get("number")?,
        team: row.try_get("team")?,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        device_type: row.try_get("device_type")?,
        size: unsigned(row.try_get("size")?),
        sha256: row.try_get("sha256")?,
        signature: row.try_get("signature")?,
        is_verified: row.try_get::<i64, _>("verified")? != 0,
        url: row.try_get("url")?,
        added_by: row.try_get("added_by")?,
        created_ms: row.try_get("created_ms")?,
    })
}

async fn add(work: &mut Work<'_>, new: NewFirmware) -> Result<Firmware, Fault> {
    new.check()?;
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let team = visibility.team().unwrap_or_default().to_owned();
    // Its topics do not matter here: they are checked for the common tenant alone.
    expect_type(work, i64::MAX, &new.device_type).await?;
    let mut sql = work.sql("SELECT COUNT(*) FROM firmware WHERE team = ");
    sql.bind(team.clone());
    if sql.count(&mut work.all).await? >= FIRMWARE_MAX {
        return Err(Conflict::Firmware(FIRMWARE_MAX).into());
    }
    let mut sql = work.sql("SELECT 1 FROM firmware WHERE team = ");
    sql.bind(team.clone()).push(" AND name = ");
    sql.bind(new.name.clone()).push(" AND version = ");
    sql.bind(new.version.clone());
    if sql.first(&mut work.all).await?.is_some() {
        return Err(Exists::Firmware(new.name, new.version).into());
    }
    let sql = "UPDATE counters SET last = last + 1 WHERE name = 'firmware' RETURNING last";
    let number: i64 = sqlx::query_scalar(sql).fetch_one(&mut *work.all).await?;
    let (who, now_ms) = (clean(&work.actor.who), work.now_ms);
    let mut sql = work.sql("INSERT INTO firmware (");
    sql.push(COLUMNS).push(") VALUES (").bind(number);
    for text in [&team, &new.name, &new.version, &new.device_type] {
        sql.push(", ").bind(clean(text));
    }
    sql.push(", ").bind(signed(new.size));
    sql.push(", ").bind(new.sha256.to_ascii_lowercase());
    sql.push(", ").bind(clean(&new.signature));
    sql.push(", ").bind(i64::from(new.is_verified));
    sql.push(", ").bind(clean(&new.url));
    sql.push(", ").bind(who);
    sql.push(", ").bind(now_ms).push(")");
    sql.execute(&mut work.all).await?;
    let added = by_number(&mut work.all, engine, number).await?;
    let added = added.ok_or(NotFound::Firmware(new.name, new.version))?;
    let changed = json!({ "version": added.version, "size": added.size, "sha256": added.sha256 });
    work.audit("firmware.add", ("firmware", &added.name), &team, changed)
        .await?;
    Ok(added)
}

async fn remove(work: &mut Work<'_>, name: &str, version: &str) -> Result<(Firmware, bool), Fault> {
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let found = find(&mut work.all, engine, &visibility, name, version).await?;
    let mut sql = work.sql("SELECT id FROM rollouts WHERE finished_ms = 0 AND firmware = ");
    sql.bind(found.number).push(" ORDER BY number LIMIT 1");
    if let Some(row) = sql.first(&mut work.all).await? {
        let id: String = row.try_get(0)?;
        let (name, version) = (name.to_owned(), version.to_owned());
        return Err(Conflict::FirmwareOfRollout(id, name, version).into());
    }
    let mut sql = work.sql("DELETE FROM firmware WHERE number = ");
    sql.bind(found.number);
    sql.execute(&mut work.all).await?;
    let mut sql = work.sql("SELECT 1 FROM firmware WHERE url = '' AND sha256 = ");
    sql.bind(found.sha256.clone()).push(" LIMIT 1");
    let is_needed = sql.first(&mut work.all).await?.is_some();
    let changed = json!({ "version": found.version });
    work.audit("firmware.delete", ("firmware", name), &found.team, changed)
        .await?;
    Ok((found, is_needed))
}

impl Registry {
    /// A version of firmware that the device of this tenant and id may load.
    ///
    /// # Errors
    /// There is no such device, or no such firmware for it.
    pub async fn firmware_of_device(
        &mut self,
        tenant: u32,
        device: &str,
        name: &str,
        version: &str,
    ) -> Result<Firmware, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT team, type FROM devices WHERE tenant = $1 AND id = $2 AND \
                       deleted_ms = 0 AND status = 'active'";
            let query = sqlx::query(sql).bind(i64::from(tenant));
            let row = query.bind(clean(device)).fetch_optional(on).await?;
            let row = row.ok_or_else(|| NotFound::ActiveDevice(device.to_owned()))?;
            Ok((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?))
        };
        let read: Result<(String, String), Fault> = read.await;
        let (team, of_type) = reading.end(read).await?;
        self.firmware_for(&team, &of_type, name, version).await
    }

    /// The tenants whose devices may ask for firmware: the common one if there is any firmware, and
    /// those whose devices are in rollouts that have not ended.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn tenants_with_firmware(&mut self) -> Result<Vec<u32>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT DISTINCT tenant FROM rollout_devices WHERE rollout IN (SELECT \
                       number FROM rollouts WHERE finished_ms = 0) UNION SELECT CAST(0 AS BIGINT) \
                       FROM firmware";
            let rows: Vec<i64> = sqlx::query_scalar(sql).fetch_all(on).await?;
            let rows = rows.into_iter();
            Ok(rows.filter_map(|row| u32::try_from(row).ok()).collect())
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}
