// Functions and lambdas as methods: arguments are converted to what they take, results packed as what they return.
#pragma once

#include "context.hpp"

#include <variant>

namespace mlports {

// What a batch function may give for an item: a result, or why there is none.
template <class T>
using Outcome = std::variant<T, Failure>;

namespace detail {

struct Method {
    std::string name;
    bool idempotent = false, batch = false, stream = false, input = false;
    // Packs one value, or throws.
    std::function<void(Link &, Call &, const msgpack::object_array &, Buffer &)> one;
    // Of batch methods: packs a pair [error, result] for each of the argument lists.
    std::function<void(Link &, Call &, const msgpack::object_array &, Buffer &)> many;
};

template <class F>
struct Signature : Signature<decltype(&F::operator())> {};
template <class R, class... A>
struct Signature<R (*)(A...)> {
    using Result = R;
    using Arguments = std::tuple<A...>;
};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...)> : Signature<R (*)(A...)> {};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...) const> : Signature<R (*)(A...)> {};

template <class A>
constexpr bool is_ours = std::is_same_v<A, Context &> || std::is_same_v<A, Items &> || std::is_same_v<A, Input &>;

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

[[noreturn]] inline void refuse(const std::string &why) { throw Failure("invalid_argument", why); }

template <class T>
T convert_argument(const msgpack::object_array &args, std::size_t at) {
    if (at >= args.size) {
        if constexpr (IsOptional<T>::value) return T();
        refuse("argument " + std::to_string(at + 1) + " is missing");
    }
    if constexpr (std::is_same_v<T, msgpack::object>) return args.ptr[at];
    else try {
        return args.ptr[at].template as<T>();
    } catch (const std::bad_cast &) {
        refuse("argument " + std::to_string(at + 1) + " is not a " + demangled(typeid(T).name()));
    }
}

struct Ours {
    Context context;
    Items items;
    Input input;
};

template <class A>
using Stored = std::conditional_t<is_ours<A>, A, std::decay_t<A>>;

// The argument at this place: one of ours, or the next of the caller's.
template <class A>
Stored<A> give(Ours &ours, const msgpack::object_array &args, std::size_t &next) {
    if constexpr (std::is_same_v<A, Context &>) return ours.context;
    else if constexpr (std::is_same_v<A, Items &>) return ours.items;
    else if constexpr (std::is_same_v<A, Input &>) return ours.input;
    else return convert_argument<std::decay_t<A>>(args, next++);
}

template <class F, class... A>
decltype(auto) invoke(F &function, Ours &ours, const msgpack::object_array &args, std::tuple<A...> *) {
    std::size_t next = 0;
    std::tuple<Stored<A>...> given{give<A>(ours, args, next)...};
    if (args.size > next) refuse("it takes " + std::to_string(next) + " arguments, not " + std::to_string(args.size));
    return std::apply(function, std::move(given));
}

template <class T>
void pack_result(Buffer &out, const T &value) {
    if constexpr (std::is_same_v<T, msgpack::object_handle>) Packer(out).pack(value.get());
    else Packer(out).pack(value);
}

template <class F, class... A>
Method make_method(F function, std::tuple<A...> *types) {
    using Result = typename Signature<F>::Result;
    Method method;
    method.stream = (std::is_same_v<A, Items &> || ...);
    method.input = (std::is_same_v<A, Input &> || ...);
    const bool streams = method.stream;
    method.one = [function, streams, types](Link &link, Call &call, const msgpack::object_array &args, Buffer &out) mutable {
        Buffer collected;
        Ours ours{Context(link, call), Items(link, call, collected), Input(link, call)};
        const auto mark = out.size();
        if constexpr (std::is_void_v<Result>) {
            invoke(function, ours, args, types);
            Packer(out).pack_nil();
        } else {
            pack_result(out, invoke(function, ours, args, types));
        }
        if (!streams || call.streams) return;
        out.cut(mark);
        Packer(out).pack_array(ours.items.collected());
        out.write(collected.view());
    };
    return method;
}

// -- Batch functions: std::vector<T> -> std::vector of results or outcomes

template <class T>
struct FromList {
    static T take(const msgpack::object_array &args) {
        if (args.size != 1) refuse("it takes 1 argument, not " + std::to_string(args.size));
        return convert_argument<T>(args, 0);
    }
};
template <class... T>
struct FromList<std::tuple<T...>> {
    static std::tuple<T...> take(const msgpack::object_array &args) {
        std::size_t next = 0;
        if (args.size > sizeof...(T)) refuse("it takes " + std::to_string(sizeof...(T)) + " arguments, not " + std::to_string(args.size));
        return {convert_argument<T>(args, next++)...};
    }
};

inline void pack_failed(Buffer &out, const Failure &failure, bool sends_arrays) {
    Packer(out).pack_array(2);
    pack_error(out, failure, sends_arrays);
    Packer(out).pack_nil();
}

template <class T>
void pack_pair(Buffer &out, const T &result, bool sends_arrays) {
    const auto start = out.size();
    Packer(out).pack_array(2).pack_nil();
    const auto mark = out.size();
    pack_result(out, result);
    if (is_one_value(out.view(mark), sends_arrays, 3)) return;
    out.cut(start);
    pack_failed(out, Failure("internal", "the result cannot be sent"), sends_arrays);
}

template <class T>
void pack_pair(Buffer &out, const Outcome<T> &outcome, bool sends_arrays) {
    if (outcome.index() == 0) pack_pair(out, std::get<0>(outcome), sends_arrays);
    else pack_failed(out, std::get<1>(outcome), sends_arrays);
}

// What could be converted goes to the function, what could not is that item's own failure.
template <class T>
struct Items_of {
    std::vector<T> right;
    std::vector<std::optional<Failure>> failures;

    explicit Items_of(const msgpack::object_array &lists) : failures(lists.size) {
        right.reserve(lists.size);
        for (std::uint32_t i = 0; i < lists.size; i++) try {
                if (lists.ptr[i].type != msgpack::type::ARRAY) refuse("an item of a batch is a list of arguments");
                right.push_back(FromList<T>::take(lists.ptr[i].via.array));
            } catch (const Failure &failure) {
                failures[i] = failure;
            }
    }
};

template <class F, class T>
Method make_batch(F function, std::tuple<const std::vector<T> &> *) {
    Method method;
    method.batch = true;
    method.many = [function](Link &link, Call &, const msgpack::object_array &lists, Buffer &out) mutable {
        const Items_of<T> items(lists);
        const auto results = items.right.empty() ? decltype(function(items.right))() : function(items.right);
        if (results.size() != items.right.size())
            throw Failure("internal", "the batch method gave " + std::to_string(results.size()) + " results for " +
                                          std::to_string(items.right.size()) + " items");
        auto result = results.begin();
        for (const auto &failure : items.failures) {
            if (failure) pack_failed(out, *failure, link.has(arrays));
            else pack_pair(out, *result++, link.has(arrays));
        }
    };
    return method;
}

template <class F, class T>
Method make_batch(F function, std::tuple<std::vector<T>> *) {
    return make_batch(std::move(function), static_cast<std::tuple<const std::vector<T> &> *>(nullptr));
}

}  // namespace detail
}  // namespace mlports
