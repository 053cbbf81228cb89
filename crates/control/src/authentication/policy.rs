//! The chain of sources: the first that knows a client decides.

use std::fmt;
use std::time::Duration;

use martlet_broker::{Authenticated, Authentication, Identity};
use martlet_codec::ReasonCode;

/// A place where credentials are kept.
pub trait Source: fmt::Debug + Send + Sync {
    /// What it is, for logs: `the password file /etc/martlet/passwd`.
    fn name(&self) -> String;

    /// Looks whether these are credentials of somebody. It may take long.
    fn look(&self, asked: &Authentication) -> Finding;
}

/// What a source found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// They are.
    Known(Identity),
    /// The source knows the name, and these are not its credentials: nobody else is asked.
    Wrong(String),
    /// It does not know the name; the next source may.
    Stranger,
    /// It cannot say: nobody else is asked, and the client may come again.
    Failed(String),
}

/// Who is let in.
#[derive(Debug)]
pub struct Policy {
    /// Asked in this order.
    pub sources: Vec<Box<dyn Source>>,
    /// Who has neither name nor certificate is this; none: is refused.
    pub anonymous: Option<Identity>,
    /// How long what was verified is remembered.
    pub remembered: Duration,
    /// How long a refusal is.
    pub refusal_remembered: Duration,
}

impl Policy {
    /// Who has no name.
    pub(super) fn anonymous(&self, asked: &Authentication, known: u64) -> Authenticated {
        match &self.anonymous {
            Some(identity) if asked.listener.allow_anonymous => Authenticated::Accepted {
                identity: identity.clone(),
                known,
            },
            _ => {
                Authenticated::refused("it has no user name, and anonymous clients are not let in")
            }
        }
    }

    /// Asks one after the other.
    pub(super) fn decide(&self, asked: &Authentication, known: u64) -> Authenticated {
        for source in &self.sources {
            match source.look(asked) {
                Finding::Known(identity) => return Authenticated::Accepted { identity, known },
                Finding::Wrong(why) => return bad_credentials(why),
                Finding::Failed(why) => {
                    let why = format!("{}: {why}", source.name());
                    return Authenticated::failed(why);
                }
                Finding::Stranger => {}
            }
        }
        let names: Vec<String> = self.sources.iter().map(|source| source.name()).collect();
        bad_credentials(match names.is_empty() {
            true => "no source of credentials is configured".to_owned(),
            false => format!("nobody of that name is known to {}", names.join(", ")),
        })
    }
}

/// Whether it was the name or the password the client is not told.
fn bad_credentials(why: String) -> Authenticated {
    Authenticated::Refused {
        reason: ReasonCode::BadUserNameOrPassword,
        why,
    }
}
