//! Certificates, keys and revocation lists: from PEM files to what TLS is spoken with, or a
//! sentence that says what is wrong with which file and what to do.
//!
//! It knows neither sockets nor listeners, and holds no state but the name of the client that a
//! handshake has just refused: to read files again, build a new one.
#![forbid(unsafe_code)]

pub mod authority;
mod client;
mod facts;
mod identity;
mod pem;
mod refused;
mod server;
mod version1;

pub use client::{ClientFiles, ServerCheck, Versions, client_config, handshake_failure};
pub use facts::Facts;
pub use identity::{IdentityError, NameFrom, ends_secs, user_name};
pub use pem::FileError;
pub use refused::take_refused_name;
pub use server::{ClientCertificates, ServerFiles, ServerTls, server_config};
