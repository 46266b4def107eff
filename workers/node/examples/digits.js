// A ridge classifier, by ml-matrix: scikit-learn's RidgeClassifier, to the last digits.

import { readFileSync } from "node:fs";

import { Failure, NDArray, Worker } from "../mlports/index.js";

// Behind the SDK: what a library prints while it is loaded prints on standard error.
const { CholeskyDecomposition, Matrix } = await import("ml-matrix");

const worker = new Worker("digits");
let model = null;

worker
  .setup((config) => {
    if (config.data !== undefined) fit(...readTable(config.data));
  })
  .method("fit", fit)
  .method("predict", predict, { idempotent: true })
  .method("vote", (record) => ({ ...record, votes: { ...record.votes, node: predict(record.x) } }), { idempotent: true });

/** Rows of numbers, and the integer label at the end of each. */
function readTable(path) {
  const table = readFileSync(path, "utf8").trim().split("\n").map((line) => line.split(",").map(Number));
  return [table.map((row) => row.slice(0, -1)), table.map((row) => row.at(-1))];
}

/** Trains on rows `x` and their labels `y`; `alpha` is the penalty on large coefficients. */
function fit(x, y, { alpha = 1 } = {}) {
  const rows = asMatrix(x);
  const labels = asList(y);
  if (labels.length !== rows.rows) {
    throw new Failure("invalid_argument", `fit takes as many labels as rows, not ${labels.length} for ${rows.rows}`);
  }
  const classes = [...new Set(labels)].sort((a, b) => a - b);
  const targets = new Matrix(labels.map((label) => classes.map((one) => (one === label ? 1 : -1))));
  const means = rows.mean("column");
  const offsets = targets.mean("column");
  const centred = rows.clone().subRowVector(means);
  const gram = centred.transpose().mmul(centred).add(Matrix.eye(rows.columns).mul(Number(alpha)));
  const wanted = centred.transpose().mmul(targets.clone().subRowVector(offsets));
  const coefficients = new CholeskyDecomposition(gram).solve(wanted);
  const shift = Matrix.rowVector(means).mmul(coefficients).getRow(0);
  const intercepts = offsets.map((offset, index) => offset - shift[index]);
  model = { classes, coefficients, intercepts };
  return { rows: rows.rows, classes, coefficients: coefficients.transpose().to2DArray(), intercepts };
}

/** The label of each row. */
function predict(x) {
  if (model === null) throw new Failure("failed_precondition", "nothing is trained yet: call fit, or configure data");
  const rows = asMatrix(x);
  if (rows.columns !== model.coefficients.rows) {
    const features = `rows of ${model.coefficients.rows} numbers`;
    throw new Failure("invalid_argument", `predict takes ${features}, not of ${rows.columns}`);
  }
  const scores = rows.mmul(model.coefficients).addRowVector(model.intercepts);
  return scores.to2DArray().map((row) => model.classes[row.indexOf(Math.max(...row))]);
}

function asMatrix(x) {
  try {
    return Matrix.checkMatrix(asList(x));
  } catch (error) {
    throw new Failure("invalid_argument", `x is a list of rows of numbers: ${error.message}`);
  }
}

function asList(x) {
  return x instanceof NDArray ? x.toArray() : x;
}

worker.run();
