// Extension 1 (SPEC.md 12.1): [dtype, shape] as MessagePack, and at once behind it the elements.
#pragma once

#include "value.hpp"

#include <algorithm>
#include <numeric>
#include <type_traits>

namespace mlports {

// An array as numpy's, row by row. As a handler's argument it takes any dtype of numbers and converts; as a result it
// goes as T's dtype. Only to a peer that knows arrays: see Worker::sends_arrays.
template <class T>
struct Array {
    static_assert(std::is_arithmetic_v<T>);
    std::vector<std::uint64_t> shape;
    std::vector<T> data;
};

namespace detail {

[[noreturn]] inline void bad_array(const std::string &what) { throw Violation("InvalidExtension", "an ndarray: " + what); }

// A decimal of 1 to 9 digits without a leading 0, taken from the front of `text`; 0: none.
inline std::uint64_t take_decimal(std::string_view &text) {
    std::uint64_t value = 0;
    std::size_t count = 0;
    while (count < text.size() && count < 9 && text[count] >= '0' && text[count] <= '9')
        value = value * 10 + static_cast<std::uint64_t>(text[count++] - '0');
    const bool right = count > 0 && text[0] != '0';
    text.remove_prefix(count);
    return right ? value : 0;
}

// `[25us]`, or nothing.
inline bool is_unit(std::string_view text) {
    static constexpr std::string_view names[] = {"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"};
    if (text.empty()) return true;
    if (text.size() < 3 || text.front() != '[' || text.back() != ']') return false;
    text = text.substr(1, text.size() - 2);
    if (text[0] >= '0' && text[0] <= '9' && take_decimal(text) == 0) return false;
    return std::find(std::begin(names), std::end(names), text) != std::end(names);
}

// Bytes of an element, 0 when it is no dtype.
inline std::uint64_t plain_size(std::string_view dtype) {
    if (dtype.size() < 3 || (dtype[0] != '<' && dtype[0] != '|')) return 0;
    const char kind = dtype[1];
    dtype.remove_prefix(2);
    const auto said = take_decimal(dtype);
    if (kind == 'M' || kind == 'm') return said == 8 && is_unit(dtype) ? 8 : 0;
    if (!dtype.empty()) return 0;
    const bool power = said == 1 || said == 2 || said == 4 || said == 8;
    switch (kind) {
    case 'b': return said == 1 ? 1 : 0;
    case 'i':
    case 'u': return power ? said : 0;
    case 'f': return power && said > 1 ? said : 0;
    case 'c': return said == 8 || said == 16 ? said : 0;
    case 'U': return 4 * said;
    case 'S':
    case 'V': return said;
    default: return 0;
    }
}

// `size` times the product of the shape.
inline std::uint64_t times_shape(std::uint64_t size, const msgpack::object &shape) {
    if (shape.type != msgpack::type::ARRAY) bad_array("its shape is not an array");
    if (shape.via.array.size > 64) bad_array("more than 64 dimensions");
    bool empty = false, overflow = false;
    for (std::uint32_t i = 0; i < shape.via.array.size; i++) {
        const auto &axis = shape.via.array.ptr[i];
        if (axis.type != msgpack::type::POSITIVE_INTEGER) bad_array("its shape is not of integers from 0");
        empty |= axis.via.u64 == 0;
        overflow |= __builtin_mul_overflow(size, axis.via.u64, &size);
    }
    if (!empty && overflow) bad_array("its shape is larger than memory");
    return empty ? 0 : size;
}

inline std::uint64_t item_size(const msgpack::object &dtype, int depth);

inline std::uint64_t field_size(const msgpack::object &field, int depth, std::string_view &name) {
    if (field.type != msgpack::type::ARRAY || field.via.array.size < 2 || field.via.array.size > 3)
        bad_array("a field is [name, dtype] or [name, dtype, shape]");
    const auto parts = field.via.array.ptr;
    if (!as_text(parts[0], name) || name.empty()) bad_array("a field without a name");
    const auto size = item_size(parts[1], depth + 1);
    return field.via.array.size == 3 ? times_shape(size, parts[2]) : size;
}

inline std::uint64_t item_size(const msgpack::object &dtype, int depth) {
    std::string_view text;
    std::uint64_t size = 0;
    if (as_text(dtype, text)) {
        size = plain_size(text);
        if (size == 0) bad_array("its dtype is none of the protocol's, such as <f4");
        return size;
    }
    if (dtype.type != msgpack::type::ARRAY || dtype.via.array.size == 0 || depth >= 8)
        bad_array("its dtype is neither a string nor an array of fields");
    std::vector<std::string_view> names(dtype.via.array.size);
    for (std::uint32_t i = 0; i < dtype.via.array.size; i++)
        if (__builtin_add_overflow(size, field_size(dtype.via.array.ptr[i], depth, names[i]), &size))
            bad_array("its records are larger than memory");
    std::sort(names.begin(), names.end());
    if (std::adjacent_find(names.begin(), names.end()) != names.end()) bad_array("two fields of one name");
    return size;
}

struct ArrayHead {
    std::string_view dtype;  // empty for records
    std::vector<std::uint64_t> shape;
    std::size_t itemsize = 0;
    const char *data = nullptr;
    std::size_t size = 0;
};

// Throws Violation. What it gives points into `bytes`.
inline ArrayHead read_array_head(const char *bytes, std::size_t size) {
    msgpack::zone zone(512);
    msgpack::object head;
    std::size_t start = 0;
    try {
        start = read_value(bytes, size, false, 0, &zone, head);
    } catch (const Violation &fault) {
        bad_array(std::string("it begins with [dtype, shape]: ") + fault.what());
    }
    if (head.type != msgpack::type::ARRAY || head.via.array.size != 2) bad_array("it begins with [dtype, shape]");
    ArrayHead result;
    result.itemsize = item_size(head.via.array.ptr[0], 0);
    if (result.itemsize == 0) bad_array("its elements have no bytes");
    const auto &shape = head.via.array.ptr[1];
    if (times_shape(result.itemsize, shape) != size - start)
        bad_array("its elements are not as many bytes as its dtype and shape say");
    as_text(head.via.array.ptr[0], result.dtype);
    for (std::uint32_t i = 0; i < shape.via.array.size; i++) result.shape.push_back(shape.via.array.ptr[i].via.u64);
    result.data = bytes + start;
    result.size = size - start;
    return result;
}

inline void check_ndarray(const char *bytes, std::size_t size) { read_array_head(bytes, size); }

template <class T>
std::string dtype_of() {
    if constexpr (std::is_same_v<T, bool>) return "|b1";
    const char kind = std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
    return std::string(sizeof(T) == 1 ? "|" : "<") + kind + std::to_string(sizeof(T));
}

template <class From, class To>
void convert_elements(const ArrayHead &head, std::vector<To> &out) {
    out.resize(head.size / sizeof(From));
    for (std::size_t i = 0; i < out.size(); i++) {
        From element;
        std::memcpy(&element, head.data + i * sizeof(From), sizeof(From));
        out[i] = static_cast<To>(element);
    }
}

template <class From, class To>
bool convert_if(const ArrayHead &head, std::vector<To> &out) {
    if (head.dtype != dtype_of<From>()) return false;
    convert_elements<From>(head, out);
    return true;
}

template <class To>
bool convert_any(const ArrayHead &head, std::vector<To> &out) {
    return convert_if<double>(head, out) || convert_if<float>(head, out) || convert_if<std::int64_t>(head, out) ||
           convert_if<std::int32_t>(head, out) || convert_if<std::int16_t>(head, out) || convert_if<std::int8_t>(head, out) ||
           convert_if<std::uint64_t>(head, out) || convert_if<std::uint32_t>(head, out) ||
           convert_if<std::uint16_t>(head, out) || convert_if<std::uint8_t>(head, out);
}

}  // namespace detail
}  // namespace mlports

namespace msgpack {
MSGPACK_API_VERSION_NAMESPACE(MSGPACK_DEFAULT_API_NS) {
namespace adaptor {

template <class T>
struct convert<mlports::Array<T>> {
    const msgpack::object &operator()(const msgpack::object &value, mlports::Array<T> &array) const {
        if (value.type != msgpack::type::EXT || value.via.ext.type() != 1) throw msgpack::type_error();
        const auto head = mlports::detail::read_array_head(value.via.ext.data(), value.via.ext.size);
        if (!mlports::detail::convert_any(head, array.data)) throw msgpack::type_error();
        array.shape = head.shape;
        return value;
    }
};

template <class T>
struct pack<mlports::Array<T>> {
    template <class Stream>
    msgpack::packer<Stream> &operator()(msgpack::packer<Stream> &packer, const mlports::Array<T> &array) const {
        mlports::Buffer head;
        mlports::Packer(head).pack_array(2).pack(mlports::detail::dtype_of<T>()).pack(array.shape);
        const std::size_t size = array.data.size() * sizeof(T);
        packer.pack_ext(head.size() + size, 1).pack_ext_body(head.view().data(), static_cast<std::uint32_t>(head.size()));
        if (size > 0)
            packer.pack_ext_body(reinterpret_cast<const char *>(array.data.data()), static_cast<std::uint32_t>(size));
        return packer;
    }
};

}  // namespace adaptor
}  // MSGPACK_API_VERSION_NAMESPACE
}  // namespace msgpack
