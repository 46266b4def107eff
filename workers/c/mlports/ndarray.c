/* Extension 1 (SPEC.md 12.1): [dtype, shape] as MessagePack, and at once behind it the elements. */
#include <stdlib.h>
#include <string.h>

#include "value.h"

enum { MOST_DIMENSIONS = 64, DEEPEST_RECORD = 8 };

static bool bad(mlp_fault *fault, const char *what) { return mlp_blame(fault, "InvalidExtension", "an ndarray: %s", what); }

/* A decimal of 1 to 9 digits without a leading 0; `*at` moves behind it. 0: none. */
static uint64_t decimal(const char **at, const char *end) {
    uint64_t value = 0;
    const char *start = *at;
    while (*at < end && **at >= '0' && **at <= '9' && *at - start < 9) value = value * 10 + (uint64_t)(*(*at)++ - '0');
    return *start == '0' ? 0 : value;
}

/* `[25us]`, or nothing. */
static bool is_unit(const char *at, const char *end) {
    static const char *const names[] = {"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"};
    if (at == end) return true;
    if (*at++ != '[' || end - at < 2 || end[-1] != ']') return false;
    if (*at >= '0' && *at <= '9' && decimal(&at, end) == 0) return false;
    const size_t size = (size_t)(end - 1 - at);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == size && memcmp(names[i], at, size) == 0) return true;
    return false;
}

/* Bytes of an element, 0 when it is no dtype. */
static uint64_t plain_size(const char *dtype, size_t size) {
    const char *at = dtype + 2, *end = dtype + size;
    if (size < 3 || (dtype[0] != '<' && dtype[0] != '|')) return 0;
    const uint64_t said = decimal(&at, end);
    const bool whole = at == end, power = said == 1 || said == 2 || said == 4 || said == 8;
    switch (dtype[1]) {
    case 'b': return whole && said == 1 ? 1 : 0;
    case 'i':
    case 'u': return whole && power ? said : 0;
    case 'f': return whole && power && said > 1 ? said : 0;
    case 'c': return whole && (said == 8 || said == 16) ? said : 0;
    case 'U': return whole ? 4 * said : 0;
    case 'S':
    case 'V': return whole ? said : 0;
    case 'M':
    case 'm': return said == 8 && is_unit(at, end) ? 8 : 0;
    default: return 0;
    }
}

/* `size` times the product of the shape, without overflow. */
static bool multiply(const msgpack_object *shape, uint64_t *size, mlp_fault *fault) {
    bool empty = false, overflow = false;
    if (shape->type != MSGPACK_OBJECT_ARRAY) return bad(fault, "its shape is not an array");
    if (shape->via.array.size > MOST_DIMENSIONS) return bad(fault, "more than 64 dimensions");
    for (uint32_t i = 0; i < shape->via.array.size; i++) {
        const msgpack_object *axis = &shape->via.array.ptr[i];
        if (axis->type != MSGPACK_OBJECT_POSITIVE_INTEGER) return bad(fault, "its shape is not of integers from 0");
        empty |= axis->via.u64 == 0;
        overflow |= __builtin_mul_overflow(*size, axis->via.u64, size);
    }
    if (empty) *size = 0;
    return empty || !overflow || bad(fault, "its shape is larger than memory");
}

static int by_name(const void *left, const void *right) {
    const mlports_text *a = left, *b = right;
    const int order = memcmp(a->ptr, b->ptr, a->size < b->size ? a->size : b->size);
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

static bool names_differ(const msgpack_object_array *fields) {
    mlports_text *names = mlp_need(malloc(fields->size * sizeof *names));
    bool differ = true;
    for (uint32_t i = 0; i < fields->size; i++) mlports_as_text(&fields->ptr[i].via.array.ptr[0], &names[i]);
    qsort(names, fields->size, sizeof *names, by_name);
    for (uint32_t i = 1; i < fields->size; i++) differ &= by_name(&names[i - 1], &names[i]) != 0;
    free(names);
    return differ;
}

static bool item_size(const msgpack_object *dtype, int depth, uint64_t *size, mlp_fault *fault);

static bool field_size(const msgpack_object *field, int depth, uint64_t *size, mlp_fault *fault) {
    mlports_text name;
    if (field->type != MSGPACK_OBJECT_ARRAY || field->via.array.size < 2 || field->via.array.size > 3)
        return bad(fault, "a field is [name, dtype] or [name, dtype, shape]");
    const msgpack_object *parts = field->via.array.ptr;
    if (!mlports_as_text(&parts[0], &name) || name.size == 0) return bad(fault, "a field without a name");
    if (!item_size(&parts[1], depth + 1, size, fault)) return false;
    return field->via.array.size == 2 || multiply(&parts[2], size, fault);
}

static bool item_size(const msgpack_object *dtype, int depth, uint64_t *size, mlp_fault *fault) {
    mlports_text text;
    if (mlports_as_text(dtype, &text)) {
        *size = plain_size(text.ptr, text.size);
        return *size > 0 || bad(fault, "its dtype is none of the protocol's, such as <f4");
    }
    if (dtype->type != MSGPACK_OBJECT_ARRAY || dtype->via.array.size == 0 || depth >= DEEPEST_RECORD)
        return bad(fault, "its dtype is neither a string nor an array of fields");
    *size = 0;
    for (uint32_t i = 0; i < dtype->via.array.size; i++) {
        uint64_t field;
        if (!field_size(&dtype->via.array.ptr[i], depth, &field, fault)) return false;
        if (__builtin_add_overflow(*size, field, size)) return bad(fault, "its records are larger than memory");
    }
    if (!names_differ(&dtype->via.array)) return bad(fault, "two fields of one name");
    return true;
}

static void describe(const msgpack_object *head, uint64_t itemsize, size_t length, const char *data,
                     mlports_ndarray *array) {
    mlports_text text;
    memset(array, 0, sizeof *array);
    if (mlports_as_text(&head[0], &text) && text.size < sizeof array->dtype) memcpy(array->dtype, text.ptr, text.size);
    array->ndim = head[1].via.array.size;
    for (uint32_t i = 0; i < array->ndim; i++) array->shape[i] = head[1].via.array.ptr[i].via.u64;
    array->itemsize = itemsize;
    array->count = length / itemsize;
    array->data = data;
}

static bool check_head(const msgpack_object *head, size_t length, const char *data, mlports_ndarray *array,
                       mlp_fault *fault) {
    uint64_t itemsize, expected;
    if (head->type != MSGPACK_OBJECT_ARRAY || head->via.array.size != 2) return bad(fault, "it begins with [dtype, shape]");
    if (!item_size(&head->via.array.ptr[0], 0, &itemsize, fault)) return false;
    if (itemsize == 0) return bad(fault, "its elements have no bytes");
    expected = itemsize;
    if (!multiply(&head->via.array.ptr[1], &expected, fault)) return false;
    if (expected != length) return bad(fault, "its elements are not as many bytes as its dtype and shape say");
    if (array != NULL) describe(head->via.array.ptr, itemsize, length, data, array);
    return true;
}

bool mlp_check_ndarray(const char *bytes, size_t size, mlports_ndarray *array, mlp_fault *fault) {
    msgpack_zone zone;
    msgpack_object head;
    if (!msgpack_zone_init(&zone, 512)) mlp_need(NULL);
    const size_t start = mlp_read_value(bytes, size, false, 0, &zone, &head, fault);
    const bool right = start > 0 ? check_head(&head, size - start, bytes + start, array, fault)
                                 : bad(fault, "it begins with [dtype, shape]");
    msgpack_zone_destroy(&zone);
    return right;
}

bool mlports_as_ndarray(const msgpack_object *value, mlports_ndarray *array) {
    mlp_fault unused;
    return value->type == MSGPACK_OBJECT_EXT && value->via.ext.type == 1 &&
           mlp_check_ndarray(value->via.ext.ptr, value->via.ext.size, array, &unused) && array->dtype[0] != 0;
}

int mlports_pack_ndarray(msgpack_packer *packer, const char *dtype, uint32_t ndim, const uint64_t *shape,
                         const void *data) {
    uint64_t size = plain_size(dtype, strlen(dtype));
    if (size == 0 || ndim > MOST_DIMENSIONS) return -1;
    msgpack_sbuffer head;
    msgpack_packer inner;
    msgpack_sbuffer_init(&head);
    msgpack_packer_init(&inner, &head, msgpack_sbuffer_write);
    msgpack_pack_array(&inner, 2);
    mlp_pack_text(&inner, dtype);
    msgpack_pack_array(&inner, ndim);
    for (uint32_t i = 0; i < ndim; i++) {
        msgpack_pack_uint64(&inner, shape[i]);
        size *= shape[i];
    }
    int status = -1;
    if (size + head.size <= UINT32_MAX) {
        status = msgpack_pack_ext(packer, head.size + size, 1);
        if (status == 0) status = msgpack_pack_ext_body(packer, head.data, head.size);
        if (status == 0 && size > 0) status = msgpack_pack_ext_body(packer, data, size);
    }
    msgpack_sbuffer_destroy(&head);
    return status;
}
