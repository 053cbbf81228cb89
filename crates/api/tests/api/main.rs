//! The routes as callers see them, without sockets: who may ask for what, errors as problems, and
//! whether the document says what is so.
#![allow(clippy::unwrap_used)]

mod broker;
mod callers;
mod document;
mod in_memory;
mod integrations;
mod node;
mod panel;
mod registry;
mod requests;
mod rights;
