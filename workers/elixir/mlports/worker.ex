defmodule Mlports.Worker do
  @moduledoc """
  A worker: a program whose methods others call (section 1 of the protocol).

      defmodule Line do
        use Mlports.Worker, name: "line"

        def setup(config), do: config["slope"]

        @batch idempotent: true
        def predict(xs), do: Enum.map(xs, &(state() * &1))

        @stream true
        def count(n), do: 0..(n - 1)//1
      end

      Line.run()

  `@method`, `@batch` or `@stream` before a function makes it a method of the worker, of that name. Options:
  `idempotent: true` (doing it twice is as good as once), `input: true` (its last argument is a stream of what the caller
  sends, an Enumerable), `name: "other"`. Options of `use`: `name`, `concurrency` (calls worked on at once; 1).
  """

  alias Mlports.{Failure, Job, Server}

  defmacro __using__(options) do
    quote do
      @mlports_options unquote(options)
      @on_definition Mlports.Worker
      @before_compile Mlports.Worker
      Module.register_attribute(__MODULE__, :mlports_handlers, accumulate: true)
      import Mlports.Worker, except: [run: 1, __on_definition__: 6, __using__: 1, __before_compile__: 1]

      @doc "Serves this worker's methods until the orchestrator says stop or goes away, and ends the VM."
      def run, do: Mlports.Worker.run(__MODULE__)
    end
  end

  @doc false
  def __on_definition__(env, :def, name, arguments, _guards, _body) do
    for kind <- [:method, :batch, :stream], options = Module.delete_attribute(env.module, kind) do
      options = if is_list(options), do: options, else: []
      defaults = Enum.count(arguments, &match?({:\\, _, _}, &1))
      most = length(arguments)
      Module.put_attribute(env.module, :mlports_handlers, {kind, name, (most - defaults)..most, options})
    end
  end

  def __on_definition__(_, _, _, _, _, _), do: :ok

  defmacro __before_compile__(env) do
    handlers =
      for {kind, function, arities, options} <- Module.get_attribute(env.module, :mlports_handlers) do
        functions = for arity <- arities, do: {arity, quote(do: &(__MODULE__.unquote(function) / unquote(arity)))}

        quote do
          %{
            name: unquote(to_string(options[:name] || function)),
            kind: unquote(kind),
            functions: %{unquote_splicing(functions)},
            idempotent: unquote(options[:idempotent] || false),
            input: unquote(options[:input] || false)
          }
        end
      end

    setup = if Module.defines?(env.module, {:setup, 1}), do: quote(do: &__MODULE__.setup/1)

    quote do
      @doc false
      def __mlports__ do
        %{
          name: Keyword.fetch!(@mlports_options, :name),
          concurrency: Keyword.get(@mlports_options, :concurrency, 1),
          setup: unquote(setup),
          handlers: Map.new(unquote(handlers), &{&1.name, &1})
        }
      end
    end
  end

  @doc "Serves the methods of `module`. Never returns. The exit status is 0 at a clean end, else 1, with the reason on stderr."
  @spec run(module) :: no_return
  def run(module) do
    open = Mlports.Stdio.take()

    reason =
      case Server.start_monitor(module.__mlports__(), open) do
        {:ok, {_, monitor}} ->
          receive do
            {:DOWN, ^monitor, :process, _, reason} -> reason
          end

        {:error, reason} ->
          reason
      end

    System.halt(status(reason))
  end

  defp status(:normal), do: 0
  defp status({:shutdown, :output_closed}), do: 1

  defp status({:shutdown, text}) when is_binary(text) do
    IO.puts(:stderr, text)
    1
  end

  defp status(reason) do
    IO.puts(:stderr, "the worker's server ended: #{inspect(reason)}")
    1
  end

  @doc "The service's config, as it came with $/hello."
  @spec config() :: map
  def config, do: :persistent_term.get({:mlports, :config}, %{})

  @doc "What `setup` gave. It is shared by all handlers without being copied."
  def state, do: :persistent_term.get({:mlports, :state}, nil)

  @doc "Puts another in its place. For rare changes, such as a new model: it costs a garbage collection of all processes."
  def set_state(state), do: :persistent_term.put({:mlports, :state}, state)

  @doc "Calls \"service.method\" by way of the orchestrator; waits `timeout` ms, and never past this call's own deadline."
  @spec call(String.t(), list, timeout) :: {:ok, term} | {:error, Failure.t()}
  def call(target, params, timeout \\ :infinity) do
    limit = min(timeout, deadline())
    meta = if limit == :infinity, do: %{}, else: %{"deadline_ms" => limit}
    Server.call(target, params, Map.merge(Job.passed_on(), meta), limit)
  end

  @doc "Sends \"service.method\" its arguments and waits for nothing."
  def cast(target, params), do: Server.notify(target, params)

  @doc "A line in the orchestrator's log. level: debug, info, warning or error."
  def log(level, text, fields \\ %{}), do: Server.notify("$/log", [to_string(level), text, Map.new(fields)])

  @doc "Tells how much of this call is done."
  def progress(done, total \\ nil, text \\ "") do
    case Job.context() do
      %{id: id} when is_integer(id) -> Server.notify("$/progress", [id, done, total, text])
      _ -> :ok
    end
  end

  @doc """
  Milliseconds until the caller gives up, or `:infinity`.

  The handler's process is ended then by an exit signal `:deadline_exceeded`, and by `:cancelled` when the call is
  cancelled: one that traps exits gets them as messages.
  """
  @spec deadline() :: timeout
  def deadline do
    case Job.context() do
      %{until: until} when is_integer(until) -> max(0, until - System.monotonic_time(:millisecond))
      _ -> :infinity
    end
  end

  @doc "Ends this call with an error of that code (section 4.4 lists them). options: data, retryable."
  @spec fail(atom | String.t(), String.t(), keyword) :: no_return
  def fail(code, message, options \\ []), do: raise(Failure, [code: code, message: message] ++ options)
end
