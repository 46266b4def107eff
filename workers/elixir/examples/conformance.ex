defmodule Conformance do
  @moduledoc "A method for each thing that workers can do: what `mlports check` asks for."

  use Mlports.Worker, name: "conformance"

  def setup(_config), do: :ets.new(:marks, [:named_table, :public, :ordered_set])

  @method true
  def echo(value), do: value

  @method idempotent: true
  def add(a, b), do: a + b

  @method name: "fail"
  def raises(message), do: raise(message)

  @method true
  def refuse(code, message), do: fail(code, message)

  @method true
  def sleep(seconds) do
    Process.sleep(round(1000 * seconds))
    seconds
  end

  @method true
  def print(text) do
    IO.puts(text)
    nil
  end

  @batch idempotent: true
  def root(numbers), do: Enum.map(numbers, &one_root/1)

  defp one_root(n) when is_number(n) and n >= 0, do: :math.sqrt(n)
  defp one_root(n), do: %Mlports.Failure{code: :invalid_argument, message: "no root of #{inspect(n)}"}

  @stream true
  def count(n), do: 0..(n - 1)//1

  @method input: true
  def total(numbers), do: Enum.sum(numbers)

  @method true
  def relay(target, params) do
    case call(target, params) do
      {:ok, result} -> result
      {:error, failure} -> raise failure
    end
  end

  @method true
  def note(level, text) do
    log(level, text)
    nil
  end

  @method true
  def advance(n) do
    for i <- 1..n//1, do: progress(i, n)
    n
  end

  @method true
  def mark(value) do
    :ets.insert(:marks, {:ets.info(:marks, :size), value})
    nil
  end

  @method true
  def marks, do: for({_, value} <- :ets.tab2list(:marks), do: value)
end
