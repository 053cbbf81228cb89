//! An entry of the journal: as it is written, and as it is read.

use std::borrow::Cow;

use martlet_broker::{DropReason, RefusalCause};
use martlet_codec::ReasonCode;
use serde::{Deserialize, Serialize};

use super::commands::Commands;
use super::kind;
use crate::cause::Cause;
use crate::event::{NodeEvent, NodeNotice};
use crate::event_fields::EventFields;
use crate::event_kind::EventKind;
use crate::event_words;
use crate::remedy::{Command, Remedy};
use crate::text;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Event)]
pub struct Entry {
    /// Number of the entry, from 1 at the start of the node.
    pub seq: u64,
    /// Time of the entry.
    #[serde(rename = "at", with = "crate::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at_ms: u64,
    /// The number of the tenant; 0 is the common one.
    #[serde(skip_serializing_if = "is_common", default)]
    #[schema(value_type = u64)]
    pub tenant: u32,
    /// `connected`, `connect refused`, `re-authentication refused`, `provisioning refused` (of a
    /// device that shows a provisioning key by HTTP), `disconnected`,
    /// `publish refused`, `subscribe refused`,
    /// `message dropped`, `messages dropped` (of a publisher that is too fast), `messages lost`
    /// (for a client or share group), `publishes delayed`, `queue full` or `output full`.
    #[serde(with = "kind")]
    #[schema(schema_with = kind::schema)]
    pub what: EventKind,
    /// Client Identifier, as far as known.
    pub client_id: String,
    /// User Name, as far as known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_name: Option<String>,
    /// The client only claims this User Name.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub claimed: bool,
    /// Where from; none on a Unix socket, or where it is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// Topic Name or Topic Filter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// Name of the reason code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Number of messages that it is about, if they are reported together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u32>,
    /// Decision: a rule, a limit, a statement of the specification.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// The key in the configuration of the limit that decided it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "limits.packet_bytes")]
    pub limit: Option<String>,
    /// Cause of what went wrong, of a closed list.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<Cause>,
    /// Remedy, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// The command for it, ready for a shell on the node's machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub command: Option<Command>,
    /// Remedies for programs: requests of the API, keys of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub remedies: Vec<Remedy>,
}

fn is_common(tenant: &u32) -> bool {
    *tenant == 0
}

impl Entry {
    /// An entry of this kind, with nothing else.
    pub fn new(what: EventKind) -> Self {
        Self {
            seq: 0,
            at_ms: 0,
            tenant: 0,
            what,
            client_id: String::new(),
            user_name: None,
            claimed: false,
            address: None,
            topic: None,
            reason: None,
            count: None,
            why: None,
            limit: None,
            cause: None,
            remedy: None,
            command: None,
            remedies: Vec::new(),
        }
    }

    /// Adds its remedies for programs.
    pub(super) fn with_remedies(mut self) -> Self {
        self.remedies = Remedy::all(self.remedy.as_deref(), self.command.as_ref());
        self
    }

    /// The name of what happened.
    pub fn what_name(&self) -> &'static str {
        event_words::name(self.what)
    }

    /// Something was refused or lost.
    pub fn is_trouble(&self) -> bool {
        match self.what {
            EventKind::Connected => false,
            EventKind::MessagesLost => !self.is_expected_loss(),
            EventKind::Disconnected => {
                self.limit.is_some() || self.cause == Some(Cause::ProtocolError)
            }
            _ => true,
        }
    }

    /// Messages were dropped for a client that was not there, or ended with its session.
    fn is_expected_loss(&self) -> bool {
        let mut reasons = DropReason::ALL.iter();
        let reason = reasons.find(|reason| self.reason.as_deref() == Some(reason.name()));
        reason.is_some_and(|reason| reason.is_expected())
    }
}

#[derive(Debug)]
pub(super) struct NotedEvent {
    pub(super) seq: u64,
    pub(super) at_ms: u64,
    pub(super) notice: NodeNotice,
}

impl NotedEvent {
    /// Approximate bytes of it, with what the allocator and its owner add.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + 64 + self.notice.text_bytes()
    }

    pub(super) fn entry(&self, commands: &Commands) -> Entry {
        let event = &self.notice.event;
        let worded = commands.remedy(&self.notice);
        let (remedy, command) = worded.map(|worded| (worded.text, worded.command)).unzip();
        let limit = event.cause().and_then(RefusalCause::limit);
        Entry {
            seq: self.seq,
            at_ms: self.at_ms,
            cause: Cause::of(event),
            limit: limit.map(|limit| limit.option().to_owned()),
            remedy,
            command: command.flatten(),
            ..self.bare_entry()
        }
    }

    /// The entry without its cause and remedy.
    pub(super) fn bare_entry(&self) -> Entry {
        let NodeNotice { head, event } = &self.notice;
        let user = head.user();
        let fields = EventFields::of(&self.notice);
        Entry {
            tenant: head.tenant.0,
            client_id: head.client_id.to_string(),
            user_name: user.map(|user| user.name.to_owned()),
            claimed: user.is_some_and(|user| !user.is_proved),
            address: head.address.map(text::address),
            topic: fields.topic.or(fields.filter).map(str::to_owned),
            reason: reason_of(event, fields.reason).map(str::to_owned),
            count: fields.count.and_then(|count| u32::try_from(count).ok()),
            why: event_words::sentence(&self.notice).map(Cow::into_owned),
            ..Entry::new(event.kind())
        }
    }
}

/// The name of the reason code, or of the reason of a drop.
fn reason_of(event: &NodeEvent, fields: Option<&'static str>) -> Option<&'static str> {
    match event.kind() {
        EventKind::RateExceeded | EventKind::PublishesDelayed => {
            Some(ReasonCode::MessageRateTooHigh.name())
        }
        _ => fields,
    }
}
