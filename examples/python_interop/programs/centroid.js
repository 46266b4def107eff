// Nearest centroid: learns from every other line of a table, judges the rest, prints how many it has right.
const fs = require('node:fs');

const rows = fs.readFileSync(process.argv[2], 'utf8').trim().split('\n').map((line) => line.split(',').map(Number));
const means = new Map();
for (const row of rows.filter((_, i) => i % 2 === 0)) {
  const label = row.at(-1);
  const mean = means.get(label) ?? { count: 0, sums: row.slice(0, -1).fill(0) };
  mean.sums = mean.sums.map((sum, k) => sum + row[k]);
  mean.count += 1;
  means.set(label, mean);
}
const distance = (row, { sums, count }) => sums.reduce((total, sum, k) => total + (row[k] - sum / count) ** 2, 0);
const nearest = (row) => {
  const labels = [...means.keys()].sort((a, b) => a - b);
  return labels.reduce((best, label) => (distance(row, means.get(label)) < distance(row, means.get(best)) ? label : best));
};
const held = rows.filter((_, i) => i % 2 === 1);
console.log(JSON.stringify({ right: held.filter((row) => nearest(row) === row.at(-1)).length, of: held.length }));
