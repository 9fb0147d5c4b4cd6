//! Owns the words to a supervisor that speaks systemd's notification protocol (`sd_notify(3)`).
//! Must not know what it is told about.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::{Duration, Instant},
};

/// Tells the supervisor, where `NOTIFY_SOCKET` names one, that the service is ready.
///
/// # Errors
///
/// When the socket cannot be reached.
pub fn ready() -> io::Result<()> {
    tell("READY=1")
}

/// Tells it that the service is about to end.
///
/// # Errors
///
/// When the socket cannot be reached.
pub fn stopping() -> io::Result<()> {
    tell("STOPPING=1")
}

fn tell(word: &str) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    // A leading @ stands for the NUL of Linux's abstract names.
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(word.as_bytes(), &address)?;
    Ok(())
}

/// The signs of life that a supervisor wants to see.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// How often, and when the last one was; `None` where nobody waits for any.
    pause: Option<Duration>,
    last: Option<Instant>,
}

impl Watchdog {
    /// What the supervisor wants of this process.
    #[must_use]
    pub fn from_env() -> Self {
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|it| is_ours && *it > 0);
        Self {
            // A third: one that comes late does no harm.
            pause: patience.map(|it| Duration::from_micros(it / 3)),
            last: None,
        }
    }

    /// To be called by the loop that must not hang, as often as it goes round.
    pub fn beat(&mut self) {
        let is_due = |pause| self.last.is_none_or(|last| last.elapsed() >= pause);
        if self.pause.is_some_and(is_due) {
            self.last = Some(Instant::now());
            // A supervisor that cannot be reached does what it does to services without a sign of life.
            let _ = tell("WATCHDOG=1");
        }
    }

    /// How often the loop must go round at least; `None` where nobody waits for it.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.pause
    }
}
