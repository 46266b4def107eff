// Frames on two descriptors: whole ones in, whole ones out.
#pragma once

#include "value.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <optional>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

namespace mlports::detail {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t default_max_frame = 67108864;

inline void wait_for(int descriptor, short what) {
    pollfd one{descriptor, what, 0};
    poll(&one, 1, -1);
}

struct Descriptors {
    int in, out;
};

// Takes the descriptors that frames travel on, and points 0 at nothing and 1 at stderr (SPEC.md 1.4, 1.6). Ends the
// process with status 2, having said why, when there are none.
inline Descriptors take_descriptors(const std::string &name) {
    const auto complain = [&](const char *what) {
        std::fprintf(stderr, "%s: %s: %s\n", name.c_str(), what, std::strerror(errno));
        std::exit(2);
    };
    const char *transport = std::getenv("MLPORTS_TRANSPORT");
    if (transport != nullptr && std::string_view(transport) == "fd34") {
        if (fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || fcntl(4, F_SETFD, FD_CLOEXEC) < 0)
            complain("MLPORTS_TRANSPORT is fd34, and descriptors 3 and 4 are not open");
        return {3, 4};
    }
    if (isatty(0)) {
        std::fprintf(stderr,
                     "%s is a worker: it speaks frames with an orchestrator, not with a person at a terminal.\n"
                     "Name this program as a service's command in mlports.toml and start that with \"mlports run\".\n",
                     name.c_str());
        std::exit(2);
    }
    // From 5 on: 3 and 4 may mean something to whoever started this.
    const Descriptors taken{fcntl(0, F_DUPFD_CLOEXEC, 5), fcntl(1, F_DUPFD_CLOEXEC, 5)};
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (taken.in < 0 || taken.out < 0 || nothing < 0 || dup2(nothing, 0) < 0 || dup2(2, 1) < 0)
        complain("stdin and stdout cannot be taken for frames");
    close(nothing);
    return taken;
}

// A frame that was read: its value lies in its own memory.
struct Frame {
    explicit Frame(std::uint32_t size)
        : bytes(new char[size]), size(size), zone(size < 128 ? 1024 : size < 2048 ? 8 * size : 16384) {}
    std::unique_ptr<char[]> bytes;
    std::uint32_t size;
    msgpack::zone zone;
    msgpack::object value;
};

class FrameReader {
public:
    std::uint32_t max_frame = default_max_frame;
    bool arrays = false;  // extension 1 was agreed

    explicit FrameReader(int descriptor) : descriptor_(descriptor), buffer_(new char[capacity]) {}

    // The next frame of what was read already, decoded; nullptr when none is whole. A long one is read to its end,
    // `before_waiting` having been called. Throws Violation.
    template <class Before>
    std::unique_ptr<Frame> next(Before before_waiting) {
        const std::size_t have = end_ - start_;
        if (have < 4) return nullptr;
        const std::uint32_t size = check_length(buffer_.get() + start_);
        const bool whole = have - 4 >= size;
        if (!whole && size <= capacity - 4) return nullptr;
        auto frame = std::make_unique<Frame>(size);
        start_ += 4;
        if (whole) {
            std::memcpy(frame->bytes.get(), buffer_.get() + start_, size);
            start_ += size;
        } else {
            before_waiting();
            read_large(*frame);
        }
        const auto took = read_value(frame->bytes.get(), size, arrays, 0, &frame->zone, frame->value);
        if (took < size) throw Violation("TrailingBytes", std::to_string(size - took) + " bytes behind the value of a frame");
        return frame;
    }

    // Waits and reads more. False at the end of input; throws Violation when that is inside a frame.
    bool read_more() {
        const std::size_t have = end_ - start_;
        std::memmove(buffer_.get(), buffer_.get() + start_, have);
        start_ = 0;
        const auto got = read_some(buffer_.get() + have, capacity - have);
        end_ = have + got;
        if (got == 0 && have > 0) cut();
        return got > 0;
    }

private:
    static constexpr std::size_t capacity = 65536;

    [[noreturn]] static void cut() { throw Violation("TruncatedFrame", "the input ends within a frame"); }

    // Up to `size` bytes; 0 at the end of input.
    std::size_t read_some(char *into, std::size_t size) const {
        for (;;) {
            const auto got = read(descriptor_, into, size);
            if (got >= 0) return static_cast<std::size_t>(got);
            if (errno == EAGAIN) wait_for(descriptor_, POLLIN);  // somebody made it non-blocking
            else if (errno != EINTR) return 0;
        }
    }

    std::uint32_t check_length(const char *head) const {
        std::uint32_t size = 0;
        for (int i = 0; i < 4; i++) size = size << 8 | static_cast<unsigned char>(head[i]);
        if (size == 0) throw Violation("EmptyFrame", "a frame of 0 bytes");
        if (size <= max_frame) return size;
        const auto first = static_cast<unsigned char>(head[0]);
        if (first == '\t' || first == '\n' || first == '\r' || first == 0x1b || (first >= 0x20 && first <= 0x7e))
            throw Violation("StdoutPolluted", "text where a frame was due: " + std::string(head, 4) + "…");
        throw Violation("FrameTooLarge", "a frame of " + std::to_string(size) + " bytes, and " + std::to_string(max_frame) +
                                             " are accepted");
    }

    void read_large(Frame &frame) {
        std::size_t have = end_ - start_;
        std::memcpy(frame.bytes.get(), buffer_.get() + start_, have);
        start_ = end_ = 0;
        while (have < frame.size) {
            const auto got = read_some(frame.bytes.get() + have, frame.size - have);
            if (got == 0) cut();
            have += got;
        }
    }

    int descriptor_;
    std::unique_ptr<char[]> buffer_;
    std::size_t start_ = 0, end_ = 0;
};

// Where frames go. From any thread.
class Output {
public:
    std::uint32_t peer_max_frame = default_max_frame;

    explicit Output(int descriptor) : descriptor_(descriptor) {
        struct sigaction nothing {};
        nothing.sa_handler = [](int) {};  // not SIG_IGN, which programs started from here would inherit
        nothing.sa_flags = SA_RESTART;
        sigaction(SIGPIPE, &nothing, nullptr);
    }

    // One frame of these parts, written by the next flush(). False when it is longer than the peer accepts.
    bool send(std::initializer_list<std::string_view> parts) {
        std::size_t size = 0;
        for (auto part : parts) size += part.size();
        if (size > peer_max_frame) return false;
        const char head[4] = {static_cast<char>(size >> 24), static_cast<char>(size >> 16), static_cast<char>(size >> 8),
                              static_cast<char>(size)};
        const std::lock_guard hold(lock_);
        waiting_.append(head, 4);
        for (auto part : parts) {
            if (part.size() >= enough) write_all(part);  // not copied first
            else waiting_.append(part);
        }
        if (waiting_.size() >= enough) write_all({});
        return true;
    }
    bool send(const Buffer &body) { return send({body.view()}); }

    void flush() {
        const std::lock_guard hold(lock_);
        if (!waiting_.empty()) write_all({});
    }

    bool nobody_reads() const {
        pollfd one{descriptor_, 0, 0};
        return poll(&one, 1, 0) > 0 && (one.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
    }

private:
    static constexpr std::size_t enough = 65536;

    // What waits, and behind it `last`.
    void write_all(std::string_view last) {
        std::string_view parts[2] = {waiting_, last};
        while (!parts[0].empty() || !parts[1].empty()) {
            iovec vectors[2];
            for (int i = 0; i < 2; i++) vectors[i] = {const_cast<char *>(parts[i].data()), parts[i].size()};
            const auto written = writev(descriptor_, vectors, 2);
            if (written < 0) {
                if (errno == EAGAIN) wait_for(descriptor_, POLLOUT);
                else if (errno != EINTR) _exit(1);  // nobody reads: there is nobody to tell either
                continue;
            }
            const auto first = std::min(static_cast<std::size_t>(written), parts[0].size());
            parts[0].remove_prefix(first);
            parts[1].remove_prefix(static_cast<std::size_t>(written) - first);
        }
        waiting_.clear();
        if (waiting_.capacity() > 4 * enough) waiting_.shrink_to_fit();
    }

    int descriptor_;
    std::mutex lock_;
    std::string waiting_;
};

}  // namespace mlports::detail
