// A worker: a program whose methods mlports calls, in a process of its own.
#include <iostream>
#include <mlports.hpp>

static double slope = 1, intercept = 0;

// Called once, before the first call, with `config` from mlports.toml: the place to load a model.
static void load(const msgpack::object &config) {
    if (config.is_nil()) return;
    auto settings = config.as<std::map<std::string, msgpack::object>>();
    if (settings.count("slope")) slope = settings["slope"].as<double>();
    if (settings.count("intercept")) intercept = settings["intercept"].as<double>();
}

// A batch method: many calls at once, so that a model can work on all of them. An argument that is no number fails that
// call alone; to fail one yourself, return mlports::Outcome<double>s.
static std::vector<double> predict(const std::vector<double> &xs) {
    std::vector<double> ys;
    for (const double x : xs) ys.push_back(slope * x + intercept);
    return ys;
}

struct Line {
    std::string kind;
    double slope, intercept;
    MSGPACK_DEFINE_MAP(kind, slope, intercept);  // a map on the wire
};

// A plain method: arguments in, one value out. What it prints goes to the log and never breaks the protocol.
static Line describe() {
    std::cout << "somebody asked what this is" << std::endl;
    return {"line", slope, intercept};
}

// A stream: items go only as fast as they are read.
static void steps(mlports::Context &context, mlports::Items &items, int n, std::optional<double> seconds) {
    for (int number = 1; number <= n; number++) {
        context.wait(seconds.value_or(0.1));  // throws when the call is cancelled
        context.progress(number, n);
        items.send(number);
    }
}

int main() {
    mlports::Worker worker("@NAME@");  // first of all: from here on stdout is the log
    worker.setup(load);
    worker.method("describe", describe);
    worker.batch("predict", predict, mlports::idempotent);
    worker.method("steps", steps);
    return worker.run();
}
