//! Owns a process for tests that takes as much memory as it is told to, whatever other tests do to their own.
//! Must not know what is read of it.

use std::{
    io::Write as _,
    process::{Child, ChildStdin, Command, Stdio},
};

/// `tail`, which keeps everything that it reads until a line ends; killed when dropped.
pub struct Growing {
    child: Child,
    input: ChildStdin,
}

impl Growing {
    /// Starts it, and waits until it reads.
    pub fn start() -> Self {
        let mut tail = Command::new("tail");
        tail.args(["-n", "1"]).stdin(Stdio::piped());
        let mut child = tail.stdout(Stdio::null()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut growing = Self { child, input };
        growing.grow(1 << 20);
        growing
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it take so many bytes more, but for what a pipe holds.
    pub fn grow(&mut self, bytes: usize) {
        self.input.write_all(&vec![b'x'; bytes]).unwrap();
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
