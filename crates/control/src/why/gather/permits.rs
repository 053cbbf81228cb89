//! Rights that the rules give a client, and what would permit the rest.

use std::sync::Arc;

use martlet_broker::{Actions, Names, Realm, Rules, SessionRules, TenantId};
use martlet_codec::{SubscriptionFilter, TopicFilter, TopicName};

use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::event_kind::EventKind;
use crate::explain::{self, Explained};
use crate::journal::{AclFileOfListener, Entry, Lacking, Run, WordedRemedy};
use crate::remedy::Command;

/// Filters of a client's permissions that are named, at most.
const PERMITTED_MAX: usize = 4;

/// A level that takes the place of a wildcard of a Topic Filter.
const ANY_LEVEL: &str = "_";

/// Rights of a client to a topic.
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
    /// The Topic Filter with the client's own name.
    pub(crate) filter: String,
    /// The name in the topic in its place; `_`: a wildcard.
    pub(crate) other_name: String,
}

impl OwnNameRule {
    /// Words for what the rule permits.
    pub(crate) fn permits(&self) -> String {
        let Self {
            rule,
            filter,
            other_name,
        } = self;
        match &**other_name {
            ANY_LEVEL => format!("{rule} permits {filter}, which has its own name"),
            _ => format!("{rule} permits {filter}, with its own name instead of {other_name:?}"),
        }
    }
}

/// A group that a device is not in, and whose rules permit what the device lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupMissing {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The command that adds the device to it, for the finding about it.
    pub(crate) command: Option<Command>,
    /// When the device left the group; none: that is not known.
    pub(crate) left_ms: Option<u64>,
}

/// The client of an action, and where the rules of its listener are, if that is known.
pub(super) struct Actor<'a> {
    pub(super) tenant: TenantId,
    pub(super) client_id: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) acl_file: Option<&'a AclFileOfListener>,
}

impl Control {
    /// Rights of a client to a topic, and groups whose rules permit it that it is not in.
    pub(super) async fn topic_rules(
        &self,
        who: &Actor<'_>,
        topic: &str,
        is_filter: bool,
    ) -> Result<(TopicRules, Vec<GroupMissing>), ControlError> {
        let &Actor {
            tenant,
            client_id,
            user,
            ..
        } = who;
        let question = |action| explain::PermissionQuestion {
            tenant,
            user: user.or(Some(client_id)).map(str::to_owned),
            client_id: Some(client_id.to_owned()),
            action,
            topic: topic.to_owned(),
        };
        let session = self.session_rules(tenant, client_id).await?;
        // A Topic Filter is not a topic of messages.
        let (publish, receive) = match is_filter {
            true => (Actions::SUBSCRIBE, Actions::SUBSCRIBE),
            false => (Actions::PUBLISH, Actions::RECEIVE),
        };
        let (publish, receive) = (
            self.explain(&question(publish)).await?,
            self.explain(&question(receive)).await?,
        );
        let names = Names {
            client_id,
            user_name: user.unwrap_or(client_id),
        };
        let rules = self.rules_of(tenant, session.as_ref(), user.unwrap_or(client_id));
        let has_own_rules = session
            .as_ref()
            .is_some_and(|session| session.has_own_rules);
        let named = Actor {
            user: user.or(Some(client_id)),
            ..*who
        };
        let mut groups_missing = Vec::new();
        let mut remedy = |action, explained: &Explained| match has_own_rules {
            true => WordedRemedy::new(
                "give it a token that permits it, or have the hook's answer permit it",
                None,
            ),
            false if explained.outcome == explain::Outcome::Permitted => WordedRemedy::default(),
            false => {
                let (worded, group) = self.permitting_of(&named, action, topic);
                groups_missing.extend(group);
                worded
            }
        };
        let all = |action| {
            let rules = rules.as_deref();
            rules.map_or_else(Vec::new, |rules| permitted(rules, names, action))
        };
        let own_name = |action| {
            let rules = rules.as_deref()?;
            own_name_rule(rules, names, action, topic)
        };
        let receiving = match is_filter {
            true => "subscribe",
            false => "receive",
        };
        let remedy_publish = remedy("publish", &publish);
        let remedy_receive = remedy(receiving, &receive);
        let rules = TopicRules {
            publish,
            receive,
            own_name_publish: own_name(Actions::PUBLISH),
            own_name_receive: own_name(Actions::RECEIVE),
            permitted: all(Actions::PUBLISH),
            readable: all(Actions::RECEIVE),
            remedy_publish,
            remedy_receive,
        };
        Ok((rules, groups_missing))
    }

    /// Where it would have to be permitted what a client lacks; for a device that is not in a group
    /// that permits it, that group.
    fn permitting_of(
        &self,
        who: &Actor<'_>,
        action: &str,
        topic: &str,
    ) -> (WordedRemedy, Option<GroupMissing>) {
        let lacking = Lacking {
            client_id: who.client_id,
            user: who.user,
            action,
            topic,
        };
        match self
            .journal
            .commands()
            .group_permitting(who.tenant, &lacking)
        {
            Some((group, worded)) => {
                let missing = GroupMissing {
                    id: group.id,
                    name: group.name,
                    command: worded.command.clone(),
                    left_ms: None,
                };
                (worded, Some(missing))
            }
            None => {
                let worded = self
                    .journal
                    .commands()
                    .permitting(who.tenant, &lacking, who.acl_file);
                (worded, None)
            }
        }
    }

    /// Words the remedies of what rules forbade this client, with what is known of its groups and
    /// of the rules of its listener.
    pub(super) fn reword_forbidden(&self, who: &Actor<'_>, runs: &mut [Run]) -> Vec<GroupMissing> {
        let mut groups_missing = Vec::new();
        for run in runs {
            let entry = &mut run.last;
            let action = match action_forbidden(entry) {
                Some(Actions::PUBLISH) => "publish",
                Some(Actions::SUBSCRIBE) => "subscribe",
                Some(_) => "receive",
                None => continue,
            };
            let topic = entry.topic.as_deref().unwrap_or_default();
            // Of a user with several clients it may be another of them.
            let whose = Actor {
                client_id: &entry.client_id,
                user: entry.user_name.as_deref().or(who.user),
                ..*who
            };
            let (worded, group) = self.permitting_of(&whose, action, topic);
            // The entry knows as much where nothing more is known.
            if group.is_some() || who.acl_file.is_some() && entry.command.is_none() {
                (entry.remedy, entry.command) = (Some(worded.text), worded.command);
            }
            groups_missing.extend(group);
        }
        groups_missing
    }

    /// Refusals by a rule that would not be by those of now, as numbers of entries.
    pub(crate) async fn permitted_now(
        &self,
        tenant: TenantId,
        entries: impl Iterator<Item = &Entry>,
    ) -> Result<Vec<u64>, ControlError> {
        let mut permitted = Vec::new();
        for entry in entries {
            let Some(action) = action_forbidden(entry) else {
                continue;
            };
            let question = explain::PermissionQuestion {
                tenant,
                user: entry.user_name.clone(),
                client_id: Some(entry.client_id.clone()),
                action,
                topic: entry.topic.clone().unwrap_or_default(),
            };
            // A topic that was cut is none.
            if question.check().is_ok()
                && self.explain(&question).await?.outcome == explain::Outcome::Permitted
            {
                permitted.push(entry.seq);
            }
        }
        Ok(permitted)
    }

    /// Rules that permit with the own name of this client, or another one of the user, what rules
    /// forbade, by the number of the entry about it.
    pub(crate) async fn own_name_rules(
        &self,
        tenant: TenantId,
        user: Option<&str>,
        runs: &[Run],
    ) -> Result<Vec<(u64, OwnNameRule)>, ControlError> {
        let mut found = Vec::new();
        for entry in runs.iter().map(|run| &run.last) {
            let Some(action) = action_forbidden(entry) else {
                continue;
            };
            let client_id = &*entry.client_id;
            let session = self.session_rules(tenant, client_id).await?;
            let user = entry.user_name.as_deref().or(user).unwrap_or(client_id);
            let names = Names {
                client_id,
                user_name: user,
            };
            let topic = in_place_of_wildcards(entry.topic.as_deref().unwrap_or_default());
            let rules = self.rules_of(tenant, session.as_ref(), user);
            let rule = rules.and_then(|rules| own_name_rule(&rules, names, action, &topic));
            found.extend(rule.map(|rule| (entry.seq, rule)));
        }
        Ok(found)
    }

    /// The ones of the session, else those of the tables and files.
    /// Some Topic Filters of what a device may publish to.
    pub(crate) fn may_publish_to(&self, tenant: TenantId, device: &str) -> Vec<String> {
        let names = Names {
            client_id: device,
            user_name: device,
        };
        let rules = self.rules_of(tenant, None, device);
        rules.map_or_else(Vec::new, |rules| permitted(&rules, names, Actions::PUBLISH))
    }

    fn rules_of(
        &self,
        tenant: TenantId,
        session: Option<&SessionRules>,
        user: &str,
    ) -> Option<Arc<Rules>> {
        use martlet_broker::RuleBook as _;
        if let Some(session) = session {
            return session.rules.clone();
        }
        let policy = self.policy()?;
        Some(policy.rules_of(Realm::of_tenant(tenant), Some(user)))
    }
}

/// Action that a rule forbade by this entry; none: no rule did.
fn action_forbidden(entry: &Entry) -> Option<Actions> {
    if entry.cause != Some(Cause::NotPermitted) {
        return None;
    }
    match entry.what {
        EventKind::PublishRefused => Some(Actions::PUBLISH),
        EventKind::SubscribeRefused => Some(Actions::SUBSCRIBE),
        EventKind::Dropped | EventKind::MessagesLost => Some(Actions::RECEIVE),
        _ => None,
    }
}

/// A Topic Name that a Topic Filter, which may be one of a Shared Subscription, matches.
fn in_place_of_wildcards(filter: &str) -> String {
    let own = SubscriptionFilter::parse(filter).map(|parsed| parsed.filter.as_str());
    let own = own.unwrap_or(filter);
    let levels = own.split('/').map(|level| match level {
        "+" | "#" => ANY_LEVEL,
        level => level,
    });
    levels.collect::<Vec<&str>>().join("/")
}

/// The rule that permits an action on this topic with the client's own name in it.
fn own_name_rule(
    rules: &Rules,
    names: Names<'_>,
    action: Actions,
    topic: &str,
) -> Option<OwnNameRule> {
    let topic = TopicName::new(topic).ok()?;
    let mut all = rules.rules().iter();
    all.find_map(|rule| {
        let is_template = rule.filter.contains("%c") || rule.filter.contains("%u");
        if !rule.allows || !rule.actions.has(action) || !is_template {
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
        Some(OwnNameRule {
            rule: rule.source.to_string(),
            other_name: instead.1.to_owned(),
            filter: own,
        })
    })
}

/// Filters with which rules permit that action.
fn permitted(rules: &Rules, names: Names<'_>, action: Actions) -> Vec<String> {
    // A placeholder matches no name that is more than a level of a topic.
    let is_unfit = |filter: &str, placeholder: &str, name: &str| {
        filter.contains(placeholder) && name.contains(['/', '+', '#'])
    };
    let is_wanted = |rule: &&martlet_broker::Rule| {
        rule.allows
            && rule.actions.has(action)
            && !is_unfit(&rule.filter, "%c", names.client_id)
            && !is_unfit(&rule.filter, "%u", names.user_name)
    };
    let filters = rules.rules().iter().filter(is_wanted);
    let filters = filters.map(|rule| substituted(&rule.filter, names));
    filters.take(PERMITTED_MAX).collect()
}

fn substituted(filter: &str, names: Names<'_>) -> String {
    filter
        .replace("%c", names.client_id)
        .replace("%u", names.user_name)
}
