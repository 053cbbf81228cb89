//! Lists of devices: filtered, ordered, by page; and how many there are.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::devices::fill;
use crate::object::{read_all, select};
use crate::page::{Cursor, Page, PageRequest, page_of};
use crate::sql::{Engine, Fault, Sql, clean};
use crate::{Device, Refused, Registry, RegistryError, Status, Visibility, now_ms};

/// Which devices are asked for; none is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Only devices of this type.
    pub device_type: Option<String>,
    /// Only devices of this kind.
    pub kind: Option<String>,
    /// Only devices with this status.
    pub status: Option<Status>,
    /// With this tag.
    pub tag: Option<String>,
    /// In the group of this id.
    pub group: Option<String>,
    /// Only devices of the team of this id.
    pub team: Option<String>,
    /// Only devices of this owner.
    pub owner: Option<String>,
    /// With this in id, name, description or location, in small or capital letters.
    pub text: Option<String>,
    /// Connected, or not, as far as that is written.
    pub online: Option<bool>,
    /// Connected, or with a heartbeat or telemetry since then: milliseconds since the Unix epoch.
    pub active_since_ms: Option<i64>,
    /// Inactive, or not: see [`Registry::mark_inactive`].
    pub inactive: Option<bool>,
    /// Whether only deleted devices are asked for; else only others are.
    pub deleted: bool,
}

/// How devices are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceOrder {
    /// The id, bytewise.
    #[default]
    Id,
    /// Newest first.
    Created,
    /// The device that sent something last comes first.
    LastSeen,
    /// The number, oldest first.
    Number,
}

/// How many devices there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounts {
    /// All that are there.
    pub total: u64,
    /// Devices with the status `active`.
    pub active: u64,
    /// Devices with the status `inactive`.
    pub inactive: u64,
    /// Devices with the status `maintenance`.
    pub maintenance: u64,
    /// Connected, as far as that is written.
    pub online: u64,
    /// Deleted, and not removed for good.
    pub deleted: u64,
}

/// How many devices are of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindCount {
    /// The kind; empty if there is none.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// How much belongs to devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartCounts {
    /// Credentials, valid or not.
    pub credentials: u64,
    /// Credentials that are valid now.
    pub valid_credentials: u64,
    /// Keys of configurations.
    pub settings: u64,
    /// Keys of configurations that are active.
    pub active_settings: u64,
}

/// Kinds that are counted, at most: the most frequent ones.
const KINDS_MAX: i64 = 1_000;

impl Registry {
    /// Devices, by page.
    ///
    /// # Errors
    /// The database cannot be read, or the cursor is none.
    pub async fn list_devices(
        &mut self,
        visibility: &Visibility,
        filter: &DeviceFilter,
        order: DeviceOrder,
        page: &PageRequest,
    ) -> Result<Page<Device>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = read_list(on, engine, visibility, filter, order, page).await;
        reading.end(read).await
    }

    /// How many devices there are.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count_devices(
        &mut self,
        visibility: &Visibility,
        filter: &DeviceFilter,
    ) -> Result<u64, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = match online(on, filter).await {
            Ok(online) => count(on, engine, (visibility, filter), online).await,
            Err(error) => Err(error),
        };
        let count = reading.end(read).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// How many devices there are, by status.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn device_counts(
        &mut self,
        visibility: &Visibility,
    ) -> Result<DeviceCounts, RegistryError> {
        let with_status = |status| DeviceFilter {
            status: Some(status),
            ..DeviceFilter::default()
        };
        let online = DeviceFilter {
            online: Some(true),
            ..DeviceFilter::default()
        };
        let deleted = DeviceFilter {
            deleted: true,
            ..DeviceFilter::default()
        };
        let (inactive, maintenance) = (Status::Inactive, Status::Maintenance);
        let all = DeviceFilter::default();
        Ok(DeviceCounts {
            total: self.count_devices(visibility, &all).await?,
            active: self
                .count_devices(visibility, &with_status(Status::Active))
                .await?,
            inactive: self
                .count_devices(visibility, &with_status(inactive))
                .await?,
            maintenance: self
                .count_devices(visibility, &with_status(maintenance))
                .await?,
            online: self.count_devices(visibility, &online).await?,
            deleted: self.count_devices(visibility, &deleted).await?,
        })
    }

    /// How many devices are of each kind, the most frequent first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn device_kinds(
        &mut self,
        visibility: &Visibility,
    ) -> Result<Vec<KindCount>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT kind, COUNT(*) AS many FROM devices WHERE ");
            let (filter, online) = (DeviceFilter::default(), Online::Many);
            conditions(&mut sql, engine, (visibility, &filter), online);
            sql.push(" GROUP BY kind ORDER BY many DESC, kind LIMIT ");
            sql.bind(KINDS_MAX);
            let rows = sql.all(on).await?;
            rows.iter()
                .map(|row| {
                    Ok(KindCount {
                        kind: row.try_get("kind")?,
                        count: u64::try_from(row.try_get::<i64, _>("many")?).unwrap_or(0),
                    })
                })
                .collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// How many credentials and keys of configurations devices have.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn device_parts(
        &mut self,
        visibility: &Visibility,
    ) -> Result<PartCounts, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut counts = [0; 4];
            for (count, (sql, ends)) in counts.iter_mut().zip(PARTS) {
                let mut sql = Sql::new(engine, sql);
                if ends {
                    sql.push(" AND (expires_ms = 0 OR expires_ms > ");
                    sql.bind(now_ms()).push(")");
                }
                let (filter, online) = (DeviceFilter::default(), Online::Many);
                sql.push(" AND device IN (SELECT number FROM devices WHERE ");
                conditions(&mut sql, engine, (visibility, &filter), online);
                sql.push(")");
                *count = u64::try_from(sql.count(&mut *on).await?).unwrap_or(0);
            }
            Ok(counts)
        };
        let read: Result<[u64; 4], Fault> = read.await;
        let [credentials, valid_credentials, settings, active_settings] = reading.end(read).await?;
        Ok(PartCounts {
            credentials,
            valid_credentials,
            settings,
            active_settings,
        })
    }

    /// Devices from a place of the list on, and how many there are in all: for callers that count
    /// pages.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn devices_from(
        &mut self,
        visibility: &Visibility,
        filter: &DeviceFilter,
        order: DeviceOrder,
        offset: u64,
        limit: u64,
    ) -> Result<(Vec<Device>, u64), RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let online = online(on, filter).await?;
            let total = count(on, engine, (visibility, filter), online).await?;
            let mut sql = select::<Device>(engine);
            sql.push(" WHERE ");
            conditions(&mut sql, engine, (visibility, filter), online);
            sql.push(ordered(order)).push(" LIMIT ");
            sql.bind(i64::try_from(limit).unwrap_or(i64::MAX));
            sql.push(" OFFSET ");
            sql.bind(i64::try_from(offset).unwrap_or(i64::MAX));
            let mut devices = read_all(sql, on).await?;
            fill(on, engine, &mut devices).await?;
            Ok((devices, u64::try_from(total).unwrap_or(0)))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

/// How what belongs to devices is counted, and whether it may have ended: credentials, valid ones,
/// keys of configurations, active ones.
const PARTS: [(&str, bool); 4] = [
    ("SELECT COUNT(*) FROM device_credentials WHERE 1 = 1", false),
    (
        "SELECT COUNT(*) FROM device_credentials WHERE revoked_ms = 0",
        true,
    ),
    (
        "SELECT COUNT(*) FROM device_configuration WHERE 1 = 1",
        false,
    ),
    (
        "SELECT COUNT(*) FROM device_configuration WHERE is_active = 1",
        false,
    ),
];

fn ordered(order: DeviceOrder) -> &'static str {
    match order {
        DeviceOrder::Id => " ORDER BY id, number",
        DeviceOrder::Created => " ORDER BY created_ms DESC, number DESC",
        DeviceOrder::LastSeen => " ORDER BY last_seen_ms DESC, number DESC",
        DeviceOrder::Number => " ORDER BY number",
    }
}

async fn count(
    on: &mut AnyConnection,
    engine: Engine,
    selection: (&Visibility, &DeviceFilter),
    online: Online,
) -> Result<i64, sqlx::Error> {
    let mut sql = Sql::new(engine, "SELECT COUNT(*) FROM devices WHERE ");
    conditions(&mut sql, engine, selection, online);
    sql.count(on).await
}

async fn read_list(
    on: &mut AnyConnection,
    engine: Engine,
    visibility: &Visibility,
    filter: &DeviceFilter,
    order: DeviceOrder,
    page: &PageRequest,
) -> Result<Page<Device>, Fault> {
    let online = online(on, filter).await?;
    let total = match page.with_total {
        false => None,
        true => Some(count(on, engine, (visibility, filter), online).await?),
    };
    let mut sql = select::<Device>(engine);
    sql.push(" WHERE ");
    conditions(&mut sql, engine, (visibility, filter), online);
    if let Some(cursor) = Cursor::of(page)? {
        let at: Result<i64, _> = cursor.text.parse();
        match (order, at) {
            (DeviceOrder::Id, _) => {
                sql.push(" AND (id, number) > (").bind(cursor.text);
            }
            (DeviceOrder::Created, Ok(at)) => {
                sql.push(" AND (created_ms, number) < (").bind(at);
            }
            (DeviceOrder::LastSeen, Ok(at)) => {
                sql.push(" AND (last_seen_ms, number) < (").bind(at);
            }
            (DeviceOrder::Number, _) => {
                sql.push(" AND (number, number) > (").bind(cursor.number);
            }
            (_, Err(_)) => {
                return Err(Refused::CursorOfOrder.into());
            }
        }
        sql.push(", ").bind(cursor.number).push(")");
    }
    sql.push(ordered(order)).push(" LIMIT ");
    sql.bind(page.rows_to_read());
    let devices = read_all(sql, on).await?;
    let mut page = page_of(page, devices, total, |device: &Device| Cursor {
        text: match order {
            DeviceOrder::Id => device.id.clone(),
            DeviceOrder::Created => device.created_ms.to_string(),
            DeviceOrder::LastSeen => device.last_seen_ms.to_string(),
            DeviceOrder::Number => String::new(),
        },
        number: device.number,
    });
    fill(on, engine, &mut page.items).await?;
    Ok(page)
}

/// How many are connected: where few are they are looked up, where many are some are soon found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Online {
    Few,
    Many,
}

const ONLINE_FEW: i64 = 5_000;

/// In the form of their index, so that other rows are not read.
const IS_ONLINE: &str = "(online = 1 OR is_told = 0) AND online = 1";

async fn online(on: &mut AnyConnection, filter: &DeviceFilter) -> Result<Online, sqlx::Error> {
    if filter.online != Some(true) {
        return Ok(Online::Many);
    }
    let mut sql = Sql::short("SELECT COUNT(*) FROM (SELECT 1 FROM presence WHERE ");
    sql.push(IS_ONLINE).push(" LIMIT ").bind(ONLINE_FEW);
    sql.push(") AS some_of_them");
    let count = sql.count(on).await?;
    Ok(if count < ONLINE_FEW {
        Online::Few
    } else {
        Online::Many
    })
}

/// The devices of a filter, without its conditions on connections: number, id and tenant.
pub(crate) async fn named_by(
    on: &mut AnyConnection,
    engine: Engine,
    selection: (&Visibility, &DeviceFilter),
    limit: i64,
) -> Result<Vec<(i64, String, i64)>, Fault> {
    let mut sql = Sql::new(engine, "SELECT number, id, tenant FROM devices WHERE ");
    conditions(&mut sql, engine, selection, Online::Many);
    sql.push(" ORDER BY number LIMIT ").bind(limit);
    let rows = sql.all(on).await?;
    let read = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    rows.iter().map(read).collect()
}

/// Writes that a row of `devices` is in visibility and passes a filter.
pub(crate) fn push_filter(
    sql: &mut Sql,
    engine: Engine,
    visibility: &Visibility,
    filter: &DeviceFilter,
) {
    conditions(sql, engine, (visibility, filter), Online::Many);
}

fn conditions(
    sql: &mut Sql,
    engine: Engine,
    (visibility, filter): (&Visibility, &DeviceFilter),
    online: Online,
) {
    sql.push(if filter.deleted {
        "deleted_ms > 0"
    } else {
        "deleted_ms = 0"
    });
    for (column, value) in [
        (" AND team = ", visibility.team()),
        (" AND team = ", filter.team.as_deref()),
        (" AND type = ", filter.device_type.as_deref()),
        (" AND kind = ", filter.kind.as_deref()),
        (" AND status = ", filter.status.map(Status::word)),
        (" AND owner = ", filter.owner.as_deref()),
    ] {
        if let Some(value) = value {
            sql.push(column).bind(clean(value));
        }
    }
    if let Some(tag) = &filter.tag {
        sql.push(" AND number IN (SELECT device FROM device_tags WHERE tag = ");
        sql.bind(clean(tag)).push(")");
    }
    if let Some(group) = &filter.group {
        sql.push(" AND number IN (SELECT device FROM group_devices WHERE group_id = ");
        sql.bind(clean(group)).push(")");
    }
    match (filter.online, online) {
        (None, _) => {}
        (Some(true), Online::Few) => {
            for column in [
                " AND id IN (SELECT client_id",
                " AND (tenant, id) IN (SELECT tenant, client_id",
            ] {
                sql.push(column).push(" FROM presence WHERE ");
                sql.push(IS_ONLINE).push(")");
            }
        }
        (Some(is_online), _) => {
            sql.push(if is_online { " AND " } else { " AND NOT " });
            sql.push(
                "EXISTS (SELECT 1 FROM presence WHERE presence.tenant = devices.tenant AND \
                 client_id = devices.id AND online = 1)",
            );
        }
    }
    if let Some(since_ms) = filter.active_since_ms {
        for (before, column) in [
            (" AND (", "last_heartbeat_ms"),
            (" OR ", "last_telemetry_ms"),
        ] {
            sql.push(before).push("(").push(column);
            sql.push(" > said_offline_ms AND ").push(column);
            sql.push(" >= ").bind(since_ms).push(")");
        }
        sql.push(
            " OR EXISTS (SELECT 1 FROM presence WHERE presence.tenant = devices.tenant AND \
             client_id = devices.id AND online = 1))",
        );
    }
    match filter.inactive {
        None => {}
        Some(true) => drop(sql.push(" AND inactive_since_ms > 0")),
        Some(false) => drop(sql.push(" AND inactive_since_ms = 0")),
    }
    if let Some(text) = filter.text.as_ref().filter(|text| !text.is_empty()) {
        sql.push(match engine {
            Engine::Sqlite => " AND instr(search, ",
            Engine::Postgres => " AND strpos(search, ",
        });
        sql.bind(clean(text).to_lowercase()).push(") > 0");
    }
}
