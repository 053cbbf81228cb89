//! The users in a script's `user NAME PASSWORD …`, and their rights.

use std::sync::Arc;

use martlet_broker::{
    Actions, Authenticated, Authentication, ExchangeState, Identity, Password, PasswordSource,
    Realm, Refusal, RefusalCause, Rule, RuleBook, Rules, Step,
};
use martlet_codec::ReasonCode;

use crate::script::User;

/// The users of a script.
#[derive(Clone, Debug, Default)]
pub struct Users(Vec<(User, Arc<Rules>)>);

impl Users {
    /// Creates the users with compiled rules.
    pub fn new(users: &[User]) -> Self {
        let known = |user: &User| (user.clone(), Arc::new(compile(user)));
        Self(users.iter().map(known).collect())
    }

    /// Whether there are no users, so that no client must authenticate.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The answer to an authentication.
    pub fn answer(&self, asked: &Authentication) -> Authenticated {
        if let Some(step) = &asked.step {
            return self.answer_step(step);
        }
        let Some(name) = &asked.user_name else {
            return Authenticated::refused(Refusal::operators_only(
                RefusalCause::NoCredentials,
                "it has no name",
            ));
        };
        let password = asked.password.as_ref().map(Password::bytes);
        self.decide(name, password, None)
    }

    /// The authentication method of scripts: a client sends its name, is asked for its password,
    /// and sends it.
    fn answer_step(&self, step: &Step) -> Authenticated {
        if &*step.method != "steps" {
            return Authenticated::Refused {
                reason: ReasonCode::BadAuthenticationMethod,
                why: Refusal::operators_only(
                    RefusalCause::AuthenticationMethod,
                    "scripts know the method `steps` alone",
                ),
                claim: None,
            };
        }
        let name = step.state.as_ref().and_then(ExchangeState::get::<Arc<str>>);
        let Some(name) = name else {
            let name: Arc<str> = String::from_utf8_lossy(&step.data).into();
            return Authenticated::Continue {
                data: (*b"password?").into(),
                state: ExchangeState::new(name),
            };
        };
        self.decide(name, Some(&step.data), Some((*b"welcome").into()))
    }

    fn decide(
        &self,
        name: &Arc<str>,
        password: Option<&[u8]>,
        data: Option<Box<[u8]>>,
    ) -> Authenticated {
        let found = self.0.iter().find(|(user, _)| user.name == **name);
        let is_theirs = |user: &User| password == Some(user.password.as_bytes());
        let Some((_, rules)) = found.filter(|(user, _)| is_theirs(user)) else {
            return Authenticated::Refused {
                reason: ReasonCode::BadUserNameOrPassword,
                why: Refusal::operators_only(
                    RefusalCause::WrongPassword(PasswordSource::Other),
                    "not its password",
                ),
                claim: None,
            };
        };
        let identity = Identity {
            user_name: Some(name.clone()),
            rules: Arc::clone(rules),
            bound: true,
            ..Identity::anyone()
        };
        Authenticated::Accepted {
            identity,
            last_revocation: 0,
            data,
        }
    }
}

impl RuleBook for Users {
    fn rules_of(&self, _: Realm, user_name: Option<&str>) -> Arc<Rules> {
        let found = self
            .0
            .iter()
            .find(|(user, _)| user_name == Some(&user.name));
        found.map_or_else(|| Arc::new(Rules::closed()), |(_, rules)| Arc::clone(rules))
    }
}

fn compile(user: &User) -> Rules {
    if user.rules.is_empty() {
        return Rules::open();
    }
    let rules = user.rules.iter().map(|rule| Rule {
        actions: actions_of(&rule.actions),
        allows: rule.allows,
        filter: rule.filter.as_str().into(),
        source: "the script".into(),
    });
    Rules::compile(rules.collect(), Actions::NONE).expect("scripts have Topic Filters")
}

fn actions_of(names: &str) -> Actions {
    let actions = names.split('+').map(Actions::from_name);
    let actions = actions.map(|action| action.expect("publish, subscribe or receive"));
    actions.fold(Actions::NONE, Actions::and)
}
