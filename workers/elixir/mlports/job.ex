defmodule Mlports.Job do
  @moduledoc "One request or cast, in a process of its own: calls the handler and answers for it."

  alias Mlports.{Failure, Msgpack}

  @context :"$mlports_context"

  @doc "What $/hello's answer tells of a handler."
  def info(handler) do
    info = %{batch: handler.kind == :batch, stream: handler.kind == :stream, idempotent: handler.idempotent}
    if handler.input, do: Map.put(info, :input, true), else: info
  end

  def start(job), do: spawn_monitor(fn -> run(job) end)

  @doc "Of the job that this process is; %{} in any other."
  def context, do: Process.get(@context, %{})

  @doc "The meta that calls made for this request carry."
  def passed_on do
    case context() do
      %{id: nil, meta: meta} -> Map.take(meta, ["traceparent"])
      %{id: id, meta: meta} -> meta |> Map.take(["traceparent"]) |> Map.put("parent", id)
      _ -> %{}
    end
  end

  defp run(%{id: id, handler: handler, server: server} = job) do
    Process.put(@context, Map.take(job, [:id, :meta, :until, :server]))

    case {attempt(fn -> packed(outcome(job), handler) end), id} do
      {{:ok, _}, nil} -> :ok
      {{:error, failure}, nil} -> Mlports.Worker.log(:error, "the cast to #{handler.name} failed: #{failure.message}")
      {{:ok, bytes}, id} -> send(server, {:answer, id, result(id, bytes, job)})
      {{:error, failure}, id} -> send(server, {:answer, id, error(id, failure)})
    end
  end

  defp attempt(fun) do
    {:ok, fun.()}
  catch
    kind, reason -> {:error, Failure.of(kind, reason, __STACKTRACE__)}
  end

  defp packed({:packed, bytes}, _), do: bytes

  defp packed(result, handler) do
    Msgpack.encode(result, 1)
  rescue
    error in Msgpack.Unencodable -> raise unsendable(handler, error)
  end

  defp unsendable(handler, error) do
    %Failure{code: :internal, message: "the result of #{handler.name} cannot be sent: #{error.message}"}
  end

  defp result(id, bytes, %{max_frame: max, handler: handler}) do
    payload = [<<0x94, 1>>, Msgpack.encode(id), 0xC0, bytes]

    case IO.iodata_length(payload) do
      size when size > max ->
        text = "the result of #{handler.name} has #{size} bytes, the caller takes #{max} at most"
        error(id, %Failure{code: :resource_exhausted, message: text})

      _ ->
        payload
    end
  end

  @doc "The answer that is this failure; without its data where that cannot be sent."
  def error(id, failure) do
    Msgpack.encode([1, id, Failure.wire(failure), nil])
  rescue
    Msgpack.Unencodable -> Msgpack.encode([1, id, Failure.wire(%{failure | data: nil}), nil])
  end

  defp outcome(%{meta: %{"batch" => _}, handler: handler, params: items}),
    do: {:packed, pairs(results(handler, items), handler)}

  defp outcome(%{handler: %{kind: :batch} = handler, params: params}) do
    case results(handler, [params]) do
      [{:ok, result}] -> result
      [{:error, failure}] -> raise failure
    end
  end

  defp outcome(%{handler: %{kind: :stream} = handler, params: params, meta: %{"credit" => credit}} = job) do
    items = call(handler, with_input(job, params))
    Enum.reduce(items, credit, &item(&1, &2, job))
    nil
  end

  defp outcome(%{handler: handler, params: params} = job), do: one(handler, with_input(job, params))

  defp with_input(%{meta: %{"input" => true}} = job, params), do: params ++ [Mlports.Input.stream(job)]
  defp with_input(_, params), do: params

  defp one(%{kind: :stream} = handler, params), do: Enum.to_list(call(handler, params))
  defp one(handler, params), do: call(handler, params)

  defp call(handler, params) do
    case handler.functions[length(params)] do
      nil -> raise wrong_arity(handler, length(params))
      function -> apply(function, params)
    end
  end

  defp wrong_arity(%{name: name, functions: functions, input: input}, given) do
    streamed = if input, do: 1, else: 0
    due = functions |> Map.keys() |> Enum.sort() |> Enum.map_join(" or ", &to_string(&1 - streamed))
    %Failure{code: :invalid_argument, message: "#{name} takes #{due} arguments, not #{given - streamed}"}
  end

  # The outcome of each call in a batch: {:ok, result} or {:error, failure}.
  defp results(%{kind: :batch, functions: functions} = handler, items) do
    arity = if is_list(hd(items)), do: length(hd(items)), else: 0
    same = Enum.all?(items, &(is_list(&1) and length(&1) == arity))

    cond do
      same and arity > 0 and functions[arity] != nil -> columns(functions[arity], items, handler)
      length(items) > 1 -> Enum.flat_map(items, &results(handler, [&1]))
      true -> [{:error, wrong_arity(handler, arity)}]
    end
  end

  defp results(handler, items), do: Enum.map(items, fn params -> attempt(fn -> one(handler, arguments(params)) end) end)

  defp arguments(params) when is_list(params), do: params

  defp arguments(_),
    do: raise(Failure, code: :invalid_argument, message: "a call in a batch is an array of its arguments")

  defp columns(function, items, handler) do
    case attempt(fn -> apply(function, Enum.zip_with(items, & &1)) end) do
      {:ok, results} when is_list(results) and length(results) == length(items) ->
        Enum.map(results, fn
          failure when is_exception(failure) -> {:error, Failure.of(:error, failure, [])}
          result -> {:ok, result}
        end)

      {:ok, _} ->
        raise Failure, code: :internal, message: "#{handler.name} did not give #{length(items)} results"

      {:error, failure} when length(items) == 1 ->
        [{:error, failure}]

      # One item may have spoilt it for all. Doing it again one by one tells which, where that is allowed.
      {:error, failure} ->
        if handler.idempotent, do: Enum.flat_map(items, &columns(function, [&1], handler)), else: raise(failure)
    end
  end

  # [error, result] for each, one that cannot be encoded failing alone.
  defp pairs(results, handler) do
    [Msgpack.array_header(length(results), <<>>) | Enum.map(results, &pair(&1, handler))]
  end

  defp pair({:ok, result}, handler) do
    Msgpack.encode([nil, result], 2)
  rescue
    error in Msgpack.Unencodable -> pair({:error, unsendable(handler, error)}, handler)
  end

  defp pair({:error, failure}, _) do
    Msgpack.encode([Failure.wire(failure), nil], 2)
  rescue
    Msgpack.Unencodable -> Msgpack.encode([Failure.wire(%{failure | data: nil}), nil], 2)
  end

  # Sends one item within credit, and gives the credit that is left.
  defp item(value, credit, %{id: id, server: server}) do
    left = credit(credit)
    send(server, {:frame, Msgpack.encode([2, "$/item", [id, value]])})
    left - 1
  end

  defp credit(0) do
    receive do
      {:mlports_credit, n} -> credit(n)
    end
  end

  defp credit(credit) do
    receive do
      {:mlports_credit, n} -> credit(credit + n)
    after
      0 -> credit
    end
  end
end
