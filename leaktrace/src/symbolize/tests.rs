//! Owns the tests of symbolization, with programs built on the spot.
//! Must not know any other module's inside.

use std::{
    fs::{self, File, Permissions},
    io::Read as _,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use object::{Object as _, ObjectSymbol as _};

use super::*;
use crate::{
    host::maps::{Mapping, read_maps},
    modules::Modules,
};

/// A directory of its own for one test, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("leaktrace-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }

    /// Compiles a source text; `None` where there is no such compiler.
    fn compile(&self, compiler: &str, flags: &[&str], text: &str) -> Option<PathBuf> {
        let extension = if compiler == "g++" { "cc" } else { "c" };
        let (source, target) = (
            self.0.join(format!("source.{extension}")),
            self.0.join("program"),
        );
        fs::write(&source, text).expect("the source can be written");
        let status = Command::new(compiler)
            .args(flags)
            .arg("-o")
            .arg(&target)
            .arg(&source)
            .status();
        match status {
            Ok(status) => {
                assert!(status.success());
                Some(target)
            }
            Err(error) => {
                eprintln!("skipped: no {compiler}: {error}");
                None
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that runs until the test is over.
struct Running(Child);

impl Running {
    /// Starts it and waits until it has exec'ed.
    fn start(path: &Path) -> Self {
        let child = Command::new(path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let running = Self(child);
        let deadline = Instant::now() + Duration::from_secs(5);
        while running.mapping_of("/program").is_none() {
            assert!(Instant::now() < deadline, "the program maps itself");
            std::thread::yield_now();
        }
        running
    }

    fn mapping_of(&self, name: &str) -> Option<Mapping> {
        let maps = read_maps(self.0.id()).expect("maps can be read");
        maps.into_iter().find(|it| it.path.ends_with(name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The value of a symbol in a file, by `nm`.
fn svma_of(path: &Path, symbol: &str) -> u64 {
    let output = Command::new("nm").arg(path).output().expect("nm runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(symbol));
    let line = line.unwrap_or_else(|| panic!("no {symbol} in {text}"));
    u64::from_str_radix(line.split(' ').next().expect("a value"), 16).expect("hex")
}

/// Names one address of a process.
fn name_of(modules: &mut Modules, pid: u32, avma: u64) -> Vec<Frame> {
    let mapping = read_maps(pid)
        .expect("maps can be read")
        .into_iter()
        .find(|it| (it.start..it.end).contains(&avma))
        .expect("the address is mapped");
    let id = modules.resolve(pid, &mapping);
    name_offset(modules.get(id), mapping.file_offset_of(avma), false)
}

/// Names one offset of a module.
fn name_offset(module: &Arc<Module>, file_offset: u64, is_return_address: bool) -> Vec<Frame> {
    let symbolizer = Symbolizer::spawn().expect("the thread starts");
    let request = Request {
        module: Arc::clone(module),
        file_offset,
        is_return_address,
    };
    symbolizer.symbolize_blocking(vec![request]).remove(0)
}

/// The function names of some frames.
fn functions(frames: &[Frame]) -> Vec<&str> {
    frames
        .iter()
        .map(|it| it.function.as_deref().unwrap_or("?"))
        .collect()
}

/// Makes a module of bytes that somebody could have mapped: as a file that anybody
/// can write, or as one of root's.
fn module_of(name: &str, bytes: &[u8], mode: u32) -> Arc<Module> {
    let scratch = Scratch::new(name);
    let path = scratch.0.join("file");
    fs::write(&path, bytes).expect("the file is written");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("the mode is set");
    let mut modules = Modules::default();
    let id = modules.adopt(&path);
    Arc::clone(modules.get(id))
}

/// Runs a tool that must succeed.
fn run(tool: &str, arguments: &[&str]) {
    let status = Command::new(tool).args(arguments).status();
    assert!(
        status.expect("the tool starts").success(),
        "{tool} {arguments:?}"
    );
}

#[inline(never)]
fn outer_for_test(value: u64) -> u64 {
    inlined_for_test(value) ^ 0x55
}

#[inline(always)]
fn inlined_for_test(value: u64) -> u64 {
    std::hint::black_box(value).wrapping_mul(0x9e37_79b9)
}

/// Our own functions have name, file and line, the inlined one as a frame.
#[test]
fn own_functions_are_named() {
    std::hint::black_box(outer_for_test(1));
    let (mut modules, pid) = (Modules::default(), std::process::id());
    let start = outer_for_test as *const () as u64;
    let plain = name_of(&mut modules, pid, start);
    assert!(
        functions(&plain)
            .last()
            .unwrap()
            .ends_with("outer_for_test"),
        "{plain:?}"
    );
    assert!(
        plain[0]
            .file
            .as_deref()
            .unwrap()
            .ends_with("symbolize/tests.rs")
    );
    assert!(plain[0].line.is_some() && plain[0].unresolved.is_none());
    let inlined = (start..start + 64)
        .map(|avma| name_of(&mut modules, pid, avma))
        .find(|frames| frames.iter().any(|it| it.inlined))
        .expect("some address is inlined code");
    let last = inlined.len() - 1;
    assert!(
        functions(&inlined)[last].ends_with("outer_for_test"),
        "{inlined:?}"
    );
    assert!(
        functions(&inlined)[..=last]
            .iter()
            .any(|it| it.ends_with("inlined_for_test"))
    );
    assert!(inlined[..last].iter().all(|it| it.inlined) && !inlined[last].inlined);
    assert!(inlined.iter().all(|it| it.address == inlined[0].address));
}

/// The C library is opened once for two processes, and its functions are named.
#[test]
fn libc_is_named() {
    let mut child = Running(
        Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts"),
    );
    let deadline = Instant::now() + Duration::from_secs(5);
    while child.mapping_of("/libc.so.6").is_none() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let mut modules = Modules::default();
    let mapping = child.mapping_of("/libc.so.6").expect("sleep has a libc");
    let module = modules.resolve(child.0.id(), &mapping);
    let own = read_maps(std::process::id()).expect("own maps");
    let own = own
        .into_iter()
        .find(|it| it.path.ends_with("/libc.so.6"))
        .expect("own libc");
    assert_eq!(modules.resolve(std::process::id(), &own), module);
    assert_eq!(modules.open_files(), 1);
    let avma = nix::libc::qsort as *const () as u64;
    let frames = name_offset(modules.get(module), own.file_offset_of(avma), false);
    eprintln!("{frames:?} {:?}", modules.get(module));
    assert!(
        functions(&frames).last().unwrap().contains("qsort"),
        "{frames:?}"
    );
    assert!(frames[0].build_id.is_some() && frames[0].module.as_deref() == Some("libc.so.6"));
    child.0.kill().expect("sleep can be killed");
}

/// C++ names are demangled, also of a file that its process has deleted, with
/// lines from its own debug info although it may not be mapped.
#[test]
fn a_deleted_cpp_program_is_named() {
    let scratch = Scratch::new("cpp");
    let text = "#include <unistd.h>\nnamespace a { struct B { static int c(int); }; }\n\
                int a::B::c(int d) {\n  return d * 3; }\n\
                int main() { char b; return a::B::c(read(0, &b, 1)); }\n";
    let Some(path) = scratch.compile("g++", &["-g", "-O1"], text) else {
        return;
    };
    let offset = svma_of(&path, "_ZN1a1B1cEi");
    let running = Running::start(&path);
    fs::remove_file(&path).expect("the program can be removed");
    let mapping = running.mapping_of("/program").expect("it is mapped");
    assert!(mapping.deleted);
    let mut modules = Modules::default();
    let id = modules.resolve(running.0.id(), &mapping);
    drop(running);
    let module = modules.get(id);
    assert!(!module.trusted && module.missing.is_none());
    // This compiler puts code at the same place in file and memory.
    let frames = name_offset(module, offset, false);
    assert_eq!(functions(&frames), ["a::B::c(int)"], "{frames:?}");
    assert!(frames[0].file.as_deref().unwrap().ends_with("source.cc"));
    assert_eq!(frames[0].line, Some(4));
}

/// A section that claims to unfold to more than there is memory ends nobody, whoever's the file is.
#[test]
fn claims_beyond_memory_are_survived() {
    let files = [
        include_bytes!("../../fuzz/seeds/symbols/huge-claim").as_slice(),
        include_bytes!("../../fuzz/seeds/symbols/huge-claim-elsewhere"),
    ];
    for (bytes, mode) in files.iter().flat_map(|it| [(it, 0o755), (it, 0o777)]) {
        let module = module_of("huge-claim", bytes, mode);
        let is_ours = mode == 0o755 && nix::unistd::geteuid().is_root();
        assert_eq!(module.trusted, is_ours);
        let frames = name_offset(&module, 0x1010, false);
        assert!(frames[0].function.is_some() || frames[0].unresolved.is_some());
    }
}

/// A return address behind a function's last call still belongs to it.
#[test]
fn a_return_address_is_looked_up_at_the_call() {
    let scratch = Scratch::new("return");
    let text = "void g(void) {} void h(void) {} int main(void) { return 0; }";
    let Some(path) = scratch.compile("cc", &["-O0"], text) else {
        return;
    };
    let mut modules = Modules::default();
    let id = modules.adopt(&path);
    let offset = svma_of(&path, "h");
    let call = name_offset(modules.get(id), offset, true);
    assert_eq!((functions(&call), call[0].address), (vec!["g"], offset));
    let plain = name_offset(modules.get(id), offset, false);
    assert_eq!((functions(&plain), plain[0].address), (vec!["h"], offset));
}

/// Compressed debug info is used, and a stripped file says that it has no symbols.
#[test]
fn compressed_and_stripped_files_work() {
    let scratch = Scratch::new("gz");
    let text = "int f(int a) { return a; } int main(void) { return f(0); }";
    let Some(path) = scratch.compile("cc", &["-g", "-gz=zlib"], text) else {
        return;
    };
    let offset = svma_of(&path, "f");
    let mut modules = Modules::default();
    let id = modules.adopt(&path);
    let frames = name_offset(modules.get(id), offset, false);
    assert_eq!(
        (functions(&frames), frames[0].line),
        (vec!["f"], Some(1)),
        "{frames:?}"
    );
    let target = scratch.0.join("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .arg(&target)
        .arg(&path)
        .status()
        .expect("strip");
    assert!(status.success());
    let id = modules.adopt(&target);
    let frames = name_offset(modules.get(id), offset, false);
    assert!(frames[0].unresolved.is_some(), "{frames:?}");
    // All addresses of one function have one name: where it begins. This compiler puts code at the same place in file
    // and memory.
    let named = format!("stripped!sub_{offset:x}");
    assert_eq!(functions(&frames), [named.as_str()]);
    let inside = name_offset(modules.get(id), offset + 4, false);
    assert_eq!(functions(&inside), [named.as_str()]);
}

/// Files that are no program, cut short at any place, or with bytes turned over
/// give a reason, and never more than a reason.
#[test]
fn broken_files_give_a_reason() {
    let scratch = Scratch::new("broken");
    let text = "int f(int a) { return a; } int main(void) { return f(0); }";
    let Some(path) = scratch.compile("cc", &["-g"], text) else {
        return;
    };
    let bytes = fs::read(&path).expect("the program can be read");
    let offset = svma_of(&path, "f");
    let check = |bytes: &[u8]| {
        let [frames, of_root] = [0o666, 0o600]
            .map(|mode| name_offset(&module_of("broken-part", bytes, mode), offset, false));
        for frame in frames.iter().chain(&of_root) {
            let is_named = frame.function.as_deref().map(|it| !it.contains("!sub_"));
            assert_eq!(is_named != Some(true), frame.unresolved.is_some());
        }
        frames
    };
    assert_eq!(functions(&check(&bytes)), ["f"]);
    assert!(check(b"")[0].unresolved.is_some());
    assert!(check(b"#!/bin/sh\n")[0].unresolved.is_some());
    for length in (0..bytes.len()).step_by(bytes.len() / 40) {
        check(&bytes[..length]);
    }
    // The header says 65535 sections, and then that they lie beyond the end.
    let mut many = bytes.clone();
    many[60..62].copy_from_slice(&[0xff, 0xff]);
    assert!(check(&many)[0].unresolved.is_some());
    let mut beyond = bytes.clone();
    beyond[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(check(&beyond)[0].unresolved.is_some());
    // A simple generator of errors: the same ones each time.
    let mut state = 1_u64;
    for _ in 0..200 {
        let mut broken = bytes.clone();
        for _ in 0..20 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let place = (state >> 33) as usize % broken.len();
            broken[place] ^= (state >> 25) as u8;
        }
        check(&broken);
    }
}

/// A file that shrinks after it was opened does not kill us.
#[test]
fn a_shrinking_file_is_survived() {
    let scratch = Scratch::new("shrink");
    let text = "int f(int a) { return a; } int main(void) { return f(0); }";
    let Some(path) = scratch.compile("cc", &["-g"], text) else {
        return;
    };
    let offset = svma_of(&path, "f");
    let mut modules = Modules::default();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("chmod");
    let id = modules.adopt(&path);
    let symbolizer = Symbolizer::spawn().expect("the thread starts");
    let ask = |file_offset| {
        let module = Arc::clone(modules.get(id));
        let request = Request {
            module,
            file_offset,
            is_return_address: false,
        };
        symbolizer.symbolize_blocking(vec![request]).remove(0)
    };
    assert_eq!(functions(&ask(offset)), ["f"]);
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(0))
        .expect("truncate");
    assert_eq!(functions(&ask(offset + 1)), ["f"]);
}

/// The asynchronous way answers the same.
#[test]
fn the_runtime_can_wait() {
    let module = module_of("async", b"no program", 0o600);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let symbolizer = Symbolizer::spawn().expect("the thread starts");
    let request = Request {
        module,
        file_offset: 5,
        is_return_address: false,
    };
    let frames = runtime.block_on(symbolizer.symbolize(vec![request.clone(), request]));
    assert_eq!(frames.len(), 2);
    assert_eq!(
        (frames[0][0].address, frames[0][0].function.as_deref()),
        (5, None)
    );
}

/// A file that names a pipe as its debug file does not make us wait, and keeps its
/// own names.
#[test]
fn a_debug_link_leads_nowhere() {
    let scratch = Scratch::new("link");
    let text = "int f(int a) { return a; } int main(void) { return f(0); }";
    let Some(path) = scratch.compile("cc", &[], text) else {
        return;
    };
    let pipe = scratch.0.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe can be made");
    let link = scratch.0.join("link");
    let mut bytes = pipe.to_string_lossy().into_owned().into_bytes();
    bytes.resize((bytes.len() + 1).next_multiple_of(4) + 4, 0);
    fs::write(&link, bytes).expect("the link can be written");
    let add = format!(".gnu_debuglink={}", link.display());
    run("objcopy", &["--add-section", &add, &path.to_string_lossy()]);
    fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("chmod");
    let mut modules = Modules::default();
    let id = modules.adopt(&path);
    assert!(!modules.get(id).trusted);
    let frames = name_offset(modules.get(id), svma_of(&path, "f"), false);
    assert_eq!(functions(&frames), ["f"]);
}

/// The symbol table that Fedora hides in stripped files is used.
#[test]
fn a_hidden_symbol_table_is_used() {
    let scratch = Scratch::new("xz");
    let text = "int f(int a) { return a; } int main(void) { return f(0); }";
    let Some(path) = scratch.compile("cc", &[], text) else {
        return;
    };
    let (offset, packed) = (svma_of(&path, "f"), scratch.0.join("packed"));
    let mut bytes = Vec::new();
    let plain = File::open(&path).expect("the program can be read");
    xz2::read::XzEncoder::new(plain, 1)
        .read_to_end(&mut bytes)
        .expect("it can be packed");
    fs::write(&packed, bytes).expect("the table can be written");
    run("strip", &[&path.to_string_lossy()]);
    let add = format!(".gnu_debugdata={}", packed.display());
    run("objcopy", &["--add-section", &add, &path.to_string_lossy()]);
    fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("chmod");
    let mut modules = Modules::default();
    let id = modules.adopt(&path);
    assert_eq!(
        functions(&name_offset(modules.get(id), offset, false)),
        ["f"]
    );
}

/// Gives a file to whoever asks first, over HTTP, and tells the address.
fn serve_once(bytes: Vec<u8>) -> String {
    let (allow, allowed) = mpsc::channel();
    allow.send(()).expect("it is kept");
    serve_when(bytes, allowed)
}

/// The same, once that is allowed.
fn serve_when(bytes: Vec<u8>, allowed: mpsc::Receiver<()>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("somebody asks");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(&stream));
        while lines
            .next()
            .is_some_and(|it| !it.expect("a line").is_empty())
        {}
        allowed.recv().expect("it is allowed");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            bytes.len()
        );
        std::io::Write::write_all(&mut &stream, head.as_bytes()).expect("it listens");
        std::io::Write::write_all(&mut &stream, &bytes).expect("it listens");
    });
    url
}

/// A stripped program has the names and lines that a debuginfod server knows of its build; one that answers with another
/// build's is not believed.
#[test]
fn debuginfod_names_stripped_programs() {
    let scratch = Scratch::new("debuginfod-names");
    let text = "#include <stdio.h>\nstatic void __attribute__((noinline)) hidden(void) { puts(\"\"); }\n\
                int main(void) { hidden(); return 0; }\n";
    let flags = ["-g", "-O1", "-Wl,--build-id=sha1"];
    let Some(path) = scratch.compile("gcc", &flags, text) else {
        return;
    };
    let file_offset = svma_of(&path, "hidden");
    let path = path.to_string_lossy().into_owned();
    let debug_path = format!("{path}.debug");
    run("objcopy", &["--only-keep-debug", &path, &debug_path]);
    run("strip", &[&path]);
    let read = |path: &str| fs::read(path).expect("the file is there");
    let (stripped, debug) = (read(&path), read(&debug_path));
    let Some(other) = scratch.compile("gcc", &flags, "int main(void) { return 1; }\n") else {
        return;
    };
    let other = read(&other.to_string_lossy());
    let named = |answer: Vec<u8>| {
        let servers = Debuginfod::new(&serve_once(answer), None);
        let mut worker = Worker::new(Fetcher::new(servers, Duration::from_secs(60)));
        // Code lies at its own address in a file that gcc makes.
        let request = Request {
            module: module_of("debuginfod-module", &stripped, 0o600),
            file_offset,
            is_return_address: false,
        };
        worker.symbolize(&[request]).remove(0)
    };
    let frames = named(debug);
    assert_eq!(functions(&frames), ["hidden"], "{frames:#?}");
    assert_eq!(frames[0].line, Some(2));
    let frames = named(other);
    assert_eq!(functions(&frames), [format!("file!sub_{file_offset:x}")]);
}

/// What a server takes its time for is named by file and offset, and has its name once the answer is there.
#[test]
fn a_slow_server_delays_no_name() {
    let scratch = Scratch::new("debuginfod-slow");
    let text = "#include <stdio.h>\nstatic void __attribute__((noinline)) hidden(void) { puts(\"\"); }\n\
                int main(void) { hidden(); return 0; }\n";
    let flags = ["-g", "-O1", "-Wl,--build-id=sha1"];
    let Some(path) = scratch.compile("gcc", &flags, text) else {
        return;
    };
    let file_offset = svma_of(&path, "hidden");
    let path = path.to_string_lossy().into_owned();
    let debug_path = format!("{path}.debug");
    run("objcopy", &["--only-keep-debug", &path, &debug_path]);
    run("strip", &[&path]);
    let (allow, allowed) = mpsc::channel();
    let debug = fs::read(&debug_path).expect("the file is there");
    let servers = Debuginfod::new(&serve_when(debug, allowed), None);
    let mut worker = Worker::new(Fetcher::new(servers, Duration::from_millis(50)));
    let request = Request {
        module: module_of("debuginfod-slow", &fs::read(&path).unwrap(), 0o600),
        file_offset,
        is_return_address: false,
    };
    let nameless = [format!("file!sub_{file_offset:x}")];
    let mut name = || -> Vec<String> {
        let frames = worker.symbolize(std::slice::from_ref(&request)).remove(0);
        functions(&frames).into_iter().map(str::to_owned).collect()
    };
    // It has not answered, and will not before this has been said twice.
    assert_eq!(name(), nameless);
    assert_eq!(name(), nameless);
    allow.send(()).expect("it waits");
    let deadline = Instant::now() + Duration::from_secs(60);
    while name() != ["hidden"] {
        assert!(Instant::now() < deadline, "{:?}", name());
    }
}

/// The kernel's own code in a process has names, and a table to unwind it by.
#[test]
fn the_kernels_page_has_names() {
    let mappings = read_maps(std::process::id()).expect("maps can be read");
    let Some(mapping) = mappings.into_iter().find(Mapping::is_vdso) else {
        eprintln!("skipped: no vdso here");
        return;
    };
    let mut modules = Modules::default();
    // Nobody has this pid: the page is the same everywhere.
    let id = modules.resolve(0, &mapping);
    assert_eq!(modules.resolve(0, &mapping), id);
    let module = modules.get(id);
    let file = module.file.as_ref().expect("it was copied");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(
        &mut File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("it is open"),
        &mut bytes,
    )
    .expect("it can be read");
    let parsed = object::File::parse(&*bytes).expect("it is ELF");
    let symbol = parsed
        .dynamic_symbols()
        .find(|it| it.name() == Ok("__vdso_clock_gettime"));
    let address = symbol.expect("every kernel has it").address();
    let frames = name_offset(module, address, false);
    let name = frames[0].function.as_deref().expect("it has a name");
    assert!(name.ends_with("clock_gettime"), "{name}");
    let sections = crate::unwind::FrameSections::read(file).expect("it has tables");
    assert!(!crate::unwind::Table::functions(&sections).is_empty());
}

/// Answers come in the order of what was asked, however files take turns, and again when all was let go.
#[test]
fn answers_keep_their_order() {
    let mut modules = Modules::default();
    let symbolizer = Symbolizer::spawn().expect("a thread can be started");
    let mut built = Vec::new();
    for name in ["first", "second"] {
        let scratch = Scratch::new(&format!("order-{name}"));
        let text = format!(
            "int {name}(int it) {{ return it + 1; }} int main(void) {{ return {name}(-1); }}"
        );
        let Some(path) = scratch.compile("gcc", &["-O0"], &text) else {
            return;
        };
        let module = modules.adopt(&path);
        // Linkers give code the same place in the file as in memory.
        let request = Request {
            module: modules.get(module).clone(),
            file_offset: svma_of(&path, name),
            is_return_address: false,
        };
        built.push((request, scratch));
    }
    let turns = [1, 0, 1, 0, 0, 1];
    let requests = || turns.map(|turn: usize| built[turn].0.clone()).to_vec();
    for _ in 0..2 {
        let answers = symbolizer.symbolize_blocking(requests());
        let names: Vec<_> = answers
            .iter()
            .map(|frames| frames[0].function.as_deref())
            .collect();
        let expected = turns.map(|turn| Some(["first", "second"][turn]));
        assert_eq!(names, expected);
        symbolizer.let_go();
    }
}
