/* The threads that run handlers: each call is answered exactly once. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "state.h"

struct mlp_state mlp = {.lock = PTHREAD_MUTEX_INITIALIZER, .jobs = PTHREAD_COND_INITIALIZER, .queue_tail = &mlp.queue};

enum { KEPT_BUFFER = 1 << 20 };

static void pack_literal(msgpack_packer *packer, const char *text) {
    msgpack_pack_str_with_body(packer, text, strlen(text));
}

void mlp_pack_error(msgpack_packer *packer, const char *code, const char *message, const msgpack_sbuffer *data,
                    bool retryable) {
    msgpack_pack_map(packer, 2 + (data != NULL) + retryable);
    pack_literal(packer, "code");
    mlp_pack_text(packer, code);
    pack_literal(packer, "message");
    mlp_pack_text(packer, message);
    if (data != NULL) {
        pack_literal(packer, "data");
        packer->callback(packer->data, data->data, data->size);
    }
    if (retryable) {
        pack_literal(packer, "retryable");
        msgpack_pack_true(packer);
    }
}

static void begin_response(msgpack_packer *packer, uint64_t id) {
    msgpack_pack_array(packer, 4);
    msgpack_pack_int(packer, 1);
    msgpack_pack_uint64(packer, id);
}

void mlp_answer_error(uint64_t id, const char *code, const char *message, bool retryable) {
    msgpack_sbuffer body;
    msgpack_packer packer;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    begin_response(&packer, id);
    mlp_pack_error(&packer, code, message, NULL, retryable);
    msgpack_pack_nil(&packer);
    mlp_send(&(mlp_part){body.data, body.size}, 1);
    msgpack_sbuffer_destroy(&body);
}

bool mlp_late(const mlports_context *context) { return context->deadline < INFINITY && mlp_now() >= context->deadline; }

void mlp_fail_default(mlports_context *context) {
    if (context->failure.size > 0) return;
    if (context->cancelled) mlports_fail(context, "cancelled", "the caller cancelled the call");
    else if (mlp_late(context)) mlports_fail(context, "deadline_exceeded", "the deadline passed while the handler was at work");
    else mlports_fail(context, "unknown", "%s failed without saying why", context->method->name);
}

bool mlp_check_value(mlports_context *context) {
    msgpack_sbuffer *out = context->out;
    msgpack_object unused;
    mlp_fault fault = {.name = "TrailingBytes", .reason = "more than one value"};
    if (out->size == context->mark) return msgpack_pack_nil(&context->packer) == 0;
    const size_t size = out->size - context->mark;
    const int around = context->pairs ? 3 : 1; /* the response, and a batch's pairs */
    if (mlp_read_value(out->data + context->mark, size, mlports_sends_arrays(), around, NULL, &unused, &fault) == size)
        return true;
    mlports_fail(context, "internal", "what %s packed cannot be sent: %s", context->method->name, fault.reason);
    return false;
}

/* -- One call, and the calls of a batch -- */

static void begin_item(mlports_context *context) {
    context->item = context->out->size;
    if (context->pairs) {
        msgpack_pack_array(&context->packer, 2);
        msgpack_pack_nil(&context->packer);
    }
    context->mark = context->out->size;
}

/* In a batch a failure becomes the item's own; elsewhere it stays, for the whole. */
static void end_item(mlports_context *context) {
    if (context->failure.size == 0) mlp_check_value(context);
    if (context->failure.size == 0 || !context->pairs) return;
    context->out->size = context->item;
    msgpack_pack_array(&context->packer, 2);
    context->packer.callback(context->out, context->failure.data, context->failure.size);
    msgpack_pack_nil(&context->packer);
    mlports_recover(context);
}

void mlports_next(mlports_context *context) {
    if (!(context->method->flags & MLPORTS_BATCH)) return;
    const uint32_t expected = context->batch > 0 ? context->batch : 1;
    if (context->done < expected) end_item(context);
    context->done++;
    if (context->done < expected) begin_item(context);
}

/* The items collected become one array: its header goes before them. */
static void close_list(mlports_context *context, size_t start, size_t end) {
    char bytes[8];
    msgpack_sbuffer header = {.data = bytes, .alloc = sizeof bytes};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &header, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, context->done);
    context->out->size = end;
    msgpack_sbuffer_write(context->out, bytes, header.size);
    memmove(context->out->data + start + header.size, context->out->data + start, end - start);
    memcpy(context->out->data + start, bytes, header.size);
    context->mark = start;
}

/* Runs the handler for one argument list; its outcome lies behind `mark`, or in `failure`. */
static void call_one(mlports_context *context, const msgpack_object_array *args) {
    const bool collects = (context->method->flags & MLPORTS_STREAM) && !context->streams;
    const size_t start = context->mark;
    if (collects) context->done = 0;
    if (context->method->handler(context, args, &context->packer) != 0) mlp_fail_default(context);
    else if (collects && context->failure.size == 0) close_list(context, start, context->mark);
}

static void call_each(mlports_context *context) {
    for (uint32_t i = 0; i < context->batch; i++) {
        const msgpack_object *args = &context->params.ptr[i];
        begin_item(context);
        if (args->type == MSGPACK_OBJECT_ARRAY) call_one(context, &args->via.array);
        else mlports_fail(context, "invalid_argument", "an item of a batch is a list of arguments");
        end_item(context);
    }
}

/* Runs a batch method, for a batch or for one call alone. */
static void call_batch(mlports_context *context) {
    msgpack_object alone = {.type = MSGPACK_OBJECT_ARRAY, .via.array = context->params};
    msgpack_object_array items = context->batch > 0 ? context->params : (msgpack_object_array){1, &alone};
    begin_item(context);
    if (context->method->handler(context, &items, &context->packer) != 0) {
        mlp_fail_default(context);
    } else if (context->done != items.size) {
        mlports_fail(context, "internal", "the batch method %s gave %u results for %u items", context->method->name,
                     context->done, items.size);
    }
}

static void answer_failure(mlports_context *context) {
    context->out->size = 0;
    begin_response(&context->packer, context->id);
    context->packer.callback(context->out, context->failure.data, context->failure.size);
    msgpack_pack_nil(&context->packer);
}

static void close_request(mlports_context *context) {
    pthread_mutex_lock(&mlp.lock);
    mlports_context **place = mlp_find_open(context->id);
    *place = context->chain;
    pthread_mutex_unlock(&mlp.lock);
}

static void work_request(mlports_context *context) {
    context->out->size = 0;
    begin_response(&context->packer, context->id);
    msgpack_pack_nil(&context->packer);
    context->pairs = context->batch > 0;
    if (context->pairs) msgpack_pack_array(&context->packer, context->batch);
    context->mark = context->out->size;
    if (mlp_late(context)) mlports_fail(context, "deadline_exceeded", "the deadline of %s passed before it began", context->method->name);
    else if (context->method->flags & MLPORTS_BATCH) call_batch(context);
    else if (context->pairs) call_each(context);
    else {
        call_one(context, &context->params);
        if (context->failure.size == 0) mlp_check_value(context);
    }
    if (context->failure.size > 0) answer_failure(context);
    close_request(context);
    if (!mlp_send(&(mlp_part){context->out->data, context->out->size}, 1))
        mlp_answer_error(context->id, "resource_exhausted", "the result is longer than the orchestrator's max_frame", false);
}

static void work_cast(mlports_context *context) {
    char text[256];
    const int size = context->name.size < 100 ? (int)context->name.size : 100;
    context->out->size = context->mark = 0;
    if (context->method == NULL) {
        snprintf(text, sizeof text, "a cast to %.*s, which this worker does not have, was dropped", size, context->name.ptr);
        mlports_log("warning", text, NULL);
        return;
    }
    if (context->method->flags & MLPORTS_INPUT)
        mlports_fail(context, "invalid_argument", "the method takes a streamed argument");
    else if (context->method->flags & MLPORTS_BATCH) call_batch(context);
    else call_one(context, &context->params);
    if (context->failure.size == 0) return;
    snprintf(text, sizeof text, "the cast to %s failed", context->method->name);
    msgpack_sbuffer error = context->failure;
    mlports_log("error", text, &error);
}

/* -- The threads -- */

static mlports_context *take_job(void) {
    mlports_context *job = mlp.queue;
    mlp.queue = job->next;
    if (mlp.queue == NULL) mlp.queue_tail = &mlp.queue;
    job->begun = true;
    return job;
}

static void work(mlports_context *job, msgpack_sbuffer *out) {
    job->out = out;
    msgpack_packer_init(&job->packer, out, msgpack_sbuffer_write);
    if (job->cast) work_cast(job);
    else if (!job->dropped) work_request(job);
    mlp_context_free(job);
    mlp_flush();
    if (out->alloc > KEPT_BUFFER) {
        msgpack_sbuffer_destroy(out);
        msgpack_sbuffer_init(out);
    }
}

void mlp_handle_jobs(void) {
    msgpack_sbuffer out;
    msgpack_sbuffer_init(&out);
    pthread_mutex_lock(&mlp.lock);
    for (;;) {
        if (mlp.queue != NULL) {
            mlports_context *job = take_job();
            mlp.running++;
            pthread_mutex_unlock(&mlp.lock);
            work(job, &out);
            pthread_mutex_lock(&mlp.lock);
            mlp.running--;
        } else if ((mlp.ended || mlp.stopping) && mlp.running == 0) {
            break;
        } else {
            mlp.idle++;
            pthread_cond_wait(&mlp.jobs, &mlp.lock);
            mlp.idle--;
        }
    }
    pthread_cond_broadcast(&mlp.jobs); /* the others may have waited for this one's job */
    pthread_mutex_unlock(&mlp.lock);
    msgpack_sbuffer_destroy(&out);
}

static void *handle_jobs(void *unused) {
    mlp_handle_jobs();
    return unused;
}

/* -- The handshake, and the whole -- */

static void pack_methods(msgpack_packer *packer) {
    static const struct {
        const char *name;
        unsigned flag;
    } kinds[] = {{"batch", MLPORTS_BATCH}, {"stream", MLPORTS_STREAM}, {"idempotent", MLPORTS_IDEMPOTENT}, {"input", MLPORTS_INPUT}};
    const mlports_method *methods = mlp.worker.methods;
    size_t count = 0;
    while (methods != NULL && methods[count].name != NULL) count++;
    msgpack_pack_map(packer, count);
    for (size_t i = 0; i < count; i++) {
        const size_t said = methods[i].flags & MLPORTS_INPUT ? 4 : 3;
        mlp_pack_text(packer, methods[i].name);
        msgpack_pack_map(packer, said);
        for (size_t k = 0; k < said; k++) {
            pack_literal(packer, kinds[k].name);
            if (methods[i].flags & kinds[k].flag) msgpack_pack_true(packer);
            else msgpack_pack_false(packer);
        }
    }
}

static void answer_hello(uint64_t id) {
    msgpack_sbuffer body;
    msgpack_packer packer;
    size_t features = 0;
    while (mlp_feature_names[features] != NULL) features++;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    begin_response(&packer, id);
    msgpack_pack_nil(&packer);
    msgpack_pack_map(&packer, 8);
    pack_literal(&packer, "protocol");
    msgpack_pack_int(&packer, 1);
    pack_literal(&packer, "max_frame");
    msgpack_pack_uint32(&packer, mlp.input.max_frame);
    pack_literal(&packer, "name");
    mlp_pack_text(&packer, mlp.worker.name);
    pack_literal(&packer, "language");
    pack_literal(&packer, "c");
    pack_literal(&packer, "sdk");
    pack_literal(&packer, "mlports-c 0.1.0");
    pack_literal(&packer, "methods");
    pack_methods(&packer);
    pack_literal(&packer, "features");
    msgpack_pack_array(&packer, features);
    for (size_t i = 0; i < features; i++) pack_literal(&packer, mlp_feature_names[i]);
    pack_literal(&packer, "concurrency");
    msgpack_pack_unsigned_int(&packer, mlp.worker.concurrency > 0 ? mlp.worker.concurrency : 1);
    mlp.phase = MLP_READY;
    mlp_send(&(mlp_part){body.data, body.size}, 1);
    mlp_flush();
    msgpack_sbuffer_destroy(&body);
}

static bool wait_for_hello(void) {
    pthread_mutex_lock(&mlp.lock);
    while (!mlp.greeted && !mlp.ended) pthread_cond_wait(&mlp.jobs, &mlp.lock);
    const bool greeted = mlp.greeted;
    pthread_mutex_unlock(&mlp.lock);
    return greeted;
}

static bool set_up(void) {
    if (mlp.worker.setup == NULL || mlp.worker.setup(&mlp.hello.config) == 0) return true;
    fprintf(stderr, "%s: its setup failed\n", mlp.worker.name);
    return false;
}

static void serve(void) {
    const unsigned count = mlp.worker.concurrency > 1 ? mlp.worker.concurrency - 1 : 0;
    pthread_t *others = mlp_need(malloc((count + 1) * sizeof *others));
    unsigned started = 0;
    while (started < count && pthread_create(&others[started], NULL, handle_jobs, NULL) == 0) started++;
    mlp_handle_jobs();
    for (unsigned i = 0; i < started; i++) pthread_join(others[i], NULL);
    free(others);
}

static bool right_names(const mlports_worker *worker) {
    const mlports_method *method = worker->methods;
    for (; method != NULL && method->name != NULL; method++) {
        const bool reserved = strncmp(method->name, "$/", 2) == 0 || method->name[0] == 0;
        if (!reserved && method->handler != NULL) continue;
        fprintf(stderr, "%s: '%s' cannot be a method: it is reserved, empty or without a handler\n", worker->name, method->name);
        return false;
    }
    return true;
}

int mlports_run(const mlports_worker *worker) {
    int in, out;
    pthread_t reader;
    pthread_condattr_t monotonic;
    if (!right_names(worker) || !mlp_take_descriptors(worker->name, &in, &out)) return 2;
    signal(SIGINT, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0); /* to the log line by line, as a terminal would have it */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&mlp.changed, &monotonic);
    mlp.worker = *worker;
    mlp_input_open(&mlp.input, in);
    mlp_output_open(out);
    if (pthread_create(&reader, NULL, mlp_reader, NULL) != 0) {
        fprintf(stderr, "%s: no thread can be started\n", worker->name);
        return 1;
    }
    pthread_detach(reader);
    if (wait_for_hello()) {
        if (!set_up()) return 1;
        answer_hello(mlp.hello_frame->value.via.array.ptr[1].via.u64);
        serve();
    }
    mlp_flush();
    return mlp.fault.name != NULL;
}
