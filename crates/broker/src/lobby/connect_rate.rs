//! How many CONNECTs have come in this second.

/// CONNECTs accepted in the present second.
#[derive(Debug, Default)]
pub(crate) struct ConnectRate {
    second: u64,
    count: u32,
}

impl ConnectRate {
    /// Takes one of this second's places; `per_second` 0 has no end of them.
    pub(crate) fn take(&mut self, now_ms: u64, per_second: u32) -> bool {
        let second = now_ms / 1000;
        if second != self.second {
            *self = Self { second, count: 0 };
        }
        self.count += 1;
        per_second == 0 || self.count <= per_second
    }
}
