%% Arrays of numbers, extension 1 (section 12.1): {ndarray, Dtype, Shape, Elements}, the elements little-endian and row-major.
-module(mlports_ndarray).

-export([checked/3, to_list/1, from_list/2]).
-export_type([dtype/0]).

-type dtype() :: binary() | [list()].
-type ndarray() :: {ndarray, dtype(), [non_neg_integer()], binary()}.

-define(UNITS, [<<"Y">>, <<"M">>, <<"W">>, <<"D">>, <<"h">>, <<"m">>, <<"s">>, <<"ms">>, <<"us">>, <<"ns">>, <<"ps">>,
                <<"fs">>, <<"as">>]).

%% The array, when the three agree; throws {'InvalidExtension', Text}.
-spec checked(term(), term(), binary()) -> ndarray().
checked(Dtype0, Shape, Elements) ->
    Dtype = text(Dtype0),
    is_shape(Shape) orelse invalid("a shape is an array of at most 64 integers from 0"),
    Due = product(Shape) * item_size(Dtype, 8),
    Due =:= byte_size(Elements)
        orelse invalid(io_lib:format("~b bytes of elements where ~b are due", [byte_size(Elements), Due])),
    {ndarray, Dtype, Shape, Elements}.

%% Nested lists of numbers and booleans; a number when the shape is []. Raises {unsupported_dtype, Dtype} for the others.
-spec to_list(ndarray()) -> term().
to_list({ndarray, Dtype, Shape, Elements}) ->
    nested(Shape, numbers(Dtype, Elements)).

%% An array from nested lists, all of one length at each level. Dtype: a boolean's, integer's or float's of 4 or 8 bytes.
-spec from_list(dtype(), term()) -> ndarray().
from_list(Dtype, List) ->
    Shape = shape(List),
    Flat = lists:flatten([List]),
    length(Flat) =:= product(Shape) orelse error({ragged, Shape}),
    {ndarray, Dtype, Shape, << <<(one(Dtype, X))/binary>> || X <- Flat >>}.

shape([First | _] = List) -> [length(List) | shape(First)];
shape([]) -> [0];
shape(_) -> [].

nested([], [Number]) -> Number;
nested([_], Numbers) -> Numbers;
nested([N | Inner], Numbers) -> slices(N, Inner, product(Inner), Numbers).

slices(0, _, _, _) -> [];
slices(N, Inner, Size, Numbers) ->
    {Slice, Rest} = lists:split(Size, Numbers),
    [nested(Inner, Slice) | slices(N - 1, Inner, Size, Rest)].

numbers(<<"|b1">>, E) -> [B =/= 0 || <<B>> <= E];
numbers(<<_, "i", Size>>, E) -> Bits = 8 * (Size - $0), [N || <<N:Bits/little-signed>> <= E];
numbers(<<_, "u", Size>>, E) -> Bits = 8 * (Size - $0), [N || <<N:Bits/little>> <= E];
numbers(<<"<f4">>, E) -> [float_of(B) || <<B:4/binary>> <= E];
numbers(<<"<f8">>, E) -> [float_of(B) || <<B:8/binary>> <= E];
numbers(Dtype, _) -> error({unsupported_dtype, Dtype}).

float_of(<<F:32/float-little>>) -> F;
float_of(<<F:64/float-little>>) -> F;
float_of(<<N:32/little>>) -> special(N bsr 31, N band 16#7fffff);
float_of(<<N:64/little>>) -> special(N bsr 63, N band 16#fffffffffffff).

special(0, 0) -> infinity;
special(1, 0) -> neg_infinity;
special(_, _) -> nan.

one(<<"|b1">>, true) -> <<1>>;
one(<<"|b1">>, false) -> <<0>>;
one(<<_, Kind, Size>>, N) when Kind =:= $i; Kind =:= $u -> <<N:(8 * (Size - $0))/little>>;
one(<<"<f4">>, F) -> <<F:32/float-little>>;
one(<<"<f8">>, F) -> <<F:64/float-little>>;
one(Dtype, _) -> error({unsupported_dtype, Dtype}).

item_size([_ | _] = Fields, Depth) when Depth > 0 ->
    Names = [field_name(Field) || Field <- Fields],
    length(lists:usort(Names)) =:= length(Names) orelse invalid("two fields of one name"),
    lists:sum([field_size(Field, Depth - 1) || Field <- Fields]);
item_size(<<"|b1">>, _) -> 1;
item_size(<<"|", Kind, "1">>, _) when Kind =:= $i; Kind =:= $u -> 1;
item_size(<<"<", Kind, Size>>, _) when Kind =:= $i orelse Kind =:= $u orelse Kind =:= $f,
                                       Size =:= $2 orelse Size =:= $4 orelse Size =:= $8 -> Size - $0;
item_size(<<"<c8">>, _) -> 8;
item_size(<<"<c16">>, _) -> 16;
item_size(<<"<U", K/binary>>, _) -> 4 * count(K);
item_size(<<"|", Kind, K/binary>>, _) when Kind =:= $S; Kind =:= $V -> count(K);
item_size(<<"<", Kind, "8", Unit/binary>>, _) when Kind =:= $M; Kind =:= $m -> unit(Unit), 8;
item_size(Dtype, _) -> invalid(io_lib:format("the dtype ~0tP", [Dtype, 8])).

field_name([Name | _]) ->
    case text(Name) of
        <<_, _/binary>> = Text -> Text;
        _ -> invalid("a field's name is a string, not empty")
    end;
field_name(_) -> invalid("a field is [name, dtype] or [name, dtype, shape]").

field_size([_, Dtype], Depth) -> item_size(text(Dtype), Depth);
field_size([_, Dtype, Shape], Depth) ->
    is_shape(Shape) orelse invalid("a field's shape"),
    product(Shape) * item_size(text(Dtype), Depth);
field_size(_, _) -> invalid("a field is [name, dtype] or [name, dtype, shape]").

count(K) ->
    case re:run(K, "^[1-9][0-9]{0,8}\\z", [{capture, none}]) of
        match -> binary_to_integer(K);
        nomatch -> invalid("a dtype's size")
    end.

unit(<<>>) -> ok;
unit(Text) ->
    case re:run(Text, "^\\[([1-9][0-9]{0,8})?([A-Za-z]+)\\]\\z", [{capture, [2], binary}]) of
        {match, [Unit]} -> lists:member(Unit, ?UNITS) orelse invalid("a unit of time");
        nomatch -> invalid("a unit of time")
    end.

is_shape(Shape) ->
    is_list(Shape) andalso length(Shape) =< 64 andalso lists:all(fun(N) -> is_integer(N) andalso N >= 0 end, Shape).

product(Shape) -> lists:foldl(fun erlang:'*'/2, 1, Shape).

text({bin, B}) -> B;
text(Other) -> Other.

-spec invalid(iodata()) -> no_return().
invalid(Text) -> throw({'InvalidExtension', Text}).
