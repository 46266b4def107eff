/* The calls that a worker makes itself, of other services, through its orchestrator (SPEC.md 6.6). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

static bool right_args(const msgpack_sbuffer *args) {
    msgpack_object value;
    mlp_fault fault;
    return args->size > 0 &&
           mlp_read_value(args->data, args->size, mlports_sends_arrays(), 1, NULL, &value, &fault) == args->size &&
           value.type == MSGPACK_OBJECT_ARRAY;
}

static void pack_meta(msgpack_packer *packer, const mlports_context *context, double left) {
    const msgpack_object *trace = mlports_get(context->meta, "traceparent");
    msgpack_pack_map(packer, (size_t)(trace != NULL) + !isinf(left) + !context->cast);
    if (!isinf(left)) {
        mlp_pack_text(packer, "deadline_ms");
        msgpack_pack_uint64(packer, left > 0 ? (uint64_t)(left * 1000) : 0);
    }
    if (trace != NULL) {
        mlp_pack_text(packer, "traceparent");
        msgpack_pack_object(packer, *trace);
    }
    if (!context->cast) {
        mlp_pack_text(packer, "parent");
        msgpack_pack_uint64(packer, context->id);
    }
}

static mlp_pending *new_pending(void) {
    mlp_pending *pending = mlp_need(calloc(1, sizeof *pending));
    pthread_mutex_lock(&mlp.lock);
    pending->id = mlp.next_id++;
    pending->next = mlp.pending;
    mlp.pending = pending;
    pthread_mutex_unlock(&mlp.lock);
    return pending;
}

/* A request that never left: its id is used up, and nobody knows it. */
static void forget(mlp_pending *pending) {
    pthread_mutex_lock(&mlp.lock);
    mlp_pending **place = &mlp.pending;
    while (*place != pending) place = &(*place)->next;
    *place = pending->next;
    pthread_mutex_unlock(&mlp.lock);
    free(pending);
}

static bool send_request(const mlp_pending *pending, const mlports_context *context, const char *target,
                         const msgpack_sbuffer *args, double left) {
    msgpack_sbuffer head, meta;
    msgpack_packer packer;
    msgpack_sbuffer_init(&head);
    msgpack_sbuffer_init(&meta);
    msgpack_packer_init(&packer, &head, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 5);
    msgpack_pack_int(&packer, 0);
    msgpack_pack_uint64(&packer, pending->id);
    mlp_pack_text(&packer, target);
    msgpack_packer_init(&packer, &meta, msgpack_sbuffer_write);
    pack_meta(&packer, context, left);
    const mlp_part parts[] = {{head.data, head.size}, {args->data, args->size}, {meta.data, meta.size}};
    const bool sent = mlp_send(parts, 3);
    if (sent) mlp_flush();
    msgpack_sbuffer_destroy(&head);
    msgpack_sbuffer_destroy(&meta);
    return sent;
}

static void send_cancel(uint64_t id) {
    char bytes[32];
    msgpack_sbuffer body = {.data = bytes, .alloc = sizeof bytes};
    msgpack_packer packer;
    if (!(mlp.features & MLP_CANCEL)) return;
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int(&packer, 2);
    mlp_pack_text(&packer, "$/cancel");
    msgpack_pack_array(&packer, 1);
    msgpack_pack_uint64(&packer, id);
    mlp_send(&(mlp_part){bytes, body.size}, 1);
    mlp_flush();
}

/* Fails our own call by the error that came, as it came. */
static int fail_alike(mlports_context *context, const msgpack_object *error) {
    msgpack_packer packer;
    mlports_text code = {0};
    context->failure.size = 0;
    msgpack_packer_init(&packer, &context->failure, msgpack_sbuffer_write);
    msgpack_pack_object(&packer, *error);
    mlports_as_text(mlports_get(&error->via.map, "code"), &code);
    const size_t size = code.size < sizeof context->code ? code.size : sizeof context->code - 1;
    memcpy(context->code, code.ptr, size);
    context->code[size] = 0;
    return -1;
}

static int settle(mlports_context *context, mlp_pending *pending, mlports_answer *answer) {
    int status = 0;
    if (pending->message.error != NULL) {
        status = fail_alike(context, pending->message.error);
        mlp_frame_free(pending->answer);
    } else {
        *answer = (mlports_answer){pending->message.result, pending->answer};
    }
    free(pending);
    return status;
}

int mlports_call(mlports_context *context, const char *target, const msgpack_sbuffer *args, double timeout,
                 mlports_answer *answer) {
    *answer = (mlports_answer){0};
    if (!right_args(args) || target[0] == 0)
        return mlports_fail(context, "internal", "the arguments for %s are not one packed array", target);
    const double own = mlports_deadline(context), left = timeout < own ? timeout : own;
    const double until = isinf(left) ? INFINITY : mlp_now() + left;
    mlp_pending *pending = new_pending();
    if (!send_request(pending, context, target, args, left)) {
        forget(pending);
        return mlports_fail(context, "resource_exhausted", "the call of %s is longer than the orchestrator's max_frame", target);
    }
    pthread_mutex_lock(&mlp.lock);
    while (pending->answer == NULL && !context->cancelled && !mlp.ended && mlp_wait_until(until)) continue;
    const bool answered = pending->answer != NULL, ended = mlp.ended;
    const uint64_t id = pending->id;
    pending->abandoned = !answered;
    pthread_mutex_unlock(&mlp.lock);
    if (answered) return settle(context, pending, answer);
    send_cancel(id);
    if (context->cancelled) return mlports_fail(context, "cancelled", "the caller cancelled the call");
    if (ended) return mlports_fail(context, "unavailable", "the orchestrator went away before %s was answered", target);
    return mlports_fail(context, "deadline_exceeded", "%s was not answered within %.3f s", target, left);
}

void mlports_answer_free(mlports_answer *answer) {
    mlp_frame_free(answer->memory);
    *answer = (mlports_answer){0};
}

int mlports_cast(const char *target, const msgpack_sbuffer *args) {
    msgpack_sbuffer head;
    msgpack_packer packer;
    if (!right_args(args) || target[0] == 0) return -1;
    msgpack_sbuffer_init(&head);
    msgpack_packer_init(&packer, &head, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int(&packer, 2);
    mlp_pack_text(&packer, target);
    const mlp_part parts[] = {{head.data, head.size}, {args->data, args->size}};
    const bool sent = mlp_send(parts, 2);
    if (sent) mlp_flush();
    msgpack_sbuffer_destroy(&head);
    return sent ? 0 : -1;
}
