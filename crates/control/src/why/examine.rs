//! Parts that can be examined: each part of the node explains itself.

use super::asked::Asked;
use super::found::Found;
use super::{Bearing, Finding};
use crate::control::{Control, ControlError, OwnTopics};

/// A part of the node that `why` examines. It alone knows its facts.
pub(crate) trait Examine {
    /// Facts about the question.
    type Facts: Send + Sync + 'static;

    /// Reads what it knows. Where the tables cannot be read, health reports it, and the rest is
    /// examined.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    fn gather(
        &self,
        control: &Control,
        asked: &Asked,
    ) -> impl Future<Output = Result<Self::Facts, ControlError>> + Send;

    /// Adds what other parts are told of it before they are examined.
    fn tell(_facts: &Self::Facts, _asked: &mut Asked) {}

    /// Finds what is wrong, without further questions.
    fn judge(facts: &Self::Facts, asked: &Asked, findings: &mut Findings);

    /// Adds the topics of messages that it publishes or receives itself.
    fn own_topics(&self, _own: &mut OwnTopics) {}
}

/// Findings of the parts of the node.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// About the client in the question.
    pub(crate) found: Found,
    /// About objects of the name in the question, which is perhaps no client's.
    pub(super) named: Vec<Finding>,
    /// Objects whose names are spelt nearly so, each with its kind: "the rule hot-tank".
    pub(super) near: Vec<String>,
    /// Topics whose messages the tables keep, with the Client Identifier of the part that publishes
    /// them; none: any.
    pub(super) kept: Vec<(String, Option<&'static str>)>,
    /// Finding about the part that was asked about if nothing is wrong with it.
    pub(crate) well: Option<Finding>,
    /// Finding about a client that is not connected, if no part has found anything about it.
    pub(crate) unknown: Option<Finding>,
    /// Words for what should bring messages of the topic to a subscriber, and has brought none.
    pub(crate) nothing_came: Option<String>,
    /// Words for what the client may do with the topic, if nothing of it is wrong.
    pub(crate) uses: Option<String>,
    /// Words for what it, or the device that the topic names, published last; they follow a
    /// sentence.
    pub(crate) silence: String,
    /// Observations that may be about the client, and when.
    pub(crate) evidence: Vec<(u64, String)>,
}

impl Findings {
    /// Adds a finding about the client, which weighs what its cause weighs.
    pub(crate) fn add(&mut self, finding: Finding) {
        self.found.push((Bearing::Present, finding));
    }

    /// Adds one that bears on the question in this way.
    pub(crate) fn add_as(&mut self, bearing: Bearing, finding: Finding) {
        self.found.push((bearing, finding));
    }

    /// Adds a finding about an object that has the name in the question.
    pub(crate) fn add_named(&mut self, finding: Finding) {
        self.named.push(finding);
    }

    /// Messages to this topic, of this part if one is given, are kept in the tables, and are
    /// published again once the client subscribes: that is reported instead.
    pub(crate) fn keeps(&mut self, topic: impl Into<String>, part: Option<&'static str>) {
        self.kept.push((topic.into(), part));
    }

    /// An object was found that has the name in the question.
    pub(crate) fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// Nothing was found that has the name in the question, or nearly.
    pub(crate) fn has_no_name(&self) -> bool {
        self.named.is_empty() && self.near.is_empty()
    }

    /// Adds objects of a kind whose names are spelt nearly like that in the question.
    pub(crate) fn add_near(&mut self, kind: &str, names: &[String]) {
        let names = names.iter().map(|name| format!("the {kind} {name}"));
        self.near.extend(names);
    }
}

/// The facts of one part, with its judge.
pub(super) type Examined = Box<dyn Fn(&Asked, &mut Findings) + Send + Sync>;

/// Keeps the facts of a part for its judge.
pub(super) fn examined<P: Examine>(facts: P::Facts) -> Examined {
    Box::new(move |asked, findings| P::judge(&facts, asked, findings))
}
