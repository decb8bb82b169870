// Protocols that answer in order, with pipelining: HTTP/1.1, Redis GET, and an echo of the same bytes.
//
// The requests file holds what goes over the wire, a whole request for HTTP, a whole RESP command for Redis.

#define _GNU_SOURCE
#include "generator.h"

#include <stdlib.h>
#include <string.h>

struct waiting { int64_t planned_ns; uint32_t length; };

struct pipeline { struct waiting *calls; unsigned head, size; };

static void open_pipeline(struct connection *connection) {
    struct pipeline *pipeline = connection->state ? connection->state : calloc(1, sizeof *pipeline);
    connection->state = pipeline;
    if (!pipeline->calls) pipeline->calls = calloc(options.streams, sizeof *pipeline->calls);
    pipeline->head = 0;
    pipeline->size = options.streams;
    connection->ready = true;
    connection->streams_max = options.streams;
}

static void release_pipeline(struct connection *connection) { (void)connection; }

static bool send_ordered(struct connection *connection, const struct request *request, int64_t planned_ns) {
    struct pipeline *pipeline = connection->state;
    unsigned tail = (pipeline->head + connection->in_flight) % pipeline->size;
    pipeline->calls[tail] = (struct waiting){planned_ns, request->length};
    memcpy(room(connection, request->length), request->bytes, request->length);
    connection->out_length += request->length;
    return true;
}

static void answer(struct connection *connection, int64_t now_ns, int verdict) {
    struct pipeline *pipeline = connection->state;
    struct outcome outcome = {.planned_ns = pipeline->calls[pipeline->head].planned_ns, .now_ns = now_ns,
                              .verdict = verdict, .revision = -1};
    pipeline->head = (pipeline->head + 1) % pipeline->size;
    complete(connection, &outcome);
}

static ssize_t receive_echo(struct connection *connection, const uint8_t *bytes, size_t length, int64_t now_ns) {
    struct pipeline *pipeline = connection->state;
    size_t used = 0;
    (void)bytes;
    while (connection->in_flight && length - used >= pipeline->calls[pipeline->head].length) {
        used += pipeline->calls[pipeline->head].length;
        answer(connection, now_ns, 1);
    }
    return (ssize_t)used;
}

// "$<length>\r\n<bytes>\r\n" is a hit (1), "$-1\r\n" a miss (3), "-ERR ...\r\n" an error.
static ssize_t receive_redis(struct connection *connection, const uint8_t *bytes, size_t length, int64_t now_ns) {
    size_t used = 0;
    while (connection->in_flight) {
        const uint8_t *line = bytes + used, *end = memchr(line, '\n', length - used);
        if (!end) break;
        size_t reply = (size_t)(end - line) + 1;
        int verdict = -1;
        if (line[0] == '$') {
            long value = strtol((const char *)line + 1, NULL, 10);
            verdict = value < 0 ? 3 : 1;
            if (value >= 0) reply += (size_t)value + 2;
        } else if (line[0] == '+') {
            verdict = 1;
        }
        if (length - used < reply) break;
        used += reply;
        answer(connection, now_ns, verdict);
    }
    return (ssize_t)used;
}

// A status of 2xx is a hit (1), 401 and 403 are misses (3), anything else is an error. Only answers that say their length.
static ssize_t receive_http1(struct connection *connection, const uint8_t *bytes, size_t length, int64_t now_ns) {
    size_t used = 0;
    while (connection->in_flight) {
        const char *head = (const char *)bytes + used;
        const char *end = memmem(head, length - used, "\r\n\r\n", 4);
        if (!end) break;
        const char *field = memmem(head, (size_t)(end - head), "ontent-length: ", 15);
        if (!field) field = memmem(head, (size_t)(end - head), "ontent-Length: ", 15);
        if (!field || memcmp(head, "HTTP/1.1 ", 9)) return -1;
        size_t reply = (size_t)(end - head) + 4 + strtoul(field + 15, NULL, 10);
        if (length - used < reply) break;
        int status = (int)strtol(head + 9, NULL, 10);
        used += reply;
        answer(connection, now_ns, status / 100 == 2 ? 1 : status == 401 || status == 403 ? 3 : -1);
    }
    return (ssize_t)used;
}

const struct protocol http1_protocol = {"http1", 0, open_pipeline, release_pipeline, send_ordered, receive_http1};
const struct protocol redis_protocol = {"redis", 0, open_pipeline, release_pipeline, send_ordered, receive_redis};
const struct protocol echo_protocol = {"echo", 0, open_pipeline, release_pipeline, send_ordered, receive_echo};
