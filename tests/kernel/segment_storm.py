"""A process that appends to a segment table, folds it and collects its garbage as fast as it can, until it is killed.

It prints the key of each append once that is acknowledged.

python segment_storm.py ADDRESS BLOBS FIRST
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
from functools import partial

import polars as pl

from salus.backends.addresses import open_blobs, open_database
from salus.kernel.segments import Segments, SegmentSettings
from salus.kernel.segments_files import StagedFile
from salus.kernel.sql import Transaction
from salus.server.maintenance import Maintenance

TABLE = "predictions:default/storm"
ROWS = 20
SETTINGS = SegmentSettings(inline_bytes=2_000, fold_files=4, target_bytes=200_000, grace_s=4.0)


def rows_of(key: int) -> pl.DataFrame:
    """What the append `key` adds; every seventh is too large to stay in the database."""
    count = ROWS * 50 if key % 7 == 0 else ROWS
    noise = random.Random(key)
    return pl.DataFrame({"key": [key] * count, "row": range(count), "value": [noise.random() for _ in range(count)]})


def main(address: str, blobs: str, first: int) -> None:
    database = open_database(address)
    segments = Segments(open_blobs(blobs), settings=SETTINGS)
    keys = itertools.count(first)
    printing = threading.Lock()

    def append(tx: Transaction, *, key: int, staged: StagedFile) -> None:
        segments.append_staged(tx, TABLE, [staged], key=f"storm/{key}")

    def write() -> None:
        while True:
            key = next(keys)
            staged = segments.stage(rows_of(key), sort_by="key")
            for _ in range(1 + key % 2):  # every second one is sent twice, as after a lost answer
                database.write(partial(append, key=key, staged=staged))
            with printing:
                sys.stdout.write(f"{key}\n")
                sys.stdout.flush()

    Maintenance(database, segments, compact_every_s=0.05, collect_every_s=0.2).start()
    threads = [threading.Thread(target=write, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
