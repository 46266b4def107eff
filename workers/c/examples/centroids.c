/* Nearest centroid: each class is the mean of its rows, a new row belongs to the one that it is nearest to. */
#include <math.h>
#include <mlports.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "rows.h"

static struct {
    size_t columns, classes; /* columns 0: not fitted */
    int64_t *labels;         /* ascending */
    double *centroids, *mean, *scale;
} model;

static int by_value(const void *left, const void *right) {
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double *zeros(size_t count) {
    double *values = calloc(count + 1, sizeof *values);
    if (values == NULL) exit(1);
    return values;
}

static void find_classes(const int64_t *labels, size_t count) {
    model.labels = realloc(model.labels, (count + 1) * sizeof *model.labels);
    if (model.labels == NULL) exit(1);
    memcpy(model.labels, labels, count * sizeof *labels);
    qsort(model.labels, count, sizeof *labels, by_value);
    model.classes = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || model.labels[i] != model.labels[model.classes - 1]) model.labels[model.classes++] = model.labels[i];
}

static void find_scale(const matrix *x) {
    for (size_t i = 0; i < x->rows; i++)
        for (size_t k = 0; k < x->columns; k++) model.mean[k] += x->values[i * x->columns + k];
    for (size_t k = 0; k < x->columns; k++) model.mean[k] /= (double)x->rows;
    for (size_t i = 0; i < x->rows; i++)
        for (size_t k = 0; k < x->columns; k++) {
            const double off = x->values[i * x->columns + k] - model.mean[k];
            model.scale[k] += off * off;
        }
    for (size_t k = 0; k < x->columns; k++) {
        model.scale[k] = sqrt(model.scale[k] / (double)x->rows);
        if (model.scale[k] == 0) model.scale[k] = 1; /* a column that never changes */
    }
}

static void find_centroids(const matrix *x, const int64_t *labels) {
    double *sizes = zeros(model.classes);
    for (size_t i = 0; i < x->rows; i++) {
        const int64_t *found = bsearch(&labels[i], model.labels, model.classes, sizeof *labels, by_value);
        const size_t class = (size_t)(found - model.labels);
        sizes[class]++;
        for (size_t k = 0; k < x->columns; k++) model.centroids[class * x->columns + k] += x->values[i * x->columns + k];
    }
    for (size_t c = 0; c < model.classes; c++)
        for (size_t k = 0; k < x->columns; k++) model.centroids[c * x->columns + k] /= sizes[c];
    free(sizes);
}

static void forget(void) {
    free(model.centroids);
    free(model.mean);
    free(model.scale);
}

static void train(const matrix *x, const int64_t *labels) {
    forget();
    find_classes(labels, x->rows);
    model.columns = x->columns;
    model.centroids = zeros(model.classes * x->columns);
    model.mean = zeros(x->columns);
    model.scale = zeros(x->columns);
    find_scale(x);
    find_centroids(x, labels);
}

static int64_t nearest(const double *row) {
    const kernel *with = kernels_here();
    size_t best = 0;
    double least = INFINITY;
    for (size_t c = 0; c < model.classes; c++) {
        const double distance = with->distance(row, model.centroids + c * model.columns, model.columns);
        if (distance < least) {
            least = distance;
            best = c;
        }
    }
    return model.labels[best];
}

static int take_fitted_rows(mlports_context *context, const msgpack_object *value, matrix *x) {
    if (model.columns == 0) return mlports_fail(context, "failed_precondition", "not fitted yet: call fit, or set config data");
    return take_rows(context, value, model.columns, x);
}

static void pack_predictions(const matrix *x, msgpack_packer *result) {
    msgpack_pack_array(result, x->rows);
    for (size_t i = 0; i < x->rows; i++) msgpack_pack_int64(result, nearest(x->values + i * x->columns));
}

static void pack_text(msgpack_packer *packer, const char *text) { msgpack_pack_str_with_body(packer, text, strlen(text)); }

/* -- Methods -- */

static int fit(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *rows, *said;
    matrix x;
    int64_t *labels;
    if (mlports_arguments(context, args, "oo", &rows, &said) != 0 || take_rows(context, rows, 0, &x) != 0) return -1;
    int status = x.rows > 0 && x.columns > 0 ? 0 : mlports_fail(context, "invalid_argument", "there are no rows to fit");
    if (status == 0) status = take_labels(context, said, x.rows, &labels);
    if (status == 0) {
        train(&x, labels);
        free(labels);
        msgpack_pack_map(result, 3);
        pack_text(result, "rows");
        msgpack_pack_uint64(result, x.rows);
        pack_text(result, "classes");
        msgpack_pack_array(result, model.classes);
        for (size_t c = 0; c < model.classes; c++) msgpack_pack_int64(result, model.labels[c]);
        pack_text(result, "kernel");
        pack_text(result, kernels_here()->name);
    }
    free(x.values);
    return status;
}

static int predict(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *rows;
    matrix x;
    if (mlports_arguments(context, args, "o", &rows) != 0 || take_fitted_rows(context, rows, &x) != 0) return -1;
    pack_predictions(&x, result);
    free(x.values);
    return 0;
}

/* The rows with mean 0 and deviation 1 in each column, by the rows fitted. */
static int scale(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *rows;
    matrix x;
    if (mlports_arguments(context, args, "o", &rows) != 0 || take_fitted_rows(context, rows, &x) != 0) return -1;
    msgpack_pack_array(result, x.rows);
    for (size_t i = 0; i < x.rows; i++) {
        double *row = x.values + i * x.columns;
        kernels_here()->standardise(row, model.mean, model.scale, row, x.columns);
        msgpack_pack_array(result, x.columns);
        for (size_t k = 0; k < x.columns; k++) msgpack_pack_double(result, row[k]);
    }
    free(x.values);
    return 0;
}

/* For each row its cosine with each class's centroid, in the order of fit's classes. */
static int similarity(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *rows;
    matrix x;
    if (mlports_arguments(context, args, "o", &rows) != 0 || take_fitted_rows(context, rows, &x) != 0) return -1;
    msgpack_pack_array(result, x.rows);
    for (size_t i = 0; i < x.rows; i++) {
        msgpack_pack_array(result, model.classes);
        for (size_t c = 0; c < model.classes; c++)
            msgpack_pack_double(result, kernel_cosine(kernels_here(), x.values + i * x.columns,
                                                      model.centroids + c * x.columns, x.columns));
    }
    free(x.values);
    return 0;
}

/* A map's pairs but one, whose new value the caller packs behind its key. */
static void pack_all_but(msgpack_packer *packer, const msgpack_object_map *map, const char *key) {
    const bool there = mlports_get(map, key) != NULL;
    msgpack_pack_map(packer, (map != NULL ? map->size : 0) + !there);
    for (uint32_t i = 0; map != NULL && i < map->size; i++) {
        if (&map->ptr[i].val == mlports_get(map, key)) continue;
        msgpack_pack_object(packer, map->ptr[i].key);
        msgpack_pack_object(packer, map->ptr[i].val);
    }
    pack_text(packer, key);
}

static int vote(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    msgpack_object_map record;
    matrix x;
    if (mlports_arguments(context, args, "m", &record) != 0) return -1;
    const msgpack_object *rows = mlports_get(&record, "x"), *votes = mlports_get(&record, "votes");
    if (rows == NULL) return mlports_fail(context, "invalid_argument", "the record has no x");
    if (votes != NULL && votes->type != MSGPACK_OBJECT_MAP)
        return mlports_fail(context, "invalid_argument", "the record's votes are not a map");
    if (take_fitted_rows(context, rows, &x) != 0) return -1;
    pack_all_but(result, &record, "votes");
    pack_all_but(result, votes != NULL ? &votes->via.map : NULL, "c");
    pack_predictions(&x, result);
    free(x.values);
    return 0;
}

static int load(const msgpack_object_map *config) {
    mlports_text path;
    char name[4096];
    matrix x;
    int64_t *labels;
    const msgpack_object *data = mlports_get(config, "data");
    if (data == NULL) return 0;
    if (!mlports_as_text(data, &path) || path.size >= sizeof name) {
        fputs("config data is the path of a file\n", stderr);
        return -1;
    }
    snprintf(name, sizeof name, "%.*s", (int)path.size, path.ptr);
    const bool read = read_csv(name, &x, &labels) && x.rows > 0;
    if (read) train(&x, labels);
    free(x.values);
    free(labels);
    return read ? 0 : -1;
}

int main(void) {
    static const mlports_method methods[] = {
        {"fit", fit, MLPORTS_IDEMPOTENT},
        {"predict", predict, MLPORTS_IDEMPOTENT},
        {"scale", scale, MLPORTS_IDEMPOTENT},
        {"similarity", similarity, MLPORTS_IDEMPOTENT},
        {"vote", vote, MLPORTS_IDEMPOTENT},
        {0},
    };
    const int status = mlports_run(&(mlports_worker){.name = "centroids", .methods = methods, .setup = load});
    forget();
    free(model.labels);
    return status;
}
