"""The bytes of a keyring in memory.

A keyring that is served lies in *sealed memory* by default: the file is copied into an anonymous memory file, which
is then sealed (`F_SEAL_*`), so that nothing that happens to the file on disk - truncation, a flipped bit, deletion -
can reach the process. Digest and structure are checked over the sealed bytes themselves, after sealing, so no race is
left between check and use. The memory lives exactly as long as the Map; nothing else frees it.
"""

import hashlib
import os

from libc.errno cimport EINTR, errno
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, mmap, munmap
from posix.unistd cimport close
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING

from verifier.errors import UnsoundPublication

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <sys/mman.h>
    #include <sys/sendfile.h>
    #include <sys/stat.h>
    #include <fcntl.h>
    #include <unistd.h>

    static int64_t verifier_file_size(int fd) {
        struct stat info;
        return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? (int64_t)info.st_size : -1;
    }
    """
    enum:
        MFD_CLOEXEC
        MFD_ALLOW_SEALING
        F_ADD_SEALS
        F_SEAL_SEAL
        F_SEAL_SHRINK
        F_SEAL_GROW
        F_SEAL_WRITE
        MAP_POPULATE
        POSIX_FADV_DONTNEED
    int memfd_create(const char* name, unsigned int flags) nogil
    ssize_t sendfile(int out_fd, int in_fd, void* offset, size_t count) nogil
    int fcntl(int fd, int command, int argument) nogil
    int posix_fadvise(int fd, long offset, long length, int advice) nogil
    long verifier_file_size(int fd) nogil

cdef enum:
    COPY_BYTES = 1 << 26       # one sendfile, so that a signal or a fault is noticed in between


cdef int copy_all(int target, int source, uint64_t size) noexcept nogil:
    """Copy `size` bytes; 0, or the errno of what failed, or -1 when the source ended early."""
    cdef uint64_t left = size
    cdef ssize_t count
    while left:
        count = sendfile(target, source, NULL, left if left < COPY_BYTES else COPY_BYTES)
        if count > 0:
            left -= <uint64_t>count
        elif count == 0:
            return -1
        elif errno != EINTR:
            return errno
    return 0


cdef class Map:
    """The bytes of one keyring file, read-only. Make one with `sealed`, `mapped` or `from_bytes`.

    Supports the buffer protocol; `len()` is its size in bytes.
    """

    def __cinit__(self):
        self._fd = -1

    def __dealloc__(self):
        if self._keep is None and self.data != NULL:
            # Giving gigabytes back takes a third of a second: no other Python thread shall wait for that.
            with nogil:
                munmap(<void*>self.data, self.size)
        if self._fd >= 0:
            with nogil:
                close(self._fd)

    @staticmethod
    def sealed(path, uint64_t size) -> Map:
        """Copy a file into sealed memory and map it.

        Args:
            path: the keyring file.
            size: its size in bytes, as the manifest says.

        Raises:
            UnsoundPublication: BAD_DIGEST when the file has another size.
            OSError: it cannot be read, or there is no memory.
        """
        cdef Map self = Map.__new__(Map)
        cdef int source = open_checked(path, size)
        cdef int fault
        try:
            self._fd = memfd_create(b"verifier-keyring", MFD_CLOEXEC | MFD_ALLOW_SEALING)
            if self._fd < 0:
                raise OSError(errno, os.strerror(errno), "memfd_create")
            with nogil:
                fault = copy_all(self._fd, source, size)
            if fault == -1:
                raise UnsoundPublication(f"keyring {path} ended while it was read", code="BAD_DIGEST")
            if fault != 0:
                raise OSError(fault, os.strerror(fault), str(path))
            # Ask for the pages back: the copy is what is served.
            posix_fadvise(source, 0, 0, POSIX_FADV_DONTNEED)
        finally:
            close(source)
        if fcntl(self._fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0:
            raise OSError(errno, os.strerror(errno), "F_ADD_SEALS")
        self.source = "sealed"
        self._attach(self._fd, size)
        return self

    @staticmethod
    def mapped(path, uint64_t size) -> Map:
        """Map a file as it lies on disk: half the memory, but whoever changes the file changes what is served.

        Arguments and errors as for `sealed`. Truncating the file afterwards kills the process (SIGBUS).
        """
        cdef Map self = Map.__new__(Map)
        cdef int source = open_checked(path, size)
        self._fd = source
        self.source = "mapped"
        self._attach(source, size)
        return self

    @staticmethod
    def from_bytes(bytes data not None) -> Map:
        """Serve bytes that are already in memory (tests and tools)."""
        cdef Map self = Map.__new__(Map)
        self._keep = data
        self.data = <const uint8_t*>PyBytes_AS_STRING(data)
        self.size = len(data)
        self.source = "bytes"
        return self

    cdef int _attach(self, int fd, uint64_t size) except -1:
        cdef void* address
        with nogil:
            address = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0)
        if address == MAP_FAILED:
            raise OSError(errno, os.strerror(errno), "mmap")
        self.data = <const uint8_t*>address
        self.size = size
        return 0

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes, in hex. The GIL is not held meanwhile."""
        return hashlib.sha256(self).hexdigest()

    def __len__(self) -> int:
        return self.size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void*>self.data, self.size, True, flags)

    def __releasebuffer__(self, Py_buffer* buffer):
        pass

    def __repr__(self) -> str:
        return f"<Map {self.source} {self.size} bytes>"


cdef int open_checked(path, uint64_t size) except -1:
    """Open a file for reading and compare its size with what is expected."""
    cdef bytes name = os.fsencode(path)
    cdef long actual
    cdef int fd = open(name, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        raise OSError(errno, os.strerror(errno), str(path))
    actual = verifier_file_size(fd)
    if actual < 0 or <uint64_t>actual != size or size == 0:
        close(fd)
        raise UnsoundPublication(f"keyring {path} has {actual} bytes, the manifest says {size}", code="BAD_DIGEST")
    return fd
