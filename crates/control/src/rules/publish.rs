//! The parts by which rules and alarms publish. Each rule has one of its own. So a message shows
//! which rule has published it and how often rules have passed it on, and clients cannot forge
//! that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    NewMessage, PartEvent, PartId, PartPublish, PartQueueLimits, PartReach, PartSpec, Published,
    TenantId,
};
use martlet_integrate::Part;

use crate::control::Control;

/// Client Identifiers of the parts of rules begin with this.
pub(crate) const BY_RULE: &str = "$rule/";

/// User Property of a message that rules have published: its hops, over all nodes. So a loop over
/// other nodes ends too. Everybody may write it: it keeps rules from publishing, and from nothing
/// else.
pub(super) const HOPS: &str = "martlet-hops";
/// Time that a message may take to be stored.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);
/// Time until a part is attached: it is this process.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);
/// Parts that are attached at a time, at most. The others are attached again when they publish.
const PARTS_MAX: usize = 256;

/// Why a message is not handed over.
#[derive(Debug)]
pub(crate) enum PostError {
    /// The user or device of the message may not publish, for this reason.
    Refused(String),
    /// The message can be tried again.
    Failed(String),
}

/// Names a part: its tenant and its Client Identifier.
type Name = (TenantId, String);

/// A message that was handed to a part, and is not answered yet.
#[derive(Debug)]
pub(crate) struct Posted {
    part: Name,
    number: u64,
}

struct Post {
    part: Part,
    publish_as: Option<String>,
    last: u64,
    answered: HashMap<u64, Published>,
}

/// The parts of one task.
pub(crate) struct Publisher {
    control: Arc<Control>,
    parts: HashMap<Name, Post>,
}

impl Publisher {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            parts: HashMap::new(),
        }
    }

    /// Hands a message to a part, by the rules of this user or device.
    ///
    /// # Errors
    /// There is no such user or device, or the node does not take the part; the reason in words.
    pub(crate) async fn post(
        &mut self,
        tenant: TenantId,
        client_id: &str,
        publish_as: Option<&str>,
        message: NewMessage,
    ) -> Result<Posted, PostError> {
        let name = (tenant, client_id.to_owned());
        let is_same = |post: &Post| post.publish_as.as_deref() == publish_as;
        if !self.parts.get(&name).is_some_and(is_same) {
            if self.parts.len() >= PARTS_MAX {
                self.parts.clear();
            }
            let post = self.attach(&name, publish_as).await?;
            self.parts.insert(name.clone(), post);
        }
        let Some(post) = self.parts.get_mut(&name) else {
            return Err(PostError::Failed("the node stops".to_owned()));
        };
        post.last += 1;
        post.part.publish(PartPublish {
            number: post.last,
            message,
            receipts: false,
        });
        Ok(Posted {
            number: post.last,
            part: name,
        })
    }

    async fn attach(&self, name: &Name, publish_as: Option<&str>) -> Result<Post, PostError> {
        let (tenant, client_id) = name;
        let identity = publish_as.map(|who| self.control.identity(*tenant, who));
        let identity = identity.transpose().map_err(PostError::Refused)?;
        let mut part = self.control.attach(PartSpec {
            id: PartId::default(),
            tenant: *tenant,
            client_id: client_id.as_str().into(),
            identity,
            subscriptions: Vec::new(),
            credit: 1,
            session_expiry_secs: 0,
            keeps_qos0: false,
            queue: PartQueueLimits::default(),
            reach: PartReach::Node,
        });
        let attached = async {
            loop {
                match part.next().await {
                    Some(PartEvent::Attached { .. }) => return Ok(()),
                    Some(PartEvent::Ended { why, .. }) => return Err(why.to_owned()),
                    Some(_) => {}
                    None => return Err("the node stops".to_owned()),
                }
            }
        };
        let attached = tokio::time::timeout(ATTACHED_WITHIN, attached).await;
        let attached = attached.unwrap_or_else(|_| Err("a shard does not answer".to_owned()));
        attached.map_err(PostError::Failed)?;
        Ok(Post {
            part,
            publish_as: publish_as.map(str::to_owned),
            last: 0,
            answered: HashMap::new(),
        })
    }

    /// Result of a message.
    ///
    /// # Errors
    /// That is not known: the node does not answer, or the part was ended; the reason in words.
    pub(crate) async fn answer(&mut self, posted: &Posted) -> Result<Published, String> {
        let Some(post) = self.parts.get_mut(&posted.part) else {
            return Err("its part was ended".to_owned());
        };
        let answered = async {
            loop {
                if let Some(outcome) = post.answered.remove(&posted.number) {
                    return Ok(outcome);
                }
                match post.part.next().await {
                    Some(PartEvent::Published { number, outcome }) => {
                        post.answered.insert(number, outcome);
                    }
                    Some(PartEvent::Ended { why, .. }) => return Err(why.to_owned()),
                    Some(_) => {}
                    None => return Err("the node stops".to_owned()),
                }
            }
        };
        let answered = tokio::time::timeout(PUBLISHED_WITHIN, answered).await;
        let answered = answered.unwrap_or_else(|_| Err("the node does not answer".to_owned()));
        if answered.is_err() {
            // It is attached again, with the rights that its user has then.
            self.parts.remove(&posted.part);
        }
        answered
    }
}
