/* The thread that reads: sorts what comes, answers at once what needs no handler. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

static bool blame_text(mlp_fault *fault, const char *name, const char *text) {
    return mlp_blame(fault, name, "%s", text);
}

mlports_context **mlp_find_open(uint64_t id) {
    mlports_context **place = &mlp.open[id % MLP_OPEN_SLOTS];
    while (*place != NULL && (*place)->id != id) place = &(*place)->chain;
    return place;
}

void mlp_context_free(mlports_context *context) {
    while (context->inputs != NULL) {
        mlp_frame *frame = context->inputs;
        context->inputs = frame->next;
        mlp_frame_free(frame);
    }
    mlp_frame_free(context->input);
    mlp_frame_free(context->frame);
    msgpack_sbuffer_destroy(&context->failure);
    free(context);
}

static void push(mlports_context *context) {
    pthread_mutex_lock(&mlp.lock);
    if (!context->cast) {
        context->chain = NULL;
        *mlp_find_open(context->id) = context;
    }
    *mlp.queue_tail = context;
    mlp.queue_tail = &context->next;
    if (mlp.idle > 0) pthread_cond_signal(&mlp.jobs);
    pthread_mutex_unlock(&mlp.lock);
}

/* -- Requests -- */

static const mlports_method *find_method(mlports_text name) {
    for (const mlports_method *method = mlp.worker.methods; method != NULL && method->name != NULL; method++)
        if (mlp_same(name, method->name)) return method;
    return NULL;
}

static void answer_nil(uint64_t id) {
    char bytes[16];
    msgpack_sbuffer body = {.data = bytes, .alloc = sizeof bytes};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 4);
    msgpack_pack_int(&packer, 1);
    msgpack_pack_uint64(&packer, id);
    msgpack_pack_nil(&packer);
    msgpack_pack_nil(&packer);
    mlp_send(&(mlp_part){body.data, body.size}, 1);
}

/* Of meta, what the protocol reads. What is wrong with it for this method is in `refusal`. */
static bool take_meta(mlports_context *context, const char **refusal, mlp_fault *fault) {
    const msgpack_object_map *meta = context->meta;
    const unsigned agreed = mlp.features;
    const msgpack_object *deadline = mlports_get(meta, "deadline_ms"), *credit = mlports_get(meta, "credit");
    const msgpack_object *input = mlports_get(meta, "input"), *batch = mlports_get(meta, "batch");
    const msgpack_object *columns = mlports_get(meta, "columns");
    double left;
    if (credit != NULL && credit->type != MSGPACK_OBJECT_NIL) {
        if (!(agreed & MLP_STREAM)) return blame_text(fault, "InvalidMessage", "meta credit, and stream was not agreed");
        if (!mlp_is_count(credit, 0)) return blame_text(fault, "InvalidMessage", "meta credit is an integer from 0");
        context->streams = true;
        context->credit = credit->via.u64;
    }
    if (input != NULL && input->type != MSGPACK_OBJECT_NIL) {
        if (input->type != MSGPACK_OBJECT_BOOLEAN) return blame_text(fault, "InvalidMessage", "meta input is a boolean");
        context->takes_input = input->via.boolean;
        if (context->takes_input && !(agreed & MLP_STREAMED_INPUT))
            return blame_text(fault, "InvalidMessage", "meta input, and input was not agreed");
    }
    if (columns != NULL && columns->type == MSGPACK_OBJECT_BOOLEAN && columns->via.boolean)
        return blame_text(fault, "InvalidMessage", "meta columns, which was not agreed");
    if (batch != NULL) {
        if (!(agreed & MLP_BATCHES)) return blame_text(fault, "InvalidMessage", "meta batch, which was not agreed");
        if (!mlp_is_count(batch, 1) || batch->via.u64 != context->params.size)
            *refusal = "meta batch does not say how many argument lists there are";
        context->batch = context->params.size;
    }
    if (deadline != NULL && deadline->type != MSGPACK_OBJECT_NIL) {
        if (mlports_as_double(deadline, &left) && !isnan(left)) context->deadline = mlp_now() + left / 1000;
        else *refusal = "meta deadline_ms is a number";
    }
    return true;
}

static const char *refusal_of(const mlports_context *context) {
    const bool wants_input = (context->method->flags & MLPORTS_INPUT) != 0;
    if (context->batch > 0 && (context->takes_input || context->streams)) return "a batch is not streamed";
    if (context->takes_input && !wants_input) return "the method takes no streamed argument";
    if (!context->takes_input && wants_input) return "the method takes a streamed argument, and this call has none";
    if (context->batch > 0 && (context->method->flags & MLPORTS_BATCH))
        for (uint32_t i = 0; i < context->batch; i++)
            if (context->params.ptr[i].type != MSGPACK_OBJECT_ARRAY) return "an item of a batch is a list of arguments";
    return NULL;
}

static mlports_context *new_context(mlp_frame *frame, const mlp_message *message) {
    mlports_context *context = mlp_need(calloc(1, sizeof *context));
    context->frame = frame;
    context->id = message->id;
    context->name = message->method;
    context->params = message->params;
    context->meta = message->meta;
    context->deadline = INFINITY;
    context->cast = message->kind == MLP_NOTIFICATION;
    context->inputs_tail = &context->inputs;
    context->method = find_method(message->method);
    return context;
}

static void answer_unknown(const mlp_message *message) {
    char text[512];
    const int size = message->method.size < 200 ? (int)message->method.size : 200;
    const bool own = message->method.size > 1 && memcmp(message->method.ptr, "$/", 2) == 0;
    int used = own ? snprintf(text, sizeof text, "%.*s is not known to this worker", size, message->method.ptr)
                   : snprintf(text, sizeof text, "the worker %s has no method '%.*s'; it has:", mlp.worker.name, size,
                              message->method.ptr);
    const mlports_method *method = own ? NULL : mlp.worker.methods;
    for (; method != NULL && method->name != NULL && used > 0 && used < (int)sizeof text; method++)
        used += snprintf(text + used, sizeof text - (size_t)used, " %s", method->name);
    mlp_answer_error(message->id, "unimplemented", text, false);
}

/* Keeps the frame when it returns true with *kept. */
static bool on_call(mlp_frame *frame, const mlp_message *message, bool *kept, mlp_fault *fault) {
    const char *refusal = NULL;
    mlports_context *context = new_context(frame, message);
    if (!take_meta(context, &refusal, fault)) {
        context->frame = NULL;
        mlp_context_free(context);
        return false;
    }
    if (refusal == NULL && context->method != NULL) refusal = refusal_of(context);
    if (mlp.stopping) mlp_answer_error(message->id, "unavailable", "the worker is stopping", true);
    else if (context->method == NULL) answer_unknown(message);
    else if (refusal != NULL) mlp_answer_error(message->id, "invalid_argument", refusal, false);
    else *kept = true;
    if (*kept) {
        push(context);
    } else {
        context->frame = NULL;
        mlp_context_free(context);
    }
    return true;
}

static bool on_hello(mlp_frame *frame, const mlp_message *message, bool *kept, mlp_fault *fault) {
    if (!mlp_parse_hello(&message->params, &mlp.hello, fault)) return false;
    mlp.input.max_frame = mlp.worker.max_frame > 0 ? mlp.worker.max_frame : mlp.hello.max_frame;
    mlp.input.arrays = (mlp.hello.features & MLP_ARRAYS) != 0;
    mlp_set_peer_max_frame(mlp.hello.max_frame);
    mlp.features = mlp.hello.features;
    *kept = true;
    pthread_mutex_lock(&mlp.lock);
    mlp.hello_frame = frame;
    mlp.phase = MLP_GREETING;
    mlp.greeted = true;
    pthread_cond_broadcast(&mlp.jobs);
    pthread_mutex_unlock(&mlp.lock);
    return true;
}

static bool on_request(mlp_frame *frame, const mlp_message *message, bool *kept, mlp_fault *fault) {
    const mlp_phase phase = mlp.phase;
    pthread_mutex_lock(&mlp.lock);
    const bool open = *mlp_find_open(message->id) != NULL;
    pthread_mutex_unlock(&mlp.lock);
    const bool hello = mlp_same(message->method, "$/hello");
    if (phase == MLP_NEW && hello) return on_hello(frame, message, kept, fault);
    if (phase != MLP_READY) return blame_text(fault, "HandshakeExpected", "a request before the handshake is done");
    if (hello) return blame_text(fault, "HandshakeExpected", "a second $/hello");
    if (open) return mlp_blame(fault, "DuplicateId", "request %llu is still open", (unsigned long long)message->id);
    if (mlp_same(message->method, "$/ping")) answer_nil(message->id);
    else if (message->method.size > 1 && memcmp(message->method.ptr, "$/", 2) == 0) answer_unknown(message);
    else return on_call(frame, message, kept, fault);
    return true;
}

/* -- Answers to our own requests -- */

static bool not_open(uint64_t id, mlp_fault *fault) {
    return mlp_blame(fault, id < mlp.next_id ? "AnsweredTwice" : "UnknownId", "no request %llu of this worker is open",
                     (unsigned long long)id);
}

static bool on_response(mlp_frame *frame, const mlp_message *message, bool *kept, mlp_fault *fault) {
    pthread_mutex_lock(&mlp.lock);
    mlp_pending **place = &mlp.pending;
    while (*place != NULL && (*place)->id != message->id) place = &(*place)->next;
    mlp_pending *pending = *place;
    if (pending == NULL) {
        not_open(message->id, fault);
    } else {
        *place = pending->next;
        if (pending->abandoned) {
            free(pending);
        } else {
            pending->answer = frame;
            pending->message = *message;
            *kept = true;
        }
        pthread_cond_broadcast(&mlp.changed);
    }
    pthread_mutex_unlock(&mlp.lock);
    return pending != NULL;
}

/* An item for a request of ours: none of them asks for any. */
static bool on_item(uint64_t id, mlp_fault *fault) {
    pthread_mutex_lock(&mlp.lock);
    const mlp_pending *pending = mlp.pending;
    while (pending != NULL && pending->id != id) pending = pending->next;
    if (pending == NULL) not_open(id, fault);
    else blame_text(fault, "CreditExceeded", "an item for a request that asked for no stream");
    pthread_mutex_unlock(&mlp.lock);
    return false;
}

/* -- Notifications -- */

static void on_cancel(uint64_t id) {
    pthread_mutex_lock(&mlp.lock);
    mlports_context **place = mlp_find_open(id), *context = *place;
    bool unbegun = false;
    if (context != NULL) {
        context->cancelled = true;
        unbegun = !context->begun;
        if (unbegun) {
            context->dropped = true;
            *place = context->chain;
        }
        pthread_cond_broadcast(&mlp.changed);
    }
    pthread_mutex_unlock(&mlp.lock);
    if (unbegun) mlp_answer_error(id, "cancelled", "the caller cancelled the call", false);
}

static void on_credit(uint64_t id, uint64_t count) {
    pthread_mutex_lock(&mlp.lock);
    mlports_context *context = *mlp_find_open(id);
    if (context != NULL) context->credit += count;
    pthread_cond_broadcast(&mlp.changed);
    pthread_mutex_unlock(&mlp.lock);
}

static bool on_input(mlp_frame *frame, uint64_t id, bool *kept, mlp_fault *fault) {
    pthread_mutex_lock(&mlp.lock);
    mlports_context *context = *mlp_find_open(id);
    const bool allowed = context == NULL || (context->takes_input && !context->input_ended && context->coming > 0);
    if (context != NULL && allowed) {
        context->coming--;
        context->waiting++;
        context->waiting_bytes += frame->size;
        const size_t before = context->item_size - context->item_size / 8;
        context->item_size = frame->size > before ? frame->size : before;
        *context->inputs_tail = frame;
        context->inputs_tail = &frame->next;
        *kept = true;
        pthread_cond_broadcast(&mlp.changed);
    }
    pthread_mutex_unlock(&mlp.lock);
    return allowed || mlp_blame(fault, "CreditExceeded", "an item of the streamed argument of request %llu, which gave no credit",
                                (unsigned long long)id);
}

static void on_input_end(uint64_t id) {
    pthread_mutex_lock(&mlp.lock);
    mlports_context *context = *mlp_find_open(id);
    if (context != NULL) context->input_ended = true;
    pthread_cond_broadcast(&mlp.changed);
    pthread_mutex_unlock(&mlp.lock);
}

static bool on_stop(const mlp_message *message, mlp_fault *fault) {
    mlports_text reason;
    const msgpack_object *said = message->params.size > 0 ? &message->params.ptr[0] : NULL;
    if (said != NULL && said->type != MSGPACK_OBJECT_NIL && !mlports_as_text(said, &reason))
        return blame_text(fault, "InvalidMessage", "the reason in $/stop is a string");
    pthread_mutex_lock(&mlp.lock);
    mlp.stopping = true;
    pthread_cond_broadcast(&mlp.jobs);
    pthread_mutex_unlock(&mlp.lock);
    return true;
}

static bool on_notification(mlp_frame *frame, const mlp_message *message, bool *kept, mlp_fault *fault) {
    const mlports_text method = message->method;
    uint64_t id, count;
    if (mlp.phase != MLP_READY)
        return blame_text(fault, "HandshakeExpected", "a notification before the handshake is done");
    if (method.size < 2 || memcmp(method.ptr, "$/", 2) != 0) {
        *kept = true;
        push(new_context(frame, message));
        return true;
    }
    if (mlp_same(method, "$/cancel")) {
        if (!mlp_take_id(message, 1, &id, fault)) return false;
        on_cancel(id);
    } else if (mlp_same(method, "$/credit")) {
        if (!mlp_take_grant(message, &id, &count, fault)) return false;
        on_credit(id, count);
    } else if (mlp_same(method, "$/input")) {
        return mlp_take_id(message, 2, &id, fault) && on_input(frame, id, kept, fault);
    } else if (mlp_same(method, "$/input_end")) {
        if (!mlp_take_id(message, 1, &id, fault)) return false;
        on_input_end(id);
    } else if (mlp_same(method, "$/item")) {
        return mlp_take_id(message, 2, &id, fault) && on_item(id, fault);
    } else if (mlp_same(method, "$/input_credit")) {
        return mlp_take_grant(message, &id, &count, fault);
    } else if (mlp_same(method, "$/stop")) {
        return on_stop(message, fault);
    }
    return true;
}

/* -- The loop -- */

static bool on_frame(mlp_frame *frame, mlp_fault *fault) {
    mlp_message message;
    bool kept = false, right = mlp_parse_message(&frame->value, &message, fault);
    if (right && message.kind == MLP_REQUEST) right = on_request(frame, &message, &kept, fault);
    else if (right && message.kind == MLP_RESPONSE) right = on_response(frame, &message, &kept, fault);
    else if (right) right = on_notification(frame, &message, &kept, fault);
    if (!kept) mlp_frame_free(frame);
    return right;
}

static mlp_got read_all(mlp_fault *fault) {
    for (;;) {
        mlp_frame *frame;
        mlp_got got = mlp_next_frame(&mlp.input, &frame, fault);
        if (got == MLP_FRAME && !on_frame(frame, fault)) return MLP_FAULT;
        if (got == MLP_FAULT) return got;
        if (got == MLP_FRAME) continue;
        mlp_flush();
        got = mlp_read_more(&mlp.input, fault);
        if (got != MLP_NOTHING_YET) return got;
    }
}

/* A handler has its time while somebody still reads the answers, and not longer. */
static void outlive_input(void) {
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    while (!mlp_nobody_reads()) nanosleep(&pause, NULL);
    _exit(mlp.fault.name != NULL);
}

void *mlp_reader(void *unused) {
    mlp_fault fault = {0};
    const mlp_got end = read_all(&fault);
    mlp_flush();
    if (end == MLP_FAULT)
        fprintf(stderr, "%s: the orchestrator broke the protocol: %s: %s\n", mlp.worker.name, fault.name, fault.reason);
    pthread_mutex_lock(&mlp.lock);
    if (end == MLP_FAULT) mlp.fault = fault;
    mlp.ended = true;
    pthread_cond_broadcast(&mlp.jobs);
    pthread_cond_broadcast(&mlp.changed);
    pthread_mutex_unlock(&mlp.lock);
    outlive_input();
    return unused;
}
