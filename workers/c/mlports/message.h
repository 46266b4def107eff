/* What a decoded value means: SPEC.md sections 4 and 5.1. */
#ifndef MLP_MESSAGE_H
#define MLP_MESSAGE_H

#include "wire.h"

#define MLP_MAX_ID ((UINT64_C(1) << 53) - 1)

typedef enum { MLP_REQUEST, MLP_RESPONSE, MLP_NOTIFICATION } mlp_kind;

typedef struct {
    mlp_kind kind;
    uint64_t id;
    mlports_text method;
    msgpack_object_array params;
    const msgpack_object_map *meta; /* NULL: none */
    const msgpack_object *error;    /* NULL: none */
    const msgpack_object *result;
} mlp_message;

bool mlp_parse_message(const msgpack_object *value, mlp_message *message, mlp_fault *fault);

/* Features that this side claims, and bits for those agreed. */
enum { MLP_PING = 1, MLP_CANCEL = 2, MLP_STREAM = 4, MLP_STREAMED_INPUT = 8, MLP_BATCHES = 16, MLP_ARRAYS = 32 };
extern const char *const mlp_feature_names[]; /* in the order of the bits, ended by NULL */

typedef struct {
    uint32_t max_frame;
    unsigned features;
    msgpack_object_map config;
} mlp_hello;

bool mlp_parse_hello(const msgpack_object_array *params, mlp_hello *hello, mlp_fault *fault);

/* What the params of `$/` notifications begin with. */
bool mlp_take_id(const mlp_message *message, uint32_t params, uint64_t *id, mlp_fault *fault);
bool mlp_take_grant(const mlp_message *message, uint64_t *id, uint64_t *count, mlp_fault *fault);

bool mlp_same(mlports_text text, const char *name);
bool mlp_is_count(const msgpack_object *value, uint64_t least);

#endif
