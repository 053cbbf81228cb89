//! Certificates, keys and revocation lists. Creates TLS configurations from PEM files, or an error
//! that describes the faulty file and the remedy.
//!
//! It has no sockets and no listeners. Its only state is the name in the certificate that a
//! handshake has just rejected. To read files again, create a new configuration.
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
