#include "kernel.h"

#include <math.h>

/* -- Portable: one by one, the order in which everybody adds up -- */

static double portable_dot(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static double portable_distance(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

static void portable_standardise(const double *row, const double *mean, const double *scale, double *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (row[i] - mean[i]) / scale[i];
}

#define PORTABLE {"portable", portable_dot, portable_distance, portable_standardise}

double kernel_cosine(const kernel *with, const double *a, const double *b, size_t n) {
    const double lengths = sqrt(with->dot(a, a, n)) * sqrt(with->dot(b, b, n));
    return lengths > 0 ? with->dot(a, b, n) / lengths : 0;
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* -- SSE2, which every x86-64 has: 2 lanes, 2 sums at once, since an addition takes longer than its turn -- */

static double sum2(__m128d pair) { return _mm_cvtsd_f64(pair) + _mm_cvtsd_f64(_mm_unpackhi_pd(pair, pair)); }

static double sse2_dot(const double *a, const double *b, size_t n) {
    __m128d even = _mm_setzero_pd(), odd = _mm_setzero_pd();
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        even = _mm_add_pd(even, _mm_mul_pd(_mm_loadu_pd(a + i), _mm_loadu_pd(b + i)));
        odd = _mm_add_pd(odd, _mm_mul_pd(_mm_loadu_pd(a + i + 2), _mm_loadu_pd(b + i + 2)));
    }
    return sum2(_mm_add_pd(even, odd)) + portable_dot(a + i, b + i, n - i);
}

static double sse2_distance(const double *a, const double *b, size_t n) {
    __m128d even = _mm_setzero_pd(), odd = _mm_setzero_pd();
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const __m128d first = _mm_sub_pd(_mm_loadu_pd(a + i), _mm_loadu_pd(b + i));
        const __m128d second = _mm_sub_pd(_mm_loadu_pd(a + i + 2), _mm_loadu_pd(b + i + 2));
        even = _mm_add_pd(even, _mm_mul_pd(first, first));
        odd = _mm_add_pd(odd, _mm_mul_pd(second, second));
    }
    return sum2(_mm_add_pd(even, odd)) + portable_distance(a + i, b + i, n - i);
}

static void sse2_standardise(const double *row, const double *mean, const double *scale, double *out, size_t n) {
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
        const __m128d off = _mm_sub_pd(_mm_loadu_pd(row + i), _mm_loadu_pd(mean + i));
        _mm_storeu_pd(out + i, _mm_div_pd(off, _mm_loadu_pd(scale + i)));
    }
    portable_standardise(row + i, mean + i, scale + i, out + i, n - i);
}

/* -- AVX2 with fused multiply-add: 4 lanes, 4 sums at once -- */

#define AVX2 __attribute__((target("avx2,fma")))

AVX2 static double sum4(__m256d four) {
    return sum2(_mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1)));
}

AVX2 static double avx2_dot(const double *a, const double *b, size_t n) {
    __m256d sums[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
        for (size_t k = 0; k < 4; k++)
            sums[k] = _mm256_fmadd_pd(_mm256_loadu_pd(a + i + 4 * k), _mm256_loadu_pd(b + i + 4 * k), sums[k]);
    for (; i + 4 <= n; i += 4) sums[0] = _mm256_fmadd_pd(_mm256_loadu_pd(a + i), _mm256_loadu_pd(b + i), sums[0]);
    const __m256d all = _mm256_add_pd(_mm256_add_pd(sums[0], sums[1]), _mm256_add_pd(sums[2], sums[3]));
    return sum4(all) + portable_dot(a + i, b + i, n - i);
}

AVX2 static double avx2_distance(const double *a, const double *b, size_t n) {
    __m256d sums[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
        for (size_t k = 0; k < 4; k++) {
            const __m256d off = _mm256_sub_pd(_mm256_loadu_pd(a + i + 4 * k), _mm256_loadu_pd(b + i + 4 * k));
            sums[k] = _mm256_fmadd_pd(off, off, sums[k]);
        }
    for (; i + 4 <= n; i += 4) {
        const __m256d off = _mm256_sub_pd(_mm256_loadu_pd(a + i), _mm256_loadu_pd(b + i));
        sums[0] = _mm256_fmadd_pd(off, off, sums[0]);
    }
    const __m256d all = _mm256_add_pd(_mm256_add_pd(sums[0], sums[1]), _mm256_add_pd(sums[2], sums[3]));
    return sum4(all) + portable_distance(a + i, b + i, n - i);
}

AVX2 static void avx2_standardise(const double *row, const double *mean, const double *scale, double *out, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const __m256d off = _mm256_sub_pd(_mm256_loadu_pd(row + i), _mm256_loadu_pd(mean + i));
        _mm256_storeu_pd(out + i, _mm256_div_pd(off, _mm256_loadu_pd(scale + i)));
    }
    portable_standardise(row + i, mean + i, scale + i, out + i, n - i);
}

const kernel *kernels_here(void) {
    static const kernel all[] = {
        {"avx2", avx2_dot, avx2_distance, avx2_standardise},
        {"sse2", sse2_dot, sse2_distance, sse2_standardise},
        PORTABLE,
        {0},
    };
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? all : all + 1;
}

#else

const kernel *kernels_here(void) {
    static const kernel all[] = {PORTABLE, {0}};
    return all;
}

#endif
