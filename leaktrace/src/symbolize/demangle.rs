//! Owns turning linker names into what a programmer wrote.
//! Must not know where names come from.

use std::fmt::{self, Write as _};

/// As much of a name as is kept. Real names of deep templates reach some
/// thousand characters; a report line must stay below 8 KiB, and a hostile name
/// of 100 characters can demangle to gigabytes.
const NAME_BYTES_MAX: usize = 1024;

/// Longer linker names are not tried: parsing takes time and stack by length.
const MANGLED_BYTES_MAX: usize = 16 * 1024;

/// Text that refuses to grow without end.
struct Limited(String);

impl fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > NAME_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The readable form of a linker name, or the name itself; never longer than
/// `NAME_BYTES_MAX`, never with control characters.
pub(super) fn demangle(name: &str) -> String {
    let readable = (name.len() <= MANGLED_BYTES_MAX).then(|| rust(name).or_else(|| cpp(name)));
    printable(
        readable.flatten().as_deref().unwrap_or(name),
        NAME_BYTES_MAX,
    )
}

/// Cuts a text to a length and takes out what would disturb a terminal.
pub(super) fn printable(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)]
        .chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

fn rust(name: &str) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Limited(String::new());
    // The alternate form leaves out the hash, which differs from build to build.
    write!(text, "{demangled:#}").ok()?;
    Some(text.0)
}

fn cpp(name: &str) -> Option<String> {
    // The parser would take short C names such as `f` for types.
    if !name.starts_with("_Z") {
        return None;
    }
    let symbol = cpp_demangle::Symbol::new(name).ok()?;
    let mut text = Limited(String::new());
    symbol
        .structured_demangle(&mut text, &cpp_demangle::DemangleOptions::default())
        .ok()?;
    Some(text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rust of both schemes, C++ and C come out readable.
    #[test]
    fn names_come_out_readable() {
        assert_eq!(
            demangle("_ZN4core3fmt5write17h0123456789abcdefE"),
            "core::fmt::write"
        );
        assert_eq!(
            demangle("_RNvCs15kBYyAo9fc_7mycrate7example"),
            "mycrate::example"
        );
        assert_eq!(
            demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"),
            "std::vector<int, std::allocator<int> >::push_back(int const&)"
        );
        assert_eq!(demangle("malloc"), "malloc");
        assert_eq!(demangle("f"), "f");
    }

    /// A name that doubles with each of its letters stays as it is, at once.
    #[test]
    fn exploding_names_are_refused() {
        let mut name = "_Z1fI1AIiiEE".to_owned();
        name.truncate(4);
        name.push_str("St4pairIiiE");
        for index in 0..60 {
            name.push_str(&format!(
                "St4pairIS{0}_S{0}_E",
                if index < 1 {
                    String::new()
                } else {
                    "1".to_owned()
                }
            ));
        }
        assert!(demangle(&name).len() <= NAME_BYTES_MAX);
        assert!(demangle(&format!("_Z{}", "N".repeat(1 << 20))).len() <= NAME_BYTES_MAX);
        assert!(demangle(&format!("_Z{}v", "P".repeat(16_000))).len() <= NAME_BYTES_MAX);
    }

    /// Control characters do not get through.
    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(demangle("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
