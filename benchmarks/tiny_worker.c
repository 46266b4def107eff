/* A bare worker that costs next to nothing, so that what a thousand of them cost is their supervisor's.
 *
 * It answers `$/hello` with an error, as bare workers do, and any other request with its first argument. The end of its
 * input ends it with status 0, what it does not understand with status 1.
 */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 64 * 1024 };

static unsigned char frame[MOST], answer[4 + 64 + MOST];

static int read_all(unsigned char *to, size_t size) {
    for (size_t got = 0; got < size;) {
        ssize_t n = read(0, to + got, size - got);
        if (n <= 0) return 0;
        got += (size_t)n;
    }
    return 1;
}

static void write_all(const unsigned char *from, size_t size) {
    while (size) {
        ssize_t n = write(1, from, size);
        if (n < 0) _exit(1);
        from += n;
        size -= (size_t)n;
    }
}

/* MessagePack's heads from 0xc0 on: bytes of the count that follows; bytes beyond it, and those or the values that are
 * counted. */
static const struct {
    unsigned char width, more, counted_bytes, counted_values;
} heads[32] = {
    {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0},                   /* nil, -, false, true */
    {1, 0, 1, 0}, {2, 0, 1, 0}, {4, 0, 1, 0},                                 /* bin */
    {1, 1, 1, 0}, {2, 1, 1, 0}, {4, 1, 1, 0},                                 /* ext */
    {0, 4, 0, 0}, {0, 8, 0, 0},                                               /* float */
    {0, 1, 0, 0}, {0, 2, 0, 0}, {0, 4, 0, 0}, {0, 8, 0, 0},                   /* uint */
    {0, 1, 0, 0}, {0, 2, 0, 0}, {0, 4, 0, 0}, {0, 8, 0, 0},                   /* int */
    {0, 2, 0, 0}, {0, 3, 0, 0}, {0, 5, 0, 0}, {0, 9, 0, 0}, {0, 17, 0, 0},    /* fixext */
    {1, 0, 1, 0}, {2, 0, 1, 0}, {4, 0, 1, 0},                                 /* str */
    {2, 0, 0, 1}, {4, 0, 0, 1}, {2, 0, 0, 2}, {4, 0, 0, 2},                   /* array, map */
};

/* What follows the value at `at`; a value that reaches past `end` ends the worker. */
static const unsigned char *after(const unsigned char *at, const unsigned char *end) {
    for (uint64_t values = 1; values; values--) {
        if (at >= end) _exit(1);
        unsigned char head = *at++;
        uint64_t bytes = 0;
        if (head >= 0xc0 && head < 0xe0) {
            uint64_t count = 0;
            for (int i = heads[head - 0xc0].width; i; i--) {
                if (at >= end) _exit(1);
                count = count << 8 | *at++;
            }
            bytes = heads[head - 0xc0].more + count * heads[head - 0xc0].counted_bytes;
            values += count * heads[head - 0xc0].counted_values;
        } else if (head >= 0xa0 && head < 0xc0) {
            bytes = head & 31u;
        } else if (head >= 0x80 && head < 0xa0) {
            values += (head & 15u) << (head < 0x90);
        }
        if ((uint64_t)(end - at) < bytes) _exit(1);
        at += bytes;
    }
    return at;
}

static unsigned char *append(unsigned char *to, const void *from, size_t size) {
    memcpy(to, from, size);
    return to + size;
}

static void respond(const unsigned char *id, const unsigned char *method, const unsigned char *end) {
    static const unsigned char refusal[] =
        "\x82\xa4" "code" "\xad" "unimplemented" "\xa7" "message" "\xae" "no such method\xc0";
    const unsigned char *params = after(method, end), *argument = params + 1;
    unsigned char *at = append(answer + 4, "\x94\x01", 2);
    at = append(at, id, (size_t)(method - id));
    if (end - method > 2 && method[1] == '$' && method[2] == '/') {
        at = append(at, refusal, sizeof refusal - 1);
    } else {
        if (params >= end || *params < 0x91 || *params > 0x9f) _exit(1);
        *at++ = 0xc0;
        at = append(at, argument, (size_t)(after(argument, end) - argument));
    }
    uint32_t size = (uint32_t)(at - answer - 4);
    for (int i = 0; i < 4; i++) answer[i] = (unsigned char)(size >> (24 - 8 * i));
    write_all(answer, 4 + size);
}

int main(void) {
    unsigned char head[4];
    while (read_all(head, 4)) {
        uint32_t size = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
        if (size < 2 || size > MOST || !read_all(frame, size)) return 1;
        const unsigned char *end = frame + size;
        if ((*frame & 0xf0) != 0x90) return 1;
        if (frame[1] == 0) respond(frame + 2, after(frame + 2, end), end);
    }
    return 0;
}
