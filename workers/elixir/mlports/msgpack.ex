defmodule Mlports.Msgpack do
  @moduledoc """
  MessagePack, as section 3 of the protocol has it.

  | MessagePack | Elixir |
  |---|---|
  | nil, true, false | `nil`, `true`, `false` |
  | integer, float | integer, float; `:infinity`, `:neg_infinity`, `:nan` for what the VM's floats cannot be |
  | str, bin | `"text"`, `{:bin, <<1, 2>>}` |
  | array, map | list, map |
  | timestamp | `{:timestamp, seconds, nanoseconds}` |
  | ndarray | `{:ndarray, dtype, shape, elements}` |
  | other extensions | `{:ext, code, bytes}` |

  Written besides: a binary that is not UTF-8, as bin; any other atom, as the str of its name; `{:map, pairs}`, a map in
  that order.
  """

  import Bitwise

  @max_depth 128
  @special [:infinity, :neg_infinity, :nan]

  defmodule Unencodable do
    @moduledoc "A value that MessagePack cannot hold."
    defexception [:message]
  end

  @doc "The bytes of `value`, which will stand inside `depth` arrays and maps. Raises `Unencodable`."
  @spec encode(term, non_neg_integer) :: binary
  def encode(value, depth \\ 0), do: pack(value, <<>>, @max_depth - depth)

  defp pack(n, acc, _) when is_integer(n), do: pack_integer(n, acc)
  defp pack(f, acc, _) when is_float(f), do: <<acc::binary, 0xCB, f::float>>
  defp pack(nil, acc, _), do: <<acc::binary, 0xC0>>
  defp pack(false, acc, _), do: <<acc::binary, 0xC2>>
  defp pack(true, acc, _), do: <<acc::binary, 0xC3>>
  defp pack(:infinity, acc, _), do: <<acc::binary, 0xCB, 0x7FF0000000000000::64>>
  defp pack(:neg_infinity, acc, _), do: <<acc::binary, 0xCB, 0xFFF0000000000000::64>>
  defp pack(:nan, acc, _), do: <<acc::binary, 0xCB, 0x7FF8000000000000::64>>
  defp pack(atom, acc, _) when is_atom(atom), do: pack_text(Atom.to_string(atom), acc)
  defp pack({:bin, b}, acc, _) when is_binary(b), do: pack_bin(b, acc)

  defp pack(b, acc, _) when is_binary(b) do
    if String.valid?(b), do: pack_text(b, acc), else: pack_bin(b, acc)
  end

  defp pack(list, acc, depth) when is_list(list) and depth > 0 do
    if List.improper?(list), do: unencodable("an improper list", list)
    Enum.reduce(list, array_header(length(list), acc), &pack(&1, &2, depth - 1))
  end

  defp pack(%_{} = struct, _, _), do: unencodable("no struct is sent", struct)

  defp pack(map, acc, depth) when is_map(map) and depth > 0 do
    pack_pairs(Map.to_list(map), map_header(map_size(map), acc), depth - 1)
  end

  defp pack({:map, pairs}, acc, depth) when is_list(pairs) and depth > 0 do
    pack_pairs(pairs, map_header(length(pairs), acc), depth - 1)
  end

  defp pack({:timestamp, s, 0}, acc, _) when s in 0..0xFFFFFFFF, do: pack_ext(-1, <<s::32>>, acc)

  defp pack({:timestamp, s, n}, acc, _) when s in 0..0x3FFFFFFFF and n in 0..999_999_999,
    do: pack_ext(-1, <<n::30, s::34>>, acc)

  defp pack({:timestamp, s, n}, acc, _) when is_integer(s) and n in 0..999_999_999,
    do: pack_ext(-1, <<n::32, s::64>>, acc)

  defp pack({:ndarray, dtype, shape, elements}, acc, _) when is_binary(elements),
    do: pack_ext(1, encode([dtype, shape]) <> elements, acc)

  defp pack({:ext, code, b}, acc, _) when code in -128..127 and is_binary(b), do: pack_ext(code, b, acc)

  defp pack(deep, _, 0) when is_list(deep) or is_map(deep),
    do: unencodable("deeper than 128 arrays and maps", :...)

  defp pack(other, _, _), do: unencodable("nothing in MessagePack is", other)

  defp pack_integer(n, acc) when n >= 0 do
    cond do
      n < 1 <<< 7 -> <<acc::binary, n>>
      n < 1 <<< 8 -> <<acc::binary, 0xCC, n>>
      n < 1 <<< 16 -> <<acc::binary, 0xCD, n::16>>
      n < 1 <<< 32 -> <<acc::binary, 0xCE, n::32>>
      n < 1 <<< 64 -> <<acc::binary, 0xCF, n::64>>
      true -> unencodable("beyond 64 bits is", n)
    end
  end

  defp pack_integer(n, acc) do
    cond do
      n >= -32 -> <<acc::binary, n>>
      n >= -(1 <<< 7) -> <<acc::binary, 0xD0, n>>
      n >= -(1 <<< 15) -> <<acc::binary, 0xD1, n::16>>
      n >= -(1 <<< 31) -> <<acc::binary, 0xD2, n::32>>
      n >= -(1 <<< 63) -> <<acc::binary, 0xD3, n::64>>
      true -> unencodable("beyond 64 bits is", n)
    end
  end

  defp pack_text(b, acc) do
    case byte_size(b) do
      n when n < 32 -> <<acc::binary, 0b101::3, n::5, b::binary>>
      n when n < 0x100 -> <<acc::binary, 0xD9, n, b::binary>>
      n when n < 0x10000 -> <<acc::binary, 0xDA, n::16, b::binary>>
      n -> <<acc::binary, 0xDB, n::32, b::binary>>
    end
  end

  defp pack_bin(b, acc) do
    case byte_size(b) do
      n when n < 0x100 -> <<acc::binary, 0xC4, n, b::binary>>
      n when n < 0x10000 -> <<acc::binary, 0xC5, n::16, b::binary>>
      n -> <<acc::binary, 0xC6, n::32, b::binary>>
    end
  end

  defp pack_ext(code, b, acc) do
    case byte_size(b) do
      1 -> <<acc::binary, 0xD4, code, b::binary>>
      2 -> <<acc::binary, 0xD5, code, b::binary>>
      4 -> <<acc::binary, 0xD6, code, b::binary>>
      8 -> <<acc::binary, 0xD7, code, b::binary>>
      16 -> <<acc::binary, 0xD8, code, b::binary>>
      n when n < 0x100 -> <<acc::binary, 0xC7, n, code, b::binary>>
      n when n < 0x10000 -> <<acc::binary, 0xC8, n::16, code, b::binary>>
      n -> <<acc::binary, 0xC9, n::32, code, b::binary>>
    end
  end

  @doc "The header of an array of `n` values, behind `acc`."
  def array_header(n, acc) when n < 16, do: <<acc::binary, 0b1001::4, n::4>>
  def array_header(n, acc) when n < 0x10000, do: <<acc::binary, 0xDC, n::16>>
  def array_header(n, acc), do: <<acc::binary, 0xDD, n::32>>

  defp map_header(n, acc) when n < 16, do: <<acc::binary, 0b1000::4, n::4>>
  defp map_header(n, acc) when n < 0x10000, do: <<acc::binary, 0xDE, n::16>>
  defp map_header(n, acc), do: <<acc::binary, 0xDF, n::32>>

  defp pack_pairs(pairs, acc, depth) do
    Enum.reduce(pairs, acc, fn {key, value}, acc -> pack(value, pack_key(key, acc), depth) end)
  end

  defp pack_key(key, _) when key in @special, do: unencodable("no map key is", key)
  defp pack_key({:bin, _} = key, acc), do: pack(key, acc, 0)
  defp pack_key(key, acc) when is_binary(key) or is_integer(key) or is_atom(key), do: pack(key, acc, 0)
  defp pack_key(key, _), do: unencodable("no map key is", key)

  @spec unencodable(String.t(), term) :: no_return
  defp unencodable(what, term), do: raise(Unencodable, "#{what} #{inspect(term, limit: 12, printable_limit: 100)}")

  @doc """
  The one value that `bytes` are, or the name of the violation (section 13) and its reason.

  `arrays` says whether the feature ndarray is agreed: extension 1 is a fault without it.
  """
  @spec decode(binary, boolean) :: {:ok, term} | {:error, atom, String.t()}
  def decode(bytes, arrays \\ true) do
    case value(bytes, [], @max_depth, arrays) do
      {value, <<>>} -> {:ok, value}
      {_, rest} -> {:error, :TrailingBytes, "#{byte_size(rest)} bytes behind the value"}
    end
  catch
    {:malformed, name, text} -> {:error, name, text}
  end

  # One value, then what the stack of open arrays and maps waits for. d: so many more may be opened.
  defp value(<<0::1, n::7, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0b101::3, n::5, b::binary-size(n), r::binary>>, s, d, a), do: text(r, b, s, d, a)
  defp value(<<0b1001::4, n::4, r::binary>>, s, d, a), do: array(r, n, s, d, a)
  defp value(<<0b1000::4, n::4, r::binary>>, s, d, a), do: map(r, n, s, d, a)
  defp value(<<0b111::3, n::5, r::binary>>, s, d, a), do: next(r, n - 32, s, d, a)
  defp value(<<0xC0, r::binary>>, s, d, a), do: next(r, nil, s, d, a)
  defp value(<<0xC2, r::binary>>, s, d, a), do: next(r, false, s, d, a)
  defp value(<<0xC3, r::binary>>, s, d, a), do: next(r, true, s, d, a)
  defp value(<<0xCB, f::float-64, r::binary>>, s, d, a), do: next(r, f, s, d, a)
  defp value(<<0xCC, n, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0xCD, n::16, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0xCE, n::32, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0xCF, n::64, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0xD0, n::8-signed, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0xD1, n::16-signed, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0xD2, n::32-signed, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0xD3, n::64-signed, r::binary>>, s, d, a), do: next(r, n, s, d, a)
  defp value(<<0xD9, n, b::binary-size(n), r::binary>>, s, d, a), do: text(r, b, s, d, a)
  defp value(<<0xDA, n::16, b::binary-size(n), r::binary>>, s, d, a), do: text(r, b, s, d, a)
  defp value(<<0xDB, n::32, b::binary-size(n), r::binary>>, s, d, a), do: text(r, b, s, d, a)
  defp value(<<0xC4, n, b::binary-size(n), r::binary>>, s, d, a), do: next(r, {:bin, b}, s, d, a)
  defp value(<<0xC5, n::16, b::binary-size(n), r::binary>>, s, d, a), do: next(r, {:bin, b}, s, d, a)
  defp value(<<0xC6, n::32, b::binary-size(n), r::binary>>, s, d, a), do: next(r, {:bin, b}, s, d, a)
  defp value(<<0xDC, n::16, r::binary>>, s, d, a), do: array(r, n, s, d, a)
  defp value(<<0xDD, n::32, r::binary>>, s, d, a), do: array(r, n, s, d, a)
  defp value(<<0xDE, n::16, r::binary>>, s, d, a), do: map(r, n, s, d, a)
  defp value(<<0xDF, n::32, r::binary>>, s, d, a), do: map(r, n, s, d, a)
  defp value(<<0xCA, f::float-32, r::binary>>, s, d, a), do: next(r, f, s, d, a)
  defp value(<<0xCA, sign::1, 255, m::23, r::binary>>, s, d, a), do: next(r, special(sign, m), s, d, a)
  defp value(<<0xCB, sign::1, 2047::11, m::52, r::binary>>, s, d, a), do: next(r, special(sign, m), s, d, a)

  for {byte, size} <- [{0xD4, 1}, {0xD5, 2}, {0xD6, 4}, {0xD7, 8}, {0xD8, 16}] do
    defp value(<<unquote(byte), code::signed, b::binary-size(unquote(size)), r::binary>>, s, d, a),
      do: next(r, extension(code, b, a), s, d, a)
  end

  for {byte, bits} <- [{0xC7, 8}, {0xC8, 16}, {0xC9, 32}] do
    defp value(<<unquote(byte), n::unquote(bits), code::signed, b::binary-size(n), r::binary>>, s, d, a),
      do: next(r, extension(code, b, a), s, d, a)
  end

  defp value(<<0xC1, _::binary>>, _, _, _), do: malformed("the byte c1")
  defp value(_, _, _, _), do: malformed("it ends inside a value")

  defp next(<<r::binary>>, v, [], _, _), do: {v, r}
  defp next(<<r::binary>>, v, [{:items, 1, acc} | s], d, a), do: next(r, Enum.reverse(acc, [v]), s, d + 1, a)
  defp next(<<r::binary>>, v, [{:items, n, acc} | s], d, a), do: value(r, [{:items, n - 1, [v | acc]} | s], d, a)

  defp next(<<r::binary>>, v, [{:value, key, 1, acc} | s], d, a),
    do: next(r, Map.new([{key, v} | acc]), s, d + 1, a)

  defp next(<<r::binary>>, v, [{:value, key, n, acc} | s], d, a),
    do: value(r, [{:key, n - 1, [{key, v} | acc]} | s], d, a)

  defp next(<<r::binary>>, v, [{:key, n, acc} | s], d, a) do
    if key?(v),
      do: value(r, [{:value, v, n, acc} | s], d, a),
      else: malformed("a map key that is an array, a map, a float or an extension")
  end

  defp array(<<_::binary>>, _, _, 0, _), do: malformed("deeper than 128 arrays and maps")
  defp array(<<r::binary>>, 0, s, d, a), do: next(r, [], s, d, a)
  defp array(<<r::binary>>, n, s, d, a), do: value(r, [{:items, n, []} | s], d - 1, a)

  defp map(<<_::binary>>, _, _, 0, _), do: malformed("deeper than 128 arrays and maps")
  defp map(<<r::binary>>, 0, s, d, a), do: next(r, %{}, s, d, a)
  defp map(<<r::binary>>, n, s, d, a), do: value(r, [{:key, n, []} | s], d - 1, a)

  defp text(<<r::binary>>, b, s, d, a) do
    if String.valid?(b), do: next(r, b, s, d, a), else: malformed("a str that is not UTF-8")
  end

  defp key?(key) when is_binary(key) or is_integer(key) or is_boolean(key) or is_nil(key), do: true
  defp key?({:bin, _}), do: true
  defp key?(_), do: false

  defp special(0, 0), do: :infinity
  defp special(1, 0), do: :neg_infinity
  defp special(_, _), do: :nan

  defp extension(-1, <<s::32>>, _), do: {:timestamp, s, 0}
  defp extension(-1, <<n::30, s::34>>, _) when n < 1_000_000_000, do: {:timestamp, s, n}
  defp extension(-1, <<n::32, s::64-signed>>, _) when n < 1_000_000_000, do: {:timestamp, s, n}
  defp extension(-1, _, _), do: malformed("a timestamp of another length, or with too many nanoseconds")
  defp extension(1, b, true), do: ndarray(b)

  defp extension(code, _, _) when code in 1..3,
    do: throw({:malformed, :InvalidExtension, "extension #{code}, which was not agreed"})

  defp extension(code, b, _), do: {:ext, code, b}

  defp ndarray(b) do
    case value(b, [], @max_depth, false) do
      {[dtype, shape], elements} -> Mlports.Ndarray.checked(dtype, shape, elements)
      _ -> throw({:malformed, :InvalidExtension, "an ndarray's header is [dtype, shape]"})
    end
  catch
    {:malformed, :MalformedValue, text} -> throw({:malformed, :InvalidExtension, "an ndarray's header: #{text}"})
  end

  @spec malformed(String.t()) :: no_return
  defp malformed(text), do: throw({:malformed, :MalformedValue, text})
end
