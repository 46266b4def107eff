// What of the SDK can be seen without an orchestrator: values, arrays, arguments, results and errors.
#include <cstdio>
#include <limits>
#include <mlports.hpp>

using namespace mlports;
using namespace mlports::detail;

static int failures = 0;

#define CHECK(condition)                                                       \
    do {                                                                       \
        if (condition) break;                                                  \
        std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
        failures++;                                                            \
    } while (0)

template <class T>
static std::string packed(const T &value) {
    Buffer out;
    Packer(out).pack(value);
    return std::string(out.view());
}

struct Value {
    msgpack::zone zone;
    std::string bytes;
    msgpack::object object;
    explicit Value(std::string from, bool arrays = true) : bytes(std::move(from)) {
        const auto took = read_value(bytes.data(), bytes.size(), arrays, 0, &zone, object);
        CHECK(took == bytes.size());
    }
};

static std::string fault_of(const std::string &bytes, bool arrays = true) {
    try {
        Value value(bytes, arrays);
    } catch (const Violation &fault) {
        return fault.name;
    }
    return "";
}

static void floats_stay_floats() {
    CHECK(packed(1.0) == std::string("\xcb\x3f\xf0\0\0\0\0\0\0", 9));
    CHECK(packed(-0.0)[0] == '\xcb');
    CHECK(packed(2.0f) == packed(2.0));
    CHECK(packed(1) == "\x01");
    CHECK(packed(Value(packed(3.0)).object) == packed(3.0));
    CHECK(packed(std::numeric_limits<std::uint64_t>::max()).size() == 9);
}

static void lengths_are_claims() {
    CHECK(fault_of(std::string("\xdd\xff\xff\xff\xff", 5)) == "MalformedValue");
    std::string nested;  // each level claims all that is left, which together is far more than there is
    for (int i = 0; i < 100; i++) nested += std::string("\xdd\0\xff\xff\xff", 5);
    CHECK(fault_of(nested + std::string(1 << 20, '\0')) == "MalformedValue");
    CHECK(fault_of(std::string(129, '\x91') + '\0') == "MalformedValue");
    CHECK(fault_of(std::string(128, '\x91') + '\0').empty());
}

static void arrays_travel() {
    const Array<float> array{{2, 1}, {1.5f, -2.0f}};
    const Value value(packed(array));
    CHECK((value.object.as<Array<float>>().shape == std::vector<std::uint64_t>{2, 1}));
    CHECK((value.object.as<Array<double>>().data == std::vector<double>{1.5, -2.0}));
    CHECK(fault_of(packed(array), false) == "InvalidExtension");
    CHECK(dtype_of<std::uint8_t>() == "|u1" && dtype_of<std::int64_t>() == "<i8" && dtype_of<bool>() == "|b1");
}

static void texts_are_made_sendable() {
    CHECK(sendable("caf\xc3\xa9") == "caf\xc3\xa9");
    CHECK(sendable("a\xff\nb") == "a? b");
    CHECK(!is_utf8("\xed\xa0\x80") && !is_utf8("\xc0\x80") && !is_utf8("\xf4\x90\x80\x80"));
}

// The result of a method called with these arguments, or "CODE: message".
template <class... Args>
static std::string called(const Method &method, const Args &...args) {
    static Link link({-1, -1});
    const Value list(packed(std::tie(args...)));
    Call call;
    Buffer out;
    try {
        method.one(link, call, list.object.via.array, out);
    } catch (...) {
        const auto failure = current_failure();
        return failure.code() + ": " + failure.what();
    }
    return std::string(out.view());
}

template <class F>
static Method method_of(F function) {
    return make_method(function, static_cast<typename Signature<F>::Arguments *>(nullptr));
}

static int twice(int x) { return 2 * x; }

static void arguments_are_converted() {
    const auto add = method_of([](double a, std::optional<double> b) { return a + b.value_or(1); });
    CHECK(called(add, 2, 3.5) == packed(5.5));
    CHECK(called(add, 2) == packed(3.0));
    CHECK(called(add, "x") == "invalid_argument: argument 1 is not a double");
    CHECK(called(add) == "invalid_argument: argument 1 is missing");
    CHECK(called(add, 1, 2, 3) == "invalid_argument: it takes 2 arguments, not 3");
    CHECK(called(method_of(&twice), 21) == packed(42));
    CHECK(called(method_of([](const std::string &) {}), "x") == packed(msgpack::type::nil_t()));
}

static void exceptions_become_errors() {
    CHECK(called(method_of([](int) { throw Failure("not_found", "no\nsuch"); }), 1) == "not_found: no\nsuch");
    CHECK(called(method_of([](int) { throw std::range_error("far"); }), 1) == "unknown: std::range_error: far");
    CHECK(called(method_of([](int) { throw 5; }), 1).find("unknown: ") == 0);
}

static void streams_without_a_stream_become_lists() {
    const auto count = method_of([](Items &items, int n) {
        for (int i = 0; i < n; i++) items.send(i);
    });
    CHECK(count.stream && !count.input);
    CHECK(called(count, 3) == packed(std::vector<int>{0, 1, 2}));
}

int main() {
    floats_stay_floats();
    lengths_are_claims();
    arrays_travel();
    texts_are_made_sendable();
    arguments_are_converted();
    exceptions_become_errors();
    streams_without_a_stream_become_lists();
    if (failures > 0) std::fprintf(stderr, "%d checks failed\n", failures);
    return failures > 0;
}
