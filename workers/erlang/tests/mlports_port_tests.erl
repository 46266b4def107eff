%% The host, with workers that `make test` or the caller names in MLPORTS_HOSTED: a file of terms {Name, [Program | Arguments]}.
%% Each has the methods of examples/conformance.erl.
-module(mlports_port_tests).

-include_lib("eunit/include/eunit.hrl").

-export([init/1, log/2]).

hosted_test_() ->
    {ok, Workers} = file:consult(os:getenv("MLPORTS_HOSTED")),
    [{Name ++ ": " ++ Title, {timeout, 90, fun() -> Test(Command) end}}
     || {Name, Command} <- Workers,
        {Title, Test} <- [{"calls", fun calls/1}, {"restarts", fun restarts/1}]].

calls(Command) ->
    logger:add_handler(?MODULE, ?MODULE, #{test => self()}),
    OnCall = fun(<<"other.double">>, [N]) -> {ok, 2 * N};
                (<<"other.crash">>, _) -> error(as_asked);
                (_, _) -> {error, #{code => not_found, message => <<"no such service">>}}
             end,
    {ok, Port} = mlports_port:start_link(#{command => Command, service => <<"tested">>, on_call => OnCall}),
    #{name := <<"conformance">>, os_pid := OsPid} = mlports_port:info(Port),
    values(Port),
    errors(Port),
    at_once(Port),
    deadlines(Port),
    streams(Port),
    ?assertEqual({ok, 5050}, mlports_port:call(Port, total, [], #{input => lists:seq(1, 100)})),
    ?assertEqual({ok, 0}, mlports_port:call(Port, total, [], #{input => []})),
    relays(Port),
    ?assertEqual({ok, nil}, mlports_port:call(Port, note, [<<"warning">>, <<"noted">>])),
    receive {logged, warning, <<"tested">>} -> ok after 5000 -> error(not_logged) end,
    logger:remove_handler(?MODULE),
    ok = mlports_port:cast(Port, mark, [<<"kept">>]),
    ?assertEqual({ok, [<<"kept">>]}, mlports_port:call(Port, marks, [])),
    unlink(Port),
    ok = mlports_port:stop(Port),
    ?assertEqual(gone, process(OsPid)),
    ?assertMatch({error, #{code := unavailable}}, mlports_port:call(Port, echo, [1])).

values(Port) ->
    [?assertEqual({ok, Value}, mlports_port:call(Port, "echo", [Value]))
     || Value <- [nil, true, 0, -1, 1.0, <<"text ", 228/utf8>>, {bin, <<0, 255>>}, [1, [2, #{}]], #{<<"k">> => 1},
                  binary:copy(<<"x">>, 1000000), infinity]].

errors(Port) ->
    ?assertMatch({error, #{code := unknown, message := <<_, _/binary>>}}, mlports_port:call(Port, fail, [<<"as asked">>])),
    ?assertMatch({error, #{code := not_found, message := <<"gone">>}},
                 mlports_port:call(Port, refuse, [<<"not_found">>, <<"gone">>])),
    ?assertMatch({error, #{code := unimplemented}}, mlports_port:call(Port, "no.such.method", [])),
    ?assertMatch({error, #{code := invalid_argument}}, mlports_port:call(Port, echo, [self()])),
    ?assertMatch({error, #{code := invalid_argument}}, mlports_port:call(Port, root, [-1])).

at_once(Port) ->
    Sent = [{N, mlports_port:async(Port, add, [N, N])} || N <- lists:seq(1, 500)],
    [?assertEqual({ok, 2 * N}, mlports_port:await(Request)) || {N, Request} <- lists:reverse(Sent)].

%% The worker is free again: it was told to cancel.
deadlines(Port) ->
    ?assertMatch({error, #{code := deadline_exceeded}}, mlports_port:call(Port, sleep, [30], 100)),
    Caller = spawn(fun() -> mlports_port:call(Port, sleep, [30], infinity) end),
    Waiting = mlports_port:async(Port, echo, [1], infinity),
    ?assertEqual(timeout, mlports_port:await(Waiting, 0)),
    exit(Caller, kill),
    ?assertEqual({ok, 1}, mlports_port:call(Port, echo, [1], 10000)).

streams(Port) ->
    {ok, Stream} = mlports_port:stream(Port, count, [100]),
    ?assertEqual({ok, lists:seq(99, 0, -1)}, mlports_port:fold(fun(Item, Acc) -> [Item | Acc] end, [], Stream)),
    {ok, Long} = mlports_port:stream(Port, count, [1000000]),
    ?assertEqual({item, 0}, mlports_port:next(Long)),
    ok = mlports_port:cancel(Long),
    ?assertEqual({ok, 1}, mlports_port:call(Port, echo, [1])),
    {ok, None} = mlports_port:stream(Port, fail, [<<"x">>]),
    ?assertMatch({error, #{code := unknown}}, mlports_port:next(None)).

relays(Port) ->
    ?assertEqual({ok, 42}, mlports_port:call(Port, relay, [<<"other.double">>, [21]])),
    ?assertMatch({error, #{code := unknown}}, mlports_port:call(Port, relay, [<<"other.crash">>, []])),
    ?assertMatch({error, #{code := not_found}}, mlports_port:call(Port, relay, [<<"else.where">>, []])).

%% Under a supervisor: a killed worker fails its callers at once and comes back, until that is too often.
restarts(Command) ->
    process_flag(trap_exit, true),
    Child = mlports_port:child_spec(worker, #{command => Command, name => {local, hosted}}),
    {ok, Supervisor} = supervisor:start_link(?MODULE, Child),
    Pids = [killed_in_a_call() || _ <- lists:seq(1, 2)],
    ?assertEqual(2, length(lists:usort(Pids))),
    ?assertMatch({ok, 1}, mlports_port:call(hosted, echo, [1])),
    killed_in_a_call(false),
    receive {'EXIT', Supervisor, Reason} -> ?assertEqual(shutdown, Reason) after 30000 -> error(supervisor_lives) end,
    ?assertMatch({error, #{code := unavailable}}, mlports_port:call(hosted, echo, [1])).

init(Child) -> {ok, {#{strategy => one_for_one, intensity => 2, period => 60}, [Child]}}.

killed_in_a_call() -> killed_in_a_call(true).

killed_in_a_call(Returns) ->
    Server = whereis(hosted),
    #{os_pid := OsPid} = mlports_port:info(hosted),
    Waiting = [mlports_port:async(hosted, sleep, [30]), mlports_port:async(hosted, echo, [1])],
    Monitor = monitor(process, Server),
    os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    [?assertMatch({error, #{code := unavailable}}, mlports_port:await(Request, 30000)) || Request <- Waiting],
    receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual({exit_status, 137}, Reason) end,
    ?assertEqual(gone, process(OsPid)),
    Returns andalso back(Server),
    OsPid.

back(Old) ->
    case whereis(hosted) of
        Pid when is_pid(Pid), Pid =/= Old -> ok;
        _ -> receive after 1 -> back(Old) end
    end.

process(OsPid) ->
    case file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/stat") of
        {ok, Stat} ->
            [_, Rest] = binary:split(Stat, <<") ">>),
            case Rest of <<"Z", _/binary>> -> gone; _ -> there end;
        {error, _} -> gone
    end.

%% A handler of OTP's logger: tells the test what came.
log(#{level := Level, meta := #{service := Service}}, #{test := Test}) -> Test ! {logged, Level, Service};
log(_, _) -> ok.

%% -- programs that are no good workers

starts_test_() ->
    [{Title, {timeout, 90, fun() ->
         process_flag(trap_exit, true),
         Patience = if Due =:= start_timeout -> 1000; true -> 20000 end,
         ?assertMatch({error, Due}, shown(Due, mlports_port:start_link(#{command => Command, start_timeout => Patience})))
     end}} || {Title, Due, Command} <- [
        {"exit status", {exit_status, 3}, ["sh", "-c", "exit 3"]},
        {"no program", {no_such_program, "no-such-program"}, ["no-such-program"]},
        {"silence", start_timeout, ["sh", "-c", "trap '' TERM; sleep 600"]},
        {"printed text", {violation, 'StdoutPolluted'}, ["sh", "-c", "echo hello; cat >/dev/null"]},
        {"zeros", {violation, 'EmptyFrame'}, ["sh", "-c", "printf '\\000\\000\\000\\000'; cat >/dev/null"]},
        {"too long", {violation, 'FrameTooLarge'}, ["sh", "-c", "printf '\\377\\377\\377\\377'; cat >/dev/null"]},
        {"not MessagePack", {violation, 'MalformedValue'}, ["sh", "-c", "printf '\\000\\000\\000\\001\\301'; cat >/dev/null"]}]].

shown({violation, _}, {error, {violation, Name, _}}) -> {error, {violation, Name}};
shown(_, Other) -> Other.

%% [1, 0, {code: "", message: ""}, nil]: a worker that knows no hello. It is stopped by a signal, and its child with it.
bare_test() ->
    Answer = "\\000\\000\\000\\024\\224\\001\\000\\202\\244code\\240\\247message\\240\\300",
    {ok, Port} = mlports_port:start_link(#{command => ["sh", "-c", "printf '" ++ Answer ++ "'; sleep 600 & cat >/dev/null"]}),
    #{features := [], os_pid := OsPid} = mlports_port:info(Port),
    unlink(Port),
    ok = mlports_port:stop(Port),
    ?assertEqual(gone, process(OsPid)),
    no_group(OsPid).

%% SIGKILL was sent to all of them: they end when their turn comes. EUnit's time limit ends the wait.
no_group(OsPid) ->
    os:cmd("pgrep -g " ++ integer_to_list(OsPid)) =:= [] orelse no_group(OsPid).
