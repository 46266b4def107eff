#!/usr/bin/env escript
%% -*- erlang -*-
%% OTP's supervisor over a gen_server that owns a port: what restarts a worker among Erlang users.
%%
%%   escript supervisor_bench.escript COMMAND [ARGUMENT ...]
%%
%% one_for_one; the gen_server is permanent, says hello in its init, and stops when its worker ends. 64 processes call
%% it over and over while they may, and call again when a call fails, so 64 calls are always open.
%% Each line on stdin is answered by one:
%%   go       "0": the calls begin
%%   worker   "PID HELD": the worker's pid, the requests that it holds
%%   answers  "ANSWERS": how many calls have been answered
%%   next     "0"; then, when the next call has been answered, the system's time, in nanoseconds. No call after that
%% The end of stdin ends it.
-mode(compile).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(IN_FLIGHT, 64).

%% Whether the callers may call: not at all, over and over, or until the next answer.
-define(HELD, 0).
-define(GOING, 1).
-define(LAST, 2).

main([Command | Args]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    Answers = counters:new(1, []),
    State = atomics:new(1, []),
    {ok, _} = supervisor:start_link(?MODULE, {supervisor, executable(Command), Args}),
    Main = self(),
    Clients = [spawn_link(fun() -> wait(Main, Answers, State) end) || _ <- lists:seq(1, ?IN_FLIGHT)],
    io:format("otp ~s~n", [erlang:system_info(otp_release)]),
    serve(Clients, Answers, State).

executable(Command) ->
    case os:find_executable(Command) of
        false ->
            io:format(standard_error, "no such command: ~ts~n", [Command]),
            halt(1);
        Path -> Path
    end.

serve(Clients, Answers, State) ->
    case io:get_line("") of
        "go\n" ->
            atomics:put(State, 1, ?GOING),
            [Client ! go || Client <- Clients],
            io:format("0~n");
        "worker\n" ->
            {Pid, Held} = gen_server:call(echo, worker),
            io:format("~b ~b~n", [Pid, Held]);
        "answers\n" ->
            io:format("~b~n", [counters:get(Answers, 1)]);
        "next\n" ->
            atomics:put(State, 1, ?LAST),
            io:format("0~n"),
            receive {answered, Time} -> io:format("~b~n", [Time]) end;
        eof ->
            halt(0)
    end,
    serve(Clients, Answers, State).

wait(Main, Answers, State) ->
    receive go -> call(Main, Answers, State) end.

call(Main, Answers, State) ->
    try gen_server:call(echo, {echo, <<"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx">>}, infinity) of
        ok ->
            counters:add(Answers, 1, 1),
            case atomics:compare_exchange(State, 1, ?LAST, ?HELD) of
                ok ->
                    Main ! {answered, os:system_time(nanosecond)},
                    wait(Main, Answers, State);
                ?HELD -> wait(Main, Answers, State);
                ?GOING -> call(Main, Answers, State)
            end
    catch
        exit:_ ->
            timer:sleep(1), % nobody has the name until the worker has answered hello
            call(Main, Answers, State)
    end.

%% The supervisor

init({supervisor, Command, Args}) ->
    Start = {gen_server, start_link, [{local, echo}, ?MODULE, {worker, Command, Args}, []]},
    {ok, {#{strategy => one_for_one, intensity => 1000000, period => 1},
          [#{id => echo, start => Start, restart => permanent}]}};

%% The gen_server

init({worker, Command, Args}) ->
    Port = open_port({spawn_executable, Command}, [{packet, 4}, binary, use_stdio, exit_status, {args, Args}]),
    Hello = #{<<"protocol">> => #{<<"min">> => 1, <<"max">> => 1},
              <<"max_frame">> => 64 * 1024 * 1024,
              <<"features">> => [],
              <<"service">> => <<"echo">>,
              <<"replica">> => 0,
              <<"config">> => #{}},
    port_command(Port, pack([0, 0, <<"$/hello">>, [Hello]])),
    receive
        {Port, {data, <<9:4, _:4, 1, 0, 16#c0, _/binary>>}} -> {ok, {Port, 1, #{}}};
        {Port, Other} -> {stop, {no_hello, Other}}
    end.

handle_call(worker, _, State = {Port, _, Open}) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    {reply, {Pid, map_size(Open)}, State};
handle_call({echo, Payload}, From, {Port, Id, Open}) ->
    port_command(Port, [<<16#94, 0, 16#ce, Id:32>>, pack(<<"echo">>), <<16#91>>, pack({bin, Payload})]),
    {noreply, {Port, (Id + 1) band 16#ffffffff, Open#{Id => From}}}.

handle_cast(_, State) -> {noreply, State}.

handle_info({Port, {data, <<9:4, _:4, 1, Rest/binary>>}}, {Port, Next, Open}) ->
    {Id, <<16#c0, _/binary>>} = id(Rest),
    {From, Others} = maps:take(Id, Open),
    gen_server:reply(From, ok),
    {noreply, {Port, Next, Others}};
handle_info({Port, {data, _}}, State = {Port, _, _}) ->
    {noreply, State}; % a notification
handle_info({Port, {exit_status, Status}}, State = {Port, _, _}) ->
    {stop, {worker_ended, Status}, State}.

id(<<0:1, Id:7, Rest/binary>>) -> {Id, Rest};
id(<<16#cc, Id:8, Rest/binary>>) -> {Id, Rest};
id(<<16#cd, Id:16, Rest/binary>>) -> {Id, Rest};
id(<<16#ce, Id:32, Rest/binary>>) -> {Id, Rest};
id(<<16#cf, Id:64, Rest/binary>>) -> {Id, Rest}.

pack(N) when is_integer(N), N >= 0, N < 128 -> <<N>>;
pack(N) when is_integer(N), N >= 0 -> <<16#cf, N:64>>;
pack({bin, B}) -> [<<16#c6, (byte_size(B)):32>>, B];
pack(S) when is_binary(S), byte_size(S) < 32 -> <<5:3, (byte_size(S)):5, S/binary>>;
pack(L) when is_list(L), length(L) < 16 -> [<<9:4, (length(L)):4>>, [pack(E) || E <- L]];
pack(M) when map_size(M) < 16 -> [<<8:4, (map_size(M)):4>>, [[pack(K), pack(V)] || {K, V} <- maps:to_list(M)]].
