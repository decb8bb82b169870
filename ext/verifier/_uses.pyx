"""How often each version was verified, as rows that are merged and cut in C: millions of them are added up in the time
between two reports, which dictionaries would neither hold nor manage.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from verifier._wire cimport varint_length, write_varint

cdef enum:
    MOST = 0xFFFFFFFF          # that one row counts, as one report can say

    # Fields of ReportUsageRequest, packed: number and wire type.
    ORDINALS = 6 << 3 | 2
    VALID = 7 << 3 | 2
    REFUSED = 8 << 3 | 2


cdef inline size_t head_length(size_t length) noexcept nogil:
    return 1 + varint_length(length)


cdef inline uint8_t* write_head(uint8_t* at, int field, size_t length) noexcept nogil:
    at[0] = <uint8_t>field
    return write_varint(at + 1, length)


cdef use_t* rows_new(size_t count) noexcept nogil:
    return <use_t*>malloc((count if count else 1) * sizeof(use_t))


cdef Uses uses_of(use_t* rows, size_t count):
    cdef Uses uses = Uses.__new__(Uses)
    free(uses.rows)
    uses.rows = rows
    uses.count = count
    return uses


cdef inline uint32_t moved(uint32_t* total, uint32_t more) noexcept nogil:
    """Add as much as fits; return the rest."""
    cdef uint32_t room = <uint32_t>MOST - total[0]
    if more <= room:
        total[0] += more
        return 0
    total[0] = <uint32_t>MOST
    return more - room


cdef size_t append(use_t* rows, size_t count, use_t row) noexcept nogil:
    """Append a row, or add it to the last one if that is of the same version; return the number of rows."""
    if count and rows[count - 1].ordinal == row.ordinal:
        row.valid = moved(&rows[count - 1].valid, row.valid)
        row.refused = moved(&rows[count - 1].refused, row.refused)
        if row.valid == 0 and row.refused == 0:
            return count
    rows[count] = row
    return count + 1


cdef size_t merge(const use_t* one, size_t one_count, const use_t* other, size_t other_count,
                  use_t* rows) noexcept nogil:
    cdef size_t i = 0, j = 0, count = 0
    while i < one_count or j < other_count:
        if j == other_count or (i < one_count and one[i].ordinal <= other[j].ordinal):
            count = append(rows, count, one[i])
            i += 1
        else:
            count = append(rows, count, other[j])
            j += 1
    return count


cdef size_t run_of(const use_t* rows, size_t count) noexcept nogil:
    """How many rows, from the first, name each version once."""
    cdef size_t i
    for i in range(1, count):
        if rows[i].ordinal == rows[i - 1].ordinal:
            return i
    return count


cdef class Uses:
    """Counts by version ordinal, ascending. One thread at a time.

    Args:
        rows: triples (ordinal, valid, refused), ascending, for tests; what loops have counted comes from `Usage.drain`.

    Raises:
        ValueError: not ascending.
    """

    def __cinit__(self, rows=()):
        cdef use_t row
        rows = list(rows)
        self.rows = rows_new(len(rows))
        if self.rows == NULL:
            raise MemoryError
        for ordinal, valid, refused in rows:
            if self.count and ordinal < self.rows[self.count - 1].ordinal:
                raise ValueError("ordinals must ascend")
            row.ordinal, row.valid, row.refused = ordinal, valid, refused
            self.count = append(self.rows, self.count, row)

    def __dealloc__(self):
        free(self.rows)

    def __len__(self):
        return self.count - self.first

    def merged(self, Uses other not None) -> Uses:
        """Return the sum of both, in memory of its own, with the GIL released meanwhile.

        Raises:
            MemoryError: nothing was changed.
        """
        cdef size_t count = 0
        cdef use_t* rows
        if len(self) == 0:
            return other
        if len(other) == 0:
            return self
        with nogil:
            rows = rows_new(self.count - self.first + other.count - other.first)
            if rows != NULL:
                count = merge(self.rows + self.first, self.count - self.first,
                              other.rows + other.first, other.count - other.first, rows)
        if rows == NULL:
            raise MemoryError
        return uses_of(rows, count)

    def take(self, size_t limit) -> bytes:
        """Take up to `limit` rows away, from the lowest ordinal on.

        Returns:
            The fields `ordinals`, `valid` and `refused` of a ReportUsageRequest as they are on the wire, to be merged
            into one: a list of Python numbers would cost more than all else about a report. No version is named twice:
            counts beyond 32 bits, which are those of a long time without an acknowledgement, come with the next call.
        """
        cdef size_t left = self.count - self.first
        cdef const use_t* rows = self.rows + self.first
        cdef size_t count = run_of(rows, left if left < limit else limit)
        cdef size_t valid_bytes = 0, refused_bytes = 0, i
        cdef uint8_t* at
        if count == 0:
            return b""
        for i in range(count):
            valid_bytes += varint_length(rows[i].valid)
            refused_bytes += varint_length(rows[i].refused)
        fields = PyBytes_FromStringAndSize(NULL, head_length(4 * count) + 4 * count + head_length(valid_bytes)
                                           + valid_bytes + head_length(refused_bytes) + refused_bytes)
        at = write_head(<uint8_t*>PyBytes_AS_STRING(fields), ORDINALS, 4 * count)
        for i in range(count):
            memcpy(at, &rows[i].ordinal, 4)    # little-endian here as there
            at += 4
        at = write_head(at, VALID, valid_bytes)
        for i in range(count):
            at = write_varint(at, rows[i].valid)
        at = write_head(at, REFUSED, refused_bytes)
        for i in range(count):
            at = write_varint(at, rows[i].refused)
        self.first += count
        return fields
