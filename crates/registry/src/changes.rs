//! Changes of the tables since they were last read.

use std::collections::BTreeSet;

use sqlx::{AnyConnection, Row as _};

use crate::sql::Fault;

/// The last change that a reading has seen; the empty mark is before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangePosition {
    number: i64,
    mark: String,
}

/// Changes since the tables were read.
#[derive(Debug)]
pub(crate) enum Changes {
    /// Everything has to be read again: too much has changed, or it is unknown what.
    Everything,
    /// Changes of these users, devices and bans; some may have been deleted.
    Of {
        users: BTreeSet<String>,
        /// Devices by tenant and id.
        devices: BTreeSet<(u32, String)>,
        /// Bans by id.
        bans: BTreeSet<String>,
        /// Whether something has changed that many depend on: rules, roles, types, groups' names,
        /// teams, settings.
        of_many: bool,
        /// With these it is seen.
        seen: ChangePosition,
    },
}

/// Number of changes above which it is faster to read everything.
pub(crate) const CHANGES_MAX: usize = 2_000;

pub(crate) async fn seen(on: &mut AnyConnection) -> Result<ChangePosition, Fault> {
    let sql = "SELECT number, mark FROM changes ORDER BY number DESC LIMIT 1";
    match sqlx::query(sql).fetch_optional(on).await? {
        None => Ok(ChangePosition::default()),
        Some(row) => Ok(ChangePosition {
            number: row.try_get("number")?,
            mark: row.try_get("mark")?,
        }),
    }
}

pub(crate) async fn changes_since(
    on: &mut AnyConnection,
    seen: &ChangePosition,
) -> Result<Changes, Fault> {
    let sql = "SELECT number, kind, name, mark FROM changes WHERE number >= $1 \
               ORDER BY number LIMIT $2";
    let query = sqlx::query(sql).bind(seen.number);
    let rows = query.bind(CHANGES_MAX as i64 + 2).fetch_all(on).await?;
    let (mut users, mut devices, mut bans) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut of_many = false;
    let mut last = ChangePosition::default();
    for (at, row) in rows.iter().enumerate() {
        let next = ChangePosition {
            number: row.try_get("number")?,
            mark: row.try_get("mark")?,
        };
        let is_known = at == 0 && seen.number > 0;
        if is_known && next != *seen || !is_known && next.number != last.number + 1 {
            // Another copy of the database, or changes that are not kept any more.
            return Ok(Changes::Everything);
        }
        last = next;
        if is_known {
            continue;
        }
        let name: String = row.try_get("name")?;
        match row.try_get("kind")? {
            "user" => drop(users.insert(name)),
            "device" => match device_of(&name) {
                Some(device) => drop(devices.insert(device)),
                None => return Ok(Changes::Everything),
            },
            "ban" => drop(bans.insert(name)),
            "all" => of_many = true,
            _ => return Ok(Changes::Everything),
        }
    }
    if last.number < seen.number || rows.len() > CHANGES_MAX + 1 {
        return Ok(Changes::Everything);
    }
    Ok(Changes::Of {
        users,
        devices,
        bans,
        of_many,
        seen: last,
    })
}

/// `TENANT/ID`: no id has a `/` in it.
fn device_of(name: &str) -> Option<(u32, String)> {
    let (tenant, id) = name.split_once('/')?;
    Some((tenant.parse().ok()?, id.to_owned()))
}
