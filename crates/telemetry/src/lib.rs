//! Values of devices over time, in SQLite or PostgreSQL.
//!
//! Other crates use only [`Storage`]: [`Storage::write`] returns when the rows are synced;
//! [`Storage::range`], [`Storage::latest`] and [`Storage::aggregate`] read them.
//!
//! Files: `storage` is the interface, `writer` the thread that groups writes into transactions.
//! `sqlite/` has a journal of committed values and blocks of packed values. `memory` has the
//! values that are in the journal and not yet in blocks, `codec/` the encoding of both.
//! `postgres/` stores plain rows. `scan` reads one series in pages from either database; `query`,
//! `aggregate` with its `function`s, `bucket` and `rollup` use it. `text` writes rows as CSV,
//! NDJSON and line protocol. `retention` says what is deleted, `tenant_bytes` which tenants may
//! write no more.
//!
//! Devices, their tenants and classes are numbers here; their meaning is up to the caller.

mod aggregate;
mod bucket;
mod codec;
mod damage;
pub mod decode;
mod engine;
mod error;
mod function;
mod held;
mod location;
mod memory;
mod passes;
mod postgres;
mod query;
mod reader;
mod retention;
mod rollup;
mod scan;
mod series;
mod settings;
mod spans;
mod sqlite;
mod storage;
mod tally;
mod tenant_bytes;
mod text;
mod value;
mod writer;

pub use aggregate::{Aggregate, AggregatePosition, AggregateRow, Aggregated, Fill};
pub use bucket::{Bucket, Unit};
pub use damage::Damage;
pub use error::StorageError;
pub use function::Function;
pub use held::{Found, QueryMemory};
pub use location::Location;
pub use martlet_database_url::DatabaseUrl;
pub use query::{Order, Position, Range, Row, Rows, Selection};
pub use retention::{Deleted, Limits, Retention};
pub use series::{Refused, WriteOutcome};
pub use settings::Settings;
pub use storage::Storage;
pub use tenant_bytes::TenantBytes;
pub use text::{Format, time_text};
pub use value::{
    DAY, HOUR, Instant, KEY_BYTES_MAX, MINUTE, Point, PointRefusal, SECOND, TIME_END, TIME_MIN,
    Time, Value,
};
