//! Deliberate faults, with which the simulator and the store's tests prove that they would detect
//! them.
//!
//! Each fault breaks one rule of the broker, its records or the store; the code for the rule
//! checks here whether the fault is active. With debug assertions, as Cargo builds tests, one fault
//! at a time can be active on the calling thread. Without them, as in a release, no fault can be
//! activated, and the compiler removes all of this code.
#![forbid(unsafe_code)]

macro_rules! faults {
    ($($variant:ident = $what:literal;)*) => {
        /// A rule that is broken deliberately.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $(#[doc = $what] $variant,)*
        }

        impl Fault {
            /// All faults.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Description of the broken rule.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }
        }
    };
}

faults! {
    // The broker.
    AckBeforeSync = "PUBACK and PUBREC leave before the message's record is durable.";
    SubAckBeforeRecord = "SUBACK leaves before the subscription's record is durable.";
    ConnAckBeforeRecord = "CONNACK leaves before the session's record is durable.";
    PubRelBeforePubRec = "PUBREL leaves before the PUBREC that it answers is durable.";
    PubCompBeforeRecord = "PUBCOMP leaves before the record that frees the identifier is durable.";
    Qos2BeforeRecord = "A QoS 2 message is sent before its Packet Identifier is durable.";
    BatchBeforeRecord = "A batch for another shard leaves before the records of its tick.";
    ReceiptForgotten = "A QoS 2 PUBLISH that comes again is taken for a new message.";
    PacketIdFreedEarly = "PUBREC frees the Packet Identifier, not PUBCOMP.";
    QuotaIgnored = "More is sent than the client's Receive Maximum allows.";
    DupForgotten = "What is sent again has DUP 0.";
    QueueOutOfOrder = "A queued message goes to the front of the queue.";
    ResentInReverse = "A new connection gets what was in flight in reverse order.";
    QueueBoundOffByOne = "A queue takes one message more than its bound.";
    WillSentTwice = "A Will that was sent stays with its session and is sent at its end again.";
    WillAfterDisconnect = "The Will is sent though the client sent DISCONNECT.";
    WillIgnoresDelay = "The Will is sent at once, whatever its Will Delay Interval.";
    WillSentThoughBack = "The Will is sent though the client is back in time.";
    RetainedReadBeforeInterest = "Retained messages are read before the subscription is entered.";
    InterestReadBeforeRetained = "A publisher reads the interest before it stores what it retains.";
    EpochReadAfterIndex = "A route remembers epochs that were read after the index.";
    RetainedOlderStays = "A retained message does not replace the one before it.";
    RetainedNotCleared = "An empty payload does not clear the retained message.";
    ShareReturnLost = "What a share group's member gives back counts as delivered, and is lost.";
    ShareReturnLostAway = "Likewise what waits for a member, when that goes away.";
    ShareReturnLostAtStart = "Likewise what waits for a member, at a restart.";
    ShareReturnLostAtEnd = "Likewise what was sent to a member whose session ends.";
    ShareReturnLostUnsent = "Likewise what waits for a member whose session ends.";
    ShareReturnLostOnTheWay = "Likewise what was on its way to a member that has gone.";
    ShareReturnLostElsewhere = "Likewise what is given back to a group on another shard.";
    ShareReturnLostOld = "Likewise what a member had before a restart and gives back later.";
    ShareReturnLostOfLeaver = "Likewise what a member gives back that has left the group.";
    ShareReturnedLent = "A group does not queue again what a member gives back untaken.";
    ShareReturnedTaken = "A group does not queue again what a member had taken and gives back.";
    ShareReturnedFull = "A group does not queue again what a member has no room for.";
    ShareReturnedByTurn = "A group does not queue again what no member has credit for.";
    ShareReturnsSentQos2 = "A QoS 2 message that a member was sent goes to another member.";
    NoLocalIgnored = "A publisher gets its own message in spite of No Local.";
    TakeoverForgetsInFlight = "A new connection is not sent what the old one did not acknowledge.";
    SessionExpiresEarly = "A session ends at half of its Session Expiry Interval.";
    ExpiryFromConnect = "A session's expiry is counted from its CONNECT.";
    ExpiryFromConnectRecorded = "After a restart a session's expiry is counted from its CONNECT.";
    PageFirstLost = "The first message of a queue's page that was read back is lost.";
    PageLastLost = "The last message of a queue's page that was read back is lost.";
    PageTakesOneMore = "The message behind a queue's page that was read back is lost.";
    DropUncounted = "A dropped message is not counted.";
    RoutedTooEarly = "A message counts as routed before the other shards have recorded it.";
    RoutedAgainToAll = "After a restart a message is routed again to those who have or had it.";
    ReceiptsNotRestored = "After a restart QoS 2 receipts are forgotten.";
    PacketIdNotRestored = "After a restart what was sent waits in the queue as if it had not been.";
    PubRecNotRestored = "After a restart a message whose PUBREC came is sent again.";
    WillNotUsedUp = "The record of a Will's message does not say whose Will it uses up.";
    WillNotRecorded = "A session's record lacks its Will.";
    EndNotRecorded = "The end of a queue's entry is not recorded.";
    ReleaseNotRecorded = "A PUBREL is not recorded: after a restart the old receipt counts.";
    InterestStays = "The node's interest index keeps a filter that nobody wants any more.";

    // Permissions, tenants and lockouts.
    RevokedStays = "A client whose credentials are revoked is obeyed and sent messages.";
    RevokedWhileWaiting = "Who is revoked while it waits to be authenticated is accepted.";
    ReviewSkipsAway = "New rules do not reach sessions whose clients are away.";
    RouteOutlivesRules = "New rules leave the routes that were computed by the old ones.";
    RetainedUnchecked = "Retained messages are sent without a look at the rules.";
    QueuedUnchecked = "What waited in a queue is sent without a look at the rules.";
    FannedOutUnchecked = "A message for many is sent without a look at the rules of each.";
    PublishUnchecked = "A message is accepted without a look at the rules of its publisher.";
    WillUnchecked = "A Will is sent without a look at the rules.";
    SessionForNextHolder = "The next user of a name gets the session of the one before.";
    RouteOfOtherTenant = "A route is used for the same topic of another tenant.";
    RetainedOfOtherTenant = "Retained messages of another tenant are sent.";
    ShareOfOtherTenant = "A share group serves members of another tenant.";
    LockoutForgottenForWaiting = "A lockout does not count for who waits for an answer.";

    // Parts.
    PartAttachedBeforeRecord = "A part is told that it is attached before that is durable.";
    PartSettlementLost = "The last settlement of a batch is lost.";
    PartSettlesOther = "A settlement counts for the token before its own.";
    PartRefusedComesAgain = "What a part has refused is delivered again.";
    PartRefusalForgotten = "A receipt does not tell why a part has refused the message.";
    PartLaterForgotten = "What a part has put off is not delivered again.";
    PartCreditNotReturned = "What a part has put off counts against its credit for ever.";
    PartCreditNotLowered = "A part's credit never becomes smaller.";
    PartInFlightForgotten = "A part that comes back is not told of what it has not settled.";
    PartDupForgotten = "What a part is told again has `dup` 0.";
    PartCrashForgotten = "After a crash a part is not told that messages may be repeated.";
    PartOrderSwapped = "Of two deliveries to a part in one turn the second comes first.";
    PartSubscriptionStays = "A part that comes back keeps the subscriptions that it has given up.";
    PartEndForgotten = "A part that ends is detached, and its session stays.";
    KeptQos0NotRecorded = "A QoS 0 message for a part that keeps them is not recorded.";
    KeptQos0IgnoresStore = "A QoS 0 message is kept for a part though the store does not keep up.";
    KeptQos0NotRouted = "The record of such a message does not say that it is still to be routed.";
    KeepsQos0NotRestored = "After a restart a part's session does not keep QoS 0 messages.";
    KeepsQos0NotRenewed = "A part that comes back and keeps QoS 0 messages from now on does not.";
    PublisherNotRestored = "What is read back from the store does not name its publisher.";
    HoldNotEnded = "Publishers wait for a part though its queue has room again.";
    HoldOutlivesSession = "Publishers wait for a part whose session has ended.";
    HoldNotTold = "Only the shard of a part knows that publishers are to wait.";
    HoldOverNotTold = "Other shards are not told that publishers need not wait any more.";
    HoldForgetsAlias = "A PUBLISH does not wait if a Topic Alias stands for its topic.";
    HoldSparesOperators = "What operators publish does not wait for a part that holds publishers.";
    HoldTakesAll = "All publishers wait for a part, whatever it takes.";
    HoldSparesLeavers = "What a client that has gone had published does not wait for a part.";
    HoldOutlivesPart = "Publishers wait for a part that does not come back after a restart.";
    HoldIgnoresMemory = "A queue in memory does not hold before it has a client's share of it.";
    ReliefDropsHeld = "With memory short, messages of a part are dropped that holds publishers.";
    HoldDrops = "A part that holds drops what finds its queue full.";
    PartAgeFromAttachment = "The age of a part's messages is counted from its attachment.";
    PartDropsNewest = "At a part's bound in bytes the newest messages are dropped.";
    PartToldBeforeRecord = "A part is told of a QoS 1 or 2 message before that is durable.";
    PartPublishedBeforeRecord = "What a part publishes is answered before it is durable.";
    PartPublishUnchecked = "What a part publishes is not checked by the rules of its principal.";
    PartRefusalNotAnswered = "A part is not told that the rules forbid what it publishes.";
    PartOwnComesBack = "What a part publishes comes back to it.";
    LaneOfOtherShard = "A message goes to the lane of another shard than received it.";
    LaneOfOtherTenant = "A message goes to the lane of another tenant.";
    AckBeforePartQueue = "A message is acknowledged before it is in the queue of a part that has the messages of all shards in order.";
    LaneRunTooEarly = "A lane is told that it has no message of an earlier run though it has.";
    LaneNotAdded = "After a restart with more shards the new ones have no lanes.";
    LanesNotRoutedAgain = "What is routed again after a restart goes to no lane.";
    LaneRouteStays = "A lane that comes back does not get topics that were routed before it.";
    PartReceiptLost = "An acknowledgement leads to no receipt.";
    PartReceiptTwice = "Each receipt is told twice.";
    PartReceiptOfOther = "A receipt names another receiver.";
    PartReceiptForDrop = "The receipt of a message that was dropped says that it was acknowledged.";
    PartReceiptNotSent = "A receipt is not told to a part of another shard.";
    PartReceiptsNotRestored = "After a restart messages ask for no receipts any more.";
    HopsNotStored = "What is read back from the store has not been passed on yet.";

    // Integrations.
    SinkSettlesBeforeLetter = "A refused message is settled though its dead letter is not stored.";
    SinkRepeatedForgotten = "A message that is handed to the sink again does not say so.";
    SinkRetriesBehind = "What the sink did not take is handed to it behind later messages.";
    SinkStopForgets = "A sink that is told to stop does not settle the delivery under way.";
    SinkDrainLooksInHand = "A drain is over when the sink has all in hand, whatever waits behind.";
    SinkSilenceIsDone = "A message counts as delivered that the sink did not answer for.";

    // Its records, and recovery.
    RunNumberUsedAgain = "A run of the node begins with the number of the one before.";
    RoutingNotHeld = "A message's record does not say that it is still to be routed.";
    MoveEndsFirst = "A message that moves between queues ends in one before it is in the other.";
    ReplacedStaysRetained = "The record of a retained message leaves the one before it retained.";
    ExpiryForgotten = "After a restart messages do not expire any more.";
    PageFirstUnread = "The first message of a page is not read from the disk.";
    PageLastUnread = "The last message of a page is not read from the disk.";
    QueueFirstNotRestored = "After a restart the first message of a queue is missing.";
    QueueLastNotRestored = "After a restart the last message of a queue is missing.";
    InFlightIdsForgotten = "The record of what is in flight lacks its Subscription Identifiers.";
    RetainedOwedStays = "UNSUBSCRIBE leaves what the subscription was owed of retained messages.";

    // The store.
    FreedUncovered = "A segment is given back before a checkpoint covers it.";
    FreedUndurable = "A segment is given back before what emptied it is durable.";
    CheckpointUnsynced = "A checkpoint counts before it is synced.";
    CheckpointBlurred = "A checkpoint misses what changed while it was written.";
    MovedAsNew = "A body that is copied to the end of the log counts as recorded there.";
    NamesUnsynced = "A group counts as durable though its segment's name is not.";
    FailedSyncBelieved = "After a failed sync a later one counts for what was written before.";
    HousekeepingBelieved = "What housekeeping has written after a failed sync counts as synced.";
    SyncedTooMuch = "A group's header says that all before it was synced, though it was not.";
    TornTailServed = "Records behind a torn one count.";
    DoubtfulBelieved = "What can be read after a crash counts as being on the disk.";
    ChecksumIgnored = "A body or state is served whatever its checksum says.";
    ScanIgnoresChecksum = "A record is replayed whatever its checksum says.";
    OneCopyRead = "Of a checkpoint's two copies only one is looked at.";
}

/// Whether a fault is active on this thread.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn is(_fault: Fault) -> bool {
    false
}

#[cfg(debug_assertions)]
std::thread_local! {
    static IN_FORCE: core::cell::Cell<Option<Fault>> = const { core::cell::Cell::new(None) };
}

/// Whether a fault is active on this thread.
#[cfg(debug_assertions)]
#[inline]
pub fn is(fault: Fault) -> bool {
    IN_FORCE.get() == Some(fault)
}

/// Activates a fault on this thread, or none.
#[cfg(debug_assertions)]
pub fn set(fault: Option<Fault>) {
    IN_FORCE.set(fault);
}
