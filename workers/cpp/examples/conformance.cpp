// The worker that the conformance kit talks to: every method that it knows.
#include <cmath>
#include <iostream>
#include <mlports.hpp>

namespace {

bool is_integer(const msgpack::object &value) {
    return value.type == msgpack::type::NEGATIVE_INTEGER ||
           (value.type == msgpack::type::POSITIVE_INTEGER && value.via.u64 <= INT64_MAX);
}

// Integers stay integers.
msgpack::object add(msgpack::object a, msgpack::object b) {
    std::int64_t sum;
    if (is_integer(a) && is_integer(b) && !__builtin_add_overflow(a.via.i64, b.via.i64, &sum)) return msgpack::object(sum);
    try {
        return msgpack::object(a.as<double>() + b.as<double>());
    } catch (const msgpack::type_error &) {
        throw mlports::Failure("invalid_argument", "add takes two numbers");
    }
}

std::vector<mlports::Outcome<double>> root(const std::vector<double> &xs) {
    std::vector<mlports::Outcome<double>> roots;
    for (const double x : xs) {
        if (x < 0) roots.emplace_back(mlports::Failure("invalid_argument", std::to_string(x) + " has no real root"));
        else roots.emplace_back(std::sqrt(x));
    }
    return roots;
}

msgpack::object total(mlports::Input &numbers) {
    double sum = 0;
    bool whole = true;
    while (const auto number = numbers.next()) {
        whole &= is_integer(*number);
        sum += number->as<double>();
    }
    return whole && std::abs(sum) < 9e15 ? msgpack::object(static_cast<std::int64_t>(sum)) : msgpack::object(sum);
}

msgpack::object_handle relay(mlports::Context &context, const std::string &target, const msgpack::object &params) {
    mlports::Buffer args;
    mlports::Packer(args).pack(params);
    return context.request(target, args);
}

}  // namespace

int main() {
    mlports::Worker worker("conformance");
    std::vector<msgpack::object_handle> kept;

    worker.method("echo", [](msgpack::object value) { return value; });
    worker.method("add", add, mlports::idempotent);
    worker.method("fail", [](const std::string &message) { throw std::runtime_error(message); });
    worker.method("refuse", [](std::string code, std::string message) { throw mlports::Failure(code, message); });
    worker.method("sleep", [](mlports::Context &context, msgpack::object seconds) {
        context.wait(seconds.as<double>());
        return seconds;
    });
    worker.method("print", [](const std::string &text) { std::cout << text << std::endl; });
    worker.batch("root", root, mlports::idempotent);
    worker.method("count", [](mlports::Items &items, std::int64_t n) {
        for (std::int64_t i = 0; i < n; i++) items.send(i);
    });
    worker.method("total", total);
    worker.method("relay", relay);
    worker.method("note", [&](const std::string &level, const std::string &text) { worker.log(level, text); });
    worker.method("advance", [](mlports::Context &context, int n) {
        for (int i = 1; i <= n; i++) context.progress(i, n);
        return n;
    });
    worker.method("mark", [&](msgpack::object value) { kept.push_back(msgpack::clone(value)); });
    worker.method("marks", [&] {
        std::vector<msgpack::object> values;
        for (const auto &one : kept) values.push_back(one.get());
        return values;
    });
    return worker.run();
}
