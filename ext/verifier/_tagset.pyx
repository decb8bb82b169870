"""Sets of tags, each as one piece of bytes: 32 bytes a tag, strictly ascending. Tombstones are such sets.

A million tags are 32 MB this way instead of 100 MB of Python objects, and looking one up takes no more than a search.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp

from verifier._lookup cimport (
    ABSENT_FLAG, AT_FLAGS, FINGERPRINT_BITS, KEY_BYTES, REVOKED_FLAG, find, load16, prefetch_record, prefetch_slot,
)
from verifier._tag cimport TAG_BYTES, pepper_init, pepper_t, tag_of_digest
from verifier._view cimport View, keyring_t, view_t

from verifier.errors import InvalidInput

cdef enum:
    PEPPERS_MAX = 4
    AHEAD = 16                 # lookups in flight: a slot is fetched so many tags ahead, a record half as many
    SETS_MAX = 4

cdef extern from "<string.h>" nogil:
    void explicit_bzero(void* data, size_t length)


cdef int compare(const void* one, const void* other) noexcept nogil:
    return memcmp(one, other, TAG_BYTES)


cdef Py_ssize_t search(const uint8_t* tags, Py_ssize_t count, const uint8_t* tag) noexcept nogil:
    # Where the tag stands, or -1.
    cdef Py_ssize_t low = 0, high = count, middle
    cdef int order
    while low < high:
        middle = (low + high) >> 1
        order = memcmp(tags + middle * TAG_BYTES, tag, TAG_BYTES)
        if order == 0:
            return middle
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return -1


cdef bint is_live(const uint8_t* record) noexcept nogil:
    return record != NULL and not load16(record + AT_FLAGS) & (REVOKED_FLAG | ABSENT_FLAG)


cdef Py_ssize_t live_of_tags(const keyring_t* base, const keyring_t* delta, const uint8_t* tags,
                             Py_ssize_t count) noexcept nogil:
    # The first tag whose record, in the delta or else in the base, is not REVOKED. Either may have no slots.
    cdef Py_ssize_t at
    cdef const uint8_t* tag
    cdef const uint8_t* record
    for at in range(count):
        if at + AHEAD < count:
            prefetch_slot(base, tags + (at + AHEAD) * TAG_BYTES)
            prefetch_record(base, tags + (at + AHEAD // 2) * TAG_BYTES)
        tag = tags + at * TAG_BYTES
        record = find(delta, tag) if delta.slots != NULL else NULL
        if record == NULL and base.slots != NULL:
            record = find(base, tag)
        # The tag's head is the record's key, and its rest begins the record: they lie together in the file.
        if is_live(record) and memcmp(record - KEY_BYTES, tag, TAG_BYTES) == 0:
            return at
    return -1


cdef Py_ssize_t live_of_keyring(const keyring_t* keyring, const uint8_t* tags, Py_ssize_t count) noexcept nogil:
    # The same from the other end, for a keyring of few records: the first record that is not REVOKED and in the set.
    cdef uint64_t at
    cdef Py_ssize_t found
    cdef const uint8_t* key
    if keyring.slots == NULL:
        return -1
    for at in range(keyring.slot_count):
        if keyring.slots[at] != 0:
            key = keyring.data + (keyring.slots[at] >> FINGERPRINT_BITS)
            if is_live(key + KEY_BYTES):
                found = search(tags, count, key)
                if found >= 0:
                    return found
    return -1


cdef const uint8_t* checked(bytes tags, Py_ssize_t* count) except NULL:
    if len(tags) % TAG_BYTES:
        raise InvalidInput("a set of tags has 32 bytes for each")
    count[0] = len(tags) // TAG_BYTES
    return <const uint8_t*>PyBytes_AS_STRING(tags)


# --- Python ----------------------------------------------------------------------------------------------------------

def find_unrevoked(View view not None, bytes tags not None, str layer="view") -> int:
    """Find a tag of a set whose record is there and not REVOKED, with the GIL released.

    Args:
        view: a publication that passed its checks.
        tags: the set.
        layer: `view` asks what is served, `base` the base keyring alone, `delta` the delta alone. The time goes with
            the number of tags, but for `delta` with that of the delta's records.

    Returns:
        Which tag it is, or -1: none is alive.
    """
    cdef Py_ssize_t count, found
    cdef const uint8_t* data = checked(tags, &count)
    cdef view_t* v = &view.view
    cdef keyring_t none
    none.data, none.slots, none.slot_count = NULL, NULL, 0
    if layer not in ("view", "base", "delta"):
        raise InvalidInput(f"{layer!r} is no layer of a publication")
    cdef bint of_delta = layer == "delta", of_base = layer == "base"
    with nogil:
        if of_delta:
            found = live_of_keyring(&v.delta, data, count)
        else:
            found = live_of_tags(&v.base, &none if of_base else &v.delta, data, count)
    return found


def first_disorder(bytes tags not None) -> int:
    """Return which tag is not greater than the one before it, or -1: they ascend strictly."""
    cdef Py_ssize_t count, at
    cdef const uint8_t* data = checked(tags, &count)
    for at in range(1, count):
        if memcmp(data + (at - 1) * TAG_BYTES, data + at * TAG_BYTES, TAG_BYTES) >= 0:
            return at
    return -1


def first_missing(bytes wanted not None, sets) -> int:
    """Return which tag of a set is in none of the others (at most 4), or -1: they hold them all."""
    cdef const uint8_t* data[SETS_MAX]
    cdef Py_ssize_t counts[SETS_MAX]
    cdef Py_ssize_t count, at, missing = -1
    cdef int set_count = 0, n
    cdef const uint8_t* tags = checked(wanted, &count)
    if len(sets) > SETS_MAX:
        raise InvalidInput(f"at most {SETS_MAX} sets")
    sets = tuple(sets)
    for one in sets:
        data[set_count] = checked(one, &counts[set_count])
        set_count += 1
    with nogil:
        for at in range(count):
            n = 0
            while n < set_count and search(data[n], counts[n], tags + at * TAG_BYTES) < 0:
                n += 1
            if n == set_count:
                missing = at
                break
    return missing


def contains(bytes tags not None, bytes tag not None) -> bool:
    """Tell whether a tag is in a set."""
    cdef Py_ssize_t count
    cdef const uint8_t* data = checked(tags, &count)
    if len(tag) != TAG_BYTES:
        raise InvalidInput("a tag has 32 bytes")
    return search(data, count, <const uint8_t*>PyBytes_AS_STRING(tag)) >= 0


def relayered(bytes tags not None, peppers) -> bytes:
    """Return tags under further peppers, each a layer over the one before: in the same order, so in general unsorted.

    Args:
        tags: any number of tags, 32 bytes each; they need not be sorted.
        peppers: the secrets of the further layers, at most 4.
    """
    cdef pepper_t states[PEPPERS_MAX]
    cdef Py_ssize_t count, at
    cdef int layers = 0
    cdef bytes secret
    cdef const uint8_t* data = checked(tags, &count)
    if len(peppers) > PEPPERS_MAX:
        raise InvalidInput(f"at most {PEPPERS_MAX} peppers")
    for secret in peppers:
        pepper_init(&states[layers], <const uint8_t*>PyBytes_AS_STRING(secret), len(secret))
        layers += 1
    result = PyBytes_FromStringAndSize(NULL, count * TAG_BYTES)
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(result)
    with nogil:
        for at in range(count):
            tag_of_digest(states, layers, data + at * TAG_BYTES, out + at * TAG_BYTES)
        explicit_bzero(states, sizeof(states))
    return result


def ordered(bytes tags not None) -> bytes:
    """Return tags in ascending order."""
    cdef Py_ssize_t count
    checked(tags, &count)
    result = PyBytes_FromStringAndSize(PyBytes_AS_STRING(tags), len(tags))
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(result)
    with nogil:
        qsort(out, <size_t>count, TAG_BYTES, compare)
    return result
