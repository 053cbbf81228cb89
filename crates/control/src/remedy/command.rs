//! A command of the program that is a remedy, with the request of the API that does the same.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Kind of a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FaultRemedyKind)]
pub enum RemedyKind {
    /// A request that removes the problem.
    Request,
    /// A request that shows more, or tests whether the problem is over.
    View,
    /// A command of the program that is no single request, or whose request needs more than is
    /// known.
    Command,
    /// A key of the configuration has to be changed.
    Configuration,
    /// The problem has to be solved elsewhere, such as at the client: the node can do nothing.
    Elsewhere,
}

/// A command line for a shell on the node's machine, and the request that does the same. As JSON it
/// is the line alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Command {
    line: String,
    request: Option<Box<Request>>,
}

/// A request of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) kind: RemedyKind,
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) body: Option<serde_json::Value>,
}

impl Command {
    pub(super) fn new(line: String, request: Option<Request>) -> Self {
        let request = request.map(Box::new);
        Self { line, request }
    }

    pub(super) fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }
}

/// A line that a client of the API reads: the request is beside it, among the remedies.
impl From<String> for Command {
    fn from(line: String) -> Self {
        let request = None;
        Self { line, request }
    }
}

impl From<Command> for String {
    fn from(command: Command) -> Self {
        command.line
    }
}

impl Deref for Command {
    type Target = str;

    fn deref(&self) -> &str {
        &self.line
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}
