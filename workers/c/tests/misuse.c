/* A worker whose handlers do what they should not: each must become an error of that call alone. */
#include <mlports.h>
#include <stdlib.h>
#include <string.h>

static int two_values(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    (void)context, (void)args;
    msgpack_pack_nil(result);
    return msgpack_pack_nil(result);
}

static int half_a_value(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    (void)context, (void)args;
    return msgpack_pack_array(result, 2);
}

static int not_text(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    (void)context, (void)args;
    return msgpack_pack_str_with_body(result, "\xff\xfe", 2);
}

static int silent(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    (void)context, (void)args, (void)result;
    return -1;
}

static int yields(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    (void)args, (void)result;
    return mlports_yield(context);
}

static int too_few(mlports_context *context, const msgpack_object_array *calls, msgpack_packer *result) {
    (void)context, (void)calls, (void)result;
    return 0;
}

static int too_many(mlports_context *context, const msgpack_object_array *calls, msgpack_packer *result) {
    (void)result;
    for (uint32_t i = 0; i <= calls->size; i++) mlports_next(context);
    return 0;
}

static int input(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    const msgpack_object *item;
    (void)args, (void)result;
    return mlports_input(context, &item);
}

static int nothing(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    (void)context, (void)args, (void)result;
    return 0;
}

static int crash(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    (void)context, (void)args, (void)result;
    abort();
}

int main(void) {
    static const mlports_method methods[] = {
        {"two_values", two_values, 0}, {"half_a_value", half_a_value, 0}, {"not_text", not_text, 0},
        {"silent", silent, 0},         {"yields", yields, 0},             {"too_few", too_few, MLPORTS_BATCH},
        {"input", input, 0},           {"nothing", nothing, 0},           {"too_many", too_many, MLPORTS_BATCH},
        {"crash", crash, 0},           {0},
    };
    return mlports_run(&(mlports_worker){.name = "misuse", .methods = methods, .concurrency = 3});
}
