%% MessagePack, as section 3 of the protocol has it.
%%
%%   MessagePack           Erlang
%%   nil, true, false      nil, true, false
%%   integer, float        integer, float; infinity, neg_infinity and nan for what Erlang's floats cannot be
%%   str, bin              <<"text">>, {bin, <<1, 2>>}
%%   array, map            list, map
%%   timestamp             {timestamp, Seconds, Nanoseconds}
%%   ndarray               {ndarray, Dtype, Shape, Elements}
%%   other extensions      {ext, Code, Bytes}
%%
%% Written besides: a binary that is not UTF-8, as bin; any other atom, as the str of its name; {map, [{Key, Value}]},
%% a map in that order.
-module(mlports_msgpack).

-export([encode/1, encode/2, decode/1, decode/2]).
-export_type([value/0]).

-type value() :: atom() | number() | binary() | {bin, binary()} | [value()] | #{value() => value()}
               | {map, [{value(), value()}]} | {timestamp, integer(), 0..999999999}
               | {ndarray, mlports_ndarray:dtype(), [non_neg_integer()], binary()} | {ext, -128..127, binary()}.

-define(MAX_DEPTH, 128).

%% The bytes of Value. Raises {unencodable, Text}.
-spec encode(value()) -> binary().
encode(Value) -> encode(Value, 0).

%% The same for a value that will stand inside so many arrays and maps.
-spec encode(value(), non_neg_integer()) -> binary().
encode(Value, Depth) -> pack(Value, <<>>, ?MAX_DEPTH - Depth).

pack(N, Acc, _) when is_integer(N) -> pack_integer(N, Acc);
pack(F, Acc, _) when is_float(F) -> <<Acc/binary, 16#cb, F/float>>;
pack(B, Acc, _) when is_binary(B) ->
    case is_utf8(B) of
        true -> pack_text(B, Acc);
        false -> pack_bin(B, Acc)
    end;
pack(nil, Acc, _) -> <<Acc/binary, 16#c0>>;
pack(false, Acc, _) -> <<Acc/binary, 16#c2>>;
pack(true, Acc, _) -> <<Acc/binary, 16#c3>>;
pack(infinity, Acc, _) -> <<Acc/binary, 16#cb, 16#7ff0000000000000:64>>;
pack(neg_infinity, Acc, _) -> <<Acc/binary, 16#cb, 16#fff0000000000000:64>>;
pack(nan, Acc, _) -> <<Acc/binary, 16#cb, 16#7ff8000000000000:64>>;
pack(Atom, Acc, _) when is_atom(Atom) -> pack_text(atom_to_binary(Atom), Acc);
pack({bin, B}, Acc, _) when is_binary(B) -> pack_bin(B, Acc);
pack(List, Acc, Depth) when is_list(List), Depth > 0 ->
    try length(List) of
        N -> pack_items(List, array_header(N, Acc), Depth - 1)
    catch
        error:badarg -> unencodable("an improper list", List)
    end;
pack(Map, Acc, Depth) when is_map(Map), Depth > 0 ->
    pack_pairs(maps:to_list(Map), map_header(map_size(Map), Acc), Depth - 1);
pack({map, Pairs}, Acc, Depth) when is_list(Pairs), Depth > 0 ->
    pack_pairs(Pairs, map_header(length(Pairs), Acc), Depth - 1);
pack({timestamp, S, 0}, Acc, _) when S >= 0, S < 1 bsl 32 -> pack_ext(-1, <<S:32>>, Acc);
pack({timestamp, S, N}, Acc, _) when S >= 0, S < 1 bsl 34, N >= 0, N < 1000000000 -> pack_ext(-1, <<N:30, S:34>>, Acc);
pack({timestamp, S, N}, Acc, _) when is_integer(S), N >= 0, N < 1000000000 -> pack_ext(-1, <<N:32, S:64>>, Acc);
pack({ndarray, Dtype, Shape, Elements}, Acc, _) ->
    pack_ext(1, <<(encode([Dtype, Shape]))/binary, Elements/binary>>, Acc);
pack({ext, Code, B}, Acc, _) when is_integer(Code), Code >= -128, Code < 128, is_binary(B) -> pack_ext(Code, B, Acc);
pack(Deep, _, 0) when is_list(Deep); is_map(Deep) ->
    unencodable("deeper than 128 arrays and maps", '...');
pack(Other, _, _) ->
    unencodable("nothing in MessagePack is", Other).

pack_integer(N, Acc) when N >= 0 ->
    if N < 1 bsl 7 -> <<Acc/binary, N>>;
       N < 1 bsl 8 -> <<Acc/binary, 16#cc, N>>;
       N < 1 bsl 16 -> <<Acc/binary, 16#cd, N:16>>;
       N < 1 bsl 32 -> <<Acc/binary, 16#ce, N:32>>;
       N < 1 bsl 64 -> <<Acc/binary, 16#cf, N:64>>;
       true -> unencodable("beyond 64 bits is", N)
    end;
pack_integer(N, Acc) ->
    if N >= -32 -> <<Acc/binary, N>>;
       N >= -(1 bsl 7) -> <<Acc/binary, 16#d0, N>>;
       N >= -(1 bsl 15) -> <<Acc/binary, 16#d1, N:16>>;
       N >= -(1 bsl 31) -> <<Acc/binary, 16#d2, N:32>>;
       N >= -(1 bsl 63) -> <<Acc/binary, 16#d3, N:64>>;
       true -> unencodable("beyond 64 bits is", N)
    end.

pack_text(B, Acc) ->
    case byte_size(B) of
        L when L < 32 -> <<Acc/binary, 2#101:3, L:5, B/binary>>;
        L when L < 1 bsl 8 -> <<Acc/binary, 16#d9, L, B/binary>>;
        L when L < 1 bsl 16 -> <<Acc/binary, 16#da, L:16, B/binary>>;
        L when L < 1 bsl 32 -> <<Acc/binary, 16#db, L:32, B/binary>>
    end.

pack_bin(B, Acc) ->
    case byte_size(B) of
        L when L < 1 bsl 8 -> <<Acc/binary, 16#c4, L, B/binary>>;
        L when L < 1 bsl 16 -> <<Acc/binary, 16#c5, L:16, B/binary>>;
        L when L < 1 bsl 32 -> <<Acc/binary, 16#c6, L:32, B/binary>>
    end.

pack_ext(Code, B, Acc) ->
    case byte_size(B) of
        1 -> <<Acc/binary, 16#d4, Code, B/binary>>;
        2 -> <<Acc/binary, 16#d5, Code, B/binary>>;
        4 -> <<Acc/binary, 16#d6, Code, B/binary>>;
        8 -> <<Acc/binary, 16#d7, Code, B/binary>>;
        16 -> <<Acc/binary, 16#d8, Code, B/binary>>;
        L when L < 1 bsl 8 -> <<Acc/binary, 16#c7, L, Code, B/binary>>;
        L when L < 1 bsl 16 -> <<Acc/binary, 16#c8, L:16, Code, B/binary>>;
        L when L < 1 bsl 32 -> <<Acc/binary, 16#c9, L:32, Code, B/binary>>
    end.

array_header(N, Acc) when N < 16 -> <<Acc/binary, 2#1001:4, N:4>>;
array_header(N, Acc) when N < 1 bsl 16 -> <<Acc/binary, 16#dc, N:16>>;
array_header(N, Acc) -> <<Acc/binary, 16#dd, N:32>>.

map_header(N, Acc) when N < 16 -> <<Acc/binary, 2#1000:4, N:4>>;
map_header(N, Acc) when N < 1 bsl 16 -> <<Acc/binary, 16#de, N:16>>;
map_header(N, Acc) -> <<Acc/binary, 16#df, N:32>>.

pack_items([], Acc, _) -> Acc;
pack_items([Value | Rest], Acc, Depth) -> pack_items(Rest, pack(Value, Acc, Depth), Depth).

pack_pairs([], Acc, _) -> Acc;
pack_pairs([{Key, Value} | Rest], Acc, Depth) ->
    pack_pairs(Rest, pack(Value, pack_key(Key, Acc), Depth), Depth).

pack_key(Key, _) when Key =:= infinity; Key =:= neg_infinity; Key =:= nan -> unencodable("no map key is", Key);
pack_key({bin, _} = Key, Acc) -> pack(Key, Acc, 0);
pack_key(Key, Acc) when is_binary(Key); is_integer(Key); is_atom(Key) -> pack(Key, Acc, 0);
pack_key(Key, _) -> unencodable("no map key is", Key).

-spec unencodable(string(), term()) -> no_return().
unencodable(What, Term) ->
    error({unencodable, iolist_to_binary(io_lib:format("~ts ~0tP", [What, Term, 12]))}).

%% The one value that Bytes are, or the name of the violation (section 13) and its reason.
-spec decode(binary()) -> {ok, value()} | {error, atom(), binary()}.
decode(Bytes) -> decode(Bytes, true).

%% Arrays says whether the feature ndarray is agreed: extension 1 is a fault without it.
-spec decode(binary(), boolean()) -> {ok, value()} | {error, atom(), binary()}.
decode(Bytes, Arrays) ->
    try value(Bytes, [], ?MAX_DEPTH, Arrays) of
        {Value, <<>>} -> {ok, Value};
        {_, Rest} ->
            {error, 'TrailingBytes', iolist_to_binary(io_lib:format("~b bytes behind the value", [byte_size(Rest)]))}
    catch
        throw:{Name, Text} -> {error, Name, iolist_to_binary(Text)}
    end.

%% One value, then what the stack of open arrays and maps waits for. Depth: so many more may be opened.
value(<<0:1, N:7, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<2#101:3, L:5, B:L/binary, R/binary>>, S, D, A) -> text(R, B, S, D, A);
value(<<2#1001:4, N:4, R/binary>>, S, D, A) -> array(R, N, S, D, A);
value(<<2#1000:4, N:4, R/binary>>, S, D, A) -> map(R, N, S, D, A);
value(<<2#111:3, N:5, R/binary>>, S, D, A) -> next(R, N - 32, S, D, A);
value(<<16#c0, R/binary>>, S, D, A) -> next(R, nil, S, D, A);
value(<<16#c2, R/binary>>, S, D, A) -> next(R, false, S, D, A);
value(<<16#c3, R/binary>>, S, D, A) -> next(R, true, S, D, A);
value(<<16#cb, F:64/float, R/binary>>, S, D, A) -> next(R, F, S, D, A);
value(<<16#cc, N, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<16#cd, N:16, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<16#ce, N:32, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<16#cf, N:64, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<16#d0, N:8/signed, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<16#d1, N:16/signed, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<16#d2, N:32/signed, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<16#d3, N:64/signed, R/binary>>, S, D, A) -> next(R, N, S, D, A);
value(<<16#d9, L, B:L/binary, R/binary>>, S, D, A) -> text(R, B, S, D, A);
value(<<16#da, L:16, B:L/binary, R/binary>>, S, D, A) -> text(R, B, S, D, A);
value(<<16#db, L:32, B:L/binary, R/binary>>, S, D, A) -> text(R, B, S, D, A);
value(<<16#c4, L, B:L/binary, R/binary>>, S, D, A) -> next(R, {bin, B}, S, D, A);
value(<<16#c5, L:16, B:L/binary, R/binary>>, S, D, A) -> next(R, {bin, B}, S, D, A);
value(<<16#c6, L:32, B:L/binary, R/binary>>, S, D, A) -> next(R, {bin, B}, S, D, A);
value(<<16#dc, N:16, R/binary>>, S, D, A) -> array(R, N, S, D, A);
value(<<16#dd, N:32, R/binary>>, S, D, A) -> array(R, N, S, D, A);
value(<<16#de, N:16, R/binary>>, S, D, A) -> map(R, N, S, D, A);
value(<<16#df, N:32, R/binary>>, S, D, A) -> map(R, N, S, D, A);
value(<<16#ca, F:32/float, R/binary>>, S, D, A) -> next(R, F, S, D, A);
value(<<16#ca, Sign:1, 255, M:23, R/binary>>, S, D, A) -> next(R, special(Sign, M), S, D, A);
value(<<16#cb, Sign:1, 2047:11, M:52, R/binary>>, S, D, A) -> next(R, special(Sign, M), S, D, A);
value(<<16#d4, Code/signed, B:1/binary, R/binary>>, S, D, A) -> next(R, extension(Code, B, A), S, D, A);
value(<<16#d5, Code/signed, B:2/binary, R/binary>>, S, D, A) -> next(R, extension(Code, B, A), S, D, A);
value(<<16#d6, Code/signed, B:4/binary, R/binary>>, S, D, A) -> next(R, extension(Code, B, A), S, D, A);
value(<<16#d7, Code/signed, B:8/binary, R/binary>>, S, D, A) -> next(R, extension(Code, B, A), S, D, A);
value(<<16#d8, Code/signed, B:16/binary, R/binary>>, S, D, A) -> next(R, extension(Code, B, A), S, D, A);
value(<<16#c7, L, Code/signed, B:L/binary, R/binary>>, S, D, A) -> next(R, extension(Code, B, A), S, D, A);
value(<<16#c8, L:16, Code/signed, B:L/binary, R/binary>>, S, D, A) -> next(R, extension(Code, B, A), S, D, A);
value(<<16#c9, L:32, Code/signed, B:L/binary, R/binary>>, S, D, A) -> next(R, extension(Code, B, A), S, D, A);
value(<<16#c1, _/binary>>, _, _, _) -> malformed("the byte c1");
value(_, _, _, _) -> malformed("it ends inside a value").

next(<<R/binary>>, V, [], _, _) -> {V, R};
next(<<R/binary>>, V, [{items, 1, Acc} | S], D, A) -> next(R, lists:reverse(Acc, [V]), S, D + 1, A);
next(<<R/binary>>, V, [{items, N, Acc} | S], D, A) -> value(R, [{items, N - 1, [V | Acc]} | S], D, A);
next(<<R/binary>>, V, [{value, Key, 1, Acc} | S], D, A) -> next(R, maps:from_list([{Key, V} | Acc]), S, D + 1, A);
next(<<R/binary>>, V, [{value, Key, N, Acc} | S], D, A) -> value(R, [{key, N - 1, [{Key, V} | Acc]} | S], D, A);
next(<<R/binary>>, V, [{key, N, Acc} | S], D, A) ->
    case is_key(V) of
        true -> value(R, [{value, V, N, Acc} | S], D, A);
        false -> malformed("a map key that is an array, a map, a float or an extension")
    end.

array(<<_/binary>>, _, _, 0, _) -> too_deep();
array(<<R/binary>>, 0, S, D, A) -> next(R, [], S, D, A);
array(<<R/binary>>, N, S, D, A) -> value(R, [{items, N, []} | S], D - 1, A).

map(<<_/binary>>, _, _, 0, _) -> too_deep();
map(<<R/binary>>, 0, S, D, A) -> next(R, #{}, S, D, A);
map(<<R/binary>>, N, S, D, A) -> value(R, [{key, N, []} | S], D - 1, A).

text(<<R/binary>>, B, S, D, A) ->
    case is_utf8(B) of
        true -> next(R, B, S, D, A);
        false -> malformed("a str that is not UTF-8")
    end.

is_key(Key) when is_binary(Key); is_integer(Key); is_boolean(Key); Key =:= nil -> true;
is_key({bin, _}) -> true;
is_key(_) -> false.

special(0, 0) -> infinity;
special(1, 0) -> neg_infinity;
special(_, _) -> nan.

extension(-1, <<S:32>>, _) -> {timestamp, S, 0};
extension(-1, <<N:30, S:34>>, _) when N < 1000000000 -> {timestamp, S, N};
extension(-1, <<N:32, S:64/signed>>, _) when N < 1000000000 -> {timestamp, S, N};
extension(-1, _, _) -> malformed("a timestamp of another length, or with too many nanoseconds");
extension(1, B, true) -> ndarray(B);
extension(Code, _, _) when Code >= 1, Code =< 3 ->
    throw({'InvalidExtension', io_lib:format("extension ~b, which was not agreed", [Code])});
extension(Code, B, _) -> {ext, Code, B}.

ndarray(B) ->
    try value(B, [], ?MAX_DEPTH, false) of
        {[Dtype, Shape], Elements} -> mlports_ndarray:checked(Dtype, Shape, Elements);
        _ -> throw({'InvalidExtension', "an ndarray's header is [dtype, shape]"})
    catch
        throw:{'MalformedValue', Text} -> throw({'InvalidExtension', ["an ndarray's header: ", Text]})
    end.

%% Seven ASCII bytes at once where there are so many: most text is ASCII.
is_utf8(<<W:56, R/binary>>) when W band 16#80808080808080 =:= 0 -> is_utf8(R);
is_utf8(<<_/utf8, R/binary>>) -> is_utf8(R);
is_utf8(R) -> R =:= <<>>.

-spec malformed(string()) -> no_return().
malformed(Text) -> throw({'MalformedValue', Text}).

-spec too_deep() -> no_return().
too_deep() -> malformed("deeper than 128 arrays and maps").
