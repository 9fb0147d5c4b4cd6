//! Owns telling from the texts in a file which allocators were built into it, also where no symbol of theirs is left.
//! Must not know where in the file their functions are.

use leaktrace_common::cookie::Family;

/// Texts that an allocator's own messages and settings bring into every file that it is built into. All of a row must be
/// there: a program that only speaks of an allocator has one of them at most.
///
/// jemalloc: <https://github.com/jemalloc/jemalloc/blob/5.3.0/src/jemalloc.c>, the variable's name behind any prefix;
/// mimalloc: <https://github.com/microsoft/mimalloc/blob/v2.1.7/src/options.c>;
/// gperftools and Google's: <https://github.com/gperftools/gperftools/blob/gperftools-2.15/src/tcmalloc.cc>,
/// `GetNumericProperty`; glibc: <https://sourceware.org/git/?p=glibc.git;a=blob;f=malloc/malloc.c;hb=glibc-2.36>.
const TEXTS: &[(Family, [&[u8]; 2])] = &[
    (Family::Jemalloc, [b"<jemalloc>: ", b"MALLOC_CONF\0"]),
    (Family::Mimalloc, [b"mimalloc: warning: ", b"\0mimalloc_\0"]),
    (
        Family::Tcmalloc,
        [
            b"tcmalloc.current_total_thread_cache_bytes",
            b"generic.heap_size",
        ],
    ),
    (
        Family::Glibc,
        [b"malloc(): corrupted top size", b"free(): invalid pointer"],
    ),
];

/// The allocators whose texts stand in these data.
#[must_use]
pub fn mentioned(data: &[u8]) -> Vec<Family> {
    let has = |text: &&[u8]| memchr::memmem::find(data, text).is_some();
    let rows = TEXTS.iter().filter(|(_, texts)| texts.iter().all(&has));
    rows.map(|(family, _)| *family).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The libraries themselves are told from each other by their texts, and speaking of one is not being one.
    #[test]
    fn texts_tell_whose_they_are() {
        let files = [
            ("libjemalloc.so.2", Family::Jemalloc),
            ("libtcmalloc_minimal.so.4", Family::Tcmalloc),
            ("libmimalloc.so.2.0", Family::Mimalloc),
            ("libc.so.6", Family::Glibc),
        ];
        for (file, family) in files {
            match std::fs::read(format!("/usr/lib/x86_64-linux-gnu/{file}")) {
                Ok(bytes) => assert_eq!(mentioned(&bytes), [family], "{file}"),
                Err(_) => println!("not run: there is no {file}"),
            }
        }
        assert_eq!(mentioned(b"see <jemalloc>: it is good"), []);
    }
}
