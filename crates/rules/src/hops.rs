//! Loop prevention: each message counts its distance from the message that a client has sent.

/// A message with this many hops is not examined by any rule.
pub const HOPS_MAX: u8 = 16;
/// Hops of a single consequence: rules that answer each other stop after eight messages.
const HOPS_EACH: u8 = 2;

/// Hops of each of `siblings` messages caused by one message with `hops`.
///
/// Several siblings count more hops each, so that rules cannot multiply a message. Of all messages
/// caused by one message, rules examine fewer than 2^15, whatever the rules are: `2^(16 − hops)`,
/// summed over the messages that a message causes, is at most a quarter of its own value.
pub fn hops_after(hops: u8, siblings: usize) -> u8 {
    hops.saturating_add(HOPS_EACH)
        .saturating_add(hops_of_siblings(siblings))
        .min(HOPS_MAX)
}

/// Additional hops of each of several messages, compared with a single one: the base-2 logarithm
/// of their number, rounded up.
pub fn hops_of_siblings(siblings: usize) -> u8 {
    let rounded_up = siblings.saturating_sub(1).checked_ilog2();
    u8::try_from(rounded_up.map_or(0, |bits| bits + 1)).unwrap_or(HOPS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of messages that rules examine, and that rules publish, if each causes `siblings`
    /// messages.
    fn follow(hops: u8, siblings: usize) -> (u64, u64) {
        if hops >= HOPS_MAX {
            return (0, 0);
        }
        let (seen, published) = follow(hops_after(hops, siblings), siblings);
        let siblings = siblings as u64;
        (1 + siblings * seen, siblings + siblings * published)
    }

    #[test]
    fn a_chain_of_single_messages_ends_after_eight() {
        assert_eq!(follow(0, 1), (8, 8));
    }

    #[test]
    fn a_message_is_not_multiplied_without_an_end() {
        assert_eq!(follow(0, 2), (63, 126));
        assert_eq!(follow(0, 16), (1 + 16 + 256, 16 + 256 + 4_096));
        for siblings in 1..3_000 {
            let (seen, _) = follow(0, siblings);
            assert!(seen < 1 << 15, "{siblings}: {seen}");
        }
    }

    #[test]
    fn many_consequences_of_one_message_have_consequences_too() {
        assert_eq!(hops_after(0, 500), 11);
        assert!(hops_after(hops_after(0, 500), 1) < HOPS_MAX);
        assert_eq!(hops_after(15, usize::MAX), HOPS_MAX);
    }
}
