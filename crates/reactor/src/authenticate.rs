//! Interface to the authenticator: a request for each client that must be authenticated, and the
//! way of its answer.
//!
//! Knows no credentials. The authenticator answers from its own threads, after any time. Meanwhile
//! the connection waits in the lobby with its deadline.

use std::fmt;
use std::sync::Arc;

use martlet_broker::{
    Authenticated, Authentication, ConnectionId, Refusal, RefusalCause, Screened, Screening,
    ShardId,
};

use crate::mailbox::{Control, Mailboxes};

/// Authenticates clients. Called on the reactors' threads, so it must not block.
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Requests the identity of a client. Any thread may answer.
    fn ask(&self, authentication: Authentication, answer: LoginAnswer);

    /// Checks this message before it is routed. Any thread may answer. This default implementation
    /// refuses the message by giving no answer.
    fn screen(&self, screening: Screening, answer: ScreenedAnswer) {
        drop((screening, answer));
    }
}

/// Sends one answer. If it is dropped without an answer, the client is refused, so that a failure
/// admits no client.
#[derive(Debug)]
pub struct LoginAnswer {
    shard: ShardId,
    connection: ConnectionId,
    /// `None` after the answer.
    mailboxes: Option<Arc<Mailboxes>>,
}

impl LoginAnswer {
    pub(crate) fn new(shard: ShardId, connection: ConnectionId, mailboxes: Arc<Mailboxes>) -> Self {
        Self {
            shard,
            connection,
            mailboxes: Some(mailboxes),
        }
    }

    /// Sends the answer.
    pub fn give(mut self, answer: Authenticated) {
        self.send(answer);
    }

    fn send(&mut self, answer: Authenticated) {
        if let Some(mailboxes) = self.mailboxes.take() {
            let control = Control::Authenticated(self.connection, Box::new(answer));
            mailboxes.control(self.shard, control);
        }
    }
}

impl Drop for LoginAnswer {
    fn drop(&mut self) {
        let detail = "authentication was not completed";
        self.send(Authenticated::failed(Refusal::operators_only(
            RefusalCause::LoginFailed,
            detail,
        )));
    }
}

/// Sends the answer to a screening. If it is dropped without an answer, the message is refused.
#[derive(Debug)]
pub struct ScreenedAnswer {
    shard: ShardId,
    connection: ConnectionId,
    /// `None` after the answer.
    mailboxes: Option<Arc<Mailboxes>>,
}

impl ScreenedAnswer {
    pub(crate) fn new(shard: ShardId, connection: ConnectionId, mailboxes: Arc<Mailboxes>) -> Self {
        Self {
            shard,
            connection,
            mailboxes: Some(mailboxes),
        }
    }

    /// Sends the answer.
    pub fn give(mut self, answer: Screened) {
        self.send(answer);
    }

    fn send(&mut self, answer: Screened) {
        if let Some(mailboxes) = self.mailboxes.take() {
            let control = Control::Screened(self.connection, Box::new(answer));
            mailboxes.control(self.shard, control);
        }
    }
}

impl Drop for ScreenedAnswer {
    fn drop(&mut self) {
        self.send(Screened::failed());
    }
}

/// An authenticator without credentials: it refuses all.
#[derive(Clone, Copy, Debug)]
pub struct NoAuthenticator;

impl Authenticator for NoAuthenticator {
    fn ask(&self, _: Authentication, answer: LoginAnswer) {
        let cause = RefusalCause::NoSource;
        answer.give(Authenticated::refused(Refusal::operators_only(
            cause,
            cause.text(),
        )));
    }
}
