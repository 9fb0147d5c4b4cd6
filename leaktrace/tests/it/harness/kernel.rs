//! Owns the question whether this machine can run a test, and whose turn it is.
//! Must not know what the test does.

use std::{
    io::Write as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Held by the one test that runs: traces of the whole host would see the others' programs.
pub struct Turn(#[expect(dead_code, reason = "held, never read")] MutexGuard<'static, ()>);

/// The turn of the test that calls with `|| ()`, whose type tells the test's name. `None`, said
/// loudly, where this machine cannot trace.
pub fn turn<F: Fn()>(here: F) -> Option<Turn> {
    static TURN: Mutex<()> = Mutex::new(());
    if let Some(why) = obstacle() {
        skip(&here, why);
        return None;
    }
    // Whoever failed in its turn has left nothing behind in there.
    Some(Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The turn of a test that also needs a program.
pub fn turn_with<F: Fn()>(program: &str, here: F) -> Option<Turn> {
    if super::programs::find(program).is_none() {
        let remedy = "`cargo xtask setup --test-programs` installs it";
        skip(&here, &format!("{program} is not installed; {remedy}"));
        return None;
    }
    turn(here)
}

/// Says why a test is skipped, or fails it where nothing may be skipped.
pub fn skip<F: Fn()>(_here: &F, why: &str) {
    let name = std::any::type_name::<F>();
    let name = name.strip_prefix("it::").unwrap_or(name);
    let name = name.trim_end_matches("::{{closure}}");
    let must_run = std::env::var("LEAKTRACE_REQUIRE_KERNEL").is_ok_and(|it| it == "1");
    assert!(!must_run, "{name} cannot run here: {why}");
    // Past the capture of the test harness, which takes what `eprintln!` writes.
    let _ = std::io::stderr().write_all(format!("skipped: {name}: {why}\n").as_bytes());
}

/// Why no test can trace here.
fn obstacle() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root");
    }
    if !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
        return Some("this kernel shows no uprobes");
    }
    None
}
