//! The seam to the authenticator: a question for each client that has to be authenticated, and the
//! way of its answer.
//!
//! Knows nothing of credentials. Who answers takes as long as it takes, on threads of its own: the
//! connection waits in the lobby meanwhile, under its deadline.

use std::fmt;
use std::sync::Arc;

use martlet_broker::{
    Authenticated, Authentication, ConnectionId, Refusal, RefusalCause, Screened, Screening,
    ShardId,
};

use crate::mailbox::{Control, Mailboxes};

/// Authenticates clients. Called on the reactors' threads: it must not block.
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Asks who a client is. Any thread may give the answer.
    fn ask(&self, authentication: Authentication, answer: LoginAnswer);

    /// Checks this message before it is routed. Any thread may give the answer. Without one, as
    /// here, the message is refused.
    fn screen(&self, screening: Screening, answer: ScreenedAnswer) {
        drop((screening, answer));
    }
}

/// The way back of one answer. Dropped without one it is a refusal: no client gets in because
/// something failed.
#[derive(Debug)]
pub struct LoginAnswer {
    shard: ShardId,
    connection: ConnectionId,
    /// None once it was given.
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

    /// Gives the answer.
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
        let detail = "authentication did not come to an end";
        self.send(Authenticated::failed(Refusal::operators_only(
            RefusalCause::LoginFailed,
            detail,
        )));
    }
}

/// Takes the answer to a screening. If it is dropped without one, the message is refused.
#[derive(Debug)]
pub struct ScreenedAnswer {
    shard: ShardId,
    connection: ConnectionId,
    /// None once it was given.
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

    /// Gives the answer.
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

/// Keeps no credentials, so no client can have any.
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
