defmodule Mlports.Stdio do
  @moduledoc "The descriptors that frames travel on, and where all that is printed goes instead: to standard error."

  @doc "Prepares this VM and gives what opens the channel: its owner then gets {channel, {:data, bytes}} and {channel, :eof}."
  def take do
    :ok = :os.set_signal(:sigterm, :default)

    descriptors =
      if System.get_env("MLPORTS_TRANSPORT") == "fd34" do
        {:fd, 3, 4}
      else
        print_to_standard_error()
        {:fd, 0, 1}
      end

    fn ->
      # Not packet: 4, which allocates whatever a length says, and takes an end inside a frame for a clean one.
      port = Port.open(descriptors, [:stream, :binary, :eof])
      {port, &Port.command(port, &1)}
    end
  end

  # `run` gives the VM a standard output that is standard error. Without it, what prints by Elixir's means is caught here.
  defp print_to_standard_error do
    printer = spawn(&relay/0)
    Process.unregister(:user)
    Process.register(printer, :user)
    Process.group_leader(self(), printer)
  end

  defp relay do
    receive do
      request when elem(request, 0) == :io_request -> send(:standard_error, request)
      _ -> :ok
    end

    relay()
  end
end
