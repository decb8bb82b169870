// gRPC unary calls over HTTP/2 without TLS.
//
// nghttp2_session costs a client what it costs the server (2-3 us a call), so a generator built on it would be the
// limit. Here frames are written from templates. Decoding HPACK, the difficult part, stays nghttp2's; and a block whose
// bytes were decoded before, without touching the dynamic table, is not decoded again.

#include "generator.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 32 };
enum {
    FRAME_HEADER = 9, PREFIX = 5, HEAD_BYTES = 40, BLOCK_MAX = 1024, MEMOS = 4, MEMO_BYTES = 256,
    WINDOW = 1 << 30, STREAM_WINDOW = 1 << 24, FRAME_PAYLOAD = 16384, TABLE_BYTES = 4096, TABLE_CALM = 2048
};

struct decoded { int http_status, grpc_status; };

struct memo { uint8_t block[MEMO_BYTES]; size_t length; struct decoded decoded; };

struct stream {
    uint32_t id;              // 0: free
    uint32_t received;        // bytes of DATA
    int64_t planned_ns;
    struct decoded decoded;
    bool canary;
    uint8_t head[HEAD_BYTES]; // the first bytes of DATA
};

struct session {
    nghttp2_hd_inflater *inflater;
    struct memo memos[MEMOS];
    unsigned memo_next;
    uint32_t next_id, mask;
    struct stream *streams;
    int64_t send_window, consumed;
    uint32_t stream_send_window;
    uint8_t first_block[BLOCK_MAX], block[BLOCK_MAX];  // HPACK of the first call and of all others
    size_t first_length, block_length;
    uint8_t *partial;         // a header block that continues
    size_t partial_length;
    uint32_t partial_stream;
    uint8_t partial_flags;
};

// --- Writing ----------------------------------------------------------------------------------------------------------

static uint8_t *put_u32(uint8_t *at, uint32_t value) {
    uint32_t big = __builtin_bswap32(value);
    memcpy(at, &big, 4);
    return at + 4;
}

static uint8_t *put_frame(uint8_t *at, size_t length, uint8_t type, uint8_t flags, uint32_t id) {
    at[0] = (uint8_t)(length >> 16);
    at[1] = (uint8_t)(length >> 8);
    at[2] = (uint8_t)length;
    at[3] = type;
    at[4] = flags;
    return put_u32(at + 5, id);
}

static uint32_t get_u32(const uint8_t *at) {
    uint32_t big;
    memcpy(&big, at, 4);
    return __builtin_bswap32(big);
}

static void send_control(struct connection *connection, uint8_t type, uint8_t flags, const void *payload, size_t length) {
    uint8_t *at = put_frame(room(connection, FRAME_HEADER + length), length, type, flags, 0);
    if (length) memcpy(at, payload, length);
    connection->out_length += FRAME_HEADER + length;
}

// --- The header block of a call ---------------------------------------------------------------------------------------

static uint8_t *put_integer(uint8_t *at, uint8_t first, unsigned bits, size_t value) {
    size_t limit = ((size_t)1 << bits) - 1;
    if (value < limit) {
        *at++ = first | (uint8_t)value;
        return at;
    }
    *at++ = first | (uint8_t)limit;
    for (value -= limit; value >= 128; value >>= 7) *at++ = (uint8_t)(value | 128);
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_text(uint8_t *at, const char *text, size_t length) {
    at = put_integer(at, 0, 7, length);
    memcpy(at, text, length);
    return at + length;
}

struct field { const char *name, *value; size_t name_length; unsigned name_index; };

static int call_fields(struct field *fields) {
    static char authority[128];
    snprintf(authority, sizeof authority, "%s", strncmp(options.target, "unix:", 5) ? options.target : "localhost");
    int count = 0;
    fields[count++] = (struct field){":path", options.path, 5, 4};
    fields[count++] = (struct field){":authority", authority, 10, 1};
    fields[count++] = (struct field){"te", "trailers", 2, 0};
    fields[count++] = (struct field){"content-type", "application/grpc", 12, 31};
    fields[count++] = (struct field){"user-agent", "verifier-loadtest/1", 10, 58};
    fields[count++] = (struct field){"grpc-accept-encoding", "identity, deflate, gzip", 20, 0};
    for (int i = 0; i < options.headers; i++) {
        const char *colon = strchr(options.header[i], ':');
        if (!colon) fail("--header wants name:value");
        fields[count++] = (struct field){options.header[i], colon + 1, (size_t)(colon - options.header[i]), 0};
    }
    return count;
}

// What gRPC C-core sends: everything enters the peer's dynamic table with the first call and is one byte from then on.
static void encode_indexed(struct session *session) {
    struct field fields[HEADERS_MAX + 8];
    int count = call_fields(fields);
    uint8_t *first = session->first_block, *next = session->block;
    *first++ = *next++ = 0x83;  // :method POST
    *first++ = *next++ = 0x86;  // :scheme http
    for (int i = 0; i < count; i++) {
        const struct field *field = &fields[i];
        first = put_integer(first, 0x40, 6, field->name_index);
        if (!field->name_index) first = put_text(first, field->name, field->name_length);
        first = put_text(first, field->value, strlen(field->value));
        next = put_integer(next, 0x80, 7, (size_t)(62 + count - 1 - i));
        if (first - session->first_block > BLOCK_MAX - 256) fail("too many bytes of headers");
    }
    session->first_length = (size_t)(first - session->first_block);
    session->block_length = (size_t)(next - session->block);
}

static nghttp2_nv name_value(const char *name, size_t name_length, const char *value) {
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, name_length, strlen(value), 0};
}

// What clients on nghttp2 send (h2load, node): :path and content-length as Huffman literals in every call.
static void encode_literal(struct session *session, size_t message_length) {
    struct field fields[HEADERS_MAX + 8];
    nghttp2_nv headers[HEADERS_MAX + 12];
    char length_text[24];
    int count = call_fields(fields), size = 0;
    snprintf(length_text, sizeof length_text, "%zu", message_length);
    headers[size++] = name_value(":method", 7, "POST");
    headers[size++] = name_value(":scheme", 7, "http");
    for (int i = 0; i < count; i++) headers[size++] = name_value(fields[i].name, fields[i].name_length, fields[i].value);
    headers[size++] = name_value("content-length", 14, length_text);
    nghttp2_hd_deflater *deflater;
    if (nghttp2_hd_deflate_new(&deflater, TABLE_BYTES)) fail("no memory");
    ssize_t first = nghttp2_hd_deflate_hd(deflater, session->first_block, BLOCK_MAX, headers, (size_t)size);
    ssize_t next = nghttp2_hd_deflate_hd(deflater, session->block, BLOCK_MAX, headers, (size_t)size);
    nghttp2_hd_deflate_del(deflater);
    if (first < 0 || next < 0) fail("too many bytes of headers");
    session->first_length = (size_t)first;
    session->block_length = (size_t)next;
}

// A peer with a small table gets the same literals each time.
static void encode_without_table(struct session *session) {
    struct field fields[HEADERS_MAX + 8];
    int count = call_fields(fields);
    uint8_t *at = session->first_block;
    *at++ = 0x20;  // dynamic table size 0
    *at++ = 0x83;
    *at++ = 0x86;
    for (int i = 0; i < count; i++) {
        at = put_integer(at, 0, 4, fields[i].name_index);
        if (!fields[i].name_index) at = put_text(at, fields[i].name, fields[i].name_length);
        at = put_text(at, fields[i].value, strlen(fields[i].value));
    }
    session->first_length = (size_t)(at - session->first_block);
    session->block_length = session->first_length - 1;
    memcpy(session->block, session->first_block + 1, session->block_length);
}

// --- Opening and calling ----------------------------------------------------------------------------------------------

static void release_session(struct connection *connection) {
    struct session *session = connection->state;
    if (!session) return;
    if (session->inflater) nghttp2_hd_inflate_del(session->inflater);
    free(session->streams);
    free(session->partial);
    free(session);
    connection->state = NULL;
}

static void open_session(struct connection *connection) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    release_session(connection);
    struct session *session = connection->state = calloc(1, sizeof *session);
    uint32_t size = 64;
    while (size < options.streams * 2) size *= 2;
    session->streams = calloc(size, sizeof *session->streams);
    session->mask = size - 1;
    session->next_id = 1;
    session->send_window = session->stream_send_window = 65535;
    if (nghttp2_hd_inflate_new(&session->inflater)) fail("no memory");
    memcpy(room(connection, sizeof preface), preface, sizeof preface - 1);
    connection->out_length += sizeof preface - 1;
    uint8_t settings[12] = {0, 2, 0, 0, 0, 0, 0, 4};  // ENABLE_PUSH 0, INITIAL_WINDOW_SIZE
    put_u32(settings + 8, STREAM_WINDOW);
    send_control(connection, SETTINGS, 0, settings, sizeof settings);
    uint8_t increment[4];
    put_u32(increment, WINDOW - 65535);
    send_control(connection, WINDOW_UPDATE, 0, increment, sizeof increment);
    connection->ready = false;  // until the peer's SETTINGS
    connection->streams_max = options.streams;
}

static bool send_call(struct connection *connection, const struct request *request, int64_t planned_ns) {
    struct session *session = connection->state;
    if (request->length > session->stream_send_window) fail("a request is larger than the server's stream window");
    if ((int64_t)request->length > session->send_window) return false;
    uint32_t id = session->next_id;
    while (session->streams[(id >> 1) & session->mask].id) id += 2;  // ids may be skipped
    if (id >= 1U << 31) {
        connection->closing = true;
        return false;
    }
    struct stream *stream = &session->streams[(id >> 1) & session->mask];
    *stream = (struct stream){.id = id, .planned_ns = planned_ns, .decoded = {0, -1}, .canary = request->canary};
    bool first = session->next_id == 1;
    const uint8_t *block = first ? session->first_block : session->block;
    size_t length = first ? session->first_length : session->block_length;
    size_t frames = (request->length + FRAME_PAYLOAD - 1) / FRAME_PAYLOAD;
    uint8_t *start = room(connection, FRAME_HEADER * (frames + 1) + length + request->length);
    uint8_t *at = put_frame(start, length, HEADERS, END_HEADERS, id);
    memcpy(at, block, length);
    at += length;
    for (size_t sent = 0; sent < request->length;) {
        size_t part = request->length - sent < FRAME_PAYLOAD ? request->length - sent : FRAME_PAYLOAD;
        at = put_frame(at, part, DATA, sent + part == request->length ? END_STREAM : 0, id);
        memcpy(at, request->bytes + sent, part);
        at += part;
        sent += part;
    }
    connection->out_length += (size_t)(at - start);
    session->send_window -= request->length;
    session->next_id = id + 2;
    return true;
}

// --- Reading ----------------------------------------------------------------------------------------------------------

static struct stream *find_stream(struct session *session, uint32_t id) {
    struct stream *stream = &session->streams[(id >> 1) & session->mask];
    return id && stream->id == id ? stream : NULL;
}

static int64_t get_varint(const uint8_t **at, const uint8_t *end) {
    uint64_t value = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return (int64_t)value;
    }
    return -1;
}

// Reads verdict (1), phase (2) and revision (3), which stand first in an answer. One of Envoy's Check that allows, whose
// status stands first and is empty, counts as VALID.
static void read_answer(const struct stream *stream, struct outcome *outcome) {
    outcome->verdict = -1;
    outcome->revision = -1;
    if (stream->received < PREFIX || stream->head[0] || get_u32(stream->head + 1) != stream->received - PREFIX) return;
    outcome->verdict = VERDICTS - 1;  // a message without a verdict: VerifyBatch
    size_t kept = stream->received < HEAD_BYTES ? stream->received : HEAD_BYTES;
    const uint8_t *at = stream->head + PREFIX, *end = stream->head + kept;
    if (end - at >= 2 && at[0] == 0x0a && at[1] == 0) outcome->verdict = 1;
    while (at < end && (*at == 0x08 || *at == 0x10 || *at == 0x18)) {
        uint8_t tag = *at++;
        int64_t value = get_varint(&at, end);
        if (tag == 0x08) outcome->verdict = (int)value;
        if (tag == 0x18) outcome->revision = value;
    }
}

static void finish(struct connection *connection, struct stream *stream, int64_t now_ns) {
    struct outcome outcome = {.planned_ns = stream->planned_ns, .now_ns = now_ns, .canary = stream->canary};
    outcome.status = stream->decoded.http_status == 200 ? stream->decoded.grpc_status : -1;
    read_answer(stream, &outcome);
    stream->id = 0;
    complete(connection, &outcome);
}

static bool decode_block(struct session *session, const uint8_t *block, size_t length, struct decoded *decoded) {
    if (length && (block[0] & 0xe0) == 0x20)  // a new table size: what was remembered may be gone
        for (unsigned i = 0; i < MEMOS; i++) session->memos[i].length = 0;
    for (unsigned i = 0; i < MEMOS; i++) {
        struct memo *memo = &session->memos[i];
        if (memo->length == length && length && !memcmp(memo->block, block, length)) {
            *decoded = memo->decoded;
            return true;
        }
    }
    size_t table_before = nghttp2_hd_inflate_get_dynamic_table_size(session->inflater);
    const uint8_t *at = block, *end = block + length;
    *decoded = (struct decoded){0, -1};
    for (;;) {
        nghttp2_nv field;
        int flags = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(session->inflater, &field, &flags, at, (size_t)(end - at), 1);
        if (used < 0) return false;
        at += used;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            if (field.namelen == 7 && !memcmp(field.name, ":status", 7)) decoded->http_status = atoi((char *)field.value);
            if (field.namelen == 11 && !memcmp(field.name, "grpc-status", 11))
                decoded->grpc_status = atoi((char *)field.value);
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL) break;
        if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && at == end) break;
    }
    nghttp2_hd_inflate_end_headers(session->inflater);
    size_t table = nghttp2_hd_inflate_get_dynamic_table_size(session->inflater);
    if (table != table_before || table > TABLE_CALM) {  // it inserted, or might have by evicting: indices moved
        for (unsigned i = 0; i < MEMOS; i++) session->memos[i].length = 0;
    } else if (length <= MEMO_BYTES) {
        struct memo *memo = &session->memos[session->memo_next++ % MEMOS];
        memcpy(memo->block, block, length);
        memo->length = length;
        memo->decoded = *decoded;
    }
    return true;
}

static bool take_block(struct connection *connection, uint32_t id, uint8_t flags, const uint8_t *block, size_t length,
                       int64_t now_ns) {
    struct session *session = connection->state;
    struct decoded decoded;
    if (!decode_block(session, block, length, &decoded)) return false;
    struct stream *stream = find_stream(session, id);
    if (!stream) return true;
    if (decoded.http_status) stream->decoded.http_status = decoded.http_status;
    if (decoded.grpc_status >= 0) stream->decoded.grpc_status = decoded.grpc_status;
    if (flags & END_STREAM) finish(connection, stream, now_ns);
    return true;
}

static bool take_headers(struct connection *connection, uint32_t id, uint8_t flags, const uint8_t *payload,
                         size_t length, int64_t now_ns) {
    struct session *session = connection->state;
    if (flags & PADDED) {
        if (!length || (size_t)payload[0] + 1 > length) return false;
        length -= (size_t)payload[0] + 1;
        payload++;
    }
    if (flags & WITH_PRIORITY) {
        if (length < 5) return false;
        payload += 5;
        length -= 5;
    }
    if (flags & END_HEADERS) return take_block(connection, id, flags, payload, length, now_ns);
    session->partial = realloc(session->partial, length + 1);
    memcpy(session->partial, payload, length);
    session->partial_length = length;
    session->partial_stream = id;
    session->partial_flags = flags;
    return true;
}

static bool take_continuation(struct connection *connection, uint8_t flags, const uint8_t *payload, size_t length,
                              int64_t now_ns) {
    struct session *session = connection->state;
    session->partial = realloc(session->partial, session->partial_length + length + 1);
    memcpy(session->partial + session->partial_length, payload, length);
    session->partial_length += length;
    if (!(flags & END_HEADERS)) return true;
    return take_block(connection, session->partial_stream, session->partial_flags, session->partial,
                      session->partial_length, now_ns);
}

static bool take_data(struct connection *connection, uint32_t id, uint8_t flags, const uint8_t *payload, size_t length,
                      int64_t now_ns) {
    struct session *session = connection->state;
    session->consumed += (int64_t)length;
    if (session->consumed > WINDOW / 2) {
        uint8_t increment[4];
        put_u32(increment, (uint32_t)session->consumed);
        send_control(connection, WINDOW_UPDATE, 0, increment, sizeof increment);
        session->consumed = 0;
    }
    if (flags & PADDED) {
        if (!length || (size_t)payload[0] + 1 > length) return false;
        length -= (size_t)payload[0] + 1;
        payload++;
    }
    struct stream *stream = find_stream(session, id);
    if (!stream) return true;
    if (stream->received < HEAD_BYTES) {
        size_t part = HEAD_BYTES - stream->received;
        memcpy(stream->head + stream->received, payload, length < part ? length : part);
    }
    stream->received += (uint32_t)length;
    if (flags & END_STREAM) finish(connection, stream, now_ns);
    return true;
}

static void take_settings(struct connection *connection, uint8_t flags, const uint8_t *payload, size_t length) {
    struct session *session = connection->state;
    uint32_t table_bytes = TABLE_BYTES;
    if (flags & ACK) return;
    for (size_t at = 0; at + 6 <= length; at += 6) {
        uint32_t value = get_u32(payload + at + 2);
        switch (payload[at] << 8 | payload[at + 1]) {
        case 1: table_bytes = value; break;
        case 3: connection->streams_max = value < options.streams ? value : options.streams; break;
        case 4: session->stream_send_window = value; break;
        }
    }
    send_control(connection, SETTINGS, ACK, NULL, 0);
    if (connection->ready) return;
    extern uint32_t first_request_length;
    if (table_bytes < TABLE_BYTES) encode_without_table(session);
    else if (options.literal_headers) encode_literal(session, first_request_length);
    else encode_indexed(session);
    connection->ready = true;
}

static void take_goaway(struct connection *connection, const uint8_t *payload, size_t length) {
    struct session *session = connection->state;
    connection->closing = true;
    if (length < 8) return;
    uint32_t last = get_u32(payload) & 0x7fffffff;
    for (uint32_t i = 0; i <= session->mask; i++) {
        if (session->streams[i].id <= last) continue;
        session->streams[i].id = 0;
        connection->in_flight--;
        totals.unprocessed++;
    }
}

static bool take_reset(struct connection *connection, uint32_t id) {
    struct stream *stream = find_stream(connection->state, id);
    if (!stream) return true;
    stream->id = 0;
    connection->in_flight--;
    totals.errors[ERROR_TRANSPORT]++;
    return true;
}

static ssize_t receive_frames(struct connection *connection, const uint8_t *bytes, size_t size, int64_t now_ns) {
    struct session *session = connection->state;
    const uint8_t *at = bytes, *end = bytes + size;
    while ((size_t)(end - at) >= FRAME_HEADER) {
        size_t length = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        if ((size_t)(end - at) < FRAME_HEADER + length) break;
        uint8_t type = at[3], flags = at[4];
        uint32_t id = get_u32(at + 5) & 0x7fffffff;
        const uint8_t *payload = at + FRAME_HEADER;
        bool sound = true;
        switch (type) {
        case DATA: sound = take_data(connection, id, flags, payload, length, now_ns); break;
        case HEADERS: sound = take_headers(connection, id, flags, payload, length, now_ns); break;
        case CONTINUATION: sound = take_continuation(connection, flags, payload, length, now_ns); break;
        case RST_STREAM: sound = take_reset(connection, id); break;
        case SETTINGS: take_settings(connection, flags, payload, length); break;
        case PING: if (!(flags & ACK)) send_control(connection, PING, ACK, payload, length); break;
        case GOAWAY: take_goaway(connection, payload, length); break;
        case WINDOW_UPDATE: if (!id && length == 4) session->send_window += get_u32(payload) & 0x7fffffff; break;
        }
        if (!sound) return -1;
        at = payload + length;
    }
    return at - bytes;
}

const struct protocol grpc_protocol = {"grpc", PREFIX, open_session, release_session, send_call, receive_frames};
