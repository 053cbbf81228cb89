//! The chain of sources: the first that knows a client decides.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{Authenticated, Authentication, Identity, Realm, RuleBook, Rules};
use martlet_codec::ReasonCode;

use super::failures::Lockout;
use super::proving::ScramUser;

/// What looks for a client; it may take long, and must not block the thread that it runs on.
pub type Looking<'a> = Pin<Box<dyn Future<Output = Finding> + Send + 'a>>;

/// A place where credentials are kept.
pub trait Source: fmt::Debug + Send + Sync {
    /// What it is, for logs: `the password file /etc/martlet/passwd`.
    fn name(&self) -> String;

    /// Looks whether these are credentials of somebody.
    fn look<'a>(&'a self, asked: &'a Authentication) -> Looking<'a>;

    /// What it keeps of a user's password for SCRAM-SHA-256, whose client has this identifier.
    /// Asked where it blocks nobody, and may take some milliseconds.
    fn scram(&self, user_name: &str, client_id: &str) -> ScramUser {
        let _ = (user_name, client_id);
        ScramUser::Unknown
    }

    /// What a user may do whom this source knows; none: it does not know of any such.
    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>>;

    /// Whether it lets somebody of that name in.
    fn knows(&self, user_name: &str) -> Knowledge {
        match self.rules_of(user_name) {
            Some(_) => Knowledge::Yes,
            None => Knowledge::No,
        }
    }

    /// Users whom it may have let in, by what it held, and whom the one of its kind among these,
    /// if there still is one, would not.
    fn no_longer_valid(&self, next: &[Arc<dyn Source>]) -> Vec<Arc<str>> {
        let _ = next;
        Vec::new()
    }

    /// Whether somebody who has proved a name elsewhere is let in, by this Client Identifier.
    ///
    /// # Errors
    /// Why not.
    fn admits(&self, user_name: &str, client_id: &str) -> Result<(), String> {
        let _ = (user_name, client_id);
        Ok(())
    }

    /// When what it holds changes by itself, as when a credential ends: wall clock in milliseconds.
    fn changes_at_ms(&self) -> Option<i64> {
        None
    }

    /// By which [`Source::no_longer_valid`] of an older one finds its kind.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Whether a source knows a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It has credentials of that name.
    Yes,
    /// It has none.
    No,
    /// A client that comes brings the proof, and with it the name.
    ByProof,
}

/// What becomes of who comes with a name and the proof of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is let in.
    Known,
    /// These sources will say.
    ByProof(String),
    /// It is not let in, and why.
    Barred(String),
    /// Nobody looks at names.
    Unproved,
}

/// What a source found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// They are.
    Known(Identity),
    /// The source knows the name, and these are not its credentials: nobody else is asked.
    Wrong(String),
    /// Who it is was proved, or need not be, and the client is not let in all the same: nobody else
    /// is asked, and it is no try of a password.
    NotNow(String),
    /// It does not know the name; the next source may.
    Stranger,
    /// It cannot say: nobody else is asked, and the client may come again.
    Failed(String),
}

/// Who is let in at the doors of one realm, and what they may do.
#[derive(Debug)]
pub struct Chain {
    /// Asked in this order.
    pub sources: Vec<Arc<dyn Source>>,
    /// What who has no credentials may do, where a listener lets them in.
    pub anonymous: Arc<Rules>,
}

/// Who is let in to the node.
#[derive(Debug)]
pub struct Policy {
    /// By the realms of the listeners.
    pub realms: BTreeMap<Realm, Chain>,
    /// How long what was verified is remembered.
    pub remembered: Duration,
    /// How long a refusal is.
    pub refusal_remembered: Duration,
    /// How many wrong credentials are borne.
    pub lockout: Lockout,
    /// Clients may prove by SCRAM-SHA-256 that they have a password.
    pub scram: bool,
    /// What salts of names that nobody has are made of, if they are to be the same after a restart,
    /// as those of others are.
    pub made_up_key: Option<[u8; 32]>,
    /// What who is not known may do: nothing.
    nobody: Arc<Rules>,
}

impl Policy {
    /// A policy that remembers what was verified for five minutes, and refusals for five seconds.
    pub fn new(realms: BTreeMap<Realm, Chain>) -> Self {
        Self {
            realms,
            remembered: Duration::from_secs(300),
            refusal_remembered: Duration::from_secs(5),
            lockout: Lockout {
                failures: 30,
                lasts: Duration::from_secs(60),
            },
            scram: false,
            made_up_key: None,
            nobody: Arc::new(Rules::closed()),
        }
    }

    /// Who has no credentials.
    pub(super) fn anonymous(&self, asked: &Authentication, known: u64) -> Authenticated {
        let realm = asked.listener.realm;
        match self.realms.get(&realm) {
            Some(chain) if asked.listener.allow_anonymous => Authenticated::Accepted {
                identity: Identity {
                    realm,
                    rules: Arc::clone(&chain.anonymous),
                    ..Identity::anyone()
                },
                known,
                data: None,
            },
            _ => Authenticated::refused(
                "it has no credentials, and anonymous clients are not let in",
            ),
        }
    }

    /// Asks one after the other.
    pub(super) async fn decide(&self, asked: &Authentication, known: u64) -> Authenticated {
        let realm = self.realms.get(&asked.listener.realm);
        let sources = realm.map_or(&[][..], |chain| &chain.sources);
        if sources.is_empty() {
            // A name that nobody can prove is none.
            return self.anonymous(asked, known);
        }
        for source in sources {
            match source.look(asked).await {
                Finding::Known(identity) => {
                    let name = identity.user_name.as_deref().unwrap_or_default();
                    let mut all = sources.iter();
                    let admits = |source: &Arc<dyn Source>| source.admits(name, &asked.client_id);
                    if let Some(why) = all.find_map(|source| admits(source).err()) {
                        return Authenticated::refused(why);
                    }
                    return Authenticated::Accepted {
                        identity,
                        known,
                        data: None,
                    };
                }
                Finding::Wrong(why) => return bad_credentials(why),
                Finding::NotNow(why) => return Authenticated::refused(why),
                Finding::Failed(why) => {
                    let why = format!("{}: {why}", source.name());
                    return Authenticated::failed(why);
                }
                Finding::Stranger => {}
            }
        }
        let names: Vec<String> = sources.iter().map(|source| source.name()).collect();
        bad_credentials(stranger(&names))
    }

    /// What becomes of who comes with this name and the proof of it.
    pub fn standing(&self, realm: Realm, user_name: &str, client_id: &str) -> Standing {
        let chain = self.realms.get(&realm);
        let sources = chain.map_or(&[][..], |chain| &chain.sources);
        if sources.is_empty() {
            return Standing::Unproved;
        }
        let mut all = sources.iter();
        if let Some(why) = all.find_map(|source| source.admits(user_name, client_id).err()) {
            return Standing::Barred(why);
        }
        let of = |knowledge| {
            let found = sources
                .iter()
                .filter(move |source| source.knows(user_name) == knowledge);
            found.map(|source| source.name()).collect::<Vec<_>>()
        };
        if !of(Knowledge::Yes).is_empty() {
            return Standing::Known;
        }
        match of(Knowledge::ByProof) {
            by_proof if by_proof.is_empty() => Standing::Barred(stranger(
                &sources
                    .iter()
                    .map(|source| source.name())
                    .collect::<Vec<_>>(),
            )),
            by_proof => Standing::ByProof(by_proof.join(" or ")),
        }
    }

    /// When a source has to be read again though nobody changes it: wall clock in milliseconds.
    pub fn changes_at_ms(&self) -> Option<i64> {
        let sources = self.realms.values().flat_map(|chain| &chain.sources);
        sources.filter_map(|source| source.changes_at_ms()).min()
    }

    /// Users who may be connected by the credentials of this policy and would not be by those of
    /// the next.
    pub fn no_longer_valid(&self, next: &Policy) -> Vec<Arc<str>> {
        let mut users = Vec::new();
        for (realm, chain) in &self.realms {
            let next = next.realms.get(realm);
            let next = next.map_or(&[][..], |chain| &chain.sources);
            for source in &chain.sources {
                users.extend(source.no_longer_valid(next));
            }
        }
        users
    }
}

impl RuleBook for Policy {
    fn rules_of(&self, realm: Realm, user_name: Option<&str>) -> Arc<Rules> {
        let Some(chain) = self.realms.get(&realm) else {
            return Arc::clone(&self.nobody);
        };
        let Some(name) = user_name else {
            return Arc::clone(&chain.anonymous);
        };
        let mut found = chain
            .sources
            .iter()
            .filter_map(|source| source.rules_of(name));
        found.next().unwrap_or_else(|| Arc::clone(&self.nobody))
    }
}

/// Nobody has that name.
fn stranger(sources: &[String]) -> String {
    format!("nobody of that name is known to {}", sources.join(", "))
}

/// The source of that kind among these: a chain has one of each at most.
pub(super) fn of_kind<T: Source + 'static>(sources: &[Arc<dyn Source>]) -> Option<&T> {
    let mut found = sources.iter().map(|source| source.as_any());
    found.find_map(|source| source.downcast_ref())
}

/// Whether it was the name or the password the client is not told.
fn bad_credentials(why: String) -> Authenticated {
    Authenticated::Refused {
        reason: ReasonCode::BadUserNameOrPassword,
        why,
    }
}
