/* mlports: a worker in C. See README.md beside this folder; the program below is a whole one.
 *
 *     static int add(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
 *         double a, b;
 *         if (mlports_arguments(context, args, "dd", &a, &b) != 0) return -1;
 *         return msgpack_pack_double(result, a + b);
 *     }
 *
 *     int main(void) {
 *         static const mlports_method methods[] = {{"add", add, MLPORTS_IDEMPOTENT}, {0}};
 *         return mlports_run(&(mlports_worker){.name = "sums", .methods = methods});
 *     }
 */
#ifndef MLPORTS_H
#define MLPORTS_H

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __GNUC__
#define MLPORTS_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define MLPORTS_PRINTF(text, first)
#endif

/* One call at work: a handler gets it, and gives it to the functions below. Gone when the handler returns. */
typedef struct mlports_context mlports_context;

/* Packs its result, one value, into `result` and returns 0; nothing packed is nil. Fails by `return mlports_fail(…)`.
 * `args` are the positional arguments; what they point at lives as long as the call.
 * Runs on the thread that called mlports_run, or with concurrency > 1 on one of so many threads. */
typedef int (*mlports_handler)(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result);

enum {
    MLPORTS_IDEMPOTENT = 1, /* a call may be repeated after a crash */
    MLPORTS_BATCH = 2,      /* args are calls, each an array of arguments; mlports_next behind each one's result */
    MLPORTS_STREAM = 4,     /* packs items, mlports_yield behind each; what is packed last is the result */
    MLPORTS_INPUT = 8       /* takes a streamed argument: mlports_input */
};

typedef struct {
    const char *name; /* NULL ends the table */
    mlports_handler handler;
    unsigned flags;
} mlports_method;

typedef struct {
    const char *name;
    const mlports_method *methods; /* static: it is read until the process ends */
    /* Called once, with the service's config, before the first call; NULL: none. Other than 0 ends the worker with
     * status 1; it says why on stderr itself. */
    int (*setup)(const msgpack_object_map *config);
    unsigned concurrency; /* threads that run handlers; 0 is 1 */
    uint32_t max_frame;   /* longest frame accepted, bytes; 0: as the orchestrator's own */
} mlports_worker;

/* Serves until the orchestrator says stop or goes. Returns the status to exit with: 0, 1 when setup failed or the
 * protocol was broken (said on stderr), 2 at a terminal. Once in a process, and before anything is printed: it takes
 * stdin and stdout for itself, and what is printed afterwards goes to stderr. */
int mlports_run(const mlports_worker *worker);

/* -- Failing. Each returns -1, for `return`. -- */

/* Ends the call with one of the protocol's error codes ("invalid_argument", "not_found", …; "unknown" for what just
 * went wrong) and a message of one line. In a batch method it fails the item, before mlports_next. */
int mlports_fail(mlports_context *context, const char *code, const char *format, ...) MLPORTS_PRINTF(3, 4);

/* The same with `data`, one packed value (NULL: none), and whether the same call may succeed elsewhere or later. */
int mlports_fail_with(mlports_context *context, const char *code, const char *message, const msgpack_sbuffer *data,
                      bool retryable);

/* -- Arguments -- */

typedef struct {
    const char *ptr; /* not ended by a 0 */
    uint32_t size;
} mlports_text;

/* Takes arguments apart by `format`, a letter for each: d double * (integers too), i int64_t *, b bool *,
 * s mlports_text * (str, or bin that is UTF-8), a msgpack_object_array *, m msgpack_object_map *,
 * o const msgpack_object **. Those behind a | may be missing: their places are left alone.
 * Returns 0, or -1 having failed the call with invalid_argument. */
int mlports_arguments(mlports_context *context, const msgpack_object_array *args, const char *format, ...);

bool mlports_as_double(const msgpack_object *value, double *number);
bool mlports_as_text(const msgpack_object *value, mlports_text *text);
/* The value of a key, NULL when there is none (or `map` is NULL). */
const msgpack_object *mlports_get(const msgpack_object_map *map, const char *key);

/* An array as numpy's (extension 1). `data` is not aligned: memcpy out of it. */
typedef struct {
    char dtype[24]; /* "<f8", "|u1", … */
    uint32_t ndim;
    uint64_t shape[64];
    size_t itemsize, count; /* bytes of an element; elements */
    const char *data;       /* little-endian, row-major */
} mlports_ndarray;

/* False when the value is no array, or one of records. */
bool mlports_as_ndarray(const msgpack_object *value, mlports_ndarray *array);
/* Packs itemsize × shape bytes of `data`. Returns 0, or -1 for a dtype that is none. To a peer that knows no arrays
 * (mlports_sends_arrays) send nested lists instead. */
int mlports_pack_ndarray(msgpack_packer *packer, const char *dtype, uint32_t ndim, const uint64_t *shape,
                         const void *data);
bool mlports_sends_arrays(void);

/* -- Batches and streams -- */

/* Ends the result (or failure) of one call of a batch. Exactly one for each of `args`, in order. */
void mlports_next(mlports_context *context);
/* Sends what was packed since the last one as an item; waits while the caller wants none. Other than 0: give up, by
 * returning -1 (cancelled, late, not sendable). Without a streaming caller it collects the items for the result. */
int mlports_yield(mlports_context *context);
/* The next item of the streamed argument: 1; 0 at its end; -1 when it fails: return -1. The item lives until the next. */
int mlports_input(mlports_context *context, const msgpack_object **item);

/* -- While it works -- */

bool mlports_cancelled(const mlports_context *context); /* by the caller, or the deadline is over: return -1 */
double mlports_deadline(const mlports_context *context); /* seconds left, below 0 late; INFINITY without one */
int mlports_wait(mlports_context *context, double seconds); /* 0 when they are over, -1 as soon as cancelled */
const msgpack_object_map *mlports_meta(const mlports_context *context); /* NULL: none; see SPEC.md 4.5 */
void mlports_progress(mlports_context *context, double done, double total, const char *text); /* NAN: unknown total */
/* A line for the orchestrator's log: level debug, info, warning or error. `fields` is a packed map, or NULL. From any
 * thread. */
void mlports_log(const char *level, const char *text, const msgpack_sbuffer *fields);
/* The service's config, NULL before setup. */
const msgpack_object_map *mlports_config(void);

/* -- Calls to other services -- */

typedef struct {
    const msgpack_object *result;
    void *memory;
} mlports_answer;

/* Calls "service.method" with `args`, a packed array of its arguments, and waits up to `timeout` seconds (INFINITY: as
 * long as this call itself may take). Returns 0, and mlports_answer_free is due; or -1 with this call failed as the
 * other one did, so that `return -1` passes it on. Not on mlports_run's thread before setup is done. */
int mlports_call(mlports_context *context, const char *target, const msgpack_sbuffer *args, double timeout,
                 mlports_answer *answer);
void mlports_answer_free(mlports_answer *answer);
/* The code of what the call failed with so far, "" if it did not. mlports_recover forgets that failure. */
const char *mlports_failure(const mlports_context *context);
void mlports_recover(mlports_context *context);
/* Runs "service.method" without an answer. Returns 0, or -1 when it cannot be sent. */
int mlports_cast(const char *target, const msgpack_sbuffer *args);

#endif
