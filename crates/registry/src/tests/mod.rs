//! Tests of what is true of all subjects, on both engines: each runs on SQLite and on PostgreSQL,
//! whose server the tests start themselves.

mod added_integrations;
mod audit;
mod bans;
mod commands;
mod device_ids;
mod device_numbers;
mod devices;
mod engines;
mod integrations;
mod keys;
mod message_log;
mod model;
mod postgres;
mod registration;
mod rules;
mod schema;
mod secrets;
mod speed;
mod team_rules;
mod team_tokens;
mod teams;
mod twins;
mod upgrade;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::snapshot::tests::TemporaryDirectory;
use crate::{
    Actor, DeviceChange, Expected, Location, NewDevice, NewGroup, NewTeam, Owner, Registry,
    RegistryError, RuleLine, Secret, Status, TypeSettings, Visibility, wait,
};

type Body = for<'a> fn(&'a mut Registry) -> Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

type Done = Result<(), RegistryError>;

impl Registry {
    /// Adds a role or a type, as a caller that sees everything.
    pub(crate) async fn add_rule_set(
        &mut self,
        owner: Owner,
        name: &str,
        rules: &[RuleLine],
    ) -> Done {
        let settings = TypeSettings::default();
        self.create_rule_set(&Actor::local(), owner, name, rules, settings)
            .await
    }

    /// Removes a role or a type, as a caller that sees everything.
    pub(crate) async fn remove_rule_set(&mut self, owner: Owner, name: &str) -> Done {
        self.delete_rule_set(&Actor::local(), owner, name).await
    }
}

/// Runs a test on both engines, each in tables of its own.
fn on_both(body: Body) {
    on_sqlite(body);
    let location = Location::Url(postgres::new_database());
    run(&location, body);
}

fn on_sqlite(body: Body) {
    let place = TemporaryDirectory::new("both");
    run(&Location::from(place.db()), body);
}

fn run(location: &Location, body: Body) {
    let done = wait(async {
        let mut registry = Registry::open(location).await?;
        body(&mut registry).await?;
        registry.close().await
    });
    if let Err(error) = done {
        panic!("{location}: {error}");
    }
}

/// As at the command line of the node.
impl Registry {
    /// Runs statements on the tables, as somebody does by hand.
    pub(crate) async fn run_sql(&mut self, sql: &str) -> Result<(), RegistryError> {
        let mut reading = self.reading().await?;
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
        let done = sql.execute(reading.connection()).await;
        reading.end(done).await.map(drop)
    }

    /// Adds a device with a secret, which is the answer.
    pub(crate) async fn add_device(&mut self, id: &str) -> Result<Secret, RegistryError> {
        let added = self.create_device(&Actor::local(), new_device(id)).await?;
        Ok(added.secret.expect("it is made up"))
    }

    /// Changes whether a device is accepted.
    pub(crate) async fn set_status(
        &mut self,
        id: &str,
        status: Status,
    ) -> Result<(), RegistryError> {
        let change = DeviceChange {
            status: Some(status),
            ..DeviceChange::default()
        };
        let actor = Actor::local();
        let changed = self.change_device(&actor, id.into(), change, Expected::any());
        changed.await.map(drop)
    }

    /// Gives a device another secret, which is the answer.
    pub(crate) async fn rotate(
        &mut self,
        id: &str,
        grace: Duration,
    ) -> Result<Secret, RegistryError> {
        self.rotate_secret(&Actor::local(), id.into(), grace).await
    }

    /// Removes a device for good.
    pub(crate) async fn remove_device(&mut self, id: &str) -> Result<(), RegistryError> {
        self.purge_device(&Actor::local(), id.into(), false).await
    }
}

/// A caller that sees all teams.
fn all() -> Actor {
    Actor {
        who: "root".to_owned(),
        by: "session 1".to_owned(),
        address: "192.0.2.1".to_owned(),
        request_id: "r-1".to_owned(),
        visibility: Visibility::All,
    }
}

/// A caller that sees one team.
fn of_team(team: &str) -> Actor {
    Actor {
        who: "ann".to_owned(),
        visibility: Visibility::Team(team.to_owned()),
        ..all()
    }
}

fn new_device(id: &str) -> NewDevice {
    NewDevice::new(id)
}

fn is_not_found<T: std::fmt::Debug>(told: Result<T, RegistryError>) -> bool {
    matches!(told, Err(RegistryError::NotFound(_)))
}

fn new_team(name: &str, owns_tenant: bool) -> NewTeam {
    NewTeam {
        name: name.to_owned(),
        owns_tenant,
        ..NewTeam::default()
    }
}

fn new_group(name: &str) -> NewGroup {
    NewGroup {
        name: name.to_owned(),
        ..NewGroup::default()
    }
}

/// Runs a test on both engines: `both!(name, registry, { … })`.
macro_rules! both {
    ($name:ident, $registry:ident, $body:block) => {
        #[test]
        fn $name() {
            $crate::tests::on_both(|$registry| {
                Box::pin(async move {
                    $body
                    Ok(())
                })
            });
        }
    };
}

use both;
