"""Owns images of single programs, as OCI archives, and the control groups that pods leave behind.
Must not know what is in them."""

import hashlib
import io
import json
import os
import tarfile


def digest(data):
    """As OCI writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def archive_of(entries):
    """A tar archive in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data, mode in entries:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def pack(name, files, path):
    """Packs files, of which the first is what a container starts, under their paths within it."""
    contents = [(within.lstrip("/"), open(file, "rb").read(), 0o755) for within, file in files.items()]
    layer = archive_of(contents)
    kind = "application/vnd.oci.image."
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [next(iter(files))]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    ).encode()

    def describe(what, data):
        return {"mediaType": kind + what, "digest": digest(data), "size": len(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": kind + "manifest.v1+json",
            "config": describe("config.v1+json", config),
            "layers": [describe("layer.v1.tar", layer)],
        }
    ).encode()
    listed = describe("manifest.v1+json", manifest)
    listed["annotations"] = {"io.containerd.image.name": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [listed]}).encode()
    blobs = [("blobs/" + digest(it).replace(":", "/"), it, 0o644) for it in (manifest, config, layer)]
    head = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644), ("index.json", index, 0o644)]
    with open(path, "wb") as file:
        file.write(archive_of(head + blobs))


def name_of(path):
    """The name that an archive gives its image."""
    with tarfile.open(path) as archive:
        index = json.load(archive.extractfile("index.json"))
    return index["manifests"][0]["annotations"]["io.containerd.image.name"]


def remove_groups():
    """Removes the control groups of pods that are gone, in every hierarchy."""
    for top, _, _ in os.walk("/sys/fs/cgroup"):
        if os.path.basename(top) == "kubepods":
            for below, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(below)
                except OSError:
                    pass
