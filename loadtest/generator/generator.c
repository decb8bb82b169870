// A load generator: connections x calls in flight, closed loop or on a schedule, from a file of many requests.
// loadtest/README.md says how to use it and what its own ceiling is.

#define _GNU_SOURCE
#include "generator.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 1 << 20, RECEIVE_BYTES = 1 << 18, EVENTS = 256, DRAIN_S = 5, RECONNECTS_MAX = 100000 };

struct options options = {.protocol = "grpc", .path = "/verifier.v1.VerifierService/Verify", .connections = 1,
                          .streams = 1, .warmup_s = 0.5, .duration_s = 2, .expect = -1, .seed = 1};
struct totals totals;
uint32_t first_request_length;

static const struct protocol *protocol;
static struct connection *connections;
static struct request *requests;
static size_t request_count, request_next;
static int epoll_fd = -1;
static volatile sig_atomic_t interrupted;
static enum { STARTING, WARMING, MEASURING, DRAINING } stage = STARTING;
static double planned_next_ns;   // open loop: when the next call is due
static uint64_t sent_in_window;
static unsigned turn_of;         // open loop: which connection is next

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("generator: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static uint64_t random_state;

static uint64_t random_u64(void) {  // splitmix64
    uint64_t z = (random_state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

// --- Requests ---------------------------------------------------------------------------------------------------------

static uint8_t *map_file(const char *name, size_t *size) {
    struct stat status;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) || !status.st_size) fail("%s: %s", name, errno ? strerror(errno) : "empty");
    *size = (size_t)status.st_size;
    uint8_t *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED) fail("%s: %s", name, strerror(errno));
    close(fd);
    return bytes;
}

// The file holds messages, each behind its length (4 bytes, big-endian). They are copied in a random order, so that
// the generator itself reads memory from front to back while the server must look anywhere.
static void read_requests(void) {
    size_t size, at;
    uint8_t *file = map_file(options.requests_file, &size);
    for (at = 0; at + 4 <= size; request_count++) at += 4 + (file[at] << 24 | file[at + 1] << 16 | file[at + 2] << 8 | file[at + 3]);
    if (at != size) fail("%s: not a file of length-prefixed messages", options.requests_file);
    requests = calloc(request_count, sizeof *requests);
    at = 0;
    for (size_t i = 0; i < request_count; i++) {
        uint32_t length = (uint32_t)(file[at] << 24 | file[at + 1] << 16 | file[at + 2] << 8 | file[at + 3]);
        requests[i] = (struct request){file + at + 4, length, i < options.canaries};
        at += 4 + length;
    }
    for (size_t i = request_count - 1; i > 0 && !options.in_order; i--) {
        size_t other = random_u64() % (i + 1);
        struct request swap = requests[i];
        requests[i] = requests[other];
        requests[other] = swap;
    }
    uint8_t *copy = malloc(size + request_count * protocol->prefix_bytes);
    if (!copy) fail("no memory");
    for (size_t i = 0; i < request_count; i++) {
        struct request *request = &requests[i];
        uint8_t prefix[5] = {0, (uint8_t)(request->length >> 24), (uint8_t)(request->length >> 16),
                             (uint8_t)(request->length >> 8), (uint8_t)request->length};
        memcpy(copy, prefix, protocol->prefix_bytes);
        memcpy(copy + protocol->prefix_bytes, request->bytes, request->length);
        request->bytes = copy;
        request->length += (uint32_t)protocol->prefix_bytes;
        if (options.literal_headers && request->length != requests[0].length) fail("--literal wants messages of one size");
        copy += request->length;
    }
    munmap(file, size);
    first_request_length = requests[0].length;
}

static const struct request *next_request(void) {
    const struct request *request = &requests[request_next];
    if (++request_next == request_count) request_next = 0;
    return request;
}

// --- Connections ------------------------------------------------------------------------------------------------------

uint8_t *room(struct connection *connection, size_t bytes) {
    size_t need = connection->out_length + bytes;
    if (need > connection->out_capacity) {
        connection->out_capacity = need * 2;
        connection->out = realloc(connection->out, connection->out_capacity);
        if (!connection->out) fail("no memory");
    }
    return connection->out + connection->out_length;
}

static int connect_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("%s: %s", path, strerror(errno));
    return fd;
}

static int connect_tcp(const char *target) {
    char host[256];
    snprintf(host, sizeof host, "%s", target);
    char *colon = strrchr(host, ':');
    if (!colon) fail("%s: want HOST:PORT or unix:PATH", target);
    *colon = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, colon + 1, &hints, &found)) fail("%s: unknown host", host);
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen)) fail("%s: %s", target, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    freeaddrinfo(found);
    return fd;
}

static void flush(struct connection *connection);

static void open_connection(struct connection *connection) {
    bool is_unix = !strncmp(options.target, "unix:", 5);
    connection->fd = is_unix ? connect_unix(options.target + 5) : connect_tcp(options.target);
    connection->in_length = connection->out_length = connection->out_offset = connection->in_flight = 0;
    connection->closing = connection->blocked = false;
    connection->revision_seen = -1;
    if (options.blocking) {
        struct timeval limit = {DRAIN_S, 0};
        setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    } else {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        fcntl(connection->fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event);
    }
    protocol->open(connection);
    flush(connection);
}

static void reopen(struct connection *connection) {
    close(connection->fd);
    totals.errors[ERROR_TRANSPORT] += connection->in_flight;
    if (++totals.reconnects > RECONNECTS_MAX) fail("the server keeps closing connections");
    open_connection(connection);
}

static void watch_writable(struct connection *connection, bool blocked) {
    struct epoll_event event = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = connection};
    connection->blocked = blocked;
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

static void flush(struct connection *connection) {
    while (connection->out_offset < connection->out_length) {
        ssize_t sent = send(connection->fd, connection->out + connection->out_offset,
                            connection->out_length - connection->out_offset, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN) return;  // the next receive says what happened
            if (!connection->blocked) watch_writable(connection, true);
            return;
        }
        connection->out_offset += (size_t)sent;
    }
    connection->out_offset = connection->out_length = 0;
    if (connection->blocked) watch_writable(connection, false);
}

// --- Pacing -----------------------------------------------------------------------------------------------------------

void complete(struct connection *connection, const struct outcome *outcome) {
    connection->in_flight--;
    if (stage == MEASURING || stage == DRAINING) count_outcome(connection, outcome);
}

static bool has_room(const struct connection *connection) {
    return connection->ready && !connection->closing && !connection->blocked &&
           connection->in_flight < connection->streams_max;
}

static bool call(struct connection *connection, int64_t planned_ns) {
    if (!protocol->send(connection, &requests[request_next], planned_ns)) return false;
    next_request();
    connection->in_flight++;
    sent_in_window++;
    return true;
}

// Closed loop: as many calls in flight as allowed; an answer makes room for the next.
static void fill(struct connection *connection, int64_t now_ns) {
    if (stage != DRAINING && !options.rate_per_s)
        while (has_room(connection) && !(options.calls && stage == MEASURING && sent_in_window >= options.calls))
            if (!call(connection, now_ns)) break;
    flush(connection);
}

static double gap_ns(void) {
    double mean_ns = 1e9 / options.rate_per_s;
    if (!options.poisson) return mean_ns;
    return -log(((double)(random_u64() >> 11) + 0.5) / 9007199254740992.0) * mean_ns;
}

static bool is_due(int64_t now_ns) {
    if (stage == DRAINING) return planned_next_ns < (double)totals.end_ns;
    return planned_next_ns <= (double)now_ns;
}

// Open loop: everything that is due goes out, over the connections in turn. What finds no room waits, and its latency
// counts from when it was due.
static void send_due(int64_t now_ns) {
    if (!options.rate_per_s || stage == STARTING) return;
    while (is_due(now_ns)) {
        unsigned tried = 0;
        for (; tried < options.connections; tried++) {
            struct connection *connection = &connections[turn_of++ % options.connections];
            if (has_room(connection) && call(connection, (int64_t)planned_next_ns)) break;
        }
        if (tried == options.connections) break;
        planned_next_ns += gap_ns();
    }
    for (unsigned i = 0; i < options.connections; i++)
        if (connections[i].out_length && !connections[i].blocked) flush(&connections[i]);
}

// --- The loop ---------------------------------------------------------------------------------------------------------

static void receive(struct connection *connection) {
    static uint8_t scratch[SCRATCH_BYTES];
    if (connection->in_length) memcpy(scratch, connection->in, connection->in_length);
    ssize_t got = recv(connection->fd, scratch + connection->in_length, RECEIVE_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        if (stage != DRAINING) reopen(connection);
        else if (!options.blocking) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
        return;
    }
    int64_t now_ns = monotonic_ns();
    size_t size = connection->in_length + (size_t)got;
    ssize_t used = protocol->receive(connection, scratch, size, now_ns);
    if (used < 0) fail("the server broke the protocol");
    connection->in_length = size - (size_t)used;
    if (connection->in_length > SCRATCH_BYTES - RECEIVE_BYTES) fail("a frame of the server is too large");
    if (connection->in_length > connection->in_capacity)
        connection->in = realloc(connection->in, connection->in_capacity = connection->in_length * 2);
    if (connection->in_length) memcpy(connection->in, scratch + used, connection->in_length);
    if (connection->closing && !connection->in_flight && stage != DRAINING) {
        reopen(connection);
        return;
    }
    fill(connection, now_ns);
}

static bool all_ready(void) {
    for (unsigned i = 0; i < options.connections; i++)
        if (!connections[i].ready) return false;
    return true;
}

static unsigned all_in_flight(void) {
    unsigned sum = 0;
    for (unsigned i = 0; i < options.connections; i++) sum += connections[i].in_flight;
    return sum;
}

static int64_t stage_until_ns;

static int64_t after(int64_t now_ns, double seconds) { return now_ns + (int64_t)(seconds * 1e9); }

// Moves from stage to stage; false when all is done.
static bool advance(int64_t now_ns) {
    if (stage == STARTING) {
        if (!all_ready()) return now_ns < stage_until_ns || (fail("the server does not answer"), false);
        stage = WARMING;
        stage_until_ns = after(now_ns, options.warmup_s);
        planned_next_ns = (double)now_ns;
        for (unsigned i = 0; i < options.connections; i++) fill(&connections[i], now_ns);
    }
    if (stage == WARMING && now_ns >= stage_until_ns) {
        open_window(now_ns);
        stage = MEASURING;
        sent_in_window = 0;
        stage_until_ns = options.calls ? INT64_MAX : after(now_ns, options.duration_s);
    }
    if (stage == MEASURING && (now_ns >= stage_until_ns || interrupted ||
                               (options.calls && totals.calls >= options.calls))) {
        close_window(now_ns);
        stage = DRAINING;
        stage_until_ns = after(now_ns, DRAIN_S);
    }
    if (stage != DRAINING) return true;
    bool waiting = all_in_flight() || (options.rate_per_s && is_due(now_ns));
    return waiting && now_ns < stage_until_ns;
}

static struct timespec patience(int64_t now_ns) {
    int64_t wait_ns = 1000000;
    if (options.spin) wait_ns = 0;
    else if (options.rate_per_s && stage != STARTING) {
        wait_ns = (int64_t)planned_next_ns - now_ns;
        if (wait_ns < 0) wait_ns = stage == DRAINING ? 1000000 : 0;
        if (wait_ns > 1000000) wait_ns = 1000000;
    }
    return (struct timespec){0, wait_ns};
}

static void run(void) {
    struct epoll_event events[EVENTS];
    int64_t now_ns = monotonic_ns();
    stage_until_ns = after(now_ns, DRAIN_S);
    while (advance(now_ns)) {
        send_due(now_ns);
        if (options.blocking) {
            receive(&connections[0]);
        } else {
            struct timespec wait = patience(now_ns);
            int count = epoll_pwait2(epoll_fd, events, EVENTS, &wait, NULL);
            for (int i = 0; i < count; i++) {
                struct connection *connection = events[i].data.ptr;
                if (events[i].events & EPOLLOUT) flush(connection);
                if (events[i].events & ~(uint32_t)EPOLLOUT) receive(connection);
            }
        }
        now_ns = monotonic_ns();
    }
    totals.unanswered += all_in_flight();
    if (options.rate_per_s && planned_next_ns < (double)totals.end_ns)
        totals.unanswered += (uint64_t)(((double)totals.end_ns - planned_next_ns) / 1e9 * options.rate_per_s);
}

// --- Options ----------------------------------------------------------------------------------------------------------

static const char usage[] =
    "usage: generator --target HOST:PORT|unix:PATH --requests FILE [options]\n"
    "  --protocol grpc|http1|redis|echo   default grpc\n"
    "  --path /package.Service/Method\n"
    "  --connections N --streams N  calls in flight on each connection\n"
    "  --rate N                     open loop: calls per second in all; latency counts from the planned time\n"
    "  --poisson                    ... with exponential gaps\n"
    "  --warmup S --duration S      seconds, default 0.5 and 2\n"
    "  --calls N                    stop after N answers instead\n"
    "  --expect N                   verdict that answers must have\n"
    "  --canaries N                 the first N requests of the file: counted apart, any verdict\n"
    "  --server-pid PID             read that process's CPU time at both ends of the window\n"
    "  --literal                    :path and content-length as literals, as nghttp2 clients send them\n"
    "  --header name:value          one more header in every call\n"
    "  --spin | --blocking          never sleep | block in recv (one connection, one call)\n"
    "  --in-order --seed N --linger S\n";

enum { OPTION_FLAG = 256 };

static void parse(int count, char **arguments) {
    static const char *names[] = {"target", "requests", "protocol", "path", "connections", "streams", "rate", "warmup",
        "duration", "calls", "expect", "canaries", "server-pid", "header", "seed", "linger",
        "poisson", "literal", "spin", "blocking", "in-order", NULL};
    enum { TARGET, REQUESTS, PROTOCOL, PATH, CONNECTIONS, STREAMS, RATE, WARMUP, DURATION, CALLS, EXPECT, CANARIES,
           SERVER_PID, HEADER, SEED, LINGER, POISSON, LITERAL, SPIN, BLOCKING, IN_ORDER, NAMES };
    struct option list[NAMES + 1] = {0};
    for (int i = 0; i < NAMES; i++)
        list[i] = (struct option){names[i], i < POISSON ? required_argument : no_argument, NULL, OPTION_FLAG + i};
    for (int found; (found = getopt_long(count, arguments, "", list, NULL)) != -1;) {
        switch (found - OPTION_FLAG) {
        case TARGET: options.target = optarg; break;
        case REQUESTS: options.requests_file = optarg; break;
        case PROTOCOL: options.protocol = optarg; break;
        case PATH: options.path = optarg; break;
        case CONNECTIONS: options.connections = (unsigned)atoi(optarg); break;
        case STREAMS: options.streams = (unsigned)atoi(optarg); break;
        case RATE: options.rate_per_s = atof(optarg); break;
        case WARMUP: options.warmup_s = atof(optarg); break;
        case DURATION: options.duration_s = atof(optarg); break;
        case CALLS: options.calls = strtoull(optarg, NULL, 10); break;
        case EXPECT: options.expect = atoi(optarg); break;
        case CANARIES: options.canaries = (unsigned)atoi(optarg); break;
        case SERVER_PID: options.server_pid = atoi(optarg); break;
        case HEADER:
            if (options.headers == HEADERS_MAX) fail("too many headers");
            options.header[options.headers++] = optarg;
            break;
        case SEED: options.seed = strtoull(optarg, NULL, 10); break;
        case LINGER: options.linger_s = atof(optarg); break;
        case POISSON: options.poisson = true; break;
        case LITERAL: options.literal_headers = true; break;
        case SPIN: options.spin = true; break;
        case BLOCKING: options.blocking = true; break;
        case IN_ORDER: options.in_order = true; break;
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (!options.target || !options.requests_file || !options.connections || !options.streams ||
        (options.blocking && options.connections != 1)) {
        fputs(usage, stderr);
        exit(2);
    }
}

static const struct protocol *find_protocol(const char *name) {
    const struct protocol *all[] = {&grpc_protocol, &http1_protocol, &redis_protocol, &echo_protocol};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, name)) return all[i];
    fail("no protocol %s", name);
}

static void on_interrupt(int number) { (void)number; interrupted = 1; }

int main(int count, char **arguments) {
    parse(count, arguments);
    signal(SIGINT, on_interrupt);
    prctl(PR_SET_TIMERSLACK, 1UL);
    random_state = options.seed;
    protocol = find_protocol(options.protocol);
    read_requests();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(options.connections, sizeof *connections);
    for (unsigned i = 0; i < options.connections; i++) open_connection(&connections[i]);
    run();
    print_report(stdout);
    fflush(stdout);
    if (options.linger_s > 0) usleep((useconds_t)(options.linger_s * 1e6));
    return 0;
}
