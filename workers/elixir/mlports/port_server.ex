defmodule Mlports.PortServer do
  @moduledoc "The process behind `Mlports.Port`: one worker, from its start to its end."

  use GenServer

  require Logger

  alias Mlports.{Failure, Msgpack, Wire}

  @features ~w(ping cancel stream input batch ndarray)
  # Items that a stream may be ahead of whoever takes them.
  @window 16

  defstruct [:port, :os_pid, :writer, :frames, :options, info: nil, features: [], bare: false, arrays: false] ++
              [max_frame: 67_108_864, alive: true, pending: %{}, next_id: 1, streams: %{}, callers: %{}, serving: %{}]

  @impl true
  def init(%{command: [program | arguments]} = options) do
    Process.flag(:trap_exit, true)

    case System.find_executable(program) do
      nil -> {:stop, {:no_such_program, program}}
      executable -> executable |> opened(arguments, options) |> hello()
    end
  end

  defp opened(executable, arguments, options) do
    env = [{~c"MLPORTS_WORKER", ~c"1"}, {~c"MLPORTS_TRANSPORT", false}]
    more = for {name, value} <- Map.get(options, :env, []), do: {to_charlist(name), value && to_charlist(value)}
    cd = if options[:cd], do: [cd: options.cd], else: []

    # Frames are read by hand: packet: 4 allocates whatever a length says, also that of a worker that printed.
    flags = [:stream, :binary, :eof, :exit_status, :use_stdio, :hide, args: arguments, env: env ++ more] ++ cd
    port = Port.open({:spawn_executable, executable}, flags)

    os_pid =
      case Port.info(port, :os_pid) do
        {:os_pid, pid} -> pid
        nil -> nil
      end

    # A worker that does not read holds whoever writes to it: not this process, which watches the deadlines.
    writer = spawn_link(fn -> writer(port) end)
    frames = %Wire.Frames{max: Map.get(options, :max_frame, Wire.default_max_frame())}
    %__MODULE__{port: port, os_pid: os_pid, writer: writer, frames: frames, options: options}
  end

  defp writer(port) do
    receive do
      payload ->
        try do
          Port.command(port, Wire.frame(payload))
        rescue
          ArgumentError -> :ok
        end
    end

    writer(port)
  end

  defp hello(s) do
    hello = %{
      protocol: %{min: 1, max: 1},
      max_frame: s.frames.max,
      features: @features,
      service: Map.get(s.options, :service, ""),
      replica: Map.get(s.options, :replica, 0),
      config: Map.get(s.options, :config, %{})
    }

    post([0, 0, "$/hello", [hello]], s)
    timeout = Map.get(s.options, :start_timeout, 30_000)
    timer = if timeout != :infinity, do: Process.send_after(self(), :start_timeout, timeout)

    case await_hello(s) do
      {:ok, ready} ->
        timer && Process.cancel_timer(timer)
        {:ok, ready}

      {:stop, reason, ended} ->
        kill(ended)
        {:stop, reason}
    end
  end

  defp await_hello(%{port: port, writer: writer} = s) do
    receive do
      {^port, {:data, _}} = data ->
        case handle_info(data, s) do
          {:noreply, %{info: nil} = next} -> await_hello(next)
          {:noreply, ready} -> {:ok, ready}
          stop -> stop
        end

      {^port, {:exit_status, status}} -> {:stop, {:exit_status, status}, %{s | alive: false}}
      {^port, :eof} -> await_hello(s)
      {:EXIT, pid, reason} when is_pid(pid) and pid != writer -> {:stop, reason, s}
      :start_timeout -> {:stop, :start_timeout, s}
    end
  end

  @impl true
  def handle_call(:info, _, s), do: {:reply, Map.put(s.info, :os_pid, s.os_pid), s}
  def handle_call(call, from, s), do: {:noreply, request(call, {:call, from}, s)}

  @impl true
  def handle_cast({:cast, payload}, s) do
    send(s.writer, payload)
    {:noreply, s}
  end

  def handle_cast({:stream, to, call}, s), do: {:noreply, request(call, {:stream, to}, s)}

  def handle_cast({:taken, ref}, s) do
    case s.streams do
      %{^ref => id} -> {:noreply, taken(id, s)}
      _ -> {:noreply, s}
    end
  end

  def handle_cast({:cancel, ref}, s) do
    case s.streams do
      %{^ref => id} -> {:noreply, abandon(id, s)}
      _ -> {:noreply, s}
    end
  end

  @impl true
  def handle_info({port, {:data, data}}, %{port: port} = s) do
    {payloads, next} = Wire.feed(data, s.frames)

    try do
      Enum.reduce(payloads, s, &received/2)
    catch
      {:violation, _, _} = violation -> {:stop, violation, s}
    else
      fed ->
        case next do
          {:violation, _, _} -> {:stop, next, fed}
          frames -> {:noreply, %{fed | frames: frames}}
        end
    end
  end

  def handle_info({port, {:exit_status, 0}}, %{port: port} = s), do: {:stop, :normal, %{s | alive: false}}

  def handle_info({port, {:exit_status, status}}, %{port: port} = s),
    do: {:stop, {:exit_status, status}, %{s | alive: false}}

  # Its output is closed: either it has ended, which its exit status tells now, or it is of no use.
  def handle_info({port, :eof}, %{port: port} = s) do
    shutdown = Map.get(s.options, :shutdown, 5000)
    if shutdown != :infinity, do: Process.send_after(self(), :output_closed, shutdown)
    {:noreply, s}
  end

  def handle_info(:output_closed, s), do: {:stop, :output_closed, s}

  def handle_info({:late, id}, s) do
    case s.pending do
      %{^id => %{to: to}} when to != nil ->
        reply(to, {:error, %Failure{code: :deadline_exceeded, message: "the deadline passed"}})
        {:noreply, abandon(id, s)}

      _ ->
        {:noreply, s}
    end
  end

  def handle_info({:DOWN, monitor, :process, _, reason}, s), do: {:noreply, down(monitor, reason, s)}
  def handle_info({:served, pid, result}, s), do: {:noreply, served(pid, result, s)}
  def handle_info({:EXIT, port, reason}, %{port: port} = s), do: {:stop, {:port, reason}, %{s | alive: false}}
  def handle_info({:EXIT, _, :normal}, s), do: {:noreply, s}
  def handle_info({:EXIT, _, reason}, s), do: {:stop, reason, s}
  def handle_info(_, s), do: {:noreply, s}

  # Whoever waits is told first; then the worker ends, by its own or not.
  @impl true
  def terminate(reason, s) do
    text = "the worker #{Map.get(s.options, :service, "")} ended: #{inspect(reason, limit: 12)}"
    for {_, %{to: to}} <- s.pending, to != nil, do: reply(to, {:error, %Failure{code: :unavailable, message: text}})
    if s.alive and reason != :output_closed and not match?({:violation, _, _}, reason), do: ask_to_end(s)
    kill(s)
  end

  defp ask_to_end(%{port: port} = s) do
    if s.bare, do: signal("TERM", s), else: post([2, "$/stop", ["shutdown"]], s)

    receive do
      {^port, {:exit_status, _}} -> :ok
    after
      Map.get(s.options, :shutdown, 5000) -> :ok
    end
  end

  # What is left of the worker: a port's program leads a process group of its own.
  defp kill(s) do
    signal("KILL", s)
    Port.close(s.port)
  rescue
    ArgumentError -> true
  end

  defp signal(_, %{os_pid: nil}), do: :ok
  defp signal(signal, %{os_pid: os_pid}), do: :os.cmd(~c"kill -s #{signal} -- -#{os_pid}")

  # The state as crash reports show it: without what callers and workers sent.
  @impl true
  def format_status(_reason, [_, s]), do: %{command: s.options.command, os_pid: s.os_pid, pending: map_size(s.pending)}

  # -- requests of ours

  defp request({:call, method, params, meta, timeout, input}, to, %{next_id: id} = s) do
    {pid, room} =
      case to do
        {:call, {pid, _}} -> {pid, nil}
        {:stream, {pid, _}} -> {pid, if("stream" in s.features, do: @window)}
      end

    meta = wanted(meta, timeout, room, input, s)
    payload = Msgpack.encode([0, id, method, params] ++ if(meta == %{}, do: [], else: [meta]))

    case refusal(payload, input, s) do
      nil ->
        send(s.writer, payload)
        monitor = Process.monitor(pid)
        timer = if timeout != :infinity, do: Process.send_after(self(), {:late, id}, timeout)
        pending = %{to: to, monitor: monitor, timer: timer, room: room, taken: 0, input: input}
        s = if match?({:stream, _}, to), do: put_in(s.streams[elem(elem(to, 1), 1)], id), else: s
        %{s | pending: Map.put(s.pending, id, pending), next_id: id + 1, callers: Map.put(s.callers, monitor, id)}

      failure ->
        reply(to, {:error, failure})
        s
    end
  end

  defp refusal(payload, _, %{max_frame: max}) when byte_size(payload) > max,
    do: %Failure{code: :resource_exhausted, message: "the arguments are longer than the worker's max_frame"}

  defp refusal(_, input, s) do
    if input != nil and "input" not in s.features,
      do: %Failure{code: :unimplemented, message: "the worker takes no streamed arguments"}
  end

  # The meta of a request: what the worker can use of it.
  defp wanted(_, _, _, _, %{bare: true}), do: %{}

  defp wanted(meta, timeout, room, input, _) do
    meta
    |> Map.merge(if timeout == :infinity, do: %{}, else: %{"deadline_ms" => timeout})
    |> Map.merge(if room, do: %{"credit" => room}, else: %{})
    |> Map.merge(if input, do: %{"input" => true}, else: %{})
  end

  defp taken(id, s) do
    case s.pending do
      %{^id => %{room: room, taken: taken} = request} when is_integer(room) and taken + 1 >= div(@window, 2) ->
        post([2, "$/credit", [id, taken + 1]], s)
        put_in(s.pending[id], %{request | room: room + taken + 1, taken: 0})

      %{^id => request} ->
        put_in(s.pending[id].taken, request.taken + 1)

      _ ->
        s
    end
  end

  # Nobody waits for its answer any more, which still comes.
  defp abandon(id, s) do
    request = s.pending[id]
    if "cancel" in s.features, do: post([2, "$/cancel", [id]], s)
    released(request, put_in(s.pending[id], %{request | to: nil, input: nil}))
  end

  defp released(request, s) do
    Process.demonitor(request.monitor, [:flush])
    request.timer && Process.cancel_timer(request.timer, async: true, info: false)

    streams =
      case request.to do
        {:stream, {_, ref}} -> Map.delete(s.streams, ref)
        _ -> s.streams
      end

    %{s | callers: Map.delete(s.callers, request.monitor), streams: streams}
  end

  defp reply({:call, from}, result), do: GenServer.reply(from, result)
  defp reply({:stream, {pid, ref}}, result), do: send(pid, {:mlports_done, ref, result})

  # -- what the worker sends

  defp received(payload, s) do
    message = Wire.decode(payload, s.arrays)
    if s.info, do: message(message, s), else: greeted(message, s)
  end

  defp greeted({:response, 0, nil, result, _}, s) do
    info = Wire.hello_answer(result)
    features = Enum.filter(info.features, &(&1 in @features))
    %{s | info: info, features: features, max_frame: info.max_frame, arrays: "ndarray" in features}
  end

  defp greeted({:response, 0, _, _, _}, s) do
    bare = %{name: "", language: "", sdk: "", methods: nil, features: [], concurrency: 1, max_frame: s.max_frame}
    %{s | info: bare, bare: true}
  end

  defp greeted({:response, id, _, _, _}, _), do: Wire.violation(:UnknownId, "a response to #{id}, which was never sent")

  defp greeted({:notification, "$/log", params, _}, s) do
    log(params, s)
    s
  end

  defp greeted({:notification, "$/progress", _, _}, s), do: s
  defp greeted(_, _), do: Wire.violation(:HandshakeExpected, "a message before the answer to $/hello")

  defguardp is_id(id) when is_integer(id) and id >= 0

  defp message({:response, id, error, result, _}, s) do
    case Map.pop(s.pending, id) do
      {nil, _} ->
        stray(id, s)

      {request, rest} ->
        if request.to, do: reply(request.to, if(error, do: {:error, Wire.failure(error)}, else: {:ok, result}))
        released(request, %{s | pending: rest})
    end
  end

  defp message({:request, id, method, params, _}, s), do: serve(id, method, params, s)

  defp message({:notification, "$/item", [id, item | _], _}, s) when is_id(id) do
    case s.pending do
      %{^id => %{room: room, to: to}} when is_integer(room) and room > 0 ->
        with {:stream, {pid, ref}} <- to, do: send(pid, {:mlports_item, ref, item})
        put_in(s.pending[id].room, room - 1)

      %{^id => _} ->
        Wire.violation(:CreditExceeded, "an item for the request #{id} without credit")

      _ ->
        stray(id, s)
    end
  end

  defp message({:notification, "$/input_credit", [id, n | _], _}, s) when is_id(id) and is_integer(n) and n >= 1 do
    case s.pending do
      %{^id => %{input: input}} when is_list(input) -> put_in(s.pending[id].input, give_input(id, n, input, s))
      _ -> s
    end
  end

  defp message({:notification, "$/cancel", [id | _], _}, s) do
    for {pid, {^id, _}} <- s.serving, do: Process.exit(pid, :cancelled)
    s
  end

  defp message({:notification, "$/log", params, _}, s) do
    log(params, s)
    s
  end

  defp message({:notification, method, params, _}, _) when method in ["$/item", "$/input_credit"],
    do: Wire.violation(:InvalidMessage, "#{method} with #{inspect(params, limit: 8)}")

  defp message({:notification, "$/" <> _, _, _}, s), do: s
  defp message({:notification, method, params, _}, s), do: serve(nil, method, params, s)

  @spec stray(non_neg_integer, struct) :: no_return
  defp stray(id, %{next_id: next}) when id < next,
    do: Wire.violation(:AnsweredTwice, "the request #{id} was answered before")

  defp stray(id, _), do: Wire.violation(:UnknownId, "the request #{id} was never sent")

  defp give_input(id, _, [], s) do
    post([2, "$/input_end", [id]], s)
    nil
  end

  defp give_input(_, 0, input, _), do: input

  defp give_input(id, n, [item | rest], s) do
    post([2, "$/input", [id, item]], s)
    give_input(id, n - 1, rest, s)
  end

  defp log([level, text], s), do: log([level, text, %{}], s)

  defp log([level, text, fields | _], s) when is_map(fields) do
    line = Wire.text(text) || Wire.violation(:InvalidMessage, "$/log without a text")
    level = Map.get(%{"debug" => :debug, "warning" => :warning, "error" => :error}, Wire.text(level), :info)
    more = if fields == %{}, do: "", else: " " <> inspect(fields, limit: 20)
    Logger.log(level, line <> more, service: Map.get(s.options, :service, ""))
  end

  defp log(_, _), do: Wire.violation(:InvalidMessage, "$/log is [level, text, fields]")

  # -- calls that the worker makes

  defp serve(id, "$/ping", _, s) do
    post([1, id, nil, nil], s)
    s
  end

  defp serve(id, method, params, %{options: %{on_call: on_call}} = s) when binary_part(method, 0, 1) != "$" do
    taken = is_integer(id) and Enum.any?(s.serving, fn {_, {number, _}} -> number == id end)
    if taken, do: Wire.violation(:DuplicateId, "the request #{id} is open already")
    port = self()
    {pid, monitor} = spawn_monitor(fn -> send(port, {:served, self(), on_call.(method, params)}) end)
    put_in(s.serving[pid], {id, monitor})
  end

  defp serve(id, method, _, s) do
    answer(id, {:error, %Failure{code: :unimplemented, message: "this host has nothing for #{method}"}}, s)
    s
  end

  defp served(pid, result, s) do
    {{id, monitor}, rest} = Map.pop(s.serving, pid)
    Process.demonitor(monitor, [:flush])
    answer(id, result, s)
    %{s | serving: rest}
  end

  defp answer(nil, _, _), do: :ok
  defp answer(id, {:error, failure}, s), do: post([1, id, Failure.wire(failure), nil], s)

  defp answer(id, {:ok, result}, s) do
    post([1, id, nil, result], s)
  rescue
    error in Msgpack.Unencodable -> answer(id, {:error, %Failure{code: :internal, message: error.message}}, s)
  end

  # A caller of ours has ended, or a process that served a call.
  defp down(monitor, reason, s) do
    case {s.callers, Enum.find(s.serving, fn {_, {_, ref}} -> ref == monitor end)} do
      {%{^monitor => id}, _} ->
        abandon(id, s)

      {_, {pid, {id, _}}} ->
        code = if reason == :cancelled, do: :cancelled, else: :unknown
        answer(id, {:error, %Failure{code: code, message: "#{inspect(reason, limit: 20)}"}}, s)
        %{s | serving: Map.delete(s.serving, pid)}

      _ ->
        s
    end
  end

  defp post(message, s), do: send(s.writer, Msgpack.encode(message))
end
