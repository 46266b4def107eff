defmodule Worker do
  @moduledoc "A worker: a program whose methods mlports calls, in a process of its own."

  use Mlports.Worker, name: "@NAME@"

  @doc """
  Called once, before the first call, with `config` from mlports.toml: the place to load a model. What it gives is what
  `state()` gives, in every handler.
  """
  def setup(config), do: {Map.get(config, "slope", 1.0), Map.get(config, "intercept", 0.0)}

  @doc "A plain method: arguments in, a value out. What it prints goes to the log and never breaks the protocol."
  @method true
  def describe do
    IO.puts("somebody asked what this is")
    {slope, intercept} = state()
    %{kind: :line, slope: slope, intercept: intercept}
  end

  @doc """
  A batch method: a list of arguments in, as many results out, so that a model can work on many at once.

  An exception in a result's place is that item's error. `idempotent` lets mlports repeat a call after a crash.
  """
  @batch idempotent: true
  def predict(xs), do: Enum.map(xs, &predict_one(&1, state()))

  defp predict_one(x, {slope, intercept}) when is_number(x), do: slope * x + intercept

  defp predict_one(x, _),
    do: %Mlports.Failure{code: :invalid_argument, message: "a number is needed, not #{inspect(x)}"}

  @doc "What a stream's function gives is enumerated only as fast as it is read."
  @stream true
  def steps(n, seconds \\ 0.1) do
    Stream.map(1..n//1, fn number ->
      Process.sleep(round(1000 * seconds))
      progress(number, n)
      number
    end)
  end
end
