# Numbers, dates and times as text. Each writes at `at` and returns the end of what it wrote.

from libc.stdint cimport int64_t, uint8_t

# A number that is not negative, with at least so many digits.
cdef uint8_t* put_number(uint8_t* at, int64_t number, int digits) noexcept nogil
# Seconds since 1970: "Sun, 06 Nov 1994 08:49:37 GMT", 29 bytes, and "1994-11-06T08:49:37Z", 20 bytes.
cdef uint8_t* put_http_date(uint8_t* at, int64_t moment_s) noexcept nogil
cdef uint8_t* put_timestamp(uint8_t* at, int64_t moment_s) noexcept nogil
