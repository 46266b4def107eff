// A worker at work. One thread reads: it answers pings, takes cancels and credit, and queues calls; others run handlers.
#pragma once

#include "handlers.hpp"

#include <thread>

namespace mlports::detail {

class Server : public std::enable_shared_from_this<Server> {
public:
    std::string name;
    std::map<std::string, Method, std::less<>> methods;
    std::function<void(const msgpack::object &)> setup;
    unsigned concurrency;
    std::uint32_t max_frame;  // 0: as the orchestrator's own
    Link link;

    Server(std::string name, unsigned concurrency, std::uint32_t max_frame)
        : name(std::move(name)), concurrency(std::max(concurrency, 1u)), max_frame(max_frame), link(take_descriptors(this->name)) {}

    int run() {
        std::signal(SIGINT, SIG_IGN);  // at a terminal it reaches every process: the orchestrator decides
        // It may wait in a read for ever: it keeps alive what it uses, whatever main does meanwhile.
        std::thread([self = shared_from_this()] { self->read(); }).detach();
        if (wait_for_hello()) {
            if (!set_up()) return 1;
            answer_hello();
            std::vector<std::thread> others;
            for (unsigned i = 1; i < concurrency; i++) others.emplace_back([this] { handle_jobs(); });
            handle_jobs();
            for (auto &other : others) other.join();
        }
        link.output.flush();
        return broken_;
    }

private:
    enum class Phase { fresh, greeting, ready };

    // -- The handshake

    bool wait_for_hello() {
        std::unique_lock hold(link.lock);
        link.jobs.wait(hold, [&] { return hello_frame_ || link.ended; });
        return hello_frame_ != nullptr;
    }

    bool set_up() {
        try {
            if (setup) setup(hello_.config);
            return true;
        } catch (...) {
            std::fprintf(stderr, "%s: its setup failed: %s\n", name.c_str(), current_failure().what());
            return false;
        }
    }

    void answer_hello() {
        Buffer body;
        Packer packer(body);
        packer.pack_array(4).pack(1).pack(hello_frame_->value.via.array.ptr[1]).pack_nil().pack_map(8);
        packer.pack("protocol").pack(1).pack("max_frame").pack(link.reader.max_frame).pack("name").pack(name);
        packer.pack("language").pack("cpp").pack("sdk").pack("mlports-cpp 0.1.0");
        packer.pack("methods").pack_map(static_cast<std::uint32_t>(methods.size()));
        for (const auto &[called, method] : methods) {
            packer.pack(called).pack_map(method.input ? 4 : 3).pack("batch").pack(method.batch).pack("stream");
            packer.pack(method.stream).pack("idempotent").pack(method.idempotent);
            if (method.input) packer.pack("input").pack(true);
        }
        packer.pack("features").pack_array(std::size(feature_names));
        for (const auto feature : feature_names) packer.pack(feature);
        packer.pack("concurrency").pack(concurrency);
        phase_ = Phase::ready;
        link.output.send(body);
        link.output.flush();
    }

    void on_hello(std::unique_ptr<Frame> frame, const Message &message) {
        hello_ = parse_hello(message.params.via.array);
        link.reader.max_frame = max_frame > 0 ? max_frame : hello_.max_frame;
        link.reader.arrays = (hello_.features & arrays) != 0;
        link.output.peer_max_frame = hello_.max_frame;
        link.features = hello_.features;
        phase_ = Phase::greeting;
        const std::lock_guard hold(link.lock);
        hello_frame_ = std::move(frame);
        link.jobs.notify_all();
    }

    // -- The thread that reads

    void read() {
        try {
            do {
                while (auto frame = link.reader.next([this] { link.output.flush(); })) on_frame(std::move(frame));
                link.output.flush();
            } while (link.reader.read_more());
        } catch (const Violation &fault) {
            std::fprintf(stderr, "%s: the orchestrator broke the protocol: %s: %s\n", name.c_str(), fault.name.c_str(), fault.what());
            broken_ = true;
        }
        link.output.flush();
        {
            const std::lock_guard hold(link.lock);
            link.ended = true;
            link.jobs.notify_all();
            link.changed.notify_all();
        }
        // A handler has its time while somebody still reads the answers, and not longer.
        while (!link.output.nobody_reads()) std::this_thread::sleep_for(std::chrono::milliseconds(100));
        _exit(broken_);
    }

    void on_frame(std::unique_ptr<Frame> frame) {
        const auto message = parse_message(frame->value);
        switch (message.kind) {
        case Kind::request: return on_request(std::move(frame), message);
        case Kind::response: return on_response(std::move(frame), message);
        case Kind::notification: return on_notification(std::move(frame), message);
        }
    }

    static bool is_protocols(std::string_view method) { return method.substr(0, 2) == "$/"; }

    void on_request(std::unique_ptr<Frame> frame, const Message &message) {
        const bool hello = message.method == "$/hello";
        if (phase_ == Phase::fresh && hello) return on_hello(std::move(frame), message);
        if (phase_ != Phase::ready) throw Violation("HandshakeExpected", "a request before the handshake is done");
        if (hello) throw Violation("HandshakeExpected", "a second $/hello");
        {
            const std::lock_guard hold(link.lock);
            if (link.open.count(message.id)) throw Violation("DuplicateId", "request " + std::to_string(message.id) + " is still open");
        }
        if (message.method == "$/ping") return answer_nil(message.id);
        if (is_protocols(message.method))
            return answer_error(message.id, Failure("unimplemented", std::string(message.method) + " is not known to this worker"));
        auto call = make_call(std::move(frame), message);
        const auto refusal = take_meta(*call);
        if (refusal) answer_error(message.id, *refusal);
        else push(std::move(call));
    }

    std::shared_ptr<Call> make_call(std::unique_ptr<Frame> frame, const Message &message) const {
        auto call = std::make_shared<Call>();
        call->frame = std::move(frame);
        call->name = message.method;
        call->params = message.params;
        call->meta = message.meta;
        call->id = message.id;
        call->cast = message.kind == Kind::notification;
        const auto found = methods.find(message.method);
        if (found != methods.end()) call->method = &found->second;
        return call;
    }

    void need(Feature feature, const char *what) const {
        if (!link.has(feature)) invalid(std::string("meta ") + what + ", which was not agreed");
    }

    // Reads of meta what is the protocol's, and says why the request cannot be worked on. Throws Violation.
    std::optional<Failure> take_meta(Call &call) const {
        const auto credit = find(call.meta, "credit"), input = find(call.meta, "input"), batch = find(call.meta, "batch");
        const auto deadline = find(call.meta, "deadline_ms"), columns = find(call.meta, "columns");
        if (!is_nil(credit)) {
            need(stream, "credit");
            if (!is_count(*credit, 0)) invalid("meta credit is an integer from 0");
            call.streams = true;
            call.credit = credit->via.u64;
        }
        if (!is_nil(input)) {
            if (input->type != msgpack::type::BOOLEAN) invalid("meta input is a boolean");
            call.takes_input = input->via.boolean;
            if (call.takes_input) need(Feature::input, "input");
        }
        if (columns && columns->type == msgpack::type::BOOLEAN && columns->via.boolean) invalid("meta columns, which was not agreed");
        if (batch) need(batches, "batch");
        if (link.stopping) return Failure("unavailable", "the worker is stopping", true);
        if (!call.method) return unknown(call.name);
        if (batch) {
            call.batch = call.params.via.array.size;
            if (!is_count(*batch, 1) || batch->via.u64 != call.batch)
                return Failure("invalid_argument", "meta batch does not say how many argument lists there are");
        }
        if (!is_nil(deadline)) {
            if (deadline->type != msgpack::type::POSITIVE_INTEGER && deadline->type != msgpack::type::NEGATIVE_INTEGER &&
                deadline->type != msgpack::type::FLOAT32 && deadline->type != msgpack::type::FLOAT64)
                return Failure("invalid_argument", "meta deadline_ms is a number");
            call.deadline = in(deadline->as<double>() / 1000);
        }
        return refusal_of(call);
    }

    static std::optional<Failure> refusal_of(const Call &call) {
        const char *why = nullptr;
        if (call.batch > 0 && (call.takes_input || call.streams)) why = "a batch is not streamed";
        else if (call.takes_input && !call.method->input) why = "the method takes no streamed argument";
        else if (!call.takes_input && call.method->input) why = "the method takes a streamed argument, and this call has none";
        if (!why) return std::nullopt;
        return Failure("invalid_argument", why);
    }

    Failure unknown(std::string_view method) const {
        auto text = "the worker " + name + " has no method '" + std::string(method.substr(0, 200)) + "'; it has:";
        for (const auto &one : methods) text += " " + one.first;
        return Failure("unimplemented", text);
    }

    void push(std::shared_ptr<Call> call) {
        const std::lock_guard hold(link.lock);
        if (!call->cast) link.open.emplace(call->id, call);
        link.queue.push_back(std::move(call));
        if (link.idle > 0) link.jobs.notify_one();
    }

    [[noreturn]] void not_open(std::uint64_t id) const {
        throw Violation(id < link.next_id ? "AnsweredTwice" : "UnknownId", "no request " + std::to_string(id) + " of this worker is open");
    }

    void on_response(std::unique_ptr<Frame> frame, const Message &message) {
        const std::lock_guard hold(link.lock);
        const auto found = link.pending.find(message.id);
        if (found == link.pending.end()) not_open(message.id);
        if (found->second) {  // else nobody waits for it any more
            found->second->answer = std::move(frame);
            found->second->message = message;
        }
        link.pending.erase(found);
        link.changed.notify_all();
    }

    void on_notification(std::unique_ptr<Frame> frame, const Message &message) {
        if (phase_ != Phase::ready) throw Violation("HandshakeExpected", "a notification before the handshake is done");
        const auto method = message.method;
        if (!is_protocols(method)) return push(make_call(std::move(frame), message));
        if (method == "$/cancel") return on_cancel(take_id(message, 1));
        if (method == "$/credit") {
            const auto id = take_id(message, 2), count = take_grant(message);
            return change(id, [&](Call &call) { call.credit += count; });
        }
        if (method == "$/input") return on_input(std::move(frame), take_id(message, 2));
        if (method == "$/input_end") return change(take_id(message, 1), [](Call &call) { call.input_ended = true; });
        if (method == "$/item") return on_item(take_id(message, 2));
        if (method == "$/stop") return on_stop(message);
        if (method == "$/input_credit") {
            take_id(message, 2);
            take_grant(message);
        }
    }

    // Changes an open request; one that is not open is nobody's mistake.
    template <class Change>
    void change(std::uint64_t id, Change how) {
        const std::lock_guard hold(link.lock);
        const auto found = link.open.find(id);
        if (found != link.open.end()) how(*found->second);
        link.changed.notify_all();
    }

    void on_cancel(std::uint64_t id) {
        std::unique_lock hold(link.lock);
        const auto found = link.open.find(id);
        if (found == link.open.end()) return;
        const auto call = found->second;
        call->cancelled = true;
        link.changed.notify_all();
        if (call->begun) return;
        call->dropped = true;
        link.open.erase(found);
        hold.unlock();
        answer_error(id, Failure("cancelled", "the caller cancelled the call"));
    }

    void on_input(std::unique_ptr<Frame> frame, std::uint64_t id) {
        const std::lock_guard hold(link.lock);
        const auto found = link.open.find(id);
        if (found == link.open.end()) return;
        auto &call = *found->second;
        if (!call.takes_input || call.input_ended || call.coming == 0)
            throw Violation("CreditExceeded", "an item of the streamed argument of request " + std::to_string(id) + ", which gave no credit");
        call.coming--;
        call.waiting_bytes += frame->size;
        call.item_size = std::max<std::size_t>(frame->size, call.item_size - call.item_size / 8);
        call.inputs.push_back(std::move(frame));
        link.changed.notify_all();
    }

    // An item for a request of ours: none of them asks for any.
    void on_item(std::uint64_t id) {
        const std::lock_guard hold(link.lock);
        if (!link.pending.count(id)) not_open(id);
        throw Violation("CreditExceeded", "an item for a request that asked for no stream");
    }

    void on_stop(const Message &message) {
        std::string_view reason;
        const auto &params = message.params.via.array;
        if (params.size > 0 && !is_nil(&params.ptr[0]) && !as_text(params.ptr[0], reason)) invalid("the reason in $/stop is a string");
        const std::lock_guard hold(link.lock);
        link.stopping = true;
        link.jobs.notify_all();
    }

    // -- Answers

    static void begin_response(Buffer &body, std::uint64_t id) { Packer(body).pack_array(4).pack(1).pack(id); }

    void answer_nil(std::uint64_t id) {
        Buffer body;
        begin_response(body, id);
        Packer(body).pack_nil().pack_nil();
        link.output.send(body);
    }

    void answer_error(std::uint64_t id, const Failure &failure) {
        Buffer body;
        begin_response(body, id);
        pack_error(body, failure, link.has(arrays));
        Packer(body).pack_nil();
        link.output.send(body);
    }

    // -- The threads that run handlers

    void handle_jobs() {
        std::unique_lock hold(link.lock);
        for (;;) {
            if (!link.queue.empty()) {
                const auto call = std::move(link.queue.front());
                link.queue.pop_front();
                call->begun = true;
                link.running++;
                hold.unlock();
                if (call->cast) work_cast(*call);
                else if (!call->dropped) work_request(*call);
                link.output.flush();
                hold.lock();
                link.running--;
            } else if ((link.ended || link.stopping) && link.running == 0) {
                break;
            } else {
                link.idle++;
                link.jobs.wait(hold);
                link.idle--;
            }
        }
        link.jobs.notify_all();  // the others may have waited for this one's job
    }

    void work_request(Call &call) {
        Buffer body;
        std::optional<Failure> failure;
        begin_response(body, call.id);
        Packer(body).pack_nil();
        try {
            if (call.late()) throw Failure("deadline_exceeded", "the deadline of " + call.method->name + " passed before it began");
            if (call.batch > 0) work_batch(call, body);
            else work_one(call, body);
        } catch (...) {
            failure = current_failure();
        }
        {
            const std::lock_guard hold(link.lock);
            link.open.erase(call.id);
        }
        if (failure) answer_error(call.id, *failure);
        else if (!link.output.send(body))
            answer_error(call.id, Failure("resource_exhausted", "the result is longer than the orchestrator's max_frame"));
    }

    void check_result(const Call &call, std::string_view bytes, int depth) const {
        if (!is_one_value(bytes, link.has(arrays), depth))
            throw Failure("internal", "the result of " + call.method->name + " cannot be sent: text that is not UTF-8, nested too deep, or an extension not agreed");
    }

    // One argument list: a value behind what is in `out`, or an exception.
    void work_one(Call &call, Buffer &out) {
        if (call.method->batch) return work_alone(call, out);
        const auto mark = out.size();
        call.method->one(link, call, call.params.via.array, out);
        check_result(call, out.view(mark), 1);
    }

    // One call of a batch method: its pair [error, result] becomes the response's two elements.
    void work_alone(Call &call, Buffer &out) {
        Buffer pair;
        msgpack::object alone = call.params;
        call.method->many(link, call, msgpack::object_array{1, &alone}, pair);
        out.cut(out.size() - 1);  // the error nil
        out.write(pair.view(1));
    }

    void work_batch(Call &call, Buffer &out) {
        const auto &lists = call.params.via.array;
        Packer(out).pack_array(lists.size);
        if (call.method->batch) return call.method->many(link, call, lists, out);
        for (std::uint32_t i = 0; i < lists.size; i++) {
            const auto start = out.size();
            try {
                Packer(out).pack_array(2).pack_nil();
                const auto mark = out.size();
                if (lists.ptr[i].type != msgpack::type::ARRAY) refuse("an item of a batch is a list of arguments");
                call.method->one(link, call, lists.ptr[i].via.array, out);
                check_result(call, out.view(mark), 3);
            } catch (...) {
                out.cut(start);
                pack_failed(out, current_failure(), link.has(arrays));
            }
        }
    }

    void work_cast(Call &call) {
        Buffer ignored;
        const std::string called(call.name);
        if (!call.method)
            return log("warning", "a cast to " + called + ", which this worker does not have, was dropped");
        try {
            if (call.method->input) refuse("the method takes a streamed argument");
            work_one_cast(call, ignored);
        } catch (...) {
            log("error", "the cast to " + called + " failed: " + current_failure().what());
        }
    }

    void work_one_cast(Call &call, Buffer &out) {
        msgpack::object alone = call.params;
        if (call.method->batch) call.method->many(link, call, msgpack::object_array{1, &alone}, out);
        else call.method->one(link, call, call.params.via.array, out);
    }

    void log(const char *level, const std::string &text) {
        link.notify("$/log", level, sendable(text), std::map<std::string, std::string>());
    }

    std::atomic<Phase> phase_{Phase::fresh};
    std::atomic<bool> broken_{false};
    std::unique_ptr<Frame> hello_frame_;
    Hello hello_;
};

}  // namespace mlports::detail
