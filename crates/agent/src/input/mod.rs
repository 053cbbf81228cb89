//! Inputs of the agent: streams of lines, and files of a folder.

pub(crate) mod folder;
pub(crate) mod stream;
