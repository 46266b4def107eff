# frozen_string_literal: true

# Multinomial naive Bayes: what a class's counts look like, learned by counting. For words of texts, and for ink of digits.
#
# P(class) ∏ P(feature | class) ^ count, with P(feature | class) = (count in class + alpha) / (all in class + alpha n).
# Manning, Raghavan and Schütze, Introduction to Information Retrieval, 13.2; alpha is Laplace's smoothing.
require_relative "../mlports/mlports"

class NaiveBayes
  attr_reader :classes

  # x: rows of counts ≥ 0; y: a label for each.
  def initialize(x, y, alpha: 1.0)
    raise Mlports::Failure.new("invalid_argument", "#{x.size} rows and #{y.size} labels") unless x.size == y.size && !x.empty?

    @classes = y.uniq.sort
    rows = x.zip(y).group_by(&:last).transform_values { |pairs| pairs.map(&:first) }
    @prior = @classes.map { |label| Math.log(rows[label].size.fdiv(x.size)) }
    @likelihood = @classes.map { |label| log_shares(rows[label], alpha) }
  end

  # The most probable class of a row; of two that are as probable, the first.
  def predict(row)
    scores = @prior.each_with_index.map { |prior, at| prior + dot(@likelihood[at], row) }
    @classes[scores.each_with_index.max_by { |score, at| [score, -at] }.last]
  end

  private

  def log_shares(rows, alpha)
    counts = rows.transpose.map { |column| column.sum.to_f + alpha }
    total = counts.sum
    counts.map { |count| Math.log(count / total) }
  end

  def dot(weights, row)
    wrong = "a row of #{row.size} features, and the model has #{weights.size}"
    raise Mlports::Failure.new("invalid_argument", wrong) unless row.size == weights.size

    weights.each_with_index.sum { |weight, at| weight * row[at] }
  end
end

worker = Mlports::Worker.new("bayes")
model = nil
trained = -> { model or raise Mlports::Failure.new("failed_precondition", "no model yet: call fit, or set config data") }

worker.setup do |config|
  if config["data"]
    rows = File.foreach(config["data"], chomp: true).map { |line| line.split(",").map(&:to_f) }
    model = NaiveBayes.new(rows.map { |row| row[0...-1] }, rows.map { |row| row.last.to_i })
  end
end

worker.method("fit", idempotent: true) do |x, y|
  model = NaiveBayes.new(x, y)
  { "classes" => model.classes, "rows" => x.size }
end

worker.method("predict", idempotent: true) { |x| x.map { |row| trained.call.predict(row) } }

worker.method("vote", idempotent: true) do |record|
  votes = record["x"].map { |row| trained.call.predict(row) }
  record.merge("votes" => record.fetch("votes", {}).merge("ruby" => votes))
end

worker.run
