/* The app that the tests deploy: one static program for an image without anything else, told by its environment.
 *
 *   PORT 8080, RAW_PORT (echoes bytes), REVISION, TASK, NODE: what it answers with
 *   START_DELAY_MS     before it listens           LATENCY_MS        of every answer (also ?ms=N)
 *   STOP_DELAY_MS      from its stop signal to close frames and its end; STOP_SIGNAL (15)
 *   STOP_MODE polite   closes its listener and idle connections at its stop signal, finishes what it has;
 *             serve    goes on taking requests until its end
 *   ERROR_PERMILLE     of answers are 500          LEAK_KIB_S        of memory, written to
 *   TAIL_PERMILLE      of answers take TAIL_MS more
 *   WORK_MS, SERVERS 1 an answer takes this long of one of the servers, and waits for one: a task can do
 *                      1000 / WORK_MS * SERVERS requests a second, and is slow before it is past that
 *   SEED               errors, tails and latencies (exponential then) come at random, else evenly
 *   /metrics           what it counts itself, in OpenMetrics
 *   HEALTH_PATH /health, HEALTH_AFTER_MS; POST /health/off and /health/on switch it
 *   COLLECT ADDRESS:PORT takes each event as a datagram, too: signals, POST ids, start and end
 *
 * `app check` asks its own health, for a healthcheck. One thread, epoll.
 */
#define _GNU_SOURCE
#include "app.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 20000
#define CLOSE_WAIT_S 1.0

struct settings settings;
bool healthy = true, stopping = false;
double started_at;

static struct conn conns[MOST_CONNECTIONS];
static int highest = -1, epoll_fd, collector_fd = -1;
static double stopped_at, leaked_until;

double now(void) {
    struct timespec spec;
    clock_gettime(CLOCK_REALTIME, &spec);
    return (double)spec.tv_sec + spec.tv_nsec / 1e9;
}

void report(const char *event, const char *fmt, ...) {
    char line[1024];
    int size = snprintf(line, sizeof line, "{\"event\":\"%s\",\"at\":%.6f,\"task\":\"%s\",\"revision\":\"%s\"", event,
                        now(), settings.task, settings.revision);
    va_list args;
    va_start(args, fmt);
    size += vsnprintf(line + size, sizeof line - size - 2, fmt, args);
    va_end(args);
    if (size > (int)sizeof line - 3) return;
    line[size++] = '}';
    if (collector_fd >= 0) (void)!send(collector_fd, line, size, MSG_DONTWAIT);
    if (strcmp(event, "post") != 0) {
        line[size++] = '\n';
        (void)!write(1, line, size);
    }
}

static long number_of(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

static const char *text_of(const char *name, const char *otherwise) {
    const char *text = getenv(name);
    return text && *text ? text : otherwise;
}

static void read_settings(void) {
    static char host[256];
    gethostname(host, sizeof host - 1);
    settings = (struct settings){
        .revision = text_of("REVISION", "0"),
        .task = text_of("TASK", host),
        .node = text_of("NODE", ""),
        .health_path = text_of("HEALTH_PATH", "/health"),
        .stop_mode = text_of("STOP_MODE", "polite"),
        .port = number_of("PORT", 8080),
        .raw_port = number_of("RAW_PORT", 0),
        .start_delay = number_of("START_DELAY_MS", 0) / 1e3,
        .stop_delay = number_of("STOP_DELAY_MS", 0) / 1e3,
        .latency = number_of("LATENCY_MS", 0) / 1e3,
        .unhealthy_for = number_of("HEALTH_AFTER_MS", 0) / 1e3,
        .error_permille = number_of("ERROR_PERMILLE", 0),
        .tail_permille = number_of("TAIL_PERMILLE", 0),
        .tail = number_of("TAIL_MS", 0) / 1e3,
        .work = number_of("WORK_MS", 0) / 1e3,
        .servers = number_of("SERVERS", 1),
        .seed = number_of("SEED", 0),
        .leak_kib_s = number_of("LEAK_KIB_S", 0),
        .stop_signal = number_of("STOP_SIGNAL", SIGTERM),
    };
}

static void open_collector(void) {
    const char *text = getenv("COLLECT");
    char address[64];
    int port;
    if (!text || sscanf(text, "%63[0-9.]:%d", address, &port) != 2) return;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    collector_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connect(collector_fd, (struct sockaddr *)&to, sizeof to) != 0) collector_fd = -1;
}

static void watch(int fd, int op, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(epoll_fd, op, fd, &event);
}

static void add(int fd, enum kind kind) {
    if (fd >= MOST_CONNECTIONS) {
        close(fd);
        return;
    }
    if (fd > highest) highest = fd;
    conns[fd] = (struct conn){.fd = fd, .kind = kind};
    watch(fd, EPOLL_CTL_ADD, EPOLLIN);
}

static void drop(struct conn *conn) {
    close(conn->fd);
    free(conn->in);
    free(conn->out);
    *conn = (struct conn){.kind = UNUSED};
}

static void listen_at(int port, enum kind kind) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1024) != 0) {
        report("failed", ",\"error\":\"%s\"", strerror(errno));
        exit(1);
    }
    add(fd, kind);
}

static void flush(struct conn *conn) {
    while (conn->out_off < conn->out_len) {
        ssize_t sent = send(conn->fd, conn->out + conn->out_off, conn->out_len - conn->out_off, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch(conn->fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (sent < 0) {
            drop(conn);
            return;
        }
        conn->out_off += sent;
    }
    if (conn->out_len) watch(conn->fd, EPOLL_CTL_MOD, EPOLLIN);
    conn->out_len = conn->out_off = 0;
    if (conn->close_after) drop(conn);
}

static void serve(struct conn *conn) {
    if (conn->kind == HTTP) serve_http(conn);
    if (conn->kind == WEBSOCKET) serve_websocket(conn);
    if (conn->kind == RAW) {
        put(conn, conn->in, conn->in_len);
        consume(conn, conn->in_len);
    }
    if (!conn->due) flush(conn);
}

static void take_in(struct conn *conn) {
    if (conn->in_cap - conn->in_len < 8192) conn->in = realloc(conn->in, conn->in_cap += 32768);
    ssize_t got = recv(conn->fd, conn->in + conn->in_len, conn->in_cap - conn->in_len - 1, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(conn);
        return;
    }
    conn->in_len += got;
    serve(conn);
}

static void accept_all(const struct conn *listener) {
    int fd, one = 1;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        add(fd, listener->kind == LISTENER ? HTTP : RAW);
    }
}

static int count(enum kind kind) {
    int found = 0;
    for (int fd = 0; fd <= highest; fd++) found += conns[fd].kind == kind;
    return found;
}

static void begin_to_stop(void) {
    stopping = true;
    stopped_at = now();
    if (strcmp(settings.stop_mode, "serve") == 0) return;
    for (int fd = 0; fd <= highest; fd++) {
        struct conn *conn = &conns[fd];
        bool idle = conn->kind == HTTP && !conn->due && !conn->in_len && !conn->out_len;
        if (idle || conn->kind == LISTENER || conn->kind == RAW_LISTENER) drop(conn);
    }
}

static void on_signal(int signal_fd) {
    struct signalfd_siginfo got;
    while (read(signal_fd, &got, sizeof got) == sizeof got) {
        report("signal", ",\"signal\":%u,\"websockets\":%d,\"connections\":%d", got.ssi_signo, count(WEBSOCKET),
               count(HTTP));
        if ((int)got.ssi_signo == settings.stop_signal && !stopping) begin_to_stop();
    }
}

/* Close frames go out when the stop delay is over; the end comes when all are answered, or a second later. */
static void go_on_stopping(double at) {
    static bool frames_sent = false;
    if (!stopping || at < stopped_at + settings.stop_delay) return;
    int open = 0, unsent = 0;
    for (int fd = 0; fd <= highest; fd++) {
        struct conn *conn = &conns[fd];
        if (!frames_sent && conn->kind == WEBSOCKET) {
            put_close(conn, 1001);
            flush(conn);
        }
        open += conn->kind == WEBSOCKET;
        unsent += conn->kind == HTTP && (conn->due || conn->out_len);
    }
    frames_sent = true;
    if ((open || unsent) && at < stopped_at + settings.stop_delay + CLOSE_WAIT_S) return;
    report("end", ",\"unclosed\":%d,\"unanswered\":%d", open, unsent);
    exit(0);
}

static void leak(double at) {
    if (!settings.leak_kib_s || at - leaked_until < 0.1) return;
    size_t size = (size_t)((at - leaked_until) * settings.leak_kib_s) * 1024;
    char *lost = malloc(size);
    if (lost) memset(lost, 1, size);
    leaked_until = at;
}

/* Sends what is due and returns the milliseconds until something is. */
static int tick(void) {
    double at = now(), next = at + 1.0;
    static bool listening = false;
    if (!listening && at >= started_at + settings.start_delay && !stopping) {
        listening = true;
        listen_at(settings.port, LISTENER);
        if (settings.raw_port) listen_at(settings.raw_port, RAW_LISTENER);
        report("listening", ",\"port\":%d", settings.port);
    }
    for (int fd = 0; fd <= highest; fd++) {
        struct conn *conn = &conns[fd];
        if (!conn->due) continue;
        if (conn->due <= at) {
            conn->due = 0;
            serve(conn);
        } else if (conn->due < next)
            next = conn->due;
    }
    go_on_stopping(at);
    leak(at);
    if (stopping || settings.leak_kib_s || !listening) return 10;
    return (int)((next - at) * 1e3) + 1;
}

static int check(void) {
    char buffer[512];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(settings.port)};
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        puts("nothing listens");
        return 1;
    }
    int size = snprintf(buffer, sizeof buffer, "GET %s HTTP/1.0\r\n\r\n", settings.health_path);
    (void)!write(fd, buffer, size);
    ssize_t got = read(fd, buffer, sizeof buffer - 1);
    buffer[got > 0 ? got : 0] = 0;
    printf("%.12s\n", got > 12 ? buffer : "no answer");
    return strncmp(buffer, "HTTP/1.1 200", 12) != 0;
}

int main(int argc, char **argv) {
    read_settings();
    if (argc > 1 && strcmp(argv[1], "check") == 0) return check();
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    open_collector();
    started_at = leaked_until = now();
    if (settings.servers < 1 || settings.servers > MOST_SERVERS) settings.servers = 1;
    if (settings.seed) srand48(settings.seed ^ (unsigned long)(started_at * 1e6));
    report("start", ",\"node\":\"%s\"", settings.node);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int signal_fd = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
    watch(signal_fd, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        struct epoll_event events[64];
        int found = epoll_wait(epoll_fd, events, 64, tick());
        for (int i = 0; i < found; i++) {
            int fd = events[i].data.fd;
            if (fd == signal_fd)
                on_signal(fd);
            else if (conns[fd].kind == LISTENER || conns[fd].kind == RAW_LISTENER)
                accept_all(&conns[fd]);
            else if (conns[fd].kind != UNUSED) {
                if (events[i].events & EPOLLOUT) flush(&conns[fd]);
                if (conns[fd].kind != UNUSED && events[i].events & ~EPOLLOUT) take_in(&conns[fd]);
            }
        }
    }
}
