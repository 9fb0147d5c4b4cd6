//! Owns a stream as probes sent it of a real program: Python, which parses documents and drops them, with every object from
//! `malloc`.
//! Must not know who reads it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use leaktrace::{
    allocators::ReturnProbes,
    attachments::Attachments,
    host::maps::{Mapping, read_maps},
    modules::Modules,
    probes::{Probes, Scope, Settings},
};

use super::stream::Stream;

/// Documents of some kilobytes, of which the last thousand are kept.
const PROGRAM: &str = r#"
import json, sys
print("ready", flush=True)
sys.stdin.readline()
kept = []
for number in range(int(sys.argv[1])):
    made = {"id": number, "tags": [f"tag {it}" for it in range(number % 40)], "text": "x" * (number % 900),
            "more": [{"key": it, "value": [it] * (it % 9)} for it in range(number % 23)]}
    kept.append(json.loads(json.dumps(made)))
    if len(kept) > 1000:
        kept.pop(number % 1000)
"#;

/// Large enough that nothing is lost while this is not scheduled.
const RING_BYTES: u32 = 128 << 20;

/// What probes tell of the program while it makes so many documents.
pub fn record(documents: u32) -> anyhow::Result<Stream> {
    let settings = Settings {
        ring_bytes: RING_BYTES,
        ..Settings::default()
    };
    let mut probes = Probes::load(&settings)?;
    let mut ring = probes.take_ring()?;
    let mut child = Command::new("python3")
        .args(["-c", PROGRAM, &documents.to_string()])
        .env("PYTHONMALLOC", "malloc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start python3")?;
    let _attachments = attach(&mut child, &mut probes)?;
    writeln!(child.stdin.take().context("it has an input")?)?;
    let mut stream = Stream::default();
    loop {
        // Before the ring is looked at: what came until then is in it.
        let is_over = child.try_wait()?.is_some();
        while let Some(record) = ring.next() {
            stream.push_raw(&record);
        }
        if is_over {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let lost: u64 = probes.losses()?.into_iter().map(|it| it.2).sum();
    anyhow::ensure!(lost == 0, "{lost} events were lost");
    Ok(stream)
}

/// Puts probes into all allocators of a program that is ready.
fn attach(child: &mut Child, probes: &mut Probes) -> anyhow::Result<Attachments> {
    let mut line = String::new();
    let output = child.stdout.as_mut().context("it has an output")?;
    BufReader::new(output).read_line(&mut line)?;
    anyhow::ensure!(line == "ready\n", "it did not begin: {line:?}");
    let (mut modules, pid) = (Modules::default(), child.id());
    let mut attachments = Attachments::new(ReturnProbes::on_this_kernel());
    let mut attached = 0;
    for mapping in read_maps(pid)?.iter().filter(|it| Mapping::is_file(it)) {
        let module = modules.resolve(pid, mapping);
        let has_probes = attachments
            .attach(probes, modules.get(module), pid, Scope::Process(pid))
            .map_err(anyhow::Error::msg)?;
        attached += u32::from(has_probes);
    }
    anyhow::ensure!(attached > 0, "it maps no allocator");
    Ok(attachments)
}
