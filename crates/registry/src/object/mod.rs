//! Objects of the tables: users, devices, groups and others. The fields of each are declared once,
//! in a list ([`object!`]). From the list follow the object itself, a new one and a change, all
//! with their JSON and their schemas in the document of the API; the statements that read and write
//! its table; and its entries in the audit log.
//!
//! * `table`: fields, and the statements that read and write objects
//! * `list`: the macro that makes a list into types
//! * `value`: values of fields, in columns and as text
//! * `words`: closed lists of words
//! * `time`: times in JSON

mod list;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod value;
pub(crate) mod words;

pub(crate) use list::object;
pub use table::SettableField;
pub(crate) use table::{
    Field, Object, Use, details_of_change, details_of_new, push_columns, push_insert, push_row,
    push_update, read_all, read_first, select, select_short, unchecked,
};
pub use time::read as read_time;
pub use words::one_of;
pub(crate) use words::word_type;
