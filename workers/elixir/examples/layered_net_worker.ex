defmodule LayeredNetWorker do
  @moduledoc "Digits recognised by a net of processes, one for each layer."

  use Mlports.Worker, name: "layered_net"

  def setup(%{"data" => path}) do
    rows =
      for line <- File.stream!(path), line = String.trim(line), line != "" do
        line |> String.split(",") |> Enum.map(&number(String.trim(&1)))
      end

    {net, _} = fitted(Enum.map(rows, &Enum.drop(&1, -1)), Enum.map(rows, &trunc(List.last(&1))), %{})
    net
  end

  def setup(_), do: nil

  defp number(field) do
    {number, ""} = Float.parse(field)
    number
  end

  @doc "Trains on the rows x and their labels y. Options: hidden (24 neurons), epochs (6), rate (0.5), seed (1)."
  @method true
  def fit(x, y, options \\ %{}) do
    old = state()
    {{_, classes, _} = net, error} = fitted(listed(x), listed(y), options)
    set_state(net)
    if old, do: LayeredNet.stop(elem(old, 0))
    %{classes: classes, rows: length(listed(y)), error: error}
  end

  defp fitted([_ | _] = rows, labels, options) when length(rows) == length(labels) do
    classes = labels |> Enum.uniq() |> Enum.sort()
    scale = rows |> Enum.map(&Enum.max/1) |> Enum.max() |> max(1)
    sizes = [length(hd(rows)), Map.get(options, "hidden", 24), length(classes)]
    {:ok, net} = LayeredNet.start_link(sizes, seed: Map.get(options, "seed", 1), rate: Map.get(options, "rate", 0.5))

    samples = Enum.zip(Enum.map(rows, &scaled(&1, scale)), Enum.map(labels, &one_hot(&1, classes)))
    epochs = Map.get(options, "epochs", 6)
    {{net, classes, scale}, Enum.reduce(1..epochs, 0.0, fn n, _ -> epoch(net, samples, n, epochs) end)}
  end

  defp fitted(_, _, _), do: fail(:invalid_argument, "x and y have as many rows, at least one")

  # The mean squared error of an epoch.
  defp epoch(net, samples, n, epochs) do
    progress(n - 1, epochs)

    errors =
      for {row, target} <- samples do
        net |> LayeredNet.backprop(row, target) |> Enum.zip_with(target, &((&1 - &2) * (&1 - &2))) |> Enum.sum()
      end

    Enum.sum(errors) / length(errors)
  end

  defp scaled(row, scale), do: Enum.map(row, &(&1 / scale))
  defp one_hot(label, classes), do: Enum.map(classes, &if(&1 == label, do: 1.0, else: 0.0))

  @method idempotent: true
  def predict(x) do
    case state() do
      {net, classes, scale} ->
        for row <- listed(x) do
          {_, class} = net |> LayeredNet.predict(scaled(row, scale)) |> Enum.zip(classes) |> Enum.max()
          class
        end

      nil ->
        fail(:failed_precondition, "nothing was learnt yet: call fit, or give config data")
    end
  end

  @doc "A stage of a pipeline: adds what it takes the record's rows x for."
  @method idempotent: true
  def vote(%{"x" => x} = record) do
    Map.put(record, "votes", Map.put(record["votes"] || %{}, "elixir", predict(x)))
  end

  @doc "Steps of learning with given weights and rate: what the net gives before each, and the weights behind the last."
  @method idempotent: true
  def learn(weights, rate, rows, targets) do
    {:ok, net} = LayeredNet.start_link([length(hd(rows)) | Enum.map(weights, &length/1)], weights: weights, rate: rate)
    outputs = Enum.zip_with(rows, targets, &LayeredNet.backprop(net, &1, &2))
    learnt = LayeredNet.weights(net)
    LayeredNet.stop(net)
    %{outputs: outputs, weights: learnt}
  end

  defp listed({:ndarray, _, _, _} = array), do: Mlports.Ndarray.to_list(array)
  defp listed(list) when is_list(list), do: Enum.map(list, &listed/1)
  defp listed(value), do: value
end
