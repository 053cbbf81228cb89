//! Why a client does not work: one verdict from what the registry, the rules, the session and the
//! latest events say of it, with the remedy.
//!
//! * [`facts`]: what is known, as plain data
//! * `gather`: where it comes from
//! * `namesakes`: whom a name may be meant for that nobody has
//! * `judge`: what follows from it, without asking anybody

pub mod facts;
mod gather;
mod judge;
mod namesakes;
#[cfg(test)]
mod tests;

use martlet_broker::TenantId;
use martlet_codec::TopicName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::cause::Cause;
use crate::journal::Run;
pub use judge::judge;

use facts::Facts;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// A Client Identifier, which for a device is its id, or a user name.
    pub name: String,
    /// A Topic Name.
    pub topic: Option<String>,
    /// Among the clients of which tenant.
    pub tenant: TenantId,
    /// Who asks sees the whole node; else nothing is told that may be of another tenant.
    pub sees_node: bool,
}

impl Question {
    /// Checks that a client could have that topic at all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let Some(topic) = &self.topic else {
            return Ok(());
        };
        let checked = TopicName::new(topic).map(|_| ());
        checked.map_err(|why| format!("{topic:?} is no Topic Name: {why}"))
    }
}

/// How a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ClientState)]
pub enum State {
    /// A Network Connection is there.
    Connected,
    /// It was there and is not.
    Away,
    /// It tries to connect, and is refused.
    Refused,
    /// Nothing was ever seen of it.
    NeverSeen,
}

/// One thing that is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Of a closed list.
    pub cause: Cause,
    /// In a sentence.
    pub sentence: String,
    /// Since when, as far as known.
    #[serde(rename = "since", with = "crate::rfc3339::optional")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since_ms: Option<u64>,
    /// How often since then, where it is something that happens.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mend: Option<String>,
    /// The command for that, as it stands in a shell on the node's machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// When.
    #[serde(rename = "at", with = "crate::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at_ms: u64,
    /// What.
    pub text: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// Who was asked about, by the name in its tenant.
    pub name: String,
    /// The number of the tenant; 0 is the common one.
    #[serde(skip_serializing_if = "is_common", default)]
    #[schema(value_type = u64)]
    pub tenant: u32,
    /// Which topic, if one was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// How it is.
    pub state: State,
    /// What is wrong.
    #[serde(flatten)]
    pub finding: Finding,
    /// What else is, as far as it matters less.
    pub also: Vec<Finding>,
    /// What was seen of it recently, in order of time.
    pub evidence: Vec<Evidence>,
}

fn is_common(tenant: &u32) -> bool {
    *tenant == 0
}

impl Finding {
    fn new(cause: Cause, sentence: impl Into<String>) -> Self {
        Self {
            cause,
            sentence: sentence.into(),
            since_ms: None,
            count: None,
            mend: None,
            command: None,
        }
    }

    fn since(mut self, at_ms: u64) -> Self {
        self.since_ms = Some(at_ms);
        self
    }

    fn mend(self, mend: impl Into<String>) -> Self {
        self.mend_opt(Some(mend.into()))
    }

    fn mend_opt(mut self, mend: Option<String>) -> Self {
        self.mend = mend;
        self
    }

    /// As it was said of the last thing of that kind that happened.
    fn mend_by(mut self, facts: &Facts, cause: Cause) -> Self {
        let mut runs = facts.runs.iter().rev();
        if let Some(run) = runs.find(|run| run.cause == Some(cause)) {
            self.mend = run.last.mend.clone().or(self.mend);
            self.command.clone_from(&run.last.command);
        }
        self
    }

    fn of_run(run: &Run, cause: Cause) -> Self {
        let last = &run.last;
        let why = last
            .why
            .clone()
            .unwrap_or_else(|| cause.meaning().to_owned());
        let sentence = match (&*last.what, &last.topic) {
            ("connect refused", _) => why,
            (what, Some(topic)) if !topic.is_empty() => format!("{what}, {topic}: {why}"),
            (what, _) => format!("{what}: {why}"),
        };
        Self {
            count: Some(run.count),
            mend: last.mend.clone(),
            command: last.command.clone(),
            ..Self::new(cause, sentence).since(run.since_ms)
        }
    }
}

impl Evidence {
    fn of_run(run: &Run) -> Self {
        let last = &run.last;
        let mut text = last.what.clone();
        for part in [&last.topic, &last.why].into_iter().flatten() {
            if !part.is_empty() {
                text.push_str(&format!(", {part}"));
            }
        }
        if let Some(address) = &last.address {
            text.push_str(&format!(", from {address}"));
        }
        if run.count > 1 {
            text.push_str(&format!(" ({} times)", run.count));
        }
        Self {
            at_ms: last.at_ms,
            text,
        }
    }
}
