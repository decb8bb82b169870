// What the parts of the load generator share.
//
//   generator.c  options, the loop, closed and open pacing
//   http2.c      gRPC unary calls over h2c: own frame layer, HPACK answers decoded by nghttp2
//   ordered.c    protocols that answer in order: HTTP/1.1, Redis GET, echo
//   report.c     counting, histogram, CPU of both sides, JSON
//
// One thread, one epoll set. A generator must cost less than what it loads, or it measures itself; so a request is a
// copy of prepared bytes, all requests of a turn leave in one send, and the clock is read once per receive.

#ifndef LOADTEST_GENERATOR_H
#define LOADTEST_GENERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define VERDICTS 16
#define GRPC_STATUSES 17
#define REVISIONS_MAX 8192
#define HISTOGRAM_SIZE (64 * 128)
#define HEADERS_MAX 16

struct request {
    const uint8_t *bytes;     // what goes out after the frame header: for gRPC with the 5-byte prefix
    uint32_t length;
    uint32_t canary;          // one of the first --canaries requests of the file
};

struct options {
    const char *target;       // HOST:PORT or unix:PATH
    const char *protocol;     // grpc, http1, redis, echo
    const char *path;
    const char *requests_file;
    const char *header[HEADERS_MAX];  // extra constant headers, "name:value"
    int headers;
    bool literal_headers;     // :path and content-length as literals in every call, as nghttp2 clients send them
    unsigned connections, streams;
    double rate_per_s;        // 0: closed loop
    bool poisson;
    double warmup_s, duration_s, linger_s;
    uint64_t calls;           // stop after so many, 0: by time
    int expect;               // verdict that every answer must have, -1: any
    unsigned canaries;
    int server_pid;
    bool spin, blocking, in_order;
    uint64_t seed;
};

enum call_error { ERROR_TRANSPORT, ERROR_STATUS, ERROR_MESSAGE, ERROR_VERDICT, ERRORS };

struct revision {
    int64_t number;
    uint64_t all[VERDICTS], canaries[VERDICTS];
};

struct totals {
    uint64_t calls;                    // answered within the measured window
    uint64_t errors[ERRORS];
    uint64_t statuses[GRPC_STATUSES];
    uint64_t verdicts[VERDICTS];
    uint64_t unanswered;               // planned in the window, and no answer until the drain was over
    uint64_t reconnects, unprocessed;  // unprocessed: a GOAWAY told that the call was not looked at; not an error
    uint64_t backward;                 // a connection saw a revision lower than one before
    struct revision revisions[REVISIONS_MAX];
    unsigned revision_count;
    uint64_t histogram[HISTOGRAM_SIZE];
    uint64_t latency_count, latency_sum_ns, latency_max_ns;
    int64_t start_ns, end_ns;          // the measured window
    uint64_t own_cpu_ns, server_cpu_ns;
};

struct connection {
    int fd;
    bool ready;               // may send requests
    bool closing;             // told to go away: no new calls, reopened when the last one is answered
    bool blocked;             // the last send left something over
    unsigned in_flight;
    unsigned streams_max;
    int64_t revision_seen;
    uint8_t *in, *out;        // in: the beginning of something not yet whole
    size_t in_length, in_capacity, out_offset, out_length, out_capacity;
    void *state;              // of the protocol
};

struct protocol {
    const char *name;
    size_t prefix_bytes;      // of gRPC's own in front of each message, added when the file is read
    void (*open)(struct connection *connection);
    void (*release)(struct connection *connection);
    // Appends one call to the connection's output; false: not possible now (window, stream ids).
    bool (*send)(struct connection *connection, const struct request *request, int64_t planned_ns);
    // Takes whole frames or replies, reports calls with `complete`; returns the bytes used, -1: the peer is wrong.
    ssize_t (*receive)(struct connection *connection, const uint8_t *bytes, size_t length, int64_t now_ns);
};

struct outcome {
    int64_t planned_ns, now_ns;
    int status;               // gRPC status, -1: none came
    int verdict;              // -1: the message was not what was asked for
    int64_t revision;         // -1: none
    bool canary;
};

extern const struct protocol grpc_protocol, http1_protocol, redis_protocol, echo_protocol;
extern struct options options;
extern struct totals totals;

void complete(struct connection *connection, const struct outcome *outcome);
uint8_t *room(struct connection *connection, size_t bytes);
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

void count_outcome(struct connection *connection, const struct outcome *outcome);
void open_window(int64_t now_ns);
void close_window(int64_t now_ns);
void print_report(FILE *out);
int64_t monotonic_ns(void);

#endif
