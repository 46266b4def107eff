defmodule Mlports.Wire do
  @moduledoc """
  Frames and messages (sections 2 and 4), and what both sides of the handshake say (section 5).

  A fault is thrown as `{:violation, name, text}`, the name being one of section 13.
  """

  alias Mlports.Msgpack

  @default_max_frame 67_108_864
  @max_id 9_007_199_254_740_991
  @codes ~w(cancelled unknown invalid_argument deadline_exceeded not_found permission_denied resource_exhausted
            failed_precondition unimplemented internal unavailable data_loss unauthenticated)a

  defmodule Frames do
    @moduledoc "What has come of a frame: its pieces, the last first. need: so many bytes until something can be told."
    defstruct pieces: [], size: 0, need: 4, max: 67_108_864
  end

  def default_max_frame, do: @default_max_frame

  @doc "The payloads that are whole now, in order, and the reader; or, in its place, the fault behind them."
  def feed(data, %Frames{pieces: pieces, size: size, need: need} = frames) do
    now = size + byte_size(data)

    cond do
      now < need -> {[], %{frames | pieces: [data | pieces], size: now}}
      pieces == [] -> split(data, frames, [])
      true -> split(IO.iodata_to_binary(Enum.reverse(pieces, [data])), frames, [])
    end
  end

  defp split(<<0::32, _::binary>>, _, payloads),
    do: {Enum.reverse(payloads), {:violation, :EmptyFrame, "a frame of no bytes"}}

  defp split(<<n::32, _::binary>> = data, %Frames{max: max}, payloads) when n > max,
    do: {Enum.reverse(payloads), too_large(n, max, data)}

  defp split(<<n::32, payload::binary-size(n), rest::binary>>, frames, payloads),
    do: split(rest, frames, [payload | payloads])

  defp split(rest, frames, payloads) do
    need =
      case rest do
        <<n::32, _::binary>> -> 4 + n
        _ -> 4
      end

    pieces = if rest == <<>>, do: [], else: [rest]
    {Enum.reverse(payloads), %{frames | pieces: pieces, size: byte_size(rest), need: need}}
  end

  defp too_large(_, _, <<c, _::binary>> = data) when c in [9, 10, 13, 27] or c in 32..126 do
    text = binary_part(data, 0, min(80, byte_size(data)))
    {:violation, :StdoutPolluted, "printed where a frame was due: #{inspect(text, binaries: :as_strings)}"}
  end

  defp too_large(n, max, _), do: {:violation, :FrameTooLarge, "a frame of #{n} bytes, at most #{max} are taken"}

  @doc "Whether the stream may end here."
  def ended(%Frames{size: 0}), do: :ok
  def ended(%Frames{size: size}), do: {:violation, :TruncatedFrame, "the input ended #{size} bytes into a frame"}

  def frame(payload), do: [<<IO.iodata_length(payload)::32>> | payload]

  @doc "The message in a payload. arrays: whether ndarray is agreed."
  def decode(payload, arrays) do
    case Msgpack.decode(payload, arrays) do
      {:ok, value} -> parse(value)
      {:error, name, text} -> violation(name, text)
    end
  end

  defp parse([0, id, method, params | rest]) when is_list(params),
    do: {:request, id(id), method(method), params, meta(rest)}

  defp parse([1, id, error, result | rest]), do: {:response, id(id), error(error, result), result, meta(rest)}
  defp parse([2, method, params | rest]) when is_list(params), do: {:notification, method(method), params, meta(rest)}
  defp parse(other), do: invalid("none of the three messages: #{short(other)}")

  defp id(id) when id in 0..@max_id, do: id
  defp id(id), do: invalid("no id of a request: #{short(id)}")

  defp method(name) do
    case text(name) do
      <<_, _::binary>> = text -> text
      _ -> invalid("a method's name is a string, not empty: #{short(name)}")
    end
  end

  defp error(nil, _), do: nil

  defp error(error, nil) when is_map(error) do
    case fields(error) do
      %{"code" => code, "message" => message} = fields ->
        is_boolean(Map.get(fields, "retryable", false)) || invalid("retryable is a boolean")
        %{fields | "code" => string(code), "message" => string(message)}

      _ ->
        invalid("an error without code or message")
    end
  end

  defp error(error, _), do: invalid("an error is nil or a map, and its result nil: #{short(error)}")

  defp string(value), do: text(value) || invalid("a string is due, not #{short(value)}")

  defp meta([]), do: %{}
  defp meta([nil | _]), do: %{}

  defp meta([meta | _]) when is_map(meta) do
    fields = fields(meta)
    Enum.each(fields, fn {key, value} -> right?(key, value) || invalid("meta #{short(key)}: #{short(value)}") end)
    fields
  end

  defp meta([other | _]), do: invalid("meta is a map: #{short(other)}")

  defp right?("deadline_ms", value), do: (is_number(value) and value >= 0) or value == :infinity
  defp right?("credit", value), do: count?(value)
  defp right?("input", value), do: value == true
  defp right?("batch", value), do: count?(value) and value >= 1
  defp right?("columns", value), do: value == true
  defp right?("parent", value), do: count?(value)
  defp right?(key, value) when key in ["traceparent", "idempotency_key"], do: text(value) != nil
  defp right?(key, _), do: is_binary(key)

  @doc "A string of the protocol's own, which may have come as bin; nil for anything else."
  def text(b) when is_binary(b), do: b
  def text({:bin, b}), do: if(String.valid?(b), do: b)
  def text(_), do: nil

  @doc "A map of the protocol's own, its keys as str."
  def fields(map), do: Map.new(map, fn {key, value} -> {text(key) || key, value} end)

  defp count?(n), do: is_integer(n) and n >= 0

  @doc "The orchestrator's hello, from its params (5.1)."
  def hello([map | _]) when is_map(map) do
    fields = fields(map)
    version(fields["protocol"])
    max = field(fields, "max_frame", @default_max_frame, &max_frame?/1)
    features = field(fields, "features", [], &texts?/1)
    field(fields, "service", "", &text/1)
    field(fields, "replica", 0, &count?/1)
    config = field(fields, "config", nil, &(is_nil(&1) or is_map(&1)))
    field(fields, "shm", nil, &segment?/1)
    %{max_frame: max, features: Enum.map(features, &text/1), config: config || %{}}
  end

  def hello(_), do: violation(:InvalidHello, "$/hello: its params are one map")

  defp version(range) when is_map(range) do
    case fields(range) do
      %{"min" => min, "max" => max} when is_integer(min) and is_integer(max) ->
        1 in min..max//1 || violation(:UnsupportedVersion, "the orchestrator speaks #{min} to #{max}, this worker 1")

      _ ->
        violation(:InvalidHello, "$/hello: protocol is {min, max}")
    end
  end

  defp version(_), do: violation(:InvalidHello, "$/hello: protocol is {min, max}")

  @doc "A worker's answer to it (5.2)."
  def hello_answer(map) when is_map(map) do
    fields = fields(map)

    case fields["protocol"] do
      1 -> :ok
      other when is_integer(other) -> violation(:UnsupportedVersion, "the worker chose version #{other}, not offered")
      _ -> violation(:InvalidHello, "$/hello's answer: protocol is an integer")
    end

    %{
      name: text(field(fields, "name", "", &text/1)),
      language: text(field(fields, "language", "", &text/1)),
      sdk: text(field(fields, "sdk", "", &text/1)),
      max_frame: field(fields, "max_frame", @default_max_frame, &max_frame?/1),
      features: Enum.map(field(fields, "features", [], &texts?/1), &text/1),
      concurrency: field(fields, "concurrency", 1, &(count?(&1) and &1 >= 1)),
      methods: methods(fields["methods"])
    }
  end

  def hello_answer(_), do: violation(:InvalidHello, "$/hello's answer: its result is a map")

  defp methods(nil), do: nil

  defp methods(list) when is_list(list) do
    texts?(list) || violation(:InvalidHello, "$/hello's answer: a method's name is a string")
    Map.new(list, &{text(&1), %{}})
  end

  defp methods(map) when is_map(map) do
    texts?(Map.keys(map)) || violation(:InvalidHello, "$/hello's answer: a method's name is a string")
    Enum.all?(Map.values(map), &is_map/1) || violation(:InvalidHello, "$/hello's answer: a method's flags are a map")
    Map.new(map, fn {name, flags} -> {text(name), fields(flags)} end)
  end

  defp methods(_), do: violation(:InvalidHello, "$/hello's answer: methods is a map, an array or nil")

  defp field(fields, key, default, right?) do
    value = Map.get(fields, key, default)
    right?.(value) || violation(:InvalidHello, "$/hello: #{key}: #{short(value)}")
    value
  end

  defp max_frame?(n), do: is_integer(n) and n in 1..0x7FFFFFFF
  defp texts?(list), do: is_list(list) and Enum.all?(list, &text/1)

  defp segment?(nil), do: true

  defp segment?(map) when is_map(map) do
    case fields(map) do
      %{"segment" => path, "token" => {:bin, _}} -> (text(path) || "") =~ ~r/\A\/proc\/[1-9][0-9]{0,9}\/fd\/[0-9]{1,9}\z/
      _ -> false
    end
  end

  defp segment?(_), do: false

  @doc "An error of the wire in this language's words."
  def failure(%{"code" => name, "message" => message} = error) do
    %Mlports.Failure{
      code: Enum.find(@codes, :unknown, &(Atom.to_string(&1) == name)),
      message: message,
      data: error["data"],
      retryable: Map.get(error, "retryable", false)
    }
  end

  defp short(term), do: inspect(term, limit: 8, printable_limit: 100)

  @spec invalid(String.t()) :: no_return
  defp invalid(text), do: violation(:InvalidMessage, text)

  @spec violation(atom, String.t()) :: no_return
  def violation(name, text), do: throw({:violation, name, text})
end
