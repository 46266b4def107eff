defmodule PortTest do
  @moduledoc """
  The host, with the workers that `make test` or the caller names in MLPORTS_HOSTED: a file of Erlang terms
  {name, [program | arguments]}. Each has the methods of examples/conformance.ex.
  """

  use ExUnit.Case

  alias Mlports.{Failure, Port}

  {:ok, hosted} = :file.consult(System.fetch_env!("MLPORTS_HOSTED"))

  for {name, command} <- hosted do
    @command Enum.map(command, &to_string/1)

    test "calls #{name}" do
      calls(@command)
    end

    test "restarts #{name}" do
      restarts(@command)
    end
  end

  defp calls(command) do
    {:ok, port} = Port.start_link(command: command, service: "tested", on_call: &on_call/2)
    %{name: "conformance", os_pid: os_pid} = Port.info(port)

    for value <- [nil, true, -1, 1.0, "text ä", {:bin, <<0, 255>>}, [1, [2, %{}]], String.duplicate("x", 1_000_000), :nan] do
      assert Port.call(port, :echo, [value]) == {:ok, value}
    end

    errors(port)
    sent = for n <- 1..500, do: {n, Port.async(port, "add", [n, n])}
    for {n, request} <- Enum.reverse(sent), do: assert(Port.await(request) == {:ok, 2 * n})

    deadlines(port)
    assert Enum.to_list(Port.stream(port, "count", [100])) == Enum.to_list(0..99)
    assert port |> Port.stream("count", [1_000_000]) |> Enum.take(3) == [0, 1, 2]
    assert Port.call!(port, :echo, [1]) == 1
    assert_raise Failure, fn -> port |> Port.stream("fail", ["x"]) |> Enum.to_list() end

    assert Port.call(port, "total", [], input: Enum.to_list(1..100)) == {:ok, 5050}
    assert Port.call(port, "relay", ["other.double", [21]]) == {:ok, 42}
    assert {:error, %Failure{code: :unknown}} = Port.call(port, "relay", ["other.crash", []])
    assert {:error, %Failure{code: :not_found}} = Port.call(port, "relay", ["else.where", []])

    logged = ExUnit.CaptureLog.capture_log(fn -> {:ok, nil} = Port.call(port, "note", ["warning", "noted down"]) end)
    assert logged =~ "noted down"

    Port.cast(port, "mark", ["kept"])
    assert Port.call(port, "marks", []) == {:ok, ["kept"]}
    :ok = Port.stop(port)
    assert gone?(os_pid)
    assert {:error, %Failure{code: :unavailable}} = Port.call(port, :echo, [1])
  end

  defp on_call("other.double", [n]), do: {:ok, 2 * n}
  defp on_call("other.crash", _), do: exit(:as_asked)
  defp on_call(_, _), do: {:error, %Failure{code: :not_found, message: "no such service"}}

  defp errors(port) do
    assert {:error, %Failure{code: :unknown, message: <<_, _::binary>>}} = Port.call(port, "fail", ["as asked"])
    assert {:error, %Failure{code: :not_found, message: "gone"}} = Port.call(port, "refuse", ["not_found", "gone"])
    assert {:error, %Failure{code: :unimplemented}} = Port.call(port, "no.such.method", [])
    assert {:error, %Failure{code: :invalid_argument}} = Port.call(port, :echo, [self()])
    assert {:error, %Failure{code: :invalid_argument}} = Port.call(port, :root, [-1])
    assert_raise Failure, "gone", fn -> Port.call!(port, "refuse", ["not_found", "gone"]) end
  end

  # The worker is free again: it was told to cancel.
  defp deadlines(port) do
    assert {:error, %Failure{code: :deadline_exceeded}} = Port.call(port, :sleep, [30], timeout: 100)
    caller = spawn(fn -> Port.call(port, :sleep, [30], timeout: :infinity) end)
    Process.exit(caller, :kill)
    assert Port.call(port, :echo, [1], timeout: 30_000) == {:ok, 1}
  end

  # Under a supervisor: a killed worker fails its callers at once and comes back, until that is too often.
  defp restarts(command) do
    Process.flag(:trap_exit, true)
    children = [{Port, command: command, name: Hosted}]
    {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one, max_restarts: 1, max_seconds: 60)

    first = killed_in_a_call()
    back(first)
    assert Port.call(Hosted, :echo, [1]) == {:ok, 1}
    killed_in_a_call()
    assert_receive {:EXIT, ^supervisor, :shutdown}, 30_000
    assert {:error, %Failure{code: :unavailable}} = Port.call(Hosted, :echo, [1])
  end

  defp killed_in_a_call do
    server = Process.whereis(Hosted)
    %{os_pid: os_pid} = Port.info(Hosted)
    waiting = [Port.async(Hosted, :sleep, [30]), Port.async(Hosted, :echo, [1])]
    monitor = Process.monitor(server)
    System.cmd("kill", ["-KILL", to_string(os_pid)])
    for request <- waiting, do: assert({:error, %Failure{code: :unavailable}} = Port.await(request, 30_000))
    assert_receive {:DOWN, ^monitor, :process, _, {:exit_status, 137}}, 30_000
    assert gone?(os_pid)
    server
  end

  defp back(old) do
    pid = Process.whereis(Hosted)

    if pid == nil or pid == old do
      Process.sleep(1)
      back(old)
    end
  end

  defp gone?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} -> stat =~ ~r/\) [ZX]/
      {:error, _} -> true
    end
  end

  test "programs that are no good workers say why" do
    Process.flag(:trap_exit, true)

    for {due, script} <- [
          {{:exit_status, 3}, "exit 3"},
          {:start_timeout, "trap '' TERM; sleep 600"},
          {:StdoutPolluted, "echo hello; cat >/dev/null"},
          {:EmptyFrame, "printf '\\000\\000\\000\\000'; cat >/dev/null"},
          {:FrameTooLarge, "printf '\\377\\377\\377\\377'; cat >/dev/null"},
          {:MalformedValue, "printf '\\000\\000\\000\\001\\301'; cat >/dev/null"}
        ] do
      patience = if due == :start_timeout, do: 1000, else: 20_000
      {:error, reason} = Port.start_link(command: ["sh", "-c", script], start_timeout: patience)
      assert due == if(match?({:violation, _, _}, reason), do: elem(reason, 1), else: reason)
    end

    assert {:error, {:no_such_program, "no-such-program"}} = Port.start_link(command: ["no-such-program"])
  end
end
