%% A worker's server without a pipe: this process is its orchestrator, and plays the conversations of protocol/vectors.
-module(mlports_server_tests).

-include_lib("eunit/include/eunit.hrl").

conversations_test_() ->
    {ok, Conversations} = file:consult(filename:join(os:getenv("MLPORTS_VECTORS"), "sessions.terms")),
    [{binary_to_list(Name), fun() -> play(Conversation) end}
     || #{name := Name, side := Side} = Conversation <- Conversations, Side =/= orchestrator,
        %% This worker's calls ask for no streams.
        Name =/= <<"stream-from-another-service">>].

play(#{steps := Steps, outcome := Outcome}) ->
    put(frames, mlports_wire:frames(mlports_wire:default_max_frame())),
    {Server, Monitor} = start(handlers(Steps)),
    [step(Step, Server) || Step <- Steps],
    Server ! {test, eof},
    ?assertEqual(Outcome, outcome(Monitor)).

start(Handlers) ->
    Test = self(),
    Open = fun() -> {test, fun(Bytes) -> Test ! {written, iolist_to_binary(Bytes)} end} end,
    {ok, Started} = mlports_server:start_monitor("test", [{concurrency, 10} | Handlers], Open),
    Started.

outcome(Monitor) ->
    receive
        {'DOWN', Monitor, process, _, normal} -> ok;
        {'DOWN', Monitor, process, _, {shutdown, Text}} -> binary_to_atom(hd(binary:split(Text, <<":">>)))
    end.

%% The methods f and g, each call waiting until the conversation answers it.
handlers(Steps) ->
    Test = self(),
    Wait = fun() ->
               Test ! {begun, maps:get(id, mlports_job:context()), self()},
               receive {return, Result} -> Result end
           end,
    Functions = [Wait, fun(_) -> Wait() end, fun(_, _) -> Wait() end],
    Flags = [input || {orchestrator, {request, _, <<"f">>, _, {map, Meta}}} <- Steps, lists:keymember(<<"input">>, 1, Meta)],
    [{method, "f", Functions, Flags}, {method, "g", Functions}].

step({orchestrator, Message}, Server) ->
    Server ! {test, {data, iolist_to_binary(mlports_wire:frame(mlports_msgpack:encode(array(Message))))}};
step({worker, {response, Id, _, Result, _}}, _) -> answered(Id, Result);
step({worker, {request, Id, Method, Params, _}}, _) ->
    put({caller, Id}, spawn(fun() -> mlports_server:call(Method, Params, #{}, infinity) end)),
    written(fun([0, N | _]) -> N =:= Id; (_) -> false end);
step({worker, {notification, <<"$/cancel">>, [Id], _}}, _) ->
    exit(get({caller, Id}), kill),
    written(fun(Message) -> Message =:= [2, <<"$/cancel">>, [Id]] end);
step({worker, {notification, <<"$/input_credit">>, [Id, N], _}}, Server) -> Server ! {input_credit, Id, N};
step({worker, _}, _) -> ok.

array({request, Id, Method, Params, Meta}) -> [0, Id, Method, Params, Meta];
array({response, Id, Error, Result, Meta}) -> [1, Id, Error, Result, Meta];
array({notification, Method, Params, Meta}) -> [2, Method, Params, Meta].

answered(Id, Result) ->
    receive
        {begun, Id, Pid} -> Pid ! {return, Result}, answered(Id, Result);
        {written, Bytes} ->
            lists:any(fun([1, N | _]) -> N =:= Id; (_) -> false end, messages(Bytes)) orelse answered(Id, Result)
    end.

written(IsDue) ->
    receive {written, Bytes} -> lists:any(IsDue, messages(Bytes)) orelse written(IsDue) end.

messages(Bytes) ->
    {Payloads, Frames} = mlports_wire:feed(Bytes, get(frames)),
    put(frames, Frames),
    [begin {ok, Message} = mlports_msgpack:decode(Payload), Message end || Payload <- Payloads].
