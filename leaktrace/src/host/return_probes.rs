//! Owns whether this kernel's return probes would do harm.
//! Must not know who is to be probed.
//!
//! Linux 6.11 made a return probe end in a system call, which filters by seccomp did not know: they kill the process,
//! or refuse a call that must not fail. Since
//! <https://github.com/torvalds/linux/commit/cf6cb56ef24410fb5308f9655087f1eddf4452e6> no filter is asked.

/// The first patch releases of 6.12 and 6.13 that surely have the mend. It came somewhat earlier (it was made in February
/// 2025, these are of March); where the results of calls can be had otherwise, caution costs little. 6.11 had
/// ended by then: <https://github.com/systemd/systemd/issues/34615> tells of the harm there.
const MENDED: [(u32, u32, u32); 2] = [(6, 12, 20), (6, 13, 9)];

/// Whether a return probe may end the process that it stands in, on the kernel of this release (`uname -r`).
///
/// It is asked of the kernel alone and not of the process: one that has no filter today may have one tomorrow, and a
/// probe for everyone stands in all.
#[must_use]
pub fn do_harm(release: &str) -> bool {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse().ok()).unwrap_or(0);
    let (major, minor, patch): (u32, u32, u32) = (next(), next(), next());
    match (major, minor) {
        (6, 11) => true,
        (6, 12 | 13) => {
            let mended = MENDED.iter().find(|it| (it.0, it.1) == (major, minor));
            mended.is_some_and(|it| patch < it.2)
        }
        _ => false,
    }
}

/// The same of the kernel that this runs on.
#[must_use]
pub fn do_harm_here() -> bool {
    let release = nix::sys::utsname::uname();
    release.is_ok_and(|it| do_harm(&it.release().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels before the system call and after its mend are safe, those between are not, whatever their builders call
    /// them.
    #[test]
    fn kernels_between_call_and_mend_do_harm() {
        for (release, expected) in [
            ("5.10.0-46-cloud-amd64", false),
            ("6.1.0-56-amd64", false),
            ("6.10.14", false),
            ("6.11.0-21-generic", true),
            ("6.11-arch1-1", true),
            ("6.12.0-rc3", true),
            ("6.12.9-amd64", true),
            ("6.12.95+deb12-cloud-amd64", false),
            ("6.13.1", true),
            ("6.13.12-200.fc41.x86_64", false),
            ("6.14.0-15-generic", false),
            ("6.18.44", false),
            ("7.2.13+deb14", false),
            ("", false),
            ("custom", false),
        ] {
            assert_eq!(do_harm(release), expected, "{release}");
        }
    }
}
