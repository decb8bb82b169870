"""An external bucket sort of records, for the keyring builder.

Tags are uniform, so their first byte deals them evenly to 256 buckets; a bucket is sorted by itself when its turn
comes. What does not fit into memory goes to a temporary file, in extents of one bucket each.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EIO
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memset

from verifier._lookup cimport load16, load64, verifier_be64
from verifier._records cimport RECORD_SOUND, check_record
from verifier._tag cimport TAG_BYTES, TAG_HEAD_BYTES
from verifier.files cimport transfer

import os

from verifier._records import FAULTS
from verifier.errors import InvalidInput

cdef enum:
    BUCKETS = 256
    ENTRY_HEADER_BYTES = 2     # length of the value
    BATCH_ROWS = 4096          # rows of one list that Sorter.batches yields
    FIRST_BUFFER_BYTES = 8192

ctypedef struct bucket_t:
    uint8_t* data
    size_t used
    size_t capacity

ctypedef struct entry_t:
    uint64_t head              # first 8 bytes of the tag as a big-endian number
    const uint8_t* at          # length, tag head, value


cdef int compare(const void* one, const void* other) noexcept nogil:
    cdef uint64_t head = (<const entry_t*>one).head, other_head = (<const entry_t*>other).head
    if head != other_head:
        return -1 if head < other_head else 1
    return memcmp((<const entry_t*>one).at + ENTRY_HEADER_BYTES, (<const entry_t*>other).at + ENTRY_HEADER_BYTES,
                  TAG_BYTES)


cdef bint reserve(bucket_t* bucket, size_t more) noexcept nogil:
    # Makes room for `more` bytes; False when there is no memory.
    cdef size_t capacity = max(bucket.capacity, <size_t>FIRST_BUFFER_BYTES)
    cdef uint8_t* data
    if bucket.used + more <= bucket.capacity:
        return True
    while capacity < bucket.used + more:
        capacity += capacity >> 1
    data = <uint8_t*>realloc(bucket.data, capacity)
    if data == NULL:
        return False
    bucket.data = data
    bucket.capacity = capacity
    return True


cdef size_t entry_length(const uint8_t* entry) noexcept nogil:
    return ENTRY_HEADER_BYTES + TAG_HEAD_BYTES + load16(entry)


cdef size_t list_entries(const bucket_t* bucket, entry_t* entries) noexcept nogil:
    # Counts the entries of a bucket, and lists them unless `entries` is NULL. An entry that a fault of the disk made
    # longer than the bucket ends the list.
    cdef size_t count = 0, at = 0
    while at + ENTRY_HEADER_BYTES + TAG_BYTES <= bucket.used:
        if at + entry_length(bucket.data + at) > bucket.used:
            break
        if entries != NULL:
            entries[count].at = bucket.data + at
            entries[count].head = verifier_be64(load64(bucket.data + at + ENTRY_HEADER_BYTES))
        at += entry_length(bucket.data + at)
        count += 1
    return count


cdef const uint8_t* sort_entries(entry_t* entries, size_t count) noexcept nogil:
    # Returns the first entry whose tag head another one has too, or NULL.
    cdef size_t i
    qsort(entries, count, sizeof(entry_t), compare)
    for i in range(1, count):
        if (entries[i].head == entries[i - 1].head
                and memcmp(entries[i].at + ENTRY_HEADER_BYTES, entries[i - 1].at + ENTRY_HEADER_BYTES,
                           TAG_HEAD_BYTES) == 0):
            return entries[i].at
    return NULL


cdef void release(bucket_t* bucket) noexcept nogil:
    free(bucket.data)
    memset(bucket, 0, sizeof(bucket_t))


@cython.final
cdef class Sorter:
    """Takes records in any order, gives them back in ascending order of tags; memory is bounded by what it is told.

    Args:
        fd: an open temporary file to spill to. It is used when `memory_bytes` are full, and not touched before.
        memory_bytes: what the buffers may hold in all; while a bucket is sorted, that bucket comes on top
            (1/256 of everything, as tags are uniform).
        delta: accept ABSENT records.

    Raises (add, batches):
        InvalidInput: a tag or record is not sound (BAD_RECORD), or two records have one tag (DUPLICATE_TAG).
        OSError: the temporary file could not be written or read.
    """
    cdef bucket_t buckets[BUCKETS]
    cdef list extents              # for each bucket, (offset, length) in the temporary file
    cdef int fd
    cdef bint delta
    cdef size_t held, limit
    cdef entry_t* entries          # of the bucket that is being given back
    cdef size_t entry_count
    cdef readonly uint64_t count
    cdef readonly uint64_t spilled_bytes

    def __init__(self, int fd, size_t memory_bytes, *, bint delta=False):
        self.fd = fd
        self.limit = memory_bytes
        self.delta = delta
        self.extents = [[] for _ in range(BUCKETS)]

    def __dealloc__(self):
        cdef int i
        for i in range(BUCKETS):
            release(&self.buckets[i])
        free(self.entries)

    def add(self, rows) -> None:
        """Take a list (or any iterable) of rows: pairs of tag, 32 bytes, and record."""
        cdef bucket_t* bucket
        cdef const uint8_t* tag_bytes
        cdef const uint8_t* record_bytes
        cdef uint8_t* at
        cdef size_t length, needed
        cdef uint16_t short_length
        cdef int fault
        for tag, record in rows:
            if not PyBytes_CheckExact(tag) or not PyBytes_CheckExact(record) or PyBytes_GET_SIZE(tag) != TAG_BYTES:
                raise InvalidInput("a row is not a tag of 32 bytes and a record", code="BAD_RECORD")
            tag_bytes = <const uint8_t*>PyBytes_AS_STRING(tag)
            record_bytes = <const uint8_t*>PyBytes_AS_STRING(record)
            length = PyBytes_GET_SIZE(record)
            fault = check_record(record_bytes, length, self.delta)
            if fault != RECORD_SOUND:
                raise InvalidInput(f"the record of tag {tag[:4].hex()}... is not sound: {FAULTS[fault]}",
                                   code="BAD_RECORD")
            if memcmp(tag_bytes + TAG_HEAD_BYTES, record_bytes, TAG_BYTES - TAG_HEAD_BYTES) != 0:
                raise InvalidInput(f"the record of tag {tag[:4].hex()}... belongs to another tag", code="BAD_RECORD")
            bucket = &self.buckets[tag_bytes[0]]
            needed = ENTRY_HEADER_BYTES + TAG_HEAD_BYTES + length
            if self.held + needed > self.limit and self.held:
                self._spill()
            if not reserve(bucket, needed):
                raise MemoryError
            at = bucket.data + bucket.used
            short_length = <uint16_t>length
            memcpy(at, &short_length, ENTRY_HEADER_BYTES)
            memcpy(at + ENTRY_HEADER_BYTES, tag_bytes, TAG_HEAD_BYTES)
            memcpy(at + ENTRY_HEADER_BYTES + TAG_HEAD_BYTES, record_bytes, length)
            bucket.used += needed
            self.held += needed
            self.count += 1

    def _spill(self) -> None:
        cdef int i, error
        cdef bucket_t* bucket
        for i in range(BUCKETS):
            bucket = &self.buckets[i]
            if bucket.used == 0:
                continue
            with nogil:
                error = transfer(self.fd, bucket.data, bucket.used, self.spilled_bytes, True)
            if error:
                raise OSError(error, os.strerror(error), "temporary file")
            self.extents[i].append((self.spilled_bytes, bucket.used))
            self.spilled_bytes += bucket.used
            bucket.used = 0
        self.held = 0

    def batches(self):
        """Yield all rows as lists of pairs of tag head, 16 bytes, and record, ascending; once, after the last `add`."""
        cdef int i
        cdef size_t at
        cdef uint64_t given = 0
        if self.spilled_bytes:
            self._spill()
            for i in range(BUCKETS):
                release(&self.buckets[i])
        for i in range(BUCKETS):
            self._recall(i)
            self._sort(i)
            given += self.entry_count
            for at in range(0, self.entry_count, BATCH_ROWS):
                yield self._rows(at, min(<size_t>BATCH_ROWS, self.entry_count - at))
            release(&self.buckets[i])
        if given != self.count:
            raise OSError(EIO, "not all that was written came back", "temporary file")

    def _recall(self, int index) -> None:
        cdef bucket_t* bucket = &self.buckets[index]
        cdef size_t length
        cdef uint64_t offset
        cdef int error
        if self.extents[index] and not reserve(bucket, sum([length for _, length in self.extents[index]])):
            raise MemoryError
        for offset, length in self.extents[index]:
            with nogil:
                error = transfer(self.fd, bucket.data + bucket.used, length, offset, False)
            if error:
                raise OSError(error, os.strerror(error), "temporary file")
            bucket.used += length

    def _sort(self, int index) -> None:
        cdef bucket_t* bucket = &self.buckets[index]
        cdef const uint8_t* twice = NULL
        free(self.entries)
        self.entry_count = list_entries(bucket, NULL)
        self.entries = <entry_t*>malloc(max(<size_t>1, self.entry_count) * sizeof(entry_t))
        if self.entries == NULL:
            raise MemoryError
        with nogil:
            list_entries(bucket, self.entries)
            twice = sort_entries(self.entries, self.entry_count)
        if twice != NULL:
            head = (<const char*>twice)[ENTRY_HEADER_BYTES:ENTRY_HEADER_BYTES + TAG_HEAD_BYTES]
            raise InvalidInput(f"two records have the tag head {head.hex()}", code="DUPLICATE_TAG")

    def _rows(self, size_t first, size_t count) -> list:
        cdef list rows = []
        cdef size_t i
        cdef const char* at
        for i in range(first, first + count):
            at = <const char*>self.entries[i].at + ENTRY_HEADER_BYTES
            rows.append((PyBytes_FromStringAndSize(at, TAG_HEAD_BYTES),
                         PyBytes_FromStringAndSize(at + TAG_HEAD_BYTES, load16(self.entries[i].at))))
        return rows
