//! Tests of the client commands against Debian's mosquitto broker.
//!
//! Most tests run the same command line with `martlet pub|sub|rr` and with `mosquitto_pub|sub|rr`,
//! and assert the same standard output, errors and exit code. They need the Debian packages
//! `mosquitto` and `mosquitto-clients`, and fail with these names if they are missing.

mod bench;
mod generated;
mod pub_;
mod rr;
mod sub;
mod support;
mod transport;
