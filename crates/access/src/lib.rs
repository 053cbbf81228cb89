//! Credentials and rules from common file formats: password files and ACL files in Mosquitto's
//! format, and lists of users in environment variables.
//!
//! Parsing is pure: bytes in, users and rules out. A file is accepted only as a whole: an invalid
//! line is an error with its place. No error contains a password. Only [`edit`] accesses
//! files.
//!
//! * [`PasswordFile`]: users with hashes of their passwords
//! * [`hash`]: the formats of those hashes
//! * [`scram`]: authentication without sending the password
//! * [`edit`]: changes to such a file while others read it
//! * [`AclFile`]: which topics users may publish to and read
//! * [`Explanation`], [`Lint`]: why a rule decides, and warnings about rules
//! * [`Needs`]: for which topics of clients its lines are used
//! * [`default_rules`] and others: the rules if no file has any
//! * [`RuleLine`]: one rule of a role, in the syntax of such a file
//! * [`check_password`]: the minimum length of passwords
//! * [`credentials`]: users with their passwords in one line
#![forbid(unsafe_code)]

mod acl_file;
mod acl_line;
mod by_owner;
mod coverage;
mod defaults;
pub mod edit;
mod environment;
mod explain;
pub mod hash;
mod lint;
mod password;
mod password_file;
mod rule_line;
pub mod scram;
mod subscribing;
mod traffic;

use std::fmt;

pub use acl_file::AclFile;

pub use by_owner::Permitted;
pub use defaults::{
    IOTFLOW, IotflowBase, SERVICE_MQTT, administrator_rules, built_in_device_rules, default_rules,
    iotflow_user_rules, is_built_in_device_type,
};
pub use environment::{Credential, credentials};
pub use explain::{Explanation, explain};
pub use lint::{Lint, lint_rules, locks_out, star_warning_of};
pub use password::{PASSWORD_MIN, check_password, is_short};
pub use password_file::{Check, PasswordFile, Plain, commonest};
pub use rule_line::{RuleLine, with_keyword};
pub use subscribing::Subscribing;
pub use traffic::{Needs, RuleReview, USES_MIN, Use, judge_rules_by};

/// An error in a file, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// Name of the file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: usize,
    /// The error and the remedy.
    pub why: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.file, self.line, self.why)
    }
}

impl std::error::Error for FileProblem {}
