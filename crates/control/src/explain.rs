//! Whether a client may do something, and what decides it, by the rules that the shards ask: those
//! of its session while it is connected, else those that it would get if it came now.

use martlet_access::explain;
use martlet_broker::{
    Actions, Names, Realm, RuleBook as _, Rules, SessionRules, TenantId, UserName,
};
use martlet_codec::{SubscriptionFilter, TopicName};
use serde::{Deserialize, Serialize};

use crate::authentication::{Policy, Standing};
use crate::control::{Control, ControlError};

/// Question about a permission.
#[derive(Clone, Debug)]
pub struct PermissionQuestion {
    /// Among the clients of which tenant.
    pub tenant: TenantId,
    /// The user name; none: a client without one.
    pub user: Option<String>,
    /// The Client Identifier; none: it is the user name.
    pub client_id: Option<String>,
    /// One of them.
    pub action: Actions,
    /// A Topic Filter where it subscribes, else a Topic Name.
    pub topic: String,
}

/// Outcome of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The action is permitted.
    Permitted,
    /// The client is accepted, and the action is refused.
    Refused,
    /// The client would be refused at CONNECT.
    NotLetIn,
}

/// Explanation of what decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explained {
    /// Outcome of the question.
    pub outcome: Outcome,
    /// Where the rule stands that decides; none: no rule is about it.
    pub place: Option<String>,
    /// Topic Filter of the rule.
    pub rule: Option<String>,
    /// In a sentence.
    pub why: String,
    /// The source of these rules.
    pub asked: String,
    /// Notes about what else is to be known of it.
    pub notes: Vec<String>,
}

impl PermissionQuestion {
    /// Checks that any client could do that at all.
    ///
    /// # Errors
    /// What is wrong with the topic.
    pub fn check(&self) -> Result<(), String> {
        let checked = match self.action {
            Actions::SUBSCRIBE => SubscriptionFilter::parse(&self.topic).map(|_| "Topic Filter"),
            _ => TopicName::new(&self.topic).map(|_| "Topic Name"),
        };
        let what = match self.action {
            Actions::SUBSCRIBE => "Topic Filter",
            _ => "Topic Name",
        };
        let wrong = |why| format!("{:?} is not a valid {what}: {why}", self.topic);
        checked.map(|_| ()).map_err(wrong)
    }

    fn realm(&self) -> Realm {
        Realm::of_tenant(self.tenant)
    }

    fn client_id(&self) -> &str {
        let client_id = self.client_id.as_deref().or(self.user.as_deref());
        client_id.unwrap_or_default()
    }

    fn by(&self, rules: &Rules, user_name: Option<&str>, asked: String) -> Explained {
        // What members of a share group get is looked at as the filter behind the ShareName.
        let topic = match (self.action, SubscriptionFilter::parse(&self.topic)) {
            (Actions::SUBSCRIBE, Ok(parsed)) => parsed.filter.as_str(),
            _ => &self.topic,
        };
        let names = Names {
            client_id: self.client_id(),
            user_name: user_name.unwrap_or_default(),
        };
        let found = explain(rules, names, self.action, topic);
        Explained {
            outcome: match found.allowed {
                true => Outcome::Permitted,
                false => Outcome::Refused,
            },
            place: found.place,
            rule: found.rule,
            why: found.why,
            asked,
            notes: Vec::new(),
        }
    }

    /// Explains by the rules that a client would get that came now. `anonymous`: some listener lets
    /// clients in without credentials. `asked` is whose the policy is.
    pub fn by_policy(&self, policy: Option<&Policy>, anonymous: bool, asked: &str) -> Explained {
        let realm = policy.and_then(|policy| policy.realms.get(&self.realm()));
        let (Some(policy), Some(chain)) = (policy, realm) else {
            return match anonymous {
                true => self
                    .by(&Rules::open(), self.user.as_deref(), asked.to_owned())
                    .with("authentication is off, so every client may do everything"),
                false => not_let_in(
                    "no credentials are configured, and anonymous clients are rejected",
                    asked,
                ),
            };
        };
        let standing = self.user.as_deref().map(|user| {
            let standing = policy.standing(self.realm(), user, self.client_id());
            (user, standing)
        });
        let mut explained = match standing {
            None | Some((_, Standing::Unproved)) if !anonymous => {
                not_let_in("no listener accepts clients without credentials", asked)
            }
            None => self.by(&chain.anonymous, None, asked.to_owned()),
            Some((_, Standing::Unproved)) => self
                .by(&chain.anonymous, None, asked.to_owned())
                .with("no source of credentials is configured: the name is not checked"),
            Some((_, Standing::Barred(why))) => not_let_in(why.detail(), asked),
            Some((user, Standing::Known)) => {
                let rules = policy.rules_of(self.realm(), Some(user));
                self.by(&rules, Some(user), asked.to_owned())
            }
            Some((user, Standing::ByProof(sources))) => {
                let rules = policy.rules_of(self.realm(), Some(user));
                let note = format!(
                    "{sources} will decide at its login whether {user} is accepted; rules that it \
                     receives there take precedence over these"
                );
                self.by(&rules, Some(user), asked.to_owned()).with(&note)
            }
        };
        let is_of_listener = |realm: &&Realm| realm.tenant() == TenantId::default();
        if policy.realms.keys().filter(is_of_listener).count() > 1
            && self.tenant == TenantId::default()
        {
            let note = "listeners that have credentials of their own may decide otherwise";
            explained.notes.push(note.to_owned());
        }
        explained
    }
}

impl Explained {
    fn with(mut self, note: &str) -> Self {
        self.notes.push(note.to_owned());
        self
    }
}

fn not_let_in(why: &str, asked: &str) -> Explained {
    Explained {
        outcome: Outcome::NotLetIn,
        place: None,
        rule: None,
        why: why.to_owned(),
        asked: asked.to_owned(),
        notes: Vec::new(),
    }
}

impl Control {
    /// Explains what decides. The question's topic is one: see [`PermissionQuestion::check`].
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn explain(&self, question: &PermissionQuestion) -> Result<Explained, ControlError> {
        let policy = self.policy();
        let policy = policy.as_deref();
        let client_id = question.client_id();
        let session = match client_id {
            "" => None,
            client_id => self.session_rules(question.tenant, client_id).await?,
        };
        let other = match session {
            Some(session) if is_meant(question, &session, policy) => {
                return Ok(by_session(question, &session));
            }
            Some(session) => Some(format!(
                "client {client_id} is connected as {}",
                whom(&session)
            )),
            None => None,
        };
        let anonymous = self.takes_anonymous() && question.tenant == TenantId::default();
        let mut explained = question.by_policy(policy, anonymous, "the running node");
        explained.notes.extend(other);
        Ok(explained)
    }
}

/// The name that was asked about is the session's user, or, where no user has it, its client.
fn is_meant(
    question: &PermissionQuestion,
    session: &SessionRules,
    policy: Option<&Policy>,
) -> bool {
    let user = question.user.as_deref();
    if session.rules.is_none() || session.user.as_ref().map(UserName::as_str) == user {
        return true;
    }
    let is_user = |name| {
        let standing = policy.map(|policy| policy.standing(question.realm(), name, name));
        matches!(standing, Some(Standing::Known))
    };
    question.client_id.is_none() && !user.is_some_and(is_user)
}

fn by_session(question: &PermissionQuestion, session: &SessionRules) -> Explained {
    let client_id = question.client_id();
    let asked = format!(
        "the running node, by the rules that client {client_id} has, which is connected as {}",
        whom(session)
    );
    let Some(rules) = &session.rules else {
        let note = "authentication is off where it came in, so every client may do everything";
        return question.by(&Rules::open(), None, asked).with(note);
    };
    let user = session.user.as_ref().map(UserName::as_str);
    let explained = question.by(rules, user, asked);
    match session.has_own_rules {
        true => explained.with("these rules were received at its login"),
        false => explained,
    }
}

fn whom(session: &SessionRules) -> String {
    match &session.user {
        Some(UserName::Proved(name)) => format!("user {name}"),
        Some(UserName::Claimed(name)) => format!("a client that claims to be user {name}"),
        None => "an anonymous client".to_owned(),
    }
}
