//! Tells systemd (`Type=notify`) that the node is ready, or stopping.

use std::os::unix::net::UnixDatagram;

/// Clients may be sent here.
pub(crate) fn ready() {
    send("READY=1");
}

/// Files are read again, for `Type=notify-reload`: [`ready`] ends it.
pub(crate) fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The node is on its way out.
pub(crate) fn stopping() {
    send("STOPPING=1");
}

fn send(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    // A service manager that does not listen is no reason to stop.
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(state.as_bytes(), path);
    }
}
