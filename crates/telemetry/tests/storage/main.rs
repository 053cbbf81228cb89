//! The storage as other crates use it, beside a naive model.

mod aggregates;
mod back_fill;
mod deletions;
mod model;
mod place;
mod postgres;
mod ranges;
