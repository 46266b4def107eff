#include "message.h"

#include <string.h>

const char *const mlp_feature_names[] = {"ping", "cancel", "stream", "input", "batch", "ndarray", NULL};

static bool invalid(mlp_fault *fault, const char *what) { return mlp_blame(fault, "InvalidMessage", "%s", what); }

bool mlp_same(mlports_text text, const char *name) {
    return text.size == strlen(name) && memcmp(text.ptr, name, text.size) == 0;
}

bool mlp_is_count(const msgpack_object *value, uint64_t least) {
    return value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 >= least && value->via.u64 <= MLP_MAX_ID;
}

static bool take_method(const msgpack_object *method, const msgpack_object *params, mlp_message *message,
                        mlp_fault *fault) {
    if (!mlports_as_text(method, &message->method) || message->method.size == 0)
        return invalid(fault, "a method is a string of at least 1 byte");
    if (params->type != MSGPACK_OBJECT_ARRAY) return invalid(fault, "params are an array");
    message->params = params->via.array;
    return true;
}

static bool take_meta(const msgpack_object_array *parts, uint32_t at, mlp_message *message, mlp_fault *fault) {
    if (parts->size <= at || parts->ptr[at].type == MSGPACK_OBJECT_NIL) return true;
    if (parts->ptr[at].type != MSGPACK_OBJECT_MAP) return invalid(fault, "meta is a map");
    message->meta = &parts->ptr[at].via.map;
    return true;
}

static bool check_error(const msgpack_object *error, const msgpack_object *result, mlp_fault *fault) {
    mlports_text text;
    if (error->type != MSGPACK_OBJECT_MAP) return invalid(fault, "an error is nil or a map");
    const msgpack_object *code = mlports_get(&error->via.map, "code");
    const msgpack_object *said = mlports_get(&error->via.map, "message");
    if (code == NULL || said == NULL || !mlports_as_text(code, &text) || !mlports_as_text(said, &text))
        return invalid(fault, "an error has a code and a message, two strings");
    const msgpack_object *retryable = mlports_get(&error->via.map, "retryable");
    if (retryable != NULL && retryable->type != MSGPACK_OBJECT_BOOLEAN)
        return invalid(fault, "an error's retryable is a boolean");
    return result->type == MSGPACK_OBJECT_NIL || invalid(fault, "a response with an error and a result");
}

static bool take_response(const msgpack_object_array *parts, mlp_message *message, mlp_fault *fault) {
    message->result = &parts->ptr[3];
    if (parts->ptr[2].type != MSGPACK_OBJECT_NIL) {
        message->error = &parts->ptr[2];
        if (!check_error(message->error, message->result, fault)) return false;
    }
    return take_meta(parts, 4, message, fault);
}

bool mlp_parse_message(const msgpack_object *value, mlp_message *message, mlp_fault *fault) {
    memset(message, 0, sizeof *message);
    if (value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size == 0)
        return invalid(fault, "a message is an array of 3 to 5 elements");
    const msgpack_object_array *parts = &value->via.array;
    if (parts->ptr[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || parts->ptr[0].via.u64 > 2)
        return invalid(fault, "a message begins with 0, 1 or 2");
    message->kind = (mlp_kind)parts->ptr[0].via.u64;
    if (parts->size < (message->kind == MLP_NOTIFICATION ? 3u : 4u)) return invalid(fault, "a message of too few elements");
    if (message->kind == MLP_NOTIFICATION)
        return take_method(&parts->ptr[1], &parts->ptr[2], message, fault) && take_meta(parts, 3, message, fault);
    if (!mlp_is_count(&parts->ptr[1], 0)) return invalid(fault, "an id is an integer from 0 to 2^53-1");
    message->id = parts->ptr[1].via.u64;
    if (message->kind == MLP_RESPONSE) return take_response(parts, message, fault);
    return take_method(&parts->ptr[2], &parts->ptr[3], message, fault) && take_meta(parts, 4, message, fault);
}

/* -- $/hello -- */

static bool wrong(mlp_fault *fault, const char *what) { return mlp_blame(fault, "InvalidHello", "$/hello: %s", what); }

static bool is_integer(const msgpack_object *value) {
    return value != NULL &&
           (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER || value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER);
}

static double as_number(const msgpack_object *integer) {
    double number = 0;
    mlports_as_double(integer, &number);
    return number;
}

static bool check_version(const msgpack_object *protocol, mlp_fault *fault) {
    if (protocol == NULL || protocol->type != MSGPACK_OBJECT_MAP) return wrong(fault, "protocol is {min, max}");
    const msgpack_object *min = mlports_get(&protocol->via.map, "min"), *max = mlports_get(&protocol->via.map, "max");
    if (!is_integer(min) || !is_integer(max)) return wrong(fault, "protocol is {min, max}, two integers");
    if (as_number(min) <= 1 && as_number(max) >= 1) return true;
    return mlp_blame(fault, "UnsupportedVersion", "the orchestrator speaks versions %.0f to %.0f, this worker version 1",
                     as_number(min), as_number(max));
}

static bool take_features(const msgpack_object *features, unsigned *bits, mlp_fault *fault) {
    if (features == NULL || features->type == MSGPACK_OBJECT_NIL) return true;
    if (features->type != MSGPACK_OBJECT_ARRAY) return wrong(fault, "features are an array of strings");
    for (uint32_t i = 0; i < features->via.array.size; i++) {
        mlports_text name;
        if (!mlports_as_text(&features->via.array.ptr[i], &name)) return wrong(fault, "features are strings");
        for (unsigned bit = 0; mlp_feature_names[bit] != NULL; bit++)
            if (mlp_same(name, mlp_feature_names[bit])) *bits |= 1u << bit;
    }
    return true;
}

/* "/proc/PID/fd/N" */
static bool is_segment(mlports_text path) {
    const char *at = path.ptr, *end = path.ptr + path.size;
    const struct {
        const char *before;
        int most;
        bool from_1;
    } parts[] = {{"/proc/", 10, true}, {"/fd/", 9, false}};
    for (size_t i = 0; i < 2; i++) {
        const size_t size = strlen(parts[i].before);
        if ((size_t)(end - at) <= size || memcmp(at, parts[i].before, size) != 0) return false;
        at += size;
        const char *digits = at;
        while (at < end && *at >= '0' && *at <= '9') at++;
        if (at == digits || at - digits > parts[i].most || (parts[i].from_1 && *digits == '0')) return false;
    }
    return at == end;
}

static bool check_shm(const msgpack_object *shm, mlp_fault *fault) {
    mlports_text path;
    if (shm == NULL || shm->type == MSGPACK_OBJECT_NIL) return true;
    if (shm->type != MSGPACK_OBJECT_MAP) return wrong(fault, "shm is {segment, token}");
    const msgpack_object *segment = mlports_get(&shm->via.map, "segment"), *token = mlports_get(&shm->via.map, "token");
    if (segment == NULL || !mlports_as_text(segment, &path) || !is_segment(path)) return wrong(fault, "shm's segment is a path in /proc");
    return (token != NULL && token->type == MSGPACK_OBJECT_BIN && token->via.bin.size > 0) ||
           wrong(fault, "shm's token is bin");
}

static bool check_identity(const msgpack_object_map *said, mlp_fault *fault) {
    mlports_text text;
    const msgpack_object *service = mlports_get(said, "service"), *replica = mlports_get(said, "replica");
    if (service != NULL && !mlports_as_text(service, &text)) return wrong(fault, "service is a string");
    return replica == NULL || mlp_is_count(replica, 0) || wrong(fault, "replica is an integer from 0");
}

bool mlp_parse_hello(const msgpack_object_array *params, mlp_hello *hello, mlp_fault *fault) {
    *hello = (mlp_hello){.max_frame = MLP_DEFAULT_MAX_FRAME};
    if (params->size == 0 || params->ptr[0].type != MSGPACK_OBJECT_MAP) return wrong(fault, "its params are one map");
    const msgpack_object_map *said = &params->ptr[0].via.map;
    if (!check_version(mlports_get(said, "protocol"), fault)) return false;
    const msgpack_object *config = mlports_get(said, "config"), *max_frame = mlports_get(said, "max_frame");
    if (config != NULL && config->type == MSGPACK_OBJECT_MAP) hello->config = config->via.map;
    else if (config != NULL && config->type != MSGPACK_OBJECT_NIL) return wrong(fault, "config is a map");
    if (max_frame != NULL && max_frame->type != MSGPACK_OBJECT_NIL) {
        if (!mlp_is_count(max_frame, 1) || max_frame->via.u64 > INT32_MAX)
            return wrong(fault, "max_frame is an integer from 1 to 2^31-1");
        hello->max_frame = (uint32_t)max_frame->via.u64;
    }
    return check_identity(said, fault) && take_features(mlports_get(said, "features"), &hello->features, fault) &&
           check_shm(mlports_get(said, "shm"), fault);
}

/* -- The params of notifications -- */

bool mlp_take_id(const mlp_message *message, uint32_t params, uint64_t *id, mlp_fault *fault) {
    if (message->params.size < params)
        return mlp_blame(fault, "InvalidMessage", "%.*s has at least %u params", (int)message->method.size,
                         message->method.ptr, params);
    if (!mlp_is_count(&message->params.ptr[0], 0))
        return mlp_blame(fault, "InvalidMessage", "the id in %.*s is an integer from 0", (int)message->method.size,
                         message->method.ptr);
    *id = message->params.ptr[0].via.u64;
    return true;
}

bool mlp_take_grant(const mlp_message *message, uint64_t *id, uint64_t *count, mlp_fault *fault) {
    if (!mlp_take_id(message, 2, id, fault)) return false;
    if (!mlp_is_count(&message->params.ptr[1], 1))
        return mlp_blame(fault, "InvalidMessage", "the count in %.*s is an integer from 1", (int)message->method.size,
                         message->method.ptr);
    *count = message->params.ptr[1].via.u64;
    return true;
}
