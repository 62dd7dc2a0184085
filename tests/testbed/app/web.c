/* HTTP/1.1 and WebSockets (RFC 9112, RFC 6455) of the tested app: requests in, answers into the buffer. */
#define _GNU_SOURCE
#include "app.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST_IDS (1u << 18)
#define MOST_HEAD 65536

struct request {
    const char *method, *path, *id, *key, *head;
    int method_len, path_len, id_len, key_len, head_len;
    long body_len;
    bool close, upgrade, chunked;
};

void put(struct conn *conn, const void *data, size_t size) {
    if (conn->out_len + size > conn->out_cap) conn->out = realloc(conn->out, conn->out_cap = conn->out_len + size + 4096);
    memcpy(conn->out + conn->out_len, data, size);
    conn->out_len += size;
}

void put_text(struct conn *conn, const char *fmt, ...) {
    char text[2048];
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    put(conn, text, size < (int)sizeof text ? size : (int)sizeof text - 1);
}

void consume(struct conn *conn, size_t size) {
    memmove(conn->in, conn->in + size, conn->in_len - size);
    conn->in_len -= size;
}

/* Returns how often the id was posted here, this time included. */
static unsigned seen(const char *id, int size) {
    static struct {
        uint64_t hash;
        unsigned times;
    } ids[MOST_IDS];
    uint64_t hash = 1469598103934665603u;
    for (int i = 0; i < size; i++) hash = (hash ^ (unsigned char)id[i]) * 1099511628211u;
    hash |= 1;
    for (unsigned i = 0; i < MOST_IDS; i++) {
        unsigned slot = (hash + i) % MOST_IDS;
        if (ids[slot].hash == 0) ids[slot].hash = hash;
        if (ids[slot].hash == hash) return ++ids[slot].times;
    }
    return 0;
}

static bool is(const char *line, int size, const char *name) {
    return size == (int)strlen(name) && strncasecmp(line, name, size) == 0;
}

static void read_header(struct request *request, const char *line, int size) {
    const char *colon = memchr(line, ':', size);
    if (!colon) return;
    int name = colon - line;
    const char *value = colon + 1;
    while (value < line + size && *value == ' ') value++;
    int length = line + size - value;
    if (is(line, name, "content-length")) request->body_len = strtol(value, NULL, 10);
    if (is(line, name, "transfer-encoding")) request->chunked = true;
    if (is(line, name, "connection")) request->close = is(value, length, "close");
    if (is(line, name, "upgrade")) request->upgrade = is(value, length, "websocket");
    if (is(line, name, "sec-websocket-key")) request->key = value, request->key_len = length;
    if (is(line, name, "x-load-id") && length <= 128) request->id = value, request->id_len = length;
}

/* Returns the size of the head; 0 while it is not whole. */
static size_t read_request(const struct conn *conn, struct request *request) {
    char *end = memmem(conn->in, conn->in_len, "\r\n\r\n", 4);
    if (!end) return 0;
    *request = (struct request){.method = conn->in, .id = "", .key = "", .head = conn->in, .head_len = end - conn->in};
    const char *line = conn->in;
    for (bool first = true; line < end; first = false) {
        const char *stop = memmem(line, end + 2 - line, "\r\n", 2);
        if (first) {
            const char *space = memchr(line, ' ', stop - line);
            const char *second = space ? memchr(space + 1, ' ', stop - space - 1) : NULL;
            if (!second) return 0;
            request->method_len = space - line;
            request->path = space + 1;
            request->path_len = second - request->path;
            request->close = strncmp(second + 1, "HTTP/1.0", 8) == 0;
        } else
            read_header(request, line, stop - line);
        line = stop + 2;
    }
    return end + 4 - conn->in;
}

static void answer(struct conn *conn, const struct request *request, int status, const char *body, int size,
                   unsigned times) {
    bool close = request->close || stopping;
    put_text(conn,
             "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nX-Revision: %s\r\nX-Task: %s\r\n"
             "X-Node: %s\r\nX-Load-Id: %.*s\r\nX-Seen: %u\r\n%s\r\n",
             status, status == 200 ? "OK" : "Other", size, settings.revision, settings.task, settings.node,
             request->id_len, request->id, times, close ? "Connection: close\r\n" : "");
    put(conn, body, size);
    conn->close_after = close;
}

static bool path_is(const struct request *request, const char *path) {
    int size = strlen(path);
    if (request->path_len < size || memcmp(request->path, path, size) != 0) return false;
    return request->path_len == size || request->path[size] == '?';
}

static unsigned long answered, failed, waiting;

/* Whether this one of `permille` in a thousand is meant: at random, or evenly. */
static bool is_meant(long permille, long *owed) {
    if (settings.seed) return permille && drand48() * 1000 < permille;
    *owed += permille;
    if (*owed < 1000) return false;
    *owed -= 1000;
    return true;
}

static void answer_metrics(struct conn *conn, const struct request *request) {
    char body[1024];
    int size = snprintf(body, sizeof body,
                        "# TYPE app_requests counter\napp_requests_total{result=\"well\"} %lu\n"
                        "app_requests_total{result=\"failed\"} %lu\n# TYPE app_waiting gauge\napp_waiting %lu\n# EOF\n",
                        answered, failed, waiting);
    answer(conn, request, 200, body, size, 0);
}

static void answer_any(struct conn *conn, const struct request *request, bool post) {
    static long owed = 0;
    unsigned times = post && request->id_len ? seen(request->id, request->id_len) : 0;
    if (times) report("post", ",\"id\":\"%.*s\",\"times\":%u", request->id_len, request->id, times);
    if (is_meant(settings.error_permille, &owed)) {
        failed++;
        answer(conn, request, 500, "an error that was asked for\n", 28, times);
        return;
    }
    answered++;
    char body[1024];
    int size = snprintf(body, sizeof body, "{\"revision\":\"%s\",\"task\":\"%s\",\"node\":\"%s\"}\n", settings.revision,
                        settings.task, settings.node);
    answer(conn, request, 200, body, size, times);
}

static void dispatch(struct conn *conn, const struct request *request) {
    bool post = request->method_len == 4 && memcmp(request->method, "POST", 4) == 0;
    if (request->upgrade && path_is(request, "/ws")) {
        char key[29];
        accept_key(request->key, request->key_len, key);
        put_text(conn,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\nX-Revision: %s\r\nX-Task: %s\r\n\r\n",
                 key, settings.revision, settings.task);
        conn->kind = WEBSOCKET;
    } else if (path_is(request, settings.health_path)) {
        bool well = healthy && now() >= started_at + settings.unhealthy_for;
        answer(conn, request, well ? 200 : 503, well ? "well\n" : "ill\n", well ? 5 : 4, 0);
    } else if (post && (path_is(request, "/health/off") || path_is(request, "/health/on"))) {
        healthy = path_is(request, "/health/on");
        answer(conn, request, 200, "so be it\n", 9, 0);
    } else if (path_is(request, "/metrics"))
        answer_metrics(conn, request);
    else if (path_is(request, "/headers"))
        answer(conn, request, 200, request->head, request->head_len, 0);
    else if (request->path_len == 11 && memcmp(request->path, "/status/", 8) == 0)
        answer(conn, request, atoi(request->path + 8), "as asked\n", 9, 0);
    else
        answer_any(conn, request, post);
}

/* Returns until when the first of the servers that is free has done `work`. */
static double served_at(double at, double work) {
    static double free_at[MOST_SERVERS];
    int first = 0;
    for (int i = 1; i < settings.servers; i++)
        if (free_at[i] < free_at[first]) first = i;
    double begins = free_at[first] > at ? free_at[first] : at;
    waiting = begins > at && work > 0 ? (unsigned long)((begins - at) / work) : 0;
    return free_at[first] = begins + work;
}

static double drawn(double mean) { return settings.seed ? mean * -log(1 - drand48()) : mean; }

/* Returns how long the answer is held back. */
static double latency_of(const struct request *request) {
    static long owed = 0;
    const char *ms = memmem(request->path, request->path_len, "?ms=", 4);
    if (ms) return strtol(ms + 4, NULL, 10) / 1e3;
    if (path_is(request, settings.health_path) || path_is(request, "/metrics")) return settings.seed ? 0 : settings.latency;
    double at = now(), latency = drawn(settings.latency);
    if (is_meant(settings.tail_permille, &owed)) latency += settings.tail;
    if (settings.work > 0) latency += served_at(at, drawn(settings.work)) - at;
    return latency;
}

/* Answers the requests that are whole, one at a time: while an answer is held back the next one waits. */
void serve_http(struct conn *conn) {
    while (conn->kind == HTTP && !conn->due && !conn->close_after && conn->in_len) {
        struct request request;
        size_t head = read_request(conn, &request);
        if (!head && conn->in_len < MOST_HEAD) return;
        if (!head || request.chunked || request.body_len < 0 || request.body_len > (1 << 24)) {
            request = (struct request){.id = "", .close = true};
            answer(conn, &request, 400, "not understood\n", 15, 0);
            return;
        }
        if (conn->in_len < head + request.body_len) return;
        double latency = latency_of(&request);
        dispatch(conn, &request);
        consume(conn, head + request.body_len);
        if (latency > 0 && conn->kind == HTTP) conn->due = now() + latency;
    }
}

void put_frame(struct conn *conn, int opcode, const void *data, size_t size) {
    unsigned char head[4] = {0x80 | opcode, size < 126 ? size : 126, size >> 8, size & 0xff};
    put(conn, head, size < 126 ? 2 : 4);
    put(conn, data, size);
}

void put_close(struct conn *conn, int code) {
    unsigned char data[2] = {code >> 8, code & 0xff};
    put_frame(conn, 8, data, 2);
    conn->awaits_close = true;
}

/* Echoes text and binary frames of up to 64 KiB, answers pings and close frames. */
void serve_websocket(struct conn *conn) {
    for (;;) {
        unsigned char *in = (unsigned char *)conn->in;
        if (conn->in_len < 6) return;
        size_t size = in[1] & 0x7f, head = 2;
        if (size == 126) size = in[2] << 8 | in[3], head = 4;
        if (size == 127 || !(in[1] & 0x80)) {
            conn->close_after = true;
            return;
        }
        if (conn->in_len < head + 4 + size) return;
        for (size_t i = 0; i < size; i++) in[head + 4 + i] ^= in[head + i % 4];
        int opcode = in[0] & 0x0f;
        if (opcode == 8) {
            if (!conn->awaits_close) put_frame(conn, 8, in + head + 4, size);
            conn->close_after = true;
        } else if (opcode != 10)
            put_frame(conn, opcode == 9 ? 10 : opcode, in + head + 4, size);
        consume(conn, head + 4 + size);
        if (conn->close_after) return;
    }
}
