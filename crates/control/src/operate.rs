//! Operations on sessions, subscriptions and messages: each is one request to the shards, and its
//! result.
//!
//! * `why`: what `martlet why` reports of other sessions of a user

mod why;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Answer, ClientInfo, ClientPage, ClientQuery, Command, DeleteOutcome, NewMessage,
    NewSubscription, PAGE_BYTES, Published, RetainedPage, RetainedQuery, ShardId, SubscriptionInfo,
    SubscriptionPage, SubscriptionQuery, TenantId,
};
use martlet_codec::ReasonCode;

use crate::control::{Control, ControlError};
#[cfg(test)]
pub(crate) use why::SessionFacts;
pub(crate) use why::{OtherSessions, PublishAs, Sessions};

/// Time to wait for the store beyond the time that the shard itself waits.
const MARGIN: Duration = Duration::from_secs(5);
/// Time to wait where a shard would wait for ever.
const STORE_TIMEOUT: Duration = Duration::from_secs(60);
/// Sessions of a user that are processed in one step.
const SESSIONS_PER_PAGE: usize = 100;
/// The shard that answers questions that concern no shard in particular.
const FIRST: ShardId = ShardId(0);

/// Answer to a question about one session: none if there is no such session.
type OfSession<T> = Result<Option<T>, ControlError>;

impl Control {
    /// Sessions of all shards, `limit` at most, in the order of the cursor: Client Identifier,
    /// tenant.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn clients(&self, query: &ClientQuery) -> Result<ClientPage, ControlError> {
        let command = |request| Command::Clients {
            request,
            query: Box::new(query.clone()),
        };
        let mut all = ClientPage::default();
        let key = |one: &ClientInfo| (Box::from(&*one.client_id), one.tenant);
        for answer in expect_done(self.ask_all(command).await?)? {
            if let Answer::Clients(page) = answer {
                all.total += page.total;
                all.end = all.end.into_iter().chain(page.end).min();
                all.clients.extend(page.clients);
            }
        }
        all.clients.sort_by_cached_key(key);
        if let Some(end) = &all.end {
            // Behind it, clients of one shard are missing.
            let end = (&*end.0, end.1);
            all.clients
                .retain(|one| (&*one.client_id, one.tenant) <= end);
        }
        if cut(&mut all.clients, query.limit, ClientInfo::bytes) {
            all.end = all.clients.last().map(key);
        }
        Ok(all)
    }

    /// Subscriptions of all shards, `limit` at most, in the order of the cursor: Client Identifier,
    /// tenant, Topic Filter.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn subscriptions(
        &self,
        query: &SubscriptionQuery,
    ) -> Result<SubscriptionPage, ControlError> {
        let command = |request| Command::Subscriptions {
            request,
            query: Box::new(query.clone()),
        };
        let mut all = SubscriptionPage::default();
        let key = |one: &SubscriptionInfo| (one.client_id.clone(), one.tenant, one.filter.clone());
        let mut ends = Vec::new();
        for answer in expect_done(self.ask_all(command).await?)? {
            if let Answer::Subscriptions(page) = answer {
                all.total += page.total;
                all.more |= page.more;
                ends.extend(page.subscriptions.last().filter(|_| page.more).map(key));
                all.subscriptions.extend(page.subscriptions);
            }
        }
        let place = |one: &SubscriptionInfo| (one.client_id.clone(), one.tenant);
        all.subscriptions
            .sort_by(|a, b| (place(a), &a.filter).cmp(&(place(b), &b.filter)));
        if let Some(end) = ends.into_iter().min() {
            // Behind it, subscriptions of one shard are missing.
            let end = |one: &SubscriptionInfo| {
                let place = (&*one.client_id, one.tenant, &*one.filter);
                place <= (&*end.0, end.1, &*end.2)
            };
            all.subscriptions.retain(end);
        }
        all.more |= cut(&mut all.subscriptions, query.limit, SubscriptionInfo::bytes);
        Ok(all)
    }

    /// Retained messages of the node.
    ///
    /// # Errors
    /// If the shard does not answer in time.
    pub async fn retained(&self, query: &RetainedQuery) -> Result<RetainedPage, ControlError> {
        let command = |request| Command::Retained {
            request,
            query: Box::new(query.clone()),
        };
        match self.ask_first(command).await? {
            Answer::Retained(page) => Ok(page),
            _ => Ok(RetainedPage::default()),
        }
    }

    /// Deletes all retained messages that match a Topic Filter. Returns how many, and why the
    /// others stay if the reason is an error. Returns once that is durable.
    ///
    /// # Errors
    /// If the shard does not answer in time.
    pub async fn delete_retained(
        &self,
        tenant: TenantId,
        filter: &str,
    ) -> Result<(u64, DeleteOutcome), ControlError> {
        let command = |request| Command::DeleteRetained {
            request,
            tenant,
            filter: filter.into(),
        };
        match self.ask_first(command).await? {
            Answer::DeleteRetained { deleted, outcome } => Ok((deleted, outcome)),
            _ => Ok((0, DeleteOutcome::Refused(ReasonCode::UnspecifiedError))),
        }
    }

    /// Publishes messages, in order, and after those that the same caller has published before.
    /// Answered when the last PUBACK would come.
    ///
    /// # Errors
    /// If the shard does not answer in time: what happened to them is not known.
    pub async fn publish(
        &self,
        caller: &str,
        tenant: TenantId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Published>, ControlError> {
        let messages: Arc<[NewMessage]> = messages.into();
        let publisher: Arc<str> = caller.into();
        let command = |request| Command::Publish {
            request,
            tenant,
            publisher: Arc::clone(&publisher),
            messages: Arc::clone(&messages),
        };
        // As a connection of the caller would: messages of one shard keep their order.
        let shard = self.shard_of_caller(caller);
        let answer = self.ask_shard(shard, self.store_timeout(), command).await?;
        match expect_one_done(answer)? {
            Answer::Publish(outcomes) if outcomes.len() == messages.len() => Ok(outcomes),
            _ => Err(ControlError::Refused(ReasonCode::UnspecifiedError)),
        }
    }

    /// As [`Self::publish`], for messages that are repeated until the node accepts them.
    ///
    /// # Errors
    /// Some of them are to be published again: a shard does not answer in time, or memory, the
    /// store or the queue of an integration is full.
    pub(crate) async fn publish_all(
        &self,
        caller: &str,
        tenant: TenantId,
        messages: Vec<NewMessage>,
    ) -> Result<(), ControlError> {
        let outcomes = self.publish(caller, tenant, messages).await?;
        match outcomes.iter().find(|outcome| outcome.comes_later()) {
            Some(outcome) => Err(ControlError::Refused(outcome.reason)),
            None => Ok(()),
        }
    }

    /// Ends the connection of a client. Returns whether there was one.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn disconnect(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<bool, ControlError> {
        let command = |request| Command::Disconnect {
            request,
            tenant,
            client_id: client_id.to_owned(),
            reason: ReasonCode::AdministrativeAction,
        };
        let answers = expect_done(self.ask_all(command).await?)?;
        Ok(answers
            .iter()
            .any(|one| matches!(one, Answer::Disconnect(true))))
    }

    /// Ends a session. Returns whether there was one, once that is durable.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn end_session(
        &self,
        tenant: TenantId,
        client_id: &str,
    ) -> Result<bool, ControlError> {
        let command = |request| Command::EndSession {
            request,
            tenant,
            client_id: client_id.into(),
        };
        let answers = expect_done(self.ask(self.store_timeout(), command).await?)?;
        Ok(answers
            .iter()
            .any(|one| matches!(one, Answer::EndSession(true))))
    }

    /// Ends all sessions of a user. Returns their number.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn end_sessions_of(&self, tenant: TenantId, user: &str) -> Result<u64, ControlError> {
        let mut query = ClientQuery {
            tenant: Some(tenant),
            user: Some(user.into()),
            limit: SESSIONS_PER_PAGE,
            ..ClientQuery::default()
        };
        let mut ended = 0;
        loop {
            let page = self.clients(&query).await?;
            for one in &page.clients {
                ended += u64::from(self.end_session(tenant, &one.client_id).await?);
            }
            if page.end.is_none() {
                return Ok(ended);
            }
            query.after = page.end;
        }
    }

    /// Subscribes for a client, as if it had sent SUBSCRIBE. Returns the result when its SUBACK
    /// would be sent.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn subscribe(
        &self,
        tenant: TenantId,
        client_id: &str,
        subscription: NewSubscription,
    ) -> OfSession<ReasonCode> {
        let command = |request| Command::Subscribe {
            request,
            tenant,
            client_id: client_id.into(),
            subscriptions: vec![subscription.clone()],
        };
        self.first_code(command).await
    }

    /// Ends a subscription of a client, as if it had asked.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn unsubscribe(
        &self,
        tenant: TenantId,
        client_id: &str,
        filter: &str,
    ) -> OfSession<ReasonCode> {
        let command = |request| Command::Unsubscribe {
            request,
            tenant,
            client_id: client_id.into(),
            filters: vec![filter.into()],
        };
        self.first_code(command).await
    }

    /// The first reason code of the answer to a command about subscriptions of a client.
    async fn first_code(&self, command: impl Fn(u64) -> Command) -> OfSession<ReasonCode> {
        let answers = expect_done(self.ask(self.store_timeout(), command).await?)?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            Answer::Subscribe(codes) | Answer::Unsubscribe(codes) => codes?.first().copied(),
            _ => None,
        }))
    }

    async fn ask_first(&self, command: impl Fn(u64) -> Command) -> Result<Answer, ControlError> {
        let answer = self.ask_shard(FIRST, self.store_timeout(), command).await?;
        expect_one_done(answer)
    }

    /// Shards answer before.
    fn store_timeout(&self) -> Duration {
        match self.info.limits.store_stalled_secs {
            0 => STORE_TIMEOUT,
            secs => Duration::from_secs(u64::from(secs)) + MARGIN,
        }
    }

    fn shard_of_caller(&self, caller: &str) -> ShardId {
        let mut hasher = DefaultHasher::new();
        caller.hash(&mut hasher);
        ShardId((hasher.finish() % u64::from(self.shard_count().max(1))) as u16)
    }
}

/// Leaves what is on one page: `limit` items, and about as many bytes as a shard's page has; one
/// item at least. Answers whether there was more.
fn cut<T>(all: &mut Vec<T>, limit: usize, bytes_of: impl Fn(&T) -> usize) -> bool {
    let mut bytes = 0;
    let fits = all.iter().take(limit).take_while(|one| {
        let is_first = bytes == 0;
        bytes += bytes_of(one);
        is_first || bytes <= PAGE_BYTES
    });
    let count = fits.count();
    let more = count < all.len();
    all.truncate(count);
    more
}

/// All of them were done, or none counts.
fn expect_done(answers: Vec<Answer>) -> Result<Vec<Answer>, ControlError> {
    answers.into_iter().map(expect_one_done).collect()
}

fn expect_one_done(answer: Answer) -> Result<Answer, ControlError> {
    match answer {
        Answer::Refused(reason) => Err(ControlError::Refused(reason)),
        answer => Ok(answer),
    }
}
