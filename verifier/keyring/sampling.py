"""The two ways to a record of a keyring, compared: through the slots, and through LMDB."""

import random
from pathlib import Path

import lmdb

from verifier.errors import UnsoundPublication
from verifier.keyring.reader import HEAD_BYTES, KeyringFile

SAMPLES = 1000


def compare_with_lmdb(path: Path, file: KeyringFile, samples: int = SAMPLES) -> int:
    """Look records up through the slots and through LMDB; return how many.

    Only for files that are known to be whole: LMDB may crash on others.

    Args:
        path: of the file.
        file: the same, open.
        samples: how many records to look up, at most. They are chosen evenly, and the same every time.

    Raises:
        UnsoundPublication: FORMAT; the two disagree.
    """
    chosen = random.Random(file.size)  # noqa: S311 - nobody gains by guessing it
    try:
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_dbs=4) as environment:
            keys = environment.open_db(b"keys", create=False)
            with environment.begin(db=keys) as transaction, transaction.cursor() as cursor:
                if transaction.stat(keys)["entries"] != file.records:
                    raise UnsoundPublication("LMDB counts another number of records")
                for done in range(min(samples, file.records)):
                    if not cursor.set_range(chosen.randbytes(HEAD_BYTES)) and not cursor.first():
                        raise UnsoundPublication(f"LMDB finds no record after {done}")
                    found = file.find(cursor.key())
                    if found is None or found[1] != cursor.value():
                        raise UnsoundPublication(f"the index does not lead to the record of {cursor.key().hex()}")
    except lmdb.Error as error:
        raise UnsoundPublication(f"LMDB cannot read it: {error}") from error
    return min(samples, file.records)
