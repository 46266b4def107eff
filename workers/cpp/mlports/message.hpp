// What a decoded value means: SPEC.md sections 4 and 5.1.
#pragma once

#include "wire.hpp"

namespace mlports::detail {

enum class Kind { request, response, notification };

struct Message {
    Kind kind;
    std::uint64_t id = 0;
    std::string_view method;
    msgpack::object params;           // an array
    msgpack::object meta;             // a map, or nil
    const msgpack::object *error = nullptr;
    const msgpack::object *result = nullptr;
};

[[noreturn]] inline void invalid(const std::string &what) { throw Violation("InvalidMessage", what); }

inline void take_meta(const msgpack::object_array &parts, std::uint32_t at, Message &message) {
    if (parts.size <= at) return;
    message.meta = parts.ptr[at];
    if (message.meta.type != msgpack::type::NIL && message.meta.type != msgpack::type::MAP) invalid("meta is a map");
}

inline void check_error(const msgpack::object &error, const msgpack::object &result) {
    std::string_view text;
    if (error.type != msgpack::type::MAP) invalid("an error is nil or a map");
    const auto code = find(error, "code"), said = find(error, "message"), retryable = find(error, "retryable");
    if (!code || !said || !as_text(*code, text) || !as_text(*said, text))
        invalid("an error has a code and a message, two strings");
    if (retryable && retryable->type != msgpack::type::BOOLEAN) invalid("an error's retryable is a boolean");
    if (result.type != msgpack::type::NIL) invalid("a response with an error and a result");
}

// Throws Violation.
inline Message parse_message(const msgpack::object &value) {
    if (value.type != msgpack::type::ARRAY || value.via.array.size == 0) invalid("a message is an array of 3 to 5 elements");
    const auto &parts = value.via.array;
    if (parts.ptr[0].type != msgpack::type::POSITIVE_INTEGER || parts.ptr[0].via.u64 > 2)
        invalid("a message begins with 0, 1 or 2");
    Message message{};
    message.kind = static_cast<Kind>(parts.ptr[0].via.u64);
    const bool numbered = message.kind != Kind::notification;
    if (parts.size < (numbered ? 4u : 3u)) invalid("a message of too few elements");
    if (numbered && !is_count(parts.ptr[1], 0)) invalid("an id is an integer from 0 to 2^53-1");
    if (numbered) message.id = parts.ptr[1].via.u64;
    if (message.kind == Kind::response) {
        message.result = &parts.ptr[3];
        if (parts.ptr[2].type != msgpack::type::NIL) {
            message.error = &parts.ptr[2];
            check_error(*message.error, *message.result);
        }
    } else {
        const auto at = numbered ? 2 : 1;
        if (!as_text(parts.ptr[at], message.method) || message.method.empty())
            invalid("a method is a string of at least 1 byte");
        message.params = parts.ptr[at + 1];
        if (message.params.type != msgpack::type::ARRAY) invalid("params are an array");
    }
    take_meta(parts, numbered ? 4 : 3, message);
    return message;
}

// -- $/hello

constexpr std::string_view feature_names[] = {"ping", "cancel", "stream", "input", "batch", "ndarray"};
enum Feature : unsigned { ping = 1, cancel = 2, stream = 4, input = 8, batches = 16, arrays = 32 };

struct Hello {
    std::uint32_t max_frame = default_max_frame;
    unsigned features = 0;   // those that this side has too
    msgpack::object config;  // a map, or nil
};

[[noreturn]] inline void wrong_hello(const std::string &what) { throw Violation("InvalidHello", "$/hello: " + what); }

inline bool is_integer(const msgpack::object *value) {
    return value && (value->type == msgpack::type::POSITIVE_INTEGER || value->type == msgpack::type::NEGATIVE_INTEGER);
}

inline void check_version(const msgpack::object *protocol) {
    if (!protocol || protocol->type != msgpack::type::MAP) wrong_hello("protocol is {min, max}");
    const auto min = find(*protocol, "min"), max = find(*protocol, "max");
    if (!is_integer(min) || !is_integer(max)) wrong_hello("protocol is {min, max}, two integers");
    const double least = min->as<double>(), most = max->as<double>();
    if (least <= 1 && most >= 1) return;
    throw Violation("UnsupportedVersion", "the orchestrator speaks versions " + std::to_string(static_cast<long long>(least)) +
                                              " to " + std::to_string(static_cast<long long>(most)) + ", this worker version 1");
}

inline unsigned take_features(const msgpack::object *said) {
    unsigned features = 0;
    if (is_nil(said)) return 0;
    if (said->type != msgpack::type::ARRAY) wrong_hello("features are an array of strings");
    for (std::uint32_t i = 0; i < said->via.array.size; i++) {
        std::string_view name;
        if (!as_text(said->via.array.ptr[i], name)) wrong_hello("features are strings");
        for (unsigned bit = 0; bit < std::size(feature_names); bit++)
            if (name == feature_names[bit]) features |= 1u << bit;
    }
    return features;
}

// Takes `before` and then 1 to `most` digits from the front.
inline bool take_digits(std::string_view &path, std::string_view before, std::size_t most, bool from_1) {
    if (path.substr(0, before.size()) != before) return false;
    path.remove_prefix(before.size());
    const auto count = std::min(path.find_first_not_of("0123456789"), path.size());
    const bool right = count > 0 && count <= most && !(from_1 && path[0] == '0');
    path.remove_prefix(count);
    return right;
}

inline void check_shm(const msgpack::object *shm) {
    std::string_view path;
    if (is_nil(shm)) return;
    if (shm->type != msgpack::type::MAP) wrong_hello("shm is {segment, token}");
    const auto segment = find(*shm, "segment"), token = find(*shm, "token");
    if (!segment || !as_text(*segment, path) || !take_digits(path, "/proc/", 10, true) ||
        !take_digits(path, "/fd/", 9, false) || !path.empty())
        wrong_hello("shm's segment is a path in /proc");
    if (!token || token->type != msgpack::type::BIN || token->via.bin.size == 0) wrong_hello("shm's token is bin");
}

inline Hello parse_hello(const msgpack::object_array &params) {
    Hello hello;
    std::string_view text;
    if (params.size == 0 || params.ptr[0].type != msgpack::type::MAP) wrong_hello("its params are one map");
    const auto &said = params.ptr[0];
    check_version(find(said, "protocol"));
    const auto config = find(said, "config"), max_frame = find(said, "max_frame");
    if (!is_nil(config)) hello.config = *config;
    if (!is_nil(config) && config->type != msgpack::type::MAP) wrong_hello("config is a map");
    if (!is_nil(max_frame)) {
        if (!is_count(*max_frame, 1) || max_frame->via.u64 > 0x7fffffff) wrong_hello("max_frame is an integer from 1 to 2^31-1");
        hello.max_frame = static_cast<std::uint32_t>(max_frame->via.u64);
    }
    const auto service = find(said, "service"), replica = find(said, "replica");
    if (service && !as_text(*service, text)) wrong_hello("service is a string");
    if (replica && !is_count(*replica, 0)) wrong_hello("replica is an integer from 0");
    hello.features = take_features(find(said, "features"));
    check_shm(find(said, "shm"));
    return hello;
}

// -- the params of `$/` notifications

inline std::uint64_t take_id(const Message &message, std::uint32_t count) {
    const auto &params = message.params.via.array;
    if (params.size < count) invalid(std::string(message.method) + " has at least " + std::to_string(count) + " params");
    if (!is_count(params.ptr[0], 0)) invalid("the id in " + std::string(message.method) + " is an integer from 0");
    return params.ptr[0].via.u64;
}

inline std::uint64_t take_grant(const Message &message) {
    const auto &count = message.params.via.array.ptr[1];
    if (!is_count(count, 1)) invalid("the count in " + std::string(message.method) + " is an integer from 1");
    return count.via.u64;
}

}  // namespace mlports::detail
