//! Groups of devices, which may have rules: a device's are its type's, followed by its groups' in
//! the order of their names.

pub(crate) mod find;

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::devices::{find_device, write_places};
use crate::object::{details_of_change, details_of_new, read_all, select};
use crate::secret;
use crate::sql::{Engine, Fault, Sql};
use crate::teams::home;
use crate::{
    Actor, DeviceRef, Exists, Expected, NotFound, ObjectKind, Registry, RegistryError, Visibility,
};
pub use find::{Group, GroupChange, NewGroup};
use find::{candidates, find_group, for_team, one_of};

impl Registry {
    /// Adds a group.
    ///
    /// # Errors
    /// The team has a group of that name, or the team does not exist.
    pub async fn add_group(
        &mut self,
        actor: &Actor,
        group: NewGroup,
    ) -> Result<Group, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, group).await;
        work.end(done).await
    }

    /// Changes a group, which is named as for [`Registry::group_named`], as in the calls below.
    ///
    /// # Errors
    /// There is none, or it has another revision than expected.
    pub async fn change_group(
        &mut self,
        actor: &Actor,
        id: &str,
        change: GroupChange,
        expected_revision: Expected,
    ) -> Result<Group, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change_one(&mut work, id, change, expected_revision).await;
        work.end(done).await
    }

    /// Removes a group with its rules; its devices stay.
    ///
    /// # Errors
    /// There is none, or it has another revision than expected.
    pub async fn remove_group(
        &mut self,
        actor: &Actor,
        id: &str,
        expected_revision: Expected,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = remove_one(&mut work, id, expected_revision).await;
        work.end(done).await
    }

    /// Groups by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn groups(&mut self, visibility: &Visibility) -> Result<Vec<Group>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = select::<Group>(engine);
            if let Some(team) = visibility.team() {
                sql.push(" WHERE team = ").bind(team.to_owned());
            }
            sql.push(" ORDER BY name, id");
            read_all(sql, on).await
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Ids and names of the groups that a device of a tenant is in.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn groups_of_device(
        &mut self,
        visibility: &Visibility,
        tenant: u32,
        device: &str,
    ) -> Result<Vec<(String, String)>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(
                engine,
                "SELECT g.id, g.name FROM devices d JOIN group_devices m ON m.device = d.number \
                 JOIN device_groups g ON g.id = m.group_id WHERE d.deleted_ms = 0 AND d.tenant = ",
            );
            sql.bind(i64::from(tenant)).push(" AND d.id = ");
            sql.bind(device.to_owned());
            if let Some(team) = visibility.team() {
                sql.push(" AND d.team = ").bind(team.to_owned());
            }
            sql.push(" ORDER BY g.name, g.id");
            let rows = sql.all(on).await?;
            rows.iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A group by its id, or else by its name, where that is one group's alone.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub async fn group_named(
        &mut self,
        visibility: &Visibility,
        text: &str,
    ) -> Result<Group, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find_group(on, visibility, text).await;
        reading.end(found).await
    }

    /// A group, as [`Registry::add_to_group`] finds it: of several of one name that of the team is
    /// meant that all these devices are of.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub async fn group_with(
        &mut self,
        visibility: &Visibility,
        text: &str,
        devices: &[DeviceRef<'_>],
    ) -> Result<Group, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find_with(on, engine, visibility, text, devices).await;
        reading.end(found).await
    }

    /// A group that devices of a team may be in, which is named by its id; of several of one name
    /// the team's own is meant.
    ///
    /// # Errors
    /// There is none.
    pub async fn group_for_team(&mut self, team: &str, text: &str) -> Result<Group, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = async {
            match for_team(on, team, text).await? {
                Some((id, _)) => find_group(on, &Visibility::All, &id).await,
                None => one_of(Vec::new(), text),
            }
        };
        let found: Result<_, Fault> = found.await;
        reading.end(found).await
    }

    /// Has devices be in a group, beside those that are. The answer is how many were not before.
    ///
    /// # Errors
    /// There is no such group or device, or the device is another team's; then nothing is changed.
    pub async fn add_to_group(
        &mut self,
        actor: &Actor,
        group: &str,
        devices: &[DeviceRef<'_>],
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = place(&mut work, group, devices, true).await;
        work.end(done).await
    }

    /// Has devices be in a group no more. The answer is how many were.
    ///
    /// # Errors
    /// There is no such group or device; then nothing is changed.
    pub async fn remove_from_group(
        &mut self,
        actor: &Actor,
        group: &str,
        devices: &[DeviceRef<'_>],
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = place(&mut work, group, devices, false).await;
        work.end(done).await
    }
}

/// Finds a group, with devices that come into it or leave it: of several of one name that of the
/// team is meant that all of them are of.
async fn find_with(
    on: &mut AnyConnection,
    engine: Engine,
    visibility: &Visibility,
    text: &str,
    devices: &[DeviceRef<'_>],
) -> Result<Group, Fault> {
    let mut groups = candidates(on, visibility, text).await?;
    if groups.len() > 1 && groups.iter().all(|group| group.id != text) {
        let mut teams = BTreeSet::new();
        for device in devices {
            let found = find_device(on, engine, visibility, *device, false).await;
            // The look-up in the group's team reports which device is missing.
            teams.extend(found.ok().map(|found| found.team));
        }
        if teams.len() == 1 {
            groups.sort_by_key(|group| !teams.contains(&group.team));
            if groups
                .first()
                .is_some_and(|group| teams.contains(&group.team))
            {
                groups.truncate(1);
            }
        }
    }
    one_of(groups, text)
}

async fn expect_free(
    work: &mut Work<'_>,
    team: &str,
    name: &str,
    own_id: &str,
) -> Result<(), Fault> {
    let sql = "SELECT id FROM device_groups WHERE team = $1 AND name = $2 AND id <> $3";
    let query = sqlx::query(sql).bind(team.to_owned()).bind(name.to_owned());
    let found = query.bind(own_id.to_owned()).fetch_optional(&mut *work.all);
    match found.await? {
        None => Ok(()),
        Some(_) => Err(Exists::Named(ObjectKind::Group, name.to_owned()).into()),
    }
}

async fn insert(work: &mut Work<'_>, mut new: NewGroup) -> Result<Group, Fault> {
    let own = work.actor.visibility.team().unwrap_or_default().to_owned();
    let team = new.team.take().unwrap_or(own);
    let mut group = Group {
        id: secret::new_id()?,
        revision: 1,
        created_ms: work.now_ms,
        updated_ms: work.now_ms,
        ..Group::begun(new)
    };
    group.check_values()?;
    let home = home(&mut work.all, &work.actor.visibility, &team).await?;
    group.team = home.team;
    expect_free(work, &group.team, &group.name, "").await?;
    work.insert(&group, &[]).await?;
    let details = details_of_new(&group).into();
    work.audit("group.add", ("group", &group.id), &group.team, details)
        .await?;
    Ok(group)
}

async fn change_one(
    work: &mut Work<'_>,
    id: &str,
    change: GroupChange,
    expected_revision: Expected,
) -> Result<Group, Fault> {
    let old = find_group(&mut work.all, &work.actor.visibility, id).await?;
    expected_revision.check("the group", old.revision)?;
    let mut group = old.clone();
    group.set_values(change)?;
    if group.name != old.name {
        expect_free(work, &group.team, &group.name, &group.id).await?;
    }
    group.revision += 1;
    group.updated_ms = work.now_ms;
    work.update(&group, "id", &group.id).await?;
    let changed = details_of_change(&old, &group).into();
    work.audit("group.change", ("group", &group.id), &group.team, changed)
        .await?;
    Ok(group)
}

async fn remove_one(
    work: &mut Work<'_>,
    id: &str,
    expected_revision: Expected,
) -> Result<(), Fault> {
    let group = find_group(&mut work.all, &work.actor.visibility, id).await?;
    let id = &*group.id;
    expected_revision.check("the group", group.revision)?;
    for sql in [
        "DELETE FROM rules WHERE owner_kind = 'group' AND owner = $1",
        "DELETE FROM group_devices WHERE group_id = $1",
        "DELETE FROM device_groups WHERE id = $1",
    ] {
        let query = sqlx::query(sql).bind(id.to_owned());
        query.execute(&mut *work.all).await?;
    }
    let changed = json!({ "name": group.name, "devices": group.devices });
    work.audit("group.remove", ("group", id), &group.team, changed)
        .await
}

async fn place(
    work: &mut Work<'_>,
    id: &str,
    devices: &[DeviceRef<'_>],
    is_in: bool,
) -> Result<u64, Fault> {
    let visibility = work.actor.visibility.clone();
    let group = find_with(&mut work.all, work.engine, &visibility, id, devices).await?;
    let id = &*group.id;
    // An id is one device's in the group's team, whatever devices others have.
    let among = match group.team.is_empty() {
        true => visibility,
        false => Visibility::Team(group.team.clone()),
    };
    let (mut places, mut ids) = (Vec::new(), Vec::new());
    for device in devices {
        let found = find_device(&mut work.all, work.engine, &among, *device, false).await;
        let found = found.map_err(|fault| match fault {
            Fault::Told(RegistryError::NotFound(_)) if !group.team.is_empty() => {
                NotFound::DeviceOfGroup(device.to_string()).into()
            }
            fault => fault,
        })?;
        if found.groups.iter().any(|of| of == id) != is_in {
            places.push((id.to_owned(), found.number));
            ids.push(found.id);
        }
    }
    match is_in {
        true => write_places(work, &places).await?,
        false => {
            for (_, number) in &places {
                let sql = "DELETE FROM group_devices WHERE group_id = $1 AND device = $2";
                let query = sqlx::query(sql).bind(id.to_owned()).bind(*number);
                query.execute(&mut *work.all).await?;
            }
        }
    }
    if !places.is_empty() {
        let changed = json!({ "devices": ids });
        let action = if is_in { "group.join" } else { "group.leave" };
        work.audit(action, ("group", id), &group.team, changed)
            .await?;
    }
    Ok(places.len() as u64)
}
