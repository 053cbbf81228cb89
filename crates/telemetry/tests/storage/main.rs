//! The storage as used by other crates, compared with a naive model.

#![allow(clippy::unwrap_used)] // A panic here is a failed assertion.

mod aggregates;
mod back_fill;
mod batches;
mod crashes;
mod damage;
mod damaged_pages;
mod damaged_series;
mod deletions;
mod full_file;
mod model;
mod place;
mod postgres;
mod ranges;
mod tenants;
