/* kernels < NUMBERS: for each kernel here, a line `NAME cosine distance standardised…` of the two rows on stdin
 * (`N`, then N numbers of the one, N of the other; the second row's absolute values + 1 serve as scale, the first as
 * mean of the second). kernels time: nanoseconds for each dot product of 1024 doubles, by kernel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel.h"

enum { TIMED = 1024, ROUNDS = 100000 };

static void show(const kernel *with, const double *a, const double *b, const double *scale, double *out, size_t n) {
    printf("%s %.17g %.17g", with->name, kernel_cosine(with, a, b, n), with->distance(a, b, n));
    with->standardise(b, a, scale, out, n);
    for (size_t i = 0; i < n; i++) printf(" %.17g", out[i]);
    puts("");
}

static int compare(void) {
    size_t n;
    if (scanf("%zu", &n) != 1) return 1;
    double *all = calloc(4 * n + 1, sizeof *all), *a = all, *b = a + n, *scale = b + n, *out = scale + n;
    for (size_t i = 0; i < 2 * n; i++)
        if (scanf("%lf", &all[i]) != 1) return 1;
    for (size_t i = 0; i < n; i++) scale[i] = (b[i] < 0 ? -b[i] : b[i]) + 1;
    for (const kernel *with = kernels_here(); with->name != NULL; with++) show(with, a, b, scale, out, n);
    free(all);
    return 0;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int measure(void) {
    double a[TIMED], b[TIMED];
    volatile double sum = 0;
    for (int i = 0; i < TIMED; i++) a[i] = b[TIMED - 1 - i] = i;
    for (const kernel *with = kernels_here(); with->name != NULL; with++) {
        const double began = seconds();
        for (int i = 0; i < ROUNDS; i++) sum = sum + with->dot(a, b, TIMED);
        printf("%s %.1f\n", with->name, (seconds() - began) / ROUNDS * 1e9);
    }
    return 0;
}

int main(int count, char **arguments) { return count > 1 && strcmp(arguments[1], "time") == 0 ? measure() : compare(); }
