//! Keys of the event archive, of `[events]`.

use super::Kind;
use super::general::Default;

pub(super) const EVENT_ARCHIVE: &[(&str, Kind, Default, &str)] = &[
    (
        "events.archive_kinds",
        Kind::Text,
        Default::Text(""),
        "Comma-separated kinds of events that are written to files, which GET /api/v1/events/archive reads: such as connected,disconnected,refused, or published,packet for messages and packets, or all. Payloads are not among them. Empty: none.",
    ),
    (
        "events.archive_days",
        Kind::Integer {
            min: 0,
            max: 36_500,
        },
        Default::Integer(7),
        "Days after which archived events are deleted; 0: never.",
    ),
    (
        "events.archive_bytes",
        Kind::Integer {
            min: 1_048_576,
            max: 1 << 50,
        },
        Default::Integer(1_073_741_824),
        "Bytes of the archived events, at most: beyond that the oldest ones are deleted.",
    ),
];
