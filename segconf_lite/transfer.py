"""Download of one file, which may be neither endless nor endlessly slow, and goes on where it was cut off."""

from __future__ import annotations

import time
from pathlib import Path


def download(url: str, target: str | Path, *, most_bytes: int, most_seconds: float) -> None:
    """Write what lies behind an address into a file.

    What arrives is kept in a hidden file beside `target`, ``.NAME.part`` after the name in the address. If
    the connection breaks, the next call asks for the rest, also from another address of the same file, and
    starts anew where a server does not answer with that rest. Whether the parts belong together is known only
    after the caller has compared a sum. Two calls at once for one name in one folder are not supported.

    Args:
        url: The address.
        target: The file; it is replaced when all has arrived.
        most_bytes: Bytes at which the download is stopped and dropped.
        most_seconds: Seconds after which it is stopped and dropped.

    Raises:
        ConnectionError: If it was stopped.
        OSError: If the server cannot be reached or refuses, or the file cannot be written.

    Example:
        >>> download("http://127.0.0.1:9/a.txt", "a.txt", most_bytes=9, most_seconds=9)
        Traceback (most recent call last):
        requests.exceptions.ConnectionError: ...
    """
    import requests  # takes 0.1 s, and most sessions download nothing

    target = Path(target)
    part = target.with_name(f".{url.rpartition('/')[2]}.part")
    n_bytes, start = part.stat().st_size if part.is_file() else 0, time.monotonic()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={n_bytes}-"} if n_bytes else {})
    with requests.get(url, stream=True, timeout=30, headers=headers) as response:
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {n_bytes}-")
        if response.status_code == 416 and n_bytes:  # there is no rest
            part.unlink()
            return download(url, target, most_bytes=most_bytes, most_seconds=most_seconds)
        response.raise_for_status()
        if not (response.status_code == 206 and resumed):
            n_bytes = 0
        with part.open("ab" if n_bytes else "wb") as file:
            for chunk in response.iter_content(2**16):
                n_bytes += len(chunk)
                if n_bytes > most_bytes or time.monotonic() - start > most_seconds:
                    part.unlink()
                    raise ConnectionError(f"stopped at {n_bytes} bytes: the file is too large or too slow")
                file.write(chunk)
    part.replace(target)
