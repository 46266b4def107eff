// Ridge regression and the classifier built on it, as scikit-learn has them: with an intercept, which is not penalised.
#include <Eigen/Dense>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <mlports.hpp>

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using mlports::Failure;

// -- From and to the wire

Matrix rows_of_array(const msgpack::object &value) {
    const auto array = value.as<mlports::Array<double>>();
    if (array.shape.size() != 2) throw Failure("invalid_argument", "rows are an array of 2 dimensions");
    return Eigen::Map<const Matrix>(array.data.data(), static_cast<Eigen::Index>(array.shape[0]),
                                    static_cast<Eigen::Index>(array.shape[1]));
}

// From a list of equally long lists of numbers, or a 2-d array of numbers.
Matrix rows_of(const msgpack::object &value) try {
    if (value.type == msgpack::type::EXT) return rows_of_array(value);
    const auto lists = value.as<std::vector<std::vector<double>>>();
    Matrix rows(lists.size(), lists.empty() ? 0 : lists[0].size());
    for (std::size_t i = 0; i < lists.size(); i++) {
        if (lists[i].size() != lists[0].size())
            throw Failure("invalid_argument", "row " + std::to_string(i) + " has " + std::to_string(lists[i].size()) +
                                                  " numbers, the first has " + std::to_string(lists[0].size()));
        rows.row(static_cast<Eigen::Index>(i)) = Eigen::Map<const Eigen::RowVectorXd>(lists[i].data(), rows.cols());
    }
    return rows;
} catch (const msgpack::type_error &) {
    throw Failure("invalid_argument", "rows are a list of lists of numbers, or an array");
}

std::vector<std::vector<double>> lists_of(const Matrix &matrix) {
    std::vector<std::vector<double>> lists;
    for (const auto &row : matrix.rowwise()) lists.emplace_back(row.begin(), row.end());
    return lists;
}

// -- The models

struct Ridge {
    Matrix coefficients;  // a row for each target
    Eigen::RowVectorXd intercepts;

    // The normal equations of the centred data, by Cholesky: the intercept takes no part in the penalty.
    static Ridge fitted(const Matrix &x, const Matrix &targets, double alpha) {
        const Eigen::RowVectorXd mean = x.colwise().mean(), target_mean = targets.colwise().mean();
        const Matrix centred = x.rowwise() - mean;
        Matrix gram = centred.transpose() * centred;
        gram.diagonal().array() += alpha;
        const Matrix right = centred.transpose() * (targets.rowwise() - target_mean);
        Ridge model;
        model.coefficients = gram.ldlt().solve(right).transpose();
        model.intercepts = target_mean - mean * model.coefficients.transpose();
        return model;
    }

    Matrix scores(const Matrix &x) const {
        if (coefficients.size() == 0) throw Failure("failed_precondition", "not fitted yet: call fit, or set config data");
        if (x.cols() != coefficients.cols())
            throw Failure("invalid_argument", "rows of " + std::to_string(x.cols()) + " numbers, and " +
                                                  std::to_string(coefficients.cols()) + " were fitted");
        return (x * coefficients.transpose()).rowwise() + intercepts;
    }
};

// One-against-the-rest on targets of −1 and 1; of two classes the second alone has a row.
class Classifier {
public:
    std::vector<std::int64_t> classes;
    Ridge ridge;

    void fit(const Matrix &x, const std::vector<std::int64_t> &labels, double alpha) {
        classes = labels;
        std::sort(classes.begin(), classes.end());
        classes.erase(std::unique(classes.begin(), classes.end()), classes.end());
        if (classes.size() < 2) throw Failure("invalid_argument", "labels of one class only");
        const Eigen::Index first = classes.size() == 2 ? 1 : 0, count = static_cast<Eigen::Index>(classes.size()) - first;
        Matrix targets = Matrix::Constant(x.rows(), count, -1);
        for (Eigen::Index i = 0; i < x.rows(); i++) {
            const auto place = std::lower_bound(classes.begin(), classes.end(), labels[static_cast<std::size_t>(i)]);
            const Eigen::Index column = place - classes.begin() - first;
            if (column >= 0) targets(i, column) = 1;
        }
        ridge = Ridge::fitted(x, targets, alpha);
    }

    std::vector<std::int64_t> predict(const Matrix &x) const {
        const Matrix scores = ridge.scores(x);
        std::vector<std::int64_t> labels;
        for (Eigen::Index i = 0; i < scores.rows(); i++) {
            Eigen::Index best;
            scores.row(i).maxCoeff(&best);
            labels.push_back(scores.cols() == 1 ? classes[scores(i, 0) > 0] : classes[static_cast<std::size_t>(best)]);
        }
        return labels;
    }
};

Classifier classifier;

void check_training(const Matrix &x, std::size_t targets, double alpha) {
    if (x.rows() == 0 || x.cols() == 0) throw Failure("invalid_argument", "there are no rows to fit");
    if (targets != static_cast<std::size_t>(x.rows()))
        throw Failure("invalid_argument", std::to_string(targets) + " targets for " + std::to_string(x.rows()) + " rows");
    if (!(alpha > 0)) throw Failure("invalid_argument", "alpha is a number above 0");
}

using Summary = std::map<std::string, msgpack::object>;

Summary summary(const Ridge &ridge, msgpack::zone &zone) {
    return {{"coefficients", msgpack::object(lists_of(ridge.coefficients), zone)},
            {"intercepts", msgpack::object(std::vector<double>(ridge.intercepts.begin(), ridge.intercepts.end()), zone)}};
}

// A map that packs what is in its zone.
struct Reply {
    std::unique_ptr<msgpack::zone> zone = std::make_unique<msgpack::zone>();
    Summary values;
    template <class Packer>
    void msgpack_pack(Packer &packer) const {
        packer.pack(values);
    }
};

Reply fit(const msgpack::object &rows, const std::vector<std::int64_t> &labels, std::optional<double> alpha) {
    const Matrix x = rows_of(rows);
    check_training(x, labels.size(), alpha.value_or(1));
    classifier.fit(x, labels, alpha.value_or(1));
    Reply reply;
    reply.values = summary(classifier.ridge, *reply.zone);
    reply.values["classes"] = msgpack::object(classifier.classes, *reply.zone);
    return reply;
}

// A regression alone: nothing of it is kept.
Reply regress(const msgpack::object &rows, const std::vector<double> &targets, std::optional<double> alpha) {
    const Matrix x = rows_of(rows);
    check_training(x, targets.size(), alpha.value_or(1));
    const Matrix y = Eigen::Map<const Eigen::VectorXd>(targets.data(), x.rows());
    Reply reply;
    reply.values = summary(Ridge::fitted(x, y, alpha.value_or(1)), *reply.zone);
    return reply;
}

std::vector<std::int64_t> predict(const msgpack::object &rows) { return classifier.predict(rows_of(rows)); }

Reply vote(const std::map<std::string, msgpack::object> &record) {
    const auto x = record.find("x"), votes = record.find("votes");
    if (x == record.end()) throw Failure("invalid_argument", "the record has no x");
    Reply reply;
    reply.values = record;
    auto said = votes == record.end() ? Summary() : votes->second.as<Summary>();
    said["cpp"] = msgpack::object(predict(x->second), *reply.zone);
    reply.values["votes"] = msgpack::object(said, *reply.zone);
    return reply;
}

// Comma-separated numbers, the last of a line its integer label.
void train_on(const std::string &path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("the training data " + path + " cannot be read");
    std::vector<double> numbers;
    std::vector<std::int64_t> labels;
    std::size_t columns = 0;
    for (std::string line; std::getline(file, line);) {
        std::istringstream cells(line);
        std::vector<double> row;
        for (std::string cell; std::getline(cells, cell, ',');) row.push_back(std::stod(cell));
        if (row.size() < 2 || (columns > 0 && row.size() != columns + 1))
            throw std::runtime_error(path + ": line " + std::to_string(labels.size() + 1) + " has " +
                                     std::to_string(row.size()) + " numbers, not as many as those before it");
        columns = row.size() - 1;
        labels.push_back(static_cast<std::int64_t>(row.back()));
        numbers.insert(numbers.end(), row.begin(), row.end() - 1);
    }
    if (labels.empty()) throw std::runtime_error(path + " is empty");
    const Eigen::Map<const Matrix> x(numbers.data(), static_cast<Eigen::Index>(labels.size()), static_cast<Eigen::Index>(columns));
    classifier.fit(x, labels, 1);
}

}  // namespace

int main() {
    mlports::Worker worker("ridge");
    worker.setup([](const msgpack::object &config) {
        if (config.type != msgpack::type::MAP) return;
        const auto settings = config.as<Summary>();
        const auto data = settings.find("data");
        if (data != settings.end()) train_on(data->second.as<std::string>());
    });
    worker.method("fit", fit, mlports::idempotent);
    worker.method("regress", regress, mlports::idempotent);
    worker.method("predict", predict, mlports::idempotent);
    worker.method("vote", vote, mlports::idempotent);
    return worker.run();
}
