//! The broker under test: a process that is repeatedly started and killed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use martlet_client::{Client, ConnectOptions, Endpoint, Event, Session};

/// A broker's process.
#[derive(Debug)]
pub struct Broker {
    command: Vec<String>,
    port: u16,
    log: PathBuf,
    child: Option<Child>,
}

/// Time limit from the start of a broker until it accepts a client.
const STARTING: Duration = Duration::from_secs(60);

impl Broker {
    /// Creates a broker that is started by `command`, with `{port}` and `{dir}` replaced.
    ///
    /// # Errors
    /// There is no free port, or the directory cannot be created.
    pub fn new(command: &[String], directory: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::create_dir_all(directory)?;
        let text = directory.display().to_string();
        let replaced = |part: &String| {
            part.replace("{port}", &port.to_string())
                .replace("{dir}", &text)
        };
        Ok(Self {
            command: command.iter().map(replaced).collect(),
            port,
            log: directory.with_extension("log"),
            child: None,
        })
    }

    /// Port of its listener.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it. Its log is written next to its data.
    ///
    /// # Errors
    /// The program does not exist.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let (program, arguments) = self.command.split_first().context("no command")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers a CONNECT.
    ///
    /// # Errors
    /// The broker has ended, or takes too long.
    pub async fn accepts(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + STARTING;
        let endpoint = Endpoint::tcp("127.0.0.1", self.port);
        loop {
            let mut client = Client::new(Session::new());
            if client
                .connect(&endpoint, &ConnectOptions::default())
                .await
                .is_ok()
                && let Ok(Event::Connected(_)) = client.next_event().await
            {
                return Ok(());
            }
            if let Some(status) = self
                .child
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                bail!("the broker ended with {status}; see {}", self.log.display());
            }
            if Instant::now() > end {
                bail!(
                    "no CONNACK within {} s; see {}",
                    STARTING.as_secs(),
                    self.log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.kill();
    }
}
