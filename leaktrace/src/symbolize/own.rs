//! Owns which frames at a stack's beginning are an allocator's own: no one looks for a leak there.
//! Must not know how frames get their names.

use crate::report::model::Frame;

/// How functions begin that allocate on behalf of the program: Go's runtime (as `pprof` leaves them out), C++'s
/// operators, what Rust's compiler makes of `#[global_allocator]`, and its library below `Box` and `Vec`.
const FUNCTIONS: [&str; 13] = [
    "runtime.",
    "internal/runtime/",
    "operator new(",
    "operator new[](",
    "__rust_alloc",
    "__rust_realloc",
    "__rustc::__r",
    "__rdl_",
    "__rg_",
    "alloc::alloc::",
    "alloc::raw_vec::",
    "<alloc::raw_vec::",
    "<std::alloc::System as ",
];

/// How the files end that such functions are in, whose names the compiler shortens where it inlines them.
/// <https://github.com/rust-lang/rust/tree/1.98.0/library>,
/// <https://gcc.gnu.org/git/?p=gcc.git;a=tree;f=libstdc%2B%2B-v3/include/bits>
const FILES: [&str; 11] = [
    "/library/alloc/src/alloc.rs",
    "/library/alloc/src/raw_vec.rs",
    "/library/alloc/src/raw_vec/mod.rs",
    "/library/std/src/alloc.rs",
    "/library/std/src/sys/alloc/unix.rs",
    "/library/std/src/sys/alloc/mod.rs",
    "/library/std/src/sys/pal/unix/alloc.rs",
    "/bits/new_allocator.h",
    "/ext/new_allocator.h",
    "/bits/allocator.h",
    "/bits/alloc_traits.h",
];

/// Functions of `boxed.rs` beside `Box::new`, which tells the type.
const BOXES: [&str; 2] = ["box_new_uninit", "exchange_malloc"];

/// Leaves out the allocator's own frames that a stack begins with. A stack of nothing else is kept.
pub fn trim(frames: &mut Vec<Frame>) {
    let own = frames.iter().take_while(|frame| is_own(frame)).count();
    if own < frames.len() {
        frames.drain(..own);
    }
}

fn is_own(frame: &Frame) -> bool {
    let name = frame.function.as_deref().unwrap_or_default();
    let file = frame.file.as_deref().unwrap_or_default();
    FUNCTIONS.iter().any(|it| name.starts_with(it))
        || FILES.iter().any(|it| file.ends_with(it))
        || (file.ends_with("/library/alloc/src/boxed.rs") && BOXES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions, some with their files, in; functions out.
    #[track_caller]
    fn check(frames: &[(&str, &str)], expected: &[&str]) {
        let frame = |(name, file): &(&str, &str)| Frame {
            function: Some((*name).to_owned()),
            file: Some((*file).to_owned()),
            ..Frame::default()
        };
        let mut frames: Vec<Frame> = frames.iter().map(frame).collect();
        trim(&mut frames);
        let left: Vec<_> = frames
            .iter()
            .filter_map(|it| it.function.as_deref())
            .collect();
        assert_eq!(left, expected);
    }

    /// What the runtime did for a Go program is left out, what called back from it is not.
    #[test]
    fn a_go_stack_begins_with_the_programs_own_function() {
        check(
            &[
                ("runtime.mallocgc", ""),
                ("runtime.makeslice", ""),
                ("main.grow", ""),
                ("runtime.main", ""),
            ],
            &["main.grow", "runtime.main"],
        );
        check(
            &[
                ("internal/runtime/maps.newTable", ""),
                ("runtime.mapassign", ""),
                ("main.put", ""),
            ],
            &["main.put"],
        );
        check(
            &[("runtime.malg", ""), ("runtime.goexit", "")],
            &["runtime.malg", "runtime.goexit"],
        );
        check(&[("malloc", ""), ("main", "")], &["malloc", "main"]);
        check(&[], &[]);
    }

    /// Of Rust `Box::new` and `Vec`'s own methods stay, which tell what was made; with and without debug info.
    #[test]
    fn a_rust_stack_begins_at_box_or_vec() {
        let library = "/rustc/0123/library/alloc/src";
        let (alloc, boxed) = (format!("{library}/alloc.rs"), format!("{library}/boxed.rs"));
        check(
            &[
                ("alloc", &alloc),
                ("box_new_uninit", &boxed),
                ("new<demo::Order>", &boxed),
                ("main", "/src/main.rs"),
            ],
            &["new<demo::Order>", "main"],
        );
        check(
            &[
                ("__rustc::__rust_alloc", ""),
                ("alloc::raw_vec::finish_grow", ""),
                ("alloc::vec::Vec<T>::push", ""),
            ],
            &["alloc::vec::Vec<T>::push"],
        );
    }

    /// Of C++ the operators and the default allocator are left out.
    #[test]
    fn a_cplusplus_stack_begins_at_its_container() {
        check(
            &[
                ("operator new(unsigned long)", ""),
                ("allocate", "/usr/include/c++/12/bits/new_allocator.h"),
                ("_M_allocate", "/usr/include/c++/12/bits/stl_vector.h"),
            ],
            &["_M_allocate"],
        );
    }
}
