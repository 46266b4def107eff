defmodule Mlports.Input do
  @moduledoc "A streamed argument, as its handler enumerates it, once: items are let come as there is room for them."

  alias Mlports.Failure

  @window_bytes 1_048_576

  @doc "The stream of a job's argument, for the job's own process."
  def stream(job) do
    # {due, window}: items let come and not taken, and how many may be; few while their size is not known.
    Stream.resource(fn -> {0, 4} end, &next(&1, job), fn _ -> :ok end)
  end

  defp next({due, window}, %{id: id, server: server}) do
    due = if 2 * due <= window, do: grant(server, id, due, window), else: due

    receive do
      {:mlports_input, value, size} -> {[value], {due - 1, @window_bytes |> div(max(1, size)) |> min(64) |> max(1)}}
      :mlports_input_end -> {:halt, nil}
      :mlports_input_cut -> raise Failure, code: :unavailable, message: "the orchestrator went away within a streamed argument"
    end
  end

  defp grant(server, id, due, window) do
    send(server, {:input_credit, id, window - due})
    window
  end
end
