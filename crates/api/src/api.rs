//! State that all routes share: the control plane, rights, and what is kept between requests.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::FromRef;
use martlet_control::Control;
use martlet_control::alarms::Alarms;
use martlet_control::callers::{Caller, Callers, CallersError};
use martlet_control::commands::Commands;
use martlet_control::devices::Devices;
use martlet_control::event_archive::EventArchive;
use martlet_control::firmware::FirmwareStore;
use martlet_control::integrations::Integrations;
use martlet_control::message_log::MessageLog;
use martlet_control::rollouts::Rollouts;
use martlet_control::rules::Rules;
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::shared_slots::SharedSlots;
use martlet_control::telemetry::{QueryMemories, Telemetry};
use martlet_control::twins::Twins;
use martlet_control::use_cases::UseCase;
use martlet_registry::Visibility;
use tokio::sync::Semaphore;

use crate::body::large::LargeBodies;
use crate::body::room::Bodies;
use crate::compat::iotflow::rates::RouteLimits;
use crate::compat::microservice::internal_use::InternalUse;
use crate::counts::Counts;
use crate::events::open_streams::Streams;
use crate::idempotency::memory::KeptInMemory;
use crate::openapi::document::Document;
use crate::output::Output;
use crate::page::Cursors;
use crate::problem::Problem;
use crate::rate::Rates;
use crate::rate_limit::RateLimit;
use crate::session::open::Sessions;
use crate::settings::{RouteSettings, Settings};
use crate::setup::token::{Setup, UNCLAIMED};

/// Backups that are sent at once, at most: each takes up to 2 MB while its reader is slow.
pub(crate) const BACKUPS_AT_ONCE: usize = 4;

/// The state of all routes, as the routes of one listener see it.
#[derive(Clone)]
pub struct Api {
    /// An [`Inner`], whose type is hidden: the compiler would look through all parts of a node for
    /// `Send` and `Sync`, for each route several times, which took half of this crate's build.
    inner: Arc<dyn AsRef<Inner> + Send + Sync>,
    /// Settings of the routes that this listener serves.
    pub(crate) routes: Arc<RouteSettings>,
    /// The document that describes its routes.
    pub(crate) document: Arc<OnceLock<Document>>,
}

/// State that all listeners share.
pub struct Inner {
    pub(crate) control: Arc<Control>,
    pub(crate) callers: Arc<dyn Callers>,
    pub(crate) settings: Settings,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) setup: Setup,
    pub(crate) counts: Counts,
    pub(crate) rates: Arc<Rates>,
    /// Attempts to log in by address, where no authenticator counts them.
    pub(crate) logins: Arc<Rates>,
    /// Refused requests that are told of, by address.
    pub(crate) refusals: Arc<Rates>,
    /// Limits of single routes.
    pub(crate) route_limits: Arc<RouteLimits>,
    pub(crate) answers: Arc<KeptInMemory>,
    pub(crate) bodies: Bodies,
    pub(crate) large_bodies: LargeBodies,
    pub(crate) output: Output,
    pub(crate) streams: Arc<Streams>,
    /// Queries of telemetry that run at once: what they find is in memory until it is answered.
    pub(crate) telemetry_queries: SharedSlots<Visibility>,
    /// Memory of what they find.
    pub(crate) query_memory: QueryMemories<Visibility>,
    /// Readers that follow telemetry.
    pub(crate) telemetry_tails: SharedSlots<Visibility>,
    /// Backups that may be sent beside those that are.
    pub(crate) backups: Arc<Semaphore>,
    pub(crate) cursors: Arc<Cursors>,
    pub(crate) internal_use: InternalUse,
    /// Builds the document of a listener from its routes.
    pub(crate) make_document: OnceLock<fn(&Api) -> Document>,
    parts: NodeParts,
}

/// Parts of a node that the API operates, as far as the node has them.
#[derive(Default)]
pub struct NodeParts {
    /// Users, devices and the rest.
    pub tables: Option<Arc<SharedRegistry>>,
    /// The log of messages that other programs confirm.
    pub message_log: Option<MessageLog>,
    /// Commands to devices.
    pub commands: Option<Arc<Commands>>,
    /// Twins of devices.
    pub twins: Option<Arc<Twins>>,
    /// Firmware for devices, and rollouts of it.
    pub firmware: Option<(Arc<FirmwareStore>, Arc<Rollouts>)>,
    /// Rules about messages, and alarms.
    pub rules: Option<(Arc<Rules>, Arc<Alarms>)>,
    /// Integrations, with the secrets that they use.
    pub integrations: Option<Arc<Integrations>>,
    /// Values of devices over time.
    pub telemetry: Option<Arc<Telemetry>>,
    /// Events in files.
    pub event_archive: Option<Arc<EventArchive>>,
}

/// A probe waits no longer for the tables.
const SETTLE_MAX: Duration = Duration::from_millis(500);

/// Queries of telemetry that run at once; one team may have its share of them.
const QUERIES_MAX: usize = 8;
/// Readers that follow telemetry, at most; one team may have its share of them.
pub(crate) const TAILS_MAX: usize = 256;

/// Attempts to log in that may come at once, and per second after that.
const LOGIN_BURST: u32 = 10;
const LOGIN_RATE: f64 = 0.2;

/// Refused requests of one address that are told of at once, and per second after that: anybody can
/// send them.
const REFUSAL_BURST: u32 = 20;
const REFUSAL_RATE: f64 = 1.0;

impl Api {
    /// The API of a node with these parts. `callers` authenticates callers. None if this machine
    /// has no source of randomness.
    pub fn new(
        control: Arc<Control>,
        callers: Arc<dyn Callers>,
        parts: NodeParts,
        settings: Settings,
    ) -> Option<Self> {
        let rates = Rates::new(f64::from(settings.rate), settings.burst, RateLimit::Caller);
        let share = control.info.limits.team_share();
        let inner = Inner {
            callers,
            sessions: Arc::default(),
            setup: Setup::default(),
            counts: Counts::default(),
            rates: Arc::new(rates),
            logins: Arc::new(Rates::new(LOGIN_RATE, LOGIN_BURST, RateLimit::Fixed)),
            refusals: Arc::new(Rates::new(REFUSAL_RATE, REFUSAL_BURST, RateLimit::Fixed)),
            route_limits: Arc::new(RouteLimits::new(
                settings.device_requests_per_minute,
                settings.device_requests_burst,
            )),
            answers: Arc::default(),
            bodies: Bodies::default(),
            large_bodies: LargeBodies::new(share),
            output: Output::default(),
            streams: Arc::default(),
            telemetry_queries: SharedSlots::new(QUERIES_MAX, share),
            query_memory: QueryMemories::new(&control),
            telemetry_tails: SharedSlots::new(TAILS_MAX, share),
            backups: Arc::new(Semaphore::new(BACKUPS_AT_ONCE)),
            cursors: Arc::new(Cursors::new()?),
            internal_use: InternalUse::default(),
            make_document: OnceLock::new(),
            control,
            parts,
            settings,
        };
        inner.count_memory();
        Some(Self {
            routes: Arc::new(inner.settings.routes.clone()),
            document: Arc::default(),
            inner: Arc::new(inner),
        })
    }

    /// The firmware for devices; none: the node keeps none.
    pub(crate) fn firmware(&self) -> Option<&Arc<FirmwareStore>> {
        self.parts.firmware.as_ref().map(|(firmware, _)| firmware)
    }

    /// The rollouts of firmware; none: the node keeps none.
    pub(crate) fn rollouts(&self) -> Option<&Arc<Rollouts>> {
        self.parts.firmware.as_ref().map(|(_, rollouts)| rollouts)
    }

    /// The rules about messages; none: the node has none.
    pub(crate) fn rules(&self) -> Option<&Arc<Rules>> {
        self.parts.rules.as_ref().map(|(rules, _)| rules)
    }

    /// The rules and the alarms; none: the node has none.
    pub(crate) fn rules_and_alarms(&self) -> Option<(&Rules, &Alarms)> {
        let (rules, alarms) = self.parts.rules.as_ref()?;
        Some((rules, alarms))
    }

    /// The alarms; none: the node has none.
    pub(crate) fn alarms(&self) -> Option<&Arc<Alarms>> {
        self.parts.rules.as_ref().map(|(_, alarms)| alarms)
    }

    /// The integrations; none: the node has none.
    pub(crate) fn integrations(&self) -> Option<&Integrations> {
        self.parts.integrations.as_deref()
    }

    /// The telemetry; none: the node stores none.
    pub(crate) fn telemetry(&self) -> Option<&Telemetry> {
        self.parts.telemetry.as_deref()
    }

    /// The event archive; none: no events are archived.
    pub(crate) fn event_archive(&self) -> Option<&Arc<EventArchive>> {
        self.parts.event_archive.as_ref()
    }

    /// Node with the same state, for a listener with its own settings.
    #[must_use]
    pub fn with_routes(&self, routes: RouteSettings) -> Self {
        let document = match routes.compat == self.routes.compat {
            true => Arc::clone(&self.document),
            false => Arc::default(),
        };
        Self {
            inner: Arc::clone(&self.inner),
            document,
            routes: Arc::new(routes),
        }
    }

    /// Where users, devices and the rest are.
    ///
    /// # Errors
    /// The node keeps none.
    pub(crate) fn tables(&self) -> Result<&Arc<SharedRegistry>, Problem> {
        let tables = self.parts.tables.as_ref();
        tables
            .ok_or_else(|| Problem::unavailable("this node keeps no users and devices".to_owned()))
    }

    /// The log of messages that other programs confirm.
    ///
    /// # Errors
    /// The node keeps none.
    pub(crate) fn message_log(&self) -> Result<&MessageLog, Problem> {
        let log = self.parts.message_log.as_ref();
        log.ok_or_else(|| Problem::unavailable("this node keeps no message log".to_owned()))
    }

    /// The commands to devices.
    ///
    /// # Errors
    /// The node keeps none.
    pub(crate) fn commands(&self) -> Result<&Arc<Commands>, Problem> {
        let commands = self.parts.commands.as_ref();
        commands.ok_or_else(|| Problem::unavailable("this node keeps no commands".to_owned()))
    }

    /// The twins of devices.
    ///
    /// # Errors
    /// The node keeps none.
    pub(crate) fn twins(&self) -> Result<&Arc<Twins>, Problem> {
        let twins = self.parts.twins.as_ref();
        twins.ok_or_else(|| Problem::unavailable("this node keeps no twins".to_owned()))
    }

    /// Runs a use case.
    ///
    /// # Errors
    /// The node keeps no tables, the caller may not, or it cannot be done.
    pub(crate) async fn run<U: UseCase>(
        &self,
        caller: Caller,
        case: U,
    ) -> Result<U::Output, Problem> {
        Ok(self.tables()?.run(caller, case).await?)
    }

    /// Operations of callers on devices.
    ///
    /// # Errors
    /// The node keeps none.
    pub(crate) fn devices(&self) -> Result<Devices, Problem> {
        Ok(Devices::new(Arc::clone(self.tables()?)))
    }

    /// The token by which the first administrator can be made: once, and for an hour. None if there
    /// is an administrator, or no tables.
    pub async fn setup_token(&self) -> Option<String> {
        match self.callers.has_administrator().await {
            Ok(false) => self.setup.make(),
            _ => None,
        }
    }

    /// Withdraws the warning that the node has no administrator, if it has one now: health never
    /// warns once there is an administrator or a key of one.
    pub(crate) async fn settle_unclaimed(&self) {
        let health = &self.control.health;
        if !health.says(UNCLAIMED) {
            return;
        }
        let unclaimed = tokio::time::timeout(SETTLE_MAX, self.is_unclaimed());
        if unclaimed.await == Ok(false) {
            health.withdraw(UNCLAIMED);
        }
    }

    /// Whether the node has no administrator yet: then every listener is open to this machine.
    pub async fn is_unclaimed(&self) -> bool {
        matches!(self.known_unclaimed().await, Ok(true))
    }

    /// Whether the node has no administrator yet, or an error if that is not known.
    ///
    /// # Errors
    /// It cannot be known now.
    pub(crate) async fn known_unclaimed(&self) -> Result<bool, CallersError> {
        if !self.settings.keys.is_empty() {
            return Ok(false);
        }
        match self.callers.is_claimed().await {
            Ok(is_claimed) => Ok(!is_claimed),
            Err(CallersError::None) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the node had an administrator and has none any more for the API. None: that is not
    /// known now.
    pub async fn lacks_administrator(&self) -> Option<bool> {
        if !self.settings.keys.is_empty() {
            return Some(false);
        }
        let is_claimed = self.callers.is_claimed().await.ok()?;
        let Some(tables) = self.parts.tables.as_ref().filter(|_| is_claimed) else {
            return Some(false);
        };
        tables.can_be_administered().await.ok().map(|can| !can)
    }

    /// Pages of lists.
    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }
}

impl Inner {
    /// Counts what is kept of requests as memory of the node.
    fn count_memory(&self) {
        let control = &self.control;
        if let Some(part) = control.memory_part() {
            self.answers.set_bytes_max(part);
            self.streams.set_bytes_max(part);
        }
        let answers = Arc::clone(&self.answers);
        control.count_also("http_answers", Box::new(move || answers.memory_bytes()));
        let sessions = Arc::clone(&self.sessions);
        let rates = [Arc::clone(&self.rates), Arc::clone(&self.logins)];
        let (cursors, of_routes) = (Arc::clone(&self.cursors), Arc::clone(&self.route_limits));
        let callers = move || {
            let rates: usize = rates.iter().map(|rates| rates.memory_bytes()).sum();
            sessions.memory_bytes() + cursors.memory_bytes() + rates + of_routes.memory_bytes()
        };
        control.count_also("http_callers", Box::new(callers));
        let streams = Arc::clone(&self.streams);
        control.count_also("event_streams", Box::new(move || streams.memory_bytes()));
        let bodies = self.bodies.clone();
        control.show_borrowed("http_bodies", Box::new(move || bodies.memory_bytes()));
        let output = self.output.clone();
        control.show_borrowed("http_output", Box::new(move || output.memory_bytes()));
    }
}

impl std::ops::Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        (*self.inner).as_ref()
    }
}

impl AsRef<Self> for Inner {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl FromRef<Api> for Arc<Control> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.control)
    }
}
