defmodule VectorsTest do
  @moduledoc "The golden frames of protocol/vectors, which the Makefile wrote out as Erlang terms."

  use ExUnit.Case, async: true

  alias Mlports.{Msgpack, Ndarray, Wire}

  {:ok, vectors} = :file.consult(Path.join(System.fetch_env!("MLPORTS_VECTORS"), "frames.terms"))
  @vectors vectors

  test "every vector is decoded, in any pieces" do
    assert length(@vectors) > 200

    for %{bytes: bytes} = vector <- @vectors do
      due = {vector.name, Enum.map(vector.messages, &ordered/1), vector.error}

      for pieces <- [[bytes], for(<<byte <- bytes>>, do: <<byte>>), pieces(bytes)] do
        {messages, error} = read(pieces, %Wire.Frames{max: vector.max_frame}, vector.eof, [])
        assert {vector.name, messages, error} == due
      end
    end
  end

  test "what is canonical is encoded to the same bytes" do
    for %{encode: true} = vector <- @vectors do
      frames = Enum.map(vector.messages, &Wire.frame(Msgpack.encode(array(&1))))
      assert {vector.name, IO.iodata_to_binary(frames)} == {vector.name, vector.bytes}
    end
  end

  test "any bytes give a value or a violation, and what was decoded is encoded and decoded to itself" do
    :rand.seed(:exsss, 1)
    for %{bytes: <<_::32, payload::binary>>} <- @vectors, _ <- 1..30, payload != "", do: total(changed(payload))
    for _ <- 1..5000, do: total(:rand.bytes(:rand.uniform(40)))
  end

  test "what MessagePack cannot hold raises" do
    deep = Enum.reduce(1..129, 1, fn _, value -> [value] end)

    for value <- [2 ** 64, -(2 ** 63) - 1, self(), {1, 2}, [1 | 2], %{1.0 => 1}, %{[] => 1}, %{nan: 1}, deep, 1..2] do
      assert_raise Msgpack.Unencodable, fn -> Msgpack.encode(value) end
    end
  end

  test "arrays become lists and lists arrays" do
    for {dtype, list} <- [{"<f8", [[1.5, -2.0], [0.25, 3.0]]}, {"<i2", [[-1], [7]]}, {"<f4", 2.5}, {"<f4", []}, {"|b1", [true]}] do
      assert dtype |> Ndarray.from_list(list) |> Ndarray.to_list() == list
    end

    assert_raise ArgumentError, fn -> Ndarray.from_list("<f4", [[1.0], [1.0, 2.0]]) end
    assert Ndarray.to_list({:ndarray, "<f4", [1], <<0, 0, 0x80, 0x7F>>}) == [:infinity]
  end

  defp total(bytes) do
    case Msgpack.decode(bytes) do
      {:ok, value} -> assert Msgpack.decode(Msgpack.encode(value)) == {:ok, value}
      {:error, name, text} -> assert is_atom(name) and is_binary(text)
    end
  end

  defp changed(bytes) do
    at = :rand.uniform(byte_size(bytes)) - 1
    <<before::binary-size(at), _, rest::binary>> = bytes
    <<before::binary, :rand.uniform(256) - 1, rest::binary>>
  end

  # The messages that the pieces hold, and the fault behind them.
  defp read([], frames, eof, messages) do
    case eof && Wire.ended(frames) do
      {:violation, name, _} -> {Enum.reverse(messages), name}
      _ -> {Enum.reverse(messages), :none}
    end
  end

  defp read([piece | rest], frames, eof, messages) do
    {payloads, next} = Wire.feed(piece, frames)

    case {parsed(payloads, messages), next} do
      {{read, :none}, {:violation, name, _}} -> {Enum.reverse(read), name}
      {{read, :none}, frames} -> read(rest, frames, eof, read)
      {{read, name}, _} -> {Enum.reverse(read), name}
    end
  end

  defp parsed([], messages), do: {messages, :none}

  defp parsed([payload | rest], messages) do
    parsed(rest, [ordered(Wire.decode(payload, true)) | messages])
  catch
    {:violation, name, _} -> {messages, name}
  end

  defp array({:request, id, method, params, meta}), do: [0, id, method, params | List.wrap(meta)]
  defp array({:response, id, error, result, meta}), do: [1, id, error, result | List.wrap(meta)]
  defp array({:notification, method, params, meta}), do: [2, method, params | List.wrap(meta)]

  # {:map, pairs} and %{} as one, and meta that is absent as %{}.
  defp ordered({:map, pairs}), do: Map.new(pairs, fn {key, value} -> {ordered(key), ordered(value)} end)
  defp ordered(map) when is_map(map), do: Map.new(map, fn {key, value} -> {key, ordered(value)} end)
  defp ordered(list) when is_list(list), do: Enum.map(list, &ordered/1)
  defp ordered({:request, id, method, params, meta}), do: {:request, id, method, ordered(params), ordered(meta || %{})}
  defp ordered({:response, id, error, result, meta}), do: {:response, id, ordered(error), ordered(result), ordered(meta || %{})}
  defp ordered({:notification, method, params, meta}), do: {:notification, method, ordered(params), ordered(meta || %{})}
  defp ordered(value), do: value

  defp pieces(""), do: []

  defp pieces(bytes) do
    n = :rand.uniform(byte_size(bytes))
    <<piece::binary-size(n), rest::binary>> = bytes
    [piece | pieces(rest)]
  end
end
