"""A process that writes as fast as it can until it is killed; it prints each number once its write is
acknowledged.

python write_storm.py ADDRESS
"""

from __future__ import annotations

import itertools
import sys
import threading
from functools import partial

import sqlalchemy as sa

from salus.backends.addresses import open_database
from salus.kernel.identity import Actor
from salus.kernel.sql import Event, Transaction

numbers = sa.Table("numbers", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True))


class NumberAdded(Event):
    number: int


def main(address: str) -> None:
    database = open_database(address)
    actor = Actor(principal="storm", role="editor")
    count = itertools.count()
    printing = threading.Lock()

    def add(tx: Transaction, *, number: int) -> None:
        tx.execute(sa.insert(numbers).values(number=number))
        tx.emit(actor, f"number:{number}", NumberAdded(number=number))

    def write() -> None:
        while True:
            number = next(count)
            database.write(partial(add, number=number))
            with printing:
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()

    threads = [threading.Thread(target=write, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
