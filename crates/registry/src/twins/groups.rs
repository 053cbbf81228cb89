//! Desired values of groups. A device's own are laid over those of its groups; of two groups the
//! one whose name comes last decides.

use std::collections::HashMap;

use serde_json::json;
use sqlx::{AnyConnection, Row as _};

use super::twin::{ROWS, Twin, TwinChange, TwinValues, read_values, written};
use super::{Values, merge};
use crate::database::Work;
use crate::groups::find::find_group;
use crate::sql::{Engine, Fault, Sql, clean};
use crate::{Actor, Expected, Refused, Registry, RegistryError, Visibility};

/// Desired values of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupTwin {
    /// Id of the group.
    pub group: String,
    /// Name of the group.
    pub name: String,
    /// The values.
    pub desired: TwinValues,
}

impl Registry {
    /// The desired values of a group; none if they were never set.
    ///
    /// # Errors
    /// There is no such group.
    pub async fn group_twin(
        &mut self,
        visibility: &Visibility,
        group: &str,
    ) -> Result<GroupTwin, RegistryError> {
        let place = self.place().to_owned();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = one(on, &place, visibility, group).await;
        reading.end(read.map(|(twin, _)| twin)).await
    }

    /// The desired values of the groups of a device, in the order in which they are laid over each
    /// other: the last one decides.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn group_twins_of(&mut self, twin: &Twin) -> Result<Vec<GroupTwin>, RegistryError> {
        let place = self.place().to_owned();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT t.desired, t.version, t.updated_ms, g.id, g.name FROM group_twins t \
                       JOIN group_devices m ON m.group_id = t.group_id JOIN device_groups g ON \
                       g.id = t.group_id WHERE m.device = $1 ORDER BY g.name, g.id";
            let rows = sqlx::query(sql).bind(twin.number).fetch_all(on).await?;
            let twins = rows.iter().map(|row| {
                Ok(GroupTwin {
                    group: row.try_get(3)?,
                    name: row.try_get(4)?,
                    desired: read_values(row, 0, &place)?,
                })
            });
            twins.collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Changes the desired values of a group. `expected`: the version that they must have. Returns
    /// its devices too, by tenant and id.
    ///
    /// # Errors
    /// There is no such group, they have another version, or there would be too much of them.
    pub async fn change_group_twin(
        &mut self,
        actor: &Actor,
        group: &str,
        change: &TwinChange,
        expected: Expected,
    ) -> Result<(GroupTwin, Vec<(u32, String)>), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set(&mut work, group, change, expected).await;
        work.end(done).await
    }
}

/// The values of a group, and the team of the group.
async fn one(
    on: &mut AnyConnection,
    place: &str,
    visibility: &Visibility,
    group: &str,
) -> Result<(GroupTwin, String), Fault> {
    let group = find_group(on, visibility, group).await?;
    let sql = "SELECT desired, version, updated_ms FROM group_twins WHERE group_id = $1";
    let query = sqlx::query(sql).bind(group.id.clone());
    let row = query.fetch_optional(on).await?;
    let desired = match row {
        Some(row) => read_values(&row, 0, place)?,
        None => TwinValues::default(),
    };
    let twin = GroupTwin {
        group: group.id,
        name: group.name,
        desired,
    };
    Ok((twin, group.team))
}

async fn set(
    work: &mut Work<'_>,
    group: &str,
    change: &TwinChange,
    expected: Expected,
) -> Result<(GroupTwin, Vec<(u32, String)>), Fault> {
    let (visibility, place) = (work.actor.visibility.clone(), work.place().to_owned());
    let (mut twin, team) = one(&mut work.all, &place, &visibility, group).await?;
    let what = format!("the desired values of the group {}", twin.name);
    expected.check(&what, twin.desired.version)?;
    change.apply(&mut twin.desired.values);
    let text = written("desired", &twin.desired.values).map_err(Refused::Twin)?;
    twin.desired.version += 1;
    twin.desired.updated_ms = work.now_ms;
    let sql = "INSERT INTO group_twins (group_id, desired, version, updated_ms) VALUES ($1, $2, $3, \
               $4) ON CONFLICT (group_id) DO UPDATE SET desired = excluded.desired, \
               version = excluded.version, updated_ms = excluded.updated_ms";
    let query = sqlx::query(sql).bind(twin.group.clone()).bind(clean(&text));
    let query = query.bind(twin.desired.version).bind(work.now_ms);
    query.execute(&mut *work.all).await?;
    // What its devices are to have is another now.
    let sql = "INSERT INTO twins (device, desired, desired_version, desired_ms, reported, \
               reported_version, reported_ms) SELECT device, '{}', 1, 0, '{}', 0, 0 FROM \
               group_devices WHERE group_id = $1 ON CONFLICT (device) DO UPDATE SET \
               desired_version = twins.desired_version + 1";
    let query = sqlx::query(sql).bind(twin.group.clone());
    query.execute(&mut *work.all).await?;
    let sql = "SELECT d.tenant, d.id FROM group_devices g JOIN devices d ON d.number = g.device \
               WHERE g.group_id = $1 AND d.deleted_ms = 0";
    let query = sqlx::query(sql).bind(twin.group.clone());
    let rows = query.fetch_all(&mut *work.all).await?;
    let devices: Result<_, Fault> = rows
        .iter()
        .map(|row| {
            let tenant = u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX);
            Ok((tenant, row.try_get(1)?))
        })
        .collect();
    let changed = json!({ "version": twin.desired.version, "members": change.members() });
    work.audit("group.twin.set", ("group", &twin.group), &team, changed)
        .await?;
    Ok((twin, devices?))
}

/// Adds the values of their groups to twins.
pub(super) async fn fill(
    on: &mut AnyConnection,
    engine: Engine,
    place: &str,
    twins: &mut [Twin],
) -> Result<(), Fault> {
    for some in twins.chunks_mut(ROWS) {
        let numbers: Vec<i64> = some.iter().map(|twin| twin.number).collect();
        let mut sql = Sql::new(
            engine,
            "SELECT t.desired, t.version, t.updated_ms, m.device FROM group_twins t JOIN \
             group_devices m ON m.group_id = t.group_id JOIN device_groups g ON g.id = t.group_id \
             WHERE m.device IN ",
        );
        sql.list(numbers).push(" ORDER BY g.name, g.id");
        let mut found: HashMap<i64, Values> = HashMap::new();
        for row in sql.all(on).await? {
            let of = found.entry(row.try_get(3)?).or_default();
            merge::merge(of, &read_values(&row, 0, place)?.values);
        }
        for twin in some {
            twin.of_groups = found.remove(&twin.number).unwrap_or_default();
        }
    }
    Ok(())
}
