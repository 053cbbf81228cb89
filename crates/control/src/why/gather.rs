//! Where the facts come from.

use std::time::{SystemTime, UNIX_EPOCH};

use martlet_broker::{Actions, ClientInfo, Names, Realm, Rules, SessionRules};
use martlet_codec::{TopicFilter, TopicName};

use super::facts::{Facts, Meant, Session, TopicRules};
use super::{Question, Verdict, judge};
use crate::control::{Control, ControlError};
use crate::explain;

/// Of what a client may publish to, so many filters are named.
const PERMITTED_MAX: usize = 4;

impl Control {
    /// Why a client does not work.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn why(&self, question: &Question) -> Result<Verdict, ControlError> {
        Ok(judge(&self.facts(question).await?))
    }

    /// Everything that is known of a client.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn facts(&self, question: &Question) -> Result<Facts, ControlError> {
        let name = &*question.name;
        let runs = self.journal.runs_of(name);
        // A user name stands for the client that came by it last.
        let mut latest = runs.iter().rev().map(|run| &*run.last.client_id);
        let client_id = latest.find(|id| !id.is_empty()).unwrap_or(name).to_owned();
        let session = match self.client(name).await? {
            Some(found) => Some(found),
            None if client_id != name => self.client(&client_id).await?,
            None => None,
        };
        let client_id = match &session {
            Some(session) => session.client_id.clone(),
            None => client_id,
        };
        let policy = self.policy();
        let user = session
            .as_ref()
            .and_then(|session| session.user_name.clone());
        let mut latest = runs
            .iter()
            .rev()
            .filter(|run| run.last.client_id == client_id);
        let user = user.or_else(|| latest.find_map(|run| run.last.user_name.clone()));
        let standing = policy.as_deref().map(|policy| {
            let user = user.as_deref().unwrap_or(name);
            policy.standing(Realm::COMMON, user, &client_id)
        });
        let known = policy.as_deref().and_then(|policy| policy.tables());
        let known = known.and_then(|tables| tables.known(name));
        let rules = match &question.topic {
            None => None,
            Some(topic) => Some(self.topic_rules(&client_id, user.as_deref(), topic).await?),
        };
        let addresses = runs.iter().rev().find_map(|run| run.last.address.clone());
        let nameless = match addresses.as_deref().and_then(host) {
            Some(host) => self.journal.nameless_from(host),
            None => Vec::new(),
        };
        Ok(Facts {
            question: question.clone(),
            now_ms: now_ms(),
            known_as: known.map(|known| match known {
                martlet_registry::Known::User => "user".to_owned(),
                martlet_registry::Known::Device => "device".to_owned(),
            }),
            deleted_ms: None,
            banned: None,
            standing,
            session: session.map(session_of),
            presence: None,
            runs,
            nameless,
            listeners: self.info.listeners.clone(),
            rules,
            subscribers: None,
            store_failing: self
                .store_state()
                .and_then(|state| state.failing)
                .map(|(_, error)| error),
        })
    }

    async fn topic_rules(
        &self,
        client_id: &str,
        user: Option<&str>,
        topic: &str,
    ) -> Result<TopicRules, ControlError> {
        let question = |action| explain::Question {
            user: user.or(Some(client_id)).map(str::to_owned),
            client_id: Some(client_id.to_owned()),
            action,
            topic: topic.to_owned(),
        };
        let session = self.session_rules(client_id).await?;
        let (publish, receive) = (
            self.explain(&question(Actions::PUBLISH)).await?,
            self.explain(&question(Actions::RECEIVE)).await?,
        );
        let names = Names {
            client_id,
            user_name: user.unwrap_or(client_id),
        };
        let rules = self.rules_of(session.as_ref(), user.unwrap_or(client_id));
        Ok(TopicRules {
            publish,
            receive,
            meant: rules
                .as_deref()
                .and_then(|rules| meant(rules, names, topic)),
            permitted: rules
                .as_deref()
                .map(|rules| permitted(rules, names))
                .unwrap_or_default(),
        })
    }

    /// Those of the session, else those of the tables and files.
    fn rules_of(
        &self,
        session: Option<&SessionRules>,
        user: &str,
    ) -> Option<std::sync::Arc<Rules>> {
        use martlet_broker::RuleBook as _;
        if let Some(session) = session {
            return session.rules.clone();
        }
        let policy = self.policy()?;
        Some(policy.rules_of(Realm::COMMON, Some(user)))
    }
}

/// The rule that permits publishing to this topic of another name.
fn meant(rules: &Rules, names: Names<'_>, topic: &str) -> Option<Meant> {
    let topic = TopicName::new(topic).ok()?;
    let mut all = rules.rules().iter();
    all.find_map(|rule| {
        let is_template = rule.filter.contains("%c") || rule.filter.contains("%u");
        if !rule.allows || !rule.actions.has(Actions::PUBLISH) || !is_template {
            return None;
        }
        let anybody: Vec<&str> = rule
            .filter
            .split('/')
            .map(|level| match level.contains("%c") || level.contains("%u") {
                true => "+",
                false => level,
            })
            .collect();
        let anybody = anybody.join("/");
        if !TopicFilter::new(&anybody).ok()?.matches(topic) {
            return None;
        }
        let own = substituted(&rule.filter, names);
        let mut differing = rule
            .filter
            .split('/')
            .zip(own.split('/'))
            .zip(topic.levels());
        let instead = differing.find(|((rule, own), level)| rule != own && own != level)?;
        Some(Meant {
            place: rule.source.to_string(),
            instead: instead.1.to_owned(),
            filter: own,
        })
    })
}

fn permitted(rules: &Rules, names: Names<'_>) -> Vec<String> {
    let is_wanted =
        |rule: &&martlet_broker::Rule| rule.allows && rule.actions.has(Actions::PUBLISH);
    let filters = rules.rules().iter().filter(is_wanted);
    let filters = filters.map(|rule| substituted(&rule.filter, names));
    filters.take(PERMITTED_MAX).collect()
}

fn substituted(filter: &str, names: Names<'_>) -> String {
    filter
        .replace("%c", names.client_id)
        .replace("%u", names.user_name)
}

fn session_of(found: ClientInfo) -> Session {
    Session {
        client_id: found.client_id,
        connected: found.connected,
        since_ms: found.connected.then_some(found.connected_at_ms),
        keep_alive_secs: found.keep_alive_secs,
        session_expiry_secs: found.session_expiry_secs,
        queued: found.queued,
        in_flight: found.in_flight,
        dropped: found.dropped,
        subscriptions: Vec::new(),
    }
}

/// Of an address with a port.
fn host(address: &str) -> Option<&str> {
    address.rsplit_once(':').map(|(host, _)| host)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}
