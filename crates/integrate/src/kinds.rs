//! All kinds of sinks and sources.

use crate::kind::Kind;

/// All kinds of sinks, by their name in `[[sinks.NAME]]`.
pub const KINDS: &[Kind] = &[
    crate::file::KIND,
    crate::webhook::KIND,
    crate::nats::KIND,
    crate::email::KIND,
];

/// All kinds of sources, each with its name in `[[sources.NAME]]`.
pub const SOURCES: &[(&str, Kind)] = &[
    ("nats", crate::nats::SOURCE_KIND),
    ("nats-requests", crate::nats::REQUESTS_KIND),
];
