#include "rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *need(void *memory) {
    if (memory != NULL) return memory;
    fputs("out of memory\n", stderr);
    exit(1);
}

static int fail_columns(mlports_context *context, size_t row, size_t is, size_t due) {
    return mlports_fail(context, "invalid_argument", "row %zu has %zu numbers, and %zu are due", row, is, due);
}

static double element(const mlports_ndarray *array, size_t index) {
    const char *at = array->data + index * array->itemsize;
    double wide;
    float narrow;
    if (array->itemsize == 1) return *(const unsigned char *)at;
    if (array->itemsize == 4) {
        memcpy(&narrow, at, 4);
        return narrow;
    }
    memcpy(&wide, at, 8);
    return wide;
}

static int take_array(mlports_context *context, const mlports_ndarray *array, size_t columns, matrix *rows) {
    const bool known = !strcmp(array->dtype, "<f8") || !strcmp(array->dtype, "<f4") || !strcmp(array->dtype, "|u1");
    if (!known || array->ndim != 2)
        return mlports_fail(context, "invalid_argument", "rows are an array of 2 dimensions of <f8, <f4 or |u1");
    if (columns > 0 && array->shape[1] != columns) return fail_columns(context, 0, array->shape[1], columns);
    *rows = (matrix){array->shape[0], array->shape[1], need(malloc((array->count + 1) * sizeof(double)))};
    for (size_t i = 0; i < array->count; i++) rows->values[i] = element(array, i);
    return 0;
}

static int take_row(mlports_context *context, const msgpack_object *row, size_t index, const matrix *rows) {
    if (row->type != MSGPACK_OBJECT_ARRAY) return mlports_fail(context, "invalid_argument", "row %zu is not a list", index);
    if (row->via.array.size != rows->columns) return fail_columns(context, index, row->via.array.size, rows->columns);
    double *out = rows->values + index * rows->columns;
    for (size_t i = 0; i < rows->columns; i++)
        if (!mlports_as_double(&row->via.array.ptr[i], &out[i]))
            return mlports_fail(context, "invalid_argument", "element %zu of row %zu is not a number", i, index);
    return 0;
}

int take_rows(mlports_context *context, const msgpack_object *value, size_t columns, matrix *rows) {
    mlports_ndarray array;
    if (mlports_as_ndarray(value, &array)) return take_array(context, &array, columns, rows);
    if (value->type != MSGPACK_OBJECT_ARRAY)
        return mlports_fail(context, "invalid_argument", "rows are a list of lists of numbers, or an array");
    const msgpack_object_array *list = &value->via.array;
    if (columns == 0 && list->size > 0 && list->ptr[0].type == MSGPACK_OBJECT_ARRAY) columns = list->ptr[0].via.array.size;
    *rows = (matrix){list->size, columns, need(malloc((list->size * columns + 1) * sizeof(double)))};
    for (size_t i = 0; i < list->size; i++) {
        if (take_row(context, &list->ptr[i], i, rows) == 0) continue;
        free(rows->values);
        rows->values = NULL;
        return -1;
    }
    return 0;
}

static bool label_of(const msgpack_object *value, int64_t *label) {
    double number;
    if (!mlports_as_double(value, &number) || number != floor(number) || fabs(number) > 9e15) return false;
    *label = (int64_t)number;
    return true;
}

int take_labels(mlports_context *context, const msgpack_object *value, size_t count, int64_t **labels) {
    if (value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size != count)
        return mlports_fail(context, "invalid_argument", "labels are a list of %zu integers, one for each row", count);
    *labels = need(malloc((count + 1) * sizeof **labels));
    for (size_t i = 0; i < count; i++) {
        if (label_of(&value->via.array.ptr[i], &(*labels)[i])) continue;
        free(*labels);
        *labels = NULL;
        return mlports_fail(context, "invalid_argument", "label %zu is not an integer", i);
    }
    return 0;
}

/* Appends a line's numbers but the last to `rows`, the last to `labels`. */
static bool read_line(char *line, matrix *rows, int64_t **labels) {
    size_t count = 0, room = 64;
    double *numbers = need(malloc(room * sizeof *numbers));
    bool right = true;
    for (char *at = line, *end = line; right && *end != 0; at = end + 1) {
        if (count == room) numbers = need(realloc(numbers, (room *= 2) * sizeof *numbers));
        numbers[count++] = strtod(at, &end);
        right = end != at && (*end == ',' || *end == 0);
    }
    right = right && count >= 2 && (rows->rows == 0 || count == rows->columns + 1);
    if (right) {
        rows->columns = count - 1;
        rows->values = need(realloc(rows->values, (rows->rows + 1) * rows->columns * sizeof(double)));
        memcpy(rows->values + rows->rows * rows->columns, numbers, rows->columns * sizeof(double));
        *labels = need(realloc(*labels, (rows->rows + 1) * sizeof **labels));
        (*labels)[rows->rows++] = (int64_t)numbers[count - 1];
    }
    free(numbers);
    return right;
}

bool read_csv(const char *path, matrix *rows, int64_t **labels) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    bool right = true;
    *rows = (matrix){0};
    *labels = NULL;
    if (file == NULL) {
        fprintf(stderr, "the training data cannot be read: ");
        perror(path);
        return false;
    }
    while (right && getline(&line, &room, file) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        right = read_line(line, rows, labels);
    }
    if (!right) fprintf(stderr, "%s: line %zu is not as many numbers as those before it\n", path, rows->rows + 1);
    free(line);
    fclose(file);
    return right;
}
