//! Devices that register by MQTT. A client publishes `…/discovery/register/ID` with a provisioning
//! key, and is answered on `…/discovery/response/ID`; the device is added by the use case that
//! `POST /api/v1/provision` has. Neither message is routed, so no other client sees the keys in
//! them.
//!
//! * `message`: registrations and answers as JSON
//! * `rate`: how many registrations may come from an address

mod message;
mod rate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_access::IOTFLOW;
use martlet_broker::{
    Authenticated, Authentication, Limit, LoginWaiter, Password, ReachedLimit, Refusal,
    RefusalCause, Screened, Screening,
};
use martlet_codec::ReasonCode;
use martlet_registry::{
    Actor, AddedDevice, ProvisioningKeyRef, Visibility, may_be_provisioning_key,
};

use crate::authentication::{AuthenticationChain, key_of_applicant, response_topic};
use crate::control::Control;
use crate::devices::{DeviceError, DeviceName, Devices};
use crate::iotflow::Catalogue;
use crate::shared_registry::SharedRegistry;
use message::{Failure, Registration};
use rate::Rates;

/// A provisioning key that does not exist.
const NO_KEY: &str = "mp_";

/// Time that the tables may take to add a device.
const ADDED_WITHIN: Duration = Duration::from_secs(20);

/// Adds devices that register by MQTT.
pub struct Discovery {
    control: Arc<Control>,
    devices: Devices,
    chain: AuthenticationChain,
    catalogue: Arc<Catalogue>,
    /// Registrations per minute from one address; 0: no limit.
    per_minute: u32,
    rates: Rates,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

/// A refused registration: the answer to the device, and why.
struct NotDone {
    failure: Failure,
    reason: ReasonCode,
    why: Refusal,
}

impl NotDone {
    fn of(failure: Failure, reason: ReasonCode, why: Refusal) -> Self {
        Self {
            failure,
            reason,
            why,
        }
    }
}

impl Discovery {
    /// Adds devices to these tables, and checks their keys by this chain.
    pub fn new(
        control: Arc<Control>,
        tables: Arc<SharedRegistry>,
        chain: AuthenticationChain,
        catalogue: Arc<Catalogue>,
    ) -> Self {
        let per_minute = control.info.limits.discovery_rate_per_address;
        Self {
            control,
            devices: Devices::new(tables),
            chain,
            catalogue,
            per_minute,
            rates: Rates::default(),
        }
    }

    /// Registers a device, and answers what its client is sent.
    pub async fn register(&self, screening: Screening) -> Screened {
        let discovery = screening.listener.discovery.as_ref();
        let id = discovery.and_then(|discovery| discovery.id_of(&screening.topic));
        let Some(id) = id.map(str::to_owned) else {
            let cause = RefusalCause::RegistrationPayload;
            return Screened::Refused {
                reason: ReasonCode::TopicNameInvalid,
                why: Refusal::operators_only(
                    cause,
                    "the topic is not one on which devices register",
                ),
            };
        };
        let beginning = &screening.topic[..screening.topic.len() - id.len()];
        let topic = response_topic(beginning, &id).into();
        let done = tokio::time::timeout(ADDED_WITHIN, self.added(&screening, &id));
        let done = done.await.unwrap_or_else(|_| {
            Err(unavailable(
                "the tables have not answered in time".to_owned(),
            ))
        });
        match done {
            Ok(device) => Screened::Answered {
                topic,
                payload: self.success(device).await,
                refused: None,
            },
            Err(NotDone {
                failure,
                reason,
                why,
            }) => Screened::Answered {
                topic,
                payload: failure.payload(&id),
                refused: Some((reason, why)),
            },
        }
    }

    async fn added(&self, screening: &Screening, id: &str) -> Result<AddedDevice, NotDone> {
        self.take_rate(screening)?;
        let registration = Registration::read(&screening.payload).map_err(|why| {
            let refusal = Refusal::operators_only(RefusalCause::RegistrationPayload, why.clone());
            let reason = ReasonCode::PayloadFormatInvalid;
            NotDone::of(Failure::new("invalid_registration", why), reason, refusal)
        })?;
        let key = self.key_of(screening, registration.key()).await?;
        let principal = match &key {
            ProvisioningKeyRef::Secret(_) => String::new(),
            ProvisioningKeyRef::Id(id) => id.clone(),
        };
        let actor = Actor {
            who: format!("client {}", screening.client_id),
            by: format!("provisioning key {principal}")
                .trim_end()
                .to_owned(),
            address: screening
                .address
                .map_or_else(String::new, |(ip, _)| ip.to_string()),
            request_id: String::new(),
            visibility: Visibility::All,
        };
        let request = registration.request(id);
        let device = registration.into_device(id);
        let added = self.devices.provision_by_key(actor, key, device, request);
        added
            .await
            .map(|made| made.device)
            .map_err(|error| of_error(error, id))
    }

    /// The provisioning key: the one that the client has shown when it connected, or the one in the
    /// registration. That one is checked as a password is, so that guesses lock out an address.
    async fn key_of(
        &self,
        screening: &Screening,
        key: Option<&str>,
    ) -> Result<ProvisioningKeyRef, NotDone> {
        let name = screening.user_name.as_deref().unwrap_or_default();
        if screening.is_applicant
            && let Some(id) = key_of_applicant(name)
        {
            return Ok(ProvisioningKeyRef::Id(id.to_owned()));
        }
        let discovery = screening.listener.discovery.as_ref();
        let is_taken = discovery.is_some_and(|discovery| discovery.key_in_payload);
        let Some(key) = key.filter(|_| is_taken) else {
            let text = match is_taken {
                true => "the registration has no provisioning_key",
                false => "connect with the provisioning key as password",
            };
            let refusal = Refusal::operators_only(RefusalCause::ProvisioningKey, text);
            let failure = Failure::new("invalid_key", text.to_owned());
            return Err(NotDone::of(failure, ReasonCode::NotAuthorized, refusal));
        };
        // Other texts are not shown to sources of passwords, and count as wrong keys all the same.
        let key = match may_be_provisioning_key(key.as_bytes()) {
            true => key,
            false => NO_KEY,
        };
        let asked = Authentication {
            connection: screening.connection,
            realm: screening.listener.realm,
            listener: Arc::clone(&screening.listener),
            address: screening.address,
            version: screening.version,
            client_id: Arc::clone(&screening.client_id),
            user_name: None,
            password: Some(Password::from(key.as_bytes())),
            certificate: None,
            waiter: LoginWaiter::default(),
            step: None,
        };
        let (answer_to, answer) = tokio::sync::oneshot::channel();
        self.chain.ask(asked, move |found| {
            // The registration was given up.
            let _ = answer_to.send(found);
        });
        match answer.await {
            Ok(Authenticated::Accepted { identity, .. }) => {
                let name = identity.user_name.as_deref().unwrap_or_default();
                match key_of_applicant(name) {
                    Some(id) => Ok(ProvisioningKeyRef::Id(id.to_owned())),
                    None => Err(not_valid(RefusalCause::ProvisioningKey.into())),
                }
            }
            Ok(Authenticated::Refused { reason, why, .. }) => Err(match reason {
                ReasonCode::ServerUnavailable => unavailable(why.detail().to_owned()),
                ReasonCode::ConnectionRateExceeded => {
                    let text = "too many wrong keys were tried from this address: try again later";
                    let failure = Failure::new("too_many_requests", text.to_owned());
                    NotDone::of(failure, ReasonCode::QuotaExceeded, why)
                }
                _ => not_valid(why),
            }),
            Ok(Authenticated::Continue { .. }) | Err(_) => {
                Err(unavailable("the key was not checked".to_owned()))
            }
        }
    }

    fn take_rate(&self, screening: &Screening) -> Result<(), NotDone> {
        let Some((address, _)) = screening.address else {
            return Ok(());
        };
        if self.per_minute == 0 || self.rates.take(address, self.per_minute, Instant::now()) {
            return Ok(());
        }
        let (limit, value) = (Limit::DiscoveryRate, self.per_minute.into());
        let why = ReachedLimit { limit, value }.refusal();
        let text = "too many registrations from this address: try again in a minute";
        let failure = Failure::new("too_many_requests", text.to_owned());
        Err(NotDone::of(failure, ReasonCode::QuotaExceeded, why))
    }

    /// The answer to a device that was added: all that it needs to connect.
    async fn success(&self, device: AddedDevice) -> Box<[u8]> {
        let read = self
            .devices
            .read(Visibility::All, DeviceName::Number(device.number));
        let type_ = read
            .await
            .map(|device| device.device_type)
            .unwrap_or_default();
        let topics = (type_ == IOTFLOW).then(|| message::topics_of(&self.catalogue, &device.id));
        message::success(&device, topics, &self.control.info.listeners)
    }
}

fn not_valid(why: Refusal) -> NotDone {
    let text = "the provisioning key is not valid";
    let failure = Failure::new("invalid_key", text.to_owned());
    NotDone::of(failure, ReasonCode::NotAuthorized, why)
}

fn unavailable(why: String) -> NotDone {
    let text = "the device cannot be registered now: try again later";
    let failure = Failure::new("unavailable", text.to_owned());
    let refusal = Refusal::operators_only(RefusalCause::LoginFailed, why);
    NotDone::of(failure, ReasonCode::ImplementationSpecificError, refusal)
}

fn of_error(error: DeviceError, id: &str) -> NotDone {
    let text = error.to_string();
    let (name, reason) = match &error {
        // The key was valid a moment ago.
        DeviceError::NotFound(_) => return not_valid(RefusalCause::ProvisioningKey.into()),
        DeviceError::Exists(_) | DeviceError::NameTaken(_) => ("exists", ReasonCode::NotAuthorized),
        DeviceError::Conflict(_) => ("limit_reached", ReasonCode::QuotaExceeded),
        DeviceError::Refused(_) | DeviceError::Stale(_) => {
            ("not_permitted", ReasonCode::NotAuthorized)
        }
        DeviceError::Unavailable(_) => return unavailable(text),
    };
    let cause = error.refusal_cause().unwrap_or(RefusalCause::NotRegistered);
    let refusal = Refusal::operators_only(cause, text.clone()).about(id);
    NotDone::of(Failure::new(name, text), reason, refusal)
}
