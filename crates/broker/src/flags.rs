//! Small facts, a bit each: of what there may be a million they take little room.

/// Declares a set of facts, with the number of the bit, a question and a way to set each.
macro_rules! flags {
    (
        $(#[$about:meta])* $visible:vis $type:ident($bits:ty);
        $( $(#[$what:meta])* $bit:literal $name:ident $set:ident; )*
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default)]
        $visible struct $type($bits);

        impl $type {
            $(
                $(#[$what])*
                #[inline(always)]
                $visible fn $name(self) -> bool {
                    self.0 & (1 << $bit) != 0
                }

                /// Sets it, or not.
                #[inline(always)]
                $visible fn $set(&mut self, is_so: bool) {
                    self.0 = self.0 & !(1 << $bit) | <$bits>::from(is_so) << $bit;
                }
            )*
        }
    };
}

pub(crate) use flags;
