/* The parts of the tested app; see app.c for what it does. */
#ifndef APP_H
#define APP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind { UNUSED, LISTENER, HTTP, WEBSOCKET, RAW_LISTENER, RAW };

struct conn {
    int fd;
    enum kind kind;
    char *in;
    size_t in_len, in_cap;
    char *out;
    size_t out_len, out_off, out_cap;
    bool close_after; /* once all is written */
    bool awaits_close; /* a close frame was sent */
    double due; /* when the answer that is held back goes out; 0 means none is */
};

struct settings {
    const char *revision, *task, *node, *health_path, *stop_mode;
    int port, raw_port;
    double start_delay, stop_delay, latency, unhealthy_for, tail, work;
    long error_permille, leak_kib_s, tail_permille, servers;
    unsigned long seed;
    int stop_signal;
};

extern struct settings settings;
extern bool healthy, stopping;
extern double started_at;

#define MOST_SERVERS 64

double now(void);
void report(const char *event, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void put(struct conn *conn, const void *data, size_t size);
void put_text(struct conn *conn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void consume(struct conn *conn, size_t size);
void serve_http(struct conn *conn);
void serve_websocket(struct conn *conn);
void put_frame(struct conn *conn, int opcode, const void *data, size_t size);
void put_close(struct conn *conn, int code);
void accept_key(const char *key, size_t size, char answer[29]);

#endif
