/* msgpack-c's own decoder allocates what a length claims, takes any bytes for a str and stops at 32 levels; this one
 * reads into msgpack-c's objects by the rules of SPEC.md section 3. */
#include "value.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 128 };

typedef struct {
    const unsigned char *at, *end;
    size_t owed; /* values that containers around have claimed and that are still to come: 1 byte each at least */
    bool arrays;
    msgpack_zone *zone;
    mlp_fault *fault;
} source;

bool mlp_blame(mlp_fault *fault, const char *name, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fault->name = name;
    vsnprintf(fault->reason, sizeof fault->reason, format, arguments);
    va_end(arguments);
    return false;
}

void *mlp_need(void *memory) {
    if (memory == NULL) {
        fputs("mlports: out of memory\n", stderr);
        _Exit(1);
    }
    return memory;
}

/* The bytes of a well-formed UTF-8 sequence that begins at `at`, 0 when there is none. */
static size_t sequence(const unsigned char *at, const unsigned char *end) {
    const size_t left = (size_t)(end - at);
    const unsigned char first = at[0];
    if (first < 0x80) return 1;
    const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || left < size) return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    /* Too long a form, a surrogate, beyond 10ffff. */
    if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f)) return 0;
    if ((first == 0xf0 && at[1] < 0x90) || (first == 0xf4 && at[1] > 0x8f)) return 0;
    return size;
}

bool mlp_is_utf8(const char *bytes, size_t size) {
    const unsigned char *at = (const unsigned char *)bytes, *end = at + size;
    while (at < end) {
        uint64_t eight;
        if (end - at >= 8 && (memcpy(&eight, at, 8), (eight & 0x8080808080808080u) == 0)) {
            at += 8;
            continue;
        }
        const size_t step = sequence(at, end);
        if (step == 0) return false;
        at += step;
    }
    return true;
}

void mlp_pack_text(msgpack_packer *packer, const char *text) {
    const size_t size = strlen(text);
    if (mlp_is_utf8(text, size)) {
        msgpack_pack_str_with_body(packer, text, size);
        return;
    }
    char *copy = mlp_need(malloc(size));
    memcpy(copy, text, size);
    unsigned char *at = (unsigned char *)copy, *end = at + size;
    while (at < end) {
        const size_t step = sequence(at, end);
        if (step == 0) *at = '?';
        at += step == 0 ? 1 : step;
    }
    msgpack_pack_str_with_body(packer, copy, size);
    free(copy);
}

static bool cut(source *from) {
    return mlp_blame(from->fault, "MalformedValue", "a value says to be longer than the rest of its frame");
}

static bool number(source *from, int size, uint64_t *value) {
    *value = 0;
    if (from->end - from->at < size) return cut(from);
    for (int i = 0; i < size; i++) *value = *value << 8 | *from->at++;
    return true;
}

static void set_signed(msgpack_object *out, int64_t value) {
    out->type = value < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER : MSGPACK_OBJECT_POSITIVE_INTEGER;
    out->via.i64 = value;
}

static bool read_bytes(source *from, uint64_t size, const char **bytes) {
    if ((uint64_t)(from->end - from->at) < size) return cut(from);
    *bytes = (const char *)from->at;
    from->at += size;
    return true;
}

static bool read_str(source *from, uint64_t size, msgpack_object *out) {
    out->type = MSGPACK_OBJECT_STR;
    out->via.str.size = (uint32_t)size;
    if (!read_bytes(from, size, &out->via.str.ptr)) return false;
    return mlp_is_utf8(out->via.str.ptr, size) || mlp_blame(from->fault, "MalformedValue", "a str is not UTF-8");
}

static bool read_bin(source *from, uint64_t size, msgpack_object *out) {
    out->type = MSGPACK_OBJECT_BIN;
    out->via.bin.size = (uint32_t)size;
    return read_bytes(from, size, &out->via.bin.ptr);
}

static bool check_timestamp(source *from, const msgpack_object *value) {
    msgpack_timestamp time;
    if (!msgpack_object_to_timestamp(value, &time))
        return mlp_blame(from->fault, "MalformedValue", "a timestamp of %u bytes", value->via.ext.size);
    return time.tv_nsec <= 999999999 || mlp_blame(from->fault, "MalformedValue", "a timestamp with %u ns", time.tv_nsec);
}

static bool read_ext(source *from, uint64_t size, msgpack_object *out) {
    uint64_t code;
    if (!number(from, 1, &code)) return false;
    out->type = MSGPACK_OBJECT_EXT;
    out->via.ext.type = (int8_t)code;
    out->via.ext.size = (uint32_t)size;
    if (!read_bytes(from, size, &out->via.ext.ptr)) return false;
    if (out->via.ext.type == -1) return check_timestamp(from, out);
    if (out->via.ext.type < 1 || out->via.ext.type > 3) return true;
    if (out->via.ext.type > 1 || !from->arrays)
        return mlp_blame(from->fault, "InvalidExtension", "extension %d was not agreed", out->via.ext.type);
    return mlp_check_ndarray(out->via.ext.ptr, size, NULL, from->fault);
}

static bool read_any(source *from, int depth, msgpack_object *out);

/* Room for `count` values of `size` bytes, if so many can still come. */
static bool claim(source *from, uint64_t count, uint64_t each, size_t size, int depth, void **room) {
    *room = NULL;
    if (depth > DEEPEST) return mlp_blame(from->fault, "MalformedValue", "nested deeper than %d", DEEPEST);
    if (count * each + from->owed > (size_t)(from->end - from->at)) return cut(from);
    from->owed += count * each;
    if (from->zone != NULL && count > 0) *room = mlp_need(msgpack_zone_malloc(from->zone, count * size));
    return true;
}

static bool read_array(source *from, uint64_t count, int depth, msgpack_object *out) {
    void *room;
    if (!claim(from, count, 1, sizeof(msgpack_object), depth, &room)) return false;
    msgpack_object *items = room, unused;
    for (uint64_t i = 0; i < count; i++) {
        from->owed--;
        if (!read_any(from, depth, items == NULL ? &unused : &items[i])) return false;
    }
    out->type = MSGPACK_OBJECT_ARRAY;
    out->via.array = (msgpack_object_array){(uint32_t)count, items};
    return true;
}

static bool read_map(source *from, uint64_t count, int depth, msgpack_object *out) {
    void *room;
    if (!claim(from, count, 2, sizeof(msgpack_object_kv), depth, &room)) return false;
    msgpack_object_kv *pairs = room, unused;
    for (uint64_t i = 0; i < count; i++) {
        msgpack_object_kv *pair = pairs == NULL ? &unused : &pairs[i];
        from->owed--;
        if (!read_any(from, depth, &pair->key)) return false;
        if (pair->key.type == MSGPACK_OBJECT_ARRAY || pair->key.type == MSGPACK_OBJECT_MAP)
            return mlp_blame(from->fault, "MalformedValue", "an array or a map as the key of a map");
        from->owed--;
        if (!read_any(from, depth, &pair->val)) return false;
    }
    out->type = MSGPACK_OBJECT_MAP;
    out->via.map = (msgpack_object_map){(uint32_t)count, pairs};
    return true;
}

static bool read_float(source *from, int size, msgpack_object *out) {
    uint64_t bits;
    if (!number(from, size, &bits)) return false;
    if (size == 8) {
        out->type = MSGPACK_OBJECT_FLOAT64;
        memcpy(&out->via.f64, &bits, 8);
        return true;
    }
    const uint32_t half = (uint32_t)bits;
    float value;
    memcpy(&value, &half, 4);
    out->type = MSGPACK_OBJECT_FLOAT32;
    out->via.f64 = value;
    return true;
}

static bool read_signed(source *from, int size, msgpack_object *out) {
    uint64_t bits;
    if (!number(from, size, &bits)) return false;
    const int shift = 64 - 8 * size;
    set_signed(out, (int64_t)(bits << shift) >> shift);
    return true;
}

/* c0 … df: a tag, and behind it a number or a length of 1, 2, 4 or 8 bytes. */
static bool read_tagged(source *from, unsigned char tag, int depth, msgpack_object *out) {
    uint64_t n;
    if (tag >= 0xd4 && tag <= 0xd8) return read_ext(from, 1u << (tag - 0xd4), out);
    switch (tag) {
    case 0xc0: out->type = MSGPACK_OBJECT_NIL; return true;
    case 0xc2:
    case 0xc3:
        out->type = MSGPACK_OBJECT_BOOLEAN;
        out->via.boolean = tag == 0xc3;
        return true;
    case 0xc4: case 0xc5: case 0xc6: return number(from, 1 << (tag - 0xc4), &n) && read_bin(from, n, out);
    case 0xc7: case 0xc8: case 0xc9: return number(from, 1 << (tag - 0xc7), &n) && read_ext(from, n, out);
    case 0xca: return read_float(from, 4, out);
    case 0xcb: return read_float(from, 8, out);
    case 0xcc: case 0xcd: case 0xce: case 0xcf:
        out->type = MSGPACK_OBJECT_POSITIVE_INTEGER;
        return number(from, 1 << (tag - 0xcc), &out->via.u64);
    case 0xd0: case 0xd1: case 0xd2: case 0xd3: return read_signed(from, 1 << (tag - 0xd0), out);
    case 0xd9: case 0xda: case 0xdb: return number(from, 1 << (tag - 0xd9), &n) && read_str(from, n, out);
    case 0xdc: case 0xdd: return number(from, 2 << (tag - 0xdc), &n) && read_array(from, n, depth + 1, out);
    case 0xde: case 0xdf: return number(from, 2 << (tag - 0xde), &n) && read_map(from, n, depth + 1, out);
    default: return mlp_blame(from->fault, "MalformedValue", "the byte %02x begins no value", tag);
    }
}

static bool read_any(source *from, int depth, msgpack_object *out) {
    if (from->at == from->end) return cut(from);
    const unsigned char tag = *from->at++;
    if (tag < 0x80) {
        out->type = MSGPACK_OBJECT_POSITIVE_INTEGER;
        out->via.u64 = tag;
        return true;
    }
    if (tag < 0x90) return read_map(from, tag & 0x0f, depth + 1, out);
    if (tag < 0xa0) return read_array(from, tag & 0x0f, depth + 1, out);
    if (tag < 0xc0) return read_str(from, tag & 0x1f, out);
    if (tag < 0xe0) return read_tagged(from, tag, depth, out);
    set_signed(out, (int8_t)tag);
    return true;
}

size_t mlp_read_value(const char *bytes, size_t size, bool arrays, int depth, msgpack_zone *zone, msgpack_object *out,
                      mlp_fault *fault) {
    const unsigned char *start = (const unsigned char *)bytes;
    source from = {.at = start, .end = start + size, .arrays = arrays, .zone = zone, .fault = fault};
    return read_any(&from, depth, out) ? (size_t)(from.at - start) : 0;
}

bool mlports_as_text(const msgpack_object *value, mlports_text *text) {
    if (value->type == MSGPACK_OBJECT_STR) {
        *text = (mlports_text){value->via.str.ptr, value->via.str.size};
        return true;
    }
    if (value->type != MSGPACK_OBJECT_BIN || !mlp_is_utf8(value->via.bin.ptr, value->via.bin.size)) return false;
    *text = (mlports_text){value->via.bin.ptr, value->via.bin.size};
    return true;
}

bool mlp_text_is(const msgpack_object *value, const char *text) {
    mlports_text said;
    return mlports_as_text(value, &said) && said.size == strlen(text) && memcmp(said.ptr, text, said.size) == 0;
}

bool mlports_as_double(const msgpack_object *value, double *number) {
    switch (value->type) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER: *number = (double)value->via.u64; return true;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: *number = (double)value->via.i64; return true;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: *number = value->via.f64; return true;
    default: return false;
    }
}

const msgpack_object *mlports_get(const msgpack_object_map *map, const char *key) {
    for (uint32_t i = 0; map != NULL && i < map->size; i++)
        if (mlp_text_is(&map->ptr[i].key, key)) return &map->ptr[i].val;
    return NULL;
}
