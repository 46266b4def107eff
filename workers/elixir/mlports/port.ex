defmodule Mlports.Port do
  @moduledoc """
  A host: opens a worker written in any language as a port, calls it, and ends with it, so that a supervisor restarts it
  as it restarts any child.

      children = [{Mlports.Port, name: Digits, command: ["python", "digits.py"], service: "digits"}]
      Supervisor.start_link(children, strategy: :one_for_one)
      {:ok, label} = Mlports.Port.call(Digits, "predict", [pixels], timeout: 1_000)

  Options of `start_link`:

  - `command` — the program, looked for on the path, and its arguments
  - `name` — to register under; `id` of the child, `Mlports.Port` without one
  - `service` (""), `replica` (0), `config` (%{}) — what $/hello says
  - `env` ([]), `cd` — pairs of strings; the folder to run in
  - `start_timeout` (30000 ms) — for the answer to $/hello
  - `shutdown` (5000 ms) — for its end after $/stop, before it is killed
  - `max_frame` (67108864) — bytes that the worker may send in one message
  - `on_call` — `fn method, params -> {:ok, result} | {:error, %Mlports.Failure{}} end`: serves the worker's own calls

  Options of a call: `timeout` (30000 ms), `input` (a list: the streamed argument), `meta` (%{}).
  """

  alias Mlports.{Failure, Msgpack, PortServer}

  @timeout 30_000

  @doc """
  Starts the worker and returns when it is ready to serve: it has answered $/hello.

  Otherwise `{:error, {:exit_status, n}}`, `{:error, :start_timeout}` or `{:error, {:violation, name, text}}`.
  """
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    GenServer.start_link(PortServer, Map.new(options), [timeout: :infinity] ++ Keyword.take(options, [:name]))
  end

  @doc "A permanent child. Its shutdown leaves the worker its own time first."
  def child_spec(options) do
    shutdown = Keyword.get(options, :shutdown, 5000)

    %{
      id: Keyword.get(options, :name, __MODULE__),
      start: {__MODULE__, :start_link, [options]},
      shutdown: if(shutdown == :infinity, do: :infinity, else: shutdown + 2000)
    }
  end

  @doc "Asks the worker to finish what it has and to end; kills it when its time for that is over."
  def stop(server), do: GenServer.stop(server)

  @doc "What the worker said of itself: name, language, sdk, methods, features, concurrency; and its os_pid."
  def info(server), do: GenServer.call(server, :info)

  @doc "Calls a method and waits for its result. Never raises: a worker that is gone, or dies meanwhile, is `:unavailable`."
  @spec call(GenServer.server(), String.t() | atom, list, keyword) :: {:ok, term} | {:error, Failure.t()}
  def call(server, method, params, options \\ []) do
    with {:ok, request} <- request(method, params, options) do
      try do
        GenServer.call(server, request, :infinity)
      catch
        :exit, {reason, _} -> lost(reason)
      end
    end
  end

  @doc "The same; raises `Mlports.Failure`."
  def call!(server, method, params, options \\ []) do
    case call(server, method, params, options) do
      {:ok, result} -> result
      {:error, failure} -> raise failure
    end
  end

  @doc "The same without waiting: the result is `await`ed later. For many calls at once."
  def async(server, method, params, options \\ []) do
    with {:ok, request} <- request(method, params, options), do: {:sent, :gen_server.send_request(server, request)}
  end

  @doc "The result of an `async` call; `:timeout` when it has not come after `timeout` ms, and may be awaited again."
  def await(sent, timeout \\ :infinity)
  def await({:error, _} = error, _), do: error

  def await({:sent, id}, timeout) do
    case :gen_server.wait_response(id, timeout) do
      {:reply, result} -> result
      :timeout -> :timeout
      {:error, {reason, _}} -> lost(reason)
    end
  end

  @doc "Runs the method and waits for nothing; nobody learns whether it failed."
  def cast(server, method, params), do: GenServer.cast(server, {:cast, Msgpack.encode([2, to_string(method), params])})

  @doc """
  A streamed answer as an Enumerable: called when it is enumerated, the worker held when nobody takes, cancelled when
  the enumeration stops early. Raises `Mlports.Failure` where the stream fails.
  """
  @spec stream(GenServer.server(), String.t() | atom, list, keyword) :: Enumerable.t()
  def stream(server, method, params, options \\ []) do
    Stream.resource(fn -> begin(server, request(method, params, options)) end, &next/1, &close/1)
  end

  defp begin(_, {:error, failure}), do: raise(failure)

  defp begin(server, {:ok, request}) do
    ref = make_ref()
    monitor = Process.monitor(server)
    GenServer.cast(server, {:stream, {self(), ref}, request})
    {server, ref, monitor}
  end

  defp next({server, ref, monitor} = stream) do
    receive do
      {:mlports_item, ^ref, item} ->
        GenServer.cast(server, {:taken, ref})
        {[item], stream}

      {:mlports_done, ^ref, {:ok, _}} ->
        {:halt, stream}

      {:mlports_done, ^ref, {:error, failure}} ->
        raise failure

      {:DOWN, ^monitor, :process, _, reason} ->
        {:error, failure} = lost(reason)
        raise failure
    end
  end

  defp close({server, ref, monitor}) do
    Process.demonitor(monitor, [:flush])
    GenServer.cast(server, {:cancel, ref})
    drop(ref)
  end

  defp drop(ref) do
    receive do
      {:mlports_item, ^ref, _} -> drop(ref)
      {:mlports_done, ^ref, _} -> :ok
    after
      0 -> :ok
    end
  end

  # Checked here, so that what cannot be sent fails its caller and not the port.
  defp request(method, params, options) do
    {timeout, input, meta} = {Keyword.get(options, :timeout, @timeout), options[:input], Keyword.get(options, :meta, %{})}
    Msgpack.encode([params, meta, input])
    {:ok, {:call, to_string(method), params, meta, timeout, input}}
  rescue
    error in Msgpack.Unencodable ->
      {:error, %Failure{code: :invalid_argument, message: "the arguments cannot be sent: #{error.message}"}}
  end

  defp lost(reason) do
    {:error, %Failure{code: :unavailable, message: "there is no worker: #{inspect(reason, limit: 12)}"}}
  end
end
