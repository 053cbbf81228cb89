//! Rights of those whose sources know nothing of permissions: password files, the environment,
//! certificates.

use std::sync::Arc;

use martlet_access::{AclFile, IotflowBase, default_rules};
use martlet_broker::Rules;

/// The rules of an ACL file, or the defaults where there is none.
#[derive(Clone, Debug)]
pub struct People {
    acl: Option<Arc<AclFile>>,
    default: Arc<Rules>,
}

impl People {
    /// With an ACL file only what it names is permitted; without one all but the node's own topics.
    pub fn new(acl: Option<Arc<AclFile>>, iotflow_base: &IotflowBase) -> Self {
        Self {
            acl,
            default: default_rules(iotflow_base),
        }
    }

    /// Rules of a user; none is anonymous.
    pub fn rules_of(&self, user_name: Option<&str>) -> Arc<Rules> {
        match &self.acl {
            Some(acl) => acl.rules_for(user_name),
            None => Arc::clone(&self.default),
        }
    }
}
