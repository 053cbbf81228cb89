//! What is true of all subjects, on both engines: each test runs on SQLite and on PostgreSQL, whose
//! server the tests start themselves.

mod audit;
mod devices;
mod engines;
mod keys;
mod model;
mod postgres;
mod speed;
mod teams;

use std::future::Future;
use std::pin::Pin;

use crate::snapshot::tests::Place;
use crate::{Actor, Location, NewDevice, Registry, RegistryError, Scope, wait};

type Body = for<'a> fn(&'a mut Registry) -> Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

type Done = Result<(), RegistryError>;

/// Runs a test on both engines, each in tables of its own.
fn on_both(body: Body) {
    on_sqlite(body);
    let location = Location::Url(postgres::new_database());
    run(&location, body);
}

fn on_sqlite(body: Body) {
    let place = Place::new("both");
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

/// Whoever sees all.
fn all() -> Actor {
    Actor {
        who: "root".to_owned(),
        by: "session 1".to_owned(),
        address: "192.0.2.1".to_owned(),
        request_id: "r-1".to_owned(),
        scope: Scope::All,
    }
}

/// Whoever sees one team.
fn of_team(team: &str) -> Actor {
    Actor {
        who: "ann".to_owned(),
        scope: Scope::Team(team.to_owned()),
        ..all()
    }
}

fn new_device(id: &str) -> NewDevice {
    NewDevice::new(id)
}

fn is_not_found<T: std::fmt::Debug>(told: Result<T, RegistryError>) -> bool {
    matches!(told, Err(RegistryError::NotFound(_)))
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
