"""How often each version was verified, as rows that are merged and cut in C: millions of them are added up in the time
between two reports, which dictionaries would neither hold nor manage.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef enum:
    MOST = 0xFFFFFFFF          # that one row counts, as one report can say


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

    def take(self, size_t limit) -> tuple:
        """Take rows away, from the lowest ordinal on; return ordinals, valid and refused as sequences of numbers.

        No version is named twice in what is returned: counts beyond 32 bits, which are those of a long time without
        an acknowledgement, come with the next call.
        """
        cdef size_t left = self.count - self.first, count, i
        cdef const use_t* rows = self.rows + self.first
        count = run_of(rows, left if left < limit else limit)
        ordinals, valid, refused = [PyBytes_FromStringAndSize(NULL, 4 * count) for _ in range(3)]
        cdef uint32_t* to_ordinal = <uint32_t*>PyBytes_AS_STRING(ordinals)
        cdef uint32_t* to_valid = <uint32_t*>PyBytes_AS_STRING(valid)
        cdef uint32_t* to_refused = <uint32_t*>PyBytes_AS_STRING(refused)
        for i in range(count):
            to_ordinal[i] = rows[i].ordinal
            to_valid[i] = rows[i].valid
            to_refused[i] = rows[i].refused
        self.first += count
        return tuple(memoryview(column).cast("I") for column in (ordinals, valid, refused))
