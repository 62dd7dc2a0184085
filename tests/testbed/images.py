"""Real images made here, without a network: deterministic by seed, in the types of OCI or of Docker schema 2.

An :class:`Image` is its manifests and its blobs by digest, with one of the manifests (or an index) as its root. It can
be pushed by the distribution API (:func:`push`), written as an OCI layout (:func:`write_layout`) or served by the zoo.
"""

from __future__ import annotations

import gzip
import http.client
import io
import json
import random
import ssl
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from testbed.programs import find_program

MIB: Final = 1024 * 1024
EPOCH: Final = "2024-01-01T00:00:00Z"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK_MAX: Final = 128 * 1024
_APPLETS: Final = ("sh", "echo", "cat", "ls", "sleep", "sha256sum", "true", "wget", "httpd", "uname")


class Dialect(Enum):
    """The family of media types that an image speaks."""

    OCI = "oci"
    DOCKER = "docker"

    @property
    def manifest(self) -> str:
        """Media type of an image manifest."""
        return {
            Dialect.OCI: "application/vnd.oci.image.manifest.v1+json",
            Dialect.DOCKER: "application/vnd.docker.distribution.manifest.v2+json",
        }[self]

    @property
    def index(self) -> str:
        """Media type of an index (a manifest list)."""
        return {
            Dialect.OCI: "application/vnd.oci.image.index.v1+json",
            Dialect.DOCKER: "application/vnd.docker.distribution.manifest.list.v2+json",
        }[self]

    @property
    def config(self) -> str:
        """Media type of an image's configuration."""
        return {
            Dialect.OCI: "application/vnd.oci.image.config.v1+json",
            Dialect.DOCKER: "application/vnd.docker.container.image.v1+json",
        }[self]

    @property
    def layer(self) -> str:
        """Media type of a gzip layer."""
        return {
            Dialect.OCI: "application/vnd.oci.image.layer.v1.tar+gzip",
            Dialect.DOCKER: "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }[self]

    @property
    def foreign_layer(self) -> str:
        """Media type of a layer that registries do not hold."""
        return {
            Dialect.OCI: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            Dialect.DOCKER: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        }[self]


ZSTD_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: its compressed bytes, what they are called, and the digest of the tar inside."""

    data: bytes = field(repr=False)
    diff_id: str
    media_type: str | None = None
    """``None`` takes the gzip layer type of the image's dialect."""
    urls: tuple[str, ...] = ()
    """With any, the layer is foreign: registries do not hold it."""
    digest: str = field(init=False)
    """Digest of the compressed bytes."""

    def __post_init__(self) -> None:
        """Look at the bytes once: they may be many."""
        object.__setattr__(self, "digest", digest_of(self.data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The exact bytes of one manifest or index."""

    media_type: str
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """Digest of the bytes."""
        return digest_of(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A whole image: every manifest in the order to push them, every blob that a registry holds."""

    manifests: tuple[Manifest, ...]
    blobs: Mapping[str, bytes] = field(repr=False)
    layers: tuple[str, ...]
    """Digests of the layers, foreign ones included, in order and once each."""

    @property
    def root(self) -> Manifest:
        """What a tag points to."""
        return self.manifests[-1]

    @property
    def digest(self) -> str:
        """Digest of the root manifest."""
        return self.root.digest

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs together, each counted once."""
        return sum(len(data) for data in self.blobs.values())


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of ``data`` as text."""
    return f"sha256:{sha256(data).hexdigest()}"


def random_bytes(size_bytes: int, *, seed: object) -> bytes:
    """Return incompressible bytes, the same for the same seed."""
    source = random.Random(repr(seed))
    pieces = [source.randbytes(min(MIB, size_bytes - start)) for start in range(0, size_bytes, MIB)]
    return b"".join(pieces)


def tar_of(files: Mapping[str, bytes], *, links: Mapping[str, str] | None = None) -> bytes:
    """Return a deterministic tar of executable ``files`` and hard-coded symbolic ``links`` (name to target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        directories = {str(parent) for name in (*files, *(links or {})) for parent in Path(name).parents} - {"."}
        for name in sorted(directories):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        for name, target in sorted((links or {}).items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


def gzip_layer(tar: bytes, *, level: int = 6) -> Layer:
    """Return ``tar`` as a gzip layer; level 0 stores, which is quick and right for random bytes."""
    return Layer(data=gzip.compress(tar, compresslevel=level, mtime=0), diff_id=digest_of(tar))


def zstd_layer(tar: bytes) -> Layer:
    """Return ``tar`` as a zstd layer of raw blocks (RFC 8878, 3.1.1): a valid frame that needs no library."""
    frame = bytearray(_ZSTD_MAGIC)
    frame += bytes([0b1010_0000]) + len(tar).to_bytes(4, "little")  # single segment, four bytes of content size
    pieces = [tar[start : start + _ZSTD_BLOCK_MAX] for start in range(0, len(tar), _ZSTD_BLOCK_MAX)] or [b""]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        frame += ((len(piece) << 3) | last).to_bytes(3, "little") + piece
    return Layer(data=bytes(frame), diff_id=digest_of(tar), media_type=ZSTD_LAYER)


def foreign_layer(layer: Layer, *, urls: Sequence[str], dialect: Dialect) -> Layer:
    """Return ``layer`` as one that registries do not hold and clients fetch from ``urls``."""
    return replace(layer, media_type=dialect.foreign_layer, urls=tuple(urls))


def payload_layer(size_bytes: int, *, seed: object, name: str | None = None) -> Layer:
    """Return a real tar layer with one file of ``size_bytes`` random bytes (the layer is slightly bigger)."""
    path = name or f"payload/{sha256(repr(seed).encode()).hexdigest()[:12]}"
    return gzip_layer(tar_of({path: random_bytes(size_bytes, seed=seed)}), level=0)


def busybox_layer() -> Layer:
    """Return a root file system that runs: the machine's static busybox with a few of its commands."""
    binary = Path(find_program("busybox")).read_bytes()
    files = {"bin/busybox": binary, "etc/passwd": b"root:x:0:0:root:/:/bin/sh\n", "tmp/.keep": b""}
    return gzip_layer(tar_of(files, links={f"bin/{applet}": "busybox" for applet in _APPLETS}), level=1)


def compose(
    layers: Sequence[Layer],
    *,
    dialect: Dialect = Dialect.OCI,
    architecture: str = "amd64",
    label: str = "",
    command: Sequence[str] = ("/bin/sh",),
) -> Image:
    """Return an image of ``layers`` that runs ``command``; ``label`` makes otherwise equal images differ."""
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": EPOCH,
            "config": {"Env": ["PATH=/bin"], "Cmd": [*command], "Labels": {"testbed": label}},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": EPOCH, "created_by": "testbed"} for _ in layers],
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": dialect.manifest,
        "config": _descriptor(config, media_type=dialect.config),
        "layers": [_layer_descriptor(layer, dialect=dialect) for layer in layers],
    }
    held = {layer.digest: layer.data for layer in layers if not layer.urls}
    return Image(
        manifests=(Manifest(media_type=dialect.manifest, data=_json(manifest)),),
        blobs={digest_of(config): config, **held},
        layers=tuple(dict.fromkeys(layer.digest for layer in layers)),
    )


def index_of(images: Mapping[str, Image], *, dialect: Dialect = Dialect.OCI) -> Image:
    """Return a multi-platform image; ``images`` maps an architecture to its image."""
    entries = [
        {
            **_descriptor(image.root.data, media_type=image.root.media_type),
            "platform": {"architecture": architecture, "os": "linux"},
        }
        for architecture, image in images.items()
    ]
    root = Manifest(
        media_type=dialect.index,
        data=_json({"schemaVersion": 2, "mediaType": dialect.index, "manifests": entries}),
    )
    blobs = {digest: data for image in images.values() for digest, data in image.blobs.items()}
    layers = tuple(dict.fromkeys(digest for image in images.values() for digest in image.layers))
    return Image(
        manifests=(*(part for image in images.values() for part in image.manifests), root), blobs=blobs, layers=layers
    )


def runnable(*, seed: object = 0, dialect: Dialect = Dialect.OCI, payload_bytes: int = 64 * 1024) -> Image:
    """Return a small image that ``docker run`` starts: busybox and one layer of random bytes."""
    return compose([busybox_layer(), payload_layer(payload_bytes, seed=seed)], dialect=dialect, label=repr(seed))


def multi_platform(
    *, seed: object = 0, dialect: Dialect = Dialect.OCI, payload_bytes: int = 64 * 1024
) -> dict[str, Image]:
    """Return ``amd64``, ``arm64`` and ``index``: two images of different payloads and the index over them."""
    parts = {
        architecture: compose(
            [busybox_layer(), payload_layer(payload_bytes, seed=(seed, architecture))],
            dialect=dialect,
            architecture=architecture,
        )
        for architecture in ("amd64", "arm64")
    }
    return {**parts, "index": index_of(parts, dialect=dialect)}


def sharing(count: int, *, seed: object = 0, shared_bytes: int = MIB, own_bytes: int = 64 * 1024) -> list[Image]:
    """Return ``count`` images on the same two layers, each with one layer of its own."""
    base = [busybox_layer(), payload_layer(shared_bytes, seed=(seed, "shared"))]
    return [
        compose([*base, payload_layer(own_bytes, seed=(seed, number))], label=f"{seed!r}/{number}")
        for number in range(count)
    ]


def layered(sizes_bytes: Sequence[int], *, seed: object = 0, dialect: Dialect = Dialect.OCI) -> Image:
    """Return an image of one real tar layer per size; for pulls by real clients in benches."""
    layers = [payload_layer(size, seed=(seed, number)) for number, size in enumerate(sizes_bytes)]
    return compose(layers, dialect=dialect, label=repr(seed))


def opaque(sizes_bytes: Sequence[int], *, seed: object = 0, dialect: Dialect = Dialect.OCI) -> Image:
    """Return an image whose layers are random bytes of *exactly* these sizes; HTTP clients only, it does not unpack.

    They are made when the image is first looked at: every worker of a test run imports all modules.
    """
    return _Later(lambda: _opaque(sizes_bytes, seed=seed, dialect=dialect))


def _opaque(sizes_bytes: Sequence[int], *, seed: object, dialect: Dialect) -> Image:
    blobs = [random_bytes(size, seed=(seed, number)) for number, size in enumerate(sizes_bytes)]
    return compose([Layer(data=data, diff_id=digest_of(data)) for data in blobs], dialect=dialect, label=repr(seed))


class _Later(Image):
    """An image whose fields are made when one of them is asked for."""

    __slots__ = ("_lock", "_make")
    _lock: threading.Lock
    _make: Callable[[], Image]

    def __init__(self, make: Callable[[], Image]) -> None:
        object.__setattr__(self, "_make", make)
        object.__setattr__(self, "_lock", threading.Lock())

    def __getattr__(self, name: str) -> object:  # only asked for what is not set yet
        if name not in {each.name for each in fields(Image)}:
            raise AttributeError(name)
        with self._lock:
            made = self._make()
            for each in fields(Image):
                object.__setattr__(self, each.name, getattr(made, each.name))
        return getattr(self, name)


def write_layout(image: Image, directory: Path, *, tag: str = "latest") -> Path:
    """Write ``image`` as an OCI layout (image-layout.md) and return ``directory``."""
    held = {**image.blobs, **{manifest.digest: manifest.data for manifest in image.manifests}}
    (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    for digest, data in held.items():
        (directory / "blobs" / "sha256" / digest.partition(":")[2]).write_bytes(data)
    (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    entry = {
        **_descriptor(image.root.data, media_type=image.root.media_type),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
    return directory


class PushError(Exception):
    """A registry refused a part of a push."""


@dataclass(slots=True, kw_only=True)
class Pusher:
    """Pushes images to one registry by the distribution API, one request at a time over one connection."""

    base_url: str
    authorization: str | None = field(default=None, repr=False)
    """A whole ``Authorization`` header."""
    tls: ssl.SSLContext | None = None
    timeout_s: float = 60.0

    def push(self, image: Image, repository: str, tag: str = "latest") -> str:
        """Push blobs, manifests and tag; return ``repository@digest``. Raises :class:`PushError`."""
        connection = self._connect()
        try:
            for digest, data in image.blobs.items():
                self._push_blob(connection, repository, digest, data)
            for manifest in image.manifests:
                self._put_manifest(connection, repository, manifest.digest, manifest)
            self._put_manifest(connection, repository, tag, image.root)
        finally:
            connection.close()
        return f"{repository}@{image.digest}"

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.base_url)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.netloc, timeout=self.timeout_s, context=self.tls)
        return http.client.HTTPConnection(parts.netloc, timeout=self.timeout_s)

    def _push_blob(self, connection: http.client.HTTPConnection, repository: str, digest: str, data: bytes) -> None:
        if self._ask(connection, "HEAD", f"/v2/{repository}/blobs/{digest}", wanted=(200, 404))[0] == 200:
            return
        _, location = self._ask(connection, "POST", f"/v2/{repository}/blobs/uploads/", wanted=(202,))
        parts = urlsplit(location)
        query = f"{parts.query}&digest={digest}" if parts.query else f"digest={digest}"
        self._ask(connection, "PUT", f"{parts.path}?{query}", body=data, wanted=(201,))

    def _put_manifest(
        self, connection: http.client.HTTPConnection, repository: str, reference: str, manifest: Manifest
    ) -> None:
        target = f"/v2/{repository}/manifests/{reference}"
        self._ask(connection, "PUT", target, body=manifest.data, content_type=manifest.media_type, wanted=(201,))

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        *,
        wanted: tuple[int, ...],
        body: bytes = b"",
        content_type: str = "application/octet-stream",
    ) -> tuple[int, str]:
        headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
        if self.authorization:
            headers["Authorization"] = self.authorization
        connection.request(method, target, body=body or None, headers=headers)
        response = connection.getresponse()
        text = response.read()
        if response.status not in wanted:
            raise PushError(f"{method} {target} at {self.base_url}: {response.status} {text[:500]!r}")
        return response.status, response.headers.get("Location", "")


def push(image: Image, base_url: str, repository: str, tag: str = "latest") -> str:
    """Push to a registry that asks for no password; see :class:`Pusher` for the others."""
    return Pusher(base_url=base_url).push(image, repository, tag)


def _layer_descriptor(layer: Layer, *, dialect: Dialect) -> dict[str, object]:
    media_type = layer.media_type or dialect.layer
    described: dict[str, object] = {"mediaType": media_type, "digest": layer.digest, "size": len(layer.data)}
    return {**described, "urls": list(layer.urls)} if layer.urls else described


def _descriptor(data: bytes, *, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
