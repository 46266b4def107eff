/* The worker that the conformance kit talks to: every method that it knows. */
#include <math.h>
#include <mlports.h>
#include <stdio.h>
#include <string.h>

static int echo(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *value;
    if (mlports_arguments(context, args, "o", &value) != 0) return -1;
    return msgpack_pack_object(result, *value);
}

static bool is_integer(const msgpack_object *value) {
    return value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER ||
           (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 <= INT64_MAX);
}

static int add(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *left, *right;
    int64_t sum;
    double a, b;
    if (mlports_arguments(context, args, "oo", &left, &right) != 0) return -1;
    if (is_integer(left) && is_integer(right) && !__builtin_add_overflow(left->via.i64, right->via.i64, &sum))
        return msgpack_pack_int64(result, sum);
    if (mlports_arguments(context, args, "dd", &a, &b) != 0) return -1;
    return msgpack_pack_double(result, a + b);
}

static int fail(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    mlports_text message;
    (void)result;
    if (mlports_arguments(context, args, "s", &message) != 0) return -1;
    return mlports_fail(context, "unknown", "%.*s", (int)message.size, message.ptr);
}

static int refuse(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    mlports_text code, message;
    char name[32];
    (void)result;
    if (mlports_arguments(context, args, "ss", &code, &message) != 0) return -1;
    snprintf(name, sizeof name, "%.*s", (int)code.size, code.ptr);
    return mlports_fail(context, name, "%.*s", (int)message.size, message.ptr);
}

static int sleep_for(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    double seconds;
    if (mlports_arguments(context, args, "d", &seconds) != 0 || mlports_wait(context, seconds) != 0) return -1;
    return msgpack_pack_object(result, args->ptr[0]);
}

static int print(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    mlports_text text;
    (void)result;
    if (mlports_arguments(context, args, "s", &text) != 0) return -1;
    printf("%.*s\n", (int)text.size, text.ptr);
    return 0;
}

static int root(mlports_context *context, const msgpack_object_array *calls, msgpack_packer *result) {
    for (uint32_t i = 0; i < calls->size; i++) {
        double x;
        if (mlports_arguments(context, &calls->ptr[i].via.array, "d", &x) == 0) {
            if (x < 0) mlports_fail(context, "invalid_argument", "%g has no real root", x);
            else msgpack_pack_double(result, sqrt(x));
        }
        mlports_next(context);
    }
    return 0;
}

static int count(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    int64_t n;
    if (mlports_arguments(context, args, "i", &n) != 0) return -1;
    for (int64_t i = 0; i < n; i++) {
        msgpack_pack_int64(result, i);
        if (mlports_yield(context) != 0) return -1;
    }
    return 0;
}

static int total(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *item;
    double sum = 0, number;
    bool whole = true;
    int more;
    if (mlports_arguments(context, args, "") != 0) return -1;
    while ((more = mlports_input(context, &item)) == 1) {
        if (!mlports_as_double(item, &number)) return mlports_fail(context, "invalid_argument", "an item is not a number");
        whole &= is_integer(item);
        sum += number;
    }
    if (more < 0) return -1;
    return whole && fabs(sum) < 9e15 ? msgpack_pack_int64(result, (int64_t)sum) : msgpack_pack_double(result, sum);
}

static int relay(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    mlports_text target;
    msgpack_object_array params;
    char name[256];
    if (mlports_arguments(context, args, "sa", &target, &params) != 0) return -1;
    snprintf(name, sizeof name, "%.*s", (int)target.size, target.ptr);

    msgpack_sbuffer packed;
    msgpack_packer packer;
    msgpack_sbuffer_init(&packed);
    msgpack_packer_init(&packer, &packed, msgpack_sbuffer_write);
    msgpack_pack_object(&packer, args->ptr[1]);

    mlports_answer answer;
    int status = mlports_call(context, name, &packed, INFINITY, &answer);
    if (status == 0) {
        status = msgpack_pack_object(result, *answer.result);
        mlports_answer_free(&answer);
    }
    msgpack_sbuffer_destroy(&packed);
    return status;
}

static int note(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    mlports_text level, text;
    char line[4096], name[16];
    (void)result;
    if (mlports_arguments(context, args, "ss", &level, &text) != 0) return -1;
    snprintf(name, sizeof name, "%.*s", (int)level.size, level.ptr);
    snprintf(line, sizeof line, "%.*s", (int)text.size, text.ptr);
    mlports_log(name, line, NULL);
    return 0;
}

static int advance(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    int64_t n;
    if (mlports_arguments(context, args, "i", &n) != 0) return -1;
    for (int64_t i = 1; i <= n; i++) mlports_progress(context, (double)i, (double)n, "");
    return msgpack_pack_int64(result, n);
}

/* What was marked, packed one behind the other. */
static msgpack_sbuffer kept;
static size_t kept_count;

static int mark(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *value;
    msgpack_packer packer;
    (void)result;
    if (mlports_arguments(context, args, "o", &value) != 0) return -1;
    msgpack_packer_init(&packer, &kept, msgpack_sbuffer_write);
    kept_count++;
    return msgpack_pack_object(&packer, *value);
}

static int marks(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    if (mlports_arguments(context, args, "") != 0) return -1;
    msgpack_pack_array(result, kept_count);
    return result->callback(result->data, kept.data, kept.size);
}

int main(void) {
    static const mlports_method methods[] = {
        {"echo", echo, 0},
        {"add", add, MLPORTS_IDEMPOTENT},
        {"fail", fail, 0},
        {"refuse", refuse, 0},
        {"sleep", sleep_for, 0},
        {"print", print, 0},
        {"root", root, MLPORTS_BATCH | MLPORTS_IDEMPOTENT},
        {"count", count, MLPORTS_STREAM},
        {"total", total, MLPORTS_INPUT},
        {"relay", relay, 0},
        {"note", note, 0},
        {"advance", advance, 0},
        {"mark", mark, 0},
        {"marks", marks, 0},
        {0},
    };
    const int status = mlports_run(&(mlports_worker){.name = "conformance", .methods = methods});
    msgpack_sbuffer_destroy(&kept);
    return status;
}
