/* Rows of numbers, from a call's argument or from a file. */
#ifndef ROWS_H
#define ROWS_H

#include <mlports.h>

typedef struct {
    size_t rows, columns;
    double *values; /* row by row; free() */
} matrix;

/* From a list of equally long lists of numbers, or a 2-d array of <f8, <f4 or |u1. `columns` that there must be, 0: any.
 * Returns 0, or -1 having failed the call. */
int take_rows(mlports_context *context, const msgpack_object *value, size_t columns, matrix *rows);

/* As many integers as there are rows. They are free()'s. */
int take_labels(mlports_context *context, const msgpack_object *value, size_t count, int64_t **labels);

/* Comma-separated numbers, the last of a line its integer label. False, having said why on stderr. */
bool read_csv(const char *path, matrix *rows, int64_t **labels);

#endif
