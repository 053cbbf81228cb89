//! What says who may come in and what they may do, in the files that people have: password files
//! and ACL files in Mosquitto's form, lists of users in the environment.
//!
//! Reading is pure: bytes in, users and rules out. Nothing is ever half understood: a line that
//! means nothing is an error with its place, and no password is in any error. Only [`edit`] touches
//! files.
//!
//! * [`PasswordFile`]: users with hashes of their passwords
//! * [`hash`]: the forms of those hashes
//! * [`scram`]: passwords that are proved and not sent
//! * [`edit`]: changing such a file while others read it
//! * [`AclFile`]: which topics users may publish to and read
//! * [`Explanation`], [`Lint`]: why, and what is odd in it
//! * [`Needs`]: what its lines are needed for, by what clients do
//! * [`default_rules`] and others: what holds where no file says anything
//! * [`RuleLine`]: one rule of a role, written as in such a file
//! * [`check_password`]: how long a password has to be
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
pub use lint::{Lint, lint_rules};
pub use password::{PASSWORD_MIN, check_password, is_short};
pub use password_file::{Check, PasswordFile, Plain};
pub use rule_line::RuleLine;
pub use subscribing::Subscribing;
pub use traffic::{Needs, RuleReview, USES_MIN, Use, judge_rules_by};

/// Why a file is not used: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// Its name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub why: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.file, self.line, self.why)
    }
}

impl std::error::Error for FileProblem {}
