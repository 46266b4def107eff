/* What handlers use while they work. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "state.h"

bool mlp_wait_until(double time) {
    if (isinf(time) || time > mlp_now() + 1e8) return pthread_cond_wait(&mlp.changed, &mlp.lock) == 0;
    const struct timespec until = {(time_t)time, (long)((time - floor(time)) * 1e9)};
    return pthread_cond_timedwait(&mlp.changed, &mlp.lock, &until) != ETIMEDOUT;
}

/* -- Failing -- */

int mlports_fail_with(mlports_context *context, const char *code, const char *message, const msgpack_sbuffer *data,
                      bool retryable) {
    msgpack_packer packer;
    msgpack_object unused;
    mlp_fault fault;
    if (data != NULL && (data->size == 0 || mlp_read_value(data->data, data->size, mlports_sends_arrays(), 4, NULL,
                                                           &unused, &fault) != data->size))
        data = NULL;
    context->failure.size = 0;
    msgpack_packer_init(&packer, &context->failure, msgpack_sbuffer_write);
    mlp_pack_error(&packer, code, message, data, retryable);
    snprintf(context->code, sizeof context->code, "%s", code);
    return -1;
}

int mlports_fail(mlports_context *context, const char *code, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    for (char *at = message; *at != 0; at++)
        if (*at == '\n' || *at == '\r') *at = ' ';
    return mlports_fail_with(context, code, message, NULL, false);
}

const char *mlports_failure(const mlports_context *context) { return context->failure.size > 0 ? context->code : ""; }

void mlports_recover(mlports_context *context) {
    context->failure.size = 0;
    context->code[0] = 0;
}

/* -- Arguments -- */

static const char *kind_name(char letter) {
    switch (letter) {
    case 'd': return "a number";
    case 'i': return "an integer";
    case 'b': return "a boolean";
    case 's': return "a string";
    case 'a': return "an array";
    case 'm': return "a map";
    default: return "a value";
    }
}

static bool as_integer(const msgpack_object *value, int64_t *number) {
    if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 > INT64_MAX) return false;
    if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER && value->type != MSGPACK_OBJECT_NEGATIVE_INTEGER) return false;
    *number = value->via.i64;
    return true;
}

/* Puts the value where the next of `places` points. */
static bool put(const msgpack_object *value, char letter, va_list *places) {
    switch (letter) {
    case 'd': return mlports_as_double(value, va_arg(*places, double *));
    case 'i': return as_integer(value, va_arg(*places, int64_t *));
    case 's': return mlports_as_text(value, va_arg(*places, mlports_text *));
    case 'b': *va_arg(*places, bool *) = value->via.boolean; return value->type == MSGPACK_OBJECT_BOOLEAN;
    case 'a': *va_arg(*places, msgpack_object_array *) = value->via.array; return value->type == MSGPACK_OBJECT_ARRAY;
    case 'm': *va_arg(*places, msgpack_object_map *) = value->via.map; return value->type == MSGPACK_OBJECT_MAP;
    case 'o': *va_arg(*places, const msgpack_object **) = value; return true;
    default: return false;
    }
}

static int wrong_count(mlports_context *context, uint32_t given, const char *format) {
    const char *optional = strchr(format, '|');
    const size_t least = optional != NULL ? (size_t)(optional - format) : strlen(format);
    const size_t most = strlen(format) - (optional != NULL);
    if (least == most)
        return mlports_fail(context, "invalid_argument", "%s takes %zu arguments, not %u", context->method->name, most, given);
    return mlports_fail(context, "invalid_argument", "%s takes %zu to %zu arguments, not %u", context->method->name, least,
                        most, given);
}

int mlports_arguments(mlports_context *context, const msgpack_object_array *args, const char *format, ...) {
    va_list places;
    uint32_t at = 0;
    int status = 0;
    bool optional = false;
    va_start(places, format);
    for (const char *letter = format; *letter != 0 && status == 0; letter++) {
        if (*letter == '|') optional = true;
        else if (at == args->size) {
            if (!optional) status = wrong_count(context, args->size, format);
            break;
        } else if (!put(&args->ptr[at++], *letter, &places)) {
            status = mlports_fail(context, "invalid_argument", "argument %u of %s is not %s", at, context->method->name,
                                  kind_name(*letter));
        }
    }
    va_end(places);
    if (status == 0 && at < args->size) status = wrong_count(context, args->size, format);
    return status;
}

/* -- Streams -- */

static bool send_item(mlports_context *context) {
    char bytes[64];
    msgpack_sbuffer head = {.data = bytes, .alloc = sizeof bytes};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &head, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int(&packer, 2);
    msgpack_pack_str_with_body(&packer, "$/item", 6);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_uint64(&packer, context->id);
    const mlp_part parts[] = {{bytes, head.size}, {context->out->data + context->mark, context->out->size - context->mark}};
    return mlp_send(parts, 2);
}

/* Waits for credit, and takes one. */
static bool take_credit(mlports_context *context) {
    pthread_mutex_lock(&mlp.lock);
    while (context->credit == 0 && !context->cancelled && !mlp.ended && mlp_wait_until(context->deadline)) continue;
    const bool taken = context->credit > 0 && !mlports_cancelled(context);
    if (taken) context->credit--;
    const bool ended = mlp.ended;
    pthread_mutex_unlock(&mlp.lock);
    if (!taken && ended) mlports_fail(context, "cancelled", "nobody takes the stream's items any more");
    return taken;
}

int mlports_yield(mlports_context *context) {
    if (!(context->method->flags & MLPORTS_STREAM))
        return mlports_fail(context, "internal", "%s yields, and its table does not say MLPORTS_STREAM", context->method->name);
    if (!mlp_check_value(context)) return -1;
    if (context->cast || !context->streams) {
        context->done++;
        context->mark = context->out->size;
        return mlports_cancelled(context) ? -1 : 0;
    }
    if (!take_credit(context)) return -1;
    const bool sent = send_item(context);
    context->out->size = context->mark;
    if (!sent) return mlports_fail(context, "resource_exhausted", "an item is longer than the orchestrator's max_frame");
    mlp_flush();
    return 0;
}

enum { FIRST_ITEMS = 2, MOST_ITEMS = 32, MOST_BYTES = 8 << 20 };

/* How many more items may come: at most 32 ahead, of 8 MiB by the largest lately. */
static uint64_t grant(const mlports_context *context) {
    const uint64_t ahead = context->coming + context->waiting;
    if (context->input_ended || ahead > MOST_ITEMS / 2) return 0;
    if (context->item_size == 0) return ahead < FIRST_ITEMS ? FIRST_ITEMS - ahead : 0;
    const size_t claimed = context->waiting_bytes + context->coming * context->item_size;
    const uint64_t fit = claimed < MOST_BYTES ? (MOST_BYTES - claimed) / context->item_size : 0;
    const uint64_t more = fit < MOST_ITEMS - ahead ? fit : MOST_ITEMS - ahead;
    if (more == 0 && ahead == 0) return 1;
    return more < ahead ? 0 : more;
}

static void give_input_credit(mlports_context *context, uint64_t count) {
    char bytes[64];
    msgpack_sbuffer body = {.data = bytes, .alloc = sizeof bytes};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int(&packer, 2);
    msgpack_pack_str_with_body(&packer, "$/input_credit", 14);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_uint64(&packer, context->id);
    msgpack_pack_uint64(&packer, count);
    mlp_send(&(mlp_part){bytes, body.size}, 1);
    mlp_flush();
}

/* Takes the next item out of those that came; under the lock. */
static void take_input(mlports_context *context) {
    mlp_frame *frame = context->inputs;
    context->inputs = frame->next;
    if (context->inputs == NULL) context->inputs_tail = &context->inputs;
    context->waiting--;
    context->waiting_bytes -= frame->size;
    context->input = frame;
}

int mlports_input(mlports_context *context, const msgpack_object **item) {
    mlp_frame_free(context->input);
    context->input = NULL;
    if (!context->takes_input) return mlports_fail(context, "failed_precondition", "%s has no streamed argument", context->method->name);
    pthread_mutex_lock(&mlp.lock);
    const uint64_t more = grant(context);
    context->coming += more;
    pthread_mutex_unlock(&mlp.lock);
    if (more > 0) give_input_credit(context, more);
    pthread_mutex_lock(&mlp.lock);
    while (context->inputs == NULL && !context->input_ended && !context->cancelled && !mlp.ended &&
           mlp_wait_until(context->deadline))
        continue;
    const bool given_up = mlports_cancelled(context), over = context->inputs == NULL;
    const bool complete = context->input_ended;
    if (!given_up && !over) take_input(context);
    pthread_mutex_unlock(&mlp.lock);
    if (given_up) return -1;
    if (over && complete) return 0;
    if (over)
        return mlports_fail(context, "unavailable", "the orchestrator went away within the streamed argument of %s", context->method->name);
    *item = &context->input->value.via.array.ptr[2].via.array.ptr[1];
    return 1;
}

/* -- While it works -- */

bool mlports_cancelled(const mlports_context *context) { return context->cancelled || mlp_late(context); }

double mlports_deadline(const mlports_context *context) {
    return isinf(context->deadline) ? INFINITY : context->deadline - mlp_now();
}

int mlports_wait(mlports_context *context, double seconds) {
    const double until = mlp_now() + (seconds > 0 ? seconds : 0);
    const double first = until < context->deadline ? until : context->deadline;
    pthread_mutex_lock(&mlp.lock);
    while (!context->cancelled && mlp_wait_until(first)) continue;
    pthread_mutex_unlock(&mlp.lock);
    return mlports_cancelled(context) ? -1 : 0;
}

const msgpack_object_map *mlports_meta(const mlports_context *context) { return context->meta; }

const msgpack_object_map *mlports_config(void) { return mlp.greeted ? &mlp.hello.config : NULL; }

bool mlports_sends_arrays(void) { return (mlp.features & MLP_ARRAYS) != 0; }

static void begin_notification(msgpack_packer *packer, const char *method, size_t params) {
    msgpack_pack_array(packer, 3);
    msgpack_pack_int(packer, 2);
    mlp_pack_text(packer, method);
    msgpack_pack_array(packer, params);
}

static void send_and_free(msgpack_sbuffer *body) {
    if (mlp_send(&(mlp_part){body->data, body->size}, 1)) mlp_flush();
    msgpack_sbuffer_destroy(body);
}

/* As an integer where it is one: counts stay counts. */
static void pack_number(msgpack_packer *packer, double value) {
    if (isnan(value)) msgpack_pack_nil(packer);
    else if (value == floor(value) && fabs(value) < 9e15) msgpack_pack_int64(packer, (int64_t)value);
    else msgpack_pack_double(packer, value);
}

void mlports_progress(mlports_context *context, double done, double total, const char *text) {
    msgpack_sbuffer body;
    msgpack_packer packer;
    if (context->cast) return;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    begin_notification(&packer, "$/progress", 4);
    msgpack_pack_uint64(&packer, context->id);
    pack_number(&packer, isnan(done) ? 0 : done);
    pack_number(&packer, total);
    mlp_pack_text(&packer, text != NULL ? text : "");
    send_and_free(&body);
}

static bool is_map(const msgpack_sbuffer *packed) {
    msgpack_object value;
    mlp_fault fault;
    return packed != NULL && packed->size > 0 &&
           mlp_read_value(packed->data, packed->size, false, 2, NULL, &value, &fault) == packed->size &&
           value.type == MSGPACK_OBJECT_MAP;
}

void mlports_log(const char *level, const char *text, const msgpack_sbuffer *fields) {
    msgpack_sbuffer body;
    msgpack_packer packer;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    begin_notification(&packer, "$/log", 3);
    mlp_pack_text(&packer, level);
    mlp_pack_text(&packer, text);
    if (is_map(fields)) packer.callback(packer.data, fields->data, fields->size);
    else msgpack_pack_map(&packer, 0);
    send_and_free(&body);
}
