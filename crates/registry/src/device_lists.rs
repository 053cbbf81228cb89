//! Lists of devices: filtered, ordered, by page.

use sqlx::AnyConnection;

use crate::devices::{COLUMNS, fill, read_device};
use crate::page::{Cursor, Page, PageRequest, page_of};
use crate::sql::{Engine, Fault, Sql, clean};
use crate::{Device, Registry, RegistryError, Scope, Status};

/// Which devices are asked for; none is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Of this type.
    pub device_type: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this status.
    pub status: Option<Status>,
    /// With this tag.
    pub tag: Option<String>,
    /// In the group of this id.
    pub group: Option<String>,
    /// Of the team of this id.
    pub team: Option<String>,
    /// Whose owner this is.
    pub owner: Option<String>,
    /// With this in id, name, description or location, in small or capital letters.
    pub text: Option<String>,
    /// Connected, or not, as far as that is written.
    pub online: Option<bool>,
    /// Those that were deleted, and no others.
    pub deleted: bool,
}

/// How devices are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceOrder {
    /// By id, bytewise.
    #[default]
    Id,
    /// Newest first.
    Created,
    /// First who was heard of last.
    LastSeen,
}

impl Registry {
    /// Devices, by page.
    ///
    /// # Errors
    /// The database cannot be read, or the cursor is none.
    pub async fn list_devices(
        &mut self,
        scope: &Scope,
        filter: &DeviceFilter,
        order: DeviceOrder,
        page: &PageRequest,
    ) -> Result<Page<Device>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = read_list(on, engine, scope, filter, order, page).await;
        reading.end(read).await
    }

    /// How many devices there are.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count_devices(
        &mut self,
        scope: &Scope,
        filter: &DeviceFilter,
    ) -> Result<u64, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = match online(on, filter).await {
            Ok(online) => count(on, engine, (scope, filter), online).await,
            Err(error) => Err(error),
        };
        let count = reading.end(read).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

async fn count(
    on: &mut AnyConnection,
    engine: Engine,
    wanted: (&Scope, &DeviceFilter),
    online: Online,
) -> Result<i64, sqlx::Error> {
    let mut sql = Sql::new(engine, "SELECT COUNT(*) FROM devices WHERE ");
    conditions(&mut sql, engine, wanted, online);
    sql.count(on).await
}

async fn read_list(
    on: &mut AnyConnection,
    engine: Engine,
    scope: &Scope,
    filter: &DeviceFilter,
    order: DeviceOrder,
    page: &PageRequest,
) -> Result<Page<Device>, Fault> {
    let online = online(on, filter).await?;
    let total = match page.with_total {
        false => None,
        true => Some(count(on, engine, (scope, filter), online).await?),
    };
    let mut sql = Sql::new(engine, "SELECT ");
    sql.push(COLUMNS).push(" FROM devices WHERE ");
    conditions(&mut sql, engine, (scope, filter), online);
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
            (_, Err(_)) => {
                let why = "the cursor is of a list in another order".to_owned();
                return Err(RegistryError::Refused(why).into());
            }
        }
        sql.push(", ").bind(cursor.number).push(")");
    }
    sql.push(match order {
        DeviceOrder::Id => " ORDER BY id, number LIMIT ",
        DeviceOrder::Created => " ORDER BY created_ms DESC, number DESC LIMIT ",
        DeviceOrder::LastSeen => " ORDER BY last_seen_ms DESC, number DESC LIMIT ",
    });
    sql.bind(page.rows_wanted());
    let rows = sql.all(on).await?;
    let devices: Result<Vec<_>, _> = rows.iter().map(read_device).collect();
    let mut page = page_of(page, devices?, total, |device| Cursor {
        text: match order {
            DeviceOrder::Id => device.id.clone(),
            DeviceOrder::Created => device.created_ms.to_string(),
            DeviceOrder::LastSeen => device.last_seen_ms.to_string(),
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

/// In the words of the index of them, so that nobody else is looked at.
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

fn conditions(
    sql: &mut Sql,
    engine: Engine,
    (scope, filter): (&Scope, &DeviceFilter),
    online: Online,
) {
    sql.push(if filter.deleted {
        "deleted_ms > 0"
    } else {
        "deleted_ms = 0"
    });
    for (column, value) in [
        (" AND team = ", scope.team()),
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
    if let Some(text) = filter.text.as_ref().filter(|text| !text.is_empty()) {
        sql.push(match engine {
            Engine::Sqlite => " AND instr(search, ",
            Engine::Postgres => " AND strpos(search, ",
        });
        sql.bind(clean(text).to_lowercase()).push(") > 0");
    }
}
