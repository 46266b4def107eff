/* Compiled by `cc -O2 -shared -fPIC`, called by kernels.py. */
#include <stddef.h>

double sum_of_squares(const double *values, size_t count) {
    double sums[4] = {0, 0, 0, 0}; /* four at a time: one sum would wait for itself */
    size_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (size_t k = 0; k < 4; k++) sums[k] += values[i + k] * values[i + k];
    for (; i < count; i++) sums[0] += values[i] * values[i];
    return sums[0] + sums[1] + sums[2] + sums[3];
}

/* What a wrong index does, sooner or later. */
void write_where_nothing_is(void) { *(volatile int *)16 = 1; }
