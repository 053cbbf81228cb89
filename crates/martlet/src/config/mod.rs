//! One configuration: default < file (TOML) < environment < command line.
//!
//! A table of keys (`schema`) says what there is; `load` lays the sources over each other and
//! remembers where each value came from; `resolve` turns the result into each layer's own settings.

mod load;
mod resolve;
mod schema;

pub(crate) use load::{Effective, Overlay, environment, expectation, load};
pub(crate) use resolve::{LogFormat, NodeConfig, data_dir, listener_url, resolve};
pub(crate) use schema::{keys, listener_keys};
