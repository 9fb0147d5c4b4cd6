//! Owns files that are opened and never closed, each with the buffer of its reader, in a table that no one clears.
//! Beside them files that are closed when their reader is dropped, and a log that is flushed.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read as _, Write as _},
};

const FORGETS_ONE_IN: usize = 20;

#[inline(never)]
fn open() -> BufReader<File> {
    let file = File::open("/etc/passwd").unwrap();
    let mut reader = BufReader::with_capacity(4096, file); // LEAK: reader of a file 40960 bytes/s
    reader.read_exact(&mut [0; 16]).unwrap();
    reader
}

#[inline(never)]
fn read_and_close() {
    let file = File::open("/etc/passwd").unwrap();
    let mut reader = BufReader::with_capacity(4096, file); // INNOCENT: reader of a closed file
    reader.read_exact(&mut [0; 16]).unwrap();
}

/// A log that is written out every four seconds.
#[inline(never)]
fn log(lines: &mut Vec<String>, id: usize) {
    lines.push(format!("{id:>200}")); // INNOCENT: log
    if lines.len() == 800 {
        let mut sink = File::create("/dev/null").unwrap();
        for line in lines.drain(..) {
            sink.write_all(line.as_bytes()).unwrap();
        }
    }
}

fn main() {
    let (mut table, mut lines) = (HashMap::new(), Vec::new());
    corpus::drive(|id| {
        if id % FORGETS_ONE_IN == 0 {
            table.insert(id, open()); // EITHER: table of files, which grows in steps
        } else {
            read_and_close();
        }
        log(&mut lines, id);
        async {}
    });
}
