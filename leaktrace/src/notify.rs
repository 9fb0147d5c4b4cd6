//! Owns the word to a supervisor that speaks systemd's notification protocol (`sd_notify(3)`).
//! Must not know what it is told about.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Tells the supervisor, where `NOTIFY_SOCKET` names one, that the service is ready.
///
/// # Errors
///
/// When the socket cannot be reached.
pub fn ready() -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    // A leading @ stands for the NUL of Linux's abstract names.
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
