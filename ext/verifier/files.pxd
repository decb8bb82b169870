# Whole reads and writes of files, at a given place and without the GIL.

from libc.errno cimport EINTR, EIO, errno
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from posix.types cimport off_t
from posix.unistd cimport pread, pwrite


cdef inline int transfer(int fd, uint8_t* data, size_t length, uint64_t offset, bint writing) noexcept nogil:
    # Reads or writes all of it; 0, or the error number.
    cdef ssize_t done
    while length:
        if writing:
            done = pwrite(fd, data, length, <off_t>offset)
        else:
            done = pread(fd, data, length, <off_t>offset)
        if done < 0:
            if errno == EINTR:
                continue
            return errno
        if done == 0:
            return EIO
        data += done
        offset += <uint64_t>done
        length -= <size_t>done
    return 0
