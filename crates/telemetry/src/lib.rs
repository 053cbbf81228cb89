//! Values of devices over time, in SQLite or PostgreSQL.
//!
//! [`Storage`] is all that other crates need: [`Storage::write`] answers when the rows are synced,
//! [`Storage::range`], [`Storage::latest`] and [`Storage::aggregate`] read them.
//!
//! Files: `storage` is the interface, `writer` the thread that groups writes into transactions.
//! `sqlite/` keeps a journal of what was committed and blocks of packed values, `memory` holds what
//! is in the journal and not yet in blocks, `codec/` has the bytes of both. `postgres/` keeps plain
//! rows. `scan` reads one series in pages, whatever the database is; `query`, `aggregate` with its
//! `function`s, `bucket` and `rollup` build on it. `text` writes rows as CSV, NDJSON and line
//! protocol.
//!
//! A device is a number here, and a class of devices too: the caller knows what they are.

mod aggregate;
mod bucket;
mod codec;
pub mod decode;
mod engine;
mod error;
mod function;
mod location;
mod memory;
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
mod text;
mod value;
mod writer;

pub use aggregate::{Aggregate, AggregatePosition, AggregateRow, Aggregated, Fill};
pub use bucket::{Bucket, Unit};
pub use error::StorageError;
pub use function::Function;
pub use location::Location;
pub use martlet_database_url::DatabaseUrl;
pub use query::{Order, Position, Range, Row, Rows, Selection};
pub use retention::{Deleted, Limits, Retention};
pub use series::{Refused, WriteOutcome};
pub use settings::Settings;
pub use storage::Storage;
pub use text::{Format, time_text};
pub use value::{
    DAY, HOUR, Instant, KEY_BYTES_MAX, MINUTE, Point, PointRefusal, SECOND, TIME_END, TIME_MIN,
    Time, Value,
};
