//! Names and texts of events, cut: where an event is made, or by [`EventNotice::shown`].

use std::borrow::Cow;
use std::ops::Deref;

use martlet_permission::Refusal;

use crate::connected_client::{ConnectedClient, SharedClient, UserName};
use crate::event::{
    DeliveredMessage, Event, EventNotice, PublishedMessage, RequestKey, ShownKey, WillNotice,
};
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

fn shorten_user(user: &mut Option<UserName>) {
    if let Some(UserName::Proved(name) | UserName::Claimed(name)) = user {
        shorten(name);
    }
}

fn shorten_why(why: &mut Refusal) {
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
    fn shorten_client_id(&mut self) {
        if is_cut(&self.client_id) {
            self.client_id = (&*shortened(&self.client_id)).into();
            self.is_cut = true;
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
            Event::Refused { .. }
            | Event::ProvisioningRefused { .. }
            | Event::RequestRefused { .. } => head.shorten_client_id(),
            _ => {}
        }
        shorten_user(&mut head.user);
        if let Some(why) = self.event.refusal_mut() {
            shorten_why(why);
        }
    }

    /// An event of a shard with every name cut, for the log and the journal. Not for one that was
    /// made so before.
    pub fn shown(&self) -> Cow<'_, Self> {
        let whole = self.whole_names();
        if !whole.into_iter().flatten().any(is_cut) {
            return Cow::Borrowed(self);
        }
        let mut notice = self.clone();
        notice.shorten_whole();
        Cow::Owned(notice)
    }

    /// The names that are not cut when an event is reported.
    fn whole_names(&self) -> [Option<&str>; 2] {
        let other = match &self.event {
            Event::Connected(_) => self.head.proved(),
            event => event.whole_topic(),
        };
        [self.head.whole_client_id(), other]
    }

    /// Cuts those.
    fn shorten_whole(&mut self) {
        let head = &mut self.head;
        match &mut self.event {
            Event::Connected(client) => {
                shorten_client(client);
                if let Some(UserName::Proved(name)) = &mut head.user {
                    shorten(name);
                }
            }
            Event::Subscribed { filter, .. } | Event::Unsubscribed { filter } => shorten(filter),
            Event::Published(message) => shorten(&mut message.topic),
            Event::Delivered(message) => shorten(&mut message.topic),
            _ => {}
        }
        if !head.is_cut {
            head.shorten_client_id();
        }
    }

    /// Approximate number of bytes that it takes beside its own size: of its texts and its payload.
    pub fn text_bytes(&self) -> usize {
        let user = self.head.user_name().map_or(0, str::len);
        self.head.client_id.len() + user + self.event.text_bytes()
    }
}

impl Event {
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
    fn text_bytes(&self) -> usize {
        let why = self.refusal().map_or(0, Refusal::text_bytes);
        let more = match self {
            Self::Connected(_) => size_of::<ConnectedClient>(),
            Self::Published(message) => size_of::<PublishedMessage>() + message.payload.len(),
            Self::Delivered(_) => size_of::<DeliveredMessage>(),
            Self::Disconnected {
                will: Some(will), ..
            } => size_of::<WillNotice>() + will.topic.len(),
            Self::RequestRefused { key: Some(key), .. } => size_of::<RequestKey>() + key.id.len(),
            Self::ProvisioningRefused { key: Some(key), .. } => {
                size_of::<ShownKey>()
                    + [&key.name, &key.device_type, &key.team, &key.id_pattern]
                        .map(|text| text.len())
                        .iter()
                        .sum::<usize>()
            }
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
        assert!(matches!(event.shown(), Cow::Borrowed(_)));
        let ended = Event::Disconnected {
            reason: ReasonCode::Success,
            why: RefusalCause::Goodbye.into(),
            will: None,
        };
        let event = notice(&forged, UserName::Proved(forged.as_str().into()), ended);
        assert!(event.head.is_of_client(&forged) && !event.head.is_of_client(&long));
        assert_eq!(event.head.whole_client_id(), Some(&*forged));
        let shown = event.shown().into_owned().head;
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
        let EventNotice { head, event } = event.shown().into_owned();
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
        let shown = event.shown().into_owned();
        assert!(shown.text_bytes() <= 3 * NAME_BYTES_MAX + 2);
    }
}
