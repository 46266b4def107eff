#!/usr/bin/env escript
%% -*- erlang -*-
%% Erlang's own port driving a worker over {packet,4}, as an Erlang user would.
%%
%%   escript port_bench.escript worker|raw COMMAND [ARGUMENT ...]
%%
%% "worker": COMMAND speaks the mlports protocol and has a method `echo`. The MessagePack is written by hand here, and an
%% answer is read as far as its id and its error. "raw": COMMAND gives the frames back undecoded.
%% Each line "SIZE IN_FLIGHT CALLS" on stdin is one run, answered by "CALLS NANOSECONDS P50 P99" (percentiles in
%% nanoseconds, 0 with more than one in flight). The end of stdin ends it.
-mode(compile).

main([Kind, Command | Args]) ->
    Port = open_port({spawn_executable, executable(Command)},
                     [{packet, 4}, binary, use_stdio, exit_status, {args, Args}]),
    Style = list_to_atom(Kind),
    ok = greet(Style, Port),
    io:format("otp ~s~n", [erlang:system_info(otp_release)]),
    serve(Style, Port).

executable(Command) ->
    case os:find_executable(Command) of
        false -> fail("no such command: ~ts", [Command]);
        Path -> Path
    end.

serve(Style, Port) ->
    case io:get_line("") of
        Line when is_list(Line) ->
            [Size, InFlight, Calls] = [list_to_integer(Word) || Word <- string:lexemes(Line, " \n")],
            {Nanos, P50, P99} = run(Style, Port, binary:copy(<<"x">>, Size), InFlight, Calls),
            io:format("~b ~b ~b ~b~n", [Calls, Nanos, P50, P99]),
            serve(Style, Port);
        eof ->
            port_close(Port)
    end.

run(Style, Port, Payload, 1, Calls) ->
    Start = erlang:monotonic_time(nanosecond),
    {End, Times} = one_at_a_time(Style, Port, frame_of(Style, Payload), 1, Calls, Start, []),
    Sorted = list_to_tuple(lists:sort(Times)),
    {End - Start, element(Calls div 2 + 1, Sorted), element(Calls * 99 div 100 + 1, Sorted)};
run(Style, Port, Payload, InFlight, Calls) ->
    Frame = frame_of(Style, Payload),
    Start = erlang:monotonic_time(nanosecond),
    [send(Port, Frame, Id) || Id <- lists:seq(1, min(InFlight, Calls))],
    in_flight(Style, Port, Frame, InFlight + 1, Calls, Calls),
    {erlang:monotonic_time(nanosecond) - Start, 0, 0}.

one_at_a_time(_, _, _, Id, Calls, Last, Times) when Id > Calls ->
    {Last, Times};
one_at_a_time(Style, Port, Frame, Id, Calls, Last, Times) ->
    send(Port, Frame, Id),
    ok = answer(Style, Port),
    Now = erlang:monotonic_time(nanosecond),
    one_at_a_time(Style, Port, Frame, Id + 1, Calls, Now, [Now - Last | Times]).

%% A sliding window: one more goes out for each that comes back.
in_flight(_, _, _, _, _, 0) ->
    ok;
in_flight(Style, Port, Frame, Next, Calls, Waiting) ->
    ok = answer(Style, Port),
    case Next =< Calls of
        true -> send(Port, Frame, Next);
        false -> ok
    end,
    in_flight(Style, Port, Frame, Next + 1, Calls, Waiting - 1).

send(Port, {Head, Tail}, Id) -> port_command(Port, [Head, <<16#ce, Id:32>>, Tail]);
send(Port, Frame, _Id) -> port_command(Port, Frame).

frame_of(raw, Payload) -> Payload;
frame_of(worker, Payload) -> {<<16#94, 0>>, [pack(<<"echo">>), <<16#91>>, pack({bin, Payload})]}.

greet(raw, _) ->
    ok;
greet(worker, Port) ->
    Hello = #{<<"protocol">> => #{<<"min">> => 1, <<"max">> => 1},
              <<"max_frame">> => 64 * 1024 * 1024,
              <<"features">> => [],
              <<"service">> => <<"echo">>,
              <<"replica">> => 0,
              <<"config">> => #{}},
    port_command(Port, pack([0, 0, <<"$/hello">>, [Hello]])),
    answer(worker, Port).

answer(Style, Port) ->
    receive
        {Port, {data, Data}} ->
            case check(Style, Data) of
                notification -> answer(Style, Port);
                ok -> ok
            end;
        {Port, {exit_status, Status}} ->
            fail("the worker ended with status ~b", [Status])
    after 60000 ->
        fail("the worker has not answered for 60 s", [])
    end.

check(raw, _) -> ok;
check(worker, <<9:4, _:4, 1, Rest/binary>>) -> check_error(after_id(Rest));
check(worker, <<9:4, _:4, 2, _/binary>>) -> notification;
check(worker, Data) -> fail("not an answer: ~p", [binary:part(Data, 0, min(40, byte_size(Data)))]).

check_error(<<16#c0, _/binary>>) -> ok;
check_error(Error) -> fail("the worker answered an error: ~p", [binary:part(Error, 0, min(200, byte_size(Error)))]).

after_id(<<0:1, _:7, Rest/binary>>) -> Rest;
after_id(<<16#cc, _:8, Rest/binary>>) -> Rest;
after_id(<<16#cd, _:16, Rest/binary>>) -> Rest;
after_id(<<16#ce, _:32, Rest/binary>>) -> Rest;
after_id(<<16#cf, _:64, Rest/binary>>) -> Rest.

pack(N) when is_integer(N), N >= 0, N < 128 -> <<N>>;
pack(N) when is_integer(N), N >= 0 -> <<16#cf, N:64>>;
pack({bin, B}) -> [<<16#c6, (byte_size(B)):32>>, B];
pack(S) when is_binary(S), byte_size(S) < 32 -> <<5:3, (byte_size(S)):5, S/binary>>;
pack(L) when is_list(L), length(L) < 16 -> [<<9:4, (length(L)):4>>, [pack(E) || E <- L]];
pack(M) when map_size(M) < 16 -> [<<8:4, (map_size(M)):4>>, [[pack(K), pack(V)] || {K, V} <- maps:to_list(M)]].

fail(Format, Args) ->
    io:format(standard_error, Format ++ "~n", Args),
    halt(1).
