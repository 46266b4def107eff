#!/usr/bin/env escript
%% An Erlang node as the orchestrator: opens a worker with open_port and {packet,4}, and speaks MessagePack with it,
%% encoded and decoded here by hand. Its arguments are the worker's command. Prints "ok" when all was as it should be.
%%! -noinput

main([Program | Arguments]) ->
    Executable = os:find_executable(Program),
    Port = open_port({spawn_executable, Executable},
                     [{args, Arguments}, {packet, 4}, binary, exit_status, {env, [{"MLPORTS_WORKER", "1"}]}]),
    Hello = #{<<"protocol">> => #{<<"min">> => 1, <<"max">> => 1}, <<"features">> => [<<"ping">>, <<"stream">>],
              <<"service">> => <<"erlang">>, <<"replica">> => 0, <<"config">> => #{<<"answer">> => 42}},
    {nil, #{<<"protocol">> := 1, <<"name">> := <<"raw">>, <<"methods">> := Methods}} = call(Port, 0, <<"$/hello">>, [Hello]),
    #{<<"double">> := _, <<"fails">> := _} = Methods,

    {nil, 42} = call(Port, 1, <<"double">>, [21]),
    {nil, <<"abab">>} = call(Port, 2, <<"double">>, [<<"ab">>]),
    {nil, 42} = call(Port, 3, <<"configured">>, []),
    {#{<<"code">> := <<"unknown">>, <<"message">> := <<"ValueError: as asked">>}, nil} = call(Port, 4, <<"fails">>, []),
    {#{<<"code">> := <<"unimplemented">>}, nil} = call(Port, 5, <<"nothing">>, []),

    %% Several at once are answered in order.
    [send(Port, [0, Id, <<"double">>, [Id]]) || Id <- lists:seq(100, 300)],
    [begin [1, Id, nil, Doubled] = message(Port), Doubled = 2 * Id end || Id <- lists:seq(100, 300)],

    %% A large one each way.
    Large = binary:copy(<<"x">>, 3000000),
    {nil, <<Large:3000000/binary, Large:3000000/binary>>} = call(Port, 400, <<"double">>, [Large]),

    %% A ping while a handler is at work, then its answer.
    send(Port, [0, 500, <<"blocks">>, [1]]),
    send(Port, [0, 501, <<"$/ping">>, []]),
    [1, 501, nil, nil] = message(Port),
    [1, 500, nil, <<"done">>] = message(Port),

    %% A stream, within its credit.
    send(Port, [0, 600, <<"count">>, [3], #{<<"credit">> => 2}]),
    [2, <<"$/item">>, [600, 0]] = message(Port),
    [2, <<"$/item">>, [600, 1]] = message(Port),
    send(Port, [2, <<"$/credit">>, [600, 1]]),
    [2, <<"$/item">>, [600, 2]] = message(Port),
    [1, 600, nil, nil] = message(Port),

    %% $/stop, and its end.
    send(Port, [2, <<"$/stop">>, [<<"done">>]]),
    receive {Port, {exit_status, 0}} -> ok after 10000 -> error(still_there) end,
    io:format("ok~n").

call(Port, Id, Method, Params) ->
    send(Port, [0, Id, Method, Params]),
    [1, Id, Error, Result | _] = message(Port),
    {Error, Result}.

send(Port, Message) -> port_command(Port, pack(Message)).

message(Port) ->
    receive
        {Port, {data, Data}} -> {Value, <<>>} = unpack(Data), Value;
        {Port, {exit_status, Status}} -> error({exit_status, Status})
    after 10000 -> error(silence)
    end.

pack(nil) -> <<16#c0>>;
pack(N) when is_integer(N), N >= 0, N < 128 -> <<N>>;
pack(N) when is_integer(N), N >= 0 -> <<16#cf, N:64>>;
pack(B) when is_binary(B), byte_size(B) < 32 -> <<5:3, (byte_size(B)):5, B/binary>>;
pack(B) when is_binary(B) -> <<16#db, (byte_size(B)):32, B/binary>>;
pack(L) when is_list(L) -> iolist_to_binary([<<16#dd, (length(L)):32>> | [pack(V) || V <- L]]);
pack(M) when is_map(M) ->
    iolist_to_binary([<<16#df, (map_size(M)):32>> | [[pack(K), pack(V)] || {K, V} <- maps:to_list(M)]]).

unpack(<<0:1, N:7, Rest/binary>>) -> {N, Rest};
unpack(<<16#c0, Rest/binary>>) -> {nil, Rest};
unpack(<<16#c2, Rest/binary>>) -> {false, Rest};
unpack(<<16#c3, Rest/binary>>) -> {true, Rest};
unpack(<<16#cc, N:8, Rest/binary>>) -> {N, Rest};
unpack(<<16#cd, N:16, Rest/binary>>) -> {N, Rest};
unpack(<<16#ce, N:32, Rest/binary>>) -> {N, Rest};
unpack(<<16#cf, N:64, Rest/binary>>) -> {N, Rest};
unpack(<<5:3, L:5, B:L/binary, Rest/binary>>) -> {B, Rest};
unpack(<<16#d9, L:8, B:L/binary, Rest/binary>>) -> {B, Rest};
unpack(<<16#da, L:16, B:L/binary, Rest/binary>>) -> {B, Rest};
unpack(<<16#db, L:32, B:L/binary, Rest/binary>>) -> {B, Rest};
unpack(<<9:4, L:4, Rest/binary>>) -> unpack_list(L, Rest, []);
unpack(<<16#dc, L:16, Rest/binary>>) -> unpack_list(L, Rest, []);
unpack(<<8:4, L:4, Rest/binary>>) -> unpack_map(L, Rest, #{});
unpack(<<16#de, L:16, Rest/binary>>) -> unpack_map(L, Rest, #{}).

unpack_list(0, Rest, Values) -> {lists:reverse(Values), Rest};
unpack_list(N, Data, Values) ->
    {Value, Rest} = unpack(Data),
    unpack_list(N - 1, Rest, [Value | Values]).

unpack_map(0, Rest, Map) -> {Map, Rest};
unpack_map(N, Data, Map) ->
    {Key, Middle} = unpack(Data),
    {Value, Rest} = unpack(Middle),
    unpack_map(N - 1, Rest, Map#{Key => Value}).
