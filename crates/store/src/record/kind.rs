//! Kinds of operations: the lower half of an operation's first byte.

pub(super) const BODY: u8 = 1;
pub(super) const RELEASE: u8 = 2;
pub(super) const ENQUEUE: u8 = 3;
pub(super) const AMEND: u8 = 4;
pub(super) const END: u8 = 5;
pub(super) const TOKEN: u8 = 6;
pub(super) const END_TOKEN: u8 = 7;
pub(super) const STATE: u8 = 8;
pub(super) const REMOVE_STATE: u8 = 9;
pub(super) const FORGET: u8 = 10;
pub(super) const MOVED_BODY: u8 = 11;
pub(super) const MOVED_STATE: u8 = 12;
pub(super) const AMEND_NEXT: u8 = 13;
pub(super) const END_NEXT: u8 = 14;
pub(super) const GROUP: u8 = 15;
