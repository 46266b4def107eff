// mlports: a worker in C++17, in headers alone. See README.md beside this folder; this is a whole program:
//
//     #include <mlports.hpp>
//
//     int main() {
//         mlports::Worker worker("sums");
//         worker.method("add", [](double a, double b) { return a + b; }, mlports::idempotent);
//         return worker.run();
//     }
#pragma once

#include "ndarray.hpp"
#include "server.hpp"

namespace mlports {

enum Repeatable { not_idempotent, idempotent };

// A program of methods that an orchestrator calls. Make it first of all in main: it takes stdin and stdout for itself,
// and what is printed afterwards, by whomever, goes to stderr.
class Worker {
public:
    // `concurrency`: threads that run handlers; the first is the one that calls run(). `max_frame`: the longest frame
    // accepted, in bytes; 0: as the orchestrator's own.
    explicit Worker(std::string name, unsigned concurrency = 1, std::uint32_t max_frame = 0)
        : server_(std::make_shared<detail::Server>(std::move(name), concurrency, max_frame)) {}

    // Called once, before the first call, with the service's config: a map, or nil. What it throws ends the worker with
    // status 1.
    void setup(std::function<void(const msgpack::object &)> function) { server_->setup = std::move(function); }

    // A function or lambda, called with the caller's arguments as its parameters' types (anything that msgpack can
    // convert to; std::optional at the end may be missing; msgpack::object takes all), its result whatever msgpack can
    // pack. Parameters of type Context &, Items & and Input & are this SDK's: the call, its streamed answer, its streamed
    // argument. An exception is the call's error.
    template <class F>
    void method(std::string name, F function, Repeatable repeatable = not_idempotent) {
        add(std::move(name), detail::make_method(std::move(function), types_of<F>()), repeatable);
    }

    // Many calls at once: std::vector<T> in, of each call's one argument (std::tuple for several), and a std::vector of as
    // many results out, or of Outcome, where an item may have failed.
    template <class F>
    void batch(std::string name, F function, Repeatable repeatable = not_idempotent) {
        add(std::move(name), detail::make_batch(std::move(function), types_of<F>()), repeatable);
    }

    // A line for the orchestrator's log: level debug, info, warning or error. From any thread.
    void log(std::string_view level, const std::string &text, const std::map<std::string, msgpack::object> &fields = {}) {
        server_->link.notify("$/log", detail::sendable(std::string(level)), detail::sendable(text), fields);
    }

    // Runs "service.method" without an answer.
    template <class... Args>
    void cast(std::string_view target, const Args &...args) {
        server_->link.notify(target, args...);
    }

    // Whether the orchestrator takes Array; false before the setup.
    bool sends_arrays() const { return server_->link.has(detail::arrays); }

    // Serves until the orchestrator says stop or goes. The status to exit with.
    int run() { return server_->run(); }

private:
    template <class F>
    static auto types_of() {
        return static_cast<typename detail::Signature<F>::Arguments *>(nullptr);
    }

    void add(std::string name, detail::Method method, Repeatable repeatable) {
        if (name.empty() || name.substr(0, 2) == "$/") throw std::invalid_argument("'" + name + "' cannot be a method's name");
        method.name = name;
        method.idempotent = repeatable == idempotent;
        if (!server_->methods.emplace(name, std::move(method)).second)
            throw std::invalid_argument("there is a method '" + name + "' already");
    }

    std::shared_ptr<detail::Server> server_;
};

}  // namespace mlports
