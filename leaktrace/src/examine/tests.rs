//! Owns the tests of where symbols of stripped files are found, on small files that are made here.
//! Must not know processes.

use std::{fs, io::Write as _, path::Path, process::Command};

use tempfile::TempDir;

use super::*;

/// An allocator, and a program that has no other.
const SOURCE: &str = "
    static char heap[4096];
    static unsigned long used;
    __attribute__((noinline)) void *malloc(unsigned long size) { used += size; return heap + used; }
    __attribute__((noinline)) void free(void *block) { used -= block != 0; }
    void _start(void) { free(malloc(16)); for (;;) {} }
";

/// A directory that is gone with the test.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The program, whole, and stripped beside it; the rest of the compiler's options.
    fn build(&self, options: &[&str]) {
        fs::write(self.0.path().join("program.c"), SOURCE).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args([
            "-O1",
            "-nostdlib",
            "-static",
            "-fno-builtin",
            "-Wl,--build-id=sha1",
        ]);
        compiler.args(options);
        run(compiler.args([&self.path("program.c"), "-o", &self.path("whole")]));
        run(Command::new("strip").args(["-o", &self.path("bare"), &self.path("whole")]));
    }

    /// What is found in a file of it, in a process whose root it is.
    fn examine(&self, name: &str) -> Examined {
        let file = File::open(self.0.path().join(name)).unwrap();
        let root = ProcessRoot::at(self.0.path()).unwrap();
        examine_file(&file, &format!("/{name}"), Some(root), ReturnProbes::Used).unwrap()
    }
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(
        status.as_ref().is_ok_and(|it| it.success()),
        "{command:?}: {status:?}"
    );
}

#[track_caller]
fn assert_found(examined: &Examined) {
    let names = |it: &Allocator| it.entry_points().map(str::to_owned).collect::<Vec<_>>();
    let found: Vec<_> = examined.allocators.iter().flat_map(names).collect();
    assert_eq!(found, ["malloc", "free"], "{examined:?}");
}

#[track_caller]
fn assert_not_found(examined: &Examined, reason: &str) {
    assert_eq!(examined.allocators, []);
    let why = examined.why_nothing_is_seen("/x");
    assert!(why.contains(reason), "{why}");
}

/// A program's own table has the names; without it there are none, and that is said.
#[test]
fn a_stripped_program_has_none() {
    let place = Place::new();
    place.build(&[]);
    assert_found(&place.examine("whole"));
    assert_not_found(&place.examine("bare"), "statically linked and stripped");
}

/// The table that Fedora packs into its files.
#[test]
fn packed_symbols_are_read() {
    let place = Place::new();
    place.build(&[]);
    let mut packer = xz2::write::XzEncoder::new(Vec::new(), 6);
    packer
        .write_all(&fs::read(place.0.path().join("whole")).unwrap())
        .unwrap();
    fs::write(place.0.path().join("table.xz"), packer.finish().unwrap()).unwrap();
    let section = format!(".gnu_debugdata={}", place.path("table.xz"));
    let mut packed = Command::new("objcopy");
    packed.args([
        "--add-section",
        &section,
        &place.path("bare"),
        &place.path("packed"),
    ]);
    run(&mut packed);
    assert_found(&place.examine("packed"));
    fs::write(place.0.path().join("table.xz"), b"no table at all").unwrap();
    run(&mut packed);
    assert_not_found(&place.examine("packed"), "stripped");
}

fn debug_file(place: &Place, target: &Path) {
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let mut debug = Command::new("objcopy");
    debug
        .arg("--only-keep-debug")
        .arg(place.0.path().join("whole"));
    run(debug.arg(target));
}

/// The file that a distribution installs for a build id, in the process's root; that of another build is none.
#[test]
fn separate_symbols_are_found_by_build_id() {
    let place = Place::new();
    place.build(&[]);
    let build_id = place.examine("bare").build_id.unwrap().to_string();
    let name = format!(
        "usr/lib/debug/.build-id/{}/{}.debug",
        &build_id[..2],
        &build_id[2..]
    );
    let target = place.0.path().join(name);
    debug_file(&place, &target);
    assert_found(&place.examine("bare"));
    let other = Place::new();
    other.build(&["-Os"]);
    debug_file(&other, &target);
    assert_not_found(&place.examine("bare"), "stripped");
}

/// The file that a program itself names, beside it or where distributions put it; not where its checksum is another's,
/// nor where the name leads out of the root.
#[test]
fn separate_symbols_are_found_by_debug_link() {
    let place = Place::new();
    place.build(&["-Wl,--build-id=none"]);
    let beside = place.0.path().join("program.debug");
    debug_file(&place, &beside);
    let link = format!("--add-gnu-debuglink={}", beside.display());
    run(Command::new("objcopy").args([&link, &place.path("bare"), &place.path("linked")]));
    assert_found(&place.examine("linked"));
    let elsewhere = place.0.path().join("usr/lib/debug/program.debug");
    fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    fs::rename(&beside, &elsewhere).unwrap();
    assert_found(&place.examine("linked"));
    let outside = Place::new();
    fs::rename(&elsewhere, outside.0.path().join("program.debug")).unwrap();
    std::os::unix::fs::symlink(outside.0.path().join("program.debug"), &beside).unwrap();
    assert_not_found(&place.examine("linked"), "stripped");
    fs::remove_file(&beside).unwrap();
    fs::write(&beside, b"another file").unwrap();
    assert_not_found(&place.examine("linked"), "stripped");
}

/// An allocator of which only the texts are left is named, with what to do; one that is found is not hidden.
#[test]
fn an_allocator_without_symbols_is_named() {
    let place = Place::new();
    let texts = "-DTEXTS=\"<jemalloc>: %s\", \"_RJEM_MALLOC_CONF\"";
    let source = format!("const char *const texts[] = {{ TEXTS }};\n{SOURCE}");
    let build = |output: &str, more: &[&str]| {
        fs::write(place.0.path().join("program.c"), &source).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-nostdlib", "-fno-builtin", "-fPIC", texts]);
        compiler.args(more).arg(place.path("program.c"));
        run(compiler.args(["-o", &place.path(output)]));
    };
    build("static", &["-static", "-s"]);
    let examined = place.examine("static");
    assert_eq!(examined.hidden, [Family::Jemalloc]);
    assert_not_found(&examined, "has jemalloc built in, stripped of its symbols");
    build("library", &["-shared", "-s", "-fvisibility=hidden"]);
    let examined = place.examine("library");
    assert_eq!(examined.hidden, [Family::Jemalloc]);
    assert!(!examined.is_static || examined.allocators.is_empty());
    build("exporting", &["-shared", "-s"]);
    let examined = place.examine("exporting");
    assert_found(&examined);
    assert_eq!(examined.hidden, []);
}

/// A file for another processor is refused with that reason, before anything of its code is read as if it were x86's.
#[test]
fn another_processors_file_is_refused() {
    /// `EM_AARCH64`, where a file's header tells its machine.
    const AARCH64: [u8; 2] = [183, 0];
    let place = Place::new();
    place.build(&[]);
    let mut bytes = fs::read(place.path("whole")).unwrap();
    bytes[18..20].copy_from_slice(&AARCH64);
    fs::write(place.path("other"), bytes).unwrap();
    let file = File::open(place.path("other")).unwrap();
    let error = examine_file(&file, "/other", None, ReturnProbes::Used).unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains("for machine 183; only x86-64"), "{told}");
}

/// A file whose segments claim more bytes together than 64 bits can count is looked at, or refused, like any other.
#[test]
fn segments_of_any_size_are_counted() {
    let place = Place::new();
    let hostile = include_bytes!("../../fuzz/seeds/allocators/huge-segments");
    fs::write(place.path("hostile"), hostile).unwrap();
    let file = File::open(place.path("hostile")).unwrap();
    if let Ok(examined) = examine_file(&file, "/hostile", None, ReturnProbes::Used) {
        assert!(examined.allocators.iter().all(|it| it.probes.is_empty()));
    }
}
