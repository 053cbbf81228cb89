//! A message of the queue, and its format in the store.

/// First byte of a stored message: its format.
const FORM: u8 = 1;

/// Messages that are sent and not acknowledged, at most.
pub(crate) const IN_FLIGHT_MAX: usize = 100;

/// A message that waits for its PUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    /// Position in the order of the queue; never reused.
    pub(crate) id: u64,
    /// Topic Name.
    pub(crate) topic: String,
    /// Payload, any bytes.
    pub(crate) payload: Vec<u8>,
    /// Whether an earlier run of the agent may have sent it.
    pub(crate) sent_before: bool,
}

/// The bytes before the payload.
pub(crate) fn head(topic: &str) -> Vec<u8> {
    let mut head = Vec::with_capacity(3 + topic.len());
    head.push(FORM);
    // A Topic Name has at most 65,535 bytes [MQTT-1.5.4]; the caller has checked it.
    head.extend_from_slice(&(topic.len() as u16).to_le_bytes());
    head.extend_from_slice(topic.as_bytes());
    head
}

/// Topic and payload of stored bytes; `None` for another format.
pub(crate) fn read(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let [FORM, low, high, rest @ ..] = bytes else {
        return None;
    };
    let (topic, payload) = rest.split_at_checked(u16::from_le_bytes([*low, *high]).into())?;
    Some((std::str::from_utf8(topic).ok()?, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_message_is_read_as_it_was_written_and_other_bytes_are_refused() {
        let mut bytes = head("a/ü");
        bytes.extend_from_slice(b"\x00payload\n");
        assert_eq!(read(&bytes), Some(("a/ü", &b"\x00payload\n"[..])));
        assert_eq!(read(&head("")), Some(("", &b""[..])));
        for wrong in [&b""[..], &bytes[..4], &[9, 0, 0], &[1, 1, 0, 0xFF]] {
            assert_eq!(read(wrong), None);
        }
    }
}
