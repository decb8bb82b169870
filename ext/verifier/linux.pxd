# Linux system calls of the event loop.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/socket.h>
    #include <unistd.h>
    """
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLL_CLOEXEC
        EFD_NONBLOCK
        EFD_CLOEXEC
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        MSG_NOSIGNAL
        MSG_DONTWAIT
        SHUT_WR
        IPPROTO_TCP
        TCP_NODELAY
        O_RDONLY
        O_CLOEXEC
        F_DUPFD_CLOEXEC
        EAGAIN
        EINTR
        EMFILE
        ENFILE
        ENOBUFS
        ENOMEM
    ctypedef union epoll_data_t:
        void* ptr
    # Packed on x86-64, which C knows and Cython need not.
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags) nogil
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) nogil
    int epoll_wait(int epoll, epoll_event* events, int count, int timeout_ms) nogil
    int eventfd(unsigned int value, int flags) nogil
    int accept4(int fd, void* address, void* length, int flags) nogil
    ssize_t recv(int fd, void* room, size_t size, int flags) nogil
    ssize_t send(int fd, const void* data, size_t size, int flags) nogil
    int shutdown(int fd, int how) nogil
    int setsockopt(int fd, int level, int option, const void* value, unsigned int size) nogil
    int fcntl(int fd, int command, int argument) nogil
    int open(const char* path, int flags) nogil
    int close(int fd) nogil
    ssize_t read(int fd, void* room, size_t size) nogil
    ssize_t write(int fd, const void* data, size_t size) nogil
