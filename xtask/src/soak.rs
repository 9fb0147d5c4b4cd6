//! Owns the soak of `leaktrace watch`: what it needs, and how long it lasts.
//! Must not know what is done to the agent: `soak/soak.py` does it.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::agent::{self, Profile};
use crate::setup::Tools;
use crate::{packages, toolchain};

/// Runs the agent for so many minutes beside what must not harm it.
///
/// # Errors
/// Fails where something is missing, and where the agent grows, ends or is not served well.
pub fn run(tools: &Tools, minutes: u32, options: &[OsString]) -> Result<()> {
    packages::provide(&[("prometheus", "prometheus")], "the soak")?;
    let agent = agent::build(tools, Profile::Release)?;
    let mut soak = toolchain::command("python3");
    soak.arg("-u")
        .arg(Path::new("xtask/src/soak/soak.py"))
        .arg(agent)
        .arg(minutes.to_string())
        .arg(toolchain::target_dir().join("soak"));
    soak.args(options).current_dir(toolchain::workspace_dir());
    agent::run(&mut soak).context("the agent does not bear it")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// The rise a minute that `judge.py` finds in half an hour of looks.
    fn rise(value: impl Fn(f64) -> f64) -> f64 {
        let seconds: Vec<f64> = (0..90).map(|index| f64::from(index) * 20.0).collect();
        let values: Vec<f64> = seconds.iter().map(|second| value(second / 60.0)).collect();
        let mut judge = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/soak/judge.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = judge.stdin.take().unwrap();
        write!(
            input,
            "{}",
            serde_json::json!({ "seconds": seconds, "values": values })
        )
        .unwrap();
        drop(input);
        let output = judge.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().parse().unwrap()
    }

    /// A leak of 4 MiB a minute is told whatever comes and goes beside it; what fills and then stays, what comes and goes,
    /// and a few looks that are far off, are none.
    #[test]
    fn a_leak_is_told_from_noise() {
        const MOST: f64 = 2.0;
        let comes_and_goes = |minute: f64| 60.0 + 20.0 * (minute * 2.3).sin();
        let is_far_off = |minute: f64| ((minute * 3.0) as u32).is_multiple_of(5);
        assert!(rise(|minute| comes_and_goes(minute) + 4.0 * minute) > MOST);
        assert!(
            rise(|minute| if is_far_off(minute) {
                500.0
            } else {
                60.0 + 4.0 * minute
            }) > MOST
        );
        assert!(rise(comes_and_goes) < MOST);
        assert!(rise(|minute| 60.0 + 20.0 * minute.min(9.0)) < MOST);
        assert!(
            rise(|minute| if is_far_off(minute) {
                500.0 + 9.0 * minute
            } else {
                60.0
            }) < MOST
        );
    }
}
