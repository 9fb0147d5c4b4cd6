//! Owns the tests that load eBPF.
