"""The 1,797 handwritten digits of scikit-learn: real data without a download.

Importing sklearn.datasets takes seconds (it imports pandas and scipy.stats), so the first load caches the
images in the data folder.
"""

from io import BytesIO
from pathlib import Path
from uuid import uuid4
from zipfile import BadZipFile
from zlib import error as ZlibError  # noqa: N812 - zlib spells its exception in lower case

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_COUNT = 1797


def read_digits(folder: Path) -> tuple[Bytes, Bytes]:
    """Return images [1797, 8, 8] with values 0..16 and targets [1797] with values 0..9.

    They are cached in `folder`/digits.npz. A broken file is replaced; if the folder is not writable, every
    call loads from scikit-learn.
    """
    path = folder / "digits.npz"
    cached = _read_cache(path)
    if cached is not None:
        return cached
    images, targets = _ask_sklearn()
    _write_cache(path, images, targets)
    return images, targets


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: under a temporary name first, then renamed.

    Raises:
        OSError: the folder cannot be written.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _ask_sklearn() -> tuple[Bytes, Bytes]:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow, see the top of this file

    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.uint8)


def _read_cache(path: Path) -> tuple[Bytes, Bytes] | None:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            images, targets = arrays["images"], arrays["targets"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, ZlibError):
        return None  # missing or broken; scikit-learn is the source
    return (images, targets) if _is_sound(images, targets) else None


def _is_sound(images: Bytes, targets: Bytes) -> bool:
    return (
        images.shape == (_COUNT, 8, 8)
        and targets.shape == (_COUNT,)
        and images.dtype == targets.dtype == np.uint8
        and bool(images.max() <= 16 and targets.max() <= 9)  # noqa: PLR2004 - shades and classes
    )


def _write_cache(path: Path, images: Bytes, targets: Bytes) -> None:
    content = BytesIO()
    np.savez_compressed(content, images=images, targets=targets)
    try:
        write_whole(path, content.getvalue())
    except OSError:
        return  # a read-only folder only makes the next load slower
