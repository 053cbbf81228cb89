//! Notifies systemd (`Type=notify`) that the node is ready, or stopping.

use std::os::unix::net::UnixDatagram;

/// The node is ready for clients.
pub(crate) fn ready() {
    send("READY=1");
}

/// Files are being reloaded, for `Type=notify-reload`; [`ready`] ends it.
pub(crate) fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The node is stopping.
pub(crate) fn stopping() {
    send("STOPPING=1");
}

fn send(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    // Errors are ignored: the service manager may not listen.
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(state.as_bytes(), path);
    }
}
