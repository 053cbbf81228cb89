//! What is known about a client when it is asked why something does not work. Times are
//! milliseconds since the Unix epoch.

mod recalled;

use martlet_broker::{
    DropReason, GroupDetail, LossTimes, ReachedLimit, RetainedAtSubscribe, RetainedEnded,
    UnmatchedTopic, WillNotice,
};

use crate::authentication::Standing;
use crate::explain::Explained;
use crate::journal::{Entry, Run, WordedRemedy};
use crate::presence::ClientPresence;
use crate::remedy::Command;
use crate::restore_note::RestoreNote;
use crate::why::Question;
pub(crate) use recalled::*;

/// Everything that the diagnosis follows from; gathered at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) question: Question,
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
    /// The Client Identifier that the name stands for.
    pub(crate) client_id: String,
    /// What has the name in the tables or files: `device`, `user`,
    /// `team token`; none: nothing.
    pub(crate) registered_as: Option<String>,
    /// The name is unknown: which known name may be meant.
    pub(crate) namesakes: Namesakes,
    /// It shows the key of a team token, or that key was asked about.
    pub(crate) by_team_token: bool,
    /// The backup of users and devices that the node goes on from was restored recently.
    pub(crate) restored: Option<RestoreNote>,
    /// It was removed from the tables.
    pub(crate) deleted: Option<Deleted>,
    /// It has credentials, and none of them is good any more.
    pub(crate) spent: Option<Spent>,
    /// The device has no credential.
    pub(crate) no_credential: Option<NoCredential>,
    /// The node was started without a configuration file, in which rules and integrations may be.
    pub(crate) has_no_configuration: bool,
    /// It is an integration.
    pub(crate) is_integration: bool,
    /// The part of the program that was asked about.
    pub(crate) named_part: Option<NamedPart>,
    /// The type of the device was changed.
    pub(crate) type_change: Option<TypeChange>,
    /// Why the last reload of the configuration failed, in words.
    pub(crate) reload_failed: Option<String>,
    /// Settings that wait for a restart, in words.
    pub(crate) restart_pending: Option<String>,
    /// The tables of users and devices cannot be used now.
    pub(crate) tables_fail: bool,
    /// Groups that the device joined recently.
    pub(crate) joined: Vec<Joined>,
    /// Clients that were refused because their token names this one, the latest last.
    pub(crate) token_shown_by: Vec<Entry>,
    /// The rule that permits the same with the client's own name, by the number of the entry about
    /// what rules forbade.
    pub(crate) own_name_rules: Vec<(u64, OwnNameRule)>,
    /// It has a valid credential, and another one of it has ended: when, milliseconds since the
    /// Unix epoch.
    pub(crate) replaced_ms: Option<u64>,
    /// A certificate that names it would do instead.
    pub(crate) by_certificate: bool,
    /// An operator keeps it out.
    pub(crate) banned: Option<Banned>,
    /// Wrong credentials were tried too often, for that name or from where it was last.
    pub(crate) locked_out: Option<Lockout>,
    /// URLs of the listeners that use the tables, if the client logs in at another listener, which
    /// has a password file of its own.
    pub(crate) listeners_of_tables: Option<Vec<String>>,
    /// The tables have the name, and no login is checked against them.
    pub(crate) idle_in_tables: Option<IdleInTables>,
    /// The user that it comes as, as far as known.
    pub user: Option<String>,
    /// What would become of it if it came with this name and the proof of it.
    pub(crate) standing: Option<Standing>,
    /// What to do about that.
    pub(crate) standing_remedy: Option<WordedRemedy>,
    pub(crate) session: Option<Session>,
    /// When the device sent its last message, as far as the tables have it: some seconds late.
    /// Milliseconds since the Unix epoch.
    pub(crate) last_message_ms: Option<u64>,
    /// When the device was last active in any way.
    pub(crate) last_seen_ms: Option<u64>,
    /// Other clients that the topic names.
    pub(crate) named_in_topic: Vec<NamedInTopic>,
    /// Topic Filters of what devices publish for the node itself.
    pub(crate) received: Vec<String>,
    /// When and how it was last seen, across restarts.
    pub(crate) presence: Option<Presence>,
    /// An address was asked about: refusals of connections from there, the latest last.
    pub(crate) from_address: Option<Vec<Entry>>,
    /// By the number of such a refusal of an unknown name: devices of that id in other tenants, as
    /// the User Names that they come with.
    pub(crate) of_other_tenants: Vec<(u64, Vec<String>)>,
    /// Numbers of those refusals that were for a ban that is over.
    pub(crate) lifted: Vec<u64>,
    /// A user was asked about, and its Client Identifier was last used by another user.
    pub(crate) is_of_another: bool,
    /// What happened to it recently, the latest last.
    pub(crate) runs: Vec<Run>,
    /// What was refused to parts of the node that publish as it, such as rules with `publish_as`,
    /// the latest last.
    pub(crate) runs_of_parts: Vec<Run>,
    /// Groups that it is not in, and whose rules permit what it lacks.
    pub(crate) groups_missing: Vec<GroupMissing>,
    /// Numbers of the last entries of those runs that a rule forbade, and none would now.
    pub(crate) permitted_now: Vec<u64>,
    /// Refusals without a name, from the address that it came from last, or from any if that is not
    /// known; the latest last.
    pub(crate) nameless: Vec<Entry>,
    /// Where the node listens, as URLs.
    pub(crate) listeners: Vec<String>,
    /// Files with certificates of listeners, and when they end.
    pub(crate) server_certificates: Vec<(String, u64)>,
    /// Bytes that a Client Identifier may have; 0: not known.
    pub(crate) client_id_bytes: u16,
    /// What it may do with the topic.
    pub(crate) rules: Option<TopicRules>,
    /// The subscribers of the topic.
    pub(crate) subscribers: Option<Vec<Subscriber>>,
    /// The share groups among them.
    pub(crate) subscriber_groups: Vec<GroupDetail>,
    /// Clients, connected or not, whose subscriptions nearly match the topic, while it has no
    /// subscriber.
    pub(crate) near: Vec<NearSubscriber>,
    /// Topics with recent messages that had no subscriber, the latest last.
    pub(crate) unmatched: Vec<UnmatchedTopic>,
    /// Client Identifiers of those publishers that come as the same user.
    pub(crate) own_publishers: Vec<String>,
    /// A device was asked about, and a client with nearly its id was refused for its Client
    /// Identifier.
    pub(crate) near_refused: Option<Entry>,
    /// What other tenants have of it.
    pub(crate) elsewhere: Elsewhere,
    /// Of the topics without subscribers, those that its rules do not let it read, though it is
    /// subscribed, or nearly so, or they have its name in them.
    pub(crate) unreadable: Vec<Unreadable>,
    /// The retained message of the topic, or of the first topic that the filter matches; else the
    /// end of the last one.
    pub(crate) retained: Option<Retained>,
    /// Its Will, if it left with one.
    pub(crate) will: Option<AbsentWill>,
    /// Other clients that have left and have, or had, a Will for the topic.
    pub(crate) absent: Vec<Absent>,
    /// Publishes of other clients that were refused recently, the latest last: to the topic, or to
    /// topics that the client is subscribed to.
    pub(crate) refused_publishes: Vec<Entry>,
    /// Since when the node keeps messages, if it keeps them in
    /// memory only.
    pub(crate) in_memory_since: Option<u64>,
    /// The longest Session Expiry Interval that the node grants, seconds.
    pub(crate) session_expiry_max_secs: u32,
    /// How often the device has logged in, as far as the tables have it.
    pub(crate) logins: u64,
    /// What is wrong with the message store.
    pub(crate) store: Option<StoreTrouble>,
    /// The share groups that the session is a member of.
    pub(crate) groups: Vec<GroupDetail>,
    /// The user has no rights in the API: how it is given some.
    pub(crate) no_api_role: Option<NoApiRole>,
    /// An integration that takes messages of all tenants takes those of the topic that was asked
    /// about.
    pub(crate) taken_for_all: bool,
    /// Topics whose messages are kept in the tables, with the part that publishes them; none: any.
    pub(crate) kept: Vec<(String, Option<&'static str>)>,
    /// The facts of each client, if the name is a user's with several clients.
    pub(crate) clients: Vec<Facts>,
}

impl Facts {
    /// The tables have a device of that name.
    pub(crate) fn is_device(&self) -> bool {
        self.registered_as.as_deref() == Some("device")
    }

    /// Nothing was ever seen of a client of that name.
    pub(crate) fn is_unseen(&self) -> bool {
        self.session.is_none()
            && self.presence.is_none()
            && self.runs.is_empty()
            && self.clients.is_empty()
            && self.from_address.is_none()
    }
}

/// A client whose Client Identifier is a level of the topic that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedInTopic {
    pub(crate) client_id: String,
    pub(crate) is_device: bool,
    /// How it is.
    pub(crate) standing: NamedStanding,
    /// When the device sent its last message, as for the client that was asked about.
    pub(crate) last_message_ms: Option<u64>,
    /// The command that asks why it does not work.
    pub(crate) command: Option<Command>,
}

/// How a client is that a topic names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedStanding {
    /// It has never connected.
    NeverConnected,
    /// It is not connected since then, as far as known.
    Away(Option<u64>),
    /// It is connected.
    Connected {
        /// Since when.
        since_ms: u64,
        /// The device has published since; none: that is not known.
        has_published: Option<bool>,
    },
}

/// Why the message store takes no more messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreTrouble {
    /// It cannot write, and why.
    Failing(String),
    /// It has no room, and why.
    Full {
        why: String,
        /// What to do about it.
        remedy: Option<String>,
    },
    /// It writes more slowly than messages are published.
    Slow,
}

/// A lockout of a name or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lockout {
    /// For how long, and why.
    pub(crate) why: String,
    /// How many seconds the client is let in nevertheless, with the credentials that were right
    /// before. None: it is kept out.
    pub(crate) accepted_secs: Option<u64>,
    /// How it is lifted.
    pub(crate) worded: WordedRemedy,
}

/// What other tenants have of what was asked about; nothing, if the caller sees one team alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The own tenant, in words.
    pub(crate) own: String,
    /// Other tenants, in words, and their topics with recent messages that had no subscriber, the
    /// latest last.
    pub(crate) unmatched: Vec<(String, Vec<UnmatchedTopic>)>,
    /// Subscribers of the topic.
    pub(crate) subscribers: Vec<SubscriberElsewhere>,
    /// Devices that the topic names, and that the own tenant does not have.
    pub(crate) devices: Vec<DeviceElsewhere>,
}

/// A subscriber of the topic in another tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubscriberElsewhere {
    pub(crate) client_id: String,
    pub(crate) filter: String,
    pub(crate) tenant: String,
}

/// A device of another tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceElsewhere {
    pub(crate) id: String,
    pub(crate) tenant: String,
}

/// A session, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) client_id: String,
    pub(crate) connected: bool,
    /// Since when it is so, as far as known.
    pub(crate) since_ms: Option<u64>,
    /// Seconds; 0 is none.
    pub(crate) keep_alive_secs: u16,
    /// URL of the listener that it came by; empty: it is away.
    pub(crate) listener: String,
    /// When its last packet arrived; none: it is not connected.
    pub(crate) last_packet_ms: Option<u64>,
    /// Seconds that it outlives its connection.
    pub(crate) session_expiry_secs: u32,
    pub(crate) queued: usize,
    /// Messages sent and not acknowledged.
    pub(crate) in_flight: usize,
    /// Since when the first message of the queue waits for those on this connection, milliseconds
    /// since the Unix epoch; none: none waits, or it is not known.
    pub(crate) waiting_since_ms: Option<u64>,
    /// Since when as many messages are sent to it and not acknowledged as it takes at once,
    /// milliseconds since the Unix epoch; none: it takes more.
    pub(crate) full_since_ms: Option<u64>,
    /// Its last CONNECT had Clean Start.
    pub(crate) clean_start: bool,
    /// Messages for it that were dropped since the node was started, by reason.
    pub(crate) drops: Vec<(DropReason, u64)>,
    /// When that was, in the same order.
    pub(crate) dropped_at: Vec<LossTimes>,
    /// When messages expired.
    pub(crate) expired_at: LossTimes,
    /// What it has published waits until the message store takes it.
    pub(crate) waits_for_store: bool,
    /// The bound that its queue is at, if it has dropped messages and has no room since.
    pub(crate) queue_full: Option<ReachedLimit>,
    /// Messages for it that expired.
    pub(crate) expired: u64,
    /// The device has published since it logged in; none: that is not known.
    pub(crate) has_published: Option<bool>,
    pub(crate) subscriptions: Vec<(String, u8)>,
    /// Those of them with No Local.
    pub(crate) no_local: Vec<String>,
    /// Those of them that brought no retained messages when they were last asked for, and why.
    pub(crate) without_retained: Vec<(String, RetainedAtSubscribe)>,
}

impl Session {
    /// Messages for it that were dropped, by reason, and when.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (DropReason, u64, LossTimes)> {
        let all = self.drops.iter().enumerate();
        let all = all.filter(|(_, (_, count))| *count > 0);
        all.map(|(index, (reason, count))| {
            let at = self.dropped_at.get(index).copied().unwrap_or_default();
            (*reason, *count, at)
        })
    }
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Retained {
    /// It is there.
    Kept {
        topic: String,
        /// When it was published.
        at_ms: u64,
        /// The command that deletes it.
        remove: Option<Command>,
        /// Client Identifier of the client whose Will it is, if that is connected again, and since
        /// when.
        past_will: Option<(String, u64)>,
    },
    /// It was taken away.
    Ended(RetainedEnded),
}

/// The Will of a client that has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AbsentWill {
    /// It waits for its Will Delay Interval.
    Delayed {
        topic: String,
        /// When it is published, if that is known.
        due_ms: Option<u64>,
    },
    /// It was published or discarded when the client went.
    Gone(WillNotice),
}

/// A client that has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    pub(crate) client_id: String,
    /// Since when.
    pub(crate) since_ms: u64,
    pub(crate) will: AbsentWill,
}

/// Names that may be meant by an unknown name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namesakes {
    /// Devices of that id in other tenants, as the User Names that they come with.
    pub(crate) elsewhere: Vec<String>,
    /// Likewise, of teams that are deleted.
    pub(crate) deleted: Vec<String>,
    /// Names of the same tenant that are spelt nearly so.
    pub(crate) near: Vec<String>,
    /// Rules and keys that are spelt nearly so, each with its kind: "the rule hot-tank".
    pub(crate) near_of_kind: Vec<String>,
    /// The command that asks about a client of another tenant with that Client Identifier.
    pub(crate) client_elsewhere: Option<Command>,
    /// A client with that Client Identifier was refused in another tenant.
    pub(crate) refused_elsewhere: Option<RefusedElsewhere>,
    /// How it is added, if it is none of them.
    pub(crate) add: Option<WordedRemedy>,
}

/// When a client was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    /// It was connected then; else it went.
    pub(crate) online: bool,
    /// Milliseconds since the Unix epoch.
    pub(crate) since_ms: u64,
    /// When it was last active.
    pub(crate) last_seen_ms: u64,
    pub(crate) address: Option<String>,
    /// The listener that it came by, as a URL.
    pub(crate) listener: Option<String>,
    /// Why it went.
    pub(crate) why: Option<String>,
    /// It went with a DISCONNECT of its own.
    pub(crate) sent_disconnect: bool,
}

impl From<ClientPresence> for Presence {
    fn from(of: ClientPresence) -> Self {
        let known = |text: String| (!text.is_empty()).then_some(text);
        Self {
            online: of.online,
            since_ms: of.since_ms,
            last_seen_ms: of.last_seen_ms,
            address: known(of.address),
            listener: known(of.listener_url),
            why: known(of.why),
            sent_disconnect: of.sent_disconnect,
        }
    }
}

/// What a client may do with a topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicRules {
    /// Publish to it.
    pub(crate) publish: Explained,
    /// Receive what is published to it.
    pub(crate) receive: Explained,
    /// A rule that permits publishing to it with the client's own name where it has another name.
    pub(crate) own_name_publish: Option<OwnNameRule>,
    /// Likewise, of reading it.
    pub(crate) own_name_receive: Option<OwnNameRule>,
    /// Some of what it may publish to.
    pub(crate) permitted: Vec<String>,
    /// Some of what it may read.
    pub(crate) readable: Vec<String>,
    /// Where publishing would have to be permitted.
    pub(crate) remedy_publish: WordedRemedy,
    /// Where receiving would have to be permitted.
    pub(crate) remedy_receive: WordedRemedy,
}

/// A rule that permits the same topic with the client's own name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnNameRule {
    /// The rule, as operators know it, such as `device type sensor rule 1`.
    pub(crate) rule: String,
    /// Its Topic Filter with the client's own name.
    pub(crate) filter: String,
    /// The name in the topic in its place; `_`: a wildcard.
    pub(crate) other_name: String,
}

/// A subscriber of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub(crate) client_id: String,
    pub(crate) filter: String,
    pub(crate) qos: u8,
    pub(crate) connected: bool,
    /// Messages for it that were dropped, of whatever topic, and when.
    pub(crate) drops: Vec<(DropReason, u64, LossTimes)>,
    /// Messages wait because it does not acknowledge those that were sent to it.
    pub(crate) backlog: Option<Backlog>,
    /// The command that ends its session.
    pub(crate) end_session: Option<Command>,
}

/// Messages that wait until a client acknowledges those that were sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Messages that were sent to it and are not acknowledged.
    pub(crate) sent: usize,
    /// Messages that wait, in its queue or for any member of its share group.
    pub(crate) waiting: usize,
    /// Since when it is so.
    pub(crate) since_ms: u64,
}

/// A topic that the rules forbid the client to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) topic: String,
    /// Why not.
    pub(crate) why: String,
    /// Where it would have to be permitted.
    pub(crate) worded: WordedRemedy,
}

/// A subscriber of nearly that topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NearSubscriber {
    pub(crate) client_id: String,
    /// It is connected now.
    pub(crate) connected: bool,
    pub(crate) filter: String,
    /// What differs, in words.
    pub(crate) words: String,
}
