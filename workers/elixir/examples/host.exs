# An application's way with a worker, on one page: a child of a supervisor, called, killed, and called again.
#
#     elixir -pa build examples/host.exs METHOD ARGUMENT COMMAND…
defmodule Host do
  alias Mlports.Port

  def main([method, argument | command]) do
    Logger.configure(level: :none)
    children = [{Port, name: Worker, service: "example", command: command}]
    {:ok, _} = Supervisor.start_link(children, strategy: :one_for_one, max_restarts: 5, max_seconds: 10)
    show(method, argument)
    killed_when_called(method, argument)
    show(method, argument)
  end

  defp show(method, argument) do
    result = Port.call!(Worker, method, [argument])
    IO.puts("#{method} gave #{if is_binary(result), do: result, else: inspect(result)}")
  end

  # A worker that is stopped answers nothing: the call is under way when it is killed.
  defp killed_when_called(method, argument) do
    old = Process.whereis(Worker)
    os_pid = to_string(Port.info(Worker).os_pid)
    System.cmd("kill", ["-STOP", os_pid])
    call = Port.async(Worker, method, [argument])
    System.cmd("kill", ["-KILL", os_pid])
    {:error, failure} = Port.await(call)
    IO.puts("killed while it was called: #{failure.code}")
    wait_for_another(old)
  end

  defp wait_for_another(old) do
    case Process.whereis(Worker) do
      pid when is_pid(pid) and pid != old ->
        Port.info(Worker)

      _ ->
        Process.sleep(10)
        wait_for_another(old)
    end
  end
end

Host.main(System.argv())
