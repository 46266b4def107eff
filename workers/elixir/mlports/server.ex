defmodule Mlports.Server do
  @moduledoc "A worker's side of the conversation: reads messages, starts a process for each request whose turn it is, answers."

  use GenServer

  alias Mlports.{Failure, Job, Msgpack, Wire}

  @features ~w(ping cancel stream input batch ndarray)
  @flush_bytes 262_144
  # Milliseconds that handlers have left when the input ended without $/stop.
  @grace 500

  defstruct [:worker, :channel, :write, frames: %Wire.Frames{}, arrays: false, max_frame: nil, phase: :hello] ++
              [open: %{}, waiting: :queue.new(), running: %{}, calls: %{}, next_id: 0, cancels: false] ++
              [stopping: false, ended: false, out: [], out_size: 0]

  def start_monitor(worker, open), do: :gen_server.start_monitor({:local, __MODULE__}, __MODULE__, {worker, open}, [])

  @doc "Makes a call by way of the orchestrator."
  def call(target, params, meta, timeout) do
    Msgpack.encode([target, params, meta])
    GenServer.call(__MODULE__, {:call, target, params, meta, timeout}, :infinity)
  rescue
    error in Msgpack.Unencodable ->
      {:error, %Failure{code: :invalid_argument, message: "the arguments cannot be sent: #{error.message}"}}
  end

  def notify(method, params) do
    send(__MODULE__, {:frame, Msgpack.encode([2, method, params])})
    :ok
  end

  @impl true
  def init({worker, open}) do
    Process.flag(:trap_exit, true)
    {channel, write} = open.()
    {:ok, %__MODULE__{worker: worker, channel: channel, write: write, max_frame: Wire.default_max_frame()}}
  end

  @impl true
  def handle_call({:call, target, params, meta, timeout}, {pid, _} = from, %{next_id: id} = s) do
    payload = Msgpack.encode([0, id, target, params] ++ if(meta == %{}, do: [], else: [meta]))

    if byte_size(payload) > s.max_frame do
      {:reply, {:error, %Failure{code: :resource_exhausted, message: "the arguments are too long"}}, s, due(s)}
    else
      timer = if timeout != :infinity, do: Process.send_after(self(), {:late_call, id}, timeout)
      call = %{from: from, pid: pid, monitor: Process.monitor(pid), timer: timer}
      proceed(write(payload, %{s | calls: Map.put(s.calls, id, call), next_id: id + 1}))
    end
  end

  @impl true
  def handle_info(:timeout, s), do: {:noreply, flush(s)}

  def handle_info({channel, {:data, data}}, %{channel: channel} = s) do
    {payloads, next} = Wire.feed(data, s.frames)

    try do
      Enum.reduce(payloads, s, &receive_frame/2)
    catch
      {:violation, name, text} -> violated(name, text, s)
    else
      fed ->
        case next do
          {:violation, name, text} -> violated(name, text, fed)
          frames -> proceed(start_waiting(%{fed | frames: %{frames | max: fed.max_frame}}))
        end
    end
  end

  def handle_info({:answer, id, payload}, s), do: proceed(start_waiting(answered(id, payload, s)))
  def handle_info({:frame, payload}, s), do: proceed(write(payload, s))

  def handle_info({:input_credit, id, n}, s) do
    case s.open do
      %{^id => %{input: due} = request} when is_integer(due) ->
        granted = %{s | open: %{s.open | id => %{request | input: due + n}}}
        proceed(write(Msgpack.encode([2, "$/input_credit", [id, n]]), granted))

      %{^id => %{input: :cut, at: pid}} ->
        send(pid, :mlports_input_cut)
        proceed(s)

      _ ->
        proceed(s)
    end
  end

  def handle_info({:late, id}, s), do: proceed(start_waiting(give_up(id, :deadline_exceeded, s)))

  def handle_info({:late_call, id}, s) do
    case s.calls do
      %{^id => %{from: from}} when from != nil ->
        GenServer.reply(from, {:error, %Failure{code: :deadline_exceeded, message: "the call's deadline passed"}})
        proceed(abandon_call(id, s))

      _ ->
        proceed(s)
    end
  end

  def handle_info({:ready, pid}, %{phase: {:setting_up, hello, pid}} = s), do: proceed(start_waiting(say_hello(hello, s)))
  def handle_info({:DOWN, monitor, :process, pid, reason}, s), do: down(monitor, pid, reason, s)
  def handle_info({channel, :eof}, %{channel: channel} = s), do: input_ended(s)
  def handle_info({:EXIT, channel, _}, %{channel: channel} = s), do: {:stop, {:shutdown, :output_closed}, s}
  def handle_info(:out_of_time, s), do: {:stop, :normal, flush(s)}
  def handle_info(_, s), do: proceed(s)

  # After every event: ends when there is nothing left to do, and writes what is due before waiting for anything.
  defp proceed(s) do
    if (s.stopping or s.ended) and s.open == %{} and s.running == %{} and :queue.is_empty(s.waiting),
      do: {:stop, :normal, flush(s)},
      else: {:noreply, s, due(s)}
  end

  defp due(%{out: []}), do: :infinity
  defp due(_), do: 0

  defp write(payload, s) do
    frame = Wire.frame(payload)
    written = %{s | out: [s.out | frame], out_size: s.out_size + IO.iodata_length(frame)}
    if written.out_size > @flush_bytes, do: flush(written), else: written
  end

  defp flush(%{out: []} = s), do: s

  defp flush(s) do
    try do
      s.write.(s.out)
    rescue
      ArgumentError -> send(self(), {:EXIT, s.channel, :closed})
    end

    %{s | out: [], out_size: 0}
  end

  defp violated(name, text, s), do: {:stop, {:shutdown, "#{name}: #{text}"}, flush(s)}

  defp input_ended(s) do
    case Wire.ended(s.frames) do
      {:violation, name, text} ->
        violated(name, text, s)

      :ok when s.phase != :serving ->
        {:stop, :normal, s}

      :ok ->
        s.stopping || Process.send_after(self(), :out_of_time, @grace)
        proceed(%{s | ended: true, open: Map.new(s.open, fn {id, request} -> {id, cut_input(request)} end)})
    end
  end

  defp cut_input(%{input: due} = request) when is_integer(due) do
    request.at && send(request.at, :mlports_input_cut)
    %{request | input: :cut}
  end

  defp cut_input(request), do: request

  # -- what came in

  defp receive_frame(payload, s) do
    message = Wire.decode(payload, s.arrays)

    case s.phase do
      :serving -> receive_message(message, byte_size(payload), s)
      :hello -> receive_hello(message, s)
      _ -> too_early(message)
    end
  end

  defp receive_hello({:request, id, "$/hello", params, _}, s) do
    hello = Wire.hello(params)
    :persistent_term.put({:mlports, :config}, hello.config)
    {setup, server} = {s.worker.setup, self()}
    {pid, _} = spawn_monitor(fn -> set_up(setup, hello.config, server) end)
    %{s | phase: {:setting_up, Map.put(hello, :id, id), pid}, max_frame: hello.max_frame}
  end

  defp receive_hello(message, _), do: too_early(message)

  defp too_early({:response, id, _, _, _}), do: Wire.violation(:UnknownId, "a response to #{id}, which was never sent")
  defp too_early(_), do: Wire.violation(:HandshakeExpected, "a message before $/hello was answered")

  # What setup starts and links, and the tables that it makes, live as long as this process: until the end.
  defp set_up(setup, config, server) do
    try do
      setup && Mlports.Worker.set_state(setup.(config))
    catch
      kind, reason -> exit({:set_up_failed, Exception.format(kind, reason, __STACKTRACE__)})
    end

    send(server, {:ready, self()})
    Process.sleep(:infinity)
  end

  defp say_hello(hello, s) do
    answer = %{
      protocol: 1,
      max_frame: s.max_frame,
      name: s.worker.name,
      language: "elixir",
      sdk: "mlports-elixir 0.1.0",
      methods: Map.new(s.worker.handlers, fn {name, handler} -> {name, Job.info(handler)} end),
      features: @features,
      concurrency: s.worker.concurrency
    }

    serving = %{s | phase: :serving, arrays: "ndarray" in hello.features, cancels: "cancel" in hello.features}
    write(Msgpack.encode([1, hello.id, nil, answer]), serving)
  end

  defp receive_message({:request, id, method, params, meta}, _, s) do
    is_map_key(s.open, id) && Wire.violation(:DuplicateId, "the request #{id} is open already")
    receive_request(method, id, params, meta, s)
  end

  defp receive_message({:response, id, error, result, _}, _, s) do
    case s.calls do
      %{^id => call} ->
        call.from && GenServer.reply(call.from, if(error, do: {:error, Wire.failure(error)}, else: {:ok, result}))
        Process.demonitor(call.monitor, [:flush])
        call.timer && Process.cancel_timer(call.timer)
        %{s | calls: Map.delete(s.calls, id)}

      _ ->
        stray(id, s)
    end
  end

  defp receive_message({:notification, "$/" <> _ = method, params, _}, size, s), do: control(method, params, size, s)

  defp receive_message({:notification, method, params, meta}, _, s) do
    case s.worker.handlers do
      %{^method => %{input: false} = handler} ->
        %{s | waiting: :queue.in({:cast, job(nil, handler, params, meta, s)}, s.waiting)}

      _ ->
        text = "a cast to #{method}, which takes none here, was dropped"
        write(Msgpack.encode([2, "$/log", ["warning", text, %{}]]), s)
    end
  end

  @spec stray(non_neg_integer, struct) :: no_return
  defp stray(id, %{next_id: next}) when id < next,
    do: Wire.violation(:AnsweredTwice, "the request #{id} was answered before")

  defp stray(id, _), do: Wire.violation(:UnknownId, "the request #{id} was never sent")

  defp receive_request("$/hello", _, _, _, _), do: Wire.violation(:HandshakeExpected, "a second $/hello")
  defp receive_request("$/ping", id, _, _, s), do: write(Msgpack.encode([1, id, nil, nil]), s)

  defp receive_request(_, id, _, _, %{stopping: true} = s),
    do: refuse(id, %Failure{code: :unavailable, message: "the worker is stopping", retryable: true}, s)

  defp receive_request(method, id, params, meta, s) do
    case s.worker.handlers do
      %{^method => handler} ->
        case refusal(handler, params, meta) do
          nil -> accept(job(id, handler, params, meta, s), s)
          text -> refuse(id, %Failure{code: :invalid_argument, message: "#{method}: #{text}"}, s)
        end

      handlers ->
        known = handlers |> Map.keys() |> Enum.sort() |> Enum.join(", ")
        text = "the worker #{s.worker.name} has no method #{method}; it has: #{known}"
        refuse(id, %Failure{code: :unimplemented, message: text}, s)
    end
  end

  defp refusal(_, _, %{"batch" => _, "credit" => _}), do: "a batch gives no stream"
  defp refusal(_, _, %{"batch" => _, "input" => _}), do: "a batch takes no stream"

  defp refusal(_, params, %{"batch" => n}) when length(params) != n, do: "the batch's number and its params do not agree"

  defp refusal(%{input: true}, _, meta) when not is_map_key(meta, "input"),
    do: "it takes a streamed argument, and this call has none"

  defp refusal(%{input: false}, _, %{"input" => true}), do: "it takes no streamed argument"
  defp refusal(_, _, _), do: nil

  defp refuse(id, failure, s), do: write(Job.error(id, failure), s)

  defp job(id, handler, params, meta, s) do
    until =
      case meta do
        %{"deadline_ms" => left} when is_number(left) and left < 1.0e12 -> System.monotonic_time(:millisecond) + ceil(left)
        _ -> :infinity
      end

    %{id: id, handler: handler, params: params, meta: meta, until: until, server: self(), max_frame: s.max_frame}
  end

  defp accept(%{id: id, meta: %{"deadline_ms" => left}}, s) when left <= 0,
    do: refuse(id, %Failure{code: :deadline_exceeded, message: "the deadline passed before the call began"}, s)

  defp accept(%{id: id, until: until, meta: meta} = job, s) do
    timer = if until != :infinity, do: Process.send_after(self(), {:late, id}, until, abs: true)
    request = %{job: job, at: nil, timer: timer, input: if(meta["input"], do: 0)}
    %{s | open: Map.put(s.open, id, request), waiting: :queue.in({:request, id}, s.waiting)}
  end

  defguardp is_id(id) when is_integer(id) and id >= 0

  defp control("$/cancel", [id | _], _, s) when is_id(id), do: give_up(id, :cancelled, s)

  defp control("$/credit", [id, n | _], _, s) when is_id(id) and is_integer(n) and n >= 1 do
    case s.open do
      %{^id => %{at: pid}} when is_pid(pid) ->
        send(pid, {:mlports_credit, n})
        s

      %{^id => %{job: %{meta: %{"credit" => credit}}}} ->
        put_in(s.open[id].job.meta["credit"], credit + n)

      _ ->
        s
    end
  end

  defp control("$/input", [id, value | _], size, s) when is_id(id) do
    case s.open do
      %{^id => %{input: due, at: pid} = request} when is_integer(due) and due > 0 ->
        send(pid, {:mlports_input, value, size})
        %{s | open: %{s.open | id => %{request | input: due - 1}}}

      %{^id => _} ->
        Wire.violation(:CreditExceeded, "an input item for #{id} without credit")

      _ ->
        s
    end
  end

  defp control("$/input_end", [id | _], _, s) when is_id(id) do
    case s.open do
      %{^id => %{input: nil}} ->
        Wire.violation(:CreditExceeded, "an input's end for #{id}, which has none")

      %{^id => request} ->
        request.at && send(request.at, :mlports_input_end)
        %{s | open: %{s.open | id => %{request | input: :ended}}}

      _ ->
        s
    end
  end

  defp control("$/item", [id, _ | _], _, s) when is_id(id) do
    is_map_key(s.calls, id) || stray(id, s)
    Wire.violation(:CreditExceeded, "an item for the request #{id}, which asked for none")
  end

  defp control("$/input_credit", [id, n | _], _, s) when is_id(id) and is_integer(n) and n >= 1, do: s
  defp control("$/stop", _, _, s), do: %{s | stopping: true}

  defp control(method, params, _, _) when method in ~w($/cancel $/credit $/input $/input_end $/item $/input_credit),
    do: Wire.violation(:InvalidMessage, "#{method} with #{inspect(params, limit: 8)}")

  defp control(_, _, _, s), do: s

  # -- requests at work

  defp start_waiting(%{phase: :serving} = s) when map_size(s.running) < s.worker.concurrency do
    case :queue.out(s.waiting) do
      {:empty, _} ->
        s

      {{:value, {:cast, job}}, rest} ->
        begun = flush(s)
        {_, monitor} = Job.start(job)
        start_waiting(%{begun | waiting: rest, running: Map.put(s.running, monitor, :cast)})

      {{:value, {:request, id}}, rest} ->
        start_waiting(start_request(id, %{s | waiting: rest}))
    end
  end

  defp start_waiting(s), do: s

  defp start_request(id, s) do
    case s.open do
      %{^id => %{job: job, at: nil} = request} ->
        # If this one is the worker's death, the answers before it could not be had again.
        s = if job.handler.idempotent, do: s, else: flush(s)
        {pid, monitor} = Job.start(job)
        if request.input == :ended, do: send(pid, :mlports_input_end)
        if request.input == :cut, do: send(pid, :mlports_input_cut)
        %{s | open: %{s.open | id => %{request | at: pid}}, running: Map.put(s.running, monitor, {:request, id})}

      _ ->
        s
    end
  end

  defp answered(id, payload, s) do
    case Map.pop(s.open, id) do
      {nil, _} ->
        s

      {request, rest} ->
        request.timer && Process.cancel_timer(request.timer, async: true, info: false)
        write(payload, %{s | open: rest})
    end
  end

  # Ends a request that nobody waits for. One at work answers when its process has ended, unless it traps exits.
  defp give_up(id, reason, s) do
    case s.open do
      %{^id => %{at: nil}} ->
        answered(id, lost(id, reason), s)

      %{^id => %{at: pid}} ->
        Process.exit(pid, reason)
        s

      _ ->
        s
    end
  end

  defp down(monitor, pid, reason, s) do
    case {Map.pop(s.running, monitor), s.phase} do
      {{{:request, id}, rest}, _} ->
        proceed(start_waiting(abandon_calls(pid, answered(id, lost(id, reason), %{s | running: rest}))))

      {{:cast, rest}, _} ->
        proceed(start_waiting(abandon_calls(pid, %{s | running: rest})))

      {_, {:setting_up, _, ^pid}} ->
        {:stop, {:shutdown, set_up_ended(reason)}, s}

      _ ->
        proceed(abandon_calls(pid, s))
    end
  end

  defp set_up_ended({:set_up_failed, text}), do: "the worker's setup failed: #{text}"
  defp set_up_ended(reason), do: "what setup started ended: #{inspect(reason)}"

  defp lost(id, reason) do
    failure =
      case reason do
        :cancelled -> %Failure{code: :cancelled, message: "the call was cancelled"}
        :deadline_exceeded -> %Failure{code: :deadline_exceeded, message: "the deadline passed"}
        _ -> %Failure{code: :unknown, message: "exit: #{inspect(reason, limit: 20)}"}
      end

    Job.error(id, failure)
  end

  # -- calls of this worker's own

  # Nobody waits for its answer any more, which still comes.
  defp abandon_call(id, s) do
    abandoned = put_in(s.calls[id].from, nil)
    if s.cancels, do: write(Msgpack.encode([2, "$/cancel", [id]]), abandoned), else: abandoned
  end

  defp abandon_calls(pid, s) do
    Enum.reduce(s.calls, s, fn {id, call}, s -> if call.pid == pid and call.from, do: abandon_call(id, s), else: s end)
  end
end
