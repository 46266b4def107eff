// One call at work, and what its handler may do meanwhile.
#pragma once

#include "failure.hpp"
#include "message.hpp"

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <tuple>
#include <unordered_map>

namespace mlports {

namespace detail {

struct Method;

// A request or cast: what reader and handler both touch is under Link::lock.
struct Call {
    std::unique_ptr<Frame> frame;
    std::string_view name;
    const Method *method = nullptr;
    msgpack::object params, meta;
    std::uint64_t id = 0;
    std::optional<Clock::time_point> deadline;
    std::uint32_t batch = 0;  // calls in this request; 0: not a batch
    bool cast = false;
    bool begun = false, dropped = false;  // dropped: answered before it began
    std::atomic<bool> cancelled{false};
    bool streams = false;  // the caller gave credit
    std::uint64_t credit = 0;
    bool takes_input = false, input_ended = false;
    std::uint64_t coming = 0;  // items that may still come
    std::deque<std::unique_ptr<Frame>> inputs;
    std::size_t waiting_bytes = 0, item_size = 0;

    bool late() const { return deadline && Clock::now() >= *deadline; }
};

// A call of our own.
struct Pending {
    std::unique_ptr<Frame> answer;
    Message message{};
};

// What a worker's threads share.
struct Link {
    explicit Link(Descriptors descriptors) : reader(descriptors.in), output(descriptors.out) {}

    FrameReader reader;
    Output output;
    std::mutex lock;
    std::condition_variable jobs;     // something is in the queue, or it is over
    std::condition_variable changed;  // credit, cancel, an item, an answer, the end
    std::deque<std::shared_ptr<Call>> queue;
    std::unordered_map<std::uint64_t, std::shared_ptr<Call>> open;
    std::map<std::uint64_t, std::shared_ptr<Pending>> pending;
    std::uint64_t next_id = 0;
    std::atomic<unsigned> features{0};  // agreed
    bool ended = false, stopping = false;
    unsigned running = 0, idle = 0;

    bool has(Feature feature) const { return (features & feature) != 0; }

    // Waits until `done`, the end of input, `call` cancelled, or `until`. Locked.
    template <class Done>
    void wait(std::unique_lock<std::mutex> &hold, const Call &call, std::optional<Clock::time_point> until, Done done) {
        const auto over = [&] { return done() || ended || call.cancelled; };
        if (until) changed.wait_until(hold, *until, over);
        else changed.wait(hold, over);
    }

    template <class... Params>
    void notify(std::string_view method, const Params &...params) {
        Buffer body;
        Packer(body).pack_array(3).pack(2).pack(method).pack(std::tie(params...));
        output.send(body);
        output.flush();
    }
};

[[noreturn]] inline void give_up(const Call &call) {
    if (call.cancelled) throw Cancelled("cancelled", "the caller cancelled the call");
    throw Cancelled("deadline_exceeded", "the deadline passed while the handler was at work");
}

// Seconds from now; none for infinity and what is beyond a year.
inline std::optional<Clock::time_point> in(double seconds) {
    if (!(seconds < 3e7)) return std::nullopt;
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::max(seconds, 0.0)));
}

}  // namespace detail

// The call that a handler works on: a handler that wants it takes `mlports::Context &` first. Gone when it returns.
class Context {
public:
    Context(detail::Link &link, detail::Call &call) : link_(link), call_(call) {}

    bool cancelled() const { return call_.cancelled || call_.late(); }
    // Throws Cancelled once the caller has cancelled, or the deadline has passed.
    void check() const {
        if (cancelled()) detail::give_up(call_);
    }
    // Seconds left, below 0: late.
    std::optional<double> deadline() const {
        if (!call_.deadline) return std::nullopt;
        return std::chrono::duration<double>(*call_.deadline - detail::Clock::now()).count();
    }
    // Sleeps; throws Cancelled as soon as the call is cancelled.
    void wait(double seconds) {
        auto until = detail::in(seconds);
        const auto end = until;
        if (call_.deadline && (!until || *call_.deadline < *until)) until = call_.deadline;
        std::unique_lock hold(link_.lock);
        const auto over = [&] { return call_.cancelled.load(); };
        if (until) link_.changed.wait_until(hold, *until, over);
        else link_.changed.wait(hold, over);
        if (call_.cancelled || (until != end && call_.late())) detail::give_up(call_);
    }
    // The request's meta: a map, or nil. See SPEC.md 4.5.
    const msgpack::object &meta() const { return call_.meta; }
    void progress(double done, std::optional<double> total = std::nullopt, std::string_view text = "") {
        if (!call_.cast) link_.notify("$/progress", call_.id, number(done), total ? number(*total) : msgpack::object(), text);
    }

    // Calls "service.method" and waits for the answer, as long as this call itself may take. Throws CallFailed.
    template <class Result = msgpack::object_handle, class... Args>
    Result call(std::string_view target, const Args &...args) {
        return call_within<Result>(INFINITY, target, args...);
    }
    // The same, for up to so many seconds.
    template <class Result = msgpack::object_handle, class... Args>
    Result call_within(double seconds, std::string_view target, const Args &...args) {
        Buffer packed;
        Packer(packed).pack(std::tie(args...));
        auto answer = request(target, packed, seconds);
        if constexpr (std::is_same_v<Result, msgpack::object_handle>) return answer;
        else return answer.get().template as<Result>();
    }
    // The same, with the arguments as one packed array.
    msgpack::object_handle request(std::string_view target, const Buffer &args, double seconds = INFINITY) {
        using namespace detail;
        const auto own = deadline();
        const double left = own ? std::min(seconds, *own) : seconds;
        if (!is_one_value(args.view(), link_.has(arrays), 1)) throw Failure("internal", "the arguments cannot be sent");
        const auto pending = std::make_shared<Pending>();
        std::unique_lock hold(link_.lock);
        const auto id = link_.next_id++;
        link_.pending.emplace(id, pending);
        hold.unlock();
        if (!link_.output.send({request_head(id, target).view(), args.view(), request_meta(left).view()})) {
            hold.lock();
            link_.pending.erase(id);
            throw Failure("resource_exhausted", "the call of " + std::string(target) + " is longer than the orchestrator's max_frame");
        }
        link_.output.flush();
        hold.lock();
        link_.wait(hold, call_, in(left), [&] { return pending->answer != nullptr; });
        if (!pending->answer) {
            link_.pending[id] = nullptr;  // an answer that comes yet is dropped
            const bool ended = link_.ended;
            hold.unlock();
            abandon(id, target, ended, left);
        }
        hold.unlock();
        return settle(*pending);
    }

private:
    // Counts stay integers.
    static msgpack::object number(double value) {
        if (value == std::floor(value) && std::abs(value) < 9e15) return msgpack::object(static_cast<std::int64_t>(value));
        return msgpack::object(value);
    }
    static Buffer request_head(std::uint64_t id, std::string_view target) {
        Buffer head;
        Packer(head).pack_array(5).pack(0).pack(id).pack(target);
        return head;
    }
    Buffer request_meta(double left) const {
        Buffer meta;
        Packer packer(meta);
        const auto trace = detail::find(call_.meta, "traceparent");
        packer.pack_map(static_cast<std::uint32_t>(!std::isinf(left)) + (trace != nullptr) + !call_.cast);
        if (!std::isinf(left)) packer.pack("deadline_ms").pack(static_cast<std::uint64_t>(std::max(left, 0.0) * 1000));
        if (trace) packer.pack("traceparent").pack(*trace);
        if (!call_.cast) packer.pack("parent").pack(call_.id);
        return meta;
    }
    [[noreturn]] void abandon(std::uint64_t id, std::string_view target, bool ended, double left) {
        if (link_.has(detail::cancel)) link_.notify("$/cancel", id);
        if (call_.cancelled) detail::give_up(call_);
        const std::string name(target);
        if (ended) throw CallFailed("unavailable", "the orchestrator went away before " + name + " was answered");
        throw CallFailed("deadline_exceeded", name + " was not answered within " + std::to_string(left) + " s");
    }
    static msgpack::object_handle settle(detail::Pending &pending) {
        using namespace detail;
        if (!pending.message.error) {
            auto zone = std::make_unique<msgpack::zone>();
            return {msgpack::object(*pending.message.result, *zone), std::move(zone)};
        }
        const auto &error = *pending.message.error;
        const auto data = find(error, "data"), retryable = find(error, "retryable");
        Buffer packed;
        if (data) Packer(packed).pack(*data);
        throw CallFailed(find(error, "code")->as<std::string>(), find(error, "message")->as<std::string>(),
                         std::string(packed.view()), retryable && retryable->via.boolean);
    }

    detail::Link &link_;
    detail::Call &call_;
};

// Where a handler that streams sends its items: it takes `mlports::Items &`, behind the context if it takes that too.
class Items {
public:
    Items(detail::Link &link, detail::Call &call, Buffer &collected) : link_(link), call_(call), collected_(collected) {}

    // Waits while the caller wants no more. Throws Cancelled, and Failure when the item cannot be sent. A caller that
    // asked for no stream gets the array of all.
    template <class T>
    void send(const T &value) {
        using namespace detail;
        if (call_.cancelled || call_.late()) give_up(call_);
        const bool keeps = !call_.streams;
        Buffer item;
        Buffer &to = keeps ? collected_ : item;
        Packer(to).pack(value);
        const auto bytes = to.view(keeps ? mark_ : 0);
        if (!is_one_value(bytes, link_.has(arrays), 3)) throw Failure("internal", "an item cannot be sent");
        count_++;
        if (keeps) mark_ = collected_.size();
        else send_packed(bytes);
    }
    std::uint32_t collected() const { return count_; }

private:
    void send_packed(std::string_view bytes) {
        using namespace detail;
        std::unique_lock hold(link_.lock);
        link_.wait(hold, call_, call_.deadline, [&] { return call_.credit > 0; });
        if (call_.cancelled || call_.late()) give_up(call_);
        if (call_.credit == 0) throw Cancelled("cancelled", "nobody takes the stream's items any more");
        call_.credit--;
        hold.unlock();
        Buffer head;
        Packer(head).pack_array(3).pack(2).pack("$/item").pack_array(2).pack(call_.id);
        if (!link_.output.send({head.view(), bytes}))
            throw Failure("resource_exhausted", "an item is longer than the orchestrator's max_frame");
        link_.output.flush();
    }

    detail::Link &link_;
    detail::Call &call_;
    Buffer &collected_;
    std::size_t mark_ = 0;
    std::uint32_t count_ = 0;
};

// A streamed argument: a handler that takes one takes `mlports::Input &`, behind the context if it takes that too.
class Input {
public:
    Input(detail::Link &link, detail::Call &call) : link_(link), call_(call) {}

    // The next item, which lives until the one after it; nullptr at the end. Throws Cancelled, and Failure when the
    // stream breaks off.
    const msgpack::object *next() {
        using namespace detail;
        item_.reset();
        std::unique_lock hold(link_.lock);
        if (const auto more = grant()) {
            call_.coming += more;
            hold.unlock();
            link_.notify("$/input_credit", call_.id, more);
            hold.lock();
        }
        link_.wait(hold, call_, call_.deadline, [&] { return !call_.inputs.empty() || call_.input_ended; });
        if (call_.cancelled || call_.late()) give_up(call_);
        if (call_.inputs.empty() && call_.input_ended) return nullptr;
        if (call_.inputs.empty()) throw Failure("unavailable", "the orchestrator went away within the streamed argument");
        item_ = std::move(call_.inputs.front());
        call_.inputs.pop_front();
        call_.waiting_bytes -= item_->size;
        return &item_->value.via.array.ptr[2].via.array.ptr[1];
    }

private:
    // How many more items may come: at most 32 ahead, of 8 MiB by the largest lately.
    std::uint64_t grant() const {
        constexpr std::uint64_t first = 2, most = 32, most_bytes = 8 << 20;
        const auto ahead = call_.coming + call_.inputs.size();
        if (call_.input_ended || ahead > most / 2) return 0;
        if (call_.item_size == 0) return ahead < first ? first - ahead : 0;
        const auto claimed = call_.waiting_bytes + call_.coming * call_.item_size;
        const auto fit = claimed < most_bytes ? (most_bytes - claimed) / call_.item_size : 0;
        const auto more = std::min<std::uint64_t>(fit, most - ahead);
        if (more == 0 && ahead == 0) return 1;
        return more < ahead ? 0 : more;
    }

    detail::Link &link_;
    detail::Call &call_;
    std::unique_ptr<detail::Frame> item_;
};

}  // namespace mlports
