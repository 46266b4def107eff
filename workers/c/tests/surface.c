/* What of the SDK can be seen without an orchestrator: values, arrays, text, arguments and errors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

static int failures;

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (condition) break;                                                        \
        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);      \
        failures++;                                                                  \
    } while (0)

static const char *fault_of(const char *bytes, size_t size, bool arrays) {
    msgpack_zone zone;
    msgpack_object value;
    mlp_fault fault = {.name = ""};
    if (!msgpack_zone_init(&zone, 1024)) exit(1);
    mlp_read_value(bytes, size, arrays, 0, &zone, &value, &fault);
    msgpack_zone_destroy(&zone);
    return fault.name;
}

static void lengths_are_claims(void) {
    CHECK(!strcmp(fault_of("\xdd\xff\xff\xff\xff", 5, true), "MalformedValue"));
    CHECK(!strcmp(fault_of("\xdb\xff\xff\xff\xff", 5, true), "MalformedValue"));
    /* Each level claims all that is left, which together is far more than there is. */
    const size_t size = 500 + (1 << 20);
    char *nested = calloc(1, size);
    for (int i = 0; i < 100; i++) memcpy(nested + 5 * i, "\xdd\0\xff\xff\xff", 5);
    CHECK(!strcmp(fault_of(nested, size, true), "MalformedValue"));
    memset(nested, '\x91', 200);
    CHECK(!strcmp(fault_of(nested, 130, true), "MalformedValue"));
    nested[128] = 0;
    CHECK(!strcmp(fault_of(nested, 129, true), ""));
    free(nested);
}

static void text_is_utf8(void) {
    CHECK(mlp_is_utf8("caf\xc3\xa9 \xf0\x9f\x90\x8d", 10));
    CHECK(!mlp_is_utf8("\xed\xa0\x80", 3) && !mlp_is_utf8("\xc0\x80", 2) && !mlp_is_utf8("\xf4\x90\x80\x80", 4));
    CHECK(!mlp_is_utf8("\xc3", 1) && !mlp_is_utf8("12345678\xff", 9));
    msgpack_sbuffer out;
    msgpack_packer packer;
    msgpack_sbuffer_init(&out);
    msgpack_packer_init(&packer, &out, msgpack_sbuffer_write);
    mlp_pack_text(&packer, "a\xff" "b");
    CHECK(out.size == 4 && !memcmp(out.data, "\xa3" "a?b", 4));
    msgpack_sbuffer_destroy(&out);
}

static void arrays_travel(void) {
    const double numbers[] = {1.5, -2, 3};
    msgpack_sbuffer out;
    msgpack_packer packer;
    msgpack_object value;
    mlports_ndarray array;
    msgpack_sbuffer_init(&out);
    msgpack_packer_init(&packer, &out, msgpack_sbuffer_write);
    CHECK(mlports_pack_ndarray(&packer, "float64", 1, (uint64_t[]){3}, numbers) != 0 && out.size == 0);
    CHECK(mlports_pack_ndarray(&packer, "<f8", 2, (uint64_t[]){3, 1}, numbers) == 0);
    mlp_fault fault;
    CHECK(mlp_read_value(out.data, out.size, true, 0, NULL, &value, &fault) == out.size);
    CHECK(mlports_as_ndarray(&value, &array) && array.ndim == 2 && array.shape[0] == 3 && array.count == 3);
    CHECK(!strcmp(array.dtype, "<f8") && array.itemsize == 8 && !memcmp(array.data, numbers, sizeof numbers));
    CHECK(!strcmp(fault_of(out.data, out.size, false), "InvalidExtension"));
    msgpack_sbuffer_destroy(&out);
}

static void arguments_are_taken_apart(void) {
    static const mlports_method method = {"add", NULL, 0};
    mlports_context context = {.method = &method};
    msgpack_object given[] = {{.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 2},
                              {.type = MSGPACK_OBJECT_FLOAT64, .via.f64 = 0.5},
                              {.type = MSGPACK_OBJECT_STR, .via.str = {2, "hi"}}};
    const msgpack_object_array args = {3, given}, two = {2, given};
    double a = 0, b = 7;
    int64_t whole;
    mlports_text text = {0};
    CHECK(mlports_arguments(&context, &args, "dds", &a, &b, &text) == 0 && a == 2 && b == 0.5 && text.size == 2);
    CHECK(mlports_arguments(&context, &two, "i|dd", &whole, &a, &b) == 0 && whole == 2 && a == 0.5 && b == 0.5);
    CHECK(!strcmp(mlports_failure(&context), ""));
    CHECK(mlports_arguments(&context, &two, "ii", &whole, &whole) == -1);
    CHECK(!strcmp(mlports_failure(&context), "invalid_argument"));
    mlports_recover(&context);
    CHECK(mlports_arguments(&context, &args, "dd", &a, &b) == -1 && mlports_arguments(&context, &two, "dds", &a, &b, &text) == -1);
    CHECK(mlports_fail(&context, "not_found", "line\nbreak") == -1);
    CHECK(memchr(context.failure.data, '\n', context.failure.size) == NULL);
    CHECK(!strcmp(mlports_failure(&context), "not_found") && isinf(mlports_deadline(&(mlports_context){.deadline = INFINITY})));
    msgpack_sbuffer_destroy(&context.failure);
}

int main(void) {
    lengths_are_claims();
    text_is_utf8();
    arrays_travel();
    arguments_are_taken_apart();
    if (failures > 0) fprintf(stderr, "%d checks failed\n", failures);
    return failures > 0;
}
