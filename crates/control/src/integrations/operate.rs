//! The integrations as one caller operates them: all of the node, or those of one tenant.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::TenantId;
use martlet_integrate::{
    BrokerAddresses, BroughtTopics, Command, CommandError, DeadLetter, DeadLetterHead, Handle,
    Host as _, OnReject, SecretTrouble, State, StoredLetter, name_of_team, own_name,
};
use martlet_registry::{NotFound, ObjectKind};

use super::entry::RunningIntegration;
use super::letters::LetterPage;
use super::{IntegrationError, Integrations, letters_of};

/// Dead letters that are sent again at once, at most: as many as may wait for that.
pub const SENT_AT_ONCE_MAX: usize = 10_000;
/// Dead letters that are looked at in one step.
const LETTERS_PER_STEP: usize = 1_000;

/// Time that a command may take; a delivery that is under way does not hold it up.
const COMMAND_WITHIN: Duration = Duration::from_secs(10);
/// Time that a test may take: it waits for a delivery that is under way.
const TEST_WITHIN: Duration = Duration::from_secs(65);

/// An integration with its state.
#[derive(Clone, Debug)]
pub struct IntegrationInfo {
    /// Handle of the integration, which has its names.
    pub handle: Arc<Handle>,
    /// Team whose tenant's messages it takes, as configured; empty is the common tenant.
    pub team: Arc<str>,
    /// Topic Filters of the messages that it takes.
    pub filters: Vec<Box<str>>,
    /// Whether QoS 0 messages are kept in its queue.
    pub keeps_qos0: bool,
    /// Treatment of messages that it refuses.
    pub on_reject: OnReject,
    /// Which messages it delivers in order.
    pub order: martlet_integrate::Order,
    /// State of the integration.
    pub state: State,
    /// Names of the secrets that it uses.
    pub secrets: Vec<Box<str>>,
    /// Why its secrets cannot be used; none if they can.
    pub secret_trouble: Option<SecretTrouble>,
    /// Dead letters that are stored; none while the tables do not answer.
    pub dead_letters_stored: Option<u64>,
}

/// Order of an operator to an integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Deliver nothing until it is resumed, also after a restart.
    Pause,
    /// Deliver again, after a pause or a stop.
    Resume,
    /// Deliver again after a stop at a message. If that is refused again, it becomes a dead letter.
    Skip,
    /// Deliver what waits now, and pause then.
    Drain,
}

/// Which dead letters of an integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Dead letters of these numbers.
    These(Vec<u64>),
    /// All.
    All,
}

/// Dead letters that are to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Dead letters that wait to be sent again by this.
    pub sending: u64,
    /// Whether there are more, beyond [`SENT_AT_ONCE_MAX`].
    pub has_more: bool,
}

/// The integrations that a caller sees and operates. Those of other tenants are not there for it.
#[derive(Clone, Copy, Debug)]
pub struct Operator<'a> {
    all: &'a Integrations,
    /// None: all tenants.
    tenant: Option<TenantId>,
}

/// An integration as `why` looks at it.
pub(crate) struct Examined {
    pub(crate) handle: Arc<Handle>,
    pub(crate) state: State,
    /// Topic Filters of the integration.
    pub(crate) filters: Vec<Box<str>>,
    /// Topics of messages that it brings from elsewhere.
    pub(crate) brings: Vec<BroughtTopics>,
    /// Topics of messages that it publishes at another broker.
    pub(crate) sends: Vec<BroughtTopics>,
    /// The other broker.
    pub(crate) broker: Option<BrokerAddresses>,
    /// Trouble with its secrets, if something is.
    pub(crate) secret_trouble: Option<SecretTrouble>,
    /// How long a message may wait, seconds; 0: for ever.
    pub(crate) age_max_secs: u32,
}

impl Integrations {
    /// All of them.
    pub(crate) fn examined(&self) -> Vec<Examined> {
        let entries = self.entries();
        let all = entries.iter().map(|entry| Examined {
            handle: Arc::clone(&entry.handle),
            state: entry.state(),
            filters: entry.settings.filters.clone(),
            brings: entry.settings.brings.clone(),
            sends: entry.settings.sends.clone(),
            broker: entry.broker.clone(),
            secret_trouble: entry.secrets.trouble(),
            age_max_secs: entry.settings.queue.age_max_secs,
        });
        all.collect()
    }

    /// Whether an integration is of this tenant; none: the caller sees the whole node.
    pub(super) fn is_of(&self, entry: &RunningIntegration, tenant: Option<TenantId>) -> bool {
        let is_it = |of| self.host.tenant(&entry.settings.tenant) == Some(of);
        tenant.is_none_or(is_it)
    }

    /// As a caller operates them that sees this tenant alone; none: that sees the whole node.
    pub fn operated_in(&self, tenant: Option<TenantId>) -> Operator<'_> {
        Operator { all: self, tenant }
    }

    /// The integration that a caller means by this kind and name, which sees this tenant alone;
    /// none: all. The name is one among all of the node, or one in a tenant.
    ///
    /// # Errors
    /// There is none that the caller sees, or several tenants have one.
    pub(crate) fn called(
        &self,
        tenant: Option<TenantId>,
        kind: &str,
        name: &str,
    ) -> Result<Arc<Handle>, NotFound> {
        let entries = self.entries();
        let is_meant = |entry: &&Arc<RunningIntegration>| {
            let handle = &entry.handle;
            let is_name = handle.name() == name || handle.own_name() == name;
            handle.kind() == kind && is_name && self.is_of(entry, tenant)
        };
        let mut meant: Vec<_> = entries.iter().filter(is_meant).collect();
        meant.sort_by_key(|entry| !entry.is_called(kind, name));
        let is_one = meant.len() == 1 || meant.first().is_some_and(|one| one.is_called(kind, name));
        match meant.first() {
            Some(entry) if is_one => Ok(Arc::clone(&entry.handle)),
            Some(_) => Err(NotFound::OfSeveralTeams(kind.to_owned(), name.to_owned())),
            None => Err(not_found(kind, name)),
        }
    }
}

impl Operator<'_> {
    /// The integrations, in the order of the configuration.
    pub async fn list(&self) -> Vec<IntegrationInfo> {
        let stored = self.all.host.letters_stored().await;
        let stored = stored.as_deref();
        let stored_of = |handle: &Handle| Some(letters_of(stored?, (handle.kind(), handle.name())));
        let own = self.own().into_iter();
        own.map(|entry| IntegrationInfo {
            handle: Arc::clone(&entry.handle),
            team: Arc::clone(&entry.settings.tenant),
            filters: entry.settings.filters.clone(),
            keeps_qos0: entry.settings.keeps_qos0,
            on_reject: entry.settings.on_reject,
            order: entry.settings.order,
            state: entry.state(),
            secrets: entry.secrets.names().to_vec(),
            secret_trouble: entry.secrets.trouble(),
            dead_letters_stored: stored_of(&entry.handle),
        })
        .collect()
    }

    /// The integration of this kind and name.
    ///
    /// # Errors
    /// There is none.
    pub async fn one(&self, kind: &str, name: &str) -> Result<IntegrationInfo, IntegrationError> {
        let meant = self.own_handle(kind, name)?;
        let is_it = |one: &IntegrationInfo| Arc::ptr_eq(&one.handle, &meant);
        let found = self.list().await.into_iter().find(is_it);
        Ok(found.ok_or_else(|| not_found(kind, name))?)
    }

    /// Has an integration do something. Returns when it is done, or has begun.
    ///
    /// # Errors
    /// There is no integration of this name, or it did not answer.
    pub async fn order(
        &self,
        kind: &str,
        name: &str,
        order: Order,
    ) -> Result<(), IntegrationError> {
        let command = match order {
            Order::Pause => Command::Pause,
            Order::Resume => Command::Resume,
            Order::Skip => Command::Skip,
            Order::Drain => Command::Drain,
        };
        self.send_command(kind, name, command, COMMAND_WITHIN).await
    }

    /// Asks whether the other system can be reached now.
    ///
    /// # Errors
    /// It cannot, and why; or as [`Operator::order`].
    pub async fn test(&self, kind: &str, name: &str) -> Result<(), IntegrationError> {
        self.send_command(kind, name, Command::Test, TEST_WITHIN)
            .await
    }

    /// A page of the dead letters of an integration, the oldest first, `limit` at most, 1 to
    /// 1,000. It may have fewer and not be the last. The integration may be one that is not
    /// configured any more.
    ///
    /// # Errors
    /// There is no such integration and no dead letter of one, or the tables cannot be read.
    pub async fn dead_letters(
        &self,
        kind: &str,
        name: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, IntegrationError> {
        let stored = self.stored_name(kind, name)?;
        let mut page = self.own_letters(kind, &stored, after, limit).await?;
        if page.items.is_empty() && self.all.entry(kind, &stored).is_none() {
            // It was one of the configuration.
            page = self.own_letters(kind, name, after, limit).await?;
            if page.items.is_empty() && after.is_none() {
                return Err(not_found(kind, name).into());
            }
        }
        Ok(page)
    }

    /// The name under which dead letters of an integration are stored. The integration may be one
    /// that is not there any more.
    ///
    /// # Errors
    /// It is another caller's.
    fn stored_name(&self, kind: &str, name: &str) -> Result<String, NotFound> {
        match self.all.called(self.tenant, kind, name) {
            Ok(handle) => Ok(handle.name().to_owned()),
            Err(NotFound::Object(..)) if self.all.entry(kind, name).is_none() => {
                let team = self.tenant.and_then(|tenant| self.all.host.team_of(tenant));
                Ok(name_of_team(
                    team.as_deref().unwrap_or_default(),
                    own_name(name),
                ))
            }
            Err(error) => Err(error),
        }
    }

    /// The next page of dead letters with one that the caller sees; the last page may have none.
    async fn own_letters(
        &self,
        kind: &str,
        name: &str,
        mut after: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, IntegrationError> {
        loop {
            let page = self.all.host.letters().list(kind, name, after, limit);
            let mut page = page.await.map_err(IntegrationError::Store)?;
            page.items.retain(|head| self.sees(head));
            if !page.items.is_empty() || page.next.is_none() {
                return Ok(page);
            }
            after = page.next;
        }
    }

    /// A dead letter of an integration, with its payload.
    ///
    /// # Errors
    /// The integration has no dead letter of this number, or the tables cannot be read.
    pub async fn dead_letter(
        &self,
        kind: &str,
        name: &str,
        id: u64,
    ) -> Result<DeadLetter, IntegrationError> {
        let stored = self.stored_name(kind, name)?;
        let found = self.all.host.dead_letters().get(id).await;
        let found = found.map_err(IntegrationError::Store)?;
        let is_own = |letter: &DeadLetter| {
            let of = (&*letter.head.kind, &*letter.head.name);
            (of == (kind, &*stored) || of == (kind, name)) && self.sees(&letter.head)
        };
        match found {
            Some(StoredLetter::Whole(letter)) if is_own(&letter) => Ok(*letter),
            Some(StoredLetter::Damaged(why)) if self.has_letter(kind, name, id).await? => {
                Err(IntegrationError::Damaged(id, why))
            }
            _ => Err(no_letter(kind, name, id)),
        }
    }

    /// Whether an integration has a dead letter of this number, damaged or not.
    async fn has_letter(&self, kind: &str, name: &str, id: u64) -> Result<bool, IntegrationError> {
        let page = self.dead_letters(kind, name, id.checked_sub(1), 1).await?;
        Ok(page.items.iter().any(|head| head.id == id))
    }

    /// Has dead letters of an integration sent again. Those that are taken are removed; those that
    /// are refused stay, with the new reason. Returns when they wait for that.
    ///
    /// # Errors
    /// There is no such integration, it has no dead letter of a number, or it did not answer.
    pub async fn send_again(
        &self,
        kind: &str,
        name: &str,
        chosen: Chosen,
    ) -> Result<Sending, IntegrationError> {
        self.own_handle(kind, name)?;
        let (ids, has_more) = match chosen {
            Chosen::These(ids) => (self.checked(kind, name, ids).await?, false),
            Chosen::All => self.ids_of(kind, name, SENT_AT_ONCE_MAX).await?,
        };
        let sending = ids.len() as u64;
        if sending > 0 {
            self.mark_and_send(kind, name, ids).await?;
        }
        Ok(Sending { sending, has_more })
    }

    /// Marks letters, so that they are sent after a restart too, and has them sent.
    async fn mark_and_send(
        &self,
        kind: &str,
        name: &str,
        ids: Vec<u64>,
    ) -> Result<(), IntegrationError> {
        let letters = self.all.host.letters();
        let marked = letters.mark(ids.clone(), true).await;
        let marked = marked.map_err(IntegrationError::Store)?;
        let command = Command::SendAgain(ids);
        let outcome = self.send_command(kind, name, command, COMMAND_WITHIN).await;
        if let Err(IntegrationError::Command(CommandError::Failed(_))) = &outcome {
            let unmarked = letters.mark(marked, false).await;
            unmarked.map_err(IntegrationError::Store)?;
        }
        outcome
    }

    /// Drops dead letters of an integration. Returns how many there were.
    ///
    /// # Errors
    /// It has no dead letter of a number, or the tables cannot be changed.
    pub async fn drop_letters(
        &self,
        kind: &str,
        name: &str,
        chosen: Chosen,
    ) -> Result<u64, IntegrationError> {
        match chosen {
            Chosen::These(ids) => {
                let ids = self.checked(kind, name, ids).await?;
                self.remove(ids).await
            }
            Chosen::All => {
                let mut dropped = 0;
                loop {
                    let (ids, has_more) = self.ids_of(kind, name, LETTERS_PER_STEP).await?;
                    if !ids.is_empty() {
                        dropped += self.remove(ids).await?;
                    }
                    if !has_more {
                        return Ok(dropped);
                    }
                }
            }
        }
    }

    /// Integrations that the caller sees.
    pub(super) fn own(&self) -> Vec<Arc<RunningIntegration>> {
        let entries = self.all.entries();
        let own = entries
            .iter()
            .filter(|entry| self.all.is_of(entry, self.tenant));
        own.cloned().collect()
    }

    /// A letter of the caller's tenant, and of an integration that it operates or that is not
    /// configured any more.
    fn sees(&self, letter: &DeadLetterHead) -> bool {
        let (kind, name) = (&*letter.kind, &*letter.name);
        self.tenant.is_none_or(|tenant| tenant.0 == letter.tenant)
            && (self.all.entry(kind, name).is_none() || self.own_handle(kind, name).is_ok())
    }

    fn own_handle(&self, kind: &str, name: &str) -> Result<Arc<Handle>, IntegrationError> {
        Ok(self.all.called(self.tenant, kind, name)?)
    }

    async fn send_command(
        &self,
        kind: &str,
        name: &str,
        command: Command,
        within: Duration,
    ) -> Result<(), IntegrationError> {
        let handle = self.own_handle(kind, name)?;
        Ok(handle.command(command, within).await?)
    }

    async fn remove(&self, ids: Vec<u64>) -> Result<u64, IntegrationError> {
        let removed = self.all.host.dead_letters().remove(ids).await;
        removed.map_err(IntegrationError::Store)
    }

    /// These numbers, each once, if all of them are of dead letters of the integration.
    async fn checked(
        &self,
        kind: &str,
        name: &str,
        mut ids: Vec<u64>,
    ) -> Result<Vec<u64>, IntegrationError> {
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            if !self.has_letter(kind, name, *id).await? {
                return Err(no_letter(kind, name, *id));
            }
        }
        Ok(ids)
    }

    /// Numbers of the oldest dead letters of an integration, and whether there are more.
    async fn ids_of(
        &self,
        kind: &str,
        name: &str,
        most: usize,
    ) -> Result<(Vec<u64>, bool), IntegrationError> {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .dead_letters(kind, name, after, LETTERS_PER_STEP)
                .await?;
            for head in page.items {
                if ids.len() >= most {
                    return Ok((ids, true));
                }
                ids.push(head.id);
            }
            if page.next.is_none() {
                return Ok((ids, false));
            }
            after = page.next;
        }
    }
}

fn not_found(kind: &str, name: &str) -> NotFound {
    NotFound::Object(ObjectKind::Integration, format!("{kind}/{name}"))
}

fn no_letter(kind: &str, name: &str, id: u64) -> IntegrationError {
    let text = format!("the integration {kind}/{name} has no dead letter {id}");
    IntegrationError::NotFound(text)
}
