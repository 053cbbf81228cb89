//! `martlet import`: imports data of other systems.

mod databases;
mod files;
mod microservice;
mod mosquitto;
mod report;
mod telemetry;
mod users;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use martlet_control::text::printable;

use crate::cmd::errors::error_text;
use crate::cmd::print::{errln, out};

use databases::{DatabaseOptions, DeviceOptions};
use mosquitto::MosquittoOptions;
use report::Report;

/// Arguments of `martlet import`.
#[derive(Args, Debug)]
pub(crate) struct ImportCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Write a configuration file from a mosquitto.conf, or import a password file and an ACL file
    ///
    /// With a mosquitto.conf: reports how each line is converted. Exit code 0: the file was
    /// written, or printed. 1: a line is not understood, or would leave access open if it were
    /// ignored; the error names it, and nothing is written. 3: the file was written or printed, but
    /// no node starts with it on this machine; the end of the report shows why.
    ///
    /// With --password-file: its users are added to the tables, with their hashes; plain-text
    /// passwords are hashed. With --acl-file too, the lines of each user become a role. Exit code
    /// 3: some users were not added; the report shows why.
    Mosquitto(MosquittoOptions),
    /// Import the webhooks and messages of a database of the MQTT microservice:
    /// mqtt-messages.db
    ///
    /// The last 100,000 messages are added to the message log, with their ids. Webhooks are added
    /// to the running node, with their ids. Messages and webhooks that were imported before are not
    /// changed. Exit code 3: some webhooks were not imported; the report shows why.
    #[command(alias = "seed1")]
    Microservice(DatabaseOptions),
    /// Import the users and devices of a database of IoTFlow, with their numbers, keys,
    /// configuration and telemetry
    ///
    /// Passwords of users remain valid if they were hashed with PBKDF2; others must be set again.
    /// Administrators remain administrators of the API, other users get no role.
    /// The id of a device is its number. Its key remains valid, and is stored as a digest. Devices
    /// that were imported before are not changed. Telemetry keeps its times, and needs
    /// telemetry.enabled; the node need not run. A value that was imported before is not added
    /// again. Exit code 3: some objects were not imported; the report shows why.
    #[command(name = "iotflow", alias = "seed3")]
    IotFlow(DeviceOptions),
    /// Import the devices of a database of Service-MQTT, with their passwords
    ///
    /// The password of a device remains valid, and is stored as a digest. Devices that were
    /// imported before are not changed. Exit code 3: some devices were not imported; the report
    /// shows why.
    #[command(alias = "seed4")]
    ServiceMqtt(DeviceOptions),
}

/// Exit code if anything was skipped.
const SOME_SKIPPED: u8 = 3;

/// Runs the command.
pub(crate) fn run(command: &ImportCommand) -> ExitCode {
    let (report, json) = match &command.action {
        Action::Mosquitto(options) => match options.password_file() {
            Some(file) => (files::import(file, options), options.json),
            None => return mosquitto::run(options),
        },
        Action::Microservice(options) => (microservice::import(options), options.json()),
        Action::IotFlow(options) => (databases::import_iotflow(options), options.json()),
        Action::ServiceMqtt(options) => (databases::import_service_mqtt(options), options.json()),
    };
    finish(report, json)
}

fn finish(report: anyhow::Result<Report>, json: bool) -> ExitCode {
    match report {
        Ok(report) => {
            let text = match json {
                true => report.json(),
                false => report.text(),
            };
            out!("{text}");
            match report.has_skipped() {
                true => ExitCode::from(SOME_SKIPPED),
                false => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            let error = error_text(&error);
            errln!("martlet: {}", printable(&error));
            ExitCode::FAILURE
        }
    }
}
