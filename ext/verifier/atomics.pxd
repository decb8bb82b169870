# Loads and stores with acquire and release order, for what threads share without a lock.
# (libcpp.atomic would force C++.)

from libc.stdint cimport int64_t

cdef extern from *:
    """
    static inline int64_t verifier_load_i64(const int64_t* at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
    static inline void verifier_store_i64(int64_t* at, int64_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
    static inline void* verifier_load_ptr(void* const* at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
    static inline void verifier_store_ptr(void** at, void* value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
    """
    int64_t load_i64 "verifier_load_i64"(const int64_t* at) noexcept nogil
    void store_i64 "verifier_store_i64"(int64_t* at, int64_t value) noexcept nogil
    void* load_ptr "verifier_load_ptr"(void** at) noexcept nogil
    void store_ptr "verifier_store_ptr"(void** at, void* value) noexcept nogil
