"""Numbers, dates and times as headers and JSON have them."""

from libc.string cimport memcpy, strlen

ctypedef struct parts_t:
    int64_t year, month, day, weekday, hour, minute, second

cdef const char* DAYS = b"SunMonTueWedThuFriSat"
cdef const char* MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"


cdef inline uint8_t* put(uint8_t* at, const void* text, size_t length) noexcept nogil:
    memcpy(at, text, length)
    return at + length


cdef inline uint8_t* put_literal(uint8_t* at, const char* text) noexcept nogil:
    return put(at, text, strlen(text))


cdef uint8_t* put_number(uint8_t* at, int64_t number, int digits) noexcept nogil:
    """Write a number that is not negative, with at least so many digits."""
    cdef uint8_t reversed[20]
    cdef int count = 0
    while number or count < digits:
        reversed[count] = <uint8_t>(c'0' + number % 10)
        number //= 10
        count += 1
    while count:
        count -= 1
        at[0] = reversed[count]
        at += 1
    return at


cdef void split(int64_t moment_s, parts_t* parts) noexcept nogil:
    """Split seconds since 1970 into date and time of UTC. (gmtime_r takes a lock, and reads a file the first time.)

    Years begin in March here, so that the leap day is the last of one, and come in eras of 400.
    https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    """
    cdef int64_t days = moment_s // 86400, seconds = moment_s % 86400
    cdef int64_t era = (days + 719468) // 146097
    cdef int64_t of_era = days + 719468 - era * 146097
    cdef int64_t year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    cdef int64_t of_year = of_era - (365 * year + year // 4 - year // 100)
    cdef int64_t month = (5 * of_year + 2) // 153
    parts.day = of_year - (153 * month + 2) // 5 + 1
    parts.month = month + 3 if month < 10 else month - 9
    parts.year = year + era * 400 + (parts.month <= 2)
    parts.weekday = (days + 4) % 7
    parts.hour = seconds // 3600
    parts.minute = seconds // 60 % 60
    parts.second = seconds % 60


cdef uint8_t* put_time(uint8_t* at, const parts_t* parts) noexcept nogil:
    at = put_number(at, parts.hour, 2)
    at = put_number(put_literal(at, b":"), parts.minute, 2)
    return put_number(put_literal(at, b":"), parts.second, 2)


cdef uint8_t* put_http_date(uint8_t* at, int64_t moment_s) noexcept nogil:
    """Write an IMF-fixdate (RFC 9110 section 5.6.7)."""
    cdef parts_t parts
    split(moment_s, &parts)
    at = put(at, DAYS + 3 * parts.weekday, 3)
    at = put_number(put_literal(at, b", "), parts.day, 2)
    at = put(put_literal(at, b" "), MONTHS + 3 * (parts.month - 1), 3)
    at = put_number(put_literal(at, b" "), parts.year, 4)
    return put_literal(put_time(put_literal(at, b" "), &parts), b" GMT")


cdef uint8_t* put_timestamp(uint8_t* at, int64_t moment_s) noexcept nogil:
    """Write a date and time of RFC 3339."""
    cdef parts_t parts
    split(moment_s, &parts)
    at = put_number(at, parts.year, 4)
    at = put_number(put_literal(at, b"-"), parts.month, 2)
    at = put_number(put_literal(at, b"-"), parts.day, 2)
    return put_literal(put_time(put_literal(at, b"T"), &parts), b"Z")
