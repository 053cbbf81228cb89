//! `admin.sock` in the data directory: the operators' listener, protected by its file mode.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::IncomingStream;
use martlet_api::{HttpConnection, ListenerKind};
use rustix::fs::{Mode, OFlags};
use tokio::net::UnixListener;
use tracing::error;

/// Name of the socket in the data directory.
pub(crate) const FILE_NAME: &str = "admin.sock";

/// Longest path of `sockaddr_un` on Linux, without the final zero byte.
const PATH_BYTES_MAX: usize = 107;

/// Removes the socket's file when the node stops.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // A leftover file does no harm: the next start replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A path by which the socket of a directory is bound or connected to. Where its own path is longer
/// than a socket's may be, it leads over a descriptor of the directory, which this value holds.
pub(crate) struct SocketPath {
    path: PathBuf,
    _directory: Option<OwnedFd>,
}

impl SocketPath {
    /// The path of the socket in this directory.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(crate) fn of(directory: &Path) -> std::io::Result<Self> {
        // Other processes see the path, and find the node by it.
        let path = std::path::absolute(directory)?.join(FILE_NAME);
        if path.as_os_str().len() <= PATH_BYTES_MAX || !cfg!(target_os = "linux") {
            return Ok(Self {
                path,
                _directory: None,
            });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        Ok(Self {
            path: format!("/proc/self/fd/{}/{FILE_NAME}", directory.as_raw_fd()).into(),
            _directory: Some(directory),
        })
    }

    /// The path, which is good as long as this value lives.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Connects to the socket.
    ///
    /// # Errors
    /// No node listens there, or the user has no permission.
    pub(crate) fn connect(directory: &Path) -> std::io::Result<UnixStream> {
        UnixStream::connect(&Self::of(directory)?.path)
    }
}

/// Checks whether the socket can be created in this directory.
///
/// # Errors
/// Its path would be too long, where no shorter one leads there.
pub(crate) fn check(directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(FILE_NAME);
    let bytes = path.as_os_str().len();
    if bytes > PATH_BYTES_MAX && !cfg!(target_os = "linux") {
        bail!(
            "{} is a path of {bytes} bytes, a socket's may have {PATH_BYTES_MAX}: choose a shorter \
             --data-dir",
            path.display()
        );
    }
    Ok(())
}

/// Opens the socket early: a caller that connects as soon as the node accepts clients gets a
/// response when the node is ready. The caller must hold the data directory's lock.
pub(crate) fn open(directory: &Path) -> anyhow::Result<(AdminSocket, UnixListener)> {
    let path = directory.join(FILE_NAME);
    let opening = || format!("cannot open {}", path.display());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(opening);
        }
        _ => {}
    }
    // The directory is only accessible to this user, so no other user can connect before the mode
    // is set.
    let short = SocketPath::of(directory).with_context(opening)?;
    let listener = UnixListener::bind(&short.path).with_context(opening)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(opening)?;
    Ok((AdminSocket { path }, listener))
}

/// Serves requests until the process ends.
pub(crate) fn serve(listener: UnixListener, routes: Router) {
    let routes = routes.layer(middleware::from_fn(note_user));
    let routes = routes.into_make_service_with_connect_info::<SocketUser>();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            error!(%error, "admin.sock ended");
        }
    });
}

/// Id of the system user that has connected; of an unknown one, that of nobody.
#[derive(Clone, Copy, Debug)]
struct SocketUser(u32);

/// Id of nobody.
const NOBODY: u32 = 65_534;

impl Connected<IncomingStream<'_, UnixListener>> for SocketUser {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let peer = stream.io().peer_cred();
        Self(peer.map_or(NOBODY, |peer| peer.uid()))
    }
}

/// Notes how a request came in.
async fn note_user(
    ConnectInfo(SocketUser(uid)): ConnectInfo<SocketUser>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(HttpConnection {
        listener: ListenerKind::Socket { uid },
        peer: None,
    });
    next.run(request).await
}
