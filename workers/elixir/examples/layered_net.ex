defmodule LayeredNet do
  @moduledoc """
  A neural net with a GenServer for each layer. Vectors are cast from layer to layer: forwards what a layer gives,
  backwards the share of the error that each of its inputs had. Sigmoids, squared error, gradient descent, sample by sample.
  """

  defmodule Layer do
    @moduledoc "One layer: for each neuron, {bias, weights}."
    use GenServer

    def start_link(neurons, rate), do: GenServer.start_link(__MODULE__, {neurons, rate})
    def connect(layer, before, behind), do: GenServer.cast(layer, {:connect, before, behind})
    def weights(layer), do: GenServer.call(layer, :weights)

    @impl true
    def init({neurons, rate}), do: {:ok, %{neurons: neurons, rate: rate, before: nil, behind: nil, inputs: [], outputs: []}}

    @impl true
    def handle_call(:weights, _, s), do: {:reply, for({bias, weights} <- s.neurons, do: [bias | weights]), s}

    @impl true
    def handle_cast({:connect, before, behind}, s), do: {:noreply, %{s | before: before, behind: behind}}

    def handle_cast({:forward, inputs}, s) do
      outputs = for {bias, weights} <- s.neurons, do: sigmoid(dot(weights, inputs, bias))
      GenServer.cast(s.behind, {:forward, outputs})
      {:noreply, %{s | inputs: inputs, outputs: outputs}}
    end

    def handle_cast({:backward, errors}, s) do
      deltas = Enum.zip_with(errors, s.outputs, fn error, output -> error * output * (1 - output) end)
      GenServer.cast(s.before, {:backward, shares(deltas, s.neurons)})

      neurons =
        Enum.zip_with(deltas, s.neurons, fn delta, {bias, weights} ->
          step = s.rate * delta
          {bias - step, Enum.zip_with(weights, s.inputs, fn w, x -> w - step * x end)}
        end)

      {:noreply, %{s | neurons: neurons}}
    end

    # What each input had of the error, by the weights from before they change.
    defp shares(deltas, neurons) do
      deltas
      |> Enum.zip_with(neurons, fn delta, {_, weights} -> Enum.map(weights, &(delta * &1)) end)
      |> Enum.zip_with(&Enum.sum/1)
    end

    defp dot([], [], sum), do: sum
    defp dot([w | ws], [x | xs], sum), do: dot(ws, xs, sum + w * x)

    # Beyond 700 e^x is more than a float holds.
    defp sigmoid(x), do: 1 / (1 + :math.exp(-(x |> max(-700.0) |> min(700.0))))
  end

  use GenServer

  @doc """
  `start_link([2, 3, 1])`: two inputs, three hidden neurons, one output.

  Options: `rate` (0.5), `seed` (1), `weights`: for each layer behind the first, for each neuron, [bias | weights].
  """
  def start_link(sizes, options \\ []), do: GenServer.start_link(__MODULE__, {sizes, options})

  def stop(net), do: GenServer.stop(net)

  @doc "The outputs for these inputs."
  def predict(net, inputs), do: GenServer.call(net, {:predict, inputs}, :infinity)

  @doc "One step of learning: the outputs before it."
  def backprop(net, inputs, targets), do: GenServer.call(net, {:backprop, inputs, targets}, :infinity)

  def weights(net), do: GenServer.call(net, :weights, :infinity)

  @impl true
  def init({sizes, options}) do
    rate = Keyword.get(options, :rate, 0.5)
    weights = options[:weights] || initial(sizes, Keyword.get(options, :seed, 1))

    layers =
      for layer <- weights do
        {:ok, pid} = Layer.start_link(Enum.map(layer, fn [bias | weights] -> {bias, weights} end), rate)
        pid
      end

    Enum.chunk_every([self() | layers] ++ [self()], 3, 1, :discard)
    |> Enum.each(fn [before, layer, behind] -> Layer.connect(layer, before, behind) end)

    {:ok, layers}
  end

  defp initial(sizes, seed) do
    random = :rand.seed_s(:exsss, seed)
    {weights, _} = sizes |> Enum.zip(tl(sizes)) |> Enum.map_reduce(random, &layer/2)
    weights
  end

  defp layer({inputs, neurons}, random) do
    Enum.map_reduce(1..neurons, random, fn _, random ->
      Enum.map_reduce(0..inputs, random, fn _, random ->
        {u, random} = :rand.uniform_s(random)
        {(2 * u - 1) / :math.sqrt(inputs), random}
      end)
    end)
  end

  @impl true
  def handle_call({:predict, inputs}, _, layers), do: {:reply, forward(inputs, layers), layers}

  def handle_call({:backprop, inputs, targets}, _, layers) do
    outputs = forward(inputs, layers)
    GenServer.cast(List.last(layers), {:backward, Enum.zip_with(outputs, targets, &(&1 - &2))})

    # The error has come through the first layer: every layer has learnt, and the next sample may come.
    receive do
      {:"$gen_cast", {:backward, _}} -> {:reply, outputs, layers}
    end
  end

  def handle_call(:weights, _, layers), do: {:reply, Enum.map(layers, &Layer.weights/1), layers}

  defp forward(inputs, [first | _]) do
    GenServer.cast(first, {:forward, inputs})

    receive do
      {:"$gen_cast", {:forward, outputs}} -> outputs
    end
  end
end
