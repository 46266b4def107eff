defmodule Mlports.Ndarray do
  @moduledoc """
  Arrays of numbers, extension 1 (section 12.1): `{:ndarray, dtype, shape, elements}`, little-endian and row-major.
  """

  @units ~w(Y M W D h m s ms us ns ps fs as)

  @doc "The array, when the three agree; throws `{:malformed, :InvalidExtension, text}`."
  def checked(dtype, shape, elements) do
    dtype = text(dtype)
    shape?(shape) || invalid("a shape is an array of at most 64 integers from 0")
    due = Enum.product(shape) * item_size(dtype, 8)
    due == byte_size(elements) || invalid("#{byte_size(elements)} bytes of elements where #{due} are due")
    {:ndarray, dtype, shape, elements}
  end

  @doc "Nested lists of numbers and booleans; a number when the shape is []. Raises `ArgumentError` for other dtypes."
  def to_list({:ndarray, dtype, shape, elements}), do: nested(shape, numbers(dtype, elements))

  @doc "An array from nested lists, all of one length at each level. dtype: a boolean's, integer's or float's."
  def from_list(dtype, list) do
    shape = shape(list)
    flat = List.flatten([list])
    length(flat) == Enum.product(shape) || raise ArgumentError, "the lists are not all of one length: #{inspect(shape)}"
    {:ndarray, dtype, shape, for(x <- flat, into: <<>>, do: one(dtype, x))}
  end

  defp shape([first | _] = list), do: [length(list) | shape(first)]
  defp shape([]), do: [0]
  defp shape(_), do: []

  defp nested([], [number]), do: number
  defp nested([_], numbers), do: numbers
  defp nested([n | inner], _) when n == 0 or inner == [], do: []

  defp nested([n | inner], numbers) do
    size = Enum.product(inner)

    if size == 0,
      do: List.duplicate(nested(inner, []), n),
      else: numbers |> Enum.chunk_every(size) |> Enum.map(&nested(inner, &1))
  end

  defp numbers("|b1", e), do: for(<<b <- e>>, do: b != 0)

  defp numbers(<<_, ?i, size>>, e) do
    bits = 8 * (size - ?0)
    for <<n::little-signed-size(bits) <- e>>, do: n
  end

  defp numbers(<<_, ?u, size>>, e) do
    bits = 8 * (size - ?0)
    for <<n::little-size(bits) <- e>>, do: n
  end

  defp numbers("<f4", e), do: for(<<b::binary-4 <- e>>, do: float(b))
  defp numbers("<f8", e), do: for(<<b::binary-8 <- e>>, do: float(b))
  defp numbers(dtype, _), do: raise(ArgumentError, "numbers of dtype #{inspect(dtype)} are not known here")

  defp float(<<f::float-little-32>>), do: f
  defp float(<<f::float-little-64>>), do: f
  defp float(<<0, 0, 0x80, 0x7F>>), do: :infinity
  defp float(<<0, 0, 0x80, 0xFF>>), do: :neg_infinity
  defp float(<<0::48, 0xF0, 0x7F>>), do: :infinity
  defp float(<<0::48, 0xF0, 0xFF>>), do: :neg_infinity
  defp float(_), do: :nan

  defp one("|b1", true), do: <<1>>
  defp one("|b1", false), do: <<0>>
  defp one(<<_, kind, size>>, n) when kind in [?i, ?u], do: <<n::little-size(8 * (size - ?0))>>
  defp one("<f4", f), do: <<f::float-little-32>>
  defp one("<f8", f), do: <<f::float-little-64>>
  defp one(dtype, _), do: raise(ArgumentError, "numbers of dtype #{inspect(dtype)} are not known here")

  defp item_size([_ | _] = fields, depth) when depth > 0 do
    names = Enum.map(fields, &field_name/1)
    Enum.uniq(names) == names || invalid("two fields of one name")
    fields |> Enum.map(&field_size(&1, depth - 1)) |> Enum.sum()
  end

  defp item_size("|b1", _), do: 1
  defp item_size(<<?|, kind, ?1>>, _) when kind in [?i, ?u], do: 1
  defp item_size(<<?<, kind, size>>, _) when kind in [?i, ?u, ?f] and size in [?2, ?4, ?8], do: size - ?0
  defp item_size("<c8", _), do: 8
  defp item_size("<c16", _), do: 16
  defp item_size(<<"<U", k::binary>>, _), do: 4 * count(k)
  defp item_size(<<?|, kind, k::binary>>, _) when kind in [?S, ?V], do: count(k)

  defp item_size(<<?<, kind, ?8, unit::binary>>, _) when kind in [?M, ?m] do
    unit(unit)
    8
  end

  defp item_size(dtype, _), do: invalid("the dtype #{inspect(dtype, limit: 8)}")

  defp field_name([name | _]) do
    case text(name) do
      <<_, _::binary>> = text -> text
      _ -> invalid("a field's name is a string, not empty")
    end
  end

  defp field_name(_), do: invalid("a field is [name, dtype] or [name, dtype, shape]")

  defp field_size([_, dtype], depth), do: item_size(text(dtype), depth)

  defp field_size([_, dtype, shape], depth) do
    shape?(shape) || invalid("a field's shape")
    Enum.product(shape) * item_size(text(dtype), depth)
  end

  defp field_size(_, _), do: invalid("a field is [name, dtype] or [name, dtype, shape]")

  defp count(k) do
    if k =~ ~r/\A[1-9][0-9]{0,8}\z/, do: String.to_integer(k), else: invalid("a dtype's size")
  end

  defp unit(""), do: :ok

  defp unit(text) do
    case Regex.run(~r/\A\[(?:[1-9][0-9]{0,8})?([A-Za-z]+)\]\z/, text) do
      [_, unit] when unit in @units -> :ok
      _ -> invalid("a unit of time")
    end
  end

  defp shape?(shape) do
    is_list(shape) and length(shape) <= 64 and Enum.all?(shape, &(is_integer(&1) and &1 >= 0))
  end

  defp text({:bin, b}), do: b
  defp text(other), do: other

  @spec invalid(String.t()) :: no_return
  defp invalid(text), do: throw({:malformed, :InvalidExtension, text})
end
