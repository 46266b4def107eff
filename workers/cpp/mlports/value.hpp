// MessagePack values as SPEC.md section 3 has them: read and checked in one pass, by a visitor of msgpack-cxx's parser.
#pragma once

#include <msgpack.hpp>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mlports {

// Where values are packed: packer for a stream of its own, because msgpack-cxx writes the double 1.0 as the integer 1.
class Buffer {
public:
    void write(const char *bytes, std::size_t size) { bytes_.append(bytes, size); }
    void write(std::string_view bytes) { bytes_.append(bytes); }
    std::string_view view(std::size_t from = 0) const { return std::string_view(bytes_).substr(from); }
    std::size_t size() const { return bytes_.size(); }
    void cut(std::size_t to) { bytes_.resize(to); }

private:
    std::string bytes_;
};
using Packer = msgpack::packer<Buffer>;

}  // namespace mlports

template <>
inline mlports::Packer &msgpack::packer<mlports::Buffer>::pack_double(double value) {
    std::uint64_t bits;
    std::memcpy(&bits, &value, 8);
    char out[9] = {static_cast<char>(0xcb)};
    for (int i = 8; i > 0; i--, bits >>= 8) out[i] = static_cast<char>(bits);
    m_stream.write(out, 9);
    return *this;
}

template <>
inline mlports::Packer &msgpack::packer<mlports::Buffer>::pack_float(float value) {
    return pack_double(static_cast<double>(value));
}

namespace mlports::detail {

// What the other side did wrong: a name of SPEC.md 13, and how.
struct Violation : std::runtime_error {
    Violation(std::string name, const std::string &reason) : std::runtime_error(reason), name(std::move(name)) {}
    std::string name;
};

// The bytes of a well-formed UTF-8 sequence that begins at `at`, 0 when there is none.
inline std::size_t utf8_sequence(const unsigned char *at, const unsigned char *end) {
    const unsigned char first = at[0];
    if (first < 0x80) return 1;
    const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || static_cast<std::size_t>(end - at) < size) return 0;
    for (std::size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    // Too long a form, a surrogate, beyond 10ffff.
    if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f)) return 0;
    if ((first == 0xf0 && at[1] < 0x90) || (first == 0xf4 && at[1] > 0x8f)) return 0;
    return size;
}

inline bool is_utf8(std::string_view text) {
    auto at = reinterpret_cast<const unsigned char *>(text.data());
    const auto end = at + text.size();
    while (at < end) {
        std::uint64_t eight;
        if (end - at >= 8 && (std::memcpy(&eight, at, 8), (eight & 0x8080808080808080u) == 0)) {
            at += 8;
            continue;
        }
        const auto step = utf8_sequence(at, end);
        if (step == 0) return false;
        at += step;
    }
    return true;
}

// The text with '?' for what is not UTF-8, on one line.
inline std::string sendable(std::string text) {
    for (char &letter : text)
        if (letter == '\n' || letter == '\r') letter = ' ';
    if (is_utf8(text)) return text;
    auto at = reinterpret_cast<unsigned char *>(text.data());
    const auto end = at + text.size();
    while (at < end) {
        const auto step = utf8_sequence(at, end);
        if (step == 0) *at = '?';
        at += step == 0 ? 1 : step;
    }
    return text;
}

void check_ndarray(const char *bytes, std::size_t size);

// Builds msgpack::objects in a zone, or without one only checks. Throws Violation.
class Reader : public msgpack::null_visitor {
public:
    static constexpr int deepest = 128;

    Reader(std::size_t size, bool arrays, int depth, msgpack::zone *zone, msgpack::object *out)
        : room_(size), arrays_(arrays), depth_(depth), zone_(zone), slot_(out) {}

    bool visit_nil() {
        slot_->type = msgpack::type::NIL;
        return true;
    }
    bool visit_boolean(bool value) {
        slot_->type = msgpack::type::BOOLEAN;
        slot_->via.boolean = value;
        return true;
    }
    bool visit_positive_integer(std::uint64_t value) {
        slot_->type = msgpack::type::POSITIVE_INTEGER;
        slot_->via.u64 = value;
        return true;
    }
    bool visit_negative_integer(std::int64_t value) {
        slot_->type = value < 0 ? msgpack::type::NEGATIVE_INTEGER : msgpack::type::POSITIVE_INTEGER;
        slot_->via.i64 = value;
        return true;
    }
    bool visit_float32(float value) {
        slot_->type = msgpack::type::FLOAT32;
        slot_->via.f64 = value;
        return true;
    }
    bool visit_float64(double value) {
        slot_->type = msgpack::type::FLOAT64;
        slot_->via.f64 = value;
        return true;
    }
    bool visit_str(const char *text, std::uint32_t size) {
        if (!is_utf8({text, size})) throw Violation("MalformedValue", "a str is not UTF-8");
        slot_->type = msgpack::type::STR;
        slot_->via.str = {size, text};
        return true;
    }
    bool visit_bin(const char *bytes, std::uint32_t size) {
        slot_->type = msgpack::type::BIN;
        slot_->via.bin = {size, bytes};
        return true;
    }
    // The parser gives the code and the bytes as one.
    bool visit_ext(const char *bytes, std::uint32_t size) {
        slot_->type = msgpack::type::EXT;
        slot_->via.ext.size = size - 1;
        slot_->via.ext.ptr = bytes;
        const auto code = slot_->via.ext.type();
        if (code == -1) check_timestamp(bytes + 1, size - 1);
        if (code < 1 || code > 3) return true;
        if (code > 1 || !arrays_) throw Violation("InvalidExtension", "extension " + std::to_string(code) + " was not agreed");
        check_ndarray(bytes + 1, size - 1);
        return true;
    }
    bool start_array(std::uint32_t count) {
        auto items = static_cast<msgpack::object *>(claim(count, 1, sizeof(msgpack::object)));
        slot_->type = msgpack::type::ARRAY;
        slot_->via.array.size = count;
        slot_->via.array.ptr = items;
        open_.push_back({slot_, items, nullptr});
        return true;
    }
    bool start_array_item() {
        slot_ = zone_ ? open_.back().items++ : &unused_;
        return true;
    }
    bool end_array() { return close(); }
    bool start_map(std::uint32_t count) {
        auto pairs = static_cast<msgpack::object_kv *>(claim(count, 2, sizeof(msgpack::object_kv)));
        slot_->type = msgpack::type::MAP;
        slot_->via.map.size = count;
        slot_->via.map.ptr = pairs;
        open_.push_back({slot_, nullptr, pairs});
        return true;
    }
    bool start_map_key() {
        slot_ = zone_ ? &open_.back().pairs->key : &unused_;
        return true;
    }
    bool end_map_key() {
        if (slot_->type == msgpack::type::ARRAY || slot_->type == msgpack::type::MAP)
            throw Violation("MalformedValue", "an array or a map as the key of a map");
        return true;
    }
    bool start_map_value() {
        slot_ = zone_ ? &open_.back().pairs++->val : &unused_;
        return true;
    }
    bool end_map() { return close(); }
    void parse_error(std::size_t, std::size_t) { throw Violation("MalformedValue", "a byte that begins no value"); }
    void insufficient_bytes(std::size_t, std::size_t) {
        throw Violation("MalformedValue", "a value says to be longer than the rest of its frame");
    }

private:
    struct Open {
        msgpack::object *slot;
        msgpack::object *items;
        msgpack::object_kv *pairs;
    };

    // Each value claimed is 1 byte at least: all claims together cannot be more than the bytes there are.
    void *claim(std::uint64_t count, std::uint64_t each, std::size_t size) {
        if (++depth_ > deepest) throw Violation("MalformedValue", "nested deeper than " + std::to_string(deepest));
        if (count * each > room_) insufficient_bytes(0, 0);
        room_ -= count * each;
        return zone_ && count > 0 ? zone_->allocate_align(count * size, MSGPACK_ZONE_ALIGNOF(msgpack::object)) : nullptr;
    }
    bool close() {
        slot_ = open_.back().slot;
        open_.pop_back();
        depth_--;
        // Without a zone the slot is shared, and what was inside has been written over it.
        if (!zone_) slot_->type = msgpack::type::ARRAY;
        return true;
    }
    static void check_timestamp(const char *bytes, std::uint32_t size) {
        if (size != 4 && size != 8 && size != 12)
            throw Violation("MalformedValue", "a timestamp of " + std::to_string(size) + " bytes");
        std::uint64_t high = 0;
        for (int i = 0; i < 4; i++) high = high << 8 | static_cast<unsigned char>(bytes[i]);
        if ((size == 8 ? high >> 2 : size == 12 ? high : 0) > 999999999)
            throw Violation("MalformedValue", "a timestamp with more than 999999999 nanoseconds");
    }

    std::size_t room_;
    bool arrays_;
    int depth_;
    msgpack::zone *zone_;
    msgpack::object *slot_;
    msgpack::object unused_;
    std::vector<Open> open_;
};

// Reads one value and returns the bytes that it took. `depth`: containers around it. Throws Violation.
inline std::size_t read_value(const char *bytes, std::size_t size, bool arrays, int depth, msgpack::zone *zone,
                              msgpack::object &out) {
    std::size_t end = 0;
    Reader reader(size, arrays, depth, zone, &out);
    if (size == 0) reader.insufficient_bytes(0, 0);
    msgpack::parse(bytes, size, end, reader);
    return end;
}

// str, or bin that is UTF-8.
inline bool as_text(const msgpack::object &value, std::string_view &text) {
    if (value.type == msgpack::type::STR) {
        text = {value.via.str.ptr, value.via.str.size};
        return true;
    }
    if (value.type != msgpack::type::BIN || !is_utf8({value.via.bin.ptr, value.via.bin.size})) return false;
    text = {value.via.bin.ptr, value.via.bin.size};
    return true;
}

// The value of a key in a map; nullptr when there is none, or no map.
inline const msgpack::object *find(const msgpack::object &map, std::string_view key) {
    std::string_view text;
    if (map.type != msgpack::type::MAP) return nullptr;
    for (std::uint32_t i = 0; i < map.via.map.size; i++)
        if (as_text(map.via.map.ptr[i].key, text) && text == key) return &map.via.map.ptr[i].val;
    return nullptr;
}

inline bool is_nil(const msgpack::object *value) { return value == nullptr || value->type == msgpack::type::NIL; }

inline bool is_count(const msgpack::object &value, std::uint64_t least) {
    return value.type == msgpack::type::POSITIVE_INTEGER && value.via.u64 >= least && value.via.u64 < (1ull << 53);
}

}  // namespace mlports::detail
