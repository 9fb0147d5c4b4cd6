//! Owns finding the runtime's variables by the instructions that use them, so that stripped programs
//! serve as well.
//! Must not know processes; addresses are those of the file.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};

use super::binary::GoBinary;

/// Longer functions are not the ones that are looked for.
const CODE_BYTES_MAX: usize = 4096;

/// Where the runtime keeps what is read from outside; each is `None` where it was not found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// `runtime.mbuckets`, the list of the memory profile's sites.
    pub mbuckets: Option<u64>,
    /// `runtime.MemProfileRate`.
    pub mem_profile_rate: Option<u64>,
    /// `runtime.allgs`: a pointer, and behind it the number of goroutines that there ever were at once.
    pub allgs: Option<u64>,
    /// `runtime.mheap_.sweepgen`, by which the heap's other fields are found.
    pub sweepgen: Option<u64>,
}

impl Globals {
    /// Looks for them.
    #[must_use]
    pub fn find(binary: &GoBinary<'_>) -> Self {
        let mut globals = Self::default();
        for function in binary.runtime_functions() {
            let loads = || {
                let code = binary.code(&function);
                loads(&code[..code.len().min(CODE_BYTES_MAX)], function.entry_svma)
            };
            match function.name {
                // `for b := head; ..` where head is the first variable that it loads.
                "runtime.mProf_FlushLocked" => {
                    globals.mbuckets = loads().first().copied();
                }
                // `c.nextSample = nextSample()`, which reads the rate and nothing else of the kind.
                "runtime.profilealloc" => {
                    let words = loads();
                    globals.mem_profile_rate = words.get(1).copied();
                }
                // `lock(&allglock); for _, gp := range allgs`: the slice's pointer and length.
                "runtime.forEachG" => {
                    let words = loads();
                    let mut pairs = words.windows(2);
                    let pair = pairs.find(|pair| pair[0].abs_diff(pair[1]) == 8);
                    globals.allgs = pair.map(|pair| pair[0].min(pair[1]));
                }
                // `mheap_.sweepgen += 2`
                "runtime.gcSweep" => {
                    let code = binary.code(&function);
                    let code = &code[..code.len().min(CODE_BYTES_MAX)];
                    globals.sweepgen = raised_by_two(code, function.entry_svma);
                }
                _ => {}
            }
        }
        globals
    }
}

/// The address of the number of 32 bits at a fixed place that a function raises by two.
fn raised_by_two(code: &[u8], svma: u64) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    let raises = decoder.iter().find(|it| {
        it.code() == Code::Add_rm32_imm8
            && it.op0_kind() == OpKind::Memory
            && it.memory_base() == Register::RIP
            && it.immediate8() == 2
    });
    raises.map(|it| it.memory_displacement64())
}

/// The addresses of whole words that a function reads at fixed places, in the order of its code.
fn loads(code: &[u8], svma: u64) -> Vec<u64> {
    let mut decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut loads = Vec::new();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let is_word = matches!(
            instruction.code(),
            Code::Mov_r64_rm64 | Code::Cmp_rm64_imm8 | Code::Cmp_r64_rm64 | Code::Cmp_rm64_r64
        );
        let is_fixed = (0..instruction.op_count())
            .any(|index| instruction.op_kind(index) == OpKind::Memory)
            && instruction.memory_base() == Register::RIP;
        if is_word && is_fixed {
            loads.push(instruction.memory_displacement64());
        }
    }
    loads
}
