#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 65536, FLUSH_SIZE = 65536 };

double mlp_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* -- Descriptors -- */

static bool complain(const char *name, const char *what) {
    fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
    return false;
}

static bool take_standard(const char *name, int *in, int *out) {
    if (isatty(STDIN_FILENO)) {
        fprintf(stderr,
                "%s is a worker: it speaks frames with an orchestrator, not with a person at a terminal.\n"
                "Name this program as a service's command in mlports.toml and start that with \"mlports run\".\n",
                name);
        return false;
    }
    /* From 5 on: 3 and 4 may mean something to whoever started this. */
    *in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 5);
    *out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 5);
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (*in < 0 || *out < 0 || nothing < 0) return complain(name, "stdin and stdout cannot be taken for frames");
    if (dup2(nothing, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return complain(name, "stdout cannot be pointed at stderr");
    close(nothing);
    return true;
}

bool mlp_take_descriptors(const char *name, int *in, int *out) {
    const char *transport = getenv("MLPORTS_TRANSPORT");
    if (transport == NULL || strcmp(transport, "fd34") != 0) return take_standard(name, in, out);
    *in = 3;
    *out = 4;
    if (fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || fcntl(4, F_SETFD, FD_CLOEXEC) < 0)
        return complain(name, "MLPORTS_TRANSPORT is fd34, and descriptors 3 and 4 are not open");
    return true;
}

static void wait_for(int descriptor, short what) {
    struct pollfd one = {.fd = descriptor, .events = what};
    poll(&one, 1, -1);
}

/* -- Reading -- */

void mlp_frame_free(mlp_frame *frame) {
    if (frame == NULL) return;
    msgpack_zone_destroy(&frame->zone);
    free(frame);
}

void mlp_input_open(mlp_input *input, int descriptor) {
    *input = (mlp_input){.descriptor = descriptor, .max_frame = MLP_DEFAULT_MAX_FRAME};
    input->buffer = mlp_need(malloc(READ_SIZE));
}

/* Up to `size` bytes; 0 at the end of input. */
static size_t read_some(int descriptor, char *into, size_t size) {
    for (;;) {
        const ssize_t got = read(descriptor, into, size);
        if (got >= 0) return (size_t)got;
        if (errno == EAGAIN) wait_for(descriptor, POLLIN); /* somebody made it non-blocking */
        else if (errno != EINTR) return 0;
    }
}

static bool is_text(unsigned char first) {
    return first == '\t' || first == '\n' || first == '\r' || first == 0x1b || (first >= 0x20 && first <= 0x7e);
}

static bool check_length(const mlp_input *input, const char *head, uint32_t size, mlp_fault *fault) {
    if (size == 0) return mlp_blame(fault, "EmptyFrame", "a frame of 0 bytes");
    if (size <= input->max_frame) return true;
    if (is_text((unsigned char)head[0]))
        return mlp_blame(fault, "StdoutPolluted", "text where a frame was due: %.4s…", head);
    return mlp_blame(fault, "FrameTooLarge", "a frame of %u bytes, and %u are accepted", size, input->max_frame);
}

static bool decode(const mlp_input *input, mlp_frame *frame, mlp_fault *fault) {
    const size_t took =
        mlp_read_value(frame->bytes, frame->size, input->arrays, 0, &frame->zone, &frame->value, fault);
    if (took == 0) return false;
    return took == frame->size || mlp_blame(fault, "TrailingBytes", "%zu bytes behind the value of a frame", frame->size - took);
}

static mlp_frame *new_frame(uint32_t size) {
    mlp_frame *frame = mlp_need(malloc(sizeof *frame + size));
    const size_t chunk = size < 128 ? 1024 : size < 2048 ? 8 * (size_t)size : 16384;
    if (!msgpack_zone_init(&frame->zone, chunk)) mlp_need(NULL);
    frame->size = size;
    frame->next = NULL;
    return frame;
}

/* A frame that does not fit into the buffer: the rest of it is read to where it belongs. */
static mlp_got read_large(mlp_input *input, mlp_frame *frame, mlp_fault *fault) {
    size_t have = input->end - input->start;
    memcpy(frame->bytes, input->buffer + input->start, have);
    input->start = input->end = 0;
    mlp_flush();
    while (have < frame->size) {
        const size_t got = read_some(input->descriptor, frame->bytes + have, frame->size - have);
        if (got == 0) {
            mlp_blame(fault, "TruncatedFrame", "the input ends within a frame, after %zu of %u bytes", have, frame->size);
            return MLP_FAULT;
        }
        have += got;
    }
    return MLP_FRAME;
}

mlp_got mlp_next_frame(mlp_input *input, mlp_frame **frame, mlp_fault *fault) {
    const size_t have = input->end - input->start;
    const unsigned char *head = (const unsigned char *)input->buffer + input->start;
    if (have < 4) return MLP_NOTHING_YET;
    const uint32_t size = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
    if (!check_length(input, (const char *)head, size, fault)) return MLP_FAULT;
    const bool whole = have - 4 >= size;
    if (!whole && size <= READ_SIZE - 4) return MLP_NOTHING_YET;
    *frame = new_frame(size);
    input->start += 4;
    mlp_got got = MLP_FRAME;
    if (whole) {
        memcpy((*frame)->bytes, input->buffer + input->start, size);
        input->start += size;
    } else {
        got = read_large(input, *frame, fault);
    }
    if (got == MLP_FRAME && decode(input, *frame, fault)) return MLP_FRAME;
    mlp_frame_free(*frame);
    return MLP_FAULT;
}

mlp_got mlp_read_more(mlp_input *input, mlp_fault *fault) {
    const size_t have = input->end - input->start;
    memmove(input->buffer, input->buffer + input->start, have);
    input->start = 0;
    input->end = have;
    const size_t got = read_some(input->descriptor, input->buffer + have, READ_SIZE - have);
    input->end += got;
    if (got > 0) return MLP_NOTHING_YET;
    if (have == 0) return MLP_END;
    mlp_blame(fault, "TruncatedFrame", "the input ends within a frame, after %zu bytes", have);
    return MLP_FAULT;
}

/* -- Writing -- */

static struct {
    pthread_mutex_t lock;
    int descriptor;
    uint32_t peer_max_frame;
    msgpack_sbuffer waiting;
} output = {.lock = PTHREAD_MUTEX_INITIALIZER, .descriptor = -1, .peer_max_frame = MLP_DEFAULT_MAX_FRAME};

static void do_nothing(int signal) { (void)signal; }

void mlp_output_open(int descriptor) {
    /* A handler of its own, not SIG_IGN: programs that a handler starts get the default back. */
    struct sigaction nothing = {.sa_handler = do_nothing, .sa_flags = SA_RESTART};
    sigaction(SIGPIPE, &nothing, NULL);
    output.descriptor = descriptor;
}

void mlp_set_peer_max_frame(uint32_t max_frame) { output.peer_max_frame = max_frame; }

static void write_parts(struct iovec *parts, int count) {
    while (count > 0) {
        if (parts->iov_len == 0) {
            parts++;
            count--;
            continue;
        }
        const ssize_t written = writev(output.descriptor, parts, count);
        if (written < 0) {
            if (errno == EAGAIN) wait_for(output.descriptor, POLLOUT);
            else if (errno != EINTR) _exit(1); /* nobody reads: there is nobody to tell either */
            continue;
        }
        size_t left = (size_t)written;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
}

static void append(const char *bytes, size_t size) {
    if (size > 0 && msgpack_sbuffer_write(&output.waiting, bytes, size) != 0) mlp_need(NULL);
}

static void flush_locked(const mlp_part *last) {
    struct iovec parts[2] = {{output.waiting.data, output.waiting.size}, {NULL, 0}};
    if (last != NULL) parts[1] = (struct iovec){(void *)(uintptr_t)last->bytes, last->size};
    write_parts(parts, 2);
    output.waiting.size = 0;
    if (output.waiting.alloc > 4 * FLUSH_SIZE) {
        msgpack_sbuffer_destroy(&output.waiting);
        msgpack_sbuffer_init(&output.waiting);
    }
}

bool mlp_send(const mlp_part *parts, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++) size += parts[i].size;
    if (size > output.peer_max_frame) return false;
    const char head[4] = {(char)(size >> 24), (char)(size >> 16), (char)(size >> 8), (char)size};
    pthread_mutex_lock(&output.lock);
    append(head, 4);
    for (size_t i = 0; i + 1 < count; i++) append(parts[i].bytes, parts[i].size);
    const mlp_part *last = &parts[count - 1];
    if (last->size >= FLUSH_SIZE) { /* not copied first */
        flush_locked(last);
    } else {
        append(last->bytes, last->size);
        if (output.waiting.size >= FLUSH_SIZE) flush_locked(NULL);
    }
    pthread_mutex_unlock(&output.lock);
    return true;
}

void mlp_flush(void) {
    pthread_mutex_lock(&output.lock);
    if (output.waiting.size > 0) flush_locked(NULL);
    pthread_mutex_unlock(&output.lock);
}

bool mlp_nobody_reads(void) {
    struct pollfd one = {.fd = output.descriptor};
    return poll(&one, 1, 0) > 0 && (one.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
}
