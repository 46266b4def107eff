defmodule Mlports.Failure do
  @moduledoc """
  The error of a call (section 4.4): raised in a handler it is that call's answer, and what calls give on this side.

  code: an atom of section 4.4, or its name. message: one line. data: anything. retryable: whether the call had no effect.
  """
  defexception code: :unknown, message: "", data: nil, retryable: false

  @type t :: %__MODULE__{code: atom | String.t(), message: String.t(), data: term, retryable: boolean}

  @doc false
  def wire(%__MODULE__{} = failure) do
    Map.reject(%{code: failure.code, message: failure.message, data: failure.data, retryable: failure.retryable}, fn
      {_, value} -> value in [nil, false]
    end)
  end

  @doc "What an exception of a handler's is to its caller."
  def of(_, %__MODULE__{} = failure, _), do: failure

  def of(kind, reason, stack) do
    {type, text} =
      case Exception.normalize(kind, reason, stack) do
        exception when is_exception(exception) -> {inspect(exception.__struct__), Exception.message(exception)}
        other -> {Atom.to_string(kind), inspect(other, limit: 20)}
      end

    data = %{type: type, traceback: Exception.format(kind, reason, stack)}
    %__MODULE__{code: :unknown, message: one_line("#{type}: #{text}"), data: data}
  end

  defp one_line(text) do
    if String.valid?(text), do: String.replace(text, ~r/\s*[\r\n]+\s*/, " "), else: inspect(text)
  end
end
