//! Owns the tests of `launch`, on real programs.
//! Must not know anything that `launch` does not show.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use tokio::{runtime::Builder, time::timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// How long those tests wait for an answer that do not give one.
const IMPATIENT: Duration = Duration::from_millis(300);

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("leaktrace-launch-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Compiles a C program.
    fn compile(&self, source: &str) -> String {
        self.compile_with(source, "program", &[])
    }

    fn compile_with(&self, source: &str, name: &str, options: &[&str]) -> String {
        let (text, program) = (self.path(&format!("{name}.c")), self.path(name));
        fs::write(&text, source).unwrap();
        let done = Command::new("cc")
            .args(["-O1", "-pthread", "-o", &program, &text])
            .args(options)
            .status();
        assert!(done.unwrap().success());
        program
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the agent saw of a command and its descendants.
#[derive(Debug)]
struct Seen {
    status: ExitStatus,
    births: Vec<(u32, u32, bool)>,
    images: Vec<u32>,
    overdue: usize,
}

impl Seen {
    fn vforks(&self) -> usize {
        self.births.iter().filter(|birth| birth.2).count()
    }
}

fn words(command: &[&str]) -> Vec<OsString> {
    command.iter().map(OsString::from).collect()
}

/// Runs a command to the end of its last descendant; every child must stand
/// still, before its first instruction, when it is reported, and only once.
#[track_caller]
fn follow(command: &[&str]) -> Seen {
    let mut launch = Launch::spawn(&words(command)).unwrap();
    assert!(launch.follows_children());
    launch.start().unwrap();
    let mut status = None;
    let mut births = Vec::new();
    let mut images = Vec::new();
    while let Some(event) = next_of_all(&mut launch) {
        match event {
            Event::Born { pid, parent, vfork } => {
                // It may be gone by now: a child's first stop waits for a CPU.
                let is_known = |birth: &(u32, u32, bool)| birth.0 == parent;
                assert!(parent == launch.pid() || births.iter().any(is_known));
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
                assert_eq!(
                    (fields[0], fields[11]),
                    ("t", "0"),
                    "state and utime of {stat}"
                );
                births.push((pid, parent, vfork));
                launch.resume(pid);
            }
            Event::Entered { pid } => {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                assert!(stat.contains(") t "), "{stat}");
                images.push(pid);
                launch.resume(pid);
            }
            Event::Exited { pid, status: exit } => {
                assert_eq!(pid, launch.pid());
                assert!(status.replace(exit).is_none());
            }
        }
    }
    let mut pids: Vec<u32> = births.iter().map(|birth| birth.0).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), births.len(), "{births:?}");
    Seen {
        status: status.unwrap(),
        births,
        images,
        overdue: launch.take_overdue().len(),
    }
}

/// The next event but for new images, which may run at once.
fn next(launch: &mut Launch) -> Option<Event> {
    loop {
        match next_of_all(launch) {
            Some(Event::Entered { pid }) => launch.resume(pid),
            event => return event,
        }
    }
}

fn next_of_all(launch: &mut Launch) -> Option<Event> {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let wait = async { timeout(PATIENCE, launch.events().recv()).await };
    runtime.block_on(wait).expect("something happens in time")
}

#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Exit codes and deaths by signal come through.
#[test]
fn exit_statuses() {
    assert_eq!(follow(&["true"]).status.code(), Some(0));
    assert_eq!(follow(&["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(follow(&["sh", "-c", "kill -9 $$"]).status.signal(), Some(9));
    assert_eq!(
        follow(&["sh", "-c", "kill -USR1 $$"]).status.signal(),
        Some(10)
    );
}

/// A shell's children are each held, and its output is what it always is.
#[test]
fn shell_pipelines() {
    let scratch = Scratch::new("shell");
    let out = scratch.path("out");
    let script = format!("for i in 1 2 3; do (sleep 0.05; echo $i) & done >>{out}; wait");
    let seen = follow(&["sh", "-c", &script]);
    let mut lines: Vec<String> = scratch.read("out").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["1", "2", "3"]);
    assert_eq!(seen.births.len(), 6, "three subshells, three sleeps");
    assert_eq!(seen.overdue, 0);

    let script = format!("seq 1000 | grep 7 | wc -l >{out}; exit 3");
    let seen = follow(&["sh", "-c", &script]);
    assert_eq!(scratch.read("out").trim(), "271");
    assert_eq!((seen.status.code(), seen.births.len()), (Some(3), 3));
}

/// A failed pipe ends a program as it would without us.
#[test]
fn closed_pipes() {
    let scratch = Scratch::new("sigpipe");
    let out = scratch.path("out");
    let script = format!("(yes; echo $? >{out}) | head -1 >/dev/null");
    follow(&["sh", "-c", &script]);
    assert_eq!(scratch.read("out").trim(), "141", "128 + SIGPIPE");
}

/// Children by vfork and posix_spawn are told from those by fork, also when a
/// thread makes them.
#[test]
fn vfork_and_spawn() {
    let scratch = Scratch::new("vfork");
    let program = scratch.compile(
        r#"
        #include <pthread.h>
        #include <spawn.h>
        #include <sys/wait.h>
        #include <unistd.h>
        extern char **environ;
        static void *spawn(void *unused) {
            (void)unused;
            char *arguments[] = {"true", NULL};
            pid_t pid;
            int status;
            if (posix_spawnp(&pid, "true", NULL, NULL, arguments, environ)) _exit(10);
            if (waitpid(pid, &status, 0) != pid || status) _exit(11);
            return NULL;
        }
        int main(void) {
            int status;
            pid_t pid = vfork();
            if (pid == 0) { execlp("sh", "sh", "-c", "exit 5", NULL); _exit(99); }
            if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 5) return 1;
            spawn(NULL);
            pthread_t thread;
            for (int i = 0; i < 10; i++) {
                pthread_create(&thread, NULL, spawn, NULL);
                pthread_join(thread, NULL);
            }
            pid = fork();
            if (pid == 0) _exit(6);
            if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 6) return 2;
            return 42;
        }"#,
    );
    let seen = follow(&[&program]);
    assert_eq!(seen.status.code(), Some(42));
    assert_eq!(
        (seen.births.len(), seen.vforks(), seen.overdue),
        (13, 12, 0)
    );
    let parents: Vec<u32> = seen.births.iter().map(|birth| birth.1).collect();
    assert!(
        parents.iter().all(|parent| *parent == parents[0]),
        "one process: {parents:?}"
    );
}

/// Threads are no children, and glibc's own signals (setuid in all threads)
/// arrive, as does the exec of a thread that is not the first.
#[test]
fn threads() {
    let scratch = Scratch::new("threads");
    let program = scratch.compile(
        r#"
        #include <pthread.h>
        #include <stdio.h>
        #include <unistd.h>
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        static pthread_barrier_t barrier;
        static long sum;
        static void *work(void *unused) {
            (void)unused;
            for (int i = 0; i < 10000; i++) {
                pthread_mutex_lock(&lock);
                sum++;
                pthread_mutex_unlock(&lock);
            }
            pthread_barrier_wait(&barrier);
            pthread_barrier_wait(&barrier);
            return NULL;
        }
        static void *execute(void *unused) {
            (void)unused;
            execlp("sh", "sh", "-c", "(exit 0); exit 44", NULL);
            return NULL;
        }
        int main(void) {
            pthread_t threads[50];
            pthread_barrier_init(&barrier, NULL, 51);
            for (int i = 0; i < 50; i++) pthread_create(&threads[i], NULL, work, NULL);
            pthread_barrier_wait(&barrier);
            if (setgid(getgid())) return 1;
            pthread_barrier_wait(&barrier);
            for (int i = 0; i < 50; i++) pthread_join(threads[i], NULL);
            if (sum != 500000) return 2;
            pthread_create(&threads[0], NULL, execute, NULL);
            pause();
            return 3;
        }"#,
    );
    let seen = follow(&[&program]);
    assert_eq!(seen.status.code(), Some(44));
    assert_eq!(
        (seen.births.len(), seen.overdue),
        (1, 0),
        "the subshell after the exec"
    );
}

/// Every signal arrives once, real-time signals with their values.
#[test]
fn signals() {
    let scratch = Scratch::new("signals");
    let program = scratch.compile(
        r#"
        #include <signal.h>
        #include <stddef.h>
        #include <unistd.h>
        static volatile int plain;
        static volatile long values;
        static void count(int number) { (void)number; plain++; }
        static void add(int number, siginfo_t *info, void *context) {
            (void)number; (void)context;
            values += info->si_value.sival_int;
        }
        int main(void) {
            struct sigaction queued = {.sa_sigaction = add, .sa_flags = SA_SIGINFO};
            sigaction(SIGRTMIN + 3, &queued, NULL);
            signal(SIGUSR1, count);
            signal(SIGTRAP, count);
            for (int i = 0; i < 1000; i++) {
                kill(getpid(), SIGUSR1);
                sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i});
            }
            raise(SIGTRAP);
            return plain == 1001 && values == 499500 ? 45 : 1;
        }"#,
    );
    assert_eq!(follow(&[&program]).status.code(), Some(45));
}

/// A parent sees its child stop, go on and end.
#[test]
fn job_control() {
    let scratch = Scratch::new("jobs");
    let program = scratch.compile(
        r#"
        #include <signal.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            int status;
            pid_t pid = fork();
            if (pid == 0) for (;;) pause();
            for (int i = 0; i < 20; i++) {
                kill(pid, SIGSTOP);
                if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status)) return 1;
                kill(pid, SIGCONT);
                if (waitpid(pid, &status, WCONTINUED) != pid || !WIFCONTINUED(status)) return 2;
            }
            kill(pid, SIGTERM);
            if (waitpid(pid, &status, 0) != pid || WTERMSIG(status) != SIGTERM) return 3;
            return 46;
        }"#,
    );
    assert_eq!(follow(&[&program]).status.code(), Some(46));
}

/// The command itself can be stopped, continued and killed from outside.
#[test]
fn stop_and_continue() {
    let mut launch = Launch::spawn(&words(&["sleep", "1000"])).unwrap();
    launch.start().unwrap();
    let pid = launch.pid();
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    launch.signal(Signal::SIGSTOP);
    eventually("it stops", || matches!(state(), 't' | 'T'));
    launch.signal(Signal::SIGCONT);
    eventually("it goes on", || state() == 'S');
    launch.kill();
    let Some(Event::Exited { status, .. }) = next(&mut launch) else {
        panic!("the exit is reported");
    };
    assert_eq!(status.signal(), Some(9));
    assert_eq!(next(&mut launch), None);
    launch.signal(Signal::SIGTERM);
}

/// What cannot be executed is named in one line.
#[test]
fn what_cannot_start() {
    let message = |command: &[&str]| {
        let mut launch = Launch::spawn(&words(command)).unwrap();
        format!("{:#}", launch.start().unwrap_err())
    };
    assert_eq!(
        message(&["no-such-command-7"]),
        "`no-such-command-7`: command not found"
    );
    let text = message(&["/no/such/file"]);
    assert_eq!(
        text,
        "`/no/such/file`: no such file, or its interpreter is missing"
    );
    assert_eq!(
        message(&["/etc/passwd"]),
        "`/etc/passwd`: cannot be executed: Permission denied"
    );
    assert!(Launch::spawn(&[]).is_err());
    assert!(Launch::spawn(&words(&["a\0b"])).is_err());
}

/// Nothing runs before the start, and nothing ever does without one.
#[test]
fn held_back_until_started() {
    let scratch = Scratch::new("held");
    let out = scratch.path("out");
    let launch = Launch::spawn(&words(&["touch", &out])).unwrap();
    let pid = launch.pid();
    thread::sleep(Duration::from_millis(50));
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    launch.detach_all();
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    eventually("it ends with the launch", gone);
    assert!(!Path::new(&out).exists());
}

/// An agent that does not answer delays a child by the deadline, and is told of it.
#[test]
fn unanswered_births() {
    let begun = Instant::now();
    let mut launch = Launch::spawn_with(&words(&["sh", "-c", "(exit 3)"]), IMPATIENT).unwrap();
    launch.start().unwrap();
    assert!(matches!(next(&mut launch), Some(Event::Born { .. })));
    let Some(Event::Exited { status, .. }) = next(&mut launch) else {
        panic!("the exit is reported");
    };
    assert_eq!((status.code(), launch.take_overdue().len()), (Some(3), 1));
    assert!(begun.elapsed() >= IMPATIENT);
}

/// A child that is killed while it is held takes nothing with it.
#[test]
fn killed_while_held() {
    let mut launch = Launch::spawn(&words(&["sh", "-c", "(exit 3); exit $?"])).unwrap();
    launch.start().unwrap();
    let Some(Event::Born { pid, .. }) = next(&mut launch) else {
        panic!("the child is reported");
    };
    assert!(
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    let Some(Event::Exited { status, .. }) = next(&mut launch) else {
        panic!("the exit is reported");
    };
    assert_eq!((status.code(), launch.take_overdue().len()), (Some(137), 0));
    launch.resume(pid);
}

/// Detaching lets the command and a child that is held run to their ends.
#[test]
fn detached_programs_run_on() {
    let scratch = Scratch::new("detach");
    let out = scratch.path("out");
    let script = format!("(echo child >>{out}); echo parent >>{out}");
    let mut launch = Launch::spawn(&words(&["sh", "-c", &script])).unwrap();
    launch.start().unwrap();
    assert!(matches!(next(&mut launch), Some(Event::Born { .. })));
    launch.detach_all();
    eventually("both write", || scratch.read("out") == "child\nparent\n");
}

/// A new image is held once, with every library in place and none of its code run.
#[test]
fn images() {
    let scratch = Scratch::new("images");
    let out = scratch.path("out");
    let library = r#"
        #include <fcntl.h>
        #include <unistd.h>
        __attribute__((constructor)) static void begin(void) {
            close(open(OUT, O_CREAT | O_WRONLY, 0600));
        }
        int answer(void) { return 47; }"#;
    let define = format!("-DOUT=\"{out}\"");
    let library = scratch.compile_with(library, "libanswer.so", &["-shared", "-fPIC", &define]);
    let program = scratch.compile_with(
        "int answer(void); int main(void) { return answer(); }",
        "asks",
        &[&library],
    );
    let mut launch = Launch::spawn(&words(&[&program])).unwrap();
    launch.start().unwrap();
    let pid = launch.pid();
    assert_eq!(next_of_all(&mut launch), Some(Event::Entered { pid }));
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    for file in ["/asks", "/libanswer.so", "/libc.so.6", "/ld-linux"] {
        assert!(maps.contains(file), "{file} in {maps}");
    }
    thread::sleep(Duration::from_millis(50));
    assert!(!Path::new(&out).exists(), "no constructor has run");
    launch.resume(pid);
    let Some(Event::Exited { status, .. }) = next_of_all(&mut launch) else {
        panic!("the exit is reported");
    };
    assert_eq!((status.code(), launch.take_overdue().len()), (Some(47), 0));
    assert!(Path::new(&out).exists());
}

/// Every exec is an image of its own: of children by fork and vfork, of a thread that is not the
/// first, of a static program, and one after another.
#[test]
fn images_of_each_exec() {
    let scratch = Scratch::new("execs");
    let still = scratch.compile_with("int main(void) { return 48; }", "still", &["-static"]);
    let seen = follow(&[&still]);
    assert_eq!((seen.status.code(), seen.images.len()), (Some(48), 1));

    let seen = follow(&["sh", "-c", &format!("true & exec sh -c 'exec {still}'")]);
    assert_eq!((seen.status.code(), seen.images.len()), (Some(48), 3));

    let threaded = scratch.compile(
        r#"
        #include <pthread.h>
        #include <spawn.h>
        #include <stddef.h>
        #include <sys/wait.h>
        #include <unistd.h>
        extern char **environ;
        static void *execute(void *path) {
            execl(path, path, NULL);
            return NULL;
        }
        int main(int argc, char **argv) {
            pthread_t thread;
            pid_t pid;
            char *arguments[] = {"true", NULL};
            if (argc < 2 || posix_spawnp(&pid, "true", NULL, NULL, arguments, environ)) return 1;
            waitpid(pid, NULL, 0);
            pthread_create(&thread, NULL, execute, argv[1]);
            pause();
            return 2;
        }"#,
    );
    let seen = follow(&[&threaded, &still]);
    assert_eq!((seen.status.code(), seen.overdue), (Some(48), 0));
    let (child, command) = (seen.births[0].0, seen.images[0]);
    assert_eq!(seen.images, [command, child, command]);
}

/// Programs that are not of 64 bits are let go without a hold.
#[test]
fn images_of_32_bits() {
    let scratch = Scratch::new("32-bits");
    let source = scratch.path("small.s");
    fs::write(
        &source,
        ".globl _start\n_start: movl $1, %eax\nmovl $49, %ebx\nint $0x80\n",
    )
    .unwrap();
    let program = scratch.path("small");
    let done = Command::new("cc")
        .args(["-m32", "-nostdlib", "-static", "-o", &program, &source])
        .status();
    assert!(done.unwrap().success());
    // A kernel without 32-bit programs refuses to run it at all.
    let Ok(alone) = Command::new(&program).status() else {
        return;
    };
    assert_eq!(alone.code(), Some(49));
    let seen = follow(&[&program]);
    assert_eq!((seen.status.code(), seen.images.len()), (Some(49), 0));
}

/// Signals that arrive while an image is held or loading have their effect, and no other.
#[test]
fn signals_to_images() {
    let run = |signals: &[Signal]| {
        let mut launch = Launch::spawn(&words(&["sh", "-c", "exit 50"])).unwrap();
        launch.start().unwrap();
        let pid = launch.pid();
        assert_eq!(next_of_all(&mut launch), Some(Event::Entered { pid }));
        for signal in signals {
            launch.signal(*signal);
            thread::sleep(Duration::from_millis(20));
        }
        launch.resume(pid);
        let Some(Event::Exited { status, .. }) = next_of_all(&mut launch) else {
            panic!("the exit is reported");
        };
        (status.code(), status.signal())
    };
    assert_eq!(run(&[Signal::SIGCHLD, Signal::SIGWINCH]), (Some(50), None));
    assert_eq!(run(&[Signal::SIGSTOP, Signal::SIGCONT]), (Some(50), None));
    assert_eq!(run(&[Signal::SIGTERM]), (None, Some(15)));
    assert_eq!(run(&[Signal::SIGTRAP]), (None, Some(5)));
    assert_eq!(run(&[Signal::SIGKILL]), (None, Some(9)));
}

/// An image that nobody answers for runs after the deadline; one that is detached, at once.
#[test]
fn unanswered_images() {
    let begun = Instant::now();
    let mut launch = Launch::spawn_with(&words(&["sh", "-c", "exit 51"]), IMPATIENT).unwrap();
    launch.start().unwrap();
    let event = next_of_all(&mut launch);
    assert!(matches!(event, Some(Event::Entered { .. })));
    let Some(Event::Exited { status, .. }) = next_of_all(&mut launch) else {
        panic!("the exit is reported");
    };
    assert_eq!((status.code(), launch.take_overdue().len()), (Some(51), 1));
    assert!(begun.elapsed() >= IMPATIENT);

    let scratch = Scratch::new("detached-image");
    let out = scratch.path("out");
    let script = format!("echo done >{out}");
    let mut launch = Launch::spawn(&words(&["sh", "-c", &script])).unwrap();
    launch.start().unwrap();
    let event = next_of_all(&mut launch);
    assert!(matches!(event, Some(Event::Entered { .. })));
    launch.detach_all();
    eventually("it runs on", || scratch.read("out") == "done\n");
}

/// Set where this test binary is run again as an agent.
const AGENT: &str = "LEAKTRACE_TEST_LAUNCH";

/// The agent's part in the test below; passes at once otherwise.
#[test]
fn agent_that_is_killed() {
    let Ok(out) = env::var(AGENT) else {
        return;
    };
    let script = format!("(sleep 0.2; echo child >>{out}); sleep 0.2; echo parent >>{out}");
    let mut launch = Launch::spawn(&words(&["sh", "-c", &script])).unwrap();
    launch.start().unwrap();
    assert!(matches!(next(&mut launch), Some(Event::Born { .. })));
    fs::write(format!("{out}.ready"), launch.pid().to_string()).unwrap();
    thread::sleep(PATIENCE);
}

/// kill -9 of the agent leaves the command alive, and frees the child it held.
#[test]
fn survives_the_agent() {
    let scratch = Scratch::new("killed");
    let out = scratch.path("out");
    let mut agent = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "launch::tests::agent_that_is_killed",
            "--nocapture",
        ])
        .env(AGENT, &out)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the agent is ready", || {
        !scratch.read("out.ready").is_empty()
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    eventually("both write", || scratch.read("out") == "child\nparent\n");
}

/// Set where this test binary is run again as an agent that holds an image.
const HOLDER: &str = "LEAKTRACE_TEST_HOLDER";

/// The agent's part in the test below; passes at once otherwise.
#[test]
fn agent_that_is_killed_with_an_image() {
    let Ok(out) = env::var(HOLDER) else {
        return;
    };
    let mut launch =
        Launch::spawn(&words(&["sh", "-c", &format!("true; echo done >{out}")])).unwrap();
    launch.start().unwrap();
    let event = next_of_all(&mut launch);
    assert!(matches!(event, Some(Event::Entered { .. })));
    fs::write(format!("{out}.ready"), launch.pid().to_string()).unwrap();
    thread::sleep(PATIENCE);
}

/// kill -9 of the agent leaves the image that it held unharmed.
#[test]
fn images_survive_the_agent() {
    let scratch = Scratch::new("image-killed");
    let out = scratch.path("out");
    let mut agent = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "launch::tests::agent_that_is_killed_with_an_image",
            "--nocapture",
        ])
        .env(HOLDER, &out)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the agent is ready", || {
        !scratch.read("out.ready").is_empty()
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    eventually("it runs to its end", || scratch.read("out") == "done\n");
}

/// Set where this test binary is run again without the right to ptrace.
const POWERLESS: &str = "LEAKTRACE_TEST_POWERLESS";

/// The agent's part in the test below; passes at once otherwise.
#[test]
fn agent_without_ptrace() {
    if env::var_os(POWERLESS).is_none() {
        return;
    }
    let mut launch = Launch::spawn(&words(&["sh", "-c", "(exit 3); exit 8"])).unwrap();
    assert!(!launch.follows_children());
    launch.start().unwrap();
    let Some(Event::Exited { status, .. }) = next(&mut launch) else {
        panic!("the exit is reported");
    };
    assert_eq!(status.code(), Some(8));
    assert_eq!(next(&mut launch), None);
    let mut launch = Launch::spawn(&words(&["no-such-command-7"])).unwrap();
    assert!(launch.start().is_err());
}

/// Where ptrace is forbidden the command still starts held back, and says so.
#[test]
fn without_ptrace() {
    let scratch = Scratch::new("powerless");
    let wrapper = scratch.compile(
        r#"
        #include <errno.h>
        #include <linux/filter.h>
        #include <linux/seccomp.h>
        #include <stddef.h>
        #include <sys/prctl.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            };
            struct sock_fprog filter = {4, code};
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if (argc < 2 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) return 99;
            execv(argv[1], argv + 1);
            return 98;
        }"#,
    );
    let done = Command::new(wrapper)
        .arg(env::current_exe().unwrap())
        .args(["--exact", "launch::tests::agent_without_ptrace"])
        .env(POWERLESS, "1")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stdout)
    );
}

/// Short-lived children at a high rate are each held once.
#[test]
fn many_short_children() {
    let seen = follow(&[
        "sh",
        "-c",
        "i=0; while [ $i -lt 300 ]; do (exit 0); i=$((i+1)); done",
    ]);
    assert_eq!((seen.births.len(), seen.overdue), (300, 0));
    assert_eq!(seen.status.code(), Some(0));
}
