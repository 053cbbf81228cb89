//! The storage as other crates use it, beside a naive model.

mod model;
mod place;
mod ranges;
