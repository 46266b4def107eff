// Errors as they travel (SPEC.md 4.4).
#pragma once

#include "value.hpp"

#include <cxxabi.h>
#include <map>
#include <memory>
#include <typeinfo>

namespace mlports {

// Throw it in a handler to choose the error that the caller sees: one of the protocol's codes ("invalid_argument",
// "not_found", …) and a message of one line.
class Failure : public std::runtime_error {
public:
    Failure(std::string code, const std::string &message, bool retryable = false)
        : std::runtime_error(message), code_(std::move(code)), retryable_(retryable) {}

    // Adds anything that can be packed, for programs to read.
    template <class T>
    Failure with(const T &data) && {
        Buffer packed;
        msgpack::pack(packed, data);
        data_.assign(packed.view());
        return std::move(*this);
    }
    const std::string &code() const { return code_; }
    bool retryable() const { return retryable_; }
    const std::string &packed_data() const { return data_; }  // "" when there is none

protected:
    std::string code_, data_;
    bool retryable_;
};

// The caller gave the call up, or its deadline has passed.
struct Cancelled : Failure {
    using Failure::Failure;
};

// A call of another service failed: with its code, message and data. Not caught, it fails the handler's own call alike.
struct CallFailed : Failure {
    CallFailed(const std::string &code, const std::string &message, std::string data = "", bool retryable = false)
        : Failure(code, message, retryable) {
        data_ = std::move(data);
    }
};

namespace detail {

inline bool is_one_value(std::string_view bytes, bool arrays, int depth) {
    msgpack::object unused;
    try {
        return read_value(bytes.data(), bytes.size(), arrays, depth, nullptr, unused) == bytes.size();
    } catch (const Violation &) {
        return false;
    }
}

inline void pack_error(Buffer &out, const Failure &failure, bool arrays) {
    Packer packer(out);
    const auto &data = failure.packed_data();
    const bool has_data = !data.empty() && is_one_value(data, arrays, 4);
    packer.pack_map(2 + has_data + failure.retryable());
    packer.pack("code").pack(sendable(failure.code()));
    packer.pack("message").pack(sendable(failure.what()));
    if (has_data) {
        packer.pack("data");
        out.write(data);
    }
    if (failure.retryable()) packer.pack("retryable").pack(true);
}

inline std::string demangled(const char *name) {
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
    return status == 0 ? text.get() : name;
}

// `std::invalid_argument: what it said`, with the full name of its type in data.
inline Failure failure_of(const std::exception &exception) {
    const auto type = demangled(typeid(exception).name());
    const std::map<std::string, std::string> data{{"type", type}, {"traceback", ""}};
    return Failure("unknown", type + ": " + exception.what()).with(data);
}

// The exception now being handled, as an error.
inline Failure current_failure() {
    try {
        throw;
    } catch (const Failure &failure) {
        return failure;
    } catch (const std::exception &exception) {
        return failure_of(exception);
    } catch (...) {
        return Failure("unknown", "the handler threw something that is no std::exception");
    }
}

}  // namespace detail
}  // namespace mlports
