//! A device that has published nothing for longer than its type permits.

use super::Finding;
use super::admission::was_cut_off;
use super::facts::{Facts, Inactive};
use super::found::{Bearing, is_connected};
use crate::cause::Cause;
use crate::rfc3339;
use crate::text::typed;

/// Of a device that is refused or was cut off, that is reported first: it cannot publish.
pub(super) fn inactive(facts: &Facts) -> Option<(Bearing, Finding)> {
    let inactive = facts.inactive.as_ref()?;
    let bearing = match is_connected(facts) {
        true => Bearing::Happened,
        false if was_cut_off(facts) => Bearing::Remark,
        false => Bearing::Ended,
    };
    Some((bearing, silent(inactive)))
}

fn silent(inactive: &Inactive) -> Finding {
    let Inactive {
        last_message_ms,
        since_ms,
        device_type,
        after_secs,
    } = inactive;
    let sentence = format!(
        "it has published nothing since {}: the type {device_type} counts a device as inactive \
         after {after_secs} s without a message",
        rfc3339::in_words(*last_message_ms)
    );
    Finding::new(Cause::Inactive, sentence)
        .since(*since_ms)
        .remedy(format!(
            "see why the device publishes nothing; martlet device type rules {} --inactive-after \
             TIME sets another time",
            typed(device_type)
        ))
}
