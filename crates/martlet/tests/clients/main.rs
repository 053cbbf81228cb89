//! The client commands as a user runs them, against Debian's mosquitto broker.
//!
//! Most tests run the same command line with `martlet pub|sub|rr` and with `mosquitto_pub|sub|rr`
//! and want the same standard output, the same errors and the same exit code. They need the
//! Debian packages `mosquitto` and `mosquitto-clients` and fail with their names without them.

mod bench;
mod generated;
mod pub_;
mod rr;
mod sub;
mod support;
mod transport;
