//! k-means by smartcore: `fit`, `predict`, and `vote`, which names each cluster by the label that most of it has.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, PoisonError, RwLock};

use mlports::{from_value, Code, Failure, NdArray, Value, Worker};
use serde::{Deserialize, Serialize};
use smartcore::cluster::kmeans::{KMeans, KMeansParameters};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;

type Matrix = DenseMatrix<f64>;

const CLUSTERS: usize = 30;
const SEED: u64 = 0;
const MOST_ITERATIONS: usize = 300;

/// The service's config: a file of training data, comma-separated, the label last in each line; and how many clusters.
#[derive(Deserialize)]
struct Config {
    data: Option<String>,
    k: Option<usize>,
}

struct Model {
    means: KMeans<f64, usize, Matrix, Vec<usize>>,
    columns: usize,
    labels: Vec<i64>, // each cluster's commonest; empty when it was fitted without labels
}

/// What `fit` answers.
#[derive(Serialize)]
struct Summary {
    rows: usize,
    k: usize,
    /// The sum of the squared distances of all rows to the mean of their cluster.
    inertia: f64,
}

#[derive(Clone, Default)]
struct Fitted(Arc<RwLock<Option<Arc<Model>>>>);

impl Fitted {
    fn set(&self, model: Model) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(model));
    }

    fn get(&self) -> Result<Arc<Model>, Failure> {
        let model = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        model.ok_or_else(|| {
            Failure::new(Code::FailedPrecondition, "nothing was fitted yet: call fit, or configure data")
        })
    }
}

fn main() {
    let mut worker = Worker::new("clusters");
    let fitted = Fitted::default();

    let model = fitted.clone();
    worker.setup(move |config: Config| {
        if let Some(path) = config.data {
            let (x, y) = read_table(&path)?;
            model.set(fit(&x, Some(y), config.k, None)?.0);
        }
        Ok(())
    });

    let model = fitted.clone();
    worker.method("fit", move |_, (x, y, k, seed): (NdArray, Option<NdArray>, Option<usize>, Option<u64>)| {
        let y = y.map(|y| y.to_f64()).transpose()?;
        let labels = y.map(|y| y.into_iter().map(|label| label as i64).collect());
        let (fitted, summary) = fit(&matrix(&x)?, labels, k, seed)?;
        model.set(fitted);
        Ok(summary)
    });

    let model = fitted.clone();
    worker.method("predict", move |_, (x,): (NdArray,)| predict(&*model.get()?, &x)).idempotent();
    worker.method("vote", move |_, (record,): (Value,)| vote(&*fitted.get()?, record)).idempotent();
    worker.run();
}

fn fit(x: &Matrix, labels: Option<Vec<i64>>, k: Option<usize>, seed: Option<u64>) -> Result<(Model, Summary), Failure> {
    let (rows, columns) = x.shape();
    let k = k.unwrap_or(CLUSTERS);
    if !(2..=rows).contains(&k) {
        return Err(invalid(format!("k is {k}, and {rows} rows can have 2 to {rows} clusters")));
    }
    if labels.as_ref().is_some_and(|labels| labels.len() != rows) {
        return Err(invalid(format!("there are {rows} rows, and not as many labels")));
    }
    let parameters = KMeansParameters { k, max_iter: MOST_ITERATIONS, seed: Some(seed.unwrap_or(SEED)) };
    let means = KMeans::fit(x, parameters)?;
    let clusters: Vec<usize> = means.predict(x)?;
    let labels = labels.map_or_else(Vec::new, |labels| commonest(&clusters, &labels, k));
    let summary = Summary { rows, k, inertia: inertia(x, &clusters, k) };
    Ok((Model { means, columns, labels }, summary))
}

/// The label that most rows of each cluster have; the smallest of equally common ones, 0 in an empty cluster.
fn commonest(clusters: &[usize], labels: &[i64], k: usize) -> Vec<i64> {
    let mut counts = vec![BTreeMap::<i64, usize>::new(); k];
    for (cluster, label) in clusters.iter().zip(labels) {
        *counts[*cluster].entry(*label).or_default() += 1;
    }
    let most = |counts: BTreeMap<i64, usize>| counts.into_iter().rev().max_by_key(|(_, count)| *count);
    counts.into_iter().map(|counts| most(counts).map_or(0, |(label, _)| label)).collect()
}

fn inertia(x: &Matrix, clusters: &[usize], k: usize) -> f64 {
    let (rows, columns) = x.shape();
    let mut sums = vec![vec![0.0; columns]; k];
    let mut sizes = vec![0.0; k];
    for row in 0..rows {
        sizes[clusters[row]] += 1.0;
        (0..columns).for_each(|column| sums[clusters[row]][column] += x.get((row, column)));
    }
    let off = |row: usize, column: usize| x.get((row, column)) - sums[clusters[row]][column] / sizes[clusters[row]];
    (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .map(|(row, column)| off(row, column).powi(2))
        .sum()
}

fn predict(model: &Model, x: &NdArray) -> Result<Vec<usize>, Failure> {
    let x = matrix(x)?;
    if x.shape().1 != model.columns {
        return Err(invalid(format!("the rows have {} numbers, and it was fitted on {}", x.shape().1, model.columns)));
    }
    Ok(model.means.predict(&x)?)
}

/// Adds `votes["rust"]`, a label for each row of `x`, to a record {x, votes}.
fn vote(model: &Model, mut record: Value) -> Result<Value, Failure> {
    if model.labels.is_empty() {
        return Err(Failure::new(Code::FailedPrecondition, "it was fitted without labels, and cannot vote"));
    }
    let x: NdArray = from_value(field(&mut record, "x")?.clone())?;
    let votes: Vec<Value> = predict(model, &x)?.into_iter().map(|cluster| model.labels[cluster].into()).collect();
    match field(&mut record, "votes")? {
        Value::Map(pairs) => {
            pairs.retain(|(name, _)| name.as_str() != Some("rust"));
            pairs.push(("rust".into(), votes.into()));
        }
        _ => return Err(invalid("the record's votes are not a map")),
    }
    Ok(record)
}

fn field<'a>(record: &'a mut Value, name: &str) -> Result<&'a mut Value, Failure> {
    let pairs = match record {
        Value::Map(pairs) => pairs.as_mut_slice(),
        _ => &mut [],
    };
    let found = pairs.iter_mut().find(|(key, _)| key.as_str() == Some(name));
    found.map(|(_, value)| value).ok_or_else(|| invalid(format!("the record has no {name:?}")))
}

fn matrix(x: &NdArray) -> Result<Matrix, Failure> {
    let [rows, columns] = *x.shape() else {
        return Err(invalid(format!("rows of numbers are needed, and this has {} dimensions", x.shape().len())));
    };
    as_matrix(rows, columns, x.to_f64()?)
}

fn as_matrix(rows: usize, columns: usize, numbers: Vec<f64>) -> Result<Matrix, Failure> {
    if rows == 0 || columns == 0 || !numbers.iter().all(|number| number.is_finite()) {
        return Err(invalid("at least one row of finite numbers is needed"));
    }
    Ok(DenseMatrix::new(rows, columns, numbers, false)?)
}

fn read_table(path: &str) -> Result<(Matrix, Vec<i64>), Failure> {
    let text = fs::read_to_string(path).map_err(|error| invalid(format!("config data, {path}: {error}")))?;
    let (mut numbers, mut labels) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Result<Vec<f64>, _> = line.split(',').map(|field| field.trim().parse()).collect();
        let row = row.map_err(|error| invalid(format!("config data, {path}, line {}: {error}", index + 1)))?;
        labels.push(row[row.len() - 1] as i64);
        numbers.extend_from_slice(&row[..row.len() - 1]);
    }
    let rows = labels.len();
    if rows == 0 || numbers.len() % rows != 0 {
        return Err(invalid(format!("config data, {path}: the lines are not equally long, or there are none")));
    }
    Ok((as_matrix(rows, numbers.len() / rows, numbers)?, labels))
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidArgument, text)
}
