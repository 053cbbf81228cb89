//! Where messages come from: streams of lines, and files of a folder.

pub(crate) mod folder;
pub(crate) mod stream;
