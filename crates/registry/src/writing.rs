//! Transactions without other writers.

use sqlx::{Any, AnyConnection, Connection as _, Transaction};

use crate::postgres;
use crate::sql::Engine;

/// Begins a transaction without other writers.
pub(crate) async fn begin_writing(
    connection: &mut AnyConnection,
    engine: Engine,
) -> Result<Transaction<'_, Any>, sqlx::Error> {
    match engine {
        Engine::Sqlite => connection.begin_with("BEGIN IMMEDIATE").await,
        Engine::Postgres => postgres::begin_writing(connection).await,
    }
}
