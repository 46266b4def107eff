/* Distances and cosines between rows of doubles, with the widest instructions that this processor has. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stddef.h>

typedef struct {
    const char *name; /* "avx2", "sse2" or "portable" */
    double (*dot)(const double *a, const double *b, size_t n);
    double (*distance)(const double *a, const double *b, size_t n); /* squared, Euclidean */
    /* out[i] = (row[i] − mean[i]) / scale[i] */
    void (*standardise)(const double *row, const double *mean, const double *scale, double *out, size_t n);
} kernel;

/* All that run here, the fastest first, ended by one whose name is NULL; "portable" is always there. */
const kernel *kernels_here(void);

/* Cosine of the angle between two rows; 0 where one of them is all zeros. */
double kernel_cosine(const kernel *with, const double *a, const double *b, size_t n);

#endif
