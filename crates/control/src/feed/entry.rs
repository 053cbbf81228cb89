//! An event as it is kept.

use martlet_broker::{ConnectedClient, SharedClient, TenantId};

use super::together::Together;
use crate::event::NodeNotice;
use crate::event_kind::EventKind;
use crate::presence::ClientSource;

/// An event, with its number.
#[derive(Clone, Copy, Debug)]
pub struct FeedEntry<'a> {
    /// From 1 at the start of the node.
    pub seq: u64,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Kind of the event.
    pub kind: EventKind,
    /// In which tenant.
    pub tenant: TenantId,
    /// Content, which says what happened.
    pub(super) content: &'a EntryContent,
}

/// The content of an entry, in little memory: of the entries that are kept long, most are connects.
#[derive(Debug)]
pub(super) enum EntryContent {
    /// A client has connected: shares the contents of its CONNECT with presence.
    Connected(SharedClient),
    /// Any other event.
    Event(Box<EventOf>),
    /// Messages that were dropped together: the first of them.
    Together(Box<(EventOf, Together)>),
    /// One of them.
    Each(Box<EventOf>),
    /// Number of events that were lost before they came here.
    Lost(u64),
}

/// An event and its client, as far as that is known and not in the event.
#[derive(Debug)]
pub(super) struct EventOf {
    pub(super) notice: NodeNotice,
    pub(super) who: Option<ClientSource>,
}

/// The content of an entry, to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happened<'a> {
    /// A client has connected.
    Connected(&'a ConnectedClient),
    /// Any other event.
    Event(&'a NodeNotice),
    /// Events were lost before they came here.
    Lost,
}

impl EntryContent {
    pub(super) fn kind(&self) -> EventKind {
        match self {
            Self::Connected(_) => EventKind::Connected,
            Self::Event(content) => content.notice.event.kind(),
            Self::Together(content) => content.0.notice.event.kind(),
            Self::Each(_) => EventKind::DroppedMessage,
            Self::Lost(_) => EventKind::Gone,
        }
    }
}

impl<'a> FeedEntry<'a> {
    /// Number of events that were lost before they came here.
    pub fn lost(&self) -> Option<u64> {
        match self.content {
            EntryContent::Lost(count) => Some(*count),
            _ => None,
        }
    }

    /// Happening that the entry is about.
    pub(crate) fn what(&self) -> Happened<'a> {
        match self.content {
            EntryContent::Connected(client) => Happened::Connected(client),
            EntryContent::Event(content) | EntryContent::Each(content) => {
                Happened::Event(&content.notice)
            }
            EntryContent::Together(content) => Happened::Event(&content.0.notice),
            EntryContent::Lost(_) => Happened::Lost,
        }
    }

    /// The client that it is about, as far as that is known and not in the event.
    pub(super) fn who(&self) -> Option<&'a ClientSource> {
        match self.content {
            EntryContent::Event(content) | EntryContent::Each(content) => content.who.as_ref(),
            EntryContent::Together(content) => content.0.who.as_ref(),
            _ => None,
        }
    }

    /// Facts about messages that were dropped together, if it stands for several.
    pub(crate) fn together(&self) -> Option<Together> {
        match self.content {
            EntryContent::Together(content) => Some(content.1),
            _ => None,
        }
    }
}
