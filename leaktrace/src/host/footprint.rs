//! Owns how much memory the agent itself takes, and giving back to the kernel what it has freed.
//! Must not know whose the memory is.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

// The allocator that the agent runs on is linked in by this crate.
use mimalloc as _;

unsafe extern "C" {
    /// <https://github.com/microsoft/mimalloc/blob/v3.0.3/include/mimalloc.h>
    fn mi_collect(force: bool);
}

/// The agent's resident memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of its own.
    pub own_bytes: u64,
    /// Bytes of mapped files.
    pub mapped_bytes: u64,
}

impl Footprint {
    /// As the kernel tells it, or nothing.
    #[must_use]
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(0);
        Self::parse(&text, u64::try_from(page_bytes).unwrap_or(0)).unwrap_or_default()
    }

    /// The second number of the file are resident pages, the third those of them that files back.
    fn parse(text: &str, page_bytes: u64) -> Option<Self> {
        let mut pages = text
            .split(' ')
            .skip(1)
            .map_while(|it| it.parse::<u64>().ok());
        let (resident, mapped) = (pages.next()?, pages.next()?);
        Some(Self {
            own_bytes: resident.saturating_sub(mapped).saturating_mul(page_bytes),
            mapped_bytes: mapped.saturating_mul(page_bytes),
        })
    }
}

/// Gives the kernel back what this thread has freed, and what others have given up: an allocator keeps it for a while in
/// case that it is wanted again, and then a figure of resident memory tells of what was, not of what is.
pub fn give_back() {
    // SAFETY: takes no pointer, may be called at any time by any thread, and frees nothing that is allocated.
    unsafe { mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is resident and not mapped from files is our own; what is no such text tells nothing.
    #[test]
    fn pages_become_bytes() {
        let expected = Footprint {
            own_bytes: 7 * 4096,
            mapped_bytes: 3 * 4096,
        };
        assert_eq!(Footprint::parse("90 10 3 1 0 5 0\n", 4096), Some(expected));
        assert_eq!(Footprint::parse("90 x", 4096), None);
        let now = Footprint::now();
        assert!(
            now.own_bytes > 1 << 18 && now.mapped_bytes > 1 << 18,
            "{now:?}"
        );
    }
}
