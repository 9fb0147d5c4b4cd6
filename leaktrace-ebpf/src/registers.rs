//! Owns how the traced processor's registers are called: by what they are for.
//! Must not know who asks, or what for.
//!
//! x86-64 leaves the return address on the stack, aarch64 in a register, and Go passes arguments in an order of its
//! own on both.

use aya_ebpf::EbpfContext;
#[cfg(not(bpf_target_arch = "aarch64"))]
use aya_ebpf::bindings::pt_regs as Raw;
#[cfg(bpf_target_arch = "aarch64")]
use aya_ebpf::bindings::user_pt_regs as Raw;

/// How many bytes of the stack a function has popped once it has returned: the return address, on x86-64.
#[cfg(not(bpf_target_arch = "aarch64"))]
pub const POPPED_BY_RETURN: u64 = 8;
#[cfg(bpf_target_arch = "aarch64")]
pub const POPPED_BY_RETURN: u64 = 0;

/// The registers of the thread that met a probe: the context of a uprobe program.
#[repr(transparent)]
pub struct UserRegisters(Raw);

/// Where a walk begins: at the first instructions of a function, which has not linked its own frame yet.
#[derive(Clone, Copy)]
pub struct Origin {
    /// The stack pointer; on x86-64 the return address is there.
    pub stack_pointer: u64,
    /// The caller's frame pointer.
    pub frame_pointer: u64,
    /// The return address, where a register has it.
    #[cfg(bpf_target_arch = "aarch64")]
    pub link: u64,
}

impl UserRegisters {
    /// Those that a program was started with.
    #[inline(always)]
    pub fn of(ctx: &impl EbpfContext) -> &Self {
        // SAFETY: the context of a uprobe program is the kernel's `bpf_user_pt_regs_t`, valid while the program
        // runs, and the type is transparent.
        unsafe { &*ctx.as_ptr().cast::<Self>() }
    }
}

#[cfg(not(bpf_target_arch = "aarch64"))]
impl UserRegisters {
    #[inline(always)]
    pub fn stack_pointer(&self) -> u64 {
        self.0.rsp
    }

    #[inline(always)]
    pub fn frame_pointer(&self) -> u64 {
        self.0.rbp
    }

    /// The address of the instruction that is probed.
    #[inline(always)]
    pub fn instruction(&self) -> u64 {
        self.0.rip
    }

    /// What a function returns, in C and in Go.
    #[inline(always)]
    pub fn result(&self) -> u64 {
        self.0.rax
    }

    /// What a Go function returns second.
    #[inline(always)]
    pub fn second_result_of_go(&self) -> u64 {
        self.0.rbx
    }

    /// The first arguments of a C function, as places: who loads them chooses how.
    #[inline(always)]
    pub fn arguments(&self) -> [&u64; 4] {
        [&self.0.rdi, &self.0.rsi, &self.0.rdx, &self.0.rcx]
    }

    #[inline(always)]
    pub fn origin(&self) -> Origin {
        Origin::at(self.0.rsp, self.0.rbp)
    }
}

#[cfg(bpf_target_arch = "aarch64")]
impl UserRegisters {
    #[inline(always)]
    pub fn stack_pointer(&self) -> u64 {
        self.0.sp
    }

    #[inline(always)]
    pub fn frame_pointer(&self) -> u64 {
        self.0.regs[29]
    }

    /// The address of the instruction that is probed.
    #[inline(always)]
    pub fn instruction(&self) -> u64 {
        self.0.pc
    }

    /// What a function returns, in C and in Go.
    #[inline(always)]
    pub fn result(&self) -> u64 {
        self.0.regs[0]
    }

    /// What a Go function returns second.
    #[inline(always)]
    pub fn second_result_of_go(&self) -> u64 {
        self.0.regs[1]
    }

    /// The first arguments of a C function, as places: who loads them chooses how.
    #[inline(always)]
    pub fn arguments(&self) -> [&u64; 4] {
        let [first, second, third, fourth, ..] = &self.0.regs;
        [first, second, third, fourth]
    }

    #[inline(always)]
    pub fn origin(&self) -> Origin {
        Origin {
            stack_pointer: self.0.sp,
            frame_pointer: self.0.regs[29],
            link: self.0.regs[30],
        }
    }
}

#[cfg(not(bpf_target_arch = "aarch64"))]
impl Origin {
    /// At any point: where a return address is on the stack, and the frame pointer of who is returned to.
    #[inline(always)]
    pub fn at(return_at: u64, frame_pointer: u64) -> Self {
        Self {
            stack_pointer: return_at,
            frame_pointer,
        }
    }

    /// The return address; `read` reads a word of the process's memory.
    #[inline(always)]
    pub fn caller(self, read: impl FnOnce(u64) -> Option<u64>) -> Option<u64> {
        read(self.stack_pointer)
    }
}

#[cfg(bpf_target_arch = "aarch64")]
impl Origin {
    /// At any point: where a return address is on the stack, and the frame pointer of who is returned to. There is no
    /// such point yet: no place in Go's code is chosen on this processor.
    #[inline(always)]
    pub fn at(return_at: u64, frame_pointer: u64) -> Self {
        Self {
            stack_pointer: return_at,
            frame_pointer,
            link: 0,
        }
    }

    /// The return address; `read` reads a word of the process's memory.
    #[inline(always)]
    pub fn caller(self, read: impl FnOnce(u64) -> Option<u64>) -> Option<u64> {
        let caller = if self.link == 0 {
            read(self.stack_pointer)?
        } else {
            self.link
        };
        Some(code_address(caller))
    }
}

/// A return address without what signs it: pointer authentication keeps a signature above the bits of addresses, of
/// which a process has 48 unless it asks for more
/// (<https://github.com/torvalds/linux/blob/v6.12/Documentation/arch/arm64/memory.rst>).
#[inline(always)]
pub fn code_address(value: u64) -> u64 {
    if cfg!(bpf_target_arch = "aarch64") {
        value & ((1 << 48) - 1)
    } else {
        value
    }
}
