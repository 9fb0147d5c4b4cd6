//! Owns the tests of opening the files behind mappings.
//! Must not know any other module's inside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;
use crate::host::maps::read_maps;

/// A mapping of a path that no process has.
pub(super) fn mapping(path: &str) -> Mapping {
    Mapping {
        start: 0x1000,
        end: 0x2000,
        file_offset: 0,
        device: (0, 0),
        inode: 0,
        path: path.to_owned(),
        deleted: false,
        build_id: None,
    }
}

/// No process has this id: the kernel's limit is 2^22.
const NO_PID: u32 = 1 << 30;

/// A path for one test that nobody uses yet.
fn scratch(name: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("leaktrace-modules-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn build_id_of(path: &Path) -> BuildId {
    let file = File::open(path).expect("the file can be opened");
    Headers::read(&file)
        .expect("it is a program")
        .build_id(&file)
        .expect("it has a build id")
}

/// The build id is the one that binutils tell.
#[test]
fn build_ids_are_read() {
    let output = Command::new("readelf")
        .args(["-n", "/bin/ls"])
        .output()
        .expect("readelf runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains(&build_id_of(Path::new("/bin/ls")).to_string()),
        "{text}"
    );
}

/// A file whose process has ended is found by path, if the build id is the same,
/// and not otherwise.
#[test]
fn a_gone_process_is_proved_by_build_id() {
    let mut modules = Modules::default();
    let mut gone = mapping("/bin/ls");
    gone.build_id = Some(build_id_of(Path::new("/bin/ls")));
    let id = modules.resolve(NO_PID, &gone);
    let module = Arc::clone(modules.get(id));
    assert!(module.file.is_some() && module.trusted, "{module:?}");
    assert_eq!(modules.resolve(NO_PID, &gone), id);
    let mut other = mapping("/bin/ls");
    other.build_id = BuildId::from_bytes(&[7; 20]);
    let other = modules.resolve(NO_PID, &other);
    assert_eq!(modules.get(other).missing, Some(Missing::Gone));
    let unknown = modules.resolve(NO_PID, &mapping("/bin/ls"));
    assert_eq!(modules.get(unknown).missing, Some(Missing::Gone));
    assert_eq!(modules.open_files(), 1);
}

/// A pipe, a device, a directory and a link into /proc are not opened, and do not
/// stop us.
#[test]
fn other_than_files_are_refused() {
    let pipe = scratch("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe can be made");
    for path in [
        pipe.to_str().expect("UTF-8"),
        "/dev/zero",
        "/tmp",
        "/proc/self/exe",
        "/proc/1/root/bin/ls",
        "relative",
    ] {
        assert!(open::own_file(path).is_none(), "{path}");
    }
    fs::remove_file(pipe).expect("the pipe can be removed");
}

/// Memory without a file and the kernel's pages have modules that say so.
#[test]
fn pages_without_file_say_so() {
    let mut modules = Modules::default();
    for (path, missing) in [("", Missing::NoFile), ("[vsyscall]", Missing::Kernel)] {
        let id = modules.resolve(NO_PID, &mapping(path));
        let module = modules.get(id);
        assert_eq!(
            (module.name.as_str(), module.missing),
            (path, Some(missing))
        );
        assert_eq!(modules.resolve(1, &mapping(path)), id);
    }
}

/// A copy of a program is another module even with the same build id: whoever
/// copies a build id must not take the place of the true file.
#[test]
fn a_copied_build_id_is_another_module() {
    let path = scratch("copy");
    fs::copy("/bin/sleep", &path).expect("sleep can be copied");
    let mut ids = Vec::new();
    let mut modules = Modules::default();
    for program in [path.as_path(), Path::new("/bin/sleep")] {
        let mut child = Command::new(program)
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let name = fs::canonicalize(program).expect("the path exists");
        let found = std::iter::repeat_with(|| read_maps(child.id()).expect("maps can be read"))
            .take(100_000)
            .find_map(|maps| maps.into_iter().find(|it| Path::new(&it.path) == name));
        let found = found.expect("the program is mapped");
        ids.push(modules.resolve(child.id(), &found));
        assert_eq!(modules.resolve(child.id(), &found), ids[ids.len() - 1]);
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    fs::remove_file(path).expect("the copy can be removed");
    assert_ne!(ids[0], ids[1]);
    assert_eq!(modules.get(ids[0]).build_id, modules.get(ids[1]).build_id);
    assert_eq!(modules.open_files(), 2);
}

/// Paths with line ends cannot break a report.
#[test]
fn names_are_printable() {
    let mut modules = Modules::default();
    let id = modules.resolve(NO_PID, &mapping("/x\n\x1b[2J/y\tz"));
    assert_eq!(modules.get(id).name, "y\u{fffd}z");
    assert!(!modules.get(id).path.contains('\n'));
}

/// Too many modules share the last one.
#[test]
fn too_many_modules_share_one() {
    let mut modules = Modules::default();
    for index in 0..MODULES_MAX + 10 {
        let id = modules.resolve(NO_PID, &mapping(&format!("/{index}")));
        modules.get(id);
    }
    assert_eq!(modules.len(), MODULES_MAX);
    assert_eq!(modules.refused_modules(), 11);
}

/// Runs a tool that must succeed.
fn run(tool: &str, arguments: &[&str]) {
    let status = Command::new(tool).args(arguments).status();
    assert!(
        status.expect("the tool starts").success(),
        "{tool} {arguments:?}"
    );
}

/// Debug info is found where a file's debug link says, and only if it has the same build id.
#[test]
fn debug_links_are_followed_to_the_same_build() {
    let directory = scratch("link");
    fs::create_dir_all(&directory).expect("a directory can be made");
    let path = |name: &str| {
        directory
            .join(name)
            .to_str()
            .expect("it is text")
            .to_owned()
    };
    let compile = |text: &str| {
        fs::write(path("source.c"), text).expect("the source is written");
        let flags = ["-g", "-Wl,--build-id", "-o"];
        run(
            "cc",
            &[&flags[..], &[&path("program"), &path("source.c")]].concat(),
        );
        run(
            "objcopy",
            &[
                "--only-keep-debug",
                &path("program"),
                &path("program.debug"),
            ],
        );
    };
    compile("int main(void) { return 0; }");
    fs::copy(path("program"), path("whole")).expect("it is copied");
    let link = format!("--add-gnu-debuglink={}", path("program.debug"));
    run("objcopy", &["--strip-debug", &link, &path("whole")]);
    let found = || {
        let file = File::open(path("whole")).expect("it is there");
        let build_id = build_id_of(Path::new(&path("whole")));
        foreign::debug_file(
            std::process::id(),
            &mapping(&path("whole")),
            &file,
            build_id,
        )
    };
    assert!(found().is_some());
    // Another build's, under the same name.
    compile("int main(void) { return 1; }");
    assert!(found().is_none());
    fs::remove_dir_all(&directory).expect("it can be removed");
}
