//! Owns what differs between processors in how a dynamic linker asks the kernel.
//! Must not know what is concluded from a call.

#[cfg(target_arch = "aarch64")]
pub(super) use self::aarch64::{ARCH_64_BIT, only_maps, readies};
#[cfg(not(target_arch = "aarch64"))]
pub(super) use self::x86_64::{ARCH_64_BIT, only_maps, readies};

#[cfg(not(target_arch = "aarch64"))]
mod x86_64 {
    use nix::libc;

    /// `AUDIT_ARCH_X86_64`, which the libc crate lacks.
    pub(in super::super) const ARCH_64_BIT: u32 = 0xc000_003e;

    /// `ARCH_SET_FS`, which the libc crate lacks.
    const SET_THREAD_POINTER: u64 = 0x1002;

    /// Whether a call that only this processor has serves to find, read or map a library.
    pub(in super::super) fn only_maps(number: i64, first: u64) -> bool {
        match number {
            // Whether the processor has shadow stacks.
            libc::SYS_arch_prctl => first != SET_THREAD_POINTER,
            libc::SYS_open | libc::SYS_stat | libc::SYS_access | libc::SYS_readlink => true,
            _ => false,
        }
    }

    /// Whether one makes ready what is mapped.
    pub(in super::super) fn readies(number: i64) -> bool {
        number == libc::SYS_arch_prctl
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    /// `AUDIT_ARCH_AARCH64`, which the libc crate lacks.
    pub(in super::super) const ARCH_64_BIT: u32 = 0xc000_00b7;

    /// Whether a call that only this processor has serves to find, read or map a library: the thread pointer is set
    /// without the kernel, and there are none of the calls that newer ones replace.
    pub(in super::super) fn only_maps(_number: i64, _first: u64) -> bool {
        false
    }

    /// Whether one makes ready what is mapped: `set_tid_address` does, on each processor.
    pub(in super::super) fn readies(_number: i64) -> bool {
        false
    }
}
