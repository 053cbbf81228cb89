//! Devices: an id, which is Client Identifier and user name, what people say of them, and in whose
//! team they are. A deleted one is gone for everybody until it is restored; its id stays taken
//! until it is removed for good.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::audit::NewAuditEntry;
use crate::database::Work;
use crate::device_ids::{
    expect_free_number, expect_not_reserved, expect_own_number, generated_id, is_digits,
};
use crate::groups::for_team as group_for_team;
use crate::presence::{self, Presence};
use crate::rule_sets::{check_new_name, expect_own_topics, is_builtin, unknown};
use crate::secret::{self, DigestKey, Secret};
use crate::sql::{Engine, Fault, Sql, clean};
use crate::teams::{Home, expect_unqualified, home, home_if_any, name_of, team_seen};
use crate::users::is_user;
use crate::{
    Actor, DEVICE_TYPE, Owner, Registry, RegistryError, Scope, check_text, expect_revision, now_ms,
};

/// What operators say of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is accepted.
    Active,
    /// It is not.
    Inactive,
    /// It is not, for a while.
    Maintenance,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::Maintenance];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Maintenance => "maintenance",
        }
    }

    /// From how it is written.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Unique among all there ever were.
    pub number: i64,
    /// 0 is shared by all teams that own none.
    pub tenant: u32,
    /// Its Client Identifier, unique in its tenant.
    pub id: String,
    /// What it comes as: its id, and in the tenant of a team `ID@TEAM`.
    pub user_name: String,
    /// For people.
    pub name: String,
    /// Of its type are the topics that it may use.
    pub device_type: String,
    /// What it is, in the words of its owner.
    pub kind: String,
    /// Whether it is accepted.
    pub status: Status,
    /// For people.
    pub description: String,
    /// Where it stands.
    pub location: String,
    /// What runs on it.
    pub firmware_version: String,
    /// What it is built as.
    pub hardware_version: String,
    /// The user whose it is; empty is nobody's.
    pub owner: String,
    /// The id of its team; empty is none.
    pub team: String,
    /// In their order.
    pub tags: Vec<String>,
    /// Ids of its groups, by the groups' names.
    pub groups: Vec<String>,
    /// Raised with every change.
    pub revision: i64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it was last changed.
    pub updated_ms: i64,
    /// When it was last connected or heard of; 0: never.
    pub last_seen_ms: i64,
    /// When it last sent a message, such as a heartbeat, as far as that is written; 0: never.
    pub last_message_ms: i64,
    /// When it last sent telemetry; 0: never.
    pub last_telemetry_ms: i64,
    /// When it was deleted; 0: it is there.
    pub deleted_ms: i64,
    /// Credentials that are good now.
    pub credentials: usize,
    /// Whether it is connected, as far as that is written; none: it never was.
    pub presence: Option<Presence>,
}

impl Device {
    /// What is known of the client of its id is about this device, and not about who had the id
    /// before.
    fn is_own(&self, presence: &Presence) -> bool {
        self.is_seen_by(presence.online, presence.last_seen_ms)
    }

    /// The same, by whether the client is connected and when it was last heard of, in milliseconds
    /// since the Unix epoch.
    pub fn is_seen_by(&self, online: bool, last_seen_ms: i64) -> bool {
        online || last_seen_ms >= self.created_ms
    }
}

/// By what a device is named: its id, within the team that is asked for or else the common tenant,
/// or its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRef<'a> {
    /// Its id.
    Id(&'a str),
    /// Its number.
    Number(i64),
}

impl<'a> From<&'a str> for DeviceRef<'a> {
    fn from(id: &'a str) -> Self {
        Self::Id(id)
    }
}

impl From<i64> for DeviceRef<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for DeviceRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Number(number) => write!(f, "number {number}"),
        }
    }
}

/// What a new device logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSecret {
    /// It is made up, and shown once.
    MadeUp,
    /// As [`DeviceSecret::MadeUp`], with this many letters and digits, at least 16.
    OfLength(usize),
    /// It has it from elsewhere.
    Given(Secret),
    /// Nothing yet.
    None,
}

/// A device to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Client Identifier and user name; none: it is generated.
    pub id: Option<String>,
    /// A number that it had elsewhere, higher than all that were taken here; none: the next one.
    pub number: Option<i64>,
    /// None: the id.
    pub name: Option<String>,
    /// Its type.
    pub device_type: String,
    /// What it is, in the words of its owner: up to 256 bytes.
    pub kind: String,
    /// Whether it is accepted.
    pub status: Status,
    /// For people.
    pub description: String,
    /// Where it stands.
    pub location: String,
    /// What runs on it.
    pub firmware_version: String,
    /// What it is built as.
    pub hardware_version: String,
    /// The user whose it is; empty is nobody's.
    pub owner: String,
    /// Its team, by id or name; none: that of who adds it.
    pub team: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Its groups, by id or name.
    pub groups: Vec<String>,
    /// What it logs in with.
    pub secret: DeviceSecret,
}

impl NewDevice {
    /// One of this id, of which nothing else is known.
    pub fn new(id: &str) -> Self {
        Self {
            id: Some(id.to_owned()),
            ..Self::unnamed()
        }
    }

    /// A device with a generated id, and defaults for all else.
    pub fn unnamed() -> Self {
        Self {
            id: None,
            number: None,
            name: None,
            device_type: DEVICE_TYPE.to_owned(),
            kind: String::new(),
            status: Status::Active,
            description: String::new(),
            location: String::new(),
            firmware_version: String::new(),
            hardware_version: String::new(),
            owner: String::new(),
            team: None,
            tags: Vec::new(),
            groups: Vec::new(),
            secret: DeviceSecret::MadeUp,
        }
    }
}

/// What is to be different about a device; none: it stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceChange {
    /// For people.
    pub name: Option<String>,
    /// Its type.
    pub device_type: Option<String>,
    /// What it is.
    pub kind: Option<String>,
    /// Whether it is accepted.
    pub status: Option<Status>,
    /// For people.
    pub description: Option<String>,
    /// Where it stands.
    pub location: Option<String>,
    /// What runs on it.
    pub firmware_version: Option<String>,
    /// What it is built as.
    pub hardware_version: Option<String>,
    /// The user whose it is.
    pub owner: Option<String>,
    /// Its team, by id or name, and with it its tenant; empty is none. It leaves the groups of the
    /// other team.
    pub team: Option<String>,
    /// All of its tags.
    pub tags: Option<Vec<String>>,
    /// All of its groups, by id or name.
    pub groups: Option<Vec<String>>,
}

/// What becomes of the others when one of many devices cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    /// None is added.
    AllOrNone,
    /// Those that can be are.
    EachByItself,
}

/// A device that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedDevice {
    /// Its number.
    pub number: i64,
    /// Its tenant.
    pub tenant: u32,
    /// Its id.
    pub id: String,
    /// See [`Device::user_name`].
    pub user_name: String,
    /// What was made up for it, if anything was: shown this once.
    pub secret: Option<Secret>,
}

/// What has become of one of many devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// It is there.
    Added(AddedDevice),
    /// One of that id was there.
    Exists(String),
    /// Something about it cannot be.
    Refused(String),
    /// Its owner, or the provisioning key, has too many.
    LimitReached(String),
    /// Nothing is wrong with it, but with others.
    NotDone,
}

impl RowOutcome {
    /// The device, or why it is none.
    pub(crate) fn added(self) -> Result<AddedDevice, RegistryError> {
        match self {
            Self::Added(added) => Ok(added),
            Self::Exists(why) => Err(RegistryError::Exists(why)),
            Self::Refused(why) => Err(RegistryError::Refused(why)),
            Self::LimitReached(why) => Err(RegistryError::LimitReached(why)),
            Self::NotDone => Err(RegistryError::Refused("it was not added".to_owned())),
        }
    }
}

/// Devices added at once after which PostgreSQL is told to update its statistics.
const MANY: usize = 1_000;

/// Devices in one statement.
const CHUNK: usize = 200;

/// Devices in one transaction, of those that are added each by itself.
const CHUNKS_MAX: usize = 5;

/// Devices that are added all or none, at most: nobody else can write in that time.
const ALL_OR_NONE_MAX: usize = 10_000;

impl Registry {
    /// Adds a device.
    ///
    /// # Errors
    /// There is a device or a user of that name, or something about it cannot be.
    pub async fn create_device(
        &mut self,
        actor: &Actor,
        device: NewDevice,
    ) -> Result<AddedDevice, RegistryError> {
        let key = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = insert_one(&mut work, &key, device).await;
        work.end(done).await
    }

    /// Adds many devices, and says of each what has become of it, in their order. All or none are
    /// up to 10,000.
    ///
    /// # Errors
    /// There are too many, or the database cannot be changed; of those that are added each by
    /// itself some may be there.
    pub async fn add_devices(
        &mut self,
        actor: &Actor,
        devices: Vec<NewDevice>,
        import: Import,
    ) -> Result<Vec<RowOutcome>, RegistryError> {
        if import == Import::AllOrNone && devices.len() > ALL_OR_NONE_MAX {
            return Err(RegistryError::LimitReached(format!(
                "up to {ALL_OR_NONE_MAX} devices are added all or none; more only each by itself"
            )));
        }
        let key = self.digest_key().await?;
        let mut outcomes = Vec::with_capacity(devices.len());
        let mut left = devices.into_iter().peekable();
        while left.peek().is_some() {
            // Nobody else writes meanwhile, which is not to be long.
            let many = match import {
                Import::AllOrNone => usize::MAX,
                Import::EachByItself => CHUNK * CHUNKS_MAX,
            };
            let some: Vec<_> = left.by_ref().take(many).collect();
            let mut work = self.begin(actor).await?;
            let done = insert_many(&mut work, &key, some).await;
            let is_added = |one: &RowOutcome| matches!(one, RowOutcome::Added(_));
            match (done, import) {
                (Ok(some), Import::AllOrNone) if !some.iter().all(is_added) => {
                    drop(work);
                    outcomes.extend(some.into_iter().map(|one| match one {
                        RowOutcome::Added(_) => RowOutcome::NotDone,
                        other => other,
                    }));
                }
                (done, _) => outcomes.extend(work.end(done).await?),
            }
        }
        if self.engine() == Engine::Postgres && outcomes.len() >= MANY {
            // Until it knows how many there are, lists are ten times as slow. They are there,
            // whatever comes of this.
            let known = sqlx::raw_sql("ANALYZE devices, device_credentials, device_tags");
            let mut reading = self.reading().await?;
            let done = known.execute(reading.connection()).await;
            let _ = reading.end(done).await;
        }
        Ok(outcomes)
    }

    /// What would become of each if these were added each by itself; nothing is.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn try_devices(
        &mut self,
        actor: &Actor,
        devices: Vec<NewDevice>,
    ) -> Result<Vec<RowOutcome>, RegistryError> {
        let key = self.digest_key().await?;
        let place = self.place().to_owned();
        let mut work = self.begin(actor).await?;
        let done = insert_many(&mut work, &key, devices).await;
        // Undone before anybody else waits for it.
        let undone = work.all.rollback().await.map_err(Fault::Sql);
        let done = done.and_then(|done| undone.map(|()| done));
        done.map_err(|fault| fault.at(&place))
    }

    /// Changes a device; the answer is what it is then.
    ///
    /// # Errors
    /// There is no such device, it has another revision than expected, or something about the
    /// change cannot be.
    pub async fn change_device(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        change: DeviceChange,
        expected_revision: Option<i64>,
    ) -> Result<Device, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change_one(&mut work, device, change, expected_revision).await;
        work.end(done).await
    }

    /// Deletes a device: it is gone for everybody, and can be restored.
    ///
    /// # Errors
    /// There is no such device, or it has another revision than expected.
    pub async fn delete_device(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        expected_revision: Option<i64>,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let found = find(&mut work.all, work.engine, &actor.scope, device, false).await?;
            expect_revision(&found.id, expected_revision, found.revision)?;
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
    /// not.
    ///
    /// # Errors
    /// There is no such device.
    pub async fn purge_device(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let (scope, engine) = (&actor.scope, work.engine);
            let found = match find(&mut work.all, engine, scope, device, false).await {
                Err(Fault::Told(RegistryError::NotFound(_))) => {
                    find(&mut work.all, engine, scope, device, true).await?
                }
                found => found?,
            };
            let gone = sqlx::query("DELETE FROM devices WHERE number = $1").bind(found.number);
            gone.execute(&mut *work.all).await?;
            presence::forget(&mut work, found.tenant, &found.id).await?;
            let changed = json!({ "number": found.number, "tenant": found.tenant });
            work.audit("device.remove", ("device", &found.id), &found.team, changed)
                .await
        };
        let done = done.await;
        work.end(done).await
    }

    /// A device.
    ///
    /// # Errors
    /// There is none.
    pub async fn device(
        &mut self,
        scope: &Scope,
        device: DeviceRef<'_>,
    ) -> Result<Device, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = find(on, engine, scope, device, false).await;
        reading.end(found).await
    }

    /// All devices of the common tenant, by id.
    ///
    /// # Errors
    /// The database cannot be read, or a status means nothing.
    pub async fn devices(&mut self) -> Result<Vec<Device>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = all_of_common_tenant(on, engine).await;
        reading.end(found).await
    }
}

async fn all_of_common_tenant(
    on: &mut AnyConnection,
    engine: Engine,
) -> Result<Vec<Device>, Fault> {
    let mut sql = Sql::new(engine, "SELECT ");
    sql.push(COLUMNS);
    sql.push(" FROM devices WHERE tenant = 0 AND deleted_ms = 0 ORDER BY id");
    let rows = sql.all(on).await?;
    let devices: Result<Vec<_>, _> = rows.iter().map(read_device).collect();
    let mut devices = devices?;
    for some in devices.chunks_mut(CHUNK) {
        fill(on, engine, some).await?;
    }
    Ok(devices)
}

/// Without the text that is searched.
pub(crate) const COLUMNS: &str = "number, tenant, id, name, type, kind, status, description, location, \
                                  firmware_version, hardware_version, owner, team, revision, \
                                  created_ms, updated_ms, last_seen_ms, last_message_ms, \
                                  last_telemetry_ms, deleted_ms, \
                                  (SELECT teams.name FROM teams WHERE teams.id = devices.team \
                                  AND teams.tenant > 0) AS owning_team";

/// What a device comes as, whose team owns its tenant, if one does.
fn user_name(id: &str, owning_team: Option<&str>) -> String {
    owning_team.map_or_else(|| id.to_owned(), |team| format!("{id}@{team}"))
}

/// Without tags, groups and credentials.
pub(crate) fn read_device(row: &AnyRow) -> Result<Device, Fault> {
    let id: String = row.try_get("id")?;
    let status: String = row.try_get("status")?;
    let tenant: i64 = row.try_get("tenant")?;
    let owning_team: Option<String> = row.try_get("owning_team")?;
    Ok(Device {
        user_name: user_name(&id, owning_team.as_deref()),
        number: row.try_get("number")?,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        name: row.try_get("name")?,
        device_type: row.try_get("type")?,
        kind: row.try_get("kind")?,
        status: status_of(&id, &status)?,
        description: row.try_get("description")?,
        location: row.try_get("location")?,
        firmware_version: row.try_get("firmware_version")?,
        hardware_version: row.try_get("hardware_version")?,
        owner: row.try_get("owner")?,
        team: row.try_get("team")?,
        tags: Vec::new(),
        groups: Vec::new(),
        revision: row.try_get("revision")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
        last_seen_ms: row.try_get("last_seen_ms")?,
        last_message_ms: row.try_get("last_message_ms")?,
        last_telemetry_ms: row.try_get("last_telemetry_ms")?,
        deleted_ms: row.try_get("deleted_ms")?,
        credentials: 0,
        presence: None,
        id,
    })
}

pub(crate) fn status_of(id: &str, word: &str) -> Result<Status, Fault> {
    Status::from_word(word).ok_or_else(|| {
        Fault::Told(RegistryError::Damaged {
            place: "the devices".to_owned(),
            what: format!("device {id}: {word:?} is no status"),
        })
    })
}

/// Adds what stands in other tables, of a page of devices.
pub(crate) async fn fill(
    on: &mut AnyConnection,
    engine: Engine,
    devices: &mut [Device],
) -> Result<(), Fault> {
    if devices.is_empty() {
        return Ok(());
    }
    let places = devices.iter().enumerate();
    let places: HashMap<i64, usize> = places.map(|(at, device)| (device.number, at)).collect();
    let numbers: Vec<i64> = devices.iter().map(|device| device.number).collect();
    let mut sql = Sql::new(
        engine,
        "SELECT device, tag FROM device_tags WHERE device IN ",
    );
    sql.list(numbers.iter().copied())
        .push(" ORDER BY device, tag");
    for row in sql.all(on).await? {
        if let Some(at) = places.get(&row.try_get("device")?) {
            devices[*at].tags.push(row.try_get("tag")?);
        }
    }
    let mut sql = Sql::new(
        engine,
        "SELECT device, id FROM group_devices JOIN device_groups ON id = group_id WHERE device IN ",
    );
    sql.list(numbers.iter().copied())
        .push(" ORDER BY device, name, id");
    for row in sql.all(on).await? {
        if let Some(at) = places.get(&row.try_get("device")?) {
            devices[*at].groups.push(row.try_get("id")?);
        }
    }
    let mut sql = Sql::new(
        engine,
        "SELECT device, COUNT(*) AS good FROM device_credentials WHERE revoked_ms = 0 AND \
         (expires_ms = 0 OR expires_ms > ",
    );
    sql.bind(now_ms()).push(") AND device IN ");
    sql.list(numbers.iter().copied()).push(" GROUP BY device");
    for row in sql.all(on).await? {
        if let Some(at) = places.get(&row.try_get("device")?) {
            devices[*at].credentials = usize::try_from(row.try_get::<i64, _>("good")?).unwrap_or(0);
        }
    }
    let by_name = devices.iter().enumerate();
    let by_name = by_name.map(|(at, device)| ((device.tenant, device.id.clone()), at));
    let by_name: HashMap<(u32, String), usize> = by_name.collect();
    let tenants: BTreeSet<u32> = devices.iter().map(|device| device.tenant).collect();
    for tenant in tenants {
        let ids = devices.iter().filter(|device| device.tenant == tenant);
        let ids: Vec<&str> = ids.map(|device| &*device.id).collect();
        for found in presence::of_clients(on, engine, tenant, &ids).await? {
            if let Some(at) = by_name.get(&(tenant, found.client_id.clone())) {
                let device = &mut devices[*at];
                device.presence = Some(found).filter(|found| device.is_own(found));
            }
        }
    }
    Ok(())
}

/// A device that is there, or one that is deleted, if the caller sees it.
pub(crate) async fn find(
    on: &mut AnyConnection,
    engine: Engine,
    scope: &Scope,
    device: DeviceRef<'_>,
    deleted: bool,
) -> Result<Device, Fault> {
    let mut sql = Sql::new(engine, "SELECT ");
    sql.push(COLUMNS).push(" FROM devices WHERE ");
    match device {
        DeviceRef::Number(number) => {
            sql.push("number = ").bind(number);
        }
        DeviceRef::Id(id) => {
            sql.push("id = ").bind(clean(id));
        }
    }
    match (scope.team(), device) {
        (Some(team), _) => {
            sql.push(" AND team = ").bind(team.to_owned());
        }
        (None, DeviceRef::Id(_)) => {
            sql.push(" AND tenant = 0");
        }
        (None, DeviceRef::Number(_)) => {}
    }
    sql.push(if deleted {
        " AND deleted_ms > 0"
    } else {
        " AND deleted_ms = 0"
    });
    let Some(row) = sql.first(on).await? else {
        return Err(not_found(on, engine, scope, device, deleted).await?.into());
    };
    let mut found = [read_device(&row)?];
    fill(on, engine, &mut found).await?;
    let [found] = found;
    Ok(found)
}

/// Error for a device that does not exist, with the device of that id that the caller sees.
async fn not_found(
    on: &mut AnyConnection,
    engine: Engine,
    scope: &Scope,
    device: DeviceRef<'_>,
    deleted: bool,
) -> Result<RegistryError, Fault> {
    let mut others = Vec::new();
    if let DeviceRef::Id(id) = device {
        let mut sql = Sql::new(engine, "SELECT ");
        sql.push(COLUMNS).push(" FROM devices WHERE id = ");
        sql.bind(clean(id));
        if let Some(team) = scope.team() {
            sql.push(" AND team = ").bind(team.to_owned());
        }
        sql.push(" ORDER BY tenant");
        for row in sql.all(on).await? {
            let owning_team: Option<String> = row.try_get("owning_team")?;
            others.push((read_device(&row)?, owning_team));
        }
    }
    let is_looked_for = |other: &Device| scope.team().is_some() || other.tenant == 0;
    let mut own = others.iter().filter(|(other, _)| is_looked_for(other));
    let hint = match (own.next(), deleted) {
        (Some(_), false) => format!(
            "it was deleted: POST /api/v1/devices/{device}/restore (martlet device restore {device}) \
             brings it back"
        ),
        (Some(_), true) => "it is there, and was not deleted".to_owned(),
        (None, _) => {
            let teams = others.iter().filter_map(|(_, team)| team.as_deref());
            let mut teams: Vec<&str> = teams.collect();
            teams.sort_unstable();
            match teams.first() {
                None => "GET /api/v1/devices (martlet device ls) lists them".to_owned(),
                Some(team) => format!(
                    "there is one in the team {}: ?team={team} (--team {team}) asks for it",
                    teams.join(", and one in ")
                ),
            }
        }
    };
    Ok(RegistryError::NotFound(format!(
        "there is no device {device}: {hint}"
    )))
}

/// Of what a text is looked for in.
fn search_text(id: &str, name: &str, description: &str, location: &str) -> String {
    format!("{id}\n{name}\n{description}\n{location}").to_lowercase()
}

pub(crate) async fn insert_one(
    work: &mut Work<'_>,
    key: &DigestKey,
    device: NewDevice,
) -> Result<AddedDevice, Fault> {
    let mut outcomes = insert_many(work, key, vec![device]).await?;
    let outcome = outcomes.pop().unwrap_or(RowOutcome::NotDone);
    Ok(outcome.added()?)
}

/// What is to be written of a device that nothing is wrong with.
struct Row {
    /// Which of those that were given.
    at: usize,
    id: String,
    device: NewDevice,
    tenant: i64,
    team: String,
    /// Id, secret that was made up, digest.
    credential: Option<(String, Option<Secret>, String)>,
}

/// Adds those that can be; nothing is undone.
pub(crate) async fn insert_many(
    work: &mut Work<'_>,
    key: &DigestKey,
    devices: Vec<NewDevice>,
) -> Result<Vec<RowOutcome>, Fault> {
    let mut outcomes = vec![RowOutcome::NotDone; devices.len()];
    let mut known = Known::default();
    let mut rows = Vec::new();
    for (at, device) in devices.into_iter().enumerate() {
        match check_new(work, &mut known, device, at).await? {
            Ok(row) => rows.push(row),
            Err(outcome) => outcomes[at] = outcome,
        }
    }
    while !rows.is_empty() {
        // A number that is given is not the one after that of the row before.
        let given = rows.iter().position(|row| row.device.number.is_some());
        let many = given.map_or(CHUNK, |at| at.max(1));
        let rest = rows.split_off(rows.len().min(CHUNK).min(many));
        let chunk = std::mem::replace(&mut rows, rest);
        insert_chunk(work, key, chunk, &mut known, &mut outcomes).await?;
    }
    if outcomes
        .iter()
        .any(|one| matches!(one, RowOutcome::Added(_)))
    {
        work.set_in_use().await?;
    }
    Ok(outcomes)
}

/// There is such a type, and these may give it to a device in this tenant.
pub(crate) async fn expect_type(
    work: &mut Work<'_>,
    tenant: i64,
    of_type: &str,
) -> Result<(), Fault> {
    let found = is_builtin(&mut work.all, Owner::DeviceType, of_type).await?;
    match (found, tenant, work.actor.scope.team()) {
        (None, ..) => Err(RegistryError::Refused(unknown(Owner::DeviceType, of_type)).into()),
        (Some(_), 0, Some(_)) => expect_own_topics(work, Owner::DeviceType, of_type).await,
        (Some(_), ..) => Ok(()),
    }
}

/// What was looked up for one of many devices and holds for the others.
#[derive(Default)]
struct Known {
    /// Why a type cannot be given; none: it can.
    types: HashMap<String, Option<String>>,
    owners: HashMap<String, bool>,
    /// Teams by how they were named; none: there is no such team.
    teams: HashMap<String, Option<Home>>,
    /// Names of those that own one.
    owning: HashMap<String, String>,
    /// Ids of groups, by the team that they are for and how they were named; none: there is none.
    groups: HashMap<(String, String), Option<String>>,
    ids: HashSet<(i64, String)>,
    /// Devices of each owner.
    owned: HashMap<String, i64>,
}

async fn check_new(
    work: &mut Work<'_>,
    known: &mut Known,
    mut device: NewDevice,
    at: usize,
) -> Result<Result<Row, RowOutcome>, Fault> {
    let id = match device.id.take() {
        Some(id) => id,
        None => generated_id()?,
    };
    if let Err(why) = check_fields(&id, &device) {
        return Ok(Err(RowOutcome::Refused(why.to_string())));
    }
    let scope = work.actor.scope.clone();
    let team = match (&device.team, scope.team()) {
        (Some(team), _) => team.clone(),
        (None, own) => own.unwrap_or_default().to_owned(),
    };
    if !known.teams.contains_key(&team) {
        let found = home_if_any(&mut work.all, &scope, &team).await?;
        known.teams.insert(team.clone(), found);
    }
    let Some(Some(Home { team, tenant })) = known.teams.get(&team).cloned() else {
        return Ok(Err(RowOutcome::Refused(format!("there is no team {team}"))));
    };
    if tenant > 0 && !known.owning.contains_key(&team) {
        let name = name_of(&mut work.all, &team).await?;
        known.owning.insert(team.clone(), name);
    }
    match expect_unqualified(&mut work.all, tenant, &id).await {
        Ok(()) => {}
        Err(Fault::Told(why)) => return Ok(Err(RowOutcome::Refused(why.to_string()))),
        Err(fault) => return Err(fault),
    }
    let of_type = &device.device_type;
    if !known.types.contains_key(of_type) {
        let why = match expect_type(work, tenant, of_type).await {
            Ok(()) => None,
            Err(Fault::Told(why)) => Some(why.to_string()),
            Err(fault) => return Err(fault),
        };
        known.types.insert(of_type.clone(), why);
    }
    if let Some(Some(why)) = known.types.get(of_type) {
        return Ok(Err(RowOutcome::Refused(why.clone())));
    }
    if !device.owner.is_empty() && !known.owners.contains_key(&device.owner) {
        let found = is_user(&mut work.all, &scope, &device.owner).await?;
        known.owners.insert(device.owner.clone(), found);
    }
    if known.owners.get(&device.owner) == Some(&false) {
        let why = format!("there is no user {}", device.owner);
        return Ok(Err(RowOutcome::Refused(why)));
    }
    for group in &mut device.groups {
        let place = (team.clone(), group.clone());
        if !known.groups.contains_key(&place) {
            let found = group_for_team(&mut work.all, &team, group).await?;
            let found = found.filter(|(_, of)| scope.sees(of)).map(|(id, _)| id);
            known.groups.insert(place.clone(), found);
        }
        match known.groups.get(&place) {
            Some(Some(id)) => group.clone_from(id),
            _ => {
                let why = format!("there is no group {group} for its team");
                return Ok(Err(RowOutcome::Refused(why)));
            }
        }
    }
    Ok(Ok(Row {
        at,
        id,
        device,
        tenant,
        team,
        credential: None,
    }))
}

fn check_fields(id: &str, device: &NewDevice) -> Result<(), RegistryError> {
    check_id(id)?;
    expect_not_reserved(id)?;
    check_new_name("device", device.name.as_deref().unwrap_or(id))?;
    check_kind(&device.kind)?;
    check_text("description", &device.description)?;
    check_text("location", &device.location)?;
    check_text("version", &device.firmware_version)?;
    check_text("version", &device.hardware_version)?;
    check_text("owner", &device.owner)?;
    check_tags(&device.tags)?;
    device
        .groups
        .iter()
        .try_for_each(|group| check_new_name("group", group))
}

/// Bytes of a kind: there is an index of them.
const KIND_BYTES_MAX: usize = 256;

fn check_kind(kind: &str) -> Result<(), RegistryError> {
    match kind.len() > KIND_BYTES_MAX || kind.chars().any(char::is_control) {
        true => Err(RegistryError::Refused(format!(
            "the kind may have up to {KIND_BYTES_MAX} bytes and no control characters"
        ))),
        false => Ok(()),
    }
}

fn check_tags(tags: &[String]) -> Result<(), RegistryError> {
    if tags.len() > 64 {
        return Err(RegistryError::Refused(
            "a device has up to 64 tags".to_owned(),
        ));
    }
    tags.iter().try_for_each(|tag| check_new_name("tag", tag))
}

async fn owned_by(on: &mut AnyConnection, owner: &str) -> Result<i64, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM devices WHERE owner = $1 AND deleted_ms = 0";
    let query = sqlx::query_scalar(sql).bind(owner.to_owned());
    query.fetch_one(on).await
}

fn too_many(owner: &str, most: u64) -> String {
    format!("{owner} owns {most} devices, and nobody may own more")
}

/// Which ids are taken already, and why.
async fn taken(work: &mut Work<'_>, rows: &[Row]) -> Result<HashMap<(i64, String), String>, Fault> {
    let mut taken = HashMap::new();
    let ids = || rows.iter().map(|row| row.id.clone());
    let tenants: HashSet<i64> = rows.iter().map(|row| row.tenant).collect();
    let mut sql = work.sql("SELECT tenant, id, deleted_ms FROM devices WHERE tenant IN ");
    sql.list(tenants).push(" AND id IN ").list(ids());
    for row in sql.all(&mut work.all).await? {
        let id: String = row.try_get("id")?;
        let why = match row.try_get::<i64, _>("deleted_ms")? {
            0 => format!(
                "{id} is there already: POST /api/v1/devices/{id}/rotate (martlet device rotate {id}) \
                 gives it another credential"
            ),
            _ => format!(
                "{id} was deleted: POST /api/v1/devices/{id}/restore (martlet device restore {id}) \
                 brings it back, POST /api/v1/devices/{id}/purge (martlet device rm --purge {id}) \
                 removes it for good"
            ),
        };
        taken.insert((row.try_get("tenant")?, id), why);
    }
    let mut sql = work.sql("SELECT tenant, name FROM users WHERE name IN ");
    sql.list(ids());
    for row in sql.all(&mut work.all).await? {
        let name: String = row.try_get("name")?;
        let why =
            format!("there is a user {name}, and a device's id is its user name: choose another");
        // Names of users are nobody else's in the common tenant either, wherever they are.
        taken.insert((0, name.clone()), why.clone());
        taken.insert((row.try_get("tenant")?, name), why);
    }
    Ok(taken)
}

async fn insert_chunk(
    work: &mut Work<'_>,
    key: &DigestKey,
    mut rows: Vec<Row>,
    known: &mut Known,
    outcomes: &mut [RowOutcome],
) -> Result<(), Fault> {
    let taken = taken(work, &rows).await?;
    if work.devices_per_user_max.is_some() {
        for row in &rows {
            let owner = &row.device.owner;
            if !owner.is_empty() && !known.owned.contains_key(owner) {
                let owned = owned_by(&mut work.all, owner).await?;
                known.owned.insert(owner.clone(), owned);
            }
        }
    }
    let most = work.devices_per_user_max;
    let given = rows.first().and_then(|row| row.device.number);
    let mut next_number = match rows.iter().any(|row| is_digits(&row.id)) || given.is_some() {
        true => work.next_number().await?,
        false => 0,
    };
    let taken_number = given.and_then(|given| expect_free_number(given, next_number).err());
    next_number = given.unwrap_or(next_number);
    rows.retain(|row| {
        let place = (row.tenant, row.id.clone());
        let number = expect_own_number(&row.id, next_number);
        let outcome = match (taken.get(&place), number) {
            (Some(why), _) => RowOutcome::Exists(why.clone()),
            (None, Err(why)) => RowOutcome::Refused(why),
            (None, _) if taken_number.is_some() => {
                RowOutcome::Refused(taken_number.clone().unwrap_or_default())
            }
            (None, _) if known.ids.contains(&place) => {
                RowOutcome::Exists(format!("{} is named twice", row.id))
            }
            (None, Ok(())) => match (known.owned.get_mut(&row.device.owner), most) {
                (Some(owned), Some(most)) if u64::try_from(*owned).unwrap_or(0) >= most => {
                    RowOutcome::LimitReached(too_many(&row.device.owner, most))
                }
                (owned, _) => {
                    owned.into_iter().for_each(|owned| *owned += 1);
                    known.ids.insert(place);
                    next_number += 1;
                    return true;
                }
            },
        };
        outcomes[row.at] = outcome;
        false
    });
    if rows.is_empty() {
        return Ok(());
    }
    for row in &mut rows {
        let (made_up, secret) = match &row.device.secret {
            DeviceSecret::None => continue,
            DeviceSecret::MadeUp => (true, Secret::new()?),
            DeviceSecret::OfLength(length) => (true, Secret::of_length(*length)?),
            DeviceSecret::Given(secret) => (false, secret.clone()),
        };
        let digest = secret::digest_text(&key.digest(secret.text().as_bytes()));
        row.credential = Some((secret::new_id()?, made_up.then_some(secret), digest));
    }
    if let Some(given) = given {
        work.skip_numbers_to(given).await?;
    }
    let first = work.take_numbers(rows.len() as i64).await?;
    write_devices(work, first, &rows).await?;
    write_what_belongs(work, first, &rows).await?;
    let entries: Vec<_> = rows.iter().map(added_entry).collect();
    work.write_audit(&entries).await?;
    for (number, row) in (first..).zip(rows) {
        let owning_team = known.owning.get(&row.team).map(String::as_str);
        outcomes[row.at] = RowOutcome::Added(AddedDevice {
            number,
            tenant: u32::try_from(row.tenant).unwrap_or(u32::MAX),
            user_name: user_name(&row.id, owning_team),
            id: row.id,
            secret: row.credential.and_then(|(_, secret, _)| secret),
        });
    }
    Ok(())
}

fn added_entry(row: &Row) -> NewAuditEntry {
    let device = &row.device;
    let mut changed = Map::new();
    changed.insert("type".to_owned(), device.device_type.clone().into());
    if row.tenant != 0 {
        changed.insert("tenant".to_owned(), row.tenant.into());
    }
    for (name, value) in [
        ("name", device.name.as_deref()),
        ("kind", Some(&device.kind)),
        ("owner", Some(&device.owner)),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            changed.insert(name.to_owned(), value.into());
        }
    }
    if let Some((credential, ..)) = &row.credential {
        changed.insert("credential".to_owned(), credential.clone().into());
    }
    NewAuditEntry {
        team: row.team.clone(),
        action: "device.add".to_owned(),
        object_kind: "device".to_owned(),
        object_id: row.id.clone(),
        changed: Value::Object(changed).to_string(),
        outcome: "done".to_owned(),
    }
}

async fn write_devices(work: &mut Work<'_>, first: i64, rows: &[Row]) -> Result<(), sqlx::Error> {
    let now_ms = work.now_ms;
    let mut sql = work.sql(
        "INSERT INTO devices (number, tenant, id, name, type, kind, status, description, location, \
         firmware_version, hardware_version, owner, team, search, revision, created_ms, \
         updated_ms, last_seen_ms, deleted_ms) VALUES ",
    );
    for (number, row) in (first..).zip(rows) {
        let device = &row.device;
        let name = device.name.as_deref().unwrap_or(&row.id);
        let search = search_text(&row.id, name, &device.description, &device.location);
        sql.push(if number == first { "(" } else { ", (" })
            .bind(number);
        sql.push(", ").bind(row.tenant);
        for text in [
            &*row.id,
            name,
            &device.device_type,
            &device.kind,
            device.status.word(),
            &device.description,
            &device.location,
            &device.firmware_version,
            &device.hardware_version,
            &device.owner,
            &row.team,
            &search,
        ] {
            sql.push(", ").bind(text.to_owned());
        }
        sql.push(", 1, ").bind(now_ms);
        sql.push(", ").bind(now_ms).push(", 0, 0)");
    }
    sql.execute(&mut work.all).await.map(drop)
}

/// Credentials, tags and places in groups.
async fn write_what_belongs(
    work: &mut Work<'_>,
    first: i64,
    rows: &[Row],
) -> Result<(), sqlx::Error> {
    let now_ms = work.now_ms;
    let mut sql = work.sql(
        "INSERT INTO device_credentials (id, device, name, kind, digest, created_ms, expires_ms, \
         revoked_ms, last_used_ms, uses) VALUES ",
    );
    let held = (first..).zip(rows);
    let held = held.filter_map(|(number, row)| Some((number, row.credential.as_ref()?)));
    let mut some = false;
    for (number, (id, _, digest)) in held {
        sql.push(if some { ", (" } else { "(" }).bind(id.clone());
        sql.push(", ").bind(number);
        sql.push(", '', 'secret', ").bind(digest.clone());
        sql.push(", ").bind(now_ms).push(", 0, 0, 0, 0)");
        some = true;
    }
    if some {
        sql.execute(&mut work.all).await?;
    }
    let tags: Vec<_> = (first..)
        .zip(rows)
        .flat_map(|(number, row)| row.device.tags.iter().map(move |tag| (number, tag.clone())))
        .collect();
    write_tags(work, &tags).await?;
    let places: Vec<_> = (first..)
        .zip(rows)
        .flat_map(|(number, row)| row.device.groups.iter().map(move |of| (of.clone(), number)))
        .collect();
    write_places(work, &places).await
}

async fn write_tags(work: &mut Work<'_>, tags: &[(i64, String)]) -> Result<(), sqlx::Error> {
    for some in tags.chunks(500) {
        let mut sql = work.sql("INSERT INTO device_tags (device, tag) VALUES ");
        for (at, (number, tag)) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" }).bind(*number);
            sql.push(", ").bind(tag.clone()).push(")");
        }
        sql.push(" ON CONFLICT DO NOTHING");
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}

/// Puts devices into groups, by the groups' ids.
pub(crate) async fn write_places(
    work: &mut Work<'_>,
    places: &[(String, i64)],
) -> Result<(), sqlx::Error> {
    for some in places.chunks(500) {
        let mut sql = work.sql("INSERT INTO group_devices (group_id, device) VALUES ");
        for (at, (group, number)) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" })
                .bind(group.clone());
            sql.push(", ").bind(*number).push(")");
        }
        sql.push(" ON CONFLICT DO NOTHING");
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}

async fn change_one(
    work: &mut Work<'_>,
    device: DeviceRef<'_>,
    change: DeviceChange,
    expected_revision: Option<i64>,
) -> Result<Device, Fault> {
    let scope = work.actor.scope.clone();
    let old = find(&mut work.all, work.engine, &scope, device, false).await?;
    expect_revision(&old.id, expected_revision, old.revision)?;
    let mut new = old.clone();
    if let Some(name) = change.name {
        if name != old.name {
            check_new_name("device", &name)?;
        }
        new.name = name;
    }
    if let Some(device_type) = change.device_type {
        if device_type != old.device_type {
            expect_type(work, i64::from(old.tenant), &device_type).await?;
        }
        new.device_type = device_type;
    }
    if let Some(kind) = change.kind {
        check_kind(&kind)?;
        new.kind = kind;
    }
    new.status = change.status.unwrap_or(old.status);
    for (what, given, field) in [
        ("description", change.description, &mut new.description),
        ("location", change.location, &mut new.location),
        (
            "version",
            change.firmware_version,
            &mut new.firmware_version,
        ),
        (
            "version",
            change.hardware_version,
            &mut new.hardware_version,
        ),
    ] {
        if let Some(given) = given {
            check_text(what, &given)?;
            *field = given;
        }
    }
    let has_owner_given = change.owner.is_some();
    if let Some(owner) = change.owner.filter(|owner| *owner != old.owner) {
        expect_room(work, &owner).await?;
        new.owner = owner;
    }
    if let Some(team) = change.team.filter(|team| *team != old.team) {
        move_to_team(work, &mut new, team).await?;
    }
    if new.tenant != old.tenant || new.tenant != crate::COMMON_TENANT && new.owner != old.owner {
        settle_owner(work, &mut new, has_owner_given).await?;
    }
    if let Some(mut tags) = change.tags {
        check_tags(&tags)?;
        tags.sort_unstable();
        tags.dedup();
        new.tags = tags;
    }
    if let Some(groups) = change.groups {
        set_groups(work, &mut new, &groups).await?;
    }
    if new != old {
        new.revision += 1;
        new.updated_ms = work.now_ms;
        write_change(work, &old, &new).await?;
    }
    Ok(new)
}

/// Checks that a user may own one more device.
async fn expect_room(work: &mut Work<'_>, owner: &str) -> Result<(), Fault> {
    if owner.is_empty() {
        return Ok(());
    }
    let scope = work.actor.scope.clone();
    check_text("owner", owner)?;
    if !is_user(&mut work.all, &scope, owner).await? {
        return Err(RegistryError::Refused(format!("there is no user {owner}")).into());
    }
    let Some(most) = work.devices_per_user_max else {
        return Ok(());
    };
    let owned = owned_by(&mut work.all, owner).await?;
    match u64::try_from(owned).unwrap_or(0) >= most {
        true => Err(RegistryError::LimitReached(too_many(owner, most)).into()),
        false => Ok(()),
    }
}

async fn move_to_team(work: &mut Work<'_>, device: &mut Device, team: String) -> Result<(), Fault> {
    let Home { team, tenant } = home(&mut work.all, &work.actor.scope, &team).await?;
    if team == device.team {
        return Ok(());
    }
    let number = device.number;
    if i64::from(device.tenant) != tenant {
        let sql = "SELECT id FROM devices WHERE tenant = $1 AND id = $2 UNION ALL \
                   SELECT name FROM users WHERE tenant = $1 AND name = $2";
        let query = sqlx::query(sql).bind(tenant).bind(device.id.clone());
        if query.fetch_optional(&mut *work.all).await?.is_some() {
            let why = format!(
                "there is a {} in the other team's tenant already, or one that was deleted and can \
                 be restored: remove it for good first, or export this device and add it there by \
                 another id",
                device.id
            );
            return Err(RegistryError::Exists(why).into());
        }
        expect_unqualified(&mut work.all, tenant, &device.id).await?;
        device.tenant = u32::try_from(tenant).unwrap_or(u32::MAX);
        let owning = match tenant {
            0 => None,
            _ => Some(name_of(&mut work.all, &team).await?),
        };
        device.user_name = user_name(&device.id, owning.as_deref());
    }
    let sql = "DELETE FROM group_devices WHERE device = $1 AND group_id IN \
               (SELECT id FROM device_groups WHERE team <> '' AND team <> $2)";
    let query = sqlx::query(sql).bind(number).bind(team.clone());
    query.execute(&mut *work.all).await?;
    device.groups = groups_of(&mut work.all, number).await?;
    device.team = team;
    Ok(())
}

/// By their names.
async fn groups_of(on: &mut AnyConnection, device: i64) -> Result<Vec<String>, sqlx::Error> {
    let sql = "SELECT id FROM group_devices JOIN device_groups ON id = group_id \
               WHERE device = $1 ORDER BY name, id";
    let query = sqlx::query_scalar(sql).bind(device);
    query.fetch_all(on).await
}

/// Has a device be in these groups and no others; those that who asks does not see stay, and may be
/// named.
async fn set_groups(
    work: &mut Work<'_>,
    device: &mut Device,
    named: &[String],
) -> Result<(), Fault> {
    let scope = work.actor.scope.clone();
    let mut places = Vec::new();
    for group in named {
        if device.groups.contains(group) {
            places.push((group.clone(), device.number));
            continue;
        }
        match group_for_team(&mut work.all, &device.team, group).await? {
            Some((id, of)) if scope.sees(&of) => places.push((id, device.number)),
            _ => {
                let why = format!("there is no group {group} for its team");
                return Err(RegistryError::Refused(why).into());
            }
        }
    }
    let mut sql = work.sql("DELETE FROM group_devices WHERE device = ");
    sql.bind(device.number);
    if let Some(team) = scope.team() {
        sql.push(" AND group_id IN (SELECT id FROM device_groups WHERE team = ");
        sql.bind(team.to_owned()).push(")");
    }
    sql.execute(&mut work.all).await?;
    write_places(work, &places).await?;
    device.groups = groups_of(&mut work.all, device.number).await?;
    Ok(())
}

/// A user of another tenant owns nothing here: who is not named as the new owner is none any more.
async fn settle_owner(
    work: &mut Work<'_>,
    device: &mut Device,
    is_given: bool,
) -> Result<(), Fault> {
    if device.owner.is_empty() {
        return Ok(());
    }
    let sql = "SELECT 1 FROM users WHERE name = $1 AND tenant = $2 AND deleted_ms = 0";
    let query = sqlx::query(sql).bind(device.owner.clone());
    let query = query.bind(i64::from(device.tenant));
    if query.fetch_optional(&mut *work.all).await?.is_some() {
        return Ok(());
    }
    if is_given {
        let why = format!(
            "the user {} is none of the team that the device is of",
            device.owner
        );
        return Err(RegistryError::Refused(why).into());
    }
    device.owner.clear();
    Ok(())
}

async fn write_change(work: &mut Work<'_>, old: &Device, new: &Device) -> Result<(), Fault> {
    let search = search_text(&new.id, &new.name, &new.description, &new.location);
    let mut sql = work.sql("UPDATE devices SET name = ");
    sql.bind(new.name.clone());
    for (column, text) in [
        (", type = ", &*new.device_type),
        (", kind = ", &new.kind),
        (", status = ", new.status.word()),
        (", description = ", &new.description),
        (", location = ", &new.location),
        (", firmware_version = ", &new.firmware_version),
        (", hardware_version = ", &new.hardware_version),
        (", owner = ", &new.owner),
        (", team = ", &new.team),
        (", search = ", &search),
    ] {
        sql.push(column).bind(text.to_owned());
    }
    sql.push(", tenant = ").bind(i64::from(new.tenant));
    sql.push(", revision = ").bind(new.revision);
    sql.push(", updated_ms = ").bind(new.updated_ms);
    sql.push(" WHERE number = ").bind(new.number);
    sql.execute(&mut work.all).await?;
    if old.tags != new.tags {
        let gone = sqlx::query("DELETE FROM device_tags WHERE device = $1").bind(new.number);
        gone.execute(&mut *work.all).await?;
        let tags: Vec<_> = new
            .tags
            .iter()
            .map(|tag| (new.number, tag.clone()))
            .collect();
        write_tags(work, &tags).await?;
    }
    let mut changed = Map::new();
    for (name, before, after) in [
        ("name", &*old.name, &*new.name),
        ("type", &old.device_type, &new.device_type),
        ("kind", &old.kind, &new.kind),
        ("status", old.status.word(), new.status.word()),
        ("description", &old.description, &new.description),
        ("location", &old.location, &new.location),
        (
            "firmware_version",
            &old.firmware_version,
            &new.firmware_version,
        ),
        (
            "hardware_version",
            &old.hardware_version,
            &new.hardware_version,
        ),
        ("owner", &old.owner, &new.owner),
        ("team", &old.team, &new.team),
    ] {
        if before != after {
            changed.insert(name.to_owned(), json!([before, after]));
        }
    }
    if old.tags != new.tags {
        changed.insert("tags".to_owned(), json!([old.tags, new.tags]));
    }
    if old.groups != new.groups {
        changed.insert("groups".to_owned(), json!([old.groups, new.groups]));
    }
    // Who had it sees that it has gone, and who has it that it has come; of two tenants neither is
    // told what it was, or is, in the other.
    let (mut gone, mut come) = (changed.clone(), changed);
    if old.tenant != new.tenant {
        gone = Map::from_iter([("team".to_owned(), json!([old.team, null]))]);
        for (_, pair) in come.iter_mut() {
            pair[0] = Value::Null;
        }
    }
    let (device, gone) = (("device", &*new.id), Value::Object(gone));
    if old.team != new.team {
        work.audit("device.change", device, &old.team, gone).await?;
    }
    let come = Value::Object(come);
    work.audit("device.change", device, &new.team, come).await
}

async fn set_deleted(work: &mut Work<'_>, device: &Device, action: &str) -> Result<(), Fault> {
    let sql = "UPDATE devices SET deleted_ms = $1, updated_ms = $1, revision = revision + 1 \
               WHERE number = $2";
    let query = sqlx::query(sql).bind(work.now_ms).bind(device.number);
    query.execute(&mut *work.all).await?;
    let changed = json!({ "number": device.number });
    work.audit(action, ("device", &device.id), &device.team, changed)
        .await
}

async fn restore_one(work: &mut Work<'_>, device: DeviceRef<'_>) -> Result<Device, Fault> {
    let scope = work.actor.scope.clone();
    let mut found = find(&mut work.all, work.engine, &scope, device, true).await?;
    // Its owner may have been removed.
    if !found.owner.is_empty() && !is_user(&mut work.all, &Scope::All, &found.owner).await? {
        found.owner.clear();
    }
    if !found.team.is_empty() {
        team_seen(&mut work.all, &scope, &found.team).await?;
    }
    if let (false, Some(most)) = (found.owner.is_empty(), work.devices_per_user_max) {
        let owned = owned_by(&mut work.all, &found.owner).await?;
        if u64::try_from(owned).unwrap_or(0) >= most {
            return Err(RegistryError::LimitReached(too_many(&found.owner, most)).into());
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

/// A device may have that id.
pub fn is_device_id(id: &str) -> bool {
    check_id(id).is_ok()
}

/// It stands in topics for one level, and for itself alone.
pub(crate) fn check_id(id: &str) -> Result<(), RegistryError> {
    check_new_name("device", id)?;
    match id.contains(['+', '#', '/']) || id.starts_with('$') {
        true => Err(RegistryError::Refused(format!(
            "{id:?} is no id of a device, which is one level of its topics: no +, # or /, and no $ \
             at its beginning"
        ))),
        false => Ok(()),
    }
}
