//! Commands to devices: what a device is to do, until when, and how far it has come.
//!
//! * `state`: the states, and which follows which
//! * `row`: a command, and what each step changes in it
//! * `new`: commands that are to be added, and what they may be
//! * `batch`: many steps in one transaction, and what is to be published
//! * `fleet`: commands to the devices of a group, or to those that a filter names
//! * `kept`: commands that end by themselves, and how long those that have ended are kept

mod batch;
mod fleet;
mod kept;
mod new;
mod row;
mod state;

pub use batch::{CommandKey, CommandUpdate};
pub(crate) use fleet::insert as insert_commands;
pub use fleet::{FleetCommand, FleetReport, FleetTarget};
pub use kept::CommandsKept;
pub(crate) use kept::cancel_of_device;
use new::check;
pub use new::{COMMAND_BYTES_MAX, COMMANDS_OPEN_MAX, NewCommand, new_command_id};
pub use row::{Command, CommandAnswer, CommandOutcome, CommandStep};
pub use state::{CommandFilter, CommandState};

use serde_json::json;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::devices::find_device;
use crate::page::{Cursor, page_of};
use crate::sql::{Engine, Fault, Sql, clean};
use crate::{
    Actor, Conflict, Device, DeviceRef, Exists, NotFound, Page, PageRequest, Registry,
    RegistryError, Status, Visibility, secret,
};
use row::{COLUMNS, FROM, read_command};

impl Registry {
    /// Adds a command to a device.
    ///
    /// # Errors
    /// There is no such device, it is not active or has too many commands; it has one of this id;
    /// or something about the command cannot be.
    pub async fn add_command(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        new: NewCommand,
    ) -> Result<Command, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = add_one(&mut work, device, new).await;
        work.end(done).await
    }

    /// Commands of a device, the newest one first.
    ///
    /// # Errors
    /// There is no such device, or the cursor is none.
    pub async fn commands(
        &mut self,
        visibility: &Visibility,
        device: DeviceRef<'_>,
        filter: &CommandFilter,
        page: &PageRequest,
    ) -> Result<Page<Command>, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let device = find_device(on, engine, visibility, device, false).await?;
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS).push(FROM).push("c.device = ");
            sql.bind(device.number);
            if let Some(state) = filter.state {
                sql.push(" AND c.state = ").bind(state.word());
            }
            if filter.is_open {
                sql.push(" AND c.finished_ms = 0");
            }
            if let Some(cursor) = Cursor::of(page)? {
                sql.push(" AND c.number < ").bind(cursor.number);
            }
            sql.push(" ORDER BY c.number DESC LIMIT ");
            sql.bind(page.rows_to_read());
            let rows = sql.all(on).await?;
            let items: Result<Vec<Command>, Fault> =
                rows.iter().map(|row| read_command(row, &place)).collect();
            Ok(page_of(page, items?, None, |command| Cursor {
                text: String::new(),
                number: command.number,
            }))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A command of a device.
    ///
    /// # Errors
    /// There is no such device or command.
    pub async fn command(
        &mut self,
        visibility: &Visibility,
        device: DeviceRef<'_>,
        id: &str,
    ) -> Result<Command, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let device = find_device(on, engine, visibility, device, false).await?;
            find(on, engine, &place, &device, id).await
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// The command of a device with this number.
    ///
    /// # Errors
    /// There is no such device or command.
    pub async fn command_of_number(
        &mut self,
        visibility: &Visibility,
        device: DeviceRef<'_>,
        number: i64,
    ) -> Result<Command, RegistryError> {
        let (engine, place) = (self.engine(), self.place().to_owned());
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let device = find_device(on, engine, visibility, device, false).await?;
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS).push(FROM).push("c.number = ");
            sql.bind(number).push(" AND c.device = ");
            sql.bind(device.number);
            match sql.first(on).await? {
                Some(row) => read_command(&row, &place),
                None => Err(NotFound::Command(device.id, number.to_string()).into()),
            }
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Commands of a device of a tenant that have not ended, or have ended since a time, the newest
    /// one first. Those of rollouts are left out.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn recent_commands_of(
        &mut self,
        visibility: &Visibility,
        tenant: u32,
        device: &str,
        since_ms: i64,
        limit: u32,
    ) -> Result<Vec<Command>, RegistryError> {
        let mut sql = Sql::new(self.engine(), "SELECT ");
        sql.push(COLUMNS).push(FROM).push("d.tenant = ");
        sql.bind(i64::from(tenant));
        sql.push(" AND d.deleted_ms = 0 AND d.id = ")
            .bind(clean(device));
        if let Some(team) = visibility.team() {
            sql.push(" AND d.team = ").bind(team.to_owned());
        }
        sql.push(" AND (c.finished_ms = 0 OR c.finished_ms >= ")
            .bind(since_ms);
        sql.push(
            ") AND NOT EXISTS (SELECT 1 FROM rollouts r WHERE r.id = c.id OR c.id LIKE r.id || \
             '.%') ORDER BY c.number DESC LIMIT ",
        );
        sql.bind(i64::from(limit));
        self.read_commands(sql).await
    }

    /// Commands with this id, each of another device, the newest one first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn commands_of_id(
        &mut self,
        visibility: &Visibility,
        id: &str,
        limit: u32,
    ) -> Result<Vec<Command>, RegistryError> {
        let mut sql = Sql::new(self.engine(), "SELECT ");
        sql.push(COLUMNS).push(FROM).push("c.id = ").bind(clean(id));
        sql.push(" AND d.deleted_ms = 0");
        if let Some(team) = visibility.team() {
            sql.push(" AND d.team = ").bind(team.to_owned());
        }
        sql.push(" ORDER BY c.number DESC LIMIT ");
        sql.bind(i64::from(limit));
        self.read_commands(sql).await
    }

    /// All commands that a query finds.
    async fn read_commands(&mut self, sql: Sql) -> Result<Vec<Command>, RegistryError> {
        let place = self.place().to_owned();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let rows = sql.all(on).await?;
            rows.iter().map(|row| read_command(row, &place)).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Cancels a command. A message that is on its way to the device already may arrive.
    ///
    /// # Errors
    /// There is no such device or command, or it has ended.
    pub async fn cancel_command(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        id: &str,
    ) -> Result<Command, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let mut command = find_to_change(&mut work, device, id).await?;
            if !command.enter(CommandState::Cancelled, work.now_ms) {
                let state = command.state.word();
                return Err(Conflict::CommandEnded(id.to_owned(), state).into());
            }
            batch::write(&mut work, std::slice::from_ref(&command)).await?;
            audit(&mut work, device, "command.cancel", &command).await?;
            Ok(command)
        };
        let done = done.await;
        work.end(done).await
    }

    /// Has a command published once more, with all of its time again if that is over.
    ///
    /// # Errors
    /// There is no such device or command; or it succeeded, was cancelled or is pending anyway.
    pub async fn retry_command(
        &mut self,
        actor: &Actor,
        device: DeviceRef<'_>,
        id: &str,
    ) -> Result<Command, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let mut command = find_to_change(&mut work, device, id).await?;
            if !command.state.may_be_retried() {
                let state = command.state.word();
                return Err(Conflict::CommandNotRetried(id.to_owned(), state).into());
            }
            command.retry(work.now_ms);
            batch::write(&mut work, std::slice::from_ref(&command)).await?;
            audit(&mut work, device, "command.retry", &command).await?;
            Ok(command)
        };
        let done = done.await;
        work.end(done).await
    }
}

async fn find(
    on: &mut AnyConnection,
    engine: Engine,
    place: &str,
    device: &Device,
    id: &str,
) -> Result<Command, Fault> {
    let mut sql = Sql::new(engine, "SELECT ");
    sql.push(COLUMNS).push(FROM).push("c.device = ");
    sql.bind(device.number).push(" AND c.id = ").bind(clean(id));
    match sql.first(on).await? {
        Some(row) => read_command(&row, place),
        None => Err(NotFound::Command(device.id.clone(), id.to_owned()).into()),
    }
}

async fn find_to_change(
    work: &mut Work<'_>,
    device: DeviceRef<'_>,
    id: &str,
) -> Result<Command, Fault> {
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let device = find_device(&mut work.all, engine, &visibility, device, false).await?;
    let place = work.place().to_owned();
    find(&mut work.all, engine, &place, &device, id).await
}

async fn audit(
    work: &mut Work<'_>,
    device: DeviceRef<'_>,
    action: &str,
    command: &Command,
) -> Result<(), Fault> {
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let device = find_device(&mut work.all, engine, &visibility, device, false).await?;
    let changed = json!({ "command": command.id, "name": command.name });
    work.audit(action, ("device", &device.id), &device.team, changed)
        .await
}

async fn add_one(
    work: &mut Work<'_>,
    device: DeviceRef<'_>,
    new: NewCommand,
) -> Result<Command, Fault> {
    check(&new)?;
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let device = find_device(&mut work.all, engine, &visibility, device, false).await?;
    if device.status != Status::Active {
        let status = device.status.word();
        return Err(Conflict::DeviceInactive(device.id, status).into());
    }
    let sql = "SELECT COUNT(*) FROM commands WHERE device = $1 AND finished_ms = 0";
    let open = sqlx::query(sql).bind(device.number);
    let open: i64 = open.fetch_one(&mut *work.all).await?.try_get(0)?;
    if open >= COMMANDS_OPEN_MAX {
        return Err(Conflict::OpenCommands(device.id, COMMANDS_OPEN_MAX).into());
    }
    let id = match &new.id {
        Some(id) => id.clone(),
        None => secret::new_id()?,
    };
    let sql = "SELECT 1 FROM commands WHERE device = $1 AND id = $2";
    let same = sqlx::query(sql).bind(device.number).bind(id.clone());
    if same.fetch_optional(&mut *work.all).await?.is_some() {
        return Err(Exists::Command(device.id, id).into());
    }
    let to = [(device.number, device.device_type.clone())];
    fleet::insert(work, &to, &new, &id, "", "").await?;
    let place = work.place().to_owned();
    let command = find(&mut work.all, engine, &place, &device, &id).await?;
    let changed = json!({ "command": command.id, "name": command.name, "kind": command.kind });
    work.audit("command.add", ("device", &device.id), &device.team, changed)
        .await?;
    Ok(command)
}
