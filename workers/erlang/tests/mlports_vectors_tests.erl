%% The golden frames of protocol/vectors, which the Makefile wrote out as Erlang terms.
-module(mlports_vectors_tests).

-include_lib("eunit/include/eunit.hrl").

frames_test_() ->
    {ok, Vectors} = file:consult(filename:join(os:getenv("MLPORTS_VECTORS"), "frames.terms")),
    [{binary_to_list(Name), fun() -> decoded(Vector), encoded(Vector) end} || #{name := Name} = Vector <- Vectors].

decoded(#{bytes := Bytes, messages := Messages, error := Error} = Vector) ->
    Due = {[ordered(M) || M <- Messages], Error},
    ?assertEqual(Due, read([Bytes], Vector)),
    ?assertEqual(Due, read([<<B>> || <<B>> <= Bytes], Vector)),
    ?assertEqual(Due, read(pieces(Bytes), Vector)).

%% The messages that the pieces hold, and the fault behind them.
read(Pieces, #{max_frame := Max, eof := Eof}) ->
    read(Pieces, mlports_wire:frames(Max), Eof, []).

read([], Frames, true, Messages) ->
    case mlports_wire:ended(Frames) of
        ok -> {lists:reverse(Messages), none};
        {violation, Name, _} -> {lists:reverse(Messages), Name}
    end;
read([], _, false, Messages) -> {lists:reverse(Messages), none};
read([Piece | Rest], Frames, Eof, Messages) ->
    {Payloads, Next} = mlports_wire:feed(Piece, Frames),
    case {parsed(Payloads, Messages), Next} of
        {{Read, none}, {violation, Name, _}} -> {lists:reverse(Read), Name};
        {{Read, none}, _} -> read(Rest, Next, Eof, Read);
        {{Read, Name}, _} -> {lists:reverse(Read), Name}
    end.

parsed([], Messages) -> {Messages, none};
parsed([Payload | Rest], Messages) ->
    try mlports_wire:decode(Payload, true) of
        Message -> parsed(Rest, [ordered(Message) | Messages])
    catch
        throw:{violation, Name, _} -> {Messages, Name}
    end.

encoded(#{encode := false}) -> ok;
encoded(#{bytes := Bytes, messages := Messages}) ->
    Frames = [mlports_wire:frame(mlports_msgpack:encode(array(Message))) || Message <- Messages],
    ?assertEqual(Bytes, iolist_to_binary(Frames)).

array({request, Id, Method, Params, Meta}) -> [0, Id, Method, Params | [Meta || Meta =/= nil]];
array({response, Id, Error, Result, Meta}) -> [1, Id, Error, Result | [Meta || Meta =/= nil]];
array({notification, Method, Params, Meta}) -> [2, Method, Params | [Meta || Meta =/= nil]].

%% {map, Pairs} and #{} as one, and meta that is absent as #{}.
ordered({map, Pairs}) -> maps:from_list([{ordered(K), ordered(V)} || {K, V} <- Pairs]);
ordered(Map) when is_map(Map) -> maps:map(fun(_, V) -> ordered(V) end, Map);
ordered(List) when is_list(List) -> [ordered(V) || V <- List];
ordered({request, Id, Method, Params, Meta}) -> {request, Id, Method, ordered(Params), ordered_meta(Meta)};
ordered({response, Id, Error, Result, Meta}) -> {response, Id, ordered(Error), ordered(Result), ordered_meta(Meta)};
ordered({notification, Method, Params, Meta}) -> {notification, Method, ordered(Params), ordered_meta(Meta)};
ordered(Value) -> Value.

ordered_meta(nil) -> #{};
ordered_meta(Meta) -> ordered(Meta).

pieces(<<>>) -> [];
pieces(Bytes) ->
    N = rand:uniform(byte_size(Bytes)),
    <<Piece:N/binary, Rest/binary>> = Bytes,
    [Piece | pieces(Rest)].

%% Any bytes give a value or a violation, never an exception, and what was decoded is encoded and decoded to itself.
total_on_any_bytes_test() ->
    rand:seed(exsss, 1),
    {ok, Vectors} = file:consult(filename:join(os:getenv("MLPORTS_VECTORS"), "frames.terms")),
    [total(changed(Payload)) || #{bytes := <<_:32, Payload/binary>>} <- Vectors, _ <- lists:seq(1, 30)],
    [total(rand:bytes(rand:uniform(40))) || _ <- lists:seq(1, 5000)].

total(Bytes) ->
    case mlports_msgpack:decode(Bytes) of
        {ok, Value} -> ?assertEqual({ok, Value}, mlports_msgpack:decode(mlports_msgpack:encode(Value)));
        {error, Name, Text} -> ?assert(is_atom(Name) andalso is_binary(Text))
    end.

changed(<<>>) -> <<>>;
changed(Bytes) ->
    At = rand:uniform(byte_size(Bytes)) - 1,
    <<Before:At/binary, _, After/binary>> = Bytes,
    <<Before/binary, (rand:uniform(256) - 1), After/binary>>.

unencodable_test_() ->
    [?_assertError({unencodable, _}, mlports_msgpack:encode(Value))
     || Value <- [1 bsl 64, -(1 bsl 63) - 1, self(), {1, 2}, [1 | 2], #{1.0 => 1}, #{[] => 1}, #{nan => 1}, nested(129)]].

nested(0) -> 1;
nested(N) -> [nested(N - 1)].

bytes_that_are_no_text_become_bin_test() ->
    ?assertEqual(<<16#c4, 2, 255, 254>>, mlports_msgpack:encode(<<255, 254>>)).

ndarray_test_() ->
    List = [[1.5, -2.0], [0.25, 3.0]],
    {ndarray, _, [2, 2], _} = Array = mlports_ndarray:from_list(<<"<f8">>, List),
    [?_assertEqual(List, mlports_ndarray:to_list(Array)),
     ?_assertEqual([[-1], [7]], mlports_ndarray:to_list(mlports_ndarray:from_list(<<"<i2">>, [[-1], [7]]))),
     ?_assertEqual(2.5, mlports_ndarray:to_list(mlports_ndarray:from_list(<<"<f4">>, 2.5))),
     ?_assertEqual([], mlports_ndarray:to_list(mlports_ndarray:from_list(<<"<f4">>, []))),
     ?_assertEqual([infinity], mlports_ndarray:to_list({ndarray, <<"<f4">>, [1], <<0, 0, 16#80, 16#7f>>})),
     ?_assertError({ragged, _}, mlports_ndarray:from_list(<<"<f4">>, [[1.0], [1.0, 2.0]]))].
