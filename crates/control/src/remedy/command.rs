//! A command of the program that is a remedy, with the request of the API that does the same.

use std::fmt;
use std::ops::Deref;

use martlet_broker::TenantId;
use serde::{Deserialize, Serialize};

use super::RemedyKind;
use super::deed::{Deed, Given};
use crate::control::Control;

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

impl Control {
    /// A command about this node.
    pub(crate) fn command(&self, deed: Deed, values: &[&str]) -> Option<Command> {
        self.command_of_team(deed, "", values)
    }

    /// A command about an object of a tenant, which may be that of a team; none: the team has no
    /// name any more, and without it the command would be about another object.
    pub(crate) fn command_of_tenant(
        &self,
        deed: Deed,
        tenant: TenantId,
        values: &[&str],
    ) -> Option<Command> {
        self.journal.command(tenant, deed, values)
    }

    /// A command about an object of a team; empty: of none.
    pub(crate) fn command_of_team(
        &self,
        deed: Deed,
        team: &str,
        values: &[&str],
    ) -> Option<Command> {
        let node = &*self.info.command_options;
        deed.command(Given { node, team, values })
    }
}
