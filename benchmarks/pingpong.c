/* The limit: two C processes and two pipes, one message at a time, nothing decoded.
 *
 *   pingpong SIZE CALLS [CORE CORE]      the cores to pin the caller and the echo to
 *
 * prints: calls, nanoseconds in all, median and 99th percentile of one round trip in nanoseconds.
 * The echo takes a whole message before it answers, as every message protocol does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int read_all(int fd, char *buffer, size_t size) {
    for (size_t got = 0; got < size;) {
        ssize_t n = read(fd, buffer + got, size - got);
        if (n < 0) fail("read");
        if (n == 0) return 0;
        got += (size_t)n;
    }
    return 1;
}

static void write_all(int fd, const char *buffer, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, buffer + done, size - done);
        if (n < 0) fail("write");
        done += (size_t)n;
    }
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void pin(int core) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(core, &only);
    if (sched_setaffinity(0, sizeof only, &only)) fail("sched_setaffinity");
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: pingpong SIZE CALLS [CORE CORE]\n");
        return 2;
    }
    size_t size = strtoull(argv[1], NULL, 10);
    long calls = strtol(argv[2], NULL, 10);
    if (size == 0 || calls <= 0) {
        fprintf(stderr, "SIZE and CALLS must be positive\n");
        return 2;
    }
    int pinned = argc == 5;

    int there[2], back[2];
    if (pipe(there) || pipe(back)) fail("pipe");
    /* Refused to an unprivileged user past its limit: then the pipe keeps its usual size. */
    fcntl(there[1], F_SETPIPE_SZ, 1 << 20);
    fcntl(back[1], F_SETPIPE_SZ, 1 << 20);
    char *buffer = malloc(size);
    int64_t *times = malloc((size_t)calls * sizeof *times);
    if (!buffer || !times) fail("malloc");
    memset(buffer, 'x', size);

    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        if (pinned) pin(atoi(argv[4]));
        close(there[1]);
        close(back[0]);
        while (read_all(there[0], buffer, size)) write_all(back[1], buffer, size);
        _exit(0);
    }
    if (pinned) pin(atoi(argv[3]));
    close(there[0]);
    close(back[1]);

    long warm_up = calls / 10 + 1;
    int64_t start = 0, last = 0;
    for (long i = -warm_up; i < calls; i++) {
        if (i == 0) start = last = now();
        write_all(there[1], buffer, size);
        if (!read_all(back[0], buffer, size)) {
            fprintf(stderr, "the echo process ended early\n");
            return 1;
        }
        if (i >= 0) {
            int64_t t = now();
            times[i] = t - last;
            last = t;
        }
    }
    close(there[1]);
    waitpid(child, NULL, 0);
    qsort(times, (size_t)calls, sizeof *times, by_value);
    printf("%ld %lld %lld %lld\n", calls, (long long)(last - start), (long long)times[calls / 2],
           (long long)times[calls * 99 / 100]);
    return 0;
}
