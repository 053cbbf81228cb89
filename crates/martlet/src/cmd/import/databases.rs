//! Imports devices from the databases of IoTFlow and of Service-MQTT. They are added by the API's
//! use cases; the other database is not changed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use martlet_control::devices::DeviceName;
use martlet_control::use_cases::{
    AddDevices, FindDevice, FindDeviceOfSecret, FindUser, ReadConfiguration, SetConfiguration,
    UseCaseError,
};
use martlet_registry::{
    DataType, DatabaseUrl, DeviceSecret, ForeignSetting, Import, IotFlowDevice, IotFlowUser,
    Location, NewDevice, RegistryError, RowOutcome, Secret, ServiceMqttDevice, Status,
    UnreadableRow, iotflow_devices, service_mqtt_devices, wait,
};
use martlet_text_file::text_without_bom;

use super::report::{Outcome, Report};
use super::{telemetry, users};
use crate::cmd::errors::in_commands;
use crate::cmd::node_options::NodeAndForm;
use crate::cmd::tables::{self, OpenTables};
use crate::config::{self, regular_file};

/// Which database.
#[derive(Args, Debug)]
pub(super) struct DatabaseOptions {
    /// SQLite file, or postgres://USER@HOST/DATABASE without a password [default: DATABASE_URL or
    /// DATABASE_DSN of the environment or of .env; microservice: DB_PATH, else mqtt-messages.db]
    #[arg(value_name = "DATABASE", conflicts_with = "url_file")]
    database: Option<String>,
    /// File that contains the URL, with its password
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// Show what would be imported, and import nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) on: NodeAndForm,
}

/// Which database, and what its devices become.
#[derive(Args, Debug)]
pub(super) struct DeviceOptions {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Type of the devices, which decides the topics that they may use [default: iotflow or
    /// service-mqtt, the name of the command]
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
}

impl DatabaseOptions {
    pub(super) fn json(&self) -> bool {
        self.on.json
    }

    /// The database in the options or in the environment.
    pub(super) fn location(&self, names: &[&str], usual: Option<&str>) -> anyhow::Result<Location> {
        if let Some(text) = &self.database {
            if has_password(text) {
                bail!(
                    "a password on the command line can be read by other users of this machine: put \
                     the URL into the environment, as DATABASE_URL, or into a file that --url-file \
                     names"
                );
            }
            return location(text);
        }
        if let Some(file) = &self.url_file {
            let text = regular_file::read_named_text(file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            return location(text_without_bom(&text).trim());
        }
        let environment = config::environment()?.variables;
        let found = names.iter().find_map(|name| {
            let found = environment.iter().find(|(known, _)| known == name);
            found.filter(|(_, value)| !value.trim().is_empty())
        });
        match (found, usual) {
            (Some((name, value)), _) => location(value.trim()).with_context(|| name.clone()),
            (None, Some(file)) => location(file),
            (None, None) => bail!(
                "name the database: the path of a file of SQLite, postgres://USER@HOST/DATABASE, or \
                 {} in the environment",
                names.join(" or ")
            ),
        }
    }
}

impl DeviceOptions {
    pub(super) fn json(&self) -> bool {
        self.database.json()
    }

    fn location(&self) -> anyhow::Result<Location> {
        self.database.location(&config::DATABASE_NAMES, None)
    }

    fn device_type(&self, usual: &str) -> String {
        self.device_type.as_deref().unwrap_or(usual).to_owned()
    }

    /// Adds the devices of a database; a dry run adds them, reports it and undoes it. Devices that
    /// cannot be added are returned with their id and the reason.
    fn import(
        &self,
        from: &Location,
        found: impl Iterator<Item = Result<DeviceToImport, (String, String)>>,
        users: Vec<IotFlowUser>,
        unreadable: &[UnreadableRow],
    ) -> anyhow::Result<Report> {
        let dry_run = self.database.dry_run;
        let mut report = Report::new(from.to_string(), dry_run);
        let mut devices = Vec::new();
        for row in unreadable {
            report.add(row.what, &row.id, Outcome::Skipped, &row.why);
        }
        for device in found {
            match device {
                Ok(wanted) => devices.push(wanted),
                Err((id, why)) => report.add("device", &id, Outcome::Skipped, &why),
            }
        }
        tables::with_or_dry_run(&self.database.on.node, dry_run, async |open| {
            // Devices have them as their owners.
            for user in users {
                let name = user.name.clone();
                match users::of_iotflow(user) {
                    Ok(user) => users::add_user(open, &mut report, user).await?,
                    Err(why) => report.add("user", &name, Outcome::Skipped, &why),
                }
            }
            add(open, &mut report, devices).await
        })?;
        if report.has_imported() {
            report.node = tables::reload_tables(&self.database.on.node);
        }
        Ok(report)
    }
}

/// Whether the URL has a password before the host or among the parameters.
fn has_password(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || rest.contains("password=")
}

/// Parses a SQLite file or a PostgreSQL database, also in the notation of other programs.
fn location(text: &str) -> anyhow::Result<Location> {
    if let Some((scheme, rest)) = text.split_once("://")
        && let Some("postgres" | "postgresql") = scheme.split('+').next()
    {
        let url = DatabaseUrl::parse(&format!("postgresql://{rest}"));
        return Ok(url.map_err(RegistryError::from)?.into());
    }
    if let Ok(url) = DatabaseUrl::parse(text) {
        return Ok(url.into());
    }
    let mut schemes = ["sqlite:///", "sqlite://", "sqlite:", "file:"].into_iter();
    let path = schemes.find_map(|scheme| text.strip_prefix(scheme));
    let path = path.unwrap_or(text);
    if path.is_empty() || path.contains("://") {
        bail!("expected the path of a file of SQLite, or postgres://USER@HOST/DATABASE");
    }
    let path = Path::new(path);
    let found = path.metadata();
    found.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(path.into())
}

/// The devices of IoTFlow.
pub(super) fn import_iotflow(options: &DeviceOptions) -> anyhow::Result<Report> {
    let location = options.location()?;
    let found = wait(iotflow_devices(&location))?;
    let device_type = options.device_type("iotflow");
    let wanted = found.devices.into_iter().map(|device| {
        let id = device.number.to_string();
        of_iotflow(device, &device_type).map_err(|why| (id, why))
    });
    let mut report = options.import(&location, wanted, found.users, &found.unreadable)?;
    let (node, dry_run) = (&options.database.on.node, options.database.dry_run);
    telemetry::import(&mut report, node, &location, dry_run)?;
    report.leave(found.left_out);
    Ok(report)
}

/// The devices of Service-MQTT.
pub(super) fn import_service_mqtt(options: &DeviceOptions) -> anyhow::Result<Report> {
    let location = options.location()?;
    let found = wait(service_mqtt_devices(&location))?;
    let device_type = options.device_type("service-mqtt");
    let wanted = found.devices.into_iter().map(|device| {
        let id = device.id.clone();
        of_service_mqtt(device, &device_type).map_err(|why| (id, why))
    });
    options.import(&location, wanted, found.users, &found.unreadable)
}

/// A device to be added.
struct DeviceToImport {
    id: String,
    device: NewDevice,
    secret: Secret,
    /// The owner, if a user of that name exists here.
    owner: String,
    settings: Vec<ForeignSetting>,
    note: String,
}

fn of_iotflow(found: IotFlowDevice, device_type: &str) -> Result<DeviceToImport, String> {
    let secret = Secret::given(&found.api_key).map_err(|why| format!("its key: {why}"))?;
    let id = found.number.to_string();
    let known = Status::from_word(&found.status);
    let note = match known {
        Some(_) => String::new(),
        None => format!("its status is {:?}, so it is inactive here", found.status),
    };
    let device = NewDevice {
        number: Some(found.number),
        name: Some(found.name),
        device_type: device_type.to_owned(),
        kind: found.device_type,
        status: known.unwrap_or(Status::Inactive),
        description: found.description,
        location: found.location,
        firmware_version: found.firmware_version,
        hardware_version: found.hardware_version,
        secret: DeviceSecret::Given(secret.clone()),
        ..NewDevice::new(&id)
    };
    Ok(DeviceToImport {
        id,
        device,
        secret,
        owner: found.owner,
        settings: found.settings,
        note,
    })
}

fn of_service_mqtt(found: ServiceMqttDevice, device_type: &str) -> Result<DeviceToImport, String> {
    let secret = Secret::given(&found.password).map_err(|why| format!("its password: {why}"))?;
    // A device is identified by its user name.
    let (id, note) = match found.user_name.is_empty() || found.user_name == found.id {
        true => (found.id, String::new()),
        false => {
            let note = format!("its id was {}, its user name is its id here", found.id);
            (found.user_name, note)
        }
    };
    let device = NewDevice {
        device_type: device_type.to_owned(),
        kind: found.device_type,
        secret: DeviceSecret::Shared(secret.clone()),
        ..NewDevice::new(&id)
    };
    Ok(DeviceToImport {
        id,
        device,
        secret,
        owner: String::new(),
        settings: Vec::new(),
        note,
    })
}

async fn add(
    open: &mut OpenTables,
    report: &mut Report,
    mut wanted: Vec<DeviceToImport>,
) -> Result<(), UseCaseError> {
    for one in &mut wanted {
        own(open, one).await?;
    }
    let devices = wanted.iter().map(|one| one.device.clone()).collect();
    let import = Import::EachByItself;
    let outcomes = open.run(AddDevices { devices, import }).await?;
    for (one, outcome) in wanted.into_iter().zip(outcomes) {
        let (outcome, why) = match outcome {
            RowOutcome::Added(_) => (Outcome::Imported, one.note.clone()),
            RowOutcome::NotDone => (Outcome::Skipped, "it was not added".to_owned()),
            RowOutcome::Conflict(why) => (Outcome::Skipped, in_commands(&why)),
            RowOutcome::Exists(why) => skipped(open, &one, in_commands(&why)).await?,
            RowOutcome::Refused(why) => skipped(open, &one, in_commands(&why)).await?,
        };
        report.add("device", &one.id, outcome, &why);
        if outcome != Outcome::Skipped {
            add_settings(open, report, &one).await?;
        } else {
            for setting in &one.settings {
                let id = format!("{}/{}", one.id, setting.key);
                report.add(
                    "setting",
                    &id,
                    Outcome::Skipped,
                    "its device was not imported",
                );
            }
        }
    }
    Ok(())
}

/// Outcome for a device that was not added, for example because it was imported before.
async fn skipped(
    open: &mut OpenTables,
    one: &DeviceToImport,
    why: String,
) -> Result<(Outcome, String), UseCaseError> {
    Ok(match is_same(open, one).await? {
        true => (Outcome::Exists, String::new()),
        false => (Outcome::Skipped, why),
    })
}

/// Sets the owner if a user of that name exists.
async fn own(open: &mut OpenTables, one: &mut DeviceToImport) -> Result<(), UseCaseError> {
    if one.owner.is_empty() {
        return Ok(());
    }
    let name = one.owner.clone();
    match open.run(FindUser { name }).await {
        Ok(_) => one.device.owner.clone_from(&one.owner),
        Err(error) if error.is_not_found() => {
            let note = format!(
                "its owner {} is not a user here, so it has no owner",
                one.owner
            );
            let between = if one.note.is_empty() { "" } else { "; " };
            one.note.push_str(&format!("{between}{note}"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Whether the device with that id was imported before: it has the same secret, or the same type
/// and name.
async fn is_same(open: &mut OpenTables, one: &DeviceToImport) -> Result<bool, UseCaseError> {
    let device = DeviceName::Id(one.id.clone());
    let found = match open.run(FindDevice { device }).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    };
    let secret = one.secret.clone();
    let holder = open.run(FindDeviceOfSecret { secret }).await?;
    if holder.is_some_and(|holder| holder.number == found.number) {
        return Ok(true);
    }
    let name = one.device.name.as_deref().unwrap_or(&one.id);
    Ok(found.name == name && found.kind == one.device.kind)
}

/// Adds settings of a device that are not set yet.
async fn add_settings(
    open: &mut OpenTables,
    report: &mut Report,
    one: &DeviceToImport,
) -> Result<(), UseCaseError> {
    if one.settings.is_empty() {
        return Ok(());
    }
    let device = DeviceName::Id(one.id.clone());
    let read = ReadConfiguration {
        device: device.clone(),
    };
    let known = open.run(read).await?;
    for setting in &one.settings {
        let id = format!("{}/{}", one.id, setting.key);
        if known.iter().any(|known| known.key == setting.key) {
            report.add("setting", &id, Outcome::Exists, "");
            continue;
        }
        let Some(data_type) = DataType::from_word(&setting.data_type) else {
            let why = format!("{:?} is not a known type of values", setting.data_type);
            report.add("setting", &id, Outcome::Skipped, &why);
            continue;
        };
        let key = setting.key.clone();
        let value = in_our_words(&setting.value, data_type);
        let set = SetConfiguration {
            device: device.clone(),
            key,
            value,
            data_type,
            is_active: setting.is_active,
            expected_revision: 0.into(),
        };
        match open.run(set).await {
            Ok(_) => report.add("setting", &id, Outcome::Imported, ""),
            Err(error) if error.is_refused() => {
                report.add("setting", &id, Outcome::Skipped, &in_commands(&error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A value in our notation: `true` for Python's `True`.
fn in_our_words(value: &str, data_type: DataType) -> String {
    match data_type {
        DataType::Boolean => match value.trim().to_ascii_lowercase().as_str() {
            "1" | "yes" | "on" => "true".to_owned(),
            "0" | "no" | "off" => "false".to_owned(),
            word => word.to_owned(),
        },
        DataType::Integer | DataType::Float => value.trim().to_owned(),
        DataType::String | DataType::Json => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_argument_is_seen() {
        for text in [
            "postgres://u:p@h/d",
            "postgresql+psycopg2://u:p@h/d",
            "postgres://h/d?user=u&password=p",
        ] {
            assert!(has_password(text), "{text}");
        }
        for text in ["postgres://u@h:5432/d", "devices.db", "sqlite:///a:b@c.db"] {
            assert!(!has_password(text) || text.starts_with("sqlite"), "{text}");
        }
    }

    #[test]
    fn urls_are_read_as_other_programs_write_them() {
        let found = location("postgresql+psycopg2://u@h/d").expect("it is one");
        assert_eq!(found.to_string(), "postgresql://u@h/d");
        assert!(location("mysql://h/d").is_err());
        assert!(location("/nonexistent/devices.db").is_err());
    }

    #[test]
    fn booleans_of_python_are_read() {
        assert_eq!(in_our_words("True", DataType::Boolean), "true");
        assert_eq!(in_our_words("0", DataType::Boolean), "false");
        assert_eq!(in_our_words(" 7 ", DataType::Integer), "7");
        assert_eq!(in_our_words(" a ", DataType::String), " a ");
    }
}
