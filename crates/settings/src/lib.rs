//! Keys of the configuration: those of the node, of its lists of tables, and of integrations. Each
//! is declared once, with its name, type, range, default and description.
//!
//! * `declare`: [`section!`], [`table!`] and [`words!`], which declare keys
//! * `setting`: [`Setting`], the types of keys, with [`List`]
//! * `takes`: [`Takes`], the values that a key accepts
//! * `value`: [`Value`], a value as it is read
//! * `secret`: [`SecretValue`], a text that is never shown; `masking`: what is shown of others

mod declare;
mod masking;
mod secret;
mod setting;
mod takes;
mod value;

pub use declare::{Both, Key, Section, TableKeys};
pub use masking::{headers as masked_headers, refers_alone};
pub use secret::SecretValue;
pub use setting::{HeaderLines, List, Setting, TopicLines};
pub use takes::{Takes, whole_number};
pub use value::{Value, Values};
