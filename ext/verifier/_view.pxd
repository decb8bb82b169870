# One publication as the hot path sees it: base and delta keyring, peppers, prefixes, revision. Immutable but for
# `confirmed_ms`. Loops hold view_t pointers; the Python object View owns the memory and must outlive them.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from verifier._map cimport Map
from verifier._tag cimport pepper_t
from verifier._usage cimport Usage, usage_t

cdef enum:
    PREFIXES_MAX = 64
    PREFIX_BYTES_MAX = 32
    PEPPERS_MAX = 4
    NATIVE = 0
    MIXED = 1

ctypedef struct keyring_t:
    const uint8_t* data        # the whole file, mapped
    const uint64_t* slots
    uint64_t slot_count

ctypedef struct prefix_t:
    uint8_t text[PREFIX_BYTES_MAX]
    uint8_t length
    uint8_t mode               # NATIVE or MIXED

ctypedef struct view_t:
    keyring_t base
    keyring_t delta            # slots is NULL: no delta
    const uint8_t* switches    # bit set = client off
    uint64_t switch_count      # bits
    int64_t revision
    int64_t confirmed_ms       # CLOCK_MONOTONIC; atomic: written by the loader, read by loops
    int64_t max_staleness_ms   # 0 = no limit
    pepper_t peppers[PEPPERS_MAX]
    int pepper_count
    prefix_t prefixes[PREFIXES_MAX]
    int prefix_count
    bint accepts_foreign

cdef class View:
    cdef view_t view
    cdef readonly Map base
    cdef readonly Map delta
    cdef Usage usage
    cdef usage_t* counts       # of usage; NULL: nothing is counted

    cdef int _attach(self, keyring_t* keyring, Map source, block) except -1
    cdef int _attach_switches(self, Map source, block) except -1
