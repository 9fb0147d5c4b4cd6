//! Owns the tests that load eBPF: real probes in real programs, compared with what those know.
//! Must not know the agent's inside, which is a command here as it is for its users.

mod harness;

mod allocator_places;
mod allocators;
mod budget;
mod built_in;
mod command_line;
mod contained;
mod containers;
mod databases;
mod early;
mod entry_points;
mod exchange;
mod forker;
mod go_exact;
mod go_files;
mod go_goroutines;
mod go_harm;
mod go_leaks;
mod go_profile;
mod go_reading;
mod go_real;
mod harm;
mod host;
mod identity;
mod inspect;
mod libraries;
mod listen;
mod oracle;
mod overflow;
mod pictures;
mod render;
mod reports;
mod sampling;
mod servers;
mod survivors;
mod symbols;
mod top;
mod verdict_code;
mod verdicts;
mod watch;
