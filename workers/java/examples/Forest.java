package examples;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.IntStream;
import mlports.Arguments;
import mlports.Context;
import mlports.Failure;
import mlports.Option;
import mlports.Worker;
import org.tribuo.Model;
import org.tribuo.MutableDataset;
import org.tribuo.classification.Label;
import org.tribuo.classification.LabelFactory;
import org.tribuo.classification.dtree.CARTClassificationTrainer;
import org.tribuo.classification.dtree.impurity.GiniIndex;
import org.tribuo.classification.ensemble.VotingCombiner;
import org.tribuo.common.tree.AbstractCARTTrainer;
import org.tribuo.common.tree.RandomForestTrainer;
import org.tribuo.impl.ArrayExample;
import org.tribuo.provenance.SimpleDataSourceProvenance;

/** A random forest by Tribuo. Its random choices are seeded: the same data give the same forest. */
public final class Forest {
    private static final long TREES = 100;
    private static final long MOST_TREES = 10_000;
    private static final long SEED = 0;

    private Model<Label> model;
    private String[] features;

    public static void main(String[] none) {
        Logger.getLogger("org.tribuo").setLevel(Level.WARNING); // it tells of every tree
        Forest forest = new Forest();
        new Worker("forest")
                .setup(forest::load)
                .method("fit", forest::fit)
                .method("predict", (ctx, args) -> forest.predict(args.rows(0)), Option.IDEMPOTENT)
                .method("vote", forest::vote, Option.IDEMPOTENT)
                .run();
    }

    /** config: {data: path} of numbers separated by commas, a row a line, the last the label; trained on at once. */
    private void load(Map<String, Object> config) throws IOException {
        if (config.get("data") instanceof String path) {
            double[][] table = Files.readAllLines(Path.of(path)).stream()
                    .filter(line -> !line.isBlank())
                    .map(line -> Arrays.stream(line.split(",")).mapToDouble(Double::parseDouble).toArray())
                    .toArray(double[][]::new);
            double[][] x = Arrays.stream(table).map(row -> Arrays.copyOf(row, row.length - 1)).toArray(double[][]::new);
            double[] y = Arrays.stream(table).mapToDouble(row -> row[row.length - 1]).toArray();
            train(x, y, TREES, SEED);
        }
    }

    /** fit(x: rows, y: integer labels, trees = 100, seed = 0) -> {trees, rows, features, classes}. */
    private Object fit(Context ctx, Arguments args) {
        long trees = args.size() > 2 ? args.integer(2) : TREES;
        long seed = args.size() > 3 ? args.integer(3) : SEED;
        return train(args.rows(0), args.vector(1), trees, seed);
    }

    private Map<String, Object> train(double[][] x, double[] y, long trees, long seed) {
        if (x.length == 0 || x[0].length == 0 || x.length != y.length) {
            String text = x.length + " rows and " + y.length + " labels: as many of both are needed, and some numbers";
            throw new Failure("invalid_argument", text);
        }
        if (trees < 1 || trees > MOST_TREES) {
            throw new Failure("invalid_argument", trees + " trees: 1 to " + MOST_TREES + " are possible");
        }
        if (Arrays.stream(y).anyMatch(label -> label != Math.rint(label))) {
            throw new Failure("invalid_argument", "labels are integers, and there are others");
        }
        String[] names = IntStream.range(0, x[0].length).mapToObj("x%04d"::formatted).toArray(String[]::new);
        var data = new MutableDataset<>(new SimpleDataSourceProvenance("fit", new LabelFactory()), new LabelFactory());
        for (int i = 0; i < x.length; i++) {
            data.add(example(names, x[i], String.valueOf((long) y[i])));
        }
        float each = (float) (1 / Math.sqrt(names.length)); // the share of the features that a split chooses from
        var tree = new CARTClassificationTrainer(
                Integer.MAX_VALUE, AbstractCARTTrainer.MIN_EXAMPLES, 0f, each, new GiniIndex(), seed);
        model = new RandomForestTrainer<>(tree, new VotingCombiner(), (int) trees, seed).train(data);
        features = names;
        Map<String, Object> summary = new LinkedHashMap<>();
        summary.put("trees", trees);
        summary.put("rows", x.length);
        summary.put("features", names.length);
        summary.put("classes", data.getOutputInfo().size());
        return summary;
    }

    private List<Long> predict(double[][] rows) {
        if (model == null) {
            throw new Failure("failed_precondition", "there is no forest yet: call fit, or set data in the config");
        }
        List<Long> labels = new ArrayList<>(rows.length);
        for (double[] row : rows) {
            var prediction = model.predict(example(features, row, "0"));
            labels.add(Long.parseLong(prediction.getOutput().getLabel()));
        }
        return labels;
    }

    /** vote({x: rows, votes: {…}}) -> the same with this worker's labels as votes.java. */
    private Object vote(Context ctx, Arguments args) {
        Map<Object, Object> record = new LinkedHashMap<>(args.map(0));
        Map<Object, Object> votes = new LinkedHashMap<>();
        if (record.get("votes") instanceof Map<?, ?> others) {
            votes.putAll(others);
        }
        votes.put("java", predict(Arguments.rows(record.get("x"))));
        record.put("votes", votes);
        return record;
    }

    private static ArrayExample<Label> example(String[] names, double[] row, String label) {
        if (row.length != names.length) {
            String text = "a row of " + row.length + " numbers, and the others have " + names.length;
            throw new Failure("invalid_argument", text);
        }
        return new ArrayExample<>(new Label(label), names, row);
    }
}
