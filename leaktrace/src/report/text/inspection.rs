//! Owns how an inspected process reads.
//! Must not know terminals: plain lines, in which foreign text is made visible.

use std::fmt::Write as _;

use crate::report::{
    escape::visible,
    model::{Inspected, InspectedAllocator},
};

/// Appends what is told of a process.
///
/// # Panics
///
/// Never: a `String` takes all that is written.
pub fn write(from: &Inspected, out: &mut String) {
    let told = "a String takes all that is written";
    let executable = &from.executable;
    writeln!(
        out,
        "{} {}  coverage {}{}",
        from.identity.pid,
        shown(&executable.name),
        from.coverage.word(),
        clause(from.coverage_reason.as_deref()),
    )
    .expect(told);
    writeln!(out, "   {}", shown(&from.command_line)).expect(told);
    if let Some(container) = &from.container {
        let name = container.name.as_deref();
        let name = name.map(|name| format!("{}, ", shown(name)));
        let (name, id) = (name.unwrap_or_default(), shown(&container.id));
        writeln!(out, "   container {name}{id}").expect(told);
    }
    if let Some((Some(namespace), Some(pod))) = from.k8s.as_ref().map(|it| (&it.namespace, &it.pod))
    {
        writeln!(out, "   pod {}/{}", shown(namespace), shown(pod)).expect(told);
    }
    if let Some(go) = &from.go {
        let rate = match go.memory_profile_rate_bytes {
            Some(0) => String::from("its memory profile is off"),
            Some(rate) => format!("its memory profile has one sample in {rate} bytes"),
            None => String::from("its memory profile cannot be read"),
        };
        let by = go.version_source;
        writeln!(out, "   {} by its {by}, {rate}", shown(&go.version)).expect(told);
        writeln!(out, "   layout: {}", shown(&go.layout)).expect(told);
        let mut link = go.link.words().join(", ");
        for (what, stated) in [
            ("-ldflags", &go.link.linker_flags),
            ("GOEXPERIMENT", &go.link.experiments),
        ] {
            if let Some(stated) = stated {
                let separator = if link.is_empty() { "" } else { ", " };
                link = format!("{link}{separator}{what}={}", shown(stated));
            }
        }
        if !link.is_empty() {
            writeln!(out, "   linked: {link}").expect(told);
        }
    }
    for allocator in &from.allocators {
        write_allocator(allocator, out);
    }
    for unwinding in &from.unwinding {
        writeln!(
            out,
            "   stacks through {} by {}",
            shown(&unwinding.path),
            unwinding.by
        )
        .expect(told);
    }
    if let Some((bare, machine)) = from.ns_of_pair() {
        writeln!(
            out,
            "   an allocation and its free: about {} µs on bare metal, {} µs in a virtual machine",
            micros(bare),
            micros(machine)
        )
        .expect(told);
    }
}

fn write_allocator(from: &InspectedAllocator, out: &mut String) {
    let told = "a String takes all that is written";
    let version = from.version.as_deref().map(|it| format!(" {it}"));
    let build_id = from
        .build_id
        .as_deref()
        .map(|it| format!("  build id {it}"));
    writeln!(
        out,
        "   {}{}  {}{}",
        from.name,
        shown(&version.unwrap_or_default()),
        shown(&from.path),
        build_id.unwrap_or_default()
    )
    .expect(told);
    for point in &from.entry_points {
        writeln!(
            out,
            "      {:<28} {:#9x} +{:<3} {:<26} {:<9} {}",
            shown(&point.names.join(" ")),
            point.file_offset,
            point.offset,
            shown(&point.instruction),
            point.cost,
            point.result,
        )
        .expect(told);
    }
    for missing in &from.not_covered {
        writeln!(
            out,
            "      {:<28} not covered: {}",
            shown(&missing.name),
            shown(&missing.reason)
        )
        .expect(told);
    }
}

fn clause(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {}", shown(reason)))
}

fn shown(text: &str) -> String {
    visible(text, false).into_owned()
}

fn micros(ns: u32) -> String {
    format!("{:.1}", f64::from(ns) / 1000.0)
}
