//! Names and texts of events, cut: where an event is made, or by [`Event::shown`].

use std::ops::Deref;

use martlet_permission::{CauseText, Refusal};

use crate::connected_client::{ConnectedClient, SharedClient, UserName};
use crate::event::{DeliveredMessage, Event, EventNotice, PublishedMessage, WillNotice};
use crate::event_head::EventHead;
use crate::shortened::{WHY_BYTES_MAX, cut_to, is_cut, shortened};

fn shorten<N>(name: &mut N)
where
    N: Deref<Target = str> + for<'a> From<&'a str>,
{
    if is_cut(name) {
        *name = (&*shortened(name)).into();
    }
}

/// Cuts the words of a refusal.
pub fn shorten_why<C: CauseText>(why: &mut Refusal<C>) {
    why.change_words(|detail, subject| {
        if detail.len() > WHY_BYTES_MAX {
            *detail = cut_to(detail, WHY_BYTES_MAX).into();
        }
        subject.iter_mut().for_each(shorten);
    });
}

/// Only a proved name is whole: it may be looked for.
fn shorten_claim(client: &mut SharedClient) {
    let is_claimed = !client.flags.user_is_proved();
    if is_claimed && client.user_name.as_deref().is_some_and(is_cut) {
        let client = SharedClient::make_mut(client);
        client.change_names(|_, user_name| user_name.iter_mut().for_each(shorten));
    }
}

/// Cuts what [`shorten_claim`] left whole.
fn shorten_client(client: &mut SharedClient) {
    let is_proved = client.flags.user_is_proved();
    let client = SharedClient::make_mut(client);
    client.change_names(|client_id, user_name| {
        shorten(client_id);
        let proved = user_name.as_mut().filter(|_| is_proved);
        proved.into_iter().for_each(shorten);
    });
}

impl EventHead {
    /// Returns the head with its names cut, as of an event that no shard reports.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        self.shorten_client_id();
        self.shorten_user();
        self
    }

    /// Bytes of its names.
    pub fn text_bytes(&self) -> usize {
        self.client_id.len() + self.user_name().map_or(0, str::len)
    }

    fn shorten_client_id(&mut self) {
        if !self.is_cut && is_cut(&self.client_id) {
            self.client_id = (&*shortened(&self.client_id)).into();
            self.is_cut = true;
        }
    }

    fn shorten_user(&mut self) {
        if let Some(UserName::Proved(name) | UserName::Claimed(name)) = &mut self.user {
            shorten(name);
        }
    }
}

impl EventNotice {
    /// An event as shards report it. User Names, reasons and the Client Identifier of a refused
    /// client are cut. Other Client Identifiers stay whole, up to their limit: readers tell clients
    /// apart by them. Topics of refusals and drops were cut before.
    pub fn new(head: EventHead, event: Event) -> Self {
        let mut notice = Self { head, event };
        notice.shorten();
        notice
    }

    fn shorten(&mut self) {
        let head = &mut self.head;
        match &mut self.event {
            Event::Connected(client) => {
                shorten_claim(client);
                *head = EventHead::of_client(head.tenant, client);
                return;
            }
            Event::Refused { .. } => head.shorten_client_id(),
            _ => {}
        }
        head.shorten_user();
        if let Some(why) = self.event.refusal_mut() {
            shorten_why(why);
        }
    }

    /// Approximate number of bytes that it takes beside its own size: of its texts and its payload.
    pub fn text_bytes(&self) -> usize {
        self.head.text_bytes() + self.event.text_bytes()
    }
}

impl Event {
    /// An event of a shard with every name cut, for the log and the journal; none: no name is
    /// long. Not for one that was cut before.
    pub fn shown(&self, head: &EventHead) -> Option<EventNotice> {
        let other = match self {
            Self::Connected(_) => head.proved(),
            event => event.whole_topic(),
        };
        let mut whole = [head.whole_client_id(), other].into_iter().flatten();
        whole.any(is_cut).then(|| {
            let (mut head, mut event) = (head.clone(), self.clone());
            event.shorten_whole(&mut head);
            EventNotice { head, event }
        })
    }

    /// Cuts the names that are whole when an event is reported.
    fn shorten_whole(&mut self, head: &mut EventHead) {
        match self {
            Self::Connected(client) => {
                shorten_client(client);
                if let Some(UserName::Proved(name)) = &mut head.user {
                    shorten(name);
                }
            }
            Self::Subscribed { filter, .. } | Self::Unsubscribed { filter } => shorten(filter),
            Self::Published(message) => shorten(&mut message.topic),
            Self::Delivered(message) => shorten(&mut message.topic),
            _ => {}
        }
        head.shorten_client_id();
    }

    /// The topic, where it is not cut when the event is reported.
    fn whole_topic(&self) -> Option<&str> {
        match self {
            Self::Subscribed { .. }
            | Self::Unsubscribed { .. }
            | Self::Published(_)
            | Self::Delivered(_) => self.topic(),
            _ => None,
        }
    }

    /// Returns the Topic Name or Topic Filter, if it has one.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Dropped { topic, .. } | Self::PublishRefused { topic, .. } => Some(topic),
            Self::RateExceeded { topic, .. } => Some(topic),
            Self::MessagesLost { topic, .. } => Some(&**topic).filter(|topic| !topic.is_empty()),
            Self::SubscribeRefused { filter, .. } => Some(filter),
            Self::Subscribed { filter, .. } | Self::Unsubscribed { filter, .. } => Some(filter),
            Self::Published(message) => Some(&message.topic),
            Self::Delivered(message) => Some(&message.topic),
            _ => None,
        }
    }

    /// Bytes of its own texts and its payload.
    pub fn text_bytes(&self) -> usize {
        let why = self.refusal().map_or(0, Refusal::text_bytes);
        let more = match self {
            Self::Connected(_) => size_of::<ConnectedClient>(),
            Self::Published(message) => size_of::<PublishedMessage>() + message.payload.len(),
            Self::Delivered(_) => size_of::<DeliveredMessage>(),
            Self::Disconnected {
                will: Some(will), ..
            } => size_of::<WillNotice>() + will.topic.len(),
            _ => 0,
        };
        why + more + self.topic().map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shortened::NAME_BYTES_MAX;
    use martlet_codec::ReasonCode;
    use martlet_permission::{RefusalCause, TenantId};

    fn notice(client_id: &str, user: UserName, event: Event) -> EventNotice {
        let head = EventHead::new(TenantId(0), client_id).with_user(Some(user));
        EventNotice::new(head, event)
    }

    fn shown(notice: &EventNotice) -> EventNotice {
        let shown = notice.event.shown(&notice.head);
        shown.unwrap_or_else(|| notice.clone())
    }

    fn refused(client_id: &str, detail: &str) -> EventNotice {
        let event = Event::Refused {
            will_topic: None,
            reason: ReasonCode::NotAuthorized,
            why: Refusal::operators_only(RefusalCause::Forbidden, detail.to_owned()),
        };
        notice(client_id, UserName::Claimed(client_id.into()), event)
    }

    #[test]
    fn each_name_of_an_event_is_cut_once() {
        let long = "v".repeat(300);
        let forged = shortened(&long).into_owned();
        let own = shortened(&forged).into_owned();
        let event = refused(&forged, "no");
        assert_eq!(*event.head.client_id, own);
        assert!(event.head.is_of_client(&forged) && !event.head.is_of_client(&long));
        assert_eq!(event.head.whole_client_id(), None);
        assert_eq!(event.event.shown(&event.head), None);
        let ended = Event::Disconnected {
            reason: ReasonCode::Success,
            why: RefusalCause::Goodbye.into(),
            will: None,
        };
        let event = notice(&forged, UserName::Proved(forged.as_str().into()), ended);
        assert!(event.head.is_of_client(&forged) && !event.head.is_of_client(&long));
        assert_eq!(event.head.whole_client_id(), Some(&*forged));
        let shown = shown(&event).head;
        assert_eq!((&*shown.client_id, shown.proved()), (&*own, Some(&*own)));
    }

    #[test]
    fn the_names_of_a_client_that_has_connected_are_cut_in_the_head_too() {
        let long = "v".repeat(300);
        let short = shortened(&long).into_owned();
        let mut client = ConnectedClient::new(&long, Some(&long));
        client.flags.set_user_is_proved(true);
        let mut event = EventNotice::connected(TenantId(0), SharedClient::new(client));
        event.shorten();
        assert_eq!(event.head.proved(), Some(&*long), "it may be looked for");
        let EventNotice { head, event } = shown(&event);
        assert_eq!((&*head.client_id, head.proved()), (&*short, Some(&*short)));
        let Event::Connected(client) = event else {
            panic!("{event:?}");
        };
        assert_eq!(EventHead::of_client(TenantId(0), &client).user, head.user);
        let claimed = ConnectedClient::new("c", Some(&long));
        let mut event = EventNotice::connected(TenantId(0), SharedClient::new(claimed));
        event.shorten();
        assert_eq!(event.head.claimed(), Some(&*short));
    }

    #[test]
    fn a_refusal_is_short_whatever_the_client_says_of_itself() {
        let long = "x".repeat(31_000);
        let event = refused(&long, &long);
        assert!(event.text_bytes() <= 2 * NAME_BYTES_MAX + WHY_BYTES_MAX);
        let refused = Event::PublishRefused {
            topic: shortened(&long).into_owned(),
            reason: ReasonCode::NotAuthorized,
            why: Refusal::operators_only(RefusalCause::Forbidden, "no"),
        };
        let event = notice(&long, UserName::Proved(long.as_str().into()), refused);
        assert_eq!(
            *event.head.client_id, long,
            "other events of the client are told apart by it"
        );
        let shown = shown(&event);
        assert!(shown.text_bytes() <= 3 * NAME_BYTES_MAX + 2);
    }
}
