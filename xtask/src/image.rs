//! Owns the container image: one layer with the static agent, packed as an OCI archive without registry or engine.
//! Must not know how the agent is built, or where the image goes.
//!
//! Nothing that differs between two runs gets in: no time, no user, no order but the written one. The
//! same agent makes the same digests.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::agent::{self, Profile};
use crate::setup::Tools;
use crate::toolchain;

/// The image has to stay smaller than this, unpacked.
const IMAGE_BYTES_MAX: u64 = 15 << 20;

/// What a container of this image starts with.
const ENTRYPOINT: &str = "/leaktrace";

/// Directories that the agent writes to, or that the manifest mounts over.
const DIRECTORIES: [&str; 3] = ["tmp/", "var/", "var/cache/"];

/// Builds the agent and packs `target/image/leaktrace-oci.tar`; gives its path.
///
/// # Errors
/// Fails where the agent does not build, is not static, or is too large.
pub fn run(tools: &Tools) -> Result<PathBuf> {
    let agent = agent::build(tools, Profile::Dist)?;
    let directory = toolchain::target_dir().join("image");
    fs::create_dir_all(&directory).context("failed to create target/image")?;
    let image = pack(&agent, &directory.join("leaktrace-oci.tar"))?;
    let twin = pack(&agent, &directory.join("leaktrace-oci-again.tar"))?;
    ensure!(
        image.digest == twin.digest,
        "two packings of one agent differ: {} and {}",
        image.digest,
        twin.digest
    );
    fs::remove_file(&twin.path).context("failed to remove the second packing")?;
    ensure!(
        image.bytes < IMAGE_BYTES_MAX,
        "the image has {} bytes, and {IMAGE_BYTES_MAX} is the limit",
        image.bytes
    );
    eprintln!(
        "xtask: packed {} ({:.1} MB unpacked), {}",
        image.path.display(),
        image.bytes as f64 / 1e6,
        image.digest
    );
    Ok(image.path)
}

/// What was packed.
struct Image {
    path: PathBuf,
    digest: String,
    /// Unpacked.
    bytes: u64,
}

/// Writes the archive: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>.
fn pack(agent: &Path, path: &Path) -> Result<Image> {
    let program = fs::read(agent).with_context(|| format!("failed to read {}", agent.display()))?;
    ensure!(
        is_static(&program),
        "the agent wants a loader: it is not static"
    );
    let version = env!("CARGO_PKG_VERSION");
    let layer = layer(&program)?;
    let config = serde_json::to_vec(&json!({
        "architecture": architecture()?,
        "os": "linux",
        "config": {
            "Entrypoint": [ENTRYPOINT],
            "Env": ["PATH=/"],
            "Labels": {
                "org.opencontainers.image.title": "leaktrace",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        "history": [{ "created_by": "cargo xtask image" }],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut listed = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    listed["annotations"] = json!({
        "org.opencontainers.image.ref.name": version,
        "io.containerd.image.name": format!("localhost/leaktrace:{version}"),
    });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [listed] }))?;
    let file =
        File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
    let mut archive = tar::Builder::new(file);
    add(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    )?;
    add(&mut archive, "index.json", &index, 0o644)?;
    for blob in [&manifest, &config, &layer] {
        let hex = digest(blob).replace("sha256:", "blobs/sha256/");
        add(&mut archive, &hex, blob, 0o644)?;
    }
    archive.into_inner()?.flush()?;
    Ok(Image {
        path: path.to_owned(),
        digest: digest(&manifest),
        bytes: layer.len() as u64,
    })
}

/// The one layer: the agent, and the directories that it needs.
fn layer(program: &[u8]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for directory in DIRECTORIES {
        let mut header = header(0, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        archive.append_data(&mut header, directory, std::io::empty())?;
    }
    add(
        &mut archive,
        ENTRYPOINT.trim_start_matches('/'),
        program,
        0o755,
    )?;
    Ok(archive.into_inner()?)
}

fn add<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = header(bytes.len() as u64, mode);
    archive
        .append_data(&mut header, path, bytes)
        .with_context(|| format!("failed to pack {path}"))
}

/// A header that tells of no machine and no day.
fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The name that OCI has for the processor for which the agent is built.
fn architecture() -> Result<&'static str> {
    let triple = toolchain::host_triple()?;
    Ok(if triple.starts_with("aarch64") {
        "arm64"
    } else {
        "amd64"
    })
}

/// Whether a program has no `PT_INTERP`, by the ELF header of 64 bits.
fn is_static(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| {
        let bytes = program.get(at..at + length)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)),
        )
    };
    let (Some(offset), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    (0..count).all(|index| number(offset + index * size, 4) != Some(PT_INTERP as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two packings are alike to the byte, and name what they hold.
    #[test]
    fn a_layer_is_reproducible() {
        let first = layer(b"program").unwrap();
        assert_eq!(first, layer(b"program").unwrap());
        assert_ne!(digest(&first), digest(&layer(b"progran").unwrap()));
        let mut archive = tar::Archive::new(first.as_slice());
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["tmp/", "var/", "var/cache/", "leaktrace"]);
    }

    /// What wants a loader is not taken for static, and neither is what is no program.
    #[test]
    fn static_programs() {
        let dynamic = fs::read("/bin/sh").unwrap();
        assert!(!is_static(&dynamic));
        assert!(!is_static(b"#!/bin/sh"));
    }

    /// The digest is SHA-256's, as everyone computes it.
    #[test]
    fn digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
    }
}
