//! The agent on a device: it accepts lines and metrics, keeps them in a queue on disk, and sends
//! them to an MQTT broker when it is connected.
//!
//! Responsible for durability on the device: accepted messages are kept until the broker has
//! acknowledged them, in order and within limits. It has one main thread, and one thread each for
//! standard input and pipes. It works with any MQTT broker and does not depend on the broker of
//! this repository.
//!
//! * `options`: the command line and the environment
//! * `queue`, `message`: queued messages, on disk
//! * `shared`: how keeper and link access the queue and wake each other
//! * `input/`, `lines`, `metrics`, `topics`: input
//! * `keeper`: reads input, and commits it
//! * `link`, `pace`: connects, sends and receives acknowledgements
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
