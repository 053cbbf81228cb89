//! The agent on a device: it takes lines and metrics, keeps them in a queue on disk, and sends them
//! to an MQTT broker when there is one.
//!
//! Responsible for what a device promises: what was taken stays until the broker has acknowledged
//! it, in order and within limits. It is one thread and those that read standard input and pipes.
//! It does not know the broker of this repository: any broker will do.
//!
//! * `options`: the command line and the environment
//! * `queue`, `message`: what waits, on disk
//! * `shared`: how keeper and link reach the queue and wake each other
//! * `input/`, `lines`, `metrics`, `topics`: what comes in
//! * `keeper`: takes what comes in, and commits it
//! * `link`, `pace`: connects, sends and takes acknowledgements
//! * `import`: queues of other programs
#![forbid(unsafe_code)]

mod agent;
mod import;
mod input;
mod keeper;
mod lines;
mod link;
mod log;
mod message;
mod metrics;
mod options;
mod pace;
mod queue;
mod shared;
mod topics;

pub use agent::run;
pub use import::{Imported, ImportedRow, import};
pub use options::{Action, AgentOptions, ImportOptions};
